"""An image file of any kind, brought to one frame and to gray or color."""

from __future__ import annotations

import io
import struct
import zlib
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageColor, ImageFile, UnidentifiedImageError

from advnets.config import ImagePreprocessing
from advnets.data.datasets.formats.limits import is_bomb
from advnets.errors import DataError, UsageError

_MAX_PIXELS = 1 << 27
"""More than cameras make: a file that unpacks to more is a bomb, or a map of a continent."""
_MIN_BOMB_PIXELS = 1 << 26
"""From here on a file is taken for a bomb if it packs pixels closer than images can be packed."""
_MAX_16_BIT = 0xFFFF
_SWAP_SIDES = {
    *(Image.Transpose.TRANSPOSE, Image.Transpose.ROTATE_270),
    *(Image.Transpose.TRANSVERSE, Image.Transpose.ROTATE_90),
}
_MAX_UNCROPPED_AREA = 64
"""Areas of the frame that an uncut image may take."""
_DRAFT_SCALE = 4
"""A JPEG is unpacked at a fraction of its size, but at least so many times the size wanted."""
# What Pillow's readers raise on files that are broken.
_PILLOW_ERRORS = (
    *(OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, AttributeError),
    *(EOFError, OverflowError, MemoryError, NotImplementedError, RuntimeError, AssertionError),
    *(ZeroDivisionError, struct.error, zlib.error, Image.DecompressionBombError),
)

Image.init()
# Some of what Pillow opens are data or films, not images ...
_NON_IMAGE_FORMATS = {"BUFR", "GRIB", "HDF5", "MPEG"}
# ... and some are drawn by another program, which must not be started on a stranger's file.
_EXTERNAL_FORMATS = {"EPS", "WMF"}
_COMMON_FORMATS = ("JPEG", "PNG", "GIF", "WEBP")
# Formats are tried in turn, and these are what most files are.
_FORMATS = [
    *_COMMON_FORMATS,
    *(
        name
        for name in Image.ID
        if name not in {*_COMMON_FORMATS, *_NON_IMAGE_FORMATS, *_EXTERNAL_FORMATS}
    ),
]
SUFFIXES = frozenset(
    suffix
    for suffix, name in Image.registered_extensions().items()
    if name in Image.OPEN and name not in _NON_IMAGE_FORMATS
)
"""Endings of the names of image files, in lower case."""


@dataclass(frozen=True)
class Frame:
    """What every image is brought to: a size, gray or color, and how other shapes get there.

    Raises:
        UsageError: the background is no color.
    """

    height: int
    width: int
    channels: Literal[1, 3] = 3
    crop: Literal["center", "pad", "random"] = "center"
    background: str = "white"
    white_level: float | None = None

    def __post_init__(self) -> None:
        _ = self.background_rgb

    def __repr__(self) -> str:
        # Written as before there were white levels, as packs and streams are known by this text.
        names = [field.name for field in fields(self)]
        shown = [name for name in names if name != "white_level" or self.white_level is not None]
        return f"Frame({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"

    @classmethod
    def from_config(cls, config: ImagePreprocessing) -> Frame:
        """The frame that a config asks for."""
        width = config.size if config.width is None else config.width
        return cls(
            config.size, width, config.channels, config.crop, config.background, config.white_level
        )

    @property
    def background_rgb(self) -> tuple[int, int, int]:
        """The background as red, green and blue."""
        try:
            return ImageColor.getrgb(self.background)[:3]
        except ValueError:
            raise UsageError(
                f"background is {self.background!r}; it must be a color such as white or '#808080'"
            ) from None


def is_image_name(name: str) -> bool:
    """Whether a file is taken for an image by the ending of its name."""
    return file_suffix(name) in SUFFIXES


def file_suffix(name: str) -> str:
    """The ending of a file's name, such as .png, in lower case; "" for none."""
    stem, dot, rest = name.rpartition(".")
    return f".{rest.lower()}" if dot and stem and "/" not in rest else ""


