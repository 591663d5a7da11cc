"""Image files where they lie: in a folder, flat or nested, or in a zip."""

from __future__ import annotations

import hashlib
import lzma
import os
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Protocol, runtime_checkable

from advnets.data.image_folder.decode import SUFFIXES, ending, is_image_content, is_image_name
from advnets.data.image_folder.layout import SplitAssignment, split_assignment
from advnets.data.image_folder.zip_names import is_folder, is_hidden, is_link, member_name
from advnets.data.spec import RUN_FILES, SkippedFile
from advnets.errors import DataError, printable
from advnets.files import open_regular_file, require_regular_file

MOST_BYTES = 1 << 28
"""Of a file, unpacked: no image takes so many."""
_BEGINNING = 1 << 12
_RUN_FILES = frozenset(map(os.fsencode, RUN_FILES))
_ENDINGS = frozenset(suffix.encode() for suffix in SUFFIXES)
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar")
_DIRTY = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError, OSError, struct.error),
    *(NotImplementedError, RuntimeError, KeyError, IndexError, OverflowError, AttributeError),
    *(TypeError, AssertionError, MemoryError),
)

File = tuple[bytes, int, int]
"""A file's name within its folder, its bytes, and when it changed, in ns."""


@runtime_checkable
class Reader(Protocol):
    """The way from keys to contents; pickled and sent to the processes that decode."""

    def read(self, keys: Sequence[bytes]) -> Iterator[bytes | DataError]:
        """The content of each file, or why there is none."""
        ...


@dataclass(frozen=True)
class ImageFiles:
    """Image files that are found, and not yet read.

    `place` is where they lie, `keys` are their names there, `stamp` tells their contents from
    others', `size` is their bytes in all.
    `placed` says which split and class each file is in; None: their names tell. `others` counts
    files that are no images, by ending.
    """

    name: str
    place: str
    reader: Reader
    keys: tuple[bytes, ...]
    fingerprint: str
    size: int
    splits: SplitAssignment | None = None
    skipped_files: tuple[SkippedFile, ...] = ()
    unsupported_files: Counter[str] = field(default_factory=Counter[str])

    def placing(self, numbers: Sequence[int]) -> SplitAssignment:
        """Return the split and class of some files, as if the others were not there."""
        if self.splits is not None:
            return self.splits.part(numbers)
        return split_assignment([self.keys[number] for number in numbers])


@dataclass(frozen=True)
class FolderReader:
    """Reads files of a folder by their names within it."""

    root: Path

    def read(self, keys: Sequence[bytes]) -> Iterator[bytes | DataError]:
        """The content of each file, or why there is none."""
        root = os.fsencode(self.root)
        for key in keys:
            try:
                yield _content(os.path.join(root, key))  # noqa: PTH118 - names of any bytes
            except DataError as error:
                yield error
            except OSError as error:
                yield DataError(f"cannot be read: {error.strerror}")


@dataclass(frozen=True)
class ZipReader:
    """Reads files of a zip by their names within it."""

    path: Path

    def read(self, keys: Sequence[bytes]) -> Iterator[bytes | DataError]:
        """The content of each file, or why there is none."""
        archive, members = _opened(self.path, self.path.stat().st_mtime_ns)
        for key in keys:
            try:
                info = members[key]
                if info.flag_bits & 1:
                    raise DataError("is encrypted")
                with archive.open(info) as file:
                    content = file.read(MOST_BYTES + 1)
                if len(content) > MOST_BYTES:
                    raise DataError(f"unpacks to more than {MOST_BYTES >> 20} MiB, a bomb")
                yield content
            except DataError as error:
                yield error
            except _DIRTY as error:
                yield DataError(f"cannot be unpacked: {error or type(error).__name__}")


@lru_cache(maxsize=4)
def _opened(
    path: Path,
    mtime_ns: int,  # noqa: ARG001 - tells a new file
) -> tuple[zipfile.ZipFile, dict[bytes, zipfile.ZipInfo]]:
    """Open a zip and list its files by name; of a name that comes twice, the last one counts."""
    archive = zipfile.ZipFile(path)
    files = [info for info in archive.infolist() if not is_folder(info)]
    return archive, {_key(member_name(info)): info for info in files}


def list_folder(root: Path, *, follow_links: bool = False) -> ImageFiles:
    """Find the image files in a folder and in those below it; each real folder is entered once.

    Hidden files are passed over. Symbolic links that lead out of the folder are named in `broken`,
    unless `follow_links`.
    """
    broken: list[SkippedFile] = []
    others: Counter[str] = Counter()
    found = sorted(_walk(os.fsencode(root), broken, others, follow_links=follow_links))
    return ImageFiles(
        name=printable(root.resolve().name),
        place=str(root.resolve()),
        reader=FolderReader(root),
        keys=tuple([name for name, _, _ in found]),
        fingerprint=fingerprint_of(found),
        size=sum([size for _, size, _ in found]),
        skipped_files=tuple(broken),
        unsupported_files=others,
    )


def list_zip(path: Path) -> ImageFiles:
    """The image files in a zip; nothing of it is unpacked to disk.

    Raises:
        DataError: the file is no zip that can be read.
    """
    try:
        status = require_regular_file(path)
        archive, members = _opened(path, status.st_mtime_ns)
    except _DIRTY as error:
        raise DataError(
            f"{path} is no zip file that can be read ({error}); bring it anew"
        ) from None
    broken: list[SkippedFile] = []
    others: Counter[str] = Counter()
    keys: list[bytes] = []
    for key, info in sorted(members.items(), key=lambda member: member[0]):
        name = key.decode("utf-8", "surrogateescape")
        if reason := _suspicious(name):
            broken.append(SkippedFile(display_name(key), reason))
        elif is_hidden(name):
            continue
        elif not is_image_name(name) and not _begins_as_image(archive, name, info):
            others[ending(name)] += 1
        elif is_link(info):
            broken.append(
                SkippedFile(display_name(key), "is a link, which has no image of its own in a zip")
            )
        else:
            keys.append(key)
    return ImageFiles(
        name=printable(path.stem),
        place=str(path.resolve()),
        reader=ZipReader(path),
        keys=tuple(keys),
        fingerprint=f"{status.st_size} {status.st_mtime_ns}",
        size=sum([members[key].file_size for key in keys]),
        skipped_files=tuple(broken),
        unsupported_files=others,
    )


