"""Batches in the order of training, each to be had without those before it."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from advnets.data.scaling import Scaling
from advnets.data.source import Pictures
from advnets.errors import UsageError
from advnets.noise import Noise
from advnets.types import Batch


class Batches:
    """The endless row of a run's batches, each a pure function of the seed and its index.

    The pictures are on the device, as bytes. Their order is one random permutation after the other,
    one an epoch, cut into batches: every picture comes once an epoch, and a batch may hold the end
    of one epoch and the beginning of the next (or more than one, if it is larger than the set).

    `first_row` and `rows` give one process of several its slice of every batch; `rows` None: all
    from `first_row` on.

    Raises:
        UsageError: there are no pictures, or batch and slice do not fit each other.
    """

    def __init__(
        self,
        pictures: Pictures,
        scaling: Scaling,
        batch_size: int,
        seed: int,
        device: torch.device,
        first_row: int = 0,
        rows: int | None = None,
    ) -> None:
        self._rows = batch_size - first_row if rows is None else rows
        if not (first_row >= 0 and 0 < self._rows <= batch_size - first_row and len(pictures)):
            raise UsageError(
                f"rows {first_row} to {first_row + self._rows - 1} of a batch of {batch_size} from "
                f"{len(pictures)} pictures cannot be; give at least one picture and one row of it"
            )
        self._images = _on(device, pictures.images)
        self._labels = None if pictures.labels is None else _on(device, pictures.labels)
        self._scaling = scaling
        self._batch_size = batch_size
        self._first_row = first_row
        self._noise = Noise(seed)
        self._orders: dict[int, Int[Tensor, " n"]] = {}

    def at(self, index: int) -> Batch:
        """The batch of that index (the first is 0), in the nets' range."""
        numbers = self._numbers(index * self._batch_size + self._first_row)
        pictures = self._scaling.to_model(self._images.index_select(0, numbers))
        labels = None if self._labels is None else self._labels.index_select(0, numbers)
        return Batch(pictures, labels)

    def epoch_at(self, index: int) -> float:
        """Passes over the pictures made before the batch of that index."""
        return index * self._batch_size / len(self._images)

    def _numbers(self, start: int) -> Int[Tensor, " rows"]:
        """The pictures at positions start, start + 1, … of all epochs one after the other."""
        n, stop = len(self._images), start + self._rows
        return torch.cat(
            [
                self._order(epoch)[max(start - epoch * n, 0) : stop - epoch * n]
                for epoch in range(start // n, (stop - 1) // n + 1)
            ]
        )

    def _order(self, epoch: int) -> Int[Tensor, " n"]:
        if epoch not in self._orders:
            order = self._noise.at(epoch).permutation("order", len(self._images))
            before = {e: self._orders[e] for e in (epoch - 1,) if e in self._orders}
            self._orders = before | {epoch: _on(self._images.device, order)}
        return self._orders[epoch]


def _on(device: torch.device, array: np.ndarray) -> Tensor:
    # torch wants memory that is writable and without gaps; what is so already is not copied.
    return torch.from_numpy(np.require(array, requirements=["C", "W"])).to(device)
