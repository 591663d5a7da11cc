"""A run that is killed and resumed ends with the bytes of an uninterrupted one."""

from __future__ import annotations

import random
import signal
import time

import pytest

# The process kills itself at the n-th flush to disk, in the middle of a save.
DIES_AT_FLUSH = """
import os, signal, sys
from advnets import files
fsync, left = files.fsync, [{n}]
def dying(path):
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    fsync(path)
files.fsync = dying
from advnets.cli.main import main
sys.exit(main())
"""


def kill_at_random_moments(run, kills: int, seed: int) -> int:
    """Kill -9 a run repeatedly, each time after progress; return the number of kills."""
    chance, hits, process = random.Random(seed), 0, run.begin()
    for _ in range(kills):
        run.wait_for_checkpoint(process, after=max(run.newest, 0))
        time.sleep(chance.uniform(0, 0.3))
        process.kill()
        hits += process.wait() == -signal.SIGKILL
        process.communicate()
        process = run.resume()
    code, _, err = run.finish(process)
    assert code == 0, err
    return hits


@pytest.mark.parametrize(
    ("kills", "least", "seed"),
    [(3, 2, 1), *(pytest.param(20, 10, seed, marks=pytest.mark.slow) for seed in range(6))],
)
def test_a_run_killed_at_random_moments_ends_with_the_same_bytes(
    run, uninterrupted, kills, least, seed
):
    assert kill_at_random_moments(run, kills, seed) >= least
    assert run.end == uninterrupted


@pytest.mark.parametrize(
    ("flush", "saved"),
    [
        pytest.param(2, -1, id="config is there and no checkpoint"),
        pytest.param(4, 0, id="the first checkpoint has its name"),
        pytest.param(21, 40, id="a later one has not"),
        pytest.param(22, 45, id="a later one has"),
    ],
)
def test_a_run_killed_during_a_save_ends_with_the_same_bytes(run, uninterrupted, flush, saved):
    """At both flushes: before the file has its name, and before the folder is on disk."""
    code, _, _ = run.finish(run.begin(code=DIES_AT_FLUSH.format(n=flush)))
    assert code == -signal.SIGKILL
    assert run.newest == saved
    code, _, err = run.finish(run.resume())
    assert code == 0, err
    assert run.end == uninterrupted
    assert not list((run.path / "checkpoints").glob("*.part"))
