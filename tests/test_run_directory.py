from __future__ import annotations

import pytest

from advnets.errors import CheckpointError, RunBusyError, RunError
from advnets.files import write_json
from advnets.run_directory import RunDirectory


@pytest.fixture
def run(tmp_path):
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    run.checkpoints.mkdir()
    return run


def test_a_directory_without_a_run_is_named(tmp_path):
    with pytest.raises(
        RunError, match=r"holds no run \(it has no config.json\); give the directory"
    ):
        RunDirectory.existing(tmp_path)


def test_two_processes_cannot_lock_a_run_at_once(run):
    busy = pytest.raises(RunBusyError, match="is in use by another process")
    with run.lock(), busy, run.lock():
        pass
    with run.lock():
        pass


def test_a_config_of_another_format_is_refused(run):
    write_json(run.config_file, {"format": 99, "advnets": "7.0"})
    with pytest.raises(RunError, match=r"has format 99 and this advnets reads 2; use .*\(7.0\)"):
        run.read_config()


def test_a_damaged_config_is_named(run):
    run.config_file.write_text("{")
    with pytest.raises(RunError, match=r"config.json cannot be read"):
        run.read_config()


def test_events_survive_a_line_cut_by_a_kill(run):
    run.append_event({"step": 1, "kind": "log"})
    with run.events_file.open("a") as file:
        file.write('{"step": 2, "ki')
    assert run.events() == [{"step": 1, "kind": "log"}]
    run.truncate_events(1)
    run.append_event({"step": 2, "kind": "log"})
    assert [event["step"] for event in run.events()] == [1, 2]


def test_events_of_steps_to_be_repeated_are_removed(run):
    for step in (10, 20, 30):
        run.append_event({"step": step})
    run.truncate_events(20)
    assert [event["step"] for event in run.events()] == [10, 20]


def test_only_the_newest_whole_checkpoints_are_kept(run):
    for step in (1, 20, 3):
        run.checkpoint_file(step).touch()
    (run.checkpoints / ".step-00000004.safetensors.abc.part").touch()
    assert run.newest_checkpoint() == run.checkpoint_file(20)
    run.prune_checkpoints(2)
    assert sorted(run.checkpoints.iterdir()) == [run.checkpoint_file(3), run.checkpoint_file(20)]


def test_no_checkpoint_is_an_error(run):
    with pytest.raises(CheckpointError, match="holds no checkpoint yet; train it, with --resume"):
        run.newest_checkpoint()


def test_events_are_read_whatever_their_length_and_clock(run):
    """A list of many skipped files, and a log event in which no time passed."""
    files = {f"{i:05}.png": "is not an image in a format that can be read" for i in range(20_000)}
    events = [
        {"kind": "skipped_files", "step": 0, "files": files},
        {"kind": "log", "step": 1, "epoch": 0.5, "images_per_second": None, "value": -1.0},
    ]
    for event in events:
        run.append_event(event)
    assert run.events() == events


def test_a_run_whose_config_was_lost_is_not_trained_over(run):
    run.checkpoint_file(5).touch()
    with pytest.raises(RunError, match=r"holds files of a run without its config\.json; restore"):
        run.begin()
    assert run.checkpoint_file(5).exists()
