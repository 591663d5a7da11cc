import gzip
import hashlib
import io
import json
import random
import stat
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from advnets.data.datasets import cifar, matlab, mnist
from advnets.data.datasets import fetch as module
from advnets.data.datasets.fetch import (
    REMOTES,
    File,
    Member,
    MirrorError,
    RemoteDataset,
    download,
    extract,
    fetch,
)
from advnets.data.datasets.mnist import open_mnist
from advnets.errors import DataError, DownloadError, UnknownNameError

FILES = list(mnist.MD5)


@pytest.fixture
def files(idx_bytes, monkeypatch) -> dict[str, bytes]:
    """Return a small dataset with MNIST's file names and matching checksums."""
    monkeypatch.setattr(module, "STALL_S", 0.1)
    monkeypatch.setattr(module, "PAUSE_S", 0.0)
    rng = np.random.default_rng(0)
    contents: dict[str, bytes] = {}
    for name in FILES:
        shape = (40, 30, 30) if "images" in name else (40,)
        content = idx_bytes(rng.integers(0, 256 if "images" in name else 10, shape))
        monkeypatch.setitem(mnist.MD5, name, hashlib.md5(content).hexdigest())
        contents[f"{name}.gz"] = gzip.compress(content, mtime=0)
    monkeypatch.setitem(module.REMOTES, "mnist", remote_of(mnist.MD5))
    return contents


def remote_of(md5s: dict[str, str]) -> RemoteDataset:
    files = tuple(File(f"{name}.gz", md5, decompressed=True) for name, md5 in md5s.items())
    return RemoteDataset("mnist", (), files)


@pytest.fixture
def mirror(server, response, files) -> Callable[..., str]:
    """Return the URL of a mirror with the given behavior."""

    def make(name: str, alter: Callable[[bytes], bytes] = bytes, **behavior: object) -> str:
        for file, content in files.items():
            server.responses[f"/{name}/{file}"] = response(alter(content), **behavior)
        return f"{server.url}/{name}/"

    return make


def fetch_mnist(directory: Path, *mirrors: str) -> list[Path]:
    return fetch("mnist", directory, mirrors=mirrors, progress=False)


def assert_complete(directory: Path, files: dict[str, bytes]) -> None:
    folder = directory / "mnist"
    visible = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    assert visible == set(files)
    for name, content in files.items():
        assert gzip.decompress((folder / name).read_bytes()) == gzip.decompress(content)


def test_four_files_are_downloaded_and_open(tmp_path, mirror, files):
    """The four files are downloaded, their paths are returned, and the dataset opens."""
    paths = fetch_mnist(tmp_path / "new", mirror("a"))
    assert paths == [tmp_path / "new" / "mnist" / f"{name}.gz" for name in FILES]
    assert_complete(tmp_path / "new", files)
    assert len(open_mnist([tmp_path / "new" / "mnist"]).train) == 34


def test_present_files_are_kept(tmp_path, mirror, server):
    """A second fetch sends no requests; decompressed files count as well."""
    paths = fetch_mnist(tmp_path, mirror("a"))
    before = {path: path.stat().st_mtime_ns for path in paths}
    plain = paths[0].with_suffix("")
    plain.write_bytes(gzip.decompress(paths[0].read_bytes()))
    paths[0].unlink()
    server.requests.clear()
    assert fetch_mnist(tmp_path, mirror("a")) == [plain, *paths[1:]]
    assert server.requests == []
    assert all(path.stat().st_mtime_ns == before[path] for path in paths[1:])


def test_damaged_file_is_replaced(tmp_path, mirror, files, server):
    """Only the damaged file is downloaded again."""
    paths = fetch_mnist(tmp_path, mirror("a"))
    paths[2].write_bytes(paths[2].read_bytes()[:-100])
    server.requests.clear()
    fetch_mnist(tmp_path, mirror("a"))
    assert [path for path, _ in server.requests] == [f"/a/{paths[2].name}"]
    assert_complete(tmp_path, files)


