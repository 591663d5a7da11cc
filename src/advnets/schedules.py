"""Schedules: hyperparameters that change during training, as functions of its progress.

Progress is the fraction of the scheduled steps that are complete, in [0, 1]. Of N steps the first
has progress 0 and the last (N - 1) / N: a schedule reaches its last value in the step after them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


def cosine(first: float, last: float, progress: float) -> float:
    """Return m first + (1 - m) last with m = (1 + cos(π progress)) / 2.

    The value changes slowly near both ends. `progress` is in [0, 1].
    Source: Loshchilov and Hutter 2017, "SGDR", equation 5.
    """
    weight = 0.5 * (1 + math.cos(math.pi * progress))
    return weight * first + (1 - weight) * last


def geometric(first: float, last: float, progress: float) -> float:
    """Return first^(1 - progress) last^progress, which changes by the same factor in each step.

    Both ends are positive; `progress` is in [0, 1].
    """
    return first ** (1 - progress) * last**progress


INTERPOLATIONS = {"cosine": cosine, "geometric": geometric}


@dataclass(frozen=True)
class Schedule:
    """A hyperparameter that goes from `first` to `last` by one of `INTERPOLATIONS`."""

    first: float
    last: float
    interpolation: str = "cosine"

    def at(self, progress: float) -> float:
        """Return the value at a progress in [0, 1]."""
        return INTERPOLATIONS[self.interpolation](self.first, self.last, progress)
