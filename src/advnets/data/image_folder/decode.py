"""Decoding of image files of any format to one size, in grayscale or RGB.

An image with intact pixels is decoded even if its color profile, text chunks or EXIF data are
broken or large.
"""

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
from advnets.errors import DataError, UsageError
from advnets.files import is_decompression_bomb

_MAX_PIXELS = 1 << 27
"""The largest image that is decoded, in pixels: larger than what cameras produce."""
_MIN_BOMB_PIXELS = 1 << 26
"""The size, in pixels, above which a file with an implausible compression ratio is rejected."""
_MAX_16_BIT = 0xFFFF
_SWAP_SIDES = {
    *(Image.Transpose.TRANSPOSE, Image.Transpose.ROTATE_270),
    *(Image.Transpose.TRANSVERSE, Image.Transpose.ROTATE_90),
}
_MAX_UNCROPPED_AREA = 64
"""The largest area of an uncropped image, as a multiple of the frame's area."""
_DRAFT_SCALE = 4
"""JPEG files are decoded at a reduced size of at least this multiple of the frame's size."""
# The exceptions that Pillow's readers raise on broken files.
_PILLOW_ERRORS = (
    *(OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, AttributeError),
    *(EOFError, OverflowError, MemoryError, NotImplementedError, RuntimeError, AssertionError),
    *(ZeroDivisionError, struct.error, zlib.error, Image.DecompressionBombError),
)

Image.init()
# Formats of data or video that Pillow opens too.
_NON_IMAGE_FORMATS = {"BUFR", "GRIB", "HDF5", "MPEG"}
# Formats that Pillow renders with an external program, which is unsafe for untrusted files.
_EXTERNAL_FORMATS = {"EPS", "WMF"}
_COMMON_FORMATS = ("JPEG", "PNG", "GIF", "WEBP")
# Formats are tried in turn, the most frequent ones first.
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
"""The suffixes of image files, in lower case."""


