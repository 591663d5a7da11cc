"""Names of a zip's members as a folder would have them, whichever program wrote the zip."""

from __future__ import annotations

import re
import stat
import struct
import zlib
from zipfile import ZipInfo

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
