from __future__ import annotations

import gzip
import hashlib
import io
import json
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from advnets.data.datasets import cifar, download, mirrors, mnist, svhn
from advnets.data.datasets.archives import extract
from advnets.data.datasets.fetch import fetch
from advnets.data.datasets.mirrors import REMOTES, File, Member, Remote
from advnets.errors import DataError, DownloadError

MEMBERS = (Member("set/a.bin", "set/a.bin", 1000), Member("set/names.txt", "names.txt", 100))
FILES = {"set/a.bin": b"\1" * 1000, "set/names.txt": b"one\ntwo\n", "set/readme.html": b"hello"}


def tar(files: dict[str, bytes | tarfile.TarInfo]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in files.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def zipped(files: dict[str, bytes], mode: int = 0, kind: int = zipfile.ZIP_DEFLATED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", kind) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = kind
            archive.writestr(info, content)
    return packed.getvalue()


def link(name: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/hostname"
    return info


def everything_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("pack", [tar, zipped])
def test_expected_members_come_out(tmp_path, pack):
    """Members come out under their names here, others do not."""
    (tmp_path / "x").write_bytes(pack(FILES))
    paths = extract(tmp_path / "x", MEMBERS, tmp_path / "out")
    assert paths == [tmp_path / "out" / "set" / "a.bin", tmp_path / "out" / "names.txt"]
    assert [path.read_bytes() for path in paths] == [FILES["set/a.bin"], FILES["set/names.txt"]]
    assert everything_in(tmp_path / "out") == {"set/a.bin", "names.txt"}


A = {"set/a.bin": FILES["set/a.bin"]}
WHOLE_TAR, WHOLE_ZIP = tar(FILES), zipped(FILES)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (tar(A), "has no set/names.txt"),
        (zipped(A), "has no set/names.txt"),
        (tar(FILES | {"../x": b"out"}), r"has '../x', which leads out"),
        (zipped(FILES | {"../x": b"out"}), r"has '../x', which leads out"),
        (tar(FILES | {"/x": b"out"}), r"has '/x', which leads out"),
        (zipped({"set\\..\\..\\x": b"out"} | FILES), "which leads out"),
        (tar({"set/a.bin": link("set/a.bin")}), "set/a.bin, which is no regular file"),
        (tar({"set/a.bin": link("set/a.bin", tarfile.LNKTYPE)}), "no regular file"),
        (tar({"set/a.bin": link("set/a.bin", tarfile.DIRTYPE)}), "no regular file"),
        (tar({"set/a.bin": link("set/a.bin", tarfile.FIFOTYPE)}), "no regular file"),
        (zipped(FILES, mode=stat.S_IFLNK | 0o777), "set/a.bin, which is no regular file"),
        (tar(FILES | {"set/a.bin": bytes(1001)}), "of 1,001 bytes, but 1,000 at most"),
        (zipped(FILES | {"set/a.bin": bytes(1001)}), "of 1,001 bytes, but 1,000 at most"),
        (tar({"bomb": bytes(32 << 20)} | FILES), "unpacks to more than the set has"),
        (WHOLE_TAR[:-40], "is a damaged archive|has no set"),
        (WHOLE_TAR[:60], "is a damaged archive"),
        (gzip.compress(gzip.decompress(WHOLE_TAR)[:700]), "is a damaged archive"),
        (WHOLE_ZIP[:-60], "is a damaged archive"),
        (WHOLE_ZIP.replace(b"PK\x03\x04", b"PK\x03\x05", 1), "is a damaged archive"),
        (b"", "is a damaged archive"),
        (b"<html>", "is a damaged archive"),
        (gzip.compress(b"no tar"), "is a damaged archive"),
    ],
    # An archive holds the time: not twice the same.
    ids=lambda some: some if isinstance(some, str) else f"{len(some)} bytes",
)
def test_what_is_wrong_is_said(tmp_path, content, complaint):
    """Another archive is refused with its name; nothing is written outside, and no part stays."""
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(DataError, match=rf"x .*({complaint})"):
        extract(tmp_path / "x", MEMBERS, tmp_path / "out")
    assert everything_in(tmp_path) <= {"x", "out/set/a.bin", "out/names.txt"}


def test_zip_that_lies_about_a_size(tmp_path):
    """A member that unpacks to more than its header says is damage."""
    content = bytearray(zipped({"set/a.bin": bytes(100_000)}))
    for mark, offset in [(b"PK\x03\x04", 22), (b"PK\x01\x02", 24)]:
        at = content.index(mark) + offset
        content[at : at + 4] = (500).to_bytes(4, "little")
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(DataError, match="is a damaged archive"):
        extract(tmp_path / "x", MEMBERS, tmp_path / "out")


@pytest.fixture
def fetched(server, way, monkeypatch):
    """A set of one archive that the server gives."""
    monkeypatch.setattr(download, "STALL_S", 0.1)
    monkeypatch.setattr(download, "PAUSE_S", 0.0)

    def make(content: bytes) -> str:
        file = File("x.tar.gz", hashlib.md5(content).hexdigest(), members=MEMBERS)
        monkeypatch.setitem(mirrors.REMOTES, "made-up", Remote("there", (server.url,), (file,)))
        server.ways["/x.tar.gz"] = way(content)
        return "made-up"

    return make


@pytest.mark.parametrize("pack", [tar, zipped])
def test_archive_is_brought_once(tmp_path, server, fetched, pack):
    """Members stay and the archive goes; what is there and whole is not brought again."""
    name = fetched(pack(FILES))
    paths = fetch(name, tmp_path, progress=False)
    assert paths == [tmp_path / "there" / member.file for member in MEMBERS]
    left = everything_in(tmp_path)
    assert {name for name in left if not name.startswith("there/.")} == {
        "there/set/a.bin",
        "there/names.txt",
    }
    server.requests.clear()
    assert fetch(name, tmp_path, progress=False) == paths
    assert server.requests == []
    for damage in [lambda p: p.write_bytes(b"other"), lambda p: p.unlink()]:
        damage(paths[1])
        server.requests.clear()
        fetch(name, tmp_path, progress=False)
        assert len(server.requests) == 1
        assert paths[1].read_bytes() == FILES["set/names.txt"]
    record = tmp_path / "there" / ".x.tar.gz.json"
    for text in ["{", "[]", json.dumps({"archive": "another", "files": {}})]:
        record.write_text(text)
        assert fetch(name, tmp_path, progress=False) == paths


def test_killed_while_unpacking(tmp_path, server, fetched):
    """An archive that is there whole is unpacked, and not brought again."""
    content = tar(FILES)
    name = fetched(content)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "x.tar.gz.part").write_bytes(content)
    paths = fetch(name, tmp_path, progress=False)
    assert server.requests == [("/x.tar.gz", f"bytes={len(content)}-")]
    assert all(path.is_file() for path in paths)