@pytest.mark.parametrize(
    ("behavior", "reason"),
    [
        ({"status": 404}, "HTTP 404 Not Found"),
        ({"status": 500}, "HTTP 500 Internal Server Error"),
        ({"cut_after": 20, "ranges": False}, "sent 20 of"),
        ({"stall_after": 20, "ranges": False}, "no data for 0.1 s"),
        ({"alter": lambda content: b"<html>"}, "sent other content"),
        ({"alter": lambda content: content[:-9]}, "sent other content"),
        ({"alter": lambda content: content[:40] + b"!" + content[41:]}, "sent other content"),
        ({"alter": lambda content: gzip.compress(b"other")}, "sent other content"),
    ],
)
def test_next_mirror_is_tried(tmp_path, mirror, files, behavior, reason):
    """The next mirror is used after a failure; a failed download leaves no file of that name."""
    bad = mirror("bad", **behavior)
    with pytest.raises(
        DownloadError, match=rf"could not be downloaded from any mirror \({bad}: {reason}"
    ):
        fetch_mnist(tmp_path / "alone", bad)
    remaining = {path.name for path in (tmp_path / "alone" / "mnist").iterdir()}
    assert remaining <= {".fetch.lock", f"{FILES[0]}.gz.part"}
    fetch_mnist(tmp_path, bad, mirror("good"))
    (tmp_path / "alone").rename(tmp_path.parent / f"{tmp_path.name}-alone")
    assert_complete(tmp_path, files)


def test_failure_of_all_mirrors_is_reported(tmp_path, mirror):
    """The error names each mirror with its reason, and what to do."""
    mirrors = mirror("a", status=404), mirror("b", status=500)
    with pytest.raises(DownloadError) as caught:
        fetch_mnist(tmp_path, *mirrors)
    assert str(caught.value) == (
        f"train-images-idx3-ubyte.gz could not be downloaded from any mirror ({mirrors[0]}: HTTP "
        f"404 Not Found; {mirrors[1]}: HTTP 500 Internal Server Error); try again later, or "
        "put the "
        f"file in {tmp_path / 'mnist'} yourself"
    )


def test_interrupted_fetch_resumes(tmp_path, mirror, files, server):
    """The next fetch requests only the missing bytes."""
    with pytest.raises(DownloadError):
        fetch_mnist(tmp_path, mirror("a", cut_after=1000, sends_length=True, ranges=False))
    server.requests.clear()
    fetch_mnist(tmp_path, mirror("a"))
    assert server.requests[0] == (f"/a/{FILES[0]}.gz", "bytes=1000-")
    assert_complete(tmp_path, files)


def test_partial_file_of_another_mirror_is_replaced(tmp_path, mirror, files):
    """Bytes of a mirror whose gzip differs are discarded."""
    another_gzip = gzip.compress(b"x" * 5000)[:30]
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / f"{FILES[0]}.gz.part").write_bytes(another_gzip)
    fetch_mnist(tmp_path, mirror("a"))
    assert_complete(tmp_path, files)


def test_killed_before_the_rename(tmp_path, mirror, files, server):
    """A complete partial file is renamed and not downloaded again."""
    (tmp_path / "mnist").mkdir()
    name = f"{FILES[0]}.gz"
    (tmp_path / "mnist" / f"{name}.part").write_bytes(files[name])
    fetch_mnist(tmp_path, mirror("a"))
    assert_complete(tmp_path, files)
    assert [path for path, _ in server.requests].count(f"/a/{name}") == 1


def test_two_processes_at_once(tmp_path, mirror, files, server):
    """Two concurrent fetches succeed, and each file is downloaded once."""
    url = mirror("a")
    script = (
        "import json, sys; from pathlib import Path\n"
        "from advnets.data.datasets import fetch\n"
        "from advnets.data.datasets.fetch import REMOTES, File, RemoteDataset\n"
        "md5s = json.loads(sys.argv[1]).items()\n"
        "files = tuple(File(f'{name}.gz', md5, decompressed=True) for name, md5 in md5s)\n"
        "REMOTES['mnist'] = RemoteDataset('mnist', (), files)\n"
        "fetch.fetch('mnist', Path(sys.argv[2]), mirrors=[sys.argv[3]], progress=False)"
    )
    command = [sys.executable, "-c", script, json.dumps(mnist.MD5), str(tmp_path), url]
    processes = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait(60) for process in processes] == [0, 0]
    assert_complete(tmp_path, files)
    assert sorted(path for path, _ in server.requests) == sorted(f"/a/{name}" for name in files)


def test_progress_bar_is_optional(tmp_path, mirror, capsys):
    """The bar is shown on request, and by default only on a terminal."""
    fetch("mnist", tmp_path / "a", mirrors=[mirror("a")])
    assert capsys.readouterr().err == ""
    fetch("mnist", tmp_path / "b", mirrors=[mirror("a")], progress=True)
    assert "train-images-idx3-ubyte" in capsys.readouterr().err


def test_unknown_dataset_is_refused(tmp_path):
    """The error names the known datasets."""
    with pytest.raises(UnknownNameError, match=r"did you mean .*mnist"):
        fetch("mnst", tmp_path)


