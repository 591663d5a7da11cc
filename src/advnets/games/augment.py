"""Differentiable augmentations of real and generated images, applied before D.

As long as each augmentation has a probability below 1, the augmented distributions are equal only
where p_g = p_data, so that G does not learn to generate augmented images.
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
from advnets.protocols import Images, Scalar
from advnets.rng import RNG

_SHIFT_DIVISOR = 8
"""Translations are by at most a side divided by this."""
_ERASE_SIZES = (0.125, 0.375)
"""Range of the sides of an erased box, as fractions of the image's."""
_BRIGHTNESS = 0.25
"""Largest change of brightness, in the range of the models."""
_ROTATION, _SCALE, _SHEAR = 15.0, 0.15, 0.2
"""Largest rotation in degrees, relative change of scale, and shear of an affine map."""
_ELASTIC_STD, _KNOTS = 0.04, 5
"""Standard deviation of elastic shifts as a fraction of a side, and grid points along a side."""


_STREAMS = {"color": "colour"}
"""Names of random streams that differ from the kind; they determine the random draws."""


def augment(images: Images, kinds: Sequence[str], probability: Scalar | float, rng: RNG) -> Images:
    """Apply each kind of augmentation, one after the other, to each image with a probability.

    `kinds` are keys of `AUGMENTATIONS`; `probability` is in [0, 1].
    """
    for kind in kinds:
        stream = rng.fold_in(f"augment {_STREAMS.get(kind, kind)}")
        chosen = stream.uniform("chosen", len(images), 1, 1, 1) < probability
        images = torch.where(chosen, AUGMENTATIONS[kind](images, stream), images)
    return images


def check_augmentations(kinds: Sequence[str], height: int, width: int) -> None:
    """Refuse augmentations that cannot change images of this size.

    Raises:
        UsageError: translations, or boxes, are of less than a pixel.
    """
    smallest = {"translate": _SHIFT_DIVISOR, "cutout": 4}
    for kind in kinds:
        if max(height, width) < smallest.get(kind, 0):
            raise UsageError(
                f"the augmentation {kind} changes images of {width}x{height} by less than a pixel; "
                "leave it out of augmentations, or use larger images"
            )


def _flip(images: Images, rng: RNG) -> Images:
    """Flip half of the images, chosen at random, horizontally.

    If all were flipped, then at an augmentation probability of 1/2 an image and its mirror image
    would be equally frequent, and D could not tell them apart.
    """
    flipped = rng.uniform("exchanged", len(images), 1, 1, 1) < 0.5
    return torch.where(flipped, images.flip(3), images)


def _translate(images: Images, rng: RNG) -> Images:
    """Translate by whole pixels, up to an eighth of each side; edge pixels are repeated."""
    u = rng.uniform("shift", len(images), 2)
    for axis in (2, 3):
        side = images.shape[axis]
        limit = side // _SHIFT_DIVISOR
        shift = (u[:, axis - 2, None] * (2 * limit + 1)).long() - limit
        index = (torch.arange(side, device=images.device) - shift).clamp(0, side - 1)
        index = index[:, None, :, None] if axis == 2 else index[:, None, None, :]
        images = images.gather(axis, index.expand_as(images))
    return images


