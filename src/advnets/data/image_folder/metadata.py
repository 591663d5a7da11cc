"""What a PNG or JPEG file says besides its pixels, and the file without that.

An image whose pixels are whole is used, however broken or large its color profile, its texts or
its EXIF data are.
"""

from __future__ import annotations

import struct
import zlib

from PIL import Image, ImageFile

_PNG = b"\x89PNG\r\n\x1a\n"
_KEPT_CHUNKS = (b"tRNS", b"eXIf")
"""Ancillary chunks of PNG that change the pixels: which are transparent, and which way is up."""
_JPEG = b"\xff\xd8"
_SCAN, _COMMENT = 0xDA, 0xFE
_JFIF, _EXIF, _ADOBE = 0xE0, 0xE1, 0xEE
_MIN_JFIF_BYTES = 14
_ORIENTATION = 0x0112
_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def exif_transposition(image: Image.Image) -> Image.Transpose | None:
    """Return what turns an image upright by its EXIF data; None where they are absent or broken."""
    try:
        return _TRANSPOSITIONS.get(image.getexif().get(_ORIENTATION, 1))
    except (SyntaxError, ValueError, TypeError, KeyError, IndexError, OSError, struct.error):
        return None


def strip_metadata(content: bytes) -> bytes | None:
    """Return a PNG or JPEG file without what its pixels do not need; None for another file."""
    if content.startswith(_PNG):
        return _strip_png(content)
    return _strip_jpeg(content) if content.startswith(_JPEG) else None


def _strip_png(content: bytes) -> bytes:
    """Keep the critical chunks, whose names begin with a capital, and a few others if whole."""
    kept, start = [_PNG], len(_PNG)
    while start + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, start)
        chunk = content[start : start + 12 + length]
        kind = chunk[4:8]
        whole = chunk[-4:] == struct.pack(">I", zlib.crc32(chunk[4:-4]))
        if kind[:1].isupper() or (kind in _KEPT_CHUNKS and whole):
            kept.append(chunk)
        start += 12 + length
    return b"".join([*kept, content[start:]])


def _strip_jpeg(content: bytes) -> bytes:
    """Keep all segments before the first scan but comments and those of applications."""
    kept, start = [_JPEG], len(_JPEG)
    while start + 4 <= len(content) and content[start] == 0xFF and content[start + 1] != _SCAN:
        (length,) = struct.unpack_from(">H", content, start + 2)
        marker, segment = content[start + 1], content[start : start + 2 + length]
        foreign = marker == _COMMENT or 0xE0 <= marker <= 0xEF
        if not foreign or _is_kept_segment(marker, segment):
            kept.append(segment)
        start += 2 + length
    return b"".join([*kept, content[start:]])


def _is_kept_segment(marker: int, segment: bytes) -> bool:
    """Whether an application's segment says how pixels are to be read or turned."""
    if marker == _JFIF:
        return len(segment) >= _MIN_JFIF_BYTES
    return marker == _ADOBE or (marker == _EXIF and segment[4:10] == b"Exif\0\0")


def has_16_bit_colors(image: ImageFile.ImageFile) -> bool:
    """Return whether a file, not unpacked yet, has colors of 16 bits, read as their upper 8."""
    return image.mode not in ("I;16", "I;16B", "I", "F") and any(
        ";16" in str(tile.args) for tile in image.tile
    )
