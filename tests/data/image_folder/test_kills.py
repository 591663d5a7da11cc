"""Packing and auditing leave no processes, pipes or partial packs, however they end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

PATIENCE = 120.0
"""Seconds after which a process counts as hanging."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of 2,500 files, which take two cores half a minute."""
    folder = tmp_path_factory.mktemp("many")
    first = folder / "0.png"
    pixels = np.random.default_rng(0).integers(0, 256, (600, 600, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(first)
    for i in range(1, 2500):
        os.link(first, folder / f"{i}.png")
    return folder


@pytest.fixture
def few(tmp_path: Path) -> Path:
    (tmp_path / "few").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "few" / "a.png")
    return tmp_path / "few"


def started(*arguments: object, start_new_session: bool = False) -> subprocess.Popen[str]:
    """Start a command with an environment variable that identifies its children, and pipes."""
    return subprocess.Popen(
        [sys.executable, "-m", "advnets", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "ADVNETS_TEST_MARK": str(arguments)},
        preexec_fn=default_signals,
        start_new_session=start_new_session,
    )


def default_signals() -> None:
    """Restore the signals that background jobs and nohup ignore."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def processes(mark: str) -> set[int]:
    """Return all processes with this mark, whoever their parent is."""
    names: set[int] = set()
    for place in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"ADVNETS_TEST_MARK={mark}\0".encode() in place.read_bytes():
                names.add(int(place.parent.name))
        except OSError:
            continue
    return names


def until(condition, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def working(
    arguments: tuple[object, ...], *, start_new_session: bool = False
) -> subprocess.Popen[str]:
    """Start a command and return it when its workers decode."""
    victim = started(*arguments, start_new_session=start_new_session)
    mark = str(arguments)
    # the command, at least two workers, and the resource tracker
    assert until(lambda: len(processes(mark)) >= 4, PATIENCE), victim.communicate()
    time.sleep(1.0)
    assert victim.poll() is None, victim.communicate()
    return victim


@pytest.mark.parametrize(
    ("command", "number"),
    [
        ("pack", signal.SIGKILL),
        ("pack", signal.SIGTERM),
        ("audit", signal.SIGKILL),
        ("audit", signal.SIGINT),
    ],
)
def test_workers_end_with_their_parent(many, few, tmp_path, command, number):
    """After a signal to the parent alone no process, pipe or pack is left."""
    out = [tmp_path / "out"] if command == "pack" else []
    arguments = ("data", command, many, *out)
    victim = working(arguments)
    victim.send_signal(number)
    printed = victim.communicate(timeout=PATIENCE)  # ends when no process holds the pipes
    assert until(lambda: not processes(str(arguments)), PATIENCE)
    assert printed[0] == ""
    assert "Traceback" not in printed[1]
    assert not (tmp_path / "out").exists()
    left = list(tmp_path.glob(".*.unfinished-pack*"))
    if number == signal.SIGKILL:
        assert victim.returncode == -signal.SIGKILL
        assert len(left) == 2 * (command == "pack")  # the folder and its lock
    else:
        assert victim.returncode == 128 + number, printed
        assert left == []
    if command == "pack":  # the next start removes the remains, whatever its output
        completed = started("data", "pack", few, tmp_path / "another")
        _, errors = completed.communicate(timeout=PATIENCE)
        assert completed.returncode == 0, errors
        assert list(tmp_path.glob(".*.unfinished-pack*")) == []
        assert (tmp_path / "another" / "pack.json").exists()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_all_processes_gives_one_sentence(many, tmp_path, number):
    """As a closed terminal, Ctrl-C or a shutdown sends it."""
    arguments = ("data", "pack", many, tmp_path / "out")
    victim = working(arguments, start_new_session=True)
    os.killpg(victim.pid, number)
    _, errors = victim.communicate(timeout=PATIENCE)
    assert until(lambda: not processes(str(arguments)), PATIENCE)
    assert victim.returncode == 128 + number
    *_, last = errors.splitlines()
    assert last.startswith(("advnets: stopped by SIG", "advnets: interrupted"))
    assert "Traceback" not in errors
    assert "Warning" not in errors
    assert list(tmp_path.iterdir()) == []


def test_a_pack_in_progress_is_not_removed(many, few, tmp_path):
    """A second start keeps the folder of a running one."""
    arguments = ("data", "pack", many, tmp_path / "out")
    living = working(arguments)
    second = started("data", "pack", few, tmp_path / "another")
    second.communicate(timeout=PATIENCE)
    assert second.returncode == 0
    assert len(list(tmp_path.glob(".out.*.unfinished-pack"))) == 1
    living.terminate()
    living.communicate(timeout=PATIENCE)


def test_a_killed_worker_gives_one_sentence(many, tmp_path):
    """As the system kills one when memory runs out."""
    arguments = ("data", "audit", many)
    victim = working(arguments)
    # All children of the command except the resource tracker.
    workers = [
        pid
        for pid in processes(str(arguments)) - {victim.pid}
        if "resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_text()
    ]
    os.kill(workers[0], signal.SIGKILL)
    _, errors = victim.communicate(timeout=PATIENCE)
    assert victim.returncode == 1
    assert "was killed, or an image crashed the decoder" in errors
    assert "Traceback" not in errors
    assert until(lambda: not processes(str(arguments)), PATIENCE)
