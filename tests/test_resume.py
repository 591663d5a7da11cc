"""Real processes, really killed: a resumed run ends with the bytes of an uninterrupted one."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

STEPS = 600
FLAGS = [
    *("--steps", str(STEPS), "--batch-size", "20", "--threads", "1", "--precision", "float32"),
    *("--generator.hidden", "16", "--generator.activations", "relu", "--generator.batch-norm"),
    *("--discriminator.units", "8", "--discriminator.pieces", "2"),
    *("--ticks.log", "50", "--ticks.samples", "0", "--ticks.checkpoint", "5"),
]
MAIN = "import sys; from advnets.cli import main; sys.exit(main())"
# Dies by its own hand at the n-th flush to disk: in the middle of a save.
DIES_AT_FLUSH = """
import os, signal, sys
from advnets import files
flush, left = files.flush, [{n}]
def dying(path):
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    flush(path)
files.flush = dying
from advnets.cli import main
sys.exit(main())
"""


def start(arguments, code=MAIN, **options) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"ADVNETS_DATA": ""},
        **options,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def begin(run: Path, *more: str, **options) -> subprocess.Popen[str]:
    return start(["train", "digits", "--out", run, *FLAGS, *more], **options)


def resume(run: Path, **options) -> subprocess.Popen[str]:
    return start(["train", "--resume", "--out", run], **options)


def wait_for_checkpoint(run: Path, process: subprocess.Popen[str], after: int = 0) -> None:
    """Until training is truly under way: a checkpoint beyond step `after` is there."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if newest(run) > after:
            return
        time.sleep(0.005)


def newest(run: Path) -> int:
    steps = [int(file.stem[5:]) for file in (run / "checkpoints").glob("step-*.safetensors")]
    return max(steps, default=-1)


def last_bytes(run: Path, steps: int = STEPS) -> bytes:
    return (run / "checkpoints" / f"step-{steps:08d}.safetensors").read_bytes()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> bytes:
    run = tmp_path_factory.mktemp("reference") / "run"
    code, _, err = finish(begin(run))
    assert code == 0, err
    return last_bytes(run)


def kill_at_random_moments(run: Path, kills: int, seed: int) -> int:
    """Kill -9 a run again and again, each time after it got on; how many kills hit it."""
    chance, hits, process = random.Random(seed), 0, begin(run)
    for _ in range(kills):
        wait_for_checkpoint(run, process, after=max(newest(run), 0))
        time.sleep(chance.uniform(0, 0.3))
        process.kill()
        hits += process.wait() == -signal.SIGKILL
        process.communicate()
        process = resume(run)
    code, _, err = finish(process)
    assert code == 0, err
    return hits


def test_killed_at_random_moments_it_ends_with_the_same_bytes(tmp_path, uninterrupted):
    """Players with batch norm, both optimizers, the weight average, sums, position: one file."""
    assert kill_at_random_moments(tmp_path / "run", kills=3, seed=1) >= 2
    assert last_bytes(tmp_path / "run") == uninterrupted


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_killed_twenty_times_it_ends_with_the_same_bytes(tmp_path, uninterrupted, seed):
    assert kill_at_random_moments(tmp_path / "run", kills=20, seed=seed) >= 10
    assert last_bytes(tmp_path / "run") == uninterrupted


@pytest.mark.parametrize(
    ("flush", "saved"),
    [
        pytest.param(2, -1, id="config is there and no checkpoint"),
        pytest.param(4, 0, id="the first checkpoint has its name"),
        pytest.param(21, 40, id="a later one has not"),
        pytest.param(22, 45, id="a later one has"),
    ],
)
def test_killed_during_a_save_it_ends_with_the_same_bytes(tmp_path, uninterrupted, flush, saved):
    """Two flushes a file: before it has its name, and before the folder's names are on disk."""
    run = tmp_path / "run"
    code, _, _ = finish(begin(run, code=DIES_AT_FLUSH.format(n=flush)))
    assert code == -signal.SIGKILL
    assert newest(run) == saved
    code, _, err = finish(resume(run))
    assert code == 0, err
    assert last_bytes(run) == uninterrupted
    assert not list((run / "checkpoints").glob("*.part"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_asked_to_stop_it_saves_and_says_how_to_go_on(tmp_path, uninterrupted, number):
    run = tmp_path / "run"
    process = begin(run, "--ticks.checkpoint", "100000")
    deadline = time.monotonic() + 60
    while not (run / "events.jsonl").exists() or '"tick"' not in (run / "events.jsonl").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    code, out, err = finish(process)
    assert code == 128 + number, err
    assert f"stopped by {number.name} at step" in out
    assert f"advnets train --resume --out {run}" in out
    assert 0 < newest(run) < STEPS
    process = start(["train", "--resume", "--out", run, "--ticks.checkpoint", "5"])
    code, _, err = finish(process)
    assert code == 0, err
    assert last_bytes(run) == uninterrupted


def test_a_full_disk_leaves_the_old_checkpoint_and_names_the_path(tmp_path, uninterrupted):
    """A limit on file sizes stands in for a full disk: the system refuses the same write."""
    run = tmp_path / "run"
    process = begin(run)
    wait_for_checkpoint(run, process)
    process.kill()
    process.communicate()
    before = newest(run)

    def smaller_than_a_checkpoint():
        size = next((run / "checkpoints").glob("step-*.safetensors")).stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, size // 2))

    code, _, err = finish(resume(run, preexec_fn=smaller_than_a_checkpoint))
    assert code == 1
    assert "could not be written" in err
    assert f"{run}/checkpoints/step-" in err
    assert "Traceback" not in err
    assert newest(run) == before
    code, _, err = finish(resume(run))
    assert code == 0, err
    assert last_bytes(run) == uninterrupted


def test_a_run_in_use_is_left_alone(tmp_path):
    run = tmp_path / "run"
    process = begin(run)
    wait_for_checkpoint(run, process)
    process.send_signal(signal.SIGSTOP)
    try:
        code, _, err = finish(resume(run))
    finally:
        process.kill()
        process.communicate()
    assert code == 1
    assert err.strip() == (
        f"advnets: {run} is in use by another process; wait for it, stop it, or give another --out"
    )


FEW = 150
DCGAN = [
    *("dcgan", "--data", "digits", "--steps", str(FEW), "--batch-size", "20", "--threads", "2"),
    *("--generator.width", "4", "--discriminator.width", "4", "--game.fakes", "fresh"),
    *("--ticks.log", "50", "--ticks.samples", "0", "--ticks.checkpoint", "5"),
]


@pytest.mark.parametrize(
    "engine",
    [
        pytest.param(["--precision", "bfloat16"], id="bfloat16"),
        pytest.param(["--precision", "bfloat16", "--game.fakes", "shared"], id="shared"),
        pytest.param(["--compile"], id="compiled", marks=pytest.mark.slow),
    ],
)
def test_every_engine_goes_on_to_the_same_bytes(tmp_path, engine):
    """Convolutions, short products, two threads, compiled steps: killed, resumed, equal."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    code, _, err = finish(start(["train", *DCGAN, *engine, "--out", whole]))
    assert code == 0, err
    process = start(["train", *DCGAN, *engine, "--out", killed])
    wait_for_checkpoint(killed, process, after=20)
    process.kill()
    finish(process)
    assert 20 < newest(killed) < FEW
    code, _, err = finish(resume(killed))
    assert code == 0, err
    assert last_bytes(killed, FEW) == last_bytes(whole, FEW)
