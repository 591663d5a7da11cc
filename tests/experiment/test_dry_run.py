"""The estimate of a dry run against the whole training: its time and its peak memory."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from advnets import config
from advnets.experiment.dry_run import dry_run

MEASURED = """
import sys, time
time.monotonic = time.process_time
from advnets.cli.main import main
status = main()
with open("/proc/self/status") as file:
    print(*(line.split()[1] for line in file if line.startswith("VmHWM")), time.process_time())
sys.exit(status)
"""
"""A command whose clock is its CPU time: that of one thread does not depend on other processes."""
UNITS = {"s": 1, "min": 60, "h": 3600}


def run_measured(*arguments):
    """Run a command; return its output, its CPU time in seconds and its peak memory in MiB."""
    completed = subprocess.run(
        [sys.executable, "-c", MEASURED, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
    )
    *_, peak, seconds = completed.stdout.split()
    return completed.stdout, float(seconds), int(peak) / 1024


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    "command",
    [
        ("digits", "--steps", "6000"),
        ("mlp", "--epochs", "2"),
        ("dcgan", "--steps", "16", "--sample-every", "8", "--checkpoint-every", "8"),
    ],
    ids=lambda command: command[0],
)
def test_time_and_peak_memory_are_foretold_within_a_quarter(command, real_data, tmp_path, capsys):
    """The whole commands include start, evaluations, samples, checkpoints and report."""
    if command[0] == "dcgan":
        command += ("--data", str(real_data / "faces" / "olivetti-64.zip"))
    options = ("train", *command, "--threads", "1", "--out", tmp_path / "run")
    predicted, _, _ = run_measured(*options, "--dry-run")
    _, seconds, peak = run_measured(*options)

    # Parse the estimate, which is rounded to seconds.
    (text,) = re.findall(r"time: about (.*?) on ", predicted)
    expected_seconds = sum(int(n) * UNITS[unit] for n, unit in re.findall(r"(\d+) (\w+)", text))
    (text,) = re.findall(r"memory: about ([\d,]+) MiB", predicted)
    ratios = {
        "time": expected_seconds / seconds,
        "peak memory": int(text.replace(",", "")) / peak,
    }
    with capsys.disabled():
        print(f"\n{command[0]}: {seconds:.1f} s, {peak:.0f} MiB; predicted / measured:", ratios)
    assert all(1 / 1.25 <= ratio <= 1.25 for ratio in ratios.values()), ratios


def test_each_evaluation_grid_and_checkpoint_counts(tiny, monkeypatch):
    """With parts that take 0.2 s, after a first evaluation of 0.7 s: 6, 3 and 4 of each."""
    intervals = config.Intervals(sample_every=25, eval_every=10, checkpoint_every=20)
    run = replace(tiny, intervals=intervals)
    first = [0.5]

    def evaluate(*_):
        time.sleep(0.2 + (first.pop() if first else 0.0))
        return {"metric": "frechet", "value": 1.0}

    def slow(*_):
        time.sleep(0.2)

    monkeypatch.setattr("advnets.experiment.dry_run.TIMED_SECONDS", 0.1)
    plain = dry_run(run).other_seconds
    monkeypatch.setattr("advnets.training.trainer.write_checkpoint", slow)
    monkeypatch.setattr("advnets.experiment.train.save_grid", slow)
    monkeypatch.setattr("advnets.evaluation.training_eval.TrainingEvaluator.__call__", evaluate)
    added = dry_run(run).other_seconds - plain
    # The EMA and the last weights are evaluated; a first checkpoint is saved before the first step.
    assert added == pytest.approx(0.5 + 0.2 * (2 * 6 + 3 + 4), abs=1.0)


def test_nothing_remains_of_a_dry_run(tiny, tmp_path, monkeypatch):
    """Neither after its end nor after an error."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("advnets.experiment.dry_run.TIMED_SECONDS", 0.1)
    dry_run(tiny)
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr("advnets.experiment.dry_run.write_report", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        dry_run(tiny)
    assert not list(tmp_path.iterdir())
