from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from advnets.data.datasets import download, mirrors, mnist
from advnets.data.datasets.fetch import fetch
from advnets.data.datasets.mirrors import File, Remote
from advnets.data.datasets.mnist import open_mnist
from advnets.errors import DataError, DownloadError, UnknownNameError

FILES = list(mnist.MD5)


@pytest.fixture
def files(idx_bytes, monkeypatch) -> dict[str, bytes]:
    """A small set under MNIST's names, and the checksums that go with it."""
    monkeypatch.setattr(download, "STALL_S", 0.1)
    monkeypatch.setattr(download, "PAUSE_S", 0.0)
    rng = np.random.default_rng(0)
    contents: dict[str, bytes] = {}
    for name in FILES:
        shape = (40, 30, 30) if "images" in name else (40,)
        content = idx_bytes(rng.integers(0, 256 if "images" in name else 10, shape))
        monkeypatch.setitem(mnist.MD5, name, hashlib.md5(content).hexdigest())
        contents[f"{name}.gz"] = gzip.compress(content, mtime=0)
    monkeypatch.setitem(mirrors.REMOTES, "mnist", remote_of(mnist.MD5))
    return contents


def remote_of(md5s: dict[str, str]) -> Remote:
    files = tuple(File(f"{name}.gz", md5, unpacked=True) for name, md5 in md5s.items())
    return Remote("mnist", (), files)


@pytest.fixture
def mirror(server, way, files) -> Callable[..., str]:
    """A mirror that gives the files in some way: its address."""

    def make(name: str, alter: Callable[[bytes], bytes] = bytes, **how: object) -> str:
        for file, content in files.items():
            server.ways[f"/{name}/{file}"] = way(alter(content), **how)
        return f"{server.url}/{name}/"

    return make


def bring(directory: Path, *mirrors: str) -> list[Path]:
    return fetch("mnist", directory, mirrors=mirrors, progress=False)


def assert_whole(directory: Path, files: dict[str, bytes]) -> None:
    folder = directory / "mnist"
    visible = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    assert visible == set(files)
    for name, content in files.items():
        assert gzip.decompress((folder / name).read_bytes()) == gzip.decompress(content)


def test_four_files_come_and_open(tmp_path, mirror, files):
    """The four files come, their paths are given, and the set opens."""
    paths = bring(tmp_path / "new", mirror("a"))
    assert paths == [tmp_path / "new" / "mnist" / f"{name}.gz" for name in FILES]
    assert_whole(tmp_path / "new", files)
    assert len(open_mnist([tmp_path / "new" / "mnist"]).train) == 34


def test_what_is_there_is_left_alone(tmp_path, mirror, server):
    """A second fetch asks for nothing; unpacked files count as well."""
    paths = bring(tmp_path, mirror("a"))
    before = {path: path.stat().st_mtime_ns for path in paths}
    plain = paths[0].with_suffix("")
    plain.write_bytes(gzip.decompress(paths[0].read_bytes()))
    paths[0].unlink()
    server.requests.clear()
    assert bring(tmp_path, mirror("a")) == [plain, *paths[1:]]
    assert server.requests == []
    assert all(path.stat().st_mtime_ns == before[path] for path in paths[1:])


def test_damaged_file_is_replaced(tmp_path, mirror, files, server):
    """A file that is there and damaged is brought anew, alone."""
    paths = bring(tmp_path, mirror("a"))
    paths[2].write_bytes(paths[2].read_bytes()[:-100])
    server.requests.clear()
    bring(tmp_path, mirror("a"))
    assert [path for path, _ in server.requests] == [f"/a/{paths[2].name}"]
    assert_whole(tmp_path, files)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"status": 404}, "HTTP 404 Not Found"),
        ({"status": 500}, "HTTP 500 Internal Server Error"),
        ({"cut_after": 20, "ranges": False}, "sent 20 of"),
        ({"stall_after": 20, "ranges": False}, "silent for 0.1 s"),
        ({"alter": lambda content: b"<html>"}, "sent another content"),
        ({"alter": lambda content: content[:-9]}, "sent another content"),
        ({"alter": lambda content: content[:40] + b"!" + content[41:]}, "sent another content"),
        ({"alter": lambda content: gzip.compress(b"other")}, "sent another content"),
    ],
)
def test_next_mirror_helps(tmp_path, mirror, files, how, reason):
    """What one mirror fails to give the next gives; alone it leaves no file of that name."""
    bad = mirror("bad", **how)
    with pytest.raises(DownloadError, match=rf"came from no mirror \({bad}: {reason}"):
        bring(tmp_path / "alone", bad)
    left = {path.name for path in (tmp_path / "alone" / "mnist").iterdir()}
    assert left <= {".fetch.lock", f"{FILES[0]}.gz.part"}
    bring(tmp_path, bad, mirror("good"))
    (tmp_path / "alone").rename(tmp_path.parent / f"{tmp_path.name}-alone")
    assert_whole(tmp_path, files)


