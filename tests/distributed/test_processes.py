"""Several processes on one host: their files, failures, signals, and resuming on other numbers."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from advnets.run_directory import RunDirectory

QUIET = ("--sample-every", "0", "--threads", "1", "--precision", "float32", "--eval-every", "0")
LIMIT = 20.0
"""Seconds within which all processes end after one is lost."""


def final_state(run: Path) -> dict[str, torch.Tensor]:
    return load_file(RunDirectory(run).newest_checkpoint())


def difference(run: Path, other: Path) -> float:
    """Return the largest difference of a weight between the newest checkpoints of two runs."""
    one, two = final_state(run), final_state(other)
    assert one.keys() == two.keys()
    return max(
        float((one[name].double() - two[name].double()).abs().max())
        for name in one
        if name.startswith("players/")
    )


def train(out: Path, steps: int, *more: object) -> tuple[object, ...]:
    return ("-m", "advnets", "train", "digits", "--steps", steps, "--out", out, *QUIET, *more)


def wait_for_checkpoints(run: Path, n: int) -> None:
    deadline = time.monotonic() + 120
    while len(RunDirectory(run).checkpoint_files()) < n:
        assert time.monotonic() < deadline, "there are no checkpoints after two minutes"
        time.sleep(0.1)


def test_a_run_of_two_processes_is_the_run_of_one(run_all, tmp_path):
    """Its weights agree to float32, its counts are those of whole batches, and rank 1 is silent."""
    one, two = tmp_path / "one", tmp_path / "two"
    run_all(1, *train(one, 20, "--log-every", 5))
    printed = run_all(2, *train(two, 20, "--log-every", 5))
    assert difference(one, two) < 1e-4
    assert "training digits: 20 steps" in printed[0]
    assert printed[1] == ""
    logs = [
        [event for event in RunDirectory(run).events() if event["kind"] == "log"]
        for run in (one, two)
    ]
    assert [event["epoch"] for event in logs[0]] == [event["epoch"] for event in logs[1]]
    assert logs[1][-1]["d_real"] == pytest.approx(logs[0][-1]["d_real"], abs=1e-4)
    assert json.loads((two / "config.json").read_text())["processes"] == 2


@pytest.mark.slow
def test_a_killed_process_ends_the_others(launch, tmp_path):
    """Within 20 seconds, with one sentence each."""
    killed = tmp_path / "killed"
    processes = launch(3, *train(killed, 20_000, "--checkpoint-every", 50, "--batch-size", 99))
    wait_for_checkpoints(killed, 2)
    processes[1].kill()
    since = time.monotonic()
    for rank in (0, 2):
        _, errors = processes[rank].communicate(timeout=LIMIT)
        sentences = [line for line in errors.splitlines() if line.startswith("advnets: ")]
        assert len(sentences) == 1 and "--resume" in sentences[0], errors
        assert "Traceback" not in errors
        assert processes[rank].returncode == 1
    assert time.monotonic() - since < LIMIT


@pytest.mark.slow
def test_a_run_resumes_on_another_number_of_processes(launch, run_all, tmp_path):
    """A run of two processes that was killed ends on one and on four as a run without a break."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run_all(2, *train(whole, 300, "--checkpoint-every", 100))
    processes = launch(2, *train(killed, 300, "--checkpoint-every", 100))
    wait_for_checkpoints(killed, 2)
    processes[1].kill()
    for process in processes:
        process.communicate(timeout=LIMIT)
    step = max(RunDirectory(killed).checkpoints_by_step())
    assert 0 < step < 300
    run_all(4, *train(killed, 200, "--checkpoint-every", 100, "--resume"))
    printed = run_all(1, *train(killed, 300, "--checkpoint-every", 100, "--resume"))
    assert "processes" in printed[0], printed[0]
    # 300 steps of float32 amplify the order of sums: the weights are of the order of 0.05.
    assert difference(whole, killed) < 1e-3


@pytest.mark.slow
def test_a_process_that_hangs_is_noticed(launch, tmp_path):
    """A stopped process sends no heartbeat: the other ends with a sentence that names it."""
    processes = launch(2, *train(tmp_path / "run", 20_000, "--checkpoint-every", 50))
    wait_for_checkpoints(tmp_path / "run", 2)
    processes[1].send_signal(signal.SIGSTOP)
    since = time.monotonic()
    _, errors = processes[0].communicate(timeout=LIMIT + 10)
    assert time.monotonic() - since < LIMIT
    assert "process 1" in errors and "has not responded" in errors


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all_at_the_same_step(launch, run_all, tmp_path):
    """The state is saved and the run resumes to the weights of one without a break."""
    run = tmp_path / "run"
    processes = launch(2, *train(run, 20_000, "--checkpoint-every", 50))
    wait_for_checkpoints(run, 2)
    processes[1].send_signal(signal.SIGTERM)
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 128 + signal.SIGTERM
    step = max(RunDirectory(run).checkpoints_by_step())
    run_all(2, *train(tmp_path / "whole", step))
    assert difference(run, tmp_path / "whole") == 0.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--batch-size", 25), "--batch-size is 25, which cannot be divided equally over 2"),
        pytest.param(("--no-such-option",), "--no-such-option", marks=pytest.mark.slow),
        pytest.param(("--data", "no/such/folder"), "no/such/folder", marks=pytest.mark.slow),
    ],
)
def test_an_error_is_printed_once(launch, tmp_path, arguments, message):
    """By rank 0, in the words of the command line; all processes fail."""
    processes = launch(2, *train(tmp_path / "run", 20, *arguments))
    outputs = [process.communicate(timeout=120)[1] for process in processes]
    assert message in outputs[0]
    assert "Traceback" not in outputs[0] + outputs[1]
    assert outputs[1] == ""
    assert all(process.returncode for process in processes)
    assert not RunDirectory(tmp_path / "run").exists


FROM_PYTHON = """
import sys
import numpy as np
import advnets
images = np.random.default_rng(0).integers(0, 256, (200, 8, 8), dtype=np.uint8)
model = advnets.train(
    "digits", data=images, steps=10, batch_size=20, threads=1, out=sys.argv[1], progress=False
)
print(model.step, model.sample(4, seed=1).sum().item())
"""


def test_train_from_python_in_two_processes(run_all, tmp_path):
    """Each process makes the same call with data in memory, and gets the same model."""
    script = tmp_path / "train.py"
    script.write_text(FROM_PYTHON)
    printed = run_all(2, script, tmp_path / "run")
    assert printed[0] == printed[1] and printed[0].startswith("10 ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "train.py"]


@pytest.mark.slow
def test_torchrun_starts_the_processes(tmp_path):
    """The command of README, in a process of its own."""
    command = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    arguments = [sys.executable, *command, *map(str, train(tmp_path / "run", 20))]
    completed = subprocess.run(
        arguments, capture_output=True, text=True, timeout=300, check=False, env={**os.environ}
    )
    assert completed.returncode == 0, completed.stderr
    assert max(RunDirectory(tmp_path / "run").checkpoints_by_step()) == 20
