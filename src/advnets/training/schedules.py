"""What an optimizer is set to after a number of updates, as pure functions."""

from __future__ import annotations

from advnets import config


def learning_rate(spec: config.OptimizerConfig, updates: int) -> float:
    """max(min_lr, lr / lr_decay^updates). Source: the authors' configuration."""
    return max(spec.min_lr, spec.lr / spec.lr_decay**updates)


def momentum(spec: config.SGD, epoch: int) -> float:
    """Linear from `momentum` in epoch 0 to `final_momentum` in epoch saturate - 1, then constant.

    Source: the authors' configuration, which counts epochs from 1.
    """
    done = min(1.0, epoch / (spec.saturate - 1)) if spec.saturate > 1 else 1.0
    return (1 - done) * spec.momentum + done * spec.final_momentum