def _cutout(images: Images, rng: RNG) -> Images:
    """Set a box of half of each side to 0; its center is anywhere, so that it may be cropped."""
    centers = rng.uniform("box", len(images), 2)
    return images * _outside_box(images, centers, [2 * (side // 4) for side in images.shape[2:]])


def _erase(images: Images, rng: RNG) -> Images:
    """Set a box to 0, each side of which is from 1/8 to 3/8 of the image's.

    Source: Zhong et al. 2017, "Random erasing data augmentation" (there the box has noise).
    """
    centers = rng.uniform("box", len(images), 2)
    fractions = rng.uniform("size", len(images), 2, low=_ERASE_SIZES[0], high=_ERASE_SIZES[1])
    sizes = [
        (side * fraction).round()
        for side, fraction in zip(images.shape[2:], fractions.split(1, 1), strict=True)
    ]
    return images * _outside_box(images, centers, sizes)


def _outside_box(
    images: Images,
    centers: Float[Tensor, "batch 2"],
    sizes: Sequence[int | Float[Tensor, "batch 1"]],
) -> Bool[Tensor, "batch 1 height width"]:
    """Return a mask of the pixels outside a box, one box for each image.

    `centers` are fractions of height and width, `sizes` whole pixels.
    """
    inside: list[Tensor] = []
    for axis in (2, 3):
        side = images.shape[axis]
        index = torch.arange(side, device=images.device)
        center, size = (centers[:, axis - 2, None] * side).floor(), sizes[axis - 2]
        start = center - size // 2
        within = (index >= start) & (index < start + size)
        inside.append(within[:, None, :, None] if axis == 2 else within[:, None, None, :])
    return ~(inside[0] & inside[1])


def _color(images: Images, rng: RNG) -> Images:
    """Change brightness by ±0.25, saturation by a factor 0 to 2, contrast by 0.5 to 1.5.

    The expectation over all changes is the image itself.
    """
    brightness, saturation, contrast = rng.uniform("colour", len(images), 3, 1, 1, 1).unbind(1)
    images = images + (2 * brightness - 1) * _BRIGHTNESS
    gray = images.mean(1, keepdim=True)
    images = gray + 2 * saturation * (images - gray)
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (contrast + 0.5) * (images - mean)


def _affine(images: Images, rng: RNG) -> Images:
    """Rotate by up to 15 degrees, scale each side by 0.87 to 1.18, and shear by up to 0.2.

    An output pixel is read at 0.85 to 1.15 times its distance from the center, along each side, and
    shifted sideways by up to 0.2 of its height. Values are interpolated bilinearly; outside the
    image they are those of the nearest edge.
    """
    rotation, shear, y_scale, x_scale = (2 * rng.uniform("affine", len(images), 4) - 1).unbind(1)
    angle, shear = math.radians(_ROTATION) * rotation, _SHEAR * shear
    y_scale, x_scale = 1 + _SCALE * y_scale, 1 + _SCALE * x_scale
    cos, sin = angle.cos(), angle.sin()
    height, width = images.shape[2:]
    y, x = (torch.arange(side, device=images.device) - (side - 1) / 2 for side in (height, width))
    # Map each output pixel to the position at which it is read.
    rows = (y_scale * sin)[:, None, None] * x + (y_scale * cos)[:, None, None] * y[:, None]
    columns = (x_scale * cos)[:, None, None] * x - (x_scale * (sin - shear))[:, None, None] * (
        y[:, None]
    )
    return _bilinear(images, rows + (height - 1) / 2, columns + (width - 1) / 2)


def _elastic(images: Images, rng: RNG) -> Images:
    """Shift pixels by a smooth random field: normal at 5x5 grid points, bicubic between them.

    Source: Simard et al. 2003, "Best practices for convolutional neural networks applied to visual
    document analysis", section 2 (there the field is smoothed noise).
    """
    sides = images.shape[2:]
    knots = _ELASTIC_STD * rng.normal("bent", len(images), 2, _KNOTS, _KNOTS)
    shift = F.interpolate(knots, sides, mode="bicubic", align_corners=True)
    index = [torch.arange(side, device=images.device) for side in sides]
    rows, columns = (side * offset for side, offset in zip(sides, shift.unbind(1), strict=True))
    return _bilinear(images, rows + index[0][:, None], columns + index[1])


def _bilinear(images: Images, rows: Tensor, columns: Tensor) -> Images:
    """Return bilinearly interpolated values at `rows` and `columns`, (batch, height, width) each.

    It uses `gather`, as `grid_sample` lacks the second derivatives that gradient penalties need.
    """
    height, width = images.shape[2:]
    rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    flat, values = images.flatten(2), torch.zeros_like(images)
    top, left = rows.floor(), columns.floor()
    for down in (0, 1):
        for right in (0, 1):
            index = (top + down).clamp(max=height - 1) * width + (left + right).clamp(max=width - 1)
            weight = (1 - (rows - top - down).abs()) * (1 - (columns - left - right).abs())
            pixels = flat.gather(2, index.long().flatten(1)[:, None].expand(-1, flat.shape[1], -1))
            values = values + weight[:, None] * pixels.view_as(images)
    return values


AUGMENTATIONS: dict[str, Callable[[Images, RNG], Images]] = {
    "flip": _flip,
    "translate": _translate,
    "cutout": _cutout,
    "erase": _erase,
    "color": _color,
    "affine": _affine,
    "elastic": _elastic,
}
"""Augmentations by the names of `--game.augmentations`."""
