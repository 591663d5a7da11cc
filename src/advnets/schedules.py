"""Numbers that change over a run, as pure functions of the share of it that is done.

Of N steps the first has 0 done and the last (N - 1) / N: a ramp comes to its end with the step
after them.
"""

from __future__ import annotations

import math


def cosine(first: float, last: float | None, done: float) -> float:
    """A number between first and last, slow at both ends; without a last, first.

    m first + (1 - m) last, m = (1 + cos π done) / 2, `done` in [0, 1].
    Source: Loshchilov and Hutter 2017, "SGDR", equation 5.
    """
    if last is None:
        return first
    left = 0.5 * (1 + math.cos(math.pi * done))
    return left * first + (1 - left) * last


def geometric(first: float, last: float | None, done: float) -> float:
    """A number between first and last that changes by the same factor in each step.

    first^(1 - done) last^done, `done` in [0, 1]; without a last, first. Both are positive.
    """
    return first if last is None else first ** (1 - done) * last**done


RAMPS = {"cosine": cosine, "geometric": geometric}
