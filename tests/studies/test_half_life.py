"""Tests of the half-life study: several EMAs in one training, scored by validation images."""

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

SCRIPT = Path(__file__).parents[2] / "studies" / "half_life.py"
OPTIONS = ["digits", "--seeds", "3", "--half-lives", "2000", "20000", "--every", "20"]


def arguments(folder, steps):
    return [str(folder / "runs"), str(folder / "records"), *OPTIONS, "--steps", str(steps)]


def read_record(folder):
    return json.loads((folder / "records" / "digits-3.json").read_text())


def test_every_half_life_is_scored_without_test_images(script, tmp_path, monkeypatch, capsys):
    opened = script.open_data

    def without_test_images(spec):
        data = opened(spec)
        return replace(data, dataset=replace(data.dataset, test=None))

    monkeypatch.setattr(script, "open_data", without_test_images)
    script.main(arguments(tmp_path, 40))
    record = read_record(tmp_path)
    assert [(score["step"], score["half_life"]) for score in record["scores"]] == [
        (step, half_life) for step in (20, 40) for half_life in (2000, 20000, 0)
    ]
    assert {score["n"] for score in record["scores"]} == {270}  # 30 of 300 select σ
    assert [(row["half_life"], row["n"]) for row in record["features"]] == [
        (2000, 300),
        (20000, 300),
    ]
    assert all(row["frechet"] > 0 and 0 <= row["recall"] <= 1 for row in record["features"])
    assert {"command", "versions", "seconds", "cpu_seconds", "runtime"} <= set(record)
    assert record["real"]["mean"] > max(score["mean"] for score in record["scores"])
    assert "shortest that reaches real training images: None" in capsys.readouterr().out


def test_a_resumed_training_has_the_same_scores(script, tmp_path):
    script.main([*arguments(tmp_path / "whole", 600), "--test", "2000"])
    assert [
        (score["half_life"], score["n_test"]) for score in read_record(tmp_path / "whole")["test"]
    ] == [(2000, 300), (0, 300)]
    command = [sys.executable, str(SCRIPT), *arguments(tmp_path / "stopped", 600)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline().startswith("step ")
    process.send_signal(signal.SIGTERM)
    _, _ = process.communicate()
    assert process.returncode == 1
    assert not (tmp_path / "stopped" / "records").exists()
    subprocess.run(command, check=True, capture_output=True)
    assert read_record(tmp_path / "stopped")["scores"] == read_record(tmp_path / "whole")["scores"]


def test_other_options_are_refused(script, tmp_path):
    script.main(arguments(tmp_path, 20))
    with pytest.raises(SystemExit):
        script.main([*arguments(tmp_path, 20), "--test", "3000"])
    with pytest.raises(SystemExit, match="holds a run with other options; give another folder"):
        script.main([*arguments(tmp_path, 20), "--half-lives", "3000"])


def test_ema_weights_decay_by_half_in_a_half_life(script):
    module = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(module.weight)
    averages = script.EMAs(module, [1000, 2000], batch_size=10)
    nn.init.ones_(module.weight)
    for step in range(1, 101):  # 1,000 images
        averages.update(module, step)
    record = [float(averages.module[name].weight.detach()) for name in ("1000", "2000")]
    assert record == pytest.approx([1 - 0.5, 1 - 0.5**0.5], rel=1e-5)
    assert not torch.equal(averages.module["1000"].weight, module.weight)


def test_choice_of_half_lives(script):
    means = {0: 160.0, 3: 190.0, 30: 251.0, 50: 272.0, 60: 268.0}
    assert script.choose_half_lives(means, real=247.0) == (50, 30)
    assert script.choose_half_lives(means, real=300.0) == (50, None)
    scores = [
        {"step": step, "half_life": half_life, "mean": mean}
        for step, half_life, mean in ((1, 5, 9.0), (2, 5, 1.0), (2, 7, 2.0))
    ]
    raised = [{**score, "mean": score["mean"] + 2} for score in scores]
    assert script.final_means([{"scores": scores}, {"scores": raised}]) == {5: 2.0, 7: 3.0}