def is_image_content(content: bytes) -> bool:
    """Whether a file without an ending is taken for an image by how it begins."""
    try:
        with Image.open(io.BytesIO(content), formats=_COMMON_FORMATS):
            return True
    except _PILLOW_ERRORS:
        return False


def decode(content: bytes, frame: Frame) -> UInt8[np.ndarray, "channels height width"]:
    """Decode an image file to (C, H, W), values 0 to 255.

    It is turned upright (EXIF), resized with Lanczos' filter so that it covers the frame and cut
    about its center (`crop` "center"), or fitted whole upon the background ("pad"), or left uncut
    ("random"), its height or width then being larger than the frame's; and laid over the background
    where it is transparent. Of several frames the first is taken.

    Raises:
        DataError: the file is broken; the message is the reason alone, for a list by names.
    """
    return decode_with_info(content, frame)[1]


@dataclass(frozen=True)
class ImageInfo:
    """What an audit sees of an image file, besides what it decodes to."""

    format: str
    mode: str
    width: int
    height: int
    value_range: tuple[float, float] | None = None
    """Of a file with more than 8 bits a channel: the least and the largest of its values."""


def decode_with_info(
    content: bytes, frame: Frame
) -> tuple[ImageInfo, UInt8[np.ndarray, "channels height width"]]:
    """Return what kind of image a file holds, as it says and upright, and what it decodes to.

    Raises:
        DataError: as for `decode`.
    """
    if not content:
        raise DataError("is empty")
    try:
        return _decode(content, frame)
    except DataError:
        bare = strip_metadata(content)
        if bare is None or bare == content:
            raise
        with suppress(DataError):
            return _decode(bare, frame)
        raise


def _decode(
    content: bytes, frame: Frame
) -> tuple[ImageInfo, UInt8[np.ndarray, "channels height width"]]:
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            kind, mode, size = str(image.format), image.mode, image.size
            deep = has_16_bit_colors(image)
            unpacked, turned = _load_upright(image, frame, len(content))
            levels = _value_range(unpacked, has_16_bit_colors=deep)
            if levels is not None:
                unpacked = _to_eight_bits(
                    unpacked, frame.white_level, levels, has_16_bit_colors=deep
                )
            framed = _flatten(_fit_frame(_to_resizable_mode(unpacked), frame), frame)
            pixels = np.asarray(framed).reshape(*framed.size[::-1], -1).transpose(2, 0, 1)
            width, height = size[::-1] if turned in _SWAP_SIDES else size
            return ImageInfo(kind, mode, width, height, levels), pixels
    except UnidentifiedImageError:
        raise DataError("is not an image in a format that can be read") from None
    except _PILLOW_ERRORS as error:
        raise DataError(_describe_error(error)) from None


def to_pil_image(row: np.ndarray, white_level: int) -> Image.Image:
    """An image of a set that is arrays already, (channels, height, width), in 8 bits."""
    pixels = (row.astype(np.float32) * (255 / white_level)).round().astype(np.uint8)
    return Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))


def _load_upright(
    image: Image.Image, frame: Frame, packed: int
) -> tuple[Image.Image, Image.Transpose | None]:
    """Return the unpacked image, turned as its EXIF data say, and how it was turned."""
    image.draft(None, (_DRAFT_SCALE * frame.width, _DRAFT_SCALE * frame.height))
    pixels = image.width * image.height
    if pixels > _MAX_PIXELS or is_bomb(packed, pixels, _MIN_BOMB_PIXELS):
        raise DataError(f"would unpack to {image.width} × {image.height} pixels, a bomb")
    image.load()
    turned = exif_transposition(image)
    return (image if turned is None else image.transpose(turned)), turned


def _to_resizable_mode(image: Image.Image) -> Image.Image:
    """Return the image in a mode that can be resized."""
    if image.has_transparency_data:
        return image.convert("RGBA")
    # What is neither gray nor RGB (CMYK, Lab, a palette) becomes gray by way of its colors.
    return _convert(image, "L" if image.mode in ("1", "L") else "RGB")


