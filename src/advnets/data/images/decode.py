"""A picture file of any kind, brought to one size and to grey or colour."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from advnets.errors import DataError

_MOST_PIXELS = 1 << 27
"""More than cameras make: a file that unpacks to more is a bomb, or a map of a continent."""
_SPARE = 4
"""A JPEG is unpacked at a fraction of its size, but at least so many times the size wanted."""
# What Pillow's readers raise on files that are broken.
_FAULTS = (
    *(OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, AttributeError),
    *(EOFError, OverflowError, MemoryError, NotImplementedError, RuntimeError, AssertionError),
    *(ZeroDivisionError, struct.error, zlib.error, Image.DecompressionBombError),
)

Image.init()
# Some of what Pillow opens are data or films, not pictures ...
_NO_PICTURES = {"BUFR", "GRIB", "HDF5", "MPEG"}
# ... and some are drawn by another program, which must not be started on a stranger's file.
_DRAWN = {"EPS", "WMF"}
_FORMATS = [name for name in Image.ID if name not in _NO_PICTURES | _DRAWN]
SUFFIXES = frozenset(
    suffix
    for suffix, name in Image.registered_extensions().items()
    if name in Image.OPEN and name not in _NO_PICTURES
)
"""Endings of the names of picture files, in lower case."""
_PLAIN = ("JPEG", "PNG", "GIF", "WEBP")


def is_picture(path: Path) -> bool:
    """Whether a file is taken for a picture: by its ending or, where it has none, its content."""
    if path.suffix or not path.is_file():
        return path.suffix.lower() in SUFFIXES
    try:
        with Image.open(path, formats=_PLAIN):
            return True
    except _FAULTS:
        return False


def decode(path: Path, size: int, channels: int) -> UInt8[np.ndarray, "{channels} {size} {size}"]:
    """Decode a picture file to (C, size, size), values 0 to 255.

    It is turned upright (EXIF), laid over white where it is transparent, cut to a square about its
    centre and resized with Lanczos' filter. Of several frames the first is taken.

    Raises:
        DataError: the file is broken; the message is the reason alone, for a list by names.
    """
    try:
        # A pipe or a device would be waited for without end.
        if not path.is_file():
            raise DataError("is a link to nowhere" if path.is_symlink() else "is not a file")
        if not path.stat().st_size:
            raise DataError("is empty")
        with Image.open(path, formats=_FORMATS) as image:
            picture = _square(_flat(_upright(image, size), channels), size)
    except UnidentifiedImageError:
        raise DataError("is not a picture in a format that can be read") from None
    except _FAULTS as error:
        raise DataError(_reason(error)) from None
    return np.asarray(picture).reshape(size, size, channels).transpose(2, 0, 1)


def _upright(image: Image.Image, size: int) -> Image.Image:
    """The unpacked picture, turned as its EXIF data say."""
    if image.width * image.height > _MOST_PIXELS:
        raise DataError(f"would unpack to {image.width} × {image.height} pixels, a bomb")
    image.draft(None, (_SPARE * size, _SPARE * size))
    image.load()
    return ImageOps.exif_transpose(image)


def _flat(image: Image.Image, channels: int) -> Image.Image:
    """The picture in grey or colour, 8 bits a channel, nothing transparent."""
    mode = "L" if channels == 1 else "RGB"
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(_eight_bits(image)).convert(mode)
    if image.has_transparency_data:
        picture = image.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture).convert(mode)
    if image.mode in ("L", mode):
        return image.convert(mode)
    # What is neither grey nor RGB (CMYK, Lab, a palette) becomes grey by way of its colours.
    return image.convert("RGB").convert(mode)


def _eight_bits(image: Image.Image) -> UInt8[np.ndarray, "height width"]:
    """Grey of 16 bits in 8: 65,535 is white."""
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 0xFFFF:
        raise DataError(f"is grey in mode {image.mode}, whose white is not known; save it as PNG")
    # round(v · 255 / 65535), as 65535 = 255 · 257
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _square(image: Image.Image, size: int) -> Image.Image:
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    return square.resize((size, size), Image.Resampling.LANCZOS)


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"cannot be read: {text}"
