"""Named sets brought from their mirrors: `advnets data fetch`."""

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
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from tqdm import tqdm

from advnets.data.datasets.formats.idx import find_idx, unpacked_md5
from advnets.data.datasets.formats.limits import MIB, Readable
from advnets.data.datasets.mirrors import REMOTES, File, Member
from advnets.errors import DataError, DownloadError, UnknownNameError
from advnets.files import file_lock, open_regular_file, replace_durably, write_json


def fetch(
    name: str,
    directory: Path,
    *,
    mirrors: Sequence[str] | None = None,
    progress: bool | None = None,
) -> list[Path]:
    """Bring the files of a named set to the folder `directory/name`, and give their paths.

    What is there and whole is left alone; what was begun is gone on with. A file takes its name
    only once its content is known to be right, so several processes may fetch at once. `progress`
    shows a bar, by default where there is a terminal.

    Raises:
        UnknownNameError: no set that can be fetched is called so.
        DownloadError: no mirror gave a file.
        DataError: the folder cannot be written.
    """
    if name not in REMOTES:
        raise UnknownNameError("set to fetch", name, REMOTES)
    remote = REMOTES[name]
    chosen = remote.mirrors if mirrors is None else mirrors
    folder = directory / remote.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with file_lock(folder / ".fetch.lock"):
            return [
                path
                for file in remote.files
                for path in _present(folder, file) or _bring(folder, file, chosen, progress)
            ]
    except OSError as error:
        raise DataError(
            f"{error.filename or folder} cannot be written ({error.strerror}); "
            f"make room there or give another directory"
        ) from None


def _present(folder: Path, file: File) -> list[Path]:
    """What stands for a file and is right, or nothing."""
    if file.members:
        return _recorded(folder, file)
    found = find_idx(folder, file.name.removesuffix(".gz")) if file.unpacked else folder / file.name
    return [found] if found is not None and _is_right(found, file) else []


def _bring(folder: Path, file: File, mirrors: Sequence[str], progress: bool | None) -> list[Path]:
    final, part = folder / file.name, folder / f"{file.name}.part"
    faults: list[str] = []
    for mirror in mirrors:
        url = f"{mirror.rstrip('/')}/{final.name}"
        try:
            _from_mirror(url, part, file, progress)
        except MirrorFault as fault:
            faults.append(f"{mirror}: {fault}")
        else:
            if file.members:
                return _unpacked(folder, file, part)
            replace_durably(part, final)
            return [final]
    raise DownloadError(
        f"{final.name} came from no mirror ({'; '.join(faults)}); try again later, or put the "
        f"file by hand in {folder}"
    )


def _unpacked(folder: Path, file: File, part: Path) -> list[Path]:
    """Take the members out of an archive, which is then let go."""
    paths = extract(part, file.members, folder)
    md5s = {member.file: _md5(path) for member, path in zip(file.members, paths, strict=True)}
    write_json(_record(folder, file), {"archive": file.md5, "files": md5s})
    part.unlink()
    return paths


def _record(folder: Path, file: File) -> Path:
    """Where the MD5s of an archive's members are kept, which nobody publishes."""
    return folder / f".{file.name}.json"


