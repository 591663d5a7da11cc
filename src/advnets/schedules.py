"""Numbers that change over a run, as pure functions of the share of it that is done.

Of N steps the first has 0 done and the last (N - 1) / N: a ramp comes to its end with the step
after them.
"""

from __future__ import annotations

import math

from advnets import config
from advnets.errors import UsageError


def cosine(first: float, last: float | None, progress: float) -> float:
    """A number between first and last, slow at both ends; without a last, first.

    m first + (1 - m) last, m = (1 + cos π done) / 2, `done` in [0, 1].
    Source: Loshchilov and Hutter 2017, "SGDR", equation 5.
    """
    if last is None:
        return first
    left = 0.5 * (1 + math.cos(math.pi * progress))
    return left * first + (1 - left) * last


def geometric(first: float, last: float | None, progress: float) -> float:
    """A number between first and last that changes by the same factor in each step.

    first^(1 - done) last^done, `done` in [0, 1]; without a last, first. Both are positive.
    """
    return first if last is None else first ** (1 - progress) * last**progress


RAMPS = {"cosine": cosine, "geometric": geometric}


_LARGEST_EXPONENT = 700.0
"""Natural logarithm of about the largest power that a float holds."""
_LEAST_RATE = 1e-30
"""Beyond what float32 resolves of any weight; the momentum of SGD is kept in units of the rate."""


def learning_rate(spec: config.OptimizerConfig, updates: int, progress: float = 0.0) -> float:
    """max(min_lr, lr / lr_decay^updates), lr on its way to Adam's `end_lr`; `done` is in [0, 1].

    Source: the authors' configuration; the way to an end, Huang et al. 2024.
    """
    lr = cosine(spec.lr, spec.lr_final, progress) if isinstance(spec, config.Adam) else spec.lr
    fallen = updates * math.log(spec.lr_decay)
    if fallen > _LARGEST_EXPONENT:  # lr_decay^updates overflows
        return max(spec.lr_min, lr * math.exp(-fallen))
    return max(spec.lr_min, lr / spec.lr_decay**updates)


def check_learning_rate(player: str, spec: config.OptimizerConfig, updates: int) -> None:
    """Refuse a learning rate that falls to 0 in float32 within so many updates.

    Raises:
        UsageError: it does.
    """
    least = max(spec.lr_min, spec.lr if isinstance(spec, config.SGD) else _end(spec))
    if least == 0:  # as asked for
        return
    last = learning_rate(spec, updates, 1.0)
    if spec.lr_decay > 1 and last < _LEAST_RATE:
        raise UsageError(
            f"lr_decay is {spec.lr_decay}, by which the learning rate of the {player} falls from "
            f"{spec.lr} to {last:.1g} within {updates:,} updates; give an lr_decay nearer to 1, a "
            "min_lr, or fewer steps"
        )


def _end(spec: config.Adam) -> float:
    return spec.lr if spec.lr_final is None else spec.lr_final


def beta2(spec: config.Adam, progress: float) -> float:
    """`beta2` on its way to `end_beta2`."""
    return cosine(spec.beta2, spec.beta2_final, progress)


def momentum(spec: config.SGD, epoch: int) -> float:
    """Linear from `momentum` in epoch 0 to `final_momentum` in epoch saturate - 1, then constant.

    Source: the authors' configuration, which counts epochs from 1.
    """
    done = min(1.0, epoch / (spec.momentum_epochs - 1)) if spec.momentum_epochs > 1 else 1.0
    return (1 - done) * spec.momentum + done * spec.momentum_final
