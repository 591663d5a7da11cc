"""The exit status and the last line of a training."""

import json
import subprocess
import sys

import pytest

import advnets
from advnets.errors import DivergedWarning
from advnets.run_directory import RunDirectory

RUNAWAY = ("--generator-optimizer.lr", "1e5", "--discriminator-optimizer.lr", "1e5")
UNMOVED = [
    argument
    for player in ("generator", "discriminator")
    for name, value in (("lr", "1.2e-38"), ("lr-min", "0"))
    for argument in (f"--{player}-optimizer.{name}", value)
]


def test_a_diverged_loss_ends_with_status_3(run_command, tmp_path, quick):
    """Although all values are finite and all steps are trained; also when resumed at the end."""
    run = tmp_path / "run"
    for arguments in (("digits", *quick, *RUNAWAY), ("--resume",)):
        code, out, err = run_command("train", *arguments, "--out", run)
        assert code == 3
        assert "done" not in out
        last = err.splitlines()[-1]
        assert last.startswith("advnets: the training diverged: the loss of the ")
        assert last.endswith(
            "start a new run with a lower learning rate or smaller initial weights"
        )
        end = RunDirectory(run).events()[-1]
        assert (end["kind"], end["step"], end["reason"]) == ("end", 30, "diverged")
    assert "The run diverged." in (run / "report.html").read_text("utf-8")


def test_nan_or_infinite_values_without_log_intervals_end_with_status_3(
    run_command, tmp_path, quick
):
    """A regression: after the roll-back to the start such a run was reported as done at step 0."""
    run, no_intervals = tmp_path / "run", ("--log-every", "0", "--checkpoint-every", "0")
    arguments = ("digits", *quick[:-6], *no_intervals, "--generator-optimizer.lr", "1e30")
    code, out, err = run_command("train", *arguments, "--out", run)
    assert code == 3
    assert out == ""
    assert "occurred by step 30 for the 3rd time" in err.splitlines()[-1]
    assert RunDirectory(run).events()[-1]["reason"] == "diverged"


def test_players_that_did_not_change_end_with_status_3(run_command, tmp_path, quick):
    code, _, err = run_command("train", "digits", *quick, *UNMOVED, "--out", tmp_path / "run")
    assert code == 3
    assert err.splitlines()[-1] == (
        "advnets: the training had no effect: no weight of the discriminator and of the generator "
        "differs from its initial value; start a new run with higher learning rates"
    )


def test_a_run_within_the_bounds_ends_with_status_0(run_command, tmp_path, quick):
    code, out, _ = run_command("train", "digits", *quick, "--out", tmp_path / "run")
    assert code == 0
    assert out.startswith("done in ")
    assert json.loads((tmp_path / "run/events.jsonl").read_text().splitlines()[-1]) == {
        "kind": "end",
        "step": 30,
        "reason": "done",
    }


def test_a_failed_start_does_not_block_its_directory(run_command, tmp_path, quick):
    """Too few labels are an error of the first batch."""
    run, labels = tmp_path / "run", ("--game.labels", "100000")
    arguments = ("semi-supervised-mnist", "--data", "digits", "--steps", "3", "--threads", "1")
    code, _, err = run_command("train", *arguments, *labels, "--out", run)
    assert code in (1, 2)
    assert "must have at least 10,000 labeled images" in err.splitlines()[-1]
    assert not RunDirectory(run).exists
    assert run_command("train", "digits", *quick, "--out", run)[0] == 0


def test_a_failed_resume_at_step_0_keeps_the_run(run_command, tmp_path, quick, monkeypatch):
    """The first step runs out of memory, in a run that was started before."""
    run = tmp_path / "run"
    assert run_command("train", "digits", *quick, "--out", run)[0] == 0
    for file in RunDirectory(run).checkpoint_files():
        file.unlink()

    def no_memory(*_):
        raise MemoryError

    monkeypatch.setattr("advnets.training.trainer.train_step", no_memory)
    assert run_command("train", "--resume", "--out", run)[0] != 0
    assert RunDirectory(run).exists


def test_the_process_ends_with_status_3(tmp_path, quick):
    command = [sys.executable, "-m", "advnets", "train", "digits", *quick, *RUNAWAY]
    completed = subprocess.run(
        [*command, "--out", tmp_path / "run"], capture_output=True, check=False
    )
    assert completed.returncode == 3


def test_in_python_a_diverged_run_gives_a_warning(tmp_path, tiny):
    from dataclasses import replace

    fast = replace(tiny.stage.generator_optimizer, lr=1e5)
    run = tiny.with_stage(
        replace(tiny.stage, steps=10, generator_optimizer=fast, discriminator_optimizer=fast)
    )
    with pytest.warns(DivergedWarning, match="the training diverged: the l"):
        trained = advnets.train(run, out=tmp_path / "run")
    assert trained.step == 10
