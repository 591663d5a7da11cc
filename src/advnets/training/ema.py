"""The weight average: a generator whose weights are a moving mean of the trained one's."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class EMA:
    """w̄ <- decay w̄ + (1 - decay) w after each step, decay = 2^(-batch_size / half_life).

    `half_life` is in images; with a `share`, it is at most this share of the images seen so
    far, so that a young average soon forgets the first weights. Buffers (batch-norm statistics) are
    averages already: copied.
    Source: Karras et al. 2018, "Progressive growing of GANs", section 6 (the half-life, later).
    """

    def __init__(
        self, module: nn.Module, half_life: int, batch_size: int, share: float = 0.0
    ) -> None:
        self.module = copy.deepcopy(module).requires_grad_(False).eval()
        self.half_life, self.batch_size, self.share = half_life, batch_size, share

    def decay(self, steps: int) -> float:
        """What the past counts for after so many steps of the module, this one among them."""
        seen = steps * self.batch_size
        half_life = min(self.half_life, self.share * seen) if self.share else self.half_life
        return 0.5 ** (self.batch_size / half_life)

    @torch.no_grad()
    def update(self, module: nn.Module, steps: int) -> None:
        """Move the average toward the module's weights, which have made so many steps."""
        average = get_ema_multi_avg_fn(self.decay(steps))
        average(list(self.module.parameters()), list(module.parameters()), 0)
        for mine, theirs in zip(self.module.buffers(), module.buffers(), strict=True):
            mine.copy_(theirs)
