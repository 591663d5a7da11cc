"""Broken pipes, full disks, closed streams and encodings do not lose work."""

import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from advnets import output
from advnets.run_directory import RunDirectory

COMMAND = [sys.executable, "-c", "import sys; from advnets.cli.main import main; sys.exit(main())"]
ENCODINGS = ["ascii", "cp949"]


def run_in_shell(line: str, *arguments: object, **variables: str) -> subprocess.CompletedProcess:
    """Run a line of bash in which `advnets` and "$@" stand for our command and its arguments."""
    script = f'set -o pipefail; advnets() {{ "{COMMAND[0]}" -c "{COMMAND[2]}" "$@"; }}; {line}'
    return subprocess.run(
        ["bash", "-c", script, "bash", *map(str, arguments)],
        capture_output=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | variables,
        timeout=300,
    )


def complete(run: Path, steps: int = 30) -> bool:
    """Return whether a run is complete and saved."""
    *_, last = RunDirectory(run).events()
    newest = RunDirectory(run).newest_checkpoint()
    return last["kind"] == "end" and newest.stem == f"step-{steps:08d}"


@pytest.mark.parametrize(
    "line",
    [
        'advnets train digits --out "$@" 2>&1 | head -1',
        'advnets train digits --out "$@" 2>&1 >/dev/null | true',
        'advnets train digits --out "$@" 2>&-',
        'advnets train digits --out "$@" >&- 2>&-',
        'advnets train digits --out "$@" <&- >&- 2>&-',
        'advnets train digits --out "$@" 2>/dev/full',
    ],
)
def test_a_training_with_broken_output_is_completed_and_saved(tmp_path, quick, line):
    completed = run_in_shell(line, tmp_path / "run", *quick)
    assert completed.returncode == 0, completed.stderr
    assert complete(tmp_path / "run")
    assert (tmp_path / "run" / "report.html").is_file()
    assert b"Exception" not in completed.stderr
    assert b"Error" not in completed.stderr


def test_with_closed_stderr_nothing_is_written_into_files_of_the_run(tmp_path, quick):
    """Without stderr, the next file that a process opens would get descriptor 2."""
    run_in_shell('advnets train digits --out "$@" 2>&-', tmp_path / "run", *quick)
    for line in (tmp_path / "run" / "events.jsonl").read_text("utf-8").splitlines():
        json.loads(line)


def test_a_full_disk_behind_stdout_is_reported_and_the_run_is_saved(tmp_path, quick):
    completed = run_in_shell('advnets train digits --out "$@" >/dev/full', tmp_path / "run", *quick)
    assert complete(tmp_path / "run")
    assert completed.returncode == 1
    assert completed.stderr.endswith(
        b"advnets: output could not be written (No space left on device); what the command writes "
        b"to files is complete: free some space or redirect the output elsewhere\n"
    )


def test_scores_that_cannot_be_printed_are_saved(trained):
    line = 'advnets evaluate "$@" --metrics frechet --num-samples 100 --seed 7 >/dev/full'
    assert run_in_shell(line, trained).returncode == 1
    saved = [score for score in RunDirectory(trained).scores() if score["seed"] == 7]
    assert [score["metric"] for score in saved if score["samples"] == "generator"] == ["frechet"]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_commands_work_in_every_encoding(trained, encoding):
    helps = [
        "--help",
        "train --help",
        "evaluate --help",
        "visualize --help",
        "paper --sections list",
        "presets",
    ]
    line = " && ".join(f"advnets {words}" for words in helps)
    line += ' && advnets evaluate "$@" --metrics parzen prdc --num-samples 50'
    completed = run_in_shell(line, trained, PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    assert completed.returncode == 0, completed.stderr
    assert completed.stdout.decode(encoding)


def test_characters_that_an_encoding_lacks_are_escaped(trained):
    line = 'advnets evaluate "$@" --metrics parzen --num-samples 50'
    escaped = run_in_shell(line, trained, PYTHONIOENCODING="ascii").stdout.decode("ascii")
    expected = run_in_shell(line, trained, PYTHONIOENCODING="utf-8").stdout.decode("utf-8")
    assert "σ" in expected
    assert escaped == expected.encode("ascii", "backslashreplace").decode("ascii")


@pytest.mark.parametrize("line", ["advnets presets | head -1", "advnets train --help | true"])
def test_a_closed_pipe_is_not_an_error(line):
    completed = run_in_shell(line)
    assert (completed.returncode, completed.stderr) == (0, b"")


@pytest.fixture
def read_only(trained):
    """Make the run read-only for this process, also for root."""
    uid, mode = os.geteuid(), trained.stat().st_mode
    trained.chmod(0o555)
    if uid == 0:  # another user may then pass through the folders above, and read what is there
        for parent in trained.parents:
            if not parent.stat().st_mode & 0o001:
                parent.chmod(0o755)
        os.seteuid(65534)
    yield trained
    if uid == 0:
        os.seteuid(0)
    trained.chmod(mode)


def test_scores_of_a_run_that_cannot_be_written_are_printed(run_command, read_only):
    code, printed, err = run_command(
        "evaluate", read_only, "--metrics", "frechet", "--num-samples", 60
    )
    assert code == 0, err
    assert "Fréchet distance" in printed
    scores, _, report = err.splitlines()
    assert scores.startswith("advnets: the scores of frechet are not saved: ")
    assert report.startswith("advnets: the report is not updated: ")
    assert "Permission denied" in scores
    assert not any(score["n_fake"] == 60 for score in RunDirectory(read_only).scores())


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_scores_are_saved_on_a_file_system_without_locks(run_command, trained, monkeypatch, number):
    import fcntl

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    code, printed, err = run_command(
        "evaluate", trained, "--metrics", "frechet", "--num-samples", 70
    )
    assert code == 0, err
    assert any(score["n_fake"] == 70 for score in RunDirectory(trained).scores())
    assert printed


def test_training_works_on_a_file_system_without_locks(run_command, tmp_path, quick, monkeypatch):
    import fcntl

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    code, _, err = run_command("train", "digits", "--out", tmp_path / "run", *quick)
    assert code == 0, err
    assert "cannot lock files" in err
    assert complete(tmp_path / "run")


@pytest.mark.parametrize("wrap", [output.TolerantStream, output._StandardStream])
def test_output_to_a_closed_stream_is_discarded(wrap):
    stream = wrap(io.StringIO())
    stream.stream.close()
    assert not stream.isatty()
    assert stream.write("lost") == 4
    stream.flush()
    assert isinstance(stream.error, ValueError)


def test_a_removed_working_directory_is_reported(tmp_path):
    """Libraries that load files by relative paths would end the process without a message."""
    gone = tmp_path / "gone"
    gone.mkdir()
    completed = run_in_shell(
        f"cd {gone} && rmdir {gone} && advnets train digits --out {tmp_path}/run"
    )
    assert completed.returncode == 2
    assert completed.stderr.decode() == (
        "advnets: the working directory cannot be used (No such file or directory); "
        "change to another one\n"
    )
