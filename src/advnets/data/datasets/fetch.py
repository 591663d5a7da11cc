"""Downloads of named datasets from their mirrors, for `advnets data fetch`."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import stat
import struct
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from tqdm import tqdm

from advnets.data.datasets import cifar, matlab, mnist
from advnets.data.datasets.idx import decompressed_md5, find_idx
from advnets.data.spec import DISTRIBUTION_NAMES
from advnets.errors import DataError, DownloadError, UnknownNameError, UsageError
from advnets.files import MIB, Readable, file_lock, open_regular_file, replace_durably, write_json


@dataclass(frozen=True)
class Member:
    """A file in an archive: its name there, its local name, and its maximum size in bytes."""

    name: str
    file: str
    max_bytes: int


@dataclass(frozen=True)
class File:
    """A file to download: its name on the mirrors, and its MD5.

    `decompressed` means that the MD5 is that of the gzipped file's content. Of an archive, only the
    members are kept.
    """

    name: str
    md5: str
    decompressed: bool = False
    members: tuple[Member, ...] = ()


@dataclass(frozen=True)
class RemoteDataset:
    """The files of a dataset, the base URLs of its mirrors, and the folder for the files."""

    folder: str
    mirrors: tuple[str, ...]
    files: tuple[File, ...]


_MAX_NAMES_BYTES = 1 << 16
"""The maximum size of a file of class names."""


def _members(folder: str, sizes: Mapping[str, int]) -> tuple[Member, ...]:
    """Return members that keep their names, including the folder."""
    return tuple(Member(f"{folder}/{name}", f"{folder}/{name}", n) for name, n in sizes.items())


def _emnist_members() -> tuple[Member, ...]:
    sizes = {
        f"emnist-{split}-{part}-{content}-ubyte.gz": mebibytes * MIB
        for split in ("balanced", "byclass", "bymerge", "digits", "letters", "mnist")
        for part in ("train", "test")
        for content, mebibytes in (("images-idx3", 512), ("labels-idx1", 8))
    }
    return tuple(Member(f"gzip/{name}", name, n) for name, n in sizes.items())


def _files(md5s: Mapping[str, str]) -> tuple[File, ...]:
    return tuple(File(name, md5) for name, md5 in md5s.items())


_TORONTO = ("https://www.cs.toronto.edu/~kriz/",)
_STANFORD = ("http://ufldl.stanford.edu/housenumbers/",)
_BATCH_BYTES = 10_000 * 3073

REMOTES: dict[str, RemoteDataset] = {
    "mnist": RemoteDataset(
        "mnist",
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        tuple(File(f"{name}.gz", md5, decompressed=True) for name, md5 in mnist.MD5.items()),
    ),
    "fashion-mnist": RemoteDataset(
        "fashion-mnist",
        ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
        _files(mnist.FASHION_MD5),
    ),
    "kmnist": RemoteDataset(
        "kmnist", ("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",), _files(mnist.KMNIST_MD5)
    ),
    "emnist": RemoteDataset(
        "emnist",
        (
            "https://biometrics.nist.gov/cs_links/EMNIST/",
            "https://www.itl.nist.gov/iaui/vip/cs_links/EMNIST/",
        ),
        (File("gzip.zip", "58c8d27c78d21e728a6bc7b3cc06412e", members=_emnist_members()),),
    ),
    "cifar10": RemoteDataset(
        "cifar10",
        _TORONTO,
        (
            File(
                cifar.VERSIONS_10[0].archive,
                "c32a1d4ab5d03f1284b67883e8d87530",
                members=_members(
                    cifar.VERSIONS_10[0].folder,
                    dict.fromkeys(
                        (*cifar.VERSIONS_10[0].train, cifar.VERSIONS_10[0].test), _BATCH_BYTES
                    )
                    | {"batches.meta.txt": _MAX_NAMES_BYTES},
                ),
            ),
        ),
    ),
    "cifar100": RemoteDataset(
        "cifar100",
        _TORONTO,
        (
            File(
                cifar.VERSIONS_100[0].archive,
                "03b5dce01913d631647c71ecec9e9cb8",
                members=_members(
                    cifar.VERSIONS_100[0].folder,
                    {
                        "train.bin": 50_000 * 3074,
                        "test.bin": 10_000 * 3074,
                        "fine_label_names.txt": _MAX_NAMES_BYTES,
                        "coarse_label_names.txt": _MAX_NAMES_BYTES,
                    },
                ),
            ),
        ),
    ),
    "svhn": RemoteDataset(
        "svhn",
        _STANFORD,
        (
            File(matlab.SVHN_TRAIN, "e26dedcc434d2e4c54c9b2d4a06d8373"),
            File(matlab.SVHN_TEST, "eb5a983be6a315427106f1b164d9cef3"),
        ),
    ),
    "svhn-extra": RemoteDataset(
        "svhn", _STANFORD, (File(matlab.SVHN_EXTRA, "a93ce644f1a588dc4d68dda5feec44a7"),)
    ),
}
"""The datasets that `advnets data fetch` can download, by name."""


# Datasets: files that are present, downloaded or extracted from archives.


def fetch(
    name: str,
    directory: Path,
    *,
    mirrors: Sequence[str] | None = None,
    progress: bool | None = None,
) -> list[Path]:
    """Download the files of a named dataset to the folder `directory/name`; return their paths.

    Files that are present and correct are kept, partial downloads are resumed. A file gets its
    name only after its content has been verified, so several processes may fetch at once.
    `progress` shows a progress bar, by default on a terminal.

    Raises:
        UsageError: the dataset of that name needs no download, or there is none.
        DownloadError: no mirror provided a file.
        DataError: the folder cannot be written.
    """
    if name not in REMOTES:
        if name in {"digits", *DISTRIBUTION_NAMES}:
            raise UsageError(f"{name} needs no download; give it to --data as it is")
        raise UnknownNameError("dataset to fetch", name, REMOTES)
    remote = REMOTES[name]
    urls = remote.mirrors if mirrors is None else mirrors
    folder = directory / remote.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with file_lock(folder / ".fetch.lock"):
            return [
                path
                for file in remote.files
                for path in _find_verified(folder, file)
                or _fetch_file(folder, file, urls, progress)
            ]
    except OSError as error:
        raise DataError(
            f"{error.filename or folder} cannot be written ({error.strerror}); free disk space or "
            "use another directory"
        ) from None


def _find_verified(folder: Path, file: File) -> list[Path]:
    """Return the local paths of a file or its members if they are correct; otherwise none."""
    if file.members:
        return _find_members(folder, file)
    if file.decompressed:
        path = find_idx(folder, file.name.removesuffix(".gz"))
    else:
        path = folder / file.name
    return [path] if path is not None and _is_correct(path, file) else []


def _fetch_file(
    folder: Path, file: File, mirrors: Sequence[str], progress: bool | None
) -> list[Path]:
    final, part = folder / file.name, folder / f"{file.name}.part"
    reasons: list[str] = []
    for mirror in mirrors:
        url = f"{mirror.rstrip('/')}/{final.name}"
        try:
            _download_verified(url, part, file, progress)
        except MirrorError as fault:
            reasons.append(f"{mirror}: {fault}")
        else:
            if file.members:
                return _extract_members(folder, file, part)
            replace_durably(part, final)
            return [final]
    raise DownloadError(
        f"{final.name} could not be downloaded from any mirror ({'; '.join(reasons)}); try again "
        f"later, or put the file in {folder} yourself"
    )


def _download_verified(url: str, part: Path, file: File, progress: bool | None) -> None:
    """Download a file to `part` and verify its content; wrong content is deleted."""
    # A partial download may be from another mirror, whose gzip differs: then start over once.
    for _ in range(2 if part.exists() else 1):
        with tqdm(
            desc=part.stem,
            unit="B",
            unit_scale=True,
            disable=None if progress is None else not progress,
        ) as bar:

            def report(done: int, total: int | None, bar: tqdm[NoReturn] = bar) -> None:
                bar.total = total
                bar.update(done - bar.n)

            download(url, part, report)
        if _is_correct(part, file):
            return
        part.unlink()
    raise MirrorError("sent other content than the original")


def _is_correct(path: Path, file: File) -> bool:
    try:
        return (decompressed_md5(path) if file.decompressed else _md5(path)) == file.md5
    except (DataError, FileNotFoundError):
        return False


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with open_regular_file(path) as content:
        while chunk := content.read(MIB):
            digest.update(chunk)
    return digest.hexdigest()


# Archives: only named members are extracted, within their sizes.

_TAR_OVERHEAD = 16 * MIB
"""The maximum size of tar headers, padding and members that are not extracted."""
# Exceptions of the standard library for a damaged archive.
_ARCHIVE_ERRORS = (
    *(zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, struct.error, EOFError),
    *(NotImplementedError, RuntimeError, ValueError, OverflowError, LookupError),
)
_ExtractMember = Callable[[str, bool, int, Callable[[], Readable]], None]
"""A function of a member: its name, whether it is a regular file, its size, and its opener."""


def _record_path(folder: Path, file: File) -> Path:
    """Return the path at which the MD5s of extracted members are recorded."""
    return folder / f".{file.name}.json"


def _extract_members(folder: Path, file: File, archive: Path) -> list[Path]:
    """Extract the members of an archive, record their MD5s, and delete the archive."""
    paths = extract(archive, file.members, folder)
    md5s = {member.file: _md5(path) for member, path in zip(file.members, paths, strict=True)}
    write_json(_record_path(folder, file), {"archive": file.md5, "files": md5s})
    archive.unlink()
    return paths


def _find_members(folder: Path, file: File) -> list[Path]:
    """Return the members that were extracted before, if all still have the recorded MD5s."""
    try:
        record: Any = json.loads(_record_path(folder, file).read_text("utf-8"))
        md5s = record["files"] if record["archive"] == file.md5 else {}
        paths = [folder / member.file for member in file.members]
        is_correct = all(
            md5s.get(member.file) == _md5(path)
            for member, path in zip(file.members, paths, strict=True)
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return []
    return paths if is_correct else []


def extract(archive: Path, members: Sequence[Member], folder: Path) -> list[Path]:
    """Extract members of an archive into a folder, under their local names; return their paths.

    Raises:
        DataError: the archive is damaged; a member is missing, too large or not a regular file; or
            a name leads out of the folder.
        OSError: the folder cannot be written.
    """
    extracted: dict[str, Path] = {}
    by_name = {member.name: member for member in members}

    def extract_member(
        name: str, is_regular: bool, size: int, open_member: Callable[[], Readable]
    ) -> None:
        path = PurePosixPath(name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts:
            raise _ArchiveError(f"has the member {name[:80]!r}, which leads out of its folder")
        member = by_name.get(name)
        if member is None:
            return
        if not is_regular:
            raise _ArchiveError(f"has the member {name}, which is not a regular file")
        if size > member.max_bytes:
            raise _ArchiveError(
                f"has the member {name} of {size:,} bytes, expected at most {member.max_bytes:,}"
            )
        extracted[name] = _write(open_member(), folder / member.file, member.max_bytes)

    try:
        with open_regular_file(archive) as file:
            if zipfile.is_zipfile(file):
                _read_zip(archive, extract_member)
            else:
                max_bytes = sum(member.max_bytes for member in members) + _TAR_OVERHEAD
                _read_tar(archive, max_bytes, extract_member)
        if missing := [name for name in by_name if name not in extracted]:
            raise _ArchiveError(f"has no member {missing[0]}")
    except _ArchiveError as fault:
        raise DataError(f"{archive} {fault}; download it again from its publisher") from None
    except _ARCHIVE_ERRORS as error:
        raise DataError(f"{archive} is a damaged archive ({error}); download it again") from None
    return [extracted[member.name] for member in members]


class _ArchiveError(Exception):
    """A problem of an archive, reported in a DataError that names the archive."""


def _read_zip(archive: Path, extract_member: _ExtractMember) -> None:
    with zipfile.ZipFile(archive) as packed:
        for info in packed.infolist():
            file_type = stat.S_IFMT(info.external_attr >> 16)
            is_regular = not info.is_dir() and file_type in (0, stat.S_IFREG)
            # Open by entry, not by name: of two entries with one name, zipfile opens the last.
            extract_member(
                info.filename, is_regular, info.file_size, lambda info=info: packed.open(info)
            )


def _read_tar(archive: Path, max_bytes: int, extract_member: _ExtractMember) -> None:
    with gzip.open(archive) as stream, _open_tar(_BoundedStream(stream, max_bytes)) as packed:
        for info in packed:
            extract_member(
                info.name, info.isreg(), info.size, lambda info=info: _open_member(packed, info)
            )


@contextmanager
def _open_tar(stream: Readable) -> Generator[tarfile.TarFile]:
    with tarfile.open(fileobj=stream, mode="r|") as packed:  # type: ignore[call-overload]
        yield packed


def _open_member(packed: tarfile.TarFile, info: tarfile.TarInfo) -> Readable:
    file = packed.extractfile(info)
    if file is None:
        raise _ArchiveError(f"has the member {info.name}, which is not a regular file")
    return file


class _BoundedStream:
    """A stream that raises an error once more bytes are read than allowed."""

    def __init__(self, stream: Readable, max_bytes: int) -> None:
        self._stream, self._left = stream, max_bytes

    def read(self, n: int, /) -> bytes:
        """Read at most n bytes; none at the end."""
        self._left -= n
        if self._left < 0:
            raise _ArchiveError("decompresses to more bytes than the dataset has")
        return self._stream.read(n)


def _write(source: Readable, path: Path, max_bytes: int) -> Path:
    """Write at most `max_bytes` bytes to a temporary file, then rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            while chunk := source.read(MIB):
                max_bytes -= len(chunk)
                if max_bytes < 0:
                    raise _ArchiveError(f"has the member {path.name} of more bytes than declared")
                file.write(chunk)
        replace_durably(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


# HTTP downloads that resume.

STALL_S = 30.0
"""The number of seconds without data after which a connection is closed."""
PAUSE_S = 1.0
"""The pause in seconds between attempts at a mirror."""
_MAX_RETRIES = 3
"""The number of attempts without progress after which the next mirror is tried."""
_CHUNK = 1 << 16
_RANGE = re.compile(r"bytes (?:(?P<start>\d+)-\d+|\*)/(?P<total>\d+|\*)")


class MirrorError(Exception):
    """The reason why a mirror did not provide a file, reported in a DownloadError."""


class _InterruptedError(Exception):
    """An interrupted response, of which the bytes received so far are kept."""


def download(url: str, part: Path, report: Callable[[int, int | None], None]) -> None:
    """Download `url` to `part`, resuming after the bytes that are already there.

    `report(done, total)` is called after every chunk; the total is None if the server does not
    send it.

    Raises:
        MirrorError: the mirror does not provide the file, or stops sending it.
        OSError: `part` cannot be written.
    """
    max_size, retries = _size(part), 0
    while True:
        try:
            _attempt(url, part, report)
            return
        except _InterruptedError as fault:
            retries = 0 if _size(part) > max_size else retries + 1
            max_size = max(max_size, _size(part))
            if retries == _MAX_RETRIES:
                raise MirrorError(str(fault)) from None
            time.sleep(PAUSE_S)


def _attempt(url: str, part: Path, report: Callable[[int, int | None], None]) -> None:
    if not url.startswith(("http://", "https://")):
        raise MirrorError("is not an http address")
    # Request the bytes that are missing.
    start = _size(part)
    headers = {"User-Agent": "advnets", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        response: HTTPResponse = urlopen(Request(url, headers=headers), timeout=STALL_S)
    except HTTPError as error:
        error.close()
        if error.code == 416 and start:
            # There are no more bytes: either the file is complete, or it is from another mirror.
            if _parse_range(error.headers.get("Content-Range"))[1] == start:
                return
            part.unlink()
            raise _InterruptedError("refuses to resume") from None
        raise MirrorError(f"HTTP {error.code} {error.reason}") from None
    except (URLError, HTTPException, OSError, ValueError) as error:
        raise MirrorError(_reason(error)) from None
    # Append the response; start over if the server ignores the range and sends the whole file.
    with response:
        done, total = 0, response.length
        if response.status == 206:
            first, total = _parse_range(response.headers.get("Content-Range"))
            if first != start:
                part.unlink()
                raise _InterruptedError("sent another range than requested")
            done = start
        with part.open("ab" if done else "wb") as file:
            for chunk in _read_chunks(response):
                file.write(chunk)
                done += len(chunk)
                report(done, total)
    if total is not None and done < total:
        raise _InterruptedError(f"sent {done:,} of {total:,} bytes")


def _read_chunks(response: HTTPResponse) -> Iterator[bytes]:
    """Iterate over the chunks of a response; any error is raised as `_Interrupted`."""
    while True:
        try:
            chunk = response.read1(_CHUNK)
        except (HTTPException, OSError) as error:
            raise _InterruptedError(_reason(error)) from None
        if not chunk:
            return
        yield chunk


def _parse_range(header: str | None) -> tuple[int | None, int | None]:
    """Return the first byte and the total of a Content-Range header."""
    match = _RANGE.fullmatch(header.strip()) if header else None
    if match is None:
        return None, None
    start, total = match["start"], match["total"]
    return None if start is None else int(start), None if total == "*" else int(total)


def _reason(error: BaseException) -> str:
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, TimeoutError):
        return f"no data for {STALL_S:g} s"
    return getattr(cause, "strerror", None) or str(cause) or type(cause).__name__


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0