def display_name(key: bytes) -> str:
    """Return a file's name as one line of printable text; not all names are Unicode."""
    return printable(key.decode("utf-8", "backslashreplace"))


def fingerprint_of(files: Iterable[File]) -> str:
    """BLAKE2b, in hex, of names, sizes and times of change, which tell contents from others."""
    listing = b"".join([b"%b\0%d %d\n" % file for file in files])
    return hashlib.blake2b(listing, digest_size=16).hexdigest()


def _walk(
    root: bytes, broken: list[SkippedFile], others: Counter[str], *, follow_links: bool
) -> Iterator[File]:
    entered: dict[tuple[int, int], bytes] = {}
    real_root = os.path.realpath(root)
    # Links to folders come last: what they lead to has its own name, if it is within.
    pending, linked = [b""], list[bytes]()
    while pending or linked:
        inner = pending.pop() if pending else linked.pop()
        folder = os.path.join(root, inner)  # noqa: PTH118
        try:
            status = os.stat(folder)  # noqa: PTH116
            place = (status.st_dev, status.st_ino)
            if place in entered:
                first = display_name(entered[place]) or "the folder itself"
                broken.append(
                    SkippedFile(display_name(inner), f"is a link to {first}, which is read already")
                )
                continue
            entered[place] = inner
            with os.scandir(folder) as scanned:
                entries = list(scanned)
                if {entry.name for entry in entries} >= _RUN_FILES:
                    broken.append(
                        SkippedFile(display_name(inner) or ".", "is a run directory, full of plots")
                    )
                    continue
                for entry in entries:
                    own = entry.name
                    if own.startswith(b".") or own == b"__MACOSX":
                        continue
                    name = b"%b/%b" % (inner, own) if inner else own
                    # Nearly all are files, no links, that go by the name of an image.
                    plain = own[own.rfind(b".") :].lower() in _ENDINGS
                    if plain and entry.is_file(follow_symlinks=False):
                        status = entry.stat(follow_symlinks=False)
                        yield name, status.st_size, status.st_mtime_ns
                    elif why := _refused_link(entry, real_root, follow_links=follow_links):
                        broken.append(SkippedFile(display_name(name), why))
                    elif _leads_to_folder(entry):
                        (linked if entry.is_symlink() else pending).append(name)
                    elif (file := _image(entry, name, broken)) is not None:
                        yield file
                    else:
                        others[ending(display_name(name))] += 1
            linked.sort(reverse=True)
        except OSError as error:
            broken.append(
                SkippedFile(display_name(inner) or ".", f"cannot be entered: {error.strerror}")
            )


def _refused_link(entry: os.DirEntry[bytes], root: bytes, *, follow_links: bool) -> str | None:
    """Return why a symbolic link is not followed, or None; `root` is the folder's real path."""
    if not entry.is_symlink():
        return None
    target = os.path.realpath(entry.path)
    if not os.path.lexists(target) or is_within(target, root):
        return None
    if not follow_links:
        return "is a link that leads out of the folder; --follow-links reads it"
    for system in (b"/proc", b"/sys"):
        if is_within(target, system) and not is_within(root, system):
            return f"is a link into {system.decode()}, where no images are"
    return None


def is_within(path: bytes, folder: bytes) -> bool:
    """Return whether a real path is a folder's or leads into it."""
    return path == folder or path.startswith(folder.rstrip(b"/") + b"/")


def _leads_to_folder(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _image(entry: os.DirEntry[bytes], name: bytes, broken: list[SkippedFile]) -> File | None:
    """The file, if it is taken for an image: by its ending or, without one, by its content."""
    text = display_name(entry.name)
    if not is_image_name(text):
        if "." in text:
            return None
        try:
            with open_regular_file(Path(os.fsdecode(entry.path))) as file:
                if not is_image_content(file.read(_BEGINNING)):
                    return None
        except OSError:
            return None
    try:
        status = entry.stat()
    except OSError:
        broken.append(SkippedFile(display_name(name), "is a link to nowhere"))
        return None
    return name, status.st_size, status.st_mtime_ns


def _content(path: bytes) -> bytes:
    with open_regular_file(Path(os.fsdecode(path))) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MOST_BYTES:
            raise DataError(f"is {size >> 20:,} MiB large, more than an image takes")
        return file.read(MOST_BYTES)


def _suspicious(name: str) -> str | None:
    """Why a name within an archive is not to be trusted."""
    if ".." in name.split("/"):
        return "has a name that leads out of the archive"
    if ending(name) in _ARCHIVES:
        return "is an archive within the archive; unpack it first"
    return None


def _begins_as_image(archive: zipfile.ZipFile, name: str, info: zipfile.ZipInfo) -> bool:
    """Say whether a file without an ending is taken for an image by its content."""
    if "." in name.rpartition("/")[2]:
        return False
    try:
        with archive.open(info) as file:
            return is_image_content(file.read(_BEGINNING))
    except _DIRTY:
        return False


def _key(filename: str) -> bytes:
    return filename.encode("utf-8", "surrogateescape")
