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


# The process kills itself where the function would begin.
DIES_BEFORE = """
import os, signal, sys
from advnets.experiment import session
from advnets.run_directory import RunDirectory
def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
{function} = die
from advnets.cli.main import main
sys.exit(main())
"""


def test_a_folder_that_a_killed_process_left_before_its_run_began_is_used_again(
    run, uninterrupted, tmp_path
):
    for function in ("session._open_data", "RunDirectory.write_config"):
        code, _, _ = run.finish(run.begin(code=DIES_BEFORE.format(function=function)))
        assert code == -signal.SIGKILL
        assert not (run.path / "config.json").exists() and (run.path / ".lock").exists()
        # A file of another program stays, and is no reason to refuse the folder.
        (run.path / "notes.txt").write_text("mine")
    code, _, err = run.finish(run.begin())
    assert code == 0, err
    assert run.end == uninterrupted
    assert not (run.path / ".unfinished").exists() and (run.path / "notes.txt").exists()


@pytest.mark.parametrize(
    "function",
    ["RunDirectory.append_event", "RunDirectory.write_config", "session.write_checkpoint"],
)
def test_a_branch_that_is_killed_while_it_is_made_can_be_made_again(run, run_of, function):
    """From another step, of which no trace must be left, nor events twice."""
    intervals = ("--log-every", "10", "--checkpoint-every", "10", "--keep-checkpoints", "all")
    source = run_of("source", run.arguments, 40)
    code, _, err = source.finish(source.begin("--steps", "40", *intervals))
    assert code == 0, err

    def branch(step, **code):
        arguments = ["--resume", "--branch", str(run.path), "--step", str(step), *intervals]
        return source.finish(source.start(arguments, **code))

    code, _, _ = branch(30, code=DIES_BEFORE.format(function=function))
    assert code == -signal.SIGKILL
    assert not (run.path / "config.json").exists()
    code, _, err = branch(20)
    assert code == 0, err
    assert (run.path / "checkpoints" / "step-00000020.safetensors").exists()
    assert (run.path / "events.jsonl").read_text().count('"log"') == 4
    names = sorted(path.name for path in (run.path / "checkpoints").iterdir())
    assert names == [f"step-{step:08d}.safetensors" for step in (20, 30, 40)]
