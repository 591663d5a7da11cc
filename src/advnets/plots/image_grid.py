"""Grids of images. Files of single images are written by `sample_files`."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from advnets.errors import DataError, UsageError
from advnets.files import read_regular_file, write_atomically

MIN_TILE_PIXELS = 48
"""The default minimum size of the shorter side of a tile, in pixels of the grid."""

_MAX_GRID_BYTES, _MAX_GRID_PIXELS = 1 << 28, 1 << 27  # 100 samples of 1,024 x 1,024 have 105 M
_GAP = 2  # pixels between tiles
_BACKGROUND = 128  # gray, distinct from black and white images


@dataclass(frozen=True)
class GridLayout:
    """The layout of n images of shape (channels, height, width) in rows.

    A pixel of an image becomes scale x scale pixels.

    Raises:
        UsageError: the number of columns or the scale is less than 1.
    """

    n: int
    shape: tuple[int, int, int]
    columns: int
    scale: int

    def __post_init__(self) -> None:
        for name, value in ("columns", self.columns), ("scale", self.scale):
            if value < 1:
                raise UsageError(f"{name} is {value}; expected 1 or more, or None for the default")

    @classmethod
    def create(
        cls, n: int, shape: tuple[int, int, int], columns: int | None, scale: int | None = None
    ) -> GridLayout:
        """Create a layout; by default it is nearly square, with tiles of 48 pixels or more."""
        columns = math.ceil(math.sqrt(n)) if columns is None else min(columns, n)
        scale = -(-MIN_TILE_PIXELS // min(shape[1:])) if scale is None else scale
        return cls(n, shape, columns, scale)

    @property
    def width(self) -> int:
        """Width of the grid in pixels."""
        return self.columns * (self.shape[2] * self.scale + _GAP) + _GAP

    @property
    def height(self) -> int:
        """Height of the grid in pixels."""
        return math.ceil(self.n / self.columns) * (self.shape[1] * self.scale + _GAP) + _GAP

    def iterate_bands(
        self, blocks: Iterable[Float[Tensor, "_ channels height width"]]
    ) -> Iterator[UInt8[np.ndarray, "lines width channels"]]:
        """Yield the lines of the grid from top to bottom: a border, then each row of tiles."""
        channels = self.shape[0]
        yield np.full((_GAP, self.width, channels), _BACKGROUND, np.uint8)
        for row in _regroup(blocks, self.columns):
            tiles = row.repeat_interleave(self.scale, 2).repeat_interleave(self.scale, 3)
            tiles = F.pad(tiles, (0, _GAP, 0, _GAP), value=_BACKGROUND)
            missing = self.columns - len(row)
            tiles = F.pad(tiles, (0, 0, 0, 0, 0, 0, 0, missing), value=_BACKGROUND)
            # Bring (tile, channel, y, x) to (y, tile x, channel), and add a border on the left.
            band = tiles.permute(2, 0, 3, 1).flatten(1, 2)
            yield F.pad(band, (0, 0, _GAP, 0), value=_BACKGROUND).contiguous().numpy()


def grid(
    images: Float[Tensor, "n channels height width"],
    columns: int | None = None,
    scale: int | None = None,
) -> Image.Image:
    """Arrange images in [0, 1], of 1 or 3 channels, in a grid, row by row.

    Each pixel becomes scale x scale pixels, without interpolation; by default the shorter side of
    an image gets 48 pixels or more, and the grid is nearly square.

    Raises:
        UsageError: there is no image, the number of channels is not 1 or 3, values are outside
            [0, 1], or the number of columns or the scale is less than 1.
    """
    to_bytes(images)  # check the images first
    n, channels, height, width = images.shape
    layout = GridLayout.create(n, (channels, height, width), columns, scale)
    return to_image(np.concatenate(list(layout.iterate_bands([images]))))


def read_grid(path: Path) -> tuple[bytes, tuple[int, int]]:
    """Return the content of a grid's PNG file, and its width and height, without decoding it.

    Raises:
        DataError: it is not a regular file, not a complete PNG file, or larger than any grid.
    """
    try:
        if path.is_symlink():  # it may lead to a private file
            raise ValueError("it is a link")
        content = read_regular_file(path, _MAX_GRID_BYTES)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # at half the limit
            with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
                size = image.size
                if math.prod(size) > _MAX_GRID_PIXELS:
                    raise ValueError(f"its size is {size[0]} x {size[1]} pixels")
                image.verify()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"{path} cannot be read as a grid of samples ({reason}); move it away"
        ) from None
    return content, size


def save_grid(image: Image.Image, path: Path) -> None:
    """Write an image as a PNG file, atomically.

    Raises:
        WriteError: the file cannot be written.
    """
    write_atomically(path, lambda part: image.save(part, format="PNG"))


def to_bytes(images: Float[Tensor, "n c h w"]) -> UInt8[Tensor, "n c h w"]:
    """Return images in [0, 1] as uint8 on the CPU.

    Raises:
        UsageError: there is no image, the number of channels is not 1 or 3, or values are outside
            [0, 1].
    """
    if not images.numel():
        raise UsageError(f"images have shape {tuple(images.shape)}; give at least one")
    if images.shape[1] not in (1, 3):
        raise UsageError(f"images have {images.shape[1]} channels; expected 1 (gray) or 3 (RGB)")
    images = images.detach().to("cpu", torch.float32)
    low, high = map(float, images.aminmax())
    if not (low >= 0 and high <= 1):  # also true for NaN
        raise UsageError(
            f"images have values from {low:.4g} to {high:.4g}; expected 0 to 1: rescale them first"
        )
    return images.mul(255).round_().to(torch.uint8)


def to_image(pixels: UInt8[np.ndarray, "height width channels"]) -> Image.Image:
    """Return an array as an image, gray (1 channel) or RGB (3)."""
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def _regroup(
    blocks: Iterable[Float[Tensor, "_ c h w"]], columns: int
) -> Iterator[UInt8[Tensor, "_ c h w"]]:
    """Regroup blocks of images into rows of `columns` images, as uint8; the last may be shorter."""
    pending: list[Tensor] = []
    for block in blocks:
        *full, rest = torch.cat([*pending, to_bytes(block)]).split(columns)
        yield from full
        pending = [rest]
    yield from pending
