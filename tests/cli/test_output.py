"""Output is never a reason to lose work: broken pipes, full disks, closed streams, encodings."""

from __future__ import annotations

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
    """Whether a run was trained to its end and written down."""
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
def test_a_training_whose_console_breaks_ends_saved(tmp_path, quick, line):
    done = run_in_shell(line, tmp_path / "run", *quick)
    assert done.returncode == 0, done.stderr
    assert complete(tmp_path / "run")
    assert (tmp_path / "run" / "report.html").is_file()
    assert b"Exception" not in done.stderr
    assert b"Error" not in done.stderr


def test_a_closed_stderr_leads_into_no_file_of_the_run(tmp_path, quick):
    """The descriptor 2 of a process without stderr would be the next file it opens."""
    run_in_shell('advnets train digits --out "$@" 2>&-', tmp_path / "run", *quick)
    for line in (tmp_path / "run" / "events.jsonl").read_text("utf-8").splitlines():
        json.loads(line)


def test_a_full_disk_behind_stdout_is_said_and_the_run_is_saved(tmp_path, quick):
    done = run_in_shell('advnets train digits --out "$@" >/dev/full', tmp_path / "run", *quick)
    assert complete(tmp_path / "run")
    assert done.returncode == 1
    assert done.stderr.endswith(
        b"advnets: output could not be written (No space left on device); what the command writes "
        b"to files is complete: free some space or redirect the output elsewhere\n"
    )


def test_scores_are_kept_when_they_cannot_be_printed(trained):
    line = 'advnets evaluate "$@" --metrics frechet --num-samples 100 --seed 7 >/dev/full'
    assert run_in_shell(line, trained).returncode == 1
    kept = [some for some in RunDirectory(trained).scores() if some["seed"] == 7]
    assert [some["metric"] for some in kept if some["samples"] == "generator"] == ["frechet"]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_is_served(trained, encoding):
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
    done = run_in_shell(line, trained, PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode(encoding)


def test_what_an_encoding_lacks_is_escaped(trained):
    line = 'advnets evaluate "$@" --metrics parzen --num-samples 50'
    escaped = run_in_shell(line, trained, PYTHONIOENCODING="ascii").stdout.decode("ascii")
    whole = run_in_shell(line, trained, PYTHONIOENCODING="utf-8").stdout.decode("utf-8")
    assert "σ" in whole
    assert escaped == whole.encode("ascii", "backslashreplace").decode("ascii")


@pytest.mark.parametrize("line", ["advnets presets | head -1", "advnets train --help | true"])
def test_a_reader_that_leaves_is_no_error(line):
    done = run_in_shell(line)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.fixture
def read_only(trained):
    """Take the right to write the run from this process, root's too."""
    ours, kept = os.geteuid(), trained.stat().st_mode
    trained.chmod(0o555)
    if ours == 0:  # another user may then pass through the folders above, and read what is there
        for parent in trained.parents:
            if not parent.stat().st_mode & 0o001:
                parent.chmod(0o755)
        os.seteuid(65534)
    yield trained
    if ours == 0:
        os.seteuid(0)
    trained.chmod(kept)


def test_scores_of_a_run_that_cannot_be_written_are_printed(said, read_only):
    code, printed, err = said("evaluate", read_only, "--metrics", "frechet", "--num-samples", 60)
    assert code == 0, err
    assert "Fréchet distance" in printed
    scores, report = err.splitlines()
    assert scores.startswith("advnets: the scores of frechet are not saved: ")
    assert report.startswith("advnets: the report is not updated: ")
    assert "Permission denied" in scores
    assert not any(some["n_fake"] == 60 for some in RunDirectory(read_only).scores())


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_loses_no_scores(said, trained, monkeypatch, number):
    import fcntl

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    code, printed, err = said("evaluate", trained, "--metrics", "frechet", "--num-samples", 70)
    assert code == 0, err
    assert any(some["n_fake"] == 70 for some in RunDirectory(trained).scores())
    assert printed


def test_a_run_is_trained_where_files_cannot_be_locked(said, tmp_path, quick, monkeypatch):
    import fcntl

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    code, _, err = said("train", "digits", "--out", tmp_path / "run", *quick)
    assert code == 0, err
    assert "cannot lock files" in err
    assert complete(tmp_path / "run")


@pytest.mark.parametrize("wrap", [output.TolerantStream, output._StandardStream])
def test_a_stream_that_is_closed_in_this_process_takes_everything(wrap):
    stream = wrap(io.StringIO())
    stream.stream.close()
    assert not stream.isatty()
    assert stream.write("lost") == 4
    stream.flush()
    assert isinstance(stream.error, ValueError)


def test_a_removed_working_directory_is_a_sentence(tmp_path):
    """Libraries load their files by paths that need it, and end the process without one."""
    gone = tmp_path / "gone"
    gone.mkdir()
    done = run_in_shell(f"cd {gone} && rmdir {gone} && advnets train digits --out {tmp_path}/run")
    assert done.returncode == 2
    assert done.stderr.decode() == (
        "advnets: the working directory cannot be used (No such file or directory); "
        "change to another one\n"
    )
