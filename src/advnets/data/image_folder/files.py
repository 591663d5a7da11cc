"""Image files where they lie: in a folder, flat or nested, or in a zip."""

from __future__ import annotations

import hashlib
import lzma
import os
import re
import stat
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Protocol, runtime_checkable
from zipfile import ZipInfo

from advnets.data.image_folder.decode import SUFFIXES, file_suffix, is_image_content, is_image_name
from advnets.data.image_folder.splits import DeclaredSplits, display_name, splits_from_folders
from advnets.data.spec import RUN_FILES, SkippedFile
from advnets.errors import DataError, printable
from advnets.files import open_regular_file, require_regular_file

MAX_FILE_BYTES = 1 << 28
"""Of a file, unpacked: no image takes so many."""
_HEADER_BYTES = 1 << 12
_RUN_FILES = frozenset(map(os.fsencode, RUN_FILES))
_IMAGE_SUFFIXES = frozenset(suffix.encode() for suffix in SUFFIXES)
_ARCHIVE_SUFFIXES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar")
_ZIP_ERRORS = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError, OSError, struct.error),
    *(NotImplementedError, RuntimeError, KeyError, IndexError, OverflowError, AttributeError),
    *(TypeError, AssertionError, MemoryError),
)

FileEntry = tuple[bytes, int, int]
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
    location: str
    reader: Reader
    keys: tuple[bytes, ...]
    fingerprint: str
    num_bytes: int
    declared: DeclaredSplits | None = None
    skipped_files: tuple[SkippedFile, ...] = ()
    unsupported_files: Counter[str] = field(default_factory=Counter[str])

    def declared_splits(self, indices: Sequence[int]) -> DeclaredSplits:
        """Return the split and class of some files, as if the others were not there."""
        if self.declared is not None:
            return self.declared.subset(indices)
        return splits_from_folders([self.keys[number] for number in indices])


@dataclass(frozen=True)
class FolderReader:
    """Reads files of a folder by their names within it."""

    root: Path

    def read(self, keys: Sequence[bytes]) -> Iterator[bytes | DataError]:
        """The content of each file, or why there is none."""
        root = os.fsencode(self.root)
        for key in keys:
            try:
                yield _read_file(os.path.join(root, key))  # noqa: PTH118 - names of any bytes
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
        archive, members = _open_zip(self.path, self.path.stat().st_mtime_ns)
        for key in keys:
            try:
                info = members[key]
                if info.flag_bits & 1:
                    raise DataError("is encrypted")
                with archive.open(info) as file:
                    content = file.read(MAX_FILE_BYTES + 1)
                if len(content) > MAX_FILE_BYTES:
                    raise DataError(f"unpacks to more than {MAX_FILE_BYTES >> 20} MiB, a bomb")
                yield content
            except DataError as error:
                yield error
            except _ZIP_ERRORS as error:
                yield DataError(f"cannot be unpacked: {error or type(error).__name__}")


@lru_cache(maxsize=4)
def _open_zip(
    path: Path,
    mtime_ns: int,  # noqa: ARG001 - tells a new file
) -> tuple[zipfile.ZipFile, dict[bytes, zipfile.ZipInfo]]:
    """Open a zip and list its files by name; of a name that comes twice, the last one counts."""
    archive = zipfile.ZipFile(path)
    files = [info for info in archive.infolist() if not is_folder(info)]
    return archive, {_encode_name(member_name(info)): info for info in files}


def list_folder(root: Path, *, follow_links: bool = False) -> ImageFiles:
    """Find the image files in a folder and in those below it; each real folder is entered once.

    Hidden files are passed over. Symbolic links that lead out of the folder are named in `broken`,
    unless `follow_links`.
    """
    skipped: list[SkippedFile] = []
    unsupported: Counter[str] = Counter()
    entries = sorted(
        _walk_folder(os.fsencode(root), skipped, unsupported, follow_links=follow_links)
    )
    return ImageFiles(
        name=printable(root.resolve().name),
        location=str(root.resolve()),
        reader=FolderReader(root),
        keys=tuple([name for name, _, _ in entries]),
        fingerprint=fingerprint_of(entries),
        num_bytes=sum([size for _, size, _ in entries]),
        skipped_files=tuple(skipped),
        unsupported_files=unsupported,
    )


