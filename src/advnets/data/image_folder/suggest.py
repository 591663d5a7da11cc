"""Which size, crop and channels suit a set of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

_SIZES = (16, 32, 64)
"""Sizes to begin with: larger ones take days on a processor."""
_MOST = 9, 10
"""The share of pictures that "most" means."""
_ALIKE = 1.1
"""Aspect ratios that differ by less are taken for the same."""
_LONG = 2.0
"""Of a picture this much longer than wide, a cut square shows less than half."""
_STEP = 8
"""Heights and widths are multiples of this, for nets that halve them."""


@dataclass(frozen=True)
class Suggestion:
    """Flags for `advnets train`."""

    size: int
    width: int
    channels: Literal[1, 3]
    crop: Literal["centre", "fit"]
    why: str
    white_level: int | None = None

    def flags(self) -> str:
        """As one types them."""
        width = "" if self.width == self.size else f" --width {self.width}"
        white = "" if self.white_level is None else f" --white-level {self.white_level}"
        return f"--size {self.size}{width} --channels {self.channels} --crop {self.crop}{white}"


def likely_white_level(largest: float) -> int | None:
    """Return the white of 16-bit values that take 15 bits at most, such as 4095; None of others."""
    bits = int(largest).bit_length()
    return (1 << bits) - 1 if 0 < bits < 16 else None


def suggestion(sizes: Sequence[tuple[int, int]], coloured: int) -> Suggestion | None:
    """What suits pictures of these widths and heights, of which so many are in colour.

    One size of up to 64 is kept as it is. Of others the shorter side becomes the largest of 16, 32
    and 64 that nine in ten have; where nine in ten have the same shape it is kept, in multiples of
    8, else pictures become square, cut about the centre, or fitted whole where half of them are
    more than twice as long as wide. Grey where one in a hundred at most is in colour.
    """
    if not sizes:
        return None
    channels = 1 if coloured * 100 <= len(sizes) else 3
    words = "grey" if channels == 1 else "in colour"
    widths, heights = np.array(sizes).T
    if len(set(sizes)) == 1 and max(sizes[0]) <= max(_SIZES):
        width, height = sizes[0]
        why = f"all are {width} x {height} and {words}"
        return Suggestion(height, width, channels, "centre", why)
    shorter = np.sort(np.minimum(widths, heights))
    nine_in_ten = int(shorter[len(shorter) // 10])
    size = max((size for size in _SIZES if size <= nine_in_ten), default=min(_SIZES))
    ratios = widths / heights
    usual = float(np.median(ratios))
    alike = (ratios < usual * _ALIKE) & (ratios > usual / _ALIKE)
    why = f"nine in ten are at least {nine_in_ten} on their shorter side, {words}"
    if alike.sum() * _MOST[1] >= len(sizes) * _MOST[0]:
        long = max(_STEP, round(size * max(usual, 1 / usual) / _STEP) * _STEP)
        height, width = (size, long) if usual >= 1 else (long, size)
        return Suggestion(height, width, channels, "centre", f"{why}, of one shape")
    long_ones = np.median(np.maximum(ratios, 1 / ratios)) > _LONG
    return Suggestion(
        size, size, channels, "fit" if long_ones else "centre", f"{why}, of mixed shapes"
    )
