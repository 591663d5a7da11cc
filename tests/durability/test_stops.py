"""Signals, full disks and concurrent trainings, with real processes."""

from __future__ import annotations

import resource
import signal
import time

import pytest

STOPS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
SLOW_TO_OPEN = """
import sys, time
from pathlib import Path
import advnets.data.prepared as prepared
from advnets.cli.main import main
def open_data(_):
    Path({mark!r}).touch()
    time.sleep(600)
prepared.open_data = open_data
sys.exit(main())
"""
"""A training whose data take ten minutes to open, as a folder that is packed first may."""


@pytest.mark.parametrize("number", STOPS, ids=["ctrl-c", "sigterm", "sighup"])
def test_a_signal_saves_and_prints_the_command_to_resume(run, uninterrupted, number):
    process = run.begin("--checkpoint-every", "100000")
    events, deadline = run.path / "events.jsonl", time.monotonic() + 60
    while not events.exists() or '"log"' not in events.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    code, out, err = run.finish(process)
    assert code == 128 + number, err
    assert f"stopped by {number.name} at step" in out
    assert f"advnets train --resume --out {run.path}" in out
    assert 0 < run.newest < run.steps
    code, _, err = run.finish(run.resume("--checkpoint-every", "5"))
    assert code == 0, err
    assert run.end == uninterrupted


@pytest.mark.parametrize("number", STOPS, ids=["ctrl-c", "sigterm", "sighup"])
def test_a_signal_before_the_first_step_stops_at_once(run, tmp_path, number):
    """Nothing is left that blocks the directory."""
    mark = tmp_path / "opening"
    process = run.begin(code=SLOW_TO_OPEN.format(mark=str(mark)))
    deadline = time.monotonic() + 120
    while not mark.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    signal_time = time.monotonic()
    code, out, err = run.finish(process)
    assert time.monotonic() - signal_time < 60
    assert (code, out) == (128 + number, "")
    assert err == (
        f"advnets: stopped by {number.name} before the first step; nothing was trained\n"
    )
    assert not (run.path / "config.json").exists()


def test_under_nohup_a_hangup_is_ignored(run):
    def ignore():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    process = run.begin(preexec_fn=ignore)
    run.wait_for_checkpoint(process)
    process.send_signal(signal.SIGHUP)
    code, _, err = run.finish(process)
    assert code == 0, err
    assert run.newest == run.steps


def test_a_full_disk_keeps_the_old_checkpoint_and_names_the_path(run, uninterrupted):
    """A limit on file sizes simulates the full disk."""
    process = run.begin()
    run.wait_for_checkpoint(process)
    process.kill()
    process.communicate()
    before = run.newest

    def smaller_than_a_checkpoint():
        size = next((run.path / "checkpoints").glob("step-*.safetensors")).stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, size // 2))

    code, _, err = run.finish(run.resume(preexec_fn=smaller_than_a_checkpoint))
    assert code == 1
    assert "could not be written" in err
    assert f"{run.path}/checkpoints/step-" in err
    assert "Traceback" not in err
    assert run.newest == before
    code, _, err = run.finish(run.resume())
    assert code == 0, err
    assert run.end == uninterrupted


def test_a_run_in_use_is_refused(run):
    process = run.begin()
    run.wait_for_checkpoint(process)
    process.send_signal(signal.SIGSTOP)
    try:
        code, _, err = run.finish(run.resume())
    finally:
        process.kill()
        process.communicate()
    assert code == 1
    assert err.strip() == (
        f"advnets: {run.path} is in use by another process; wait for it, stop it, or give another "
        "directory"
    )
