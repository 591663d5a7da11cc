"""A mean with the interval that Student's t gives it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from advnets.errors import UsageError

CONFIDENCE = 0.95
"""Share of such intervals that hold the true mean, were the values normal."""


@dataclass(frozen=True)
class Interval:
    """A mean and how far its interval reaches."""

    mean: float
    half_width: float | None
    """The interval is mean ± half_width; None of one value, which has no interval."""
    n: int
    """Values."""


def student_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Mean ± t s / √n of independent normal values, s their standard deviation (by n - 1).

    Source: Student 1908, “The probable error of a mean”.

    Raises:
        UsageError: there are no values, or some are not finite; the confidence is not above 0 and
            below 1.
    """
    if not values:
        raise UsageError("an interval of no values was asked for; give at least one")
    if not all(map(math.isfinite, values)):
        raise UsageError(f"an interval of {list(values)} was asked for; give finite numbers")
    n, mean = len(values), statistics.fmean(values)
    if n == 1:
        return Interval(mean, None, n)
    return Interval(mean, quantile(confidence, n - 1) * statistics.stdev(values) / math.sqrt(n), n)


def quantile(confidence: float, freedom: int) -> float:
    """The t that |T| is at most with this probability, T of Student's distribution.

    Raises:
        UsageError: the confidence is not above 0 and below 1, or there is no degree of freedom.
    """
    if not 0 < confidence < 1 or freedom < 1:
        raise UsageError(
            f"confidence {confidence:g} at {freedom} degrees of freedom was asked for; give a "
            "confidence above 0 and below 1, and at least 1 degree"
        )
    low, high = 0.0, math.pi / 2
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if _within(middle, freedom) < confidence else (low, middle)
    return math.sqrt(freedom) * math.tan(high)


def _within(angle: float, freedom: int) -> float:
    """P(|T| <= t) at t = √ν tan(angle), a finite sum for a whole number ν of degrees.

    Source: Abramowitz and Stegun 1964, 26.7.3 and 26.7.4.
    """
    odd = freedom % 2
    power = math.cos(angle) if odd else 1.0
    term, total = power, 0.0 if freedom == 1 else power
    for k in range(2 + odd, freedom - 1, 2):  # 2/3 cos² a step for odd ν, 1/2, 3/4, … for even
        term *= (k - 1) / k * math.cos(angle) ** 2
        total += term
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if odd else total