def test_unwritable_folder_is_reported(tmp_path):
    """A file in place of the folder is reported as such, not as a failure of mirrors."""
    (tmp_path / "mnist").touch()
    with pytest.raises(DataError, match="cannot be written") as caught:
        fetch_mnist(tmp_path, "http://127.0.0.1:9/")
    assert not isinstance(caught.value, DownloadError)


MEMBERS = (Member("set/a.bin", "set/a.bin", 1000), Member("set/names.txt", "names.txt", 100))
CONTENTS = {"set/a.bin": b"\1" * 1000, "set/names.txt": b"one\ntwo\n", "set/readme.html": b"hello"}


def tar_of(files: dict[str, bytes | tarfile.TarInfo]) -> bytes:
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


def zip_of(files: dict[str, bytes], mode: int = 0, kind: int = zipfile.ZIP_DEFLATED) -> bytes:
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


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("pack", [tar_of, zip_of])
def test_expected_members_are_extracted(tmp_path, pack):
    """Members are extracted under their local names, others are not."""
    (tmp_path / "x").write_bytes(pack(CONTENTS))
    paths = extract(tmp_path / "x", MEMBERS, tmp_path / "out")
    assert paths == [tmp_path / "out" / "set" / "a.bin", tmp_path / "out" / "names.txt"]
    assert [path.read_bytes() for path in paths] == [
        CONTENTS["set/a.bin"],
        CONTENTS["set/names.txt"],
    ]
    assert files_in(tmp_path / "out") == {"set/a.bin", "names.txt"}


A = {"set/a.bin": CONTENTS["set/a.bin"]}
WHOLE_TAR, WHOLE_ZIP = tar_of(CONTENTS), zip_of(CONTENTS)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (tar_of(A), "has no member set/names.txt"),
        (zip_of(A), "has no member set/names.txt"),
        (tar_of(CONTENTS | {"../x": b"out"}), r"has the member '../x', which leads out"),
        (zip_of(CONTENTS | {"../x": b"out"}), r"has the member '../x', which leads out"),
        (tar_of(CONTENTS | {"/x": b"out"}), r"has the member '/x', which leads out"),
        (zip_of({"set\\..\\..\\x": b"out"} | CONTENTS), "which leads out"),
        (tar_of({"set/a.bin": link("set/a.bin")}), "set/a.bin, which is not a regular file"),
        (tar_of({"set/a.bin": link("set/a.bin", tarfile.LNKTYPE)}), "not a regular file"),
        (tar_of({"set/a.bin": link("set/a.bin", tarfile.DIRTYPE)}), "not a regular file"),
        (tar_of({"set/a.bin": link("set/a.bin", tarfile.FIFOTYPE)}), "not a regular file"),
        (zip_of(CONTENTS, mode=stat.S_IFLNK | 0o777), "set/a.bin, which is not a regular file"),
        (tar_of(CONTENTS | {"set/a.bin": bytes(1001)}), "of 1,001 bytes, expected at most 1,000"),
        (zip_of(CONTENTS | {"set/a.bin": bytes(1001)}), "of 1,001 bytes, expected at most 1,000"),
        (
            tar_of({"bomb": bytes(32 << 20)} | CONTENTS),
            "decompresses to more bytes than the dataset has",
        ),
        (WHOLE_TAR[:-40], "is a damaged archive|has no member set"),
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
def test_invalid_archives_are_refused(tmp_path, content, problem):
    """The error names the archive; nothing is written outside, and no partial file stays."""
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(DataError, match=rf"x .*({problem})"):
        extract(tmp_path / "x", MEMBERS, tmp_path / "out")
    assert files_in(tmp_path) <= {"x", "out/set/a.bin", "out/names.txt"}


def test_zip_with_a_wrong_size_is_refused(tmp_path):
    """A member larger than its header declares is damaged."""
    content = bytearray(zip_of({"set/a.bin": bytes(100_000)}))
    for mark, offset in [(b"PK\x03\x04", 22), (b"PK\x01\x02", 24)]:
        at = content.index(mark) + offset
        content[at : at + 4] = (500).to_bytes(4, "little")
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(DataError, match="is a damaged archive"):
        extract(tmp_path / "x", MEMBERS, tmp_path / "out")


@pytest.fixture
def archive_dataset(server, response, monkeypatch):
    """Put a dataset of one archive on the server."""
    monkeypatch.setattr(module, "STALL_S", 0.1)
    monkeypatch.setattr(module, "PAUSE_S", 0.0)

    def make(content: bytes) -> str:
        file = File("x.tar.gz", hashlib.md5(content).hexdigest(), members=MEMBERS)
        monkeypatch.setitem(
            module.REMOTES, "made-up", RemoteDataset("there", (server.url,), (file,))
        )
        server.responses["/x.tar.gz"] = response(content)
        return "made-up"

    return make