def list_zip(path: Path) -> ImageFiles:
    """The image files in a zip; nothing of it is unpacked to disk.

    Raises:
        DataError: the file is no zip that can be read.
    """
    try:
        status = require_regular_file(path)
        archive, members = _open_zip(path, status.st_mtime_ns)
    except _ZIP_ERRORS as error:
        raise DataError(
            f"{path} is no zip file that can be read ({error}); bring it anew"
        ) from None
    skipped: list[SkippedFile] = []
    unsupported: Counter[str] = Counter()
    keys: list[bytes] = []
    for key, info in sorted(members.items(), key=lambda member: member[0]):
        name = key.decode("utf-8", "surrogateescape")
        if reason := _name_problem(name):
            skipped.append(SkippedFile(display_name(key), reason))
        elif is_hidden(name):
            continue
        elif not is_image_name(name) and not _has_image_header(archive, name, info):
            unsupported[file_suffix(name)] += 1
        elif is_link(info):
            skipped.append(
                SkippedFile(display_name(key), "is a link, which has no image of its own in a zip")
            )
        else:
            keys.append(key)
    return ImageFiles(
        name=printable(path.stem),
        location=str(path.resolve()),
        reader=ZipReader(path),
        keys=tuple(keys),
        fingerprint=f"{status.st_size} {status.st_mtime_ns}",
        num_bytes=sum([members[key].file_size for key in keys]),
        skipped_files=tuple(skipped),
        unsupported_files=unsupported,
    )


def fingerprint_of(files: Iterable[FileEntry]) -> str:
    """BLAKE2b, in hex, of names, sizes and times of change, which tell contents from others."""
    listing = b"".join([b"%b\0%d %d\n" % file for file in files])
    return hashlib.blake2b(listing, digest_size=16).hexdigest()


def _walk_folder(
    root: bytes, skipped: list[SkippedFile], unsupported: Counter[str], *, follow_links: bool
) -> Iterator[FileEntry]:
    entered: dict[tuple[int, int], bytes] = {}
    real_root = os.path.realpath(root)
    # Links to folders come last: what they lead to has its own name, if it is within.
    pending, linked = [b""], list[bytes]()
    while pending or linked:
        relative = pending.pop() if pending else linked.pop()
        folder = os.path.join(root, relative)  # noqa: PTH118
        try:
            status = os.stat(folder)  # noqa: PTH116
            identity = (status.st_dev, status.st_ino)
            if identity in entered:
                original = display_name(entered[identity]) or "the folder itself"
                skipped.append(
                    SkippedFile(
                        display_name(relative), f"is a link to {original}, which is read already"
                    )
                )
                continue
            entered[identity] = relative
            with os.scandir(folder) as scanned:
                entries = list(scanned)
                if {entry.name for entry in entries} >= _RUN_FILES:
                    skipped.append(
                        SkippedFile(
                            display_name(relative) or ".", "is a run directory, full of plots"
                        )
                    )
                    continue
                for entry in entries:
                    basename = entry.name
                    if basename.startswith(b".") or basename == b"__MACOSX":
                        continue
                    name = b"%b/%b" % (relative, basename) if relative else basename
                    # Nearly all are files, no links, that go by the name of an image.
                    has_image_suffix = basename[basename.rfind(b".") :].lower() in _IMAGE_SUFFIXES
                    if has_image_suffix and entry.is_file(follow_symlinks=False):
                        status = entry.stat(follow_symlinks=False)
                        yield name, status.st_size, status.st_mtime_ns
                    elif problem := _link_problem(entry, real_root, follow_links=follow_links):
                        skipped.append(SkippedFile(display_name(name), problem))
                    elif _is_directory(entry):
                        (linked if entry.is_symlink() else pending).append(name)
                    elif (file := _image_entry(entry, name, skipped)) is not None:
                        yield file
                    else:
                        unsupported[file_suffix(display_name(name))] += 1
            linked.sort(reverse=True)
        except OSError as error:
            skipped.append(
                SkippedFile(display_name(relative) or ".", f"cannot be entered: {error.strerror}")
            )


def _link_problem(entry: os.DirEntry[bytes], root: bytes, *, follow_links: bool) -> str | None:
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


