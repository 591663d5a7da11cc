"""Pictures as one grid, or as a file each."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from advnets.errors import UsageError
from advnets.files import write_atomically

READABLE = 48
"""Screen pixels that the shorter side of a tile has at least, unless told otherwise."""

_GAP = 2  # screen pixels between tiles
_BACKGROUND = 128  # grey: neither a black nor a white picture melts into it


def grid(
    pictures: Float[Tensor, "n channels height width"],
    columns: int | None = None,
    scale: int | None = None,
) -> Image.Image:
    """Lay pictures with values in [0, 1], grey or colour, row by row on one.

    Each pixel becomes scale x scale screen pixels, sharp; None makes the shorter side of a picture
    48 or more. None for the columns makes the grid about square.

    Raises:
        UsageError: no picture, other channels than 1 or 3, values outside [0, 1], or a number of
            columns or a scale less than 1.
    """
    pixels = _bytes(pictures)
    n, channels, height, width = pixels.shape
    columns = math.ceil(math.sqrt(n)) if columns is None else min(columns, n)
    scale = -(-READABLE // min(height, width)) if scale is None else scale
    for name, value in ("columns", columns), ("scale", scale):
        if value < 1:
            raise UsageError(f"{name} is {value}; expected 1 or more, or nothing to have it chosen")
    rows = math.ceil(n / columns)

    tiles = pixels.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    tiles = F.pad(tiles, (0, _GAP, 0, _GAP), value=_BACKGROUND)
    tiles = F.pad(tiles, (0, 0, 0, 0, 0, 0, 0, rows * columns - n), value=_BACKGROUND)
    # (row, column, channel, y, x) -> (channel, row y, column x); then a border on the near sides.
    canvas = tiles.unflatten(0, (rows, columns)).permute(2, 0, 3, 1, 4)
    canvas = canvas.reshape(channels, rows * (height * scale + _GAP), -1)
    return _image(F.pad(canvas, (_GAP, 0, _GAP, 0), value=_BACKGROUND))


def save_grid(image: Image.Image, path: Path) -> None:
    """Write an image as a PNG file, whole or not at all.

    Raises:
        WriteError: it cannot be written there.
    """
    write_atomically(path, lambda part: image.save(part, format="PNG"))


def save_pictures(pictures: Float[Tensor, "n channels height width"], directory: Path) -> None:
    """Write each picture, values in [0, 1], as a PNG of its own size: 00000.png, 00001.png, …

    Raises:
        UsageError: as for `grid`, or the folder cannot be written.
    """
    pixels = _bytes(pictures)
    digits = max(5, len(str(len(pixels) - 1)))
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for number, picture in enumerate(pixels):
            _image(picture).save(directory / f"{number:0{digits}}.png")
    except OSError as error:
        raise UsageError(
            f"{directory} cannot be written ({error.strerror or error}); "
            "free some space or give another folder"
        ) from None


def _bytes(pictures: Float[Tensor, "n c h w"]) -> UInt8[Tensor, "n c h w"]:
    """Shares of white, in [0, 1], as bytes on the host."""
    if not pictures.numel():
        raise UsageError(f"pictures have shape {tuple(pictures.shape)}; give at least one")
    if pictures.shape[1] not in (1, 3):
        raise UsageError(
            f"pictures have {pictures.shape[1]} channels; expected 1 (grey) or 3 (RGB)"
        )
    pictures = pictures.detach().to("cpu", torch.float32)
    low, high = map(float, pictures.aminmax())
    if not (low >= 0 and high <= 1):  # so that a NaN is refused too
        raise UsageError(
            f"pictures have values from {low:.4g} to {high:.4g}; expected 0 to 1: "
            "bring them into that range first"
        )
    return pictures.mul(255).round_().to(torch.uint8)


def _image(pixels: UInt8[Tensor, "c h w"]) -> Image.Image:
    grey = len(pixels) == 1
    array = pixels[0] if grey else pixels.permute(1, 2, 0)
    return Image.fromarray(array.contiguous().numpy())
