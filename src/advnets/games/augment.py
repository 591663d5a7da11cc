"""Augmentations that D sees images and samples through, each a differentiable function.

As long as each is left out now and then, by a probability below 1, the only distribution of samples
that looks like the data through them is the data's own; so G does not learn to make augmented
images.
Source: Zhao et al. 2020, "Differentiable augmentation for data-efficient GAN training"; Karras et
al. 2020, "Training generative adversarial networks with limited data", section 2.2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from advnets.errors import UsageError
from advnets.rng import RNG

ArraySplit = Float[Tensor, "batch channels height width"]

_REACH = 8
"""Images are shifted by up to this part of a side."""
_ERASED = (0.125, 0.375)
"""Sides of a box that is erased, as shares of the image's."""
_BRIGHTER = 0.25
"""What is added to all pixels is at most this, in the nets' range."""
_TURNED, _SCALED, _SHEARED = 15.0, 0.15, 0.2
"""Degrees, and shares of a side, that an affine map changes at most."""
_BENT, _KNOTS = 0.04, 5
"""Deviation of an elastic map's knots, as a share of a side, and how many lie along each side."""


def augment(
    images: ArraySplit, kinds: Sequence[str], probability: Float[Tensor, ""], rng: RNG
) -> ArraySplit:
    """Images that each augmentation has changed with this probability, in [0, 1]."""
    for kind in kinds:
        source = rng.fold_in(f"augment {kind}")
        chosen = source.uniform("chosen", len(images), 1, 1, 1) < probability
        images = torch.where(chosen, AUGMENTATIONS[kind](images, source), images)
    return images


def refuse_idle(kinds: Sequence[str], height: int, width: int) -> None:
    """Refuse augmentations that change nothing of images so small.

    Raises:
        UsageError: shifts, or boxes, are of less than a pixel.
    """
    smallest = {"translate": _REACH, "cutout": 4}
    for kind in kinds:
        if max(height, width) < smallest.get(kind, 0):
            raise UsageError(
                f"{kind} was asked for of images of {width}x{height}, which it changes by less "
                "than a pixel; leave it out of --game.augmentations, or give a larger --size"
            )


def _flipped(images: ArraySplit, rng: RNG) -> ArraySplit:
    """Left and right exchanged in every second image, by chance.

    Were all exchanged, an image and its mirror would be seen as often where this is chosen half of
    the time, and D could not tell one from the other.
    """
    exchanged = rng.uniform("exchanged", len(images), 1, 1, 1) < 0.5
    return torch.where(exchanged, images.flip(3), images)


def _translated(images: ArraySplit, rng: RNG) -> ArraySplit:
    """Shifted by whole pixels, up to an eighth of each side; its edges are repeated."""
    shares = rng.uniform("shift", len(images), 2)
    for axis in (2, 3):
        side = images.shape[axis]
        reach = side // _REACH
        shift = (shares[:, axis - 2, None] * (2 * reach + 1)).long() - reach
        place = (torch.arange(side, device=images.device) - shift).clamp(0, side - 1)
        place = place[:, None, :, None] if axis == 2 else place[:, None, None, :]
        images = images.gather(axis, place.expand_as(images))
    return images


