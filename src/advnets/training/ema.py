"""An exponential moving average (EMA) of the weights of a player."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class EMA:
    """A copy of a module whose weights follow w̄ <- d w̄ + (1 - d) w after each training step.

    d = 2^(-batch_size / half_life) with the half-life in images. With a `rampup`, the half-life is
    at most this fraction of the images seen so far, so that the average soon forgets the initial
    weights. Buffers (batch-norm statistics), which are averages themselves, are copied.
    Source: Karras et al. 2018, "Progressive growing of GANs", section 6; the half-life is
    of their later code.
    """

    def __init__(
        self, module: nn.Module, half_life: int, batch_size: int, rampup: float = 0.0
    ) -> None:
        self.module: nn.Module = copy.deepcopy(module).requires_grad_(False).eval()
        self.half_life: int = half_life
        self.batch_size: int = batch_size
        self.rampup: float = rampup

    def decay(self, steps: int) -> float:
        """Return d for the update after this number of steps of the module."""
        return 0.5 ** _half_lives(steps, self.half_life, self.batch_size, self.rampup)

    @torch.no_grad()
    def update(self, module: nn.Module, steps: int) -> None:
        """Update the average with the weights of a module after this number of steps."""
        average = get_ema_multi_avg_fn(self.decay(steps))
        average(list(self.module.parameters()), list(module.parameters()), 0)
        for average_buffer, buffer in zip(self.module.buffers(), module.buffers(), strict=True):
            average_buffer.copy_(buffer)


def _half_lives(steps: int, half_life: int, batch_size: int, rampup: float) -> float:
    """Return the number of half-lives in the step of this number."""
    images = steps * batch_size
    return batch_size / (min(half_life, rampup * images) if rampup else half_life)


def initial_share(steps: int, half_life: int, batch_size: int, rampup: float) -> float:
    """Return the weight that the initial weights have in the average after some steps.

    It is 2^-Σ b/h_s over the steps s, where h_s is the half-life at step s and b the batch size.
    """
    return 0.5 ** sum(_half_lives(s, half_life, batch_size, rampup) for s in range(1, steps + 1))