def test_archive_of_other_content(tmp_path, server, way, fetched):
    """An archive of another MD5 is not unpacked; one of the right MD5 that is unfit is refused."""
    name = fetched(tar(FILES))
    server.ways["/x.tar.gz"] = way(tar(A))
    with pytest.raises(DownloadError, match="sent another content"):
        fetch(name, tmp_path, progress=False)
    for unfit in [tar(FILES)[:-30], tar(FILES | {"../x": b""}), zipped({"set/a.bin": bytes(9999)})]:
        with pytest.raises(DataError, match=r"x\.tar\.gz\.part "):
            fetch(fetched(unfit), tmp_path, progress=False)
        assert not (tmp_path / "x").exists()


def test_plain_files_by_their_own_md5(tmp_path, server, way, monkeypatch):
    """Where the published MD5 is that of the packed file, that is what is checked."""
    content = b"not even a gzip"
    file = File("a.mat", hashlib.md5(content).hexdigest())
    monkeypatch.setitem(mirrors.REMOTES, "made-up", Remote("there", (server.url,), (file,)))
    server.ways["/a.mat"] = way(content)
    for requests in (1, 1):
        assert fetch("made-up", tmp_path, progress=False) == [tmp_path / "there" / "a.mat"]
        assert len(server.requests) == requests


def test_table_agrees_with_the_openers():
    """What is fetched is what is looked for, in the folder of that name."""
    assert {remote.folder for remote in REMOTES.values()} | {"svhn-extra"} == set(REMOTES)
    for remote in REMOTES.values():
        assert all(url.startswith("http") and url.endswith("/") for url in remote.mirrors)
        assert all(len(bytes.fromhex(file.md5)) == 16 for file in remote.files)
    for name, versions in [("cifar10", cifar.VERSIONS_10), ("cifar100", cifar.VERSIONS_100)]:
        (file,) = REMOTES[name].files
        assert file.name == versions[0].archive
        kept = {member.file for member in file.members}
        assert kept >= {f"{versions[0].folder}/{x}" for x in (*versions[0].train, versions[0].test)}
    for name in ("mnist", "fashion-mnist", "kmnist"):
        assert [file.name for file in REMOTES[name].files] == [
            f"{name}.gz" for name in (*mnist.TRAIN, *mnist.TEST)
        ]
    (file,) = REMOTES["emnist"].files
    assert len(file.members) == 24
    assert "emnist-letters-test-labels-idx1-ubyte.gz" in {member.file for member in file.members}
    assert [file.name for file in REMOTES["svhn"].files] == [svhn.TRAIN, svhn.TEST]