def _fit_frame(image: Image.Image, frame: Frame) -> Image.Image:
    """The image in the frame's size, or covering it where it is to be left uncut."""
    width, height = image.size
    if image.size == (frame.width, frame.height):
        return image
    across, down = frame.width / width, frame.height / height
    if frame.crop == "center":
        wide = min(width, max(1, round(frame.width / down)))
        high = min(height, max(1, round(frame.height / across)))
        left, top = (width - wide) // 2, (height - high) // 2
        return _resize(image.crop((left, top, left + wide, top + high)), frame.width, frame.height)
    scale = min(across, down) if frame.crop == "pad" else max(across, down)
    wide, high = max(1, round(width * scale)), max(1, round(height * scale))
    if wide * high > _MAX_UNCROPPED_AREA * frame.width * frame.height:
        raise DataError(f"is {width} × {height} pixels, too long to be cut at random")
    resized = _resize(image, wide, high)
    if frame.crop == "random":
        return resized
    canvas = Image.new("RGB", (frame.width, frame.height), frame.background_rgb)
    where = (frame.width - wide) // 2, (frame.height - high) // 2
    canvas.paste(resized, where, resized if resized.mode == "RGBA" else None)
    return canvas


def _resize(image: Image.Image, width: int, height: int) -> Image.Image:
    if image.size == (width, height):
        return image
    return image.resize((width, height), Image.Resampling.LANCZOS)


def _flatten(image: Image.Image, frame: Frame) -> Image.Image:
    """The image in gray or color, 8 bits a channel, nothing transparent."""
    mode = "L" if frame.channels == 1 else "RGB"
    if image.mode == "RGBA":
        canvas = Image.new("RGB", image.size, frame.background_rgb)
        canvas.paste(image, mask=image)
        image = canvas
    return _convert(image, mode)


def _convert(image: Image.Image, mode: str) -> Image.Image:
    return image if image.mode == mode else image.convert(mode)


def _value_range(image: Image.Image, *, has_16_bit_colors: bool) -> tuple[float, float] | None:
    """Return the least and the largest value of an image of more than 8 bits a channel."""
    if not has_16_bit_colors and image.mode != "F" and not image.mode.startswith("I"):
        return None
    values = np.asarray(image)
    if image.getbands()[-1] == "A":
        values = values[..., :-1]
    scale = _MAX_16_BIT // 255 if has_16_bit_colors else 1
    return float(values.min()) * scale, float(values.max()) * scale


def _to_eight_bits(
    image: Image.Image,
    white_level: float | None,
    value_range: tuple[float, float],
    *,
    has_16_bit_colors: bool,
) -> Image.Image:
    """Return an image of 8 bits a channel, in which `white` (None: 65,535) becomes 255.

    Colors of 16 bits were read as their upper 8.
    """
    if has_16_bit_colors:
        if white_level is None:
            return image
        upper = max(1, int(white_level) >> 8)  # what is left of white in the upper 8 bits
        color = [min(255, round(level * 255 / upper)) for level in range(256)]
        tables = [range(256) if band == "A" else color for band in image.getbands()]
        return image.point([level for table in tables for level in table])
    low, high = value_range
    if not low - low == high - high == 0:
        raise DataError("holds values that are not finite")
    values = np.asarray(image)
    if white_level is not None:
        scaled = values.astype(np.float64) * (255 / white_level)
        return Image.fromarray(scaled.clip(0, 255).round().astype(np.uint8))
    if image.mode == "F" or low < 0 or high > _MAX_16_BIT:
        raise DataError(
            f"is gray in mode {image.mode} with values from {low:g} to {high:g}, whose white is "
            f"not known; give its value as --white-level"
        )
    # round(v · 255 / 65535), as 65535 = 255 · 257
    return Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))


def _describe_error(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"cannot be read: {text}"


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
