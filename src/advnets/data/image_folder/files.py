"""Image files in a folder, flat or nested, or in a zip: listed first, read later."""

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
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
"""The largest image file that is read, in bytes, unpacked."""
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
"""The name of a file within its folder, its size in bytes, and its time of change in ns."""


@runtime_checkable
class Reader(Protocol):
    """A reader of files by key; it is pickled and sent to the worker processes."""

    def read(self, keys: Sequence[bytes]) -> Iterator[bytes | DataError]:
        """Yield the content of each file, or the error that explains why it cannot be read."""
        ...


@dataclass(frozen=True)
class ImageFiles:
    """Image files that were listed but not read.

    `location` is the path or name of the dataset, `keys` are the names of the files in it,
    `fingerprint` identifies their contents, `num_bytes` is their total size. `declared` are their
    splits and classes; None: these are inferred from the names. `unsupported_files` counts the
    files that are not images, by suffix.
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
        """Return the declared splits and classes of some files, ignoring all others."""
        if self.declared is not None:
            return self.declared.subset(indices)
        return splits_from_folders([self.keys[number] for number in indices])


@dataclass(frozen=True)
class FolderReader:
    """A reader of files of a folder by their names within it."""

    root: Path

    def read(self, keys: Sequence[bytes]) -> Iterator[bytes | DataError]:
        """Yield the content of each file, or the error that explains why it cannot be read."""
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
    """A reader of files of a zip by their names within it."""

    path: Path

    def read(self, keys: Sequence[bytes]) -> Iterator[bytes | DataError]:
        """Yield the content of each file, or the error that explains why it cannot be read."""
        archive, members = _open_zip(self.path, self.path.stat().st_mtime_ns)
        for key in keys:
            try:
                info = members[key]
                if info.flag_bits & 1:
                    raise DataError("is encrypted")
                with archive.open(info) as file:
                    content = file.read(MAX_FILE_BYTES + 1)
                if len(content) > MAX_FILE_BYTES:
                    raise DataError(
                        f"unpacks to more than {MAX_FILE_BYTES >> 20} MiB, a decompression bomb"
                    )
                yield content
            except DataError as error:
                yield error
            except _ZIP_ERRORS as error:
                yield DataError(f"cannot be unpacked: {error or type(error).__name__}")


@lru_cache(maxsize=4)
def _open_zip(
    path: Path,
    mtime_ns: int,  # noqa: ARG001 - a changed file is another key of the cache
) -> tuple[zipfile.ZipFile, dict[bytes, zipfile.ZipInfo]]:
    """Open a zip and list its files by name; of several with one name, the last is used."""
    archive = zipfile.ZipFile(path)
    files = [info for info in archive.infolist() if not is_folder(info)]
    return archive, {_encode_name(member_name(info)): info for info in files}


def list_folder(root: Path, *, follow_links: bool = False) -> ImageFiles:
    """List the image files in a folder and its subfolders.

    Each folder is read once, even if links lead to it. Hidden files are ignored. Symbolic links
    that lead out of the folder are in `skipped_files`, unless `follow_links`.
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
    """List the image files in a zip, without unpacking it to disk.

    Raises:
        DataError: the file is not a zip or cannot be read.
    """
    try:
        status = require_regular_file(path)
        archive, members = _open_zip(path, status.st_mtime_ns)
    except _ZIP_ERRORS as error:
        raise DataError(
            f"{path} is not a zip file that can be read ({error}); copy or download it again"
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
    """Return a BLAKE2b digest, in hex, of the names, sizes and times of change of files."""
    listing = b"".join([b"%b\0%d %d\n" % file for file in files])
    return hashlib.blake2b(listing, digest_size=16).hexdigest()


def _walk_folder(
    root: bytes, skipped: list[SkippedFile], unsupported: Counter[str], *, follow_links: bool
) -> Iterator[FileEntry]:
    """Yield the image files of a folder; add skipped files and count unsupported ones."""
    visited: dict[tuple[int, int], bytes] = {}
    real_root = os.path.realpath(root)
    # Follow links to folders last, so that folders within are listed by their own names.
    pending, pending_links = [b""], list[bytes]()
    while pending or pending_links:
        relative = pending.pop() if pending else pending_links.pop()
        folder = os.path.join(root, relative)  # noqa: PTH118
        try:
            status = os.stat(folder)  # noqa: PTH116
            identity = (status.st_dev, status.st_ino)
            if identity in visited:
                original = display_name(visited[identity]) or "the folder itself"
                skipped.append(
                    SkippedFile(
                        display_name(relative), f"is a link to {original}, which was already read"
                    )
                )
                continue
            visited[identity] = relative
            with os.scandir(folder) as entries_iterator:
                entries = list(entries_iterator)
                if {entry.name for entry in entries} >= _RUN_FILES:
                    skipped.append(
                        SkippedFile(
                            display_name(relative) or ".",
                            "is a run directory, whose images are plots and samples",
                        )
                    )
                    continue
                for entry in entries:
                    basename = entry.name
                    if basename.startswith(b".") or basename == b"__MACOSX":
                        continue
                    name = b"%b/%b" % (relative, basename) if relative else basename
                    # Fast path: regular files with the suffix of an image.
                    has_image_suffix = basename[basename.rfind(b".") :].lower() in _IMAGE_SUFFIXES
                    if has_image_suffix and entry.is_file(follow_symlinks=False):
                        status = entry.stat(follow_symlinks=False)
                        yield name, status.st_size, status.st_mtime_ns
                    elif problem := _link_problem(entry, real_root, follow_links=follow_links):
                        skipped.append(SkippedFile(display_name(name), problem))
                    elif _is_directory(entry):
                        (pending_links if entry.is_symlink() else pending).append(name)
                    elif (file := _image_entry(entry, name, skipped)) is not None:
                        yield file
                    else:
                        unsupported[file_suffix(display_name(name))] += 1
            pending_links.sort(reverse=True)
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
            return f"is a link into {system.decode()}, which has no images"
    return None


def is_within(path: bytes, folder: bytes) -> bool:
    """Return whether a real path is a folder or inside it."""
    return path == folder or path.startswith(folder.rstrip(b"/") + b"/")


def _is_directory(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _image_entry(
    entry: os.DirEntry[bytes], name: bytes, skipped: list[SkippedFile]
) -> FileEntry | None:
    """Return the file if it is an image: by its suffix or, without one, by its first bytes."""
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
        skipped.append(SkippedFile(display_name(name), "is a broken link"))
        return None
    return name, status.st_size, status.st_mtime_ns


def _read_file(path: bytes) -> bytes:
    with open_regular_file(Path(os.fsdecode(path))) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_FILE_BYTES:
            raise DataError(
                f"is {size >> 20:,} MiB large; expected at most {MAX_FILE_BYTES >> 20} MiB"
            )
        return file.read(MAX_FILE_BYTES)


def _name_problem(name: str) -> str | None:
    """Return why a file in an archive is skipped because of its name, or None."""
    if ".." in name.split("/"):
        return "has a name that leads out of the archive"
    if file_suffix(name) in _ARCHIVE_SUFFIXES:
        return "is an archive within the archive; unpack it first"
    return None


def _has_image_header(archive: zipfile.ZipFile, name: str, info: zipfile.ZipInfo) -> bool:
    """Return whether a file without a suffix is an image by its first bytes."""
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
"""The ID of the extra field in which Info-ZIP stores a name in UTF-8."""
_DOS_FOLDER = 0x10
_UNIX = 3
_DRIVE = re.compile(r"[A-Za-z]:/")


def member_name(info: ZipInfo) -> str:
    """Return the path of a zip member with slashes, relative, without empty parts and dots.

    Names in UTF-8 are recognized by their flag, by Info-ZIP's extra field, or by being valid UTF-8;
    all others are in code page 437. A leading slash or drive is removed; ".." is kept.
    """
    name = _decode_name(info).replace("\\", "/")
    if _DRIVE.match(name):
        name = name[2:]
    return "/".join([part for part in name.split("/") if part not in ("", ".")])


def is_folder(info: ZipInfo) -> bool:
    """Return whether a member is a folder: by its name, or by its attributes."""
    mode = info.external_attr >> 16 if info.create_system == _UNIX else 0
    marked = bool(info.external_attr & _DOS_FOLDER) and not info.file_size
    return _decode_name(info).replace("\\", "/").endswith("/") or marked or stat.S_ISDIR(mode)


def is_link(info: ZipInfo) -> bool:
    """Return whether a member is a symbolic link, whose content is the path of its target."""
    return info.create_system == _UNIX and stat.S_ISLNK(info.external_attr >> 16)


def is_hidden(name: str) -> bool:
    """Return whether a path is hidden, or metadata that macOS adds to a zip."""
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def _decode_name(info: ZipInfo) -> str:
    name = info.orig_filename.partition("\0")[0]
    if info.flag_bits & _UTF8_FLAG:
        return name
    raw = name.encode("cp437")  # zipfile decodes names without the flag as code page 437
    try:
        return (_unicode_path(info.extra, raw) or raw).decode("utf-8")
    except UnicodeDecodeError:
        return name


def _unicode_path(extra: bytes, raw: bytes) -> bytes | None:
    """Return the name in Info-ZIP's extra field, if there is one that belongs to the raw name."""
    while len(extra) >= 4:
        kind, size = struct.unpack("<HH", extra[:4])
        value, extra = extra[4 : 4 + size], extra[4 + size :]
        checked = b"\1" + zlib.crc32(raw).to_bytes(4, "little")
        if kind == _UNICODE_PATH and value.startswith(checked):
            return value.removeprefix(checked)
    return None


# Formats of files that are not read, recognized by their suffixes.

_FORMATS = {
    "HEIC": ".heic .heif .heics .heifs .hif",
    "camera RAW": (
        ".3fr .arw .bay .cap .cr2 .cr3 .crw .dcr .dcs .dng .erf .fff .gpr .iiq .k25 .kdc .mdc .mef "
        ".mos .mrw .nef .nrw .orf .pef .ptx .r3d .raf .raw .rw2 .rwl .sr2 .srf .srw .x3f"
    ),
    "SVG": ".svg .svgz",
    "PDF": ".pdf",
    "Illustrator": ".ai",
    "Photoshop": ".psb",
    "GIMP": ".xcf",
    "Krita": ".kra",
    "Affinity": ".afphoto",
    "JPEG XL": ".jxl",
    "JPEG XR": ".jxr .wdp .hdp",
    "OpenEXR": ".exr",
    "Radiance": ".hdr",
    "DICOM": ".dcm .dicom",
    "NIfTI": ".nii",
    "DjVu": ".djvu .djv",
    "video": ".avi .m4v .mkv .mov .mp4 .mpeg .mpg .webm .wmv",
}
_FORMAT_OF = {suffix: name for name, suffixes in _FORMATS.items() for suffix in suffixes.split()}


def count_by_format(suffixes: Mapping[str, int]) -> tuple[dict[str, int], dict[str, int]]:
    """Count files by format, given their number by suffix.

    Returns:
        the counts of formats that hold images and would have to be converted, such as HEIC; and
        those of all other suffixes.
    """
    images, others = Counter[str](), Counter[str]()
    for suffix, count in suffixes.items():
        if suffix in _FORMAT_OF:
            images[_FORMAT_OF[suffix]] += count
        else:
            others[suffix or "without suffix"] += count
    return _sort_by_count(images), _sort_by_count(others)


def _sort_by_count(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0].casefold())))


def describe_unsupported(suffixes: Mapping[str, int]) -> list[str]:
    """Return at most two lines on unsupported files, given their number by suffix."""
    images, others = count_by_format(suffixes)
    lines: list[str] = []
    if images:
        lines.append(
            f"unsupported image formats: {format_counts(images)}; convert them to PNG or JPEG"
        )
    if others:
        lines.append(f"unsupported files: {format_counts(others)}")
    return lines


def format_counts(counts: Mapping[str, int], max_names: int = 10) -> str:
    """Return names with their counts in one line, at most `max_names`, the most frequent first."""
    shown = [f"{name} {count:,}" for name, count in list(counts.items())[:max_names]]
    more = [f"{len(counts) - max_names:,} more"] if len(counts) > max_names else []
    return ", ".join(shown + more)