def _is_directory(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _image_entry(
    entry: os.DirEntry[bytes], name: bytes, skipped: list[SkippedFile]
) -> FileEntry | None:
    """The file, if it is taken for an image: by its ending or, without one, by its content."""
    text = display_name(entry.name)
    if not is_image_name(text):
        if "." in text:
            return None
        try:
            with open_regular_file(Path(os.fsdecode(entry.path))) as file:
                if not is_image_content(file.read(_HEADER_BYTES)):
                    return None
        except OSError:
            return None
    try:
        status = entry.stat()
    except OSError:
        skipped.append(SkippedFile(display_name(name), "is a link to nowhere"))
        return None
    return name, status.st_size, status.st_mtime_ns


def _read_file(path: bytes) -> bytes:
    with open_regular_file(Path(os.fsdecode(path))) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_FILE_BYTES:
            raise DataError(f"is {size >> 20:,} MiB large, more than an image takes")
        return file.read(MAX_FILE_BYTES)


def _name_problem(name: str) -> str | None:
    """Why a name within an archive is not to be trusted."""
    if ".." in name.split("/"):
        return "has a name that leads out of the archive"
    if file_suffix(name) in _ARCHIVE_SUFFIXES:
        return "is an archive within the archive; unpack it first"
    return None


def _has_image_header(archive: zipfile.ZipFile, name: str, info: zipfile.ZipInfo) -> bool:
    """Say whether a file without an ending is taken for an image by its content."""
    if "." in name.rpartition("/")[2]:
        return False
    try:
        with archive.open(info) as file:
            return is_image_content(file.read(_HEADER_BYTES))
    except _ZIP_ERRORS:
        return False


def _encode_name(filename: str) -> bytes:
    return filename.encode("utf-8", "surrogateescape")


_UTF8_FLAG = 0x800
_UNICODE_PATH = 0x7075
"""Of the extra field in which Info-ZIP keeps a name in UTF-8."""
_DOS_FOLDER = 0x10
_UNIX = 3
_DRIVE = re.compile(r"[A-Za-z]:/")


def member_name(info: ZipInfo) -> str:
    """Return a member's path with slashes, relative, without empty parts and dots.

    Names in UTF-8 are known by their flag, by Info-ZIP's extra field, or by being valid UTF-8; all
    others are in code page 437. A slash or a drive before them is taken off; ".." stays.
    """
    name = _decode_name(info).replace("\\", "/")
    if _DRIVE.match(name):
        name = name[2:]
    return "/".join([part for part in name.split("/") if part not in ("", ".")])


def is_folder(info: ZipInfo) -> bool:
    """Say whether a member is an entry of a folder: by its name, or by its attributes."""
    mode = info.external_attr >> 16 if info.create_system == _UNIX else 0
    marked = bool(info.external_attr & _DOS_FOLDER) and not info.file_size
    return _decode_name(info).replace("\\", "/").endswith("/") or marked or stat.S_ISDIR(mode)


def is_link(info: ZipInfo) -> bool:
    """Say whether a member is a symbolic link, whose content is the path it leads to."""
    return info.create_system == _UNIX and stat.S_ISLNK(info.external_attr >> 16)


def is_hidden(name: str) -> bool:
    """Say whether a path is one that people do not see, or what macOS adds to a zip."""
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def _decode_name(info: ZipInfo) -> str:
    name = info.orig_filename.partition("\0")[0]
    if info.flag_bits & _UTF8_FLAG:
        return name
    raw = name.encode("cp437")  # as zipfile decodes every name without the flag
    try:
        return (_unicode_path(info.extra, raw) or raw).decode("utf-8")
    except UnicodeDecodeError:
        return name


def _unicode_path(extra: bytes, raw: bytes) -> bytes | None:
    """Return the name in the extra field, if there is one that belongs to the raw name."""
    while len(extra) >= 4:
        kind, size = struct.unpack("<HH", extra[:4])
        value, extra = extra[4 : 4 + size], extra[4 + size :]
        checked = b"\1" + zlib.crc32(raw).to_bytes(4, "little")
        if kind == _UNICODE_PATH and value.startswith(checked):
            return value.removeprefix(checked)
    return None