def _recorded(folder: Path, file: File) -> list[Path]:
    """The members that an earlier fetch took out, if all are as they were then."""
    try:
        record: Any = json.loads(_record(folder, file).read_text("utf-8"))
        md5s = record["files"] if record["archive"] == file.md5 else {}
        paths = [folder / member.file for member in file.members]
        right = all(
            md5s.get(member.file) == _md5(path)
            for member, path in zip(file.members, paths, strict=True)
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return []
    return paths if right else []


def _from_mirror(url: str, part: Path, file: File, progress: bool | None) -> None:
    """Bring a file whose content is right to `part`; what has wrong content is not kept."""
    # Bytes of an earlier attempt may be another mirror's, whose gzip differs: then begin anew.
    for _ in ("going on", "anew") if part.exists() else ("anew",):
        with tqdm(
            desc=part.stem,
            unit="B",
            unit_scale=True,
            disable=None if progress is None else not progress,
        ) as bar:

            def seen(done: int, total: int | None, bar: tqdm[NoReturn] = bar) -> None:
                bar.total = total
                bar.update(done - bar.n)

            download(url, part, seen)
        if _is_right(part, file):
            return
        part.unlink()
    raise MirrorFault("sent another content than the original's")


def _is_right(path: Path, file: File) -> bool:
    try:
        return (unpacked_md5(path) if file.unpacked else _md5(path)) == file.md5
    except (DataError, FileNotFoundError):
        return False


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with open_regular_file(path) as content:
        while chunk := content.read(MIB):
            digest.update(chunk)
    return digest.hexdigest()


_SLACK = 16 * MIB  # for headers, padding and members that nobody asked for
# What the standard library raises on an archive that is none, or no longer.
_FAULTS = (
    *(zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, struct.error, EOFError),
    *(NotImplementedError, RuntimeError, ValueError, OverflowError, LookupError),
)


def extract(archive: Path, members: Sequence[Member], folder: Path) -> list[Path]:
    """Put an archive's members into a folder, each under its name here, and give their paths.

    Raises:
        DataError: the archive is damaged; a member is absent, larger than it may be, or no regular
            file; or any name leads out of the folder.
        OSError: the folder cannot be written.
    """
    taken: dict[str, Path] = {}
    wanted = {member.name: member for member in members}

    def take(name: str, regular: bool, size: int, opened: Callable[[], Readable]) -> None:
        inside = PurePosixPath(name.replace("\\", "/"))
        if inside.is_absolute() or ".." in inside.parts:
            raise _Unfit(f"has {name[:80]!r}, which leads out of its folder")
        member = wanted.get(name)
        if member is None:
            return
        if not regular:
            raise _Unfit(f"has {name}, which is no regular file")
        if size > member.most:
            raise _Unfit(f"has {name} of {size:,} bytes, but {member.most:,} at most were expected")
        taken[name] = _write(opened(), folder / member.file, member.most)

    try:
        with open_regular_file(archive) as file:
            if zipfile.is_zipfile(file):
                _walk_zip(archive, take)
            else:
                _walk_tar(archive, sum(member.most for member in members) + _SLACK, take)
        if absent := [name for name in wanted if name not in taken]:
            raise _Unfit(f"has no {absent[0]}")
    except _Unfit as fault:
        raise DataError(f"{archive} {fault}; bring it anew from where it was published") from None
    except _FAULTS as error:
        raise DataError(f"{archive} is a damaged archive ({error}); bring it anew") from None
    return [taken[member.name] for member in members]


class _Unfit(Exception):  # noqa: N818 - becomes a DataError, which names the archive
    """What is wrong with a member, in a few words."""


_Take = Callable[[str, bool, int, Callable[[], Readable]], None]


def _walk_zip(archive: Path, take: _Take) -> None:
    with zipfile.ZipFile(archive) as packed:
        for info in packed.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            regular = not info.is_dir() and kind in (0, stat.S_IFREG)
            # By its number, not its name: of two of one name zipfile would open the last.
            take(info.filename, regular, info.file_size, lambda info=info: packed.open(info))


def _walk_tar(archive: Path, most: int, take: _Take) -> None:
    with gzip.open(archive) as unpacked, _tar(_Bounded(unpacked, most)) as packed:
        for info in packed:
            take(info.name, info.isreg(), info.size, lambda info=info: _file(packed, info))


@contextmanager
def _tar(stream: Readable) -> Generator[tarfile.TarFile]:
    with tarfile.open(fileobj=stream, mode="r|") as packed:  # type: ignore[call-overload]
        yield packed


def _file(packed: tarfile.TarFile, info: tarfile.TarInfo) -> Readable:
    file = packed.extractfile(info)
    if file is None:
        raise _Unfit(f"has {info.name}, which is no regular file")
    return file


class _Bounded:
    """A stream that is refused once it gives, or is asked for, more than it may have."""

    def __init__(self, stream: Readable, most: int) -> None:
        self._stream, self._left = stream, most

    def read(self, n: int, /) -> bytes:
        """At most n bytes; none at the end."""
        self._left -= n
        if self._left < 0:
            raise _Unfit("unpacks to more than the set has")
        return self._stream.read(n)


def _write(source: Readable, path: Path, most: int) -> Path:
    """Write at most so many bytes beside, then give them their name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            while chunk := source.read(MIB):
                most -= len(chunk)
                if most < 0:
                    raise _Unfit(f"has {path.name} of more bytes than it says")
                file.write(chunk)
        replace_durably(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


STALL_S = 30.0
"""Silence after which a connection is given up."""
PAUSE_S = 1.0
"""Between attempts at one mirror."""
_TRIES = 3  # without a byte gained
_CHUNK = 1 << 16
_RANGE = re.compile(r"bytes (?:(?P<start>\d+)-\d+|\*)/(?P<total>\d+|\*)")


class MirrorFault(Exception):  # noqa: N818 - a finding about a mirror, which a user never meets
    """Why a mirror did not give a file, in a few words."""


class _CutOff(Exception):  # noqa: N818
    """The body ended early; what came of it is kept."""


def download(url: str, part: Path, seen: Callable[[int, int | None], None]) -> None:
    """Bring the whole of `url` into `part`, going on from the bytes that are there already.

    `seen(done, total)` is told of every chunk; the total is None where the server does not say it.

    Raises:
        MirrorFault: the mirror does not give the file, or stops giving more of it.
        OSError: `part` cannot be written.
    """
    most, tries = _size(part), 0
    while True:
        try:
            _attempt(url, part, seen)
            return
        except _CutOff as fault:
            tries = 0 if _size(part) > most else tries + 1
            most = max(most, _size(part))
            if tries == _TRIES:
                raise MirrorFault(str(fault)) from None
            time.sleep(PAUSE_S)


def _attempt(url: str, part: Path, seen: Callable[[int, int | None], None]) -> None:
    if not url.startswith(("http://", "https://")):
        raise MirrorFault("is no http address")
    start = _size(part)
    headers = {"User-Agent": "advnets", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        response: HTTPResponse = urlopen(Request(url, headers=headers), timeout=STALL_S)
    except HTTPError as error:
        error.close()
        if error.code == 416 and start:
            # Nothing lies beyond what we have: either that is all, or it is another file's.
            if _range(error.headers.get("Content-Range"))[1] == start:
                return
            part.unlink()
            raise _CutOff("refuses to go on") from None
        raise MirrorFault(f"HTTP {error.code} {error.reason}") from None
    except (URLError, HTTPException, OSError, ValueError) as error:
        raise MirrorFault(_reason(error)) from None
    with response:
        done, total = 0, response.length
        if response.status == 206:
            begins, total = _range(response.headers.get("Content-Range"))
            if begins != start:
                part.unlink()
                raise _CutOff("sent another range than was asked for")
            done = start
        # A server that ignores the range sends the whole file: it is begun anew.
        with part.open("ab" if done else "wb") as file:
            for chunk in _body(response):
                file.write(chunk)
                done += len(chunk)
                seen(done, total)
    if total is not None and done < total:
        raise _CutOff(f"sent {done:,} of {total:,} bytes")


def _body(response: HTTPResponse) -> Iterator[bytes]:
    """The chunks of a body, whose every fault is a `_CutOff`: what came before it is kept."""
    while True:
        try:
            chunk = response.read1(_CHUNK)
        except (HTTPException, OSError) as error:
            raise _CutOff(_reason(error)) from None
        if not chunk:
            return
        yield chunk


def _range(header: str | None) -> tuple[int | None, int | None]:
    """The first byte and the total that a Content-Range header says."""
    found = _RANGE.fullmatch(header.strip()) if header else None
    if found is None:
        return None, None
    start, total = found["start"], found["total"]
    return None if start is None else int(start), None if total == "*" else int(total)


def _reason(error: BaseException) -> str:
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, TimeoutError):
        return f"silent for {STALL_S:g} s"
    return getattr(cause, "strerror", None) or str(cause) or type(cause).__name__


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0
