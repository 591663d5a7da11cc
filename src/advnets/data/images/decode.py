"""A picture file of any kind, brought to one frame and to grey or colour."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageColor, ImageOps, UnidentifiedImageError

from advnets.config import Framing
from advnets.errors import DataError, UsageError

_MOST_PIXELS = 1 << 26
"""More than cameras make: a file that unpacks to more is a bomb, or a map of a continent."""
_MOST_STRETCH = 64
"""Areas of the frame that an uncut picture may take."""
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
_PLAIN = ("JPEG", "PNG", "GIF", "WEBP")
# Formats are tried in turn, and these are what most files are.
_FORMATS = [
    *_PLAIN,
    *(name for name in Image.ID if name not in {*_PLAIN, *_NO_PICTURES, *_DRAWN}),
]
SUFFIXES = frozenset(
    suffix
    for suffix, name in Image.registered_extensions().items()
    if name in Image.OPEN and name not in _NO_PICTURES
)
"""Endings of the names of picture files, in lower case."""


@dataclass(frozen=True)
class Frame:
    """What every picture is brought to: a size, grey or colour, and how other shapes get there.

    Raises:
        UsageError: the background is no colour.
    """

    height: int
    width: int
    channels: Literal[1, 3] = 3
    crop: Literal["centre", "fit", "random"] = "centre"
    background: str = "white"

    def __post_init__(self) -> None:
        _ = self.colour

    @classmethod
    def of(cls, asked: Framing) -> Frame:
        """The frame that a config asks for."""
        width = asked.size if asked.width is None else asked.width
        return cls(asked.size, width, asked.channels, asked.crop, asked.background)

    @property
    def colour(self) -> tuple[int, int, int]:
        """The background as red, green and blue."""
        try:
            return ImageColor.getrgb(self.background)[:3]
        except ValueError:
            raise UsageError(
                f"background is {self.background!r}; it must be a colour such as white or '#808080'"
            ) from None


def is_picture_name(name: str) -> bool:
    """Whether a file is taken for a picture by the ending of its name."""
    return ending(name) in SUFFIXES


def ending(name: str) -> str:
    """The ending of a file's name, such as .png, in lower case; "" for none."""
    stem, dot, rest = name.rpartition(".")
    return f".{rest.lower()}" if dot and stem and "/" not in rest else ""


def is_picture_content(content: bytes) -> bool:
    """Whether a file without an ending is taken for a picture by how it begins."""
    try:
        with Image.open(io.BytesIO(content), formats=_PLAIN):
            return True
    except _FAULTS:
        return False


def decode(content: bytes, frame: Frame) -> UInt8[np.ndarray, "channels height width"]:
    """Decode a picture file to (C, H, W), values 0 to 255.

    It is turned upright (EXIF), resized with Lanczos' filter so that it covers the frame and cut
    about its centre (`crop` "centre"), or fitted whole upon the background ("fit"), or left uncut
    ("random"), its height or width then being larger than the frame's; and laid over the background
    where it is transparent. Of several frames the first is taken.

    Raises:
        DataError: the file is broken; the message is the reason alone, for a list by names.
    """
    if not content:
        raise DataError("is empty")
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            picture = _flat(_placed(_upright(image, frame), frame), frame)
            return np.asarray(picture).reshape(*picture.size[::-1], -1).transpose(2, 0, 1)
    except UnidentifiedImageError:
        raise DataError("is not a picture in a format that can be read") from None
    except _FAULTS as error:
        raise DataError(_reason(error)) from None


@dataclass(frozen=True)
class Look:
    """What an audit sees of a picture file, besides what it decodes to."""

    format: str
    mode: str
    width: int
    height: int


def look(content: bytes, frame: Frame) -> tuple[Look, UInt8[np.ndarray, "channels height width"]]:
    """What kind of picture a file holds, as it says and upright, and what it decodes to.

    Raises:
        DataError: as for `decode`.
    """
    decoded = decode(content, frame)
    with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
        width, height = image.size
        # EXIF orientations 5 to 8 lie on their side.
        if image.getexif().get(0x0112, 1) in (5, 6, 7, 8):
            width, height = height, width
        return Look(str(image.format), image.mode, width, height), decoded


def image_of(row: np.ndarray, white: int) -> Image.Image:
    """A picture of a set that is arrays already, (channels, height, width), in 8 bits."""
    pixels = (row.astype(np.float32) * (255 / white)).round().astype(np.uint8)
    return Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))


def _upright(image: Image.Image, frame: Frame) -> Image.Image:
    """The unpacked picture, turned as its EXIF data say, in a mode that can be resized."""
    image.draft(None, (_SPARE * frame.width, _SPARE * frame.height))
    if image.width * image.height > _MOST_PIXELS:
        raise DataError(f"would unpack to {image.width} × {image.height} pixels, a bomb")
    image.load()
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(_eight_bits(image))
    if image.has_transparency_data:
        return image.convert("RGBA")
    # What is neither grey nor RGB (CMYK, Lab, a palette) becomes grey by way of its colours.
    return _in_mode(image, "L" if image.mode in ("1", "L") else "RGB")


def _placed(image: Image.Image, frame: Frame) -> Image.Image:
    """The picture in the frame's size, or covering it where it is to be left uncut."""
    width, height = image.size
    if image.size == (frame.width, frame.height):
        return image
    across, down = frame.width / width, frame.height / height
    if frame.crop == "centre":
        wide = min(width, max(1, round(frame.width / down)))
        high = min(height, max(1, round(frame.height / across)))
        left, top = (width - wide) // 2, (height - high) // 2
        return _resized(image.crop((left, top, left + wide, top + high)), frame.width, frame.height)
    scale = min(across, down) if frame.crop == "fit" else max(across, down)
    wide, high = max(1, round(width * scale)), max(1, round(height * scale))
    if wide * high > _MOST_STRETCH * frame.width * frame.height:
        raise DataError(f"is {width} × {height} pixels, too long to be cut at random")
    resized = _resized(image, wide, high)
    if frame.crop == "random":
        return resized
    canvas = Image.new("RGB", (frame.width, frame.height), frame.colour)
    where = (frame.width - wide) // 2, (frame.height - high) // 2
    canvas.paste(resized, where, resized if resized.mode == "RGBA" else None)
    return canvas


def _resized(image: Image.Image, width: int, height: int) -> Image.Image:
    if image.size == (width, height):
        return image
    return image.resize((width, height), Image.Resampling.LANCZOS)


def _flat(image: Image.Image, frame: Frame) -> Image.Image:
    """The picture in grey or colour, 8 bits a channel, nothing transparent."""
    mode = "L" if frame.channels == 1 else "RGB"
    if image.mode == "RGBA":
        canvas = Image.new("RGB", image.size, frame.colour)
        canvas.paste(image, mask=image)
        image = canvas
    return _in_mode(image, mode)


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    return image if image.mode == mode else image.convert(mode)


def _eight_bits(image: Image.Image) -> UInt8[np.ndarray, "height width"]:
    """Grey of 16 bits in 8: 65,535 is white."""
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 0xFFFF:
        raise DataError(f"is grey in mode {image.mode}, whose white is not known; save it as PNG")
    # round(v · 255 / 65535), as 65535 = 255 · 257
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"cannot be read: {text}"
