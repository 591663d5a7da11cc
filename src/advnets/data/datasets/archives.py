"""Members of a zip or a tar, taken out by their expected names and sizes, never by a path."""

from __future__ import annotations

import gzip
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from advnets.data.datasets.limits import MIB, Readable
from advnets.data.datasets.mirrors import Member
from advnets.errors import DataError
from advnets.files import open_regular_file, put_in_place

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
        put_in_place(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path
