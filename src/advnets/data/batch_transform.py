"""How images are fed to the nets, whatever source they come from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from advnets.data.normalization import Normalizer
from advnets.errors import UsageError
from advnets.protocols import Batch
from advnets.rng import RNG


@dataclass(frozen=True)
class BatchTransform:
    """How images are fed to the nets, whatever source they come from.

    `rank` of `world` processes sees its own slice of every batch, and no row that another sees.
    """

    normalizer: Normalizer
    batch_size: int
    seed: int
    device: torch.device
    hflip: bool = False
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world <= self.batch_size:
            raise UsageError(
                f"rank {self.rank} of {self.world} with batches of {self.batch_size} cannot be; "
                f"ranks begin at 0, and each needs a row of the batch"
            )

    @property
    def rows(self) -> slice:
        """The rows of every batch that are this rank's."""
        edges = [self.batch_size * rank // self.world for rank in (self.rank, self.rank + 1)]
        return slice(*edges)

    def batch(self, pixels: Tensor, labels: Tensor | None, rng: RNG) -> Batch:
        """Pixels on the device, mirrored by chance where that is asked for, in the nets' range."""
        if self.hflip:
            # Whole images are copied faster by their numbers than written into their places.
            numbers = torch.arange(len(pixels))
            mirrored = numbers[rng.uniform("flip", len(pixels)) < 0.5]
            numbers[mirrored] = len(pixels) + torch.arange(len(mirrored))
            turned = pixels.index_select(0, mirrored.to(self.device)).flip(-1)
            pixels = torch.cat((pixels, turned)).index_select(0, numbers.to(self.device))
        labels = None if labels is None else labels.to(self.device)
        return Batch(self.normalizer.to_model(pixels), labels)

    def rng_at(self, index: int) -> RNG:
        """Of this rank's rows of the batch of that index."""
        return RNG(self.seed, step=index, purpose="batch", first_row=self.rows.start)
