"""Runs of several seeds and their records."""

from __future__ import annotations

import json

import pytest

RING = ["modern-ring", "--steps", "4", "--threads", "1", "--log-every", "2"]


def test_each_seed_leaves_its_record_and_is_not_played_again(script, tmp_path, monkeypatch):
    asked = [str(tmp_path / "runs"), str(tmp_path / "records"), "--metrics", "points"]
    script.main([*asked, "--first", "3", "--seeds", "2", "--", *RING, "--batch-size", "{seed}0"])
    files = sorted((tmp_path / "records").iterdir())
    assert [file.name for file in files] == ["modern-ring-3.json", "modern-ring-4.json"]
    for seed, file in zip((3, 4), files, strict=True):
        told = json.loads(file.read_text())
        options = f"{' '.join(RING)} --batch-size {seed}0 --seed {seed}"
        assert told["command"] == f"advnets train {options}"
        assert [tick["step"] for tick in told["curve"]] == [2, 4]
        assert {score["metric"] for score in told["scores"]} == {"points"}
        assert told["scores"][0]["step"] == 4
    monkeypatch.setattr(script, "play", lambda *_: pytest.fail("played again"))
    script.main([*asked, "--first", "3", "--seeds", "2", "--", *RING])


def test_scores_on_the_way_are_recorded_too(script, tmp_path):
    asked = [str(tmp_path / "runs"), str(tmp_path / "records"), "--metrics", "points"]
    script.main(
        [*asked, "--seeds", "1", "--", *RING, "--eval-every", "2", "--eval-metric", "points"]
    )
    told = json.loads((tmp_path / "records" / "modern-ring-0.json").read_text())
    ends = [look for look in told["on_the_way"] if look["weights"] == "ema"]
    assert [look["step"] for look in ends] == [2, 4]
    assert ends[-1]["jsd"] == pytest.approx(told["scores"][1]["jsd"], rel=1e-4)


def test_what_fails_ends_it_and_leaves_no_record(script, tmp_path, capsys):
    asked = [str(tmp_path / "runs"), str(tmp_path / "records"), "--metrics", "points"]
    with pytest.raises(SystemExit):
        script.main([*asked, "--", "digits", "--steps", "1", "--threads", "1"])
    assert "digits is no mixture of normal distributions" in capsys.readouterr().err
    assert not list((tmp_path / "records").iterdir())