@dataclass(frozen=True)
class Frame:
    """The size, color mode and cropping that every image is decoded to.

    `height` and `width` are in pixels; `channels` is 1 for grayscale, 3 for RGB. `crop` is the
    treatment of other aspect ratios: "center" covers the frame and crops the center, "pad" fits the
    whole image onto `background`, "random" covers the frame and is cropped at random in training.
    `white_level` is the value of 16-bit images that is white (None: 65,535).

    Raises:
        UsageError: the background is not a color.
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
        # Packs and streams are identified by this text, which omits the default white level.
        names = [field.name for field in fields(self)]
        included = [name for name in names if name != "white_level" or self.white_level is not None]
        return f"Frame({', '.join(f'{name}={getattr(self, name)!r}' for name in included)})"

    @classmethod
    def from_config(cls, config: ImagePreprocessing) -> Frame:
        """Return the frame of a config; its width defaults to its size."""
        width = config.size if config.width is None else config.width
        return cls(
            config.size, width, config.channels, config.crop, config.background, config.white_level
        )

    @property
    def background_rgb(self) -> tuple[int, int, int]:
        """The red, green and blue values of the background."""
        try:
            return ImageColor.getrgb(self.background)[:3]
        except ValueError:
            raise UsageError(
                f"expected a color such as white or '#808080' as background, got "
                f"{self.background!r}; give another --background"
            ) from None


def is_image_name(name: str) -> bool:
    """Return whether a file has the suffix of an image."""
    return file_suffix(name) in SUFFIXES


def file_suffix(name: str) -> str:
    """Return the suffix of a file name, such as .png, in lower case; "" for none."""
    stem, dot, rest = name.rpartition(".")
    return f".{rest.lower()}" if dot and stem and "/" not in rest else ""


def is_image_content(content: bytes) -> bool:
    """Return whether the first bytes of a file are those of a JPEG, PNG, GIF or WebP image."""
    try:
        with Image.open(io.BytesIO(content), formats=_COMMON_FORMATS):
            return True
    except _PILLOW_ERRORS:
        return False


def decode(content: bytes, frame: Frame) -> UInt8[np.ndarray, "channels height width"]:
    """Decode an image file to an array of shape (C, H, W) with values 0 to 255.

    The image is rotated as its EXIF data say, resized with a Lanczos filter, cropped or padded as
    `frame.crop` says, and composited over the background where it is transparent. With "random" it
    is left uncropped: its height or width is then larger than the frame's. Of an
    animation, the first frame is decoded.

    Raises:
        DataError: the file is broken; the message is the reason alone, to follow a file name.
    """
    return decode_with_info(content, frame)[1]


@dataclass(frozen=True)
class ImageInfo:
    """The format, color mode, size in pixels and value range of an image file."""

    format: str
    mode: str
    width: int
    height: int
    value_range: tuple[float, float] | None = None
    """The smallest and the largest value of an image of more than 8 bits per channel, else None."""


def decode_with_info(
    content: bytes, frame: Frame
) -> tuple[ImageInfo, UInt8[np.ndarray, "channels height width"]]:
    """Decode an image file; return its properties, of the upright image, and its pixels.

    Raises:
        DataError: as for `decode`.
    """
    if not content:
        raise DataError("is empty")
    try:
        return _decode(content, frame)
    except DataError:
        # Broken metadata are no reason to reject intact pixels.
        stripped = strip_metadata(content)
        if stripped is None or stripped == content:
            raise
        with suppress(DataError):
            return _decode(stripped, frame)
        raise


def _decode(
    content: bytes, frame: Frame
) -> tuple[ImageInfo, UInt8[np.ndarray, "channels height width"]]:
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            format_name, mode, size = str(image.format), image.mode, image.size
            is_16_bit = has_16_bit_colors(image)
            loaded, transposition = _load_upright(image, frame, len(content))
            value_range = _value_range(loaded, has_16_bit_colors=is_16_bit)
            if value_range is not None:
                loaded = _to_eight_bits(
                    loaded, frame.white_level, value_range, has_16_bit_colors=is_16_bit
                )
            framed = _flatten(_fit_frame(_to_resizable_mode(loaded), frame), frame)
            pixels = np.asarray(framed).reshape(*framed.size[::-1], -1).transpose(2, 0, 1)
            width, height = size[::-1] if transposition in _SWAP_SIDES else size
            return ImageInfo(format_name, mode, width, height, value_range), pixels
    except UnidentifiedImageError:
        raise DataError("is not an image in a format that can be read") from None
    except _PILLOW_ERRORS as error:
        raise DataError(_describe_error(error)) from None


def to_pil_image(row: np.ndarray, white_level: int) -> Image.Image:
    """Return an image array, (channels, height, width) with values to `white_level`, in 8 bits."""
    pixels = (row.astype(np.float32) * (255 / white_level)).round().astype(np.uint8)
    return Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))


def _load_upright(
    image: Image.Image, frame: Frame, num_bytes: int
) -> tuple[Image.Image, Image.Transpose | None]:
    """Load an image, rotate it as its EXIF data say, and return the transposition applied too."""
    image.draft(None, (_DRAFT_SCALE * frame.width, _DRAFT_SCALE * frame.height))
    pixels = image.width * image.height
    if pixels > _MAX_PIXELS or is_decompression_bomb(num_bytes, pixels, _MIN_BOMB_PIXELS):
        raise DataError(
            f"would unpack to {image.width} × {image.height} pixels, a decompression bomb"
        )
    image.load()
    transposition = exif_transposition(image)
    upright = image if transposition is None else image.transpose(transposition)
    return upright, transposition


def _to_resizable_mode(image: Image.Image) -> Image.Image:
    """Convert an image to a mode that can be resized: L, RGB or, where transparent, RGBA."""
    if image.has_transparency_data:
        return image.convert("RGBA")
    # Convert CMYK, Lab and palettes to RGB first, also where the frame is grayscale.
    return _convert(image, "L" if image.mode in ("1", "L") else "RGB")


def _fit_frame(image: Image.Image, frame: Frame) -> Image.Image:
    """Resize and crop or pad an image to the frame; with "random", resize it to cover the frame."""
    width, height = image.size
    if image.size == (frame.width, frame.height):
        return image
    x_scale, y_scale = frame.width / width, frame.height / height
    # Crop the center before resizing.
    if frame.crop == "center":
        new_width = min(width, max(1, round(frame.width / y_scale)))
        new_height = min(height, max(1, round(frame.height / x_scale)))
        left, top = (width - new_width) // 2, (height - new_height) // 2
        return _resize(
            image.crop((left, top, left + new_width, top + new_height)), frame.width, frame.height
        )
    # Fit the whole image, or cover the frame.
    scale = min(x_scale, y_scale) if frame.crop == "pad" else max(x_scale, y_scale)
    new_width, new_height = max(1, round(width * scale)), max(1, round(height * scale))
    if new_width * new_height > _MAX_UNCROPPED_AREA * frame.width * frame.height:
        raise DataError(f"is {width} × {height} pixels, too elongated to be cropped at random")
    resized = _resize(image, new_width, new_height)
    if frame.crop == "random":
        return resized
    # Pad with the background.
    canvas = Image.new("RGB", (frame.width, frame.height), frame.background_rgb)
    corner = (frame.width - new_width) // 2, (frame.height - new_height) // 2
    canvas.paste(resized, corner, resized if resized.mode == "RGBA" else None)
    return canvas


def _resize(image: Image.Image, width: int, height: int) -> Image.Image:
    if image.size == (width, height):
        return image
    return image.resize((width, height), Image.Resampling.LANCZOS)


def _flatten(image: Image.Image, frame: Frame) -> Image.Image:
    """Convert an image to L or RGB, composited over the background."""
    mode = "L" if frame.channels == 1 else "RGB"
    if image.mode == "RGBA":
        canvas = Image.new("RGB", image.size, frame.background_rgb)
        canvas.paste(image, mask=image)
        image = canvas
    return _convert(image, mode)


def _convert(image: Image.Image, mode: str) -> Image.Image:
    return image if image.mode == mode else image.convert(mode)


def _value_range(image: Image.Image, *, has_16_bit_colors: bool) -> tuple[float, float] | None:
    """Return the smallest and largest value of an image of over 8 bits per channel, else None."""
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
    """Convert an image to 8 bits per channel, mapping `white_level` (None: 65,535) to 255.

    Pillow has read colors of 16 bits (`has_16_bit_colors`) as their upper 8 bits.

    Raises:
        DataError: values are not finite, or their white level is unknown.
    """
    # Pillow has dropped the lower 8 bits of 16-bit colors: rescale by a table.
    if has_16_bit_colors:
        if white_level is None:
            return image
        upper = max(1, int(white_level) >> 8)  # the upper 8 bits of the white level
        color = [min(255, round(level * 255 / upper)) for level in range(256)]
        tables = [range(256) if band == "A" else color for band in image.getbands()]
        return image.point([level for table in tables for level in table])
    # Rescale grayscale values.
    low, high = value_range
    if not low - low == high - high == 0:
        raise DataError("holds values that are not finite")
    values = np.asarray(image)
    if white_level is not None:
        scaled = values.astype(np.float64) * (255 / white_level)
        return Image.fromarray(scaled.clip(0, 255).round().astype(np.uint8))
    if image.mode == "F" or low < 0 or high > _MAX_16_BIT:
        raise DataError(
            f"is grayscale in mode {image.mode} with values from {low:g} to {high:g}, whose white "
            f"level is unknown; give it as --white-level"
        )
    # round(v · 255 / 65535), as 65535 = 255 · 257
    return Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))


def _describe_error(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"cannot be read: {text}"


_PNG = b"\x89PNG\r\n\x1a\n"
_KEPT_CHUNKS = (b"tRNS", b"eXIf")
"""Ancillary PNG chunks that change the pixels: transparency and orientation."""
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
    """Return the transposition in the EXIF data; None if they are absent or broken."""
    try:
        return _TRANSPOSITIONS.get(image.getexif().get(_ORIENTATION, 1))
    except (SyntaxError, ValueError, TypeError, KeyError, IndexError, OSError, struct.error):
        return None


def strip_metadata(content: bytes) -> bytes | None:
    """Return a PNG or JPEG file without metadata that its pixels do not need; None for others."""
    if content.startswith(_PNG):
        return _strip_png(content)
    return _strip_jpeg(content) if content.startswith(_JPEG) else None


def _strip_png(content: bytes) -> bytes:
    """Keep critical chunks, whose names begin with a capital, and a few others if intact."""
    kept, start = [_PNG], len(_PNG)
    while start + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, start)
        chunk = content[start : start + 12 + length]
        kind = chunk[4:8]
        intact = chunk[-4:] == struct.pack(">I", zlib.crc32(chunk[4:-4]))
        if kind[:1].isupper() or (kind in _KEPT_CHUNKS and intact):
            kept.append(chunk)
        start += 12 + length
    return b"".join([*kept, content[start:]])


def _strip_jpeg(content: bytes) -> bytes:
    """Keep all segments before the first scan except comments and most application segments."""
    kept, start = [_JPEG], len(_JPEG)
    while start + 4 <= len(content) and content[start] == 0xFF and content[start + 1] != _SCAN:
        (length,) = struct.unpack_from(">H", content, start + 2)
        marker, segment = content[start + 1], content[start : start + 2 + length]
        is_metadata = marker == _COMMENT or 0xE0 <= marker <= 0xEF
        if not is_metadata or _is_kept_segment(marker, segment):
            kept.append(segment)
        start += 2 + length
    return b"".join([*kept, content[start:]])


def _is_kept_segment(marker: int, segment: bytes) -> bool:
    """Return whether an application segment affects how pixels are decoded or rotated."""
    if marker == _JFIF:
        return len(segment) >= _MIN_JFIF_BYTES
    return marker == _ADOBE or (marker == _EXIF and segment[4:10] == b"Exif\0\0")


def has_16_bit_colors(image: ImageFile.ImageFile) -> bool:
    """Return whether an unloaded image has 16-bit colors, of which Pillow keeps the upper 8."""
    return image.mode not in ("I;16", "I;16B", "I", "F") and any(
        ";16" in str(tile.args) for tile in image.tile
    )
