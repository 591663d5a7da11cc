"""No process that packs or audits leaves workers, pipes or half packs behind, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2,500 files, which take two cores half a minute."""
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


def started(*arguments: object) -> subprocess.Popen[str]:
    """A command with the environment that its children are known by, its output in pipes."""
    return subprocess.Popen(
        [sys.executable, "-m", "advnets", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "ADVNETS_TEST_MARK": str(arguments)},
    )


def processes(mark: str) -> set[int]:
    """All processes that were started with this mark, whoever their parent is by now."""
    found: set[int] = set()
    for place in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"ADVNETS_TEST_MARK={mark}\0".encode() in place.read_bytes():
                found.add(int(place.parent.name))
        except OSError:
            continue
    return found


def until(condition, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def working(arguments: tuple[object, ...]) -> subprocess.Popen[str]:
    """The command, once its workers decode."""
    victim, mark = started(*arguments), str(arguments)
    # itself, the two workers at least, and the tracker of their resources
    assert until(lambda: len(processes(mark)) >= 4, 60), victim.communicate()
    time.sleep(1.0)
    assert victim.poll() is None, victim.communicate()
    return victim


@pytest.mark.parametrize(
    ("command", "number"),
    [
        ("pack", signal.SIGKILL),
        ("pack", signal.SIGTERM),
        ("check", signal.SIGKILL),
        ("check", signal.SIGINT),
    ],
)
def test_workers_end_with_their_parent(many, few, tmp_path, command, number):
    """A signal to the parent alone: seconds later no process is left, and no pipe is held."""
    out = [tmp_path / "out"] if command == "pack" else []
    arguments = ("data", command, many, *out)
    victim = working(arguments)
    began = time.monotonic()
    victim.send_signal(number)
    printed = victim.communicate(timeout=20)  # ends when nobody holds the pipes
    assert time.monotonic() - began < 10
    assert until(lambda: not processes(str(arguments)), 5)
    assert "Traceback" not in printed[1]
    assert not (tmp_path / "out").exists()
    left = list(tmp_path.glob(".*.part"))
    if number == signal.SIGKILL:
        assert victim.returncode == -signal.SIGKILL
        assert len(left) == (command == "pack")
    else:
        assert victim.returncode == 128 + number, printed
        assert left == []
    if command == "pack":  # the next start removes what a kill has left, under any name
        done = started("data", "pack", few, tmp_path / "another")
        _, errors = done.communicate(timeout=60)
        assert done.returncode == 0, errors
        assert list(tmp_path.glob(".*.part")) == []
        assert (tmp_path / "another" / "pack.json").exists()


def test_a_pack_that_is_being_made_is_no_remains(many, few, tmp_path):
    """Another start beside a living one leaves its folder alone."""
    arguments = ("data", "pack", many, tmp_path / "out")
    living = working(arguments)
    other = started("data", "pack", few, tmp_path / "another")
    other.communicate(timeout=60)
    assert other.returncode == 0
    assert len(list(tmp_path.glob(".out.*.part"))) == 1
    living.terminate()
    living.communicate(timeout=20)


def test_a_worker_that_is_killed_is_one_sentence(many, tmp_path):
    """As the system does where memory runs out."""
    arguments = ("data", "check", many)
    victim = working(arguments)
    children = Path(f"/proc/{victim.pid}/task/{victim.pid}/children").read_text().split()
    workers = [
        int(pid)
        for pid in children
        if "resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_text()
    ]
    os.kill(workers[0], signal.SIGKILL)
    _, errors = victim.communicate(timeout=30)
    assert victim.returncode == 1
    assert "was ended from outside or by an image that crashes the decoder" in errors
    assert "Traceback" not in errors
    assert until(lambda: not processes(str(arguments)), 5)
