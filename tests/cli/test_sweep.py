"""`advnets sweep`: runs of several seeds and their records."""

from __future__ import annotations

import json

import pytest

RING = ["modern-ring", "--steps", "4", "--threads", "1", "--log-every", "2"]


@pytest.fixture
def sweep(run_command, tmp_path):
    """Return a function that sweeps into a directory of the test, and returns status and output."""

    def run(*arguments):
        places = ("--out", tmp_path / "runs", "--records", tmp_path / "records")
        return run_command("sweep", *places, "--metrics", "mixture", *arguments)

    return run


def test_each_seed_has_a_record_and_is_trained_once(sweep, tmp_path, monkeypatch):
    seeds = ("--first", "3", "--seeds", "2", "--")
    assert sweep(*seeds, *RING, "--batch-size", "{seed}0")[0] == 0
    files = sorted((tmp_path / "records").iterdir())
    assert [file.name for file in files] == ["modern-ring-3.json", "modern-ring-4.json"]
    for seed, file in zip((3, 4), files, strict=True):
        record = json.loads(file.read_text())
        options = f"{' '.join(RING)} --batch-size {seed}0 --seed {seed}"
        assert record["command"] == f"advnets train {options}"
        assert [event["step"] for event in record["curve"]] == [2, 4]
        assert {score["metric"] for score in record["scores"]} == {"mixture"}
        assert record["scores"][0]["step"] == 4
    monkeypatch.setattr("advnets.cli.sweep.run_record", lambda *_: pytest.fail("trained again"))
    assert sweep(*seeds, *RING)[0] == 0


def test_scores_during_training_are_recorded_too(sweep, tmp_path):
    during = ("--eval-every", "2", "--eval-metric", "mixture")
    assert sweep("--seeds", "1", "--", *RING, *during)[0] == 0
    record = json.loads((tmp_path / "records" / "modern-ring-0.json").read_text())
    evaluations = [event for event in record["training_eval"] if event["weights"] == "ema"]
    assert [event["step"] for event in evaluations] == [2, 4]
    assert evaluations[-1]["jsd"] == pytest.approx(record["scores"][1]["jsd"], rel=1e-4)


def test_a_failed_training_ends_the_sweep_without_a_record(sweep, tmp_path):
    code, _, err = sweep("--", "digits", "--steps", "1", "--threads", "1")
    assert code != 0
    assert "the metric mixture needs a mixture of normal distributions, and digits is" in err
    assert not list((tmp_path / "records").iterdir())


@pytest.mark.parametrize("training", [(), ("--", "--steps", "5")])
def test_a_sweep_needs_a_preset(sweep, tmp_path, training):
    code, _, err = sweep("--seeds", "1", *training)
    assert code == 2
    assert err.startswith("advnets: no preset was given; give it after --")
    assert not list(tmp_path.iterdir())