def _cut(images: ArraySplit, rng: RNG) -> ArraySplit:
    """A box of half of each side set to 0, anywhere, so that it may hang over the edge."""
    shares = rng.uniform("box", len(images), 2)
    return images * _outside(images, shares, [2 * (side // 4) for side in images.shape[2:]])


def _erased(images: ArraySplit, rng: RNG) -> ArraySplit:
    """The same, each side of the box any from an eighth to three eighths of the image's.

    Source of the idea: Zhong et al. 2017, "Random erasing data augmentation" (there with noise in
    the box).
    """
    shares = rng.uniform("box", len(images), 2)
    parts = rng.uniform("size", len(images), 2, low=_ERASED[0], high=_ERASED[1]).split(1, 1)
    sizes = [(side * part).round() for side, part in zip(images.shape[2:], parts, strict=True)]
    return images * _outside(images, shares, sizes)


def _outside(
    images: ArraySplit,
    centers: Float[Tensor, "batch 2"],
    sizes: Sequence[int | Float[Tensor, "batch 1"]],
) -> Bool[Tensor, "batch 1 height width"]:
    """Whether a pixel lies outside a box: centers are shares of the sides, sizes whole pixels."""
    inside: list[Tensor] = []
    for axis in (2, 3):
        side = images.shape[axis]
        place = torch.arange(side, device=images.device)
        center, size = (centers[:, axis - 2, None] * side).floor(), sizes[axis - 2]
        first = center - size // 2
        within = (place >= first) & (place < first + size)
        inside.append(within[:, None, :, None] if axis == 2 else within[:, None, None, :])
    return ~(inside[0] & inside[1])


def _recolored(images: ArraySplit, rng: RNG) -> ArraySplit:
    """Brightness ± .25; colors 0 to 2 times as far from gray; all .5 to 1.5 as far from the mean.

    The mean image of many such is the image again.
    """
    brighter, colorful, contrast = rng.uniform("colour", len(images), 3, 1, 1, 1).unbind(1)
    images = images + (2 * brighter - 1) * _BRIGHTER
    gray = images.mean(1, keepdim=True)
    images = gray + 2 * colorful * (images - gray)
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (contrast + 0.5) * (images - mean)


def _transformed(images: ArraySplit, rng: RNG) -> ArraySplit:
    """Turned by up to 15 degrees, what is seen .87 to 1.18 times as high and as wide, sheared.

    What comes to a place lay .85 to 1.15 times as far from the middle, by each side, and was moved
    sideways by up to .2 of its height. Values between pixels are bilinear, those from beyond an
    edge are the edge's.
    """
    turn, shear, high, wide = (2 * rng.uniform("affine", len(images), 4) - 1).unbind(1)
    angle, shear = math.radians(_TURNED) * turn, _SHEARED * shear
    high, wide = 1 + _SCALED * high, 1 + _SCALED * wide
    cosine, sine = angle.cos(), angle.sin()
    height, width = images.shape[2:]
    y, x = (torch.arange(side, device=images.device) - (side - 1) / 2 for side in (height, width))
    # From each place of what comes out to where it comes from.
    rows = (high * sine)[:, None, None] * x + (high * cosine)[:, None, None] * y[:, None]
    columns = (wide * cosine)[:, None, None] * x - (wide * (sine - shear))[:, None, None] * (
        y[:, None]
    )
    return _between(images, rows + (height - 1) / 2, columns + (width - 1) / 2)


def _bent(images: ArraySplit, rng: RNG) -> ArraySplit:
    """Places shifted by a smooth field: normal at 5x5 knots, cubic between them.

    Source of the idea: Simard et al. 2003, "Best practices for convolutional neural networks
    applied to visual document analysis", section 2 (noise, smoothed).
    """
    sides = images.shape[2:]
    knots = _BENT * rng.normal("bent", len(images), 2, _KNOTS, _KNOTS)
    shift = F.interpolate(knots, sides, mode="bicubic", align_corners=True)
    places = [torch.arange(side, device=images.device) for side in sides]
    rows, columns = (side * part for side, part in zip(sides, shift.unbind(1), strict=True))
    return _between(images, rows + places[0][:, None], columns + places[1])


def _between(images: ArraySplit, rows: Tensor, columns: Tensor) -> ArraySplit:
    """Bilinear values at these places, (batch, height, width) of each.

    By gathering, as slope penalties need second derivatives, which `grid_sample` lacks.
    """
    height, width = images.shape[2:]
    rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    flat, found = images.flatten(2), torch.zeros_like(images)
    top, left = rows.floor(), columns.floor()
    for down in (0, 1):
        for right in (0, 1):
            at = (top + down).clamp(max=height - 1) * width + (left + right).clamp(max=width - 1)
            share = (1 - (rows - top - down).abs()) * (1 - (columns - left - right).abs())
            taken = flat.gather(2, at.long().flatten(1)[:, None].expand(-1, flat.shape[1], -1))
            found = found + share[:, None] * taken.view_as(images)
    return found


AUGMENTATIONS: dict[str, Callable[[ArraySplit, RNG], ArraySplit]] = {
    "flip": _flipped,
    "translate": _translated,
    "cutout": _cut,
    "erase": _erased,
    "color": _recolored,
    "affine": _transformed,
    "elastic": _bent,
}
"""Ways to change an image, by name."""
