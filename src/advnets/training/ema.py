"""The weight average: a generator whose weights are a moving mean of the trained one's."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class WeightAverage:
    """w̄ <- decay w̄ + (1 - decay) w after each step, decay = 2^(-batch_size / half_life).

    `half_life` is in pictures. Buffers (batch-norm statistics) are averages already: copied.
    Source: Karras et al. 2018, "Progressive growing of GANs", section 6 (the half-life, later).
    """

    def __init__(self, module: nn.Module, half_life: int, batch_size: int) -> None:
        self.module = copy.deepcopy(module).requires_grad_(False).eval()
        self._average = get_ema_multi_avg_fn(0.5 ** (batch_size / half_life))

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move the average towards the module's weights."""
        self._average(list(self.module.parameters()), list(module.parameters()), 0)
        for mine, theirs in zip(self.module.buffers(), module.buffers(), strict=True):
            mine.copy_(theirs)