def test_all_mirrors_failed_is_one_sentence(tmp_path, mirror):
    """Each mirror with its reason, and what to do by hand."""
    mirrors = mirror("a", status=404), mirror("b", status=500)
    with pytest.raises(DownloadError) as caught:
        bring(tmp_path, *mirrors)
    assert str(caught.value) == (
        f"train-images-idx3-ubyte.gz came from no mirror ({mirrors[0]}: HTTP 404 Not Found; "
        f"{mirrors[1]}: HTTP 500 Internal Server Error); try again later, or put the file by hand "
        f"in {tmp_path / 'mnist'}"
    )


def test_interrupted_fetch_goes_on(tmp_path, mirror, files, server):
    """The next fetch asks only for the bytes that the last did not get."""
    with pytest.raises(DownloadError):
        bring(tmp_path, mirror("a", cut_after=1000, says_length=True, ranges=False))
    server.requests.clear()
    bring(tmp_path, mirror("a"))
    assert server.requests[0] == (f"/a/{FILES[0]}.gz", "bytes=1000-")
    assert_whole(tmp_path, files)


def test_part_of_another_mirror_is_no_harm(tmp_path, mirror, files):
    """Bytes begun from a mirror whose gzip differs are thrown away, not joined to others."""
    other = gzip.compress(b"x" * 5000)[:30]
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / f"{FILES[0]}.gz.part").write_bytes(other)
    bring(tmp_path, mirror("a"))
    assert_whole(tmp_path, files)


def test_killed_before_the_rename(tmp_path, mirror, files, server):
    """A part that is whole takes its name, and is not brought again."""
    (tmp_path / "mnist").mkdir()
    name = f"{FILES[0]}.gz"
    (tmp_path / "mnist" / f"{name}.part").write_bytes(files[name])
    bring(tmp_path, mirror("a"))
    assert_whole(tmp_path, files)
    assert [path for path, _ in server.requests].count(f"/a/{name}") == 1


def test_two_processes_at_once(tmp_path, mirror, files, server):
    """Two that fetch at once both end well, with each file whole and brought once."""
    url = mirror("a")
    script = (
        "import json, sys; from pathlib import Path\n"
        "from advnets.data.datasets import fetch\n"
        "from advnets.data.datasets.mirrors import REMOTES, File, Remote\n"
        "md5s = json.loads(sys.argv[1]).items()\n"
        "files = tuple(File(f'{name}.gz', md5, unpacked=True) for name, md5 in md5s)\n"
        "REMOTES['mnist'] = Remote('mnist', (), files)\n"
        "fetch.fetch('mnist', Path(sys.argv[2]), mirrors=[sys.argv[3]], progress=False)"
    )
    command = [sys.executable, "-c", script, json.dumps(mnist.MD5), str(tmp_path), url]
    processes = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait(60) for process in processes] == [0, 0]
    assert_whole(tmp_path, files)
    assert sorted(path for path, _ in server.requests) == sorted(f"/a/{name}" for name in files)


def test_bar_is_drawn_when_asked_for(tmp_path, mirror, capsys):
    """Progress is shown on demand, and not where there is no terminal."""
    fetch("mnist", tmp_path / "a", mirrors=[mirror("a")])
    assert capsys.readouterr().err == ""
    fetch("mnist", tmp_path / "b", mirrors=[mirror("a")], progress=True)
    assert "train-images-idx3-ubyte" in capsys.readouterr().err


def test_set_nobody_has(tmp_path):
    """A set that cannot be fetched is told, with those that can."""
    with pytest.raises(UnknownNameError, match=r"did you mean .*mnist"):
        fetch("mnst", tmp_path)


def test_folder_that_cannot_be_made(tmp_path):
    """A file where the folder should be is the machine's fault, not the mirror's."""
    (tmp_path / "mnist").touch()
    with pytest.raises(DataError, match="cannot be written") as caught:
        bring(tmp_path, "http://127.0.0.1:9/")
    assert not isinstance(caught.value, DownloadError)