@pytest.mark.parametrize("pack", [tar_of, zip_of])
def test_archive_is_downloaded_once(tmp_path, server, archive_dataset, pack):
    """Members are kept, the archive is deleted, and nothing is downloaded again."""
    name = archive_dataset(pack(CONTENTS))
    paths = fetch(name, tmp_path, progress=False)
    assert paths == [tmp_path / "there" / member.file for member in MEMBERS]
    remaining = files_in(tmp_path)
    assert {name for name in remaining if not name.startswith("there/.")} == {
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
        assert paths[1].read_bytes() == CONTENTS["set/names.txt"]
    record = tmp_path / "there" / ".x.tar.gz.json"
    for text in ["{", "[]", json.dumps({"archive": "another", "files": {}})]:
        record.write_text(text)
        assert fetch(name, tmp_path, progress=False) == paths


def test_killed_while_extracting(tmp_path, server, archive_dataset):
    """A complete archive is extracted and not downloaded again."""
    content = tar_of(CONTENTS)
    name = archive_dataset(content)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "x.tar.gz.part").write_bytes(content)
    paths = fetch(name, tmp_path, progress=False)
    assert server.requests == [("/x.tar.gz", f"bytes={len(content)}-")]
    assert all(path.is_file() for path in paths)


def test_archive_of_other_content(tmp_path, server, response, archive_dataset):
    """An archive with a wrong MD5 is not extracted; an invalid one of the right MD5 is refused."""
    name = archive_dataset(tar_of(CONTENTS))
    server.responses["/x.tar.gz"] = response(tar_of(A))
    with pytest.raises(DownloadError, match="sent other content"):
        fetch(name, tmp_path, progress=False)
    for invalid in [
        tar_of(CONTENTS)[:-30],
        tar_of(CONTENTS | {"../x": b""}),
        zip_of({"set/a.bin": bytes(9999)}),
    ]:
        with pytest.raises(DataError, match=r"x\.tar\.gz\.part "):
            fetch(archive_dataset(invalid), tmp_path, progress=False)
        assert not (tmp_path / "x").exists()


def test_other_files_are_verified_by_md5(tmp_path, server, response, monkeypatch):
    """The MD5 of the compressed file is checked if that is the published one."""
    content = b"not even a gzip"
    file = File("a.mat", hashlib.md5(content).hexdigest())
    monkeypatch.setitem(module.REMOTES, "made-up", RemoteDataset("there", (server.url,), (file,)))
    server.responses["/a.mat"] = response(content)
    for requests in (1, 1):
        assert fetch("made-up", tmp_path, progress=False) == [tmp_path / "there" / "a.mat"]
        assert len(server.requests) == requests


def test_mirrors_agree_with_the_parsers():
    """The downloaded files are those that the parsers search."""
    assert {remote.folder for remote in REMOTES.values()} | {"svhn-extra"} == set(REMOTES)
    for remote in REMOTES.values():
        assert all(url.startswith("http") and url.endswith("/") for url in remote.mirrors)
        assert all(len(bytes.fromhex(file.md5)) == 16 for file in remote.files)
    for name, versions in [("cifar10", cifar.VERSIONS_10), ("cifar100", cifar.VERSIONS_100)]:
        (file,) = REMOTES[name].files
        assert file.name == versions[0].archive
        members = {member.file for member in file.members}
        assert members >= {
            f"{versions[0].folder}/{x}" for x in (*versions[0].train, versions[0].test)
        }
    for name in ("mnist", "fashion-mnist", "kmnist"):
        assert [file.name for file in REMOTES[name].files] == [
            f"{name}.gz" for name in (*mnist.TRAIN, *mnist.TEST)
        ]
    (file,) = REMOTES["emnist"].files
    assert len(file.members) == 24
    assert "emnist-letters-test-labels-idx1-ubyte.gz" in {member.file for member in file.members}
    assert [file.name for file in REMOTES["svhn"].files] == [matlab.SVHN_TRAIN, matlab.SVHN_TEST]


CONTENT = random.Random(0).randbytes(200_000)


@pytest.fixture
def part(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "STALL_S", 0.3)
    monkeypatch.setattr(module, "PAUSE_S", 0.0)
    return tmp_path / "x.part"


def download_part(server, part, path="/x"):
    progress_reports: list[tuple[int, int | None]] = []
    download(server.url + path, part, lambda done, total: progress_reports.append((done, total)))
    return progress_reports


