"""Optimizers and what their settings are after a number of updates, as pure functions."""

from __future__ import annotations

from collections.abc import Iterable
from functools import singledispatch

import torch
from torch import Tensor

from advnets import config


@singledispatch
def settings(spec: config.OptimizerConfig, updates: int, epoch: int) -> dict[str, float]:
    """What an optimizer is set to before an update, after `updates` earlier ones.

    `epoch` counts from 0. Constant unless an optimizer's own schedule says otherwise.
    """
    raise NotImplementedError(f"no schedule for {type(spec).__name__}")


@settings.register
def _(spec: config.Adam, updates: int, epoch: int) -> dict[str, float]:  # noqa: ARG001
    return {"lr": spec.lr}


@settings.register
def _(spec: config.SGD, updates: int, epoch: int) -> dict[str, float]:
    """V <- momentum v - lr g, p <- p + v, as the authors' library has it.

    PyTorch keeps b = -v / lr instead: b <- momentum' b + g, p <- p - lr b. The two agree while lr
    changes if momentum' = momentum lr(n - 1) / lr(n).
    """
    lr, before = learning_rate(spec, updates), learning_rate(spec, max(updates - 1, 0))
    return {"lr": lr, "momentum": momentum(spec, epoch) * before / lr}


def learning_rate(spec: config.SGD, updates: int) -> float:
    """max(min_lr, lr / lr_decay^updates). Source: the authors' configuration."""
    return max(spec.min_lr, spec.lr / spec.lr_decay**updates)


def momentum(spec: config.SGD, epoch: int) -> float:
    """Linear from `momentum` in epoch 0 to `final_momentum` in epoch saturate - 1, then constant.

    Source: the authors' configuration, which counts epochs from 1.
    """
    done = min(1.0, epoch / (spec.saturate - 1)) if spec.saturate > 1 else 1.0
    return (1 - done) * spec.momentum + done * spec.final_momentum


@singledispatch
def optimizer(spec: config.OptimizerConfig, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
    """Build the optimizer; the fused forms are one pass over memory and can skip a step."""
    raise NotImplementedError(f"no optimizer for {type(spec).__name__}")


@optimizer.register
def _(spec: config.SGD, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, spec.lr, momentum=spec.momentum, fused=True)


@optimizer.register
def _(spec: config.Adam, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, spec.lr, (spec.beta1, spec.beta2), fused=True)
