"""How small maps are doubled to the size of an image."""

from __future__ import annotations

from advnets.errors import UsageError
from advnets.models.layers import Shape

BASE_SIZES = range(3, 8)
"""Heights and widths that the smallest maps may have."""
MIN_SIZE = 8
"""Pixels that an image has at least, each way."""

Pair = tuple[int, int]


def upsampling_sizes(shape: Shape) -> tuple[Pair, tuple[Pair, ...]]:
    """Height and width of the smallest maps, and what each layer multiplies them by.

    Where one side takes more doublings than the other its surplus comes first, so that the maps
    soon have the image's proportions.

    Raises:
        UsageError: a side is shorter than 8, or no chain of doublings leads to it.
    """
    _, height, width = shape
    ways = [(high, wide) for high in num_doublings(height) for wide in num_doublings(width)]
    if not ways:
        raise UsageError(
            f"images of {height} x {width} came to convolutional nets, whose sides are "
            f"3, 4, 5, 6 or 7 doubled some times, and {MIN_SIZE} or more; the nearest --size is "
            f"{nearest_reachable_size(height, width)}"
        )
    # As many doublings on one side as on the other where that can be, and as many as can be.
    high, wide = min(ways, key=lambda way: (abs(way[0] - way[1]), -sum(way)))
    layers = max(high, wide)
    strides = tuple((1 + (i >= layers - high), 1 + (i >= layers - wide)) for i in range(layers))
    return (height >> high, width >> wide), strides


def num_doublings(side: int) -> list[int]:
    """How often a base may be doubled to make this side, each way that there is."""
    if side < MIN_SIZE:
        return []
    return [
        n for n in range(1, side.bit_length()) if side >> n in BASE_SIZES and not side % (1 << n)
    ]


def nearest_reachable_size(height: int, width: int) -> str:
    """The sides nearest to these that can be reached, as --size takes them."""
    reached = sorted(base << n for base in BASE_SIZES for n in range(1, 12))
    near = [
        min((side for side in reached if side >= MIN_SIZE), key=lambda side: abs(side - wanted))
        for wanted in (height, width)
    ]
    return str(near[0]) if height == width else "x".join(map(str, near))
