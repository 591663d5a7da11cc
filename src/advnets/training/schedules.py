"""What an optimizer is set to after a number of updates, as pure functions."""

from __future__ import annotations

from advnets import config
from advnets.ramps import cosine


def learning_rate(spec: config.OptimizerConfig, updates: int, done: float = 0.0) -> float:
    """max(min_lr, lr / lr_decay^updates), lr on its way to Adam's `end_lr`; `done` is in [0, 1].

    Source: the authors' configuration; the way to an end, Huang et al. 2024.
    """
    lr = cosine(spec.lr, spec.end_lr, done) if isinstance(spec, config.Adam) else spec.lr
    return max(spec.min_lr, lr / spec.lr_decay**updates)


def beta2(spec: config.Adam, done: float) -> float:
    """`beta2` on its way to `end_beta2`."""
    return cosine(spec.beta2, spec.end_beta2, done)


def momentum(spec: config.SGD, epoch: int) -> float:
    """Linear from `momentum` in epoch 0 to `final_momentum` in epoch saturate - 1, then constant.

    Source: the authors' configuration, which counts epochs from 1.
    """
    done = min(1.0, epoch / (spec.saturate - 1)) if spec.saturate > 1 else 1.0
    return (1 - done) * spec.momentum + done * spec.final_momentum