def test_whole_file(server, response, part):
    """A file is downloaded completely, with progress reported to the end."""
    server.responses["/x"] = response(CONTENT)
    progress_reports = download_part(server, part)
    assert part.read_bytes() == CONTENT
    assert progress_reports[-1] == (len(CONTENT), len(CONTENT))
    assert progress_reports == sorted(progress_reports)


def test_unknown_length(server, response, part):
    """A file of unknown length is downloaded completely."""
    server.responses["/x"] = response(CONTENT, sends_length=False)
    assert download_part(server, part)[-1] == (len(CONTENT), None)
    assert part.read_bytes() == CONTENT


def test_redirect_is_followed(server, response, part):
    """A redirect is followed, also when resuming."""
    server.responses["/x"] = response(to=f"{server.url}/y")
    server.responses["/y"] = response(CONTENT)
    part.write_bytes(CONTENT[:50])
    download_part(server, part)
    assert part.read_bytes() == CONTENT
    assert server.requests == [("/x", "bytes=50-"), ("/y", "bytes=50-")]


@pytest.mark.parametrize("behavior", ["cut_after", "stall_after"])
def test_interrupted_download_resumes(server, response, part, behavior):
    """After an interruption or a timeout, only the missing bytes are requested."""
    server.responses["/x"] = response(CONTENT, **{behavior: 150_000}, then=response(CONTENT))
    download_part(server, part)
    assert part.read_bytes() == CONTENT
    assert server.requests == [("/x", None), ("/x", "bytes=150000-")]


def test_earlier_partial_file_resumes(server, response, part):
    """The partial file of an interrupted process is used."""
    part.write_bytes(CONTENT[:100])
    server.responses["/x"] = response(CONTENT)
    assert download_part(server, part)[-1] == (len(CONTENT), len(CONTENT))
    assert part.read_bytes() == CONTENT
    assert server.requests == [("/x", "bytes=100-")]


def test_server_without_ranges_starts_over(server, response, part):
    """If the server ignores the range, no bytes are duplicated."""
    part.write_bytes(CONTENT[:100])
    server.responses["/x"] = response(CONTENT, ranges=False)
    download_part(server, part)
    assert part.read_bytes() == CONTENT


def test_complete_partial_file(server, response, part):
    """A complete file is recognized by HTTP 416."""
    part.write_bytes(CONTENT)
    server.responses["/x"] = response(CONTENT)
    download_part(server, part)
    assert part.read_bytes() == CONTENT
    assert len(server.requests) == 1


def test_partial_file_that_is_too_long(server, response, part):
    """A partial file longer than the file (416) is discarded."""
    part.write_bytes(CONTENT + b"more")
    server.responses["/x"] = response(CONTENT)
    download_part(server, part)
    assert part.read_bytes() == CONTENT
    assert server.requests[-1] == ("/x", None)


@pytest.mark.parametrize("status", [404, 403, 500, 503])
def test_http_errors_are_not_retried(server, response, part, status):
    """An HTTP error is reported without another attempt."""
    server.responses["/x"] = response(status=status)
    with pytest.raises(MirrorError, match=f"HTTP {status}"):
        download_part(server, part)
    assert len(server.requests) == 1
    assert not part.exists()


@pytest.mark.parametrize(
    ("behavior", "reason"),
    [
        ({"cut_after": 1000}, "sent 1,000 of 200,000 bytes"),
        ({"stall_after": 1000}, "no data for 0.3 s"),
    ],
)
def test_no_progress_ends_the_download(server, response, part, behavior, reason):
    """A server that repeats the same few bytes is given up."""
    server.responses["/x"] = response(CONTENT, ranges=False, **behavior)
    with pytest.raises(MirrorError, match=reason):
        download_part(server, part)
    assert len(server.requests) == 4


def test_slow_progress_continues(server, response, part):
    """A server that is interrupted often but makes progress is not given up."""
    last = response(CONTENT)
    for end in range(180_000, 0, -20_000):
        last = response(CONTENT, cut_after=end, then=last)
    server.responses["/x"] = last
    download_part(server, part)
    assert part.read_bytes() == CONTENT
    assert len(server.requests) == 10


def test_unreachable_server(part):
    """An unreachable or invalid address is reported."""
    for url, reason in [
        ("http://127.0.0.1:9/x", "refused"),
        ("http://[::bad/x", "Invalid IPv6"),
        ("file:///etc/hostname", "not an http address"),
    ]:
        with pytest.raises(MirrorError, match=reason):
            download(url, part, lambda done, total: None)
    assert not part.exists()
