"""What an optimizer is set to after a number of updates, as pure functions."""

from __future__ import annotations

import math

from advnets import config
from advnets.errors import UsageError
from advnets.schedules import cosine

_LARGEST_EXPONENT = 700.0
"""Natural logarithm of about the largest power that a float holds."""
_LEAST_RATE = 1e-30
"""Beyond what float32 resolves of any weight; the momentum of SGD is kept in units of the rate."""


def learning_rate(spec: config.OptimizerConfig, updates: int, done: float = 0.0) -> float:
    """max(min_lr, lr / lr_decay^updates), lr on its way to Adam's `end_lr`; `done` is in [0, 1].

    Source: the authors' configuration; the way to an end, Huang et al. 2024.
    """
    lr = cosine(spec.lr, spec.end_lr, done) if isinstance(spec, config.Adam) else spec.lr
    fallen = updates * math.log(spec.lr_decay)
    if fallen > _LARGEST_EXPONENT:  # lr_decay^updates overflows
        return max(spec.min_lr, lr * math.exp(-fallen))
    return max(spec.min_lr, lr / spec.lr_decay**updates)


def check_learning_rate(player: str, spec: config.OptimizerConfig, updates: int) -> None:
    """Refuse a learning rate that falls to 0 in float32 within so many updates.

    Raises:
        UsageError: it does.
    """
    least = max(spec.min_lr, spec.lr if isinstance(spec, config.SGD) else _end(spec))
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
    return spec.lr if spec.end_lr is None else spec.end_lr


def beta2(spec: config.Adam, done: float) -> float:
    """`beta2` on its way to `end_beta2`."""
    return cosine(spec.beta2, spec.end_beta2, done)


def momentum(spec: config.SGD, epoch: int) -> float:
    """Linear from `momentum` in epoch 0 to `final_momentum` in epoch saturate - 1, then constant.

    Source: the authors' configuration, which counts epochs from 1.
    """
    done = min(1.0, epoch / (spec.saturate - 1)) if spec.saturate > 1 else 1.0
    return (1 - done) * spec.momentum + done * spec.final_momentum
