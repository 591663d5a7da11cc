"""The sizes of feature maps, from the smallest to that of the image."""

from __future__ import annotations

from advnets.errors import UsageError
from advnets.models.layers import Shape

BASE_SIZES = range(3, 8)
"""The heights and widths that the smallest maps may have, in pixels."""
MIN_SIZE = 8
"""The smallest height and width of an image, in pixels."""

HeightWidth = tuple[int, int]
"""A size in pixels, or a factor of each axis."""


def upsampling_sizes(shape: Shape) -> tuple[HeightWidth, tuple[HeightWidth, ...]]:
    """Return the height and width of the smallest maps, and the factors of each upsampling layer.

    A factor is 1 or 2 for each axis. If one side needs more doublings than the other, they come
    first, so that the later maps have the aspect ratio of the image.

    Raises:
        UsageError: a side is shorter than 8, or not 3, 4, 5, 6 or 7 times a power of 2.
    """
    _, height, width = shape
    options = [(h, w) for h in num_doublings(height) for w in num_doublings(width)]
    if not options:
        raise UsageError(
            f"convolutional models need sides of at least {MIN_SIZE} that are 3, 4, 5, 6 or 7 "
            f"times a power of 2, got images of {height} x {width}; give --size "
            f"{nearest_supported_size(height, width)}, the nearest such size"
        )
    # Prefer equal numbers of doublings, and of those the largest.
    h, w = min(options, key=lambda option: (abs(option[0] - option[1]), -sum(option)))
    layers = max(h, w)
    strides = tuple((1 + (i >= layers - h), 1 + (i >= layers - w)) for i in range(layers))
    return (height >> h, width >> w), strides


def num_doublings(side: int) -> list[int]:
    """Return every n for which the side is a base size doubled n times."""
    if side < MIN_SIZE:
        return []
    return [
        n for n in range(1, side.bit_length()) if side >> n in BASE_SIZES and not side % (1 << n)
    ]


def nearest_supported_size(height: int, width: int) -> str:
    """Return the nearest size that convolutional models support, in the format of --size."""
    supported = sorted(base << n for base in BASE_SIZES for n in range(1, 12))
    nearest = [
        min((size for size in supported if size >= MIN_SIZE), key=lambda size: abs(size - side))
        for side in (height, width)
    ]
    return str(nearest[0]) if height == width else "x".join(map(str, nearest))
