"""Batches in the order of training, each to be had without those before it."""

from __future__ import annotations

import torch
from jaxtyping import Int64
from torch import Tensor

from advnets.data.batch_transform import BatchTransform
from advnets.data.dataset import Split, StreamingSplit, tensor
from advnets.data.streaming import StreamingLoader
from advnets.errors import UsageError
from advnets.protocols import Batch
from advnets.rng import RNG


class Loader:
    """The endless row of a run's batches, each a pure function of the seed and its index.

    Their order is one random permutation of the images after the other, one an epoch, cut into
    batches: every image comes once an epoch, and a batch may hold the end of one epoch and the
    beginning of the next (or more than one, if it is larger than the set). A run resumes from two
    integers, the seed and the index.

    Raises:
        UsageError: there are no images.
    """

    def __init__(self, images: Split, feed: BatchTransform) -> None:
        if not len(images):
            raise UsageError("there are no images to make batches of; give at least one")
        self._n = len(images)
        self._gather = images.gather_fn(feed.device)
        self._labels = None if images.labels is None else tensor(images.labels)
        self._feed = feed
        self._order_noise = RNG(feed.seed)
        self._orders: dict[int, Int64[Tensor, " n"]] = {}
        self._last: tuple[int, Batch] | None = None

    def batch_at(self, index: int) -> Batch:
        """The batch of that index (the first is 0), in the nets' range."""
        if self._last is None or self._last[0] != index:  # a phase may ask for it again
            numbers = self._numbers(index * self._feed.batch_size)
            rng = self._feed.rng_at(index)
            labels = None if self._labels is None else self._labels.index_select(0, numbers)
            self._last = index, self._feed.batch(self._gather(numbers, rng), labels, rng)
        return self._last[1]

    def epoch_at(self, index: int) -> float:
        """Passes over the images made before the batch of that index."""
        return index * self._feed.batch_size / self._n

    def _numbers(self, first: int) -> Int64[Tensor, " rows"]:
        """The images at this rank's positions of all epochs one after the other."""
        n, rows = self._n, self._feed.rows
        start, stop = first + rows.start, first + rows.stop
        return torch.cat(
            [
                self._order(epoch)[max(start - epoch * n, 0) : stop - epoch * n]
                for epoch in range(start // n, (stop - 1) // n + 1)
            ]
        )

    def _order(self, epoch: int) -> Int64[Tensor, " n"]:
        if epoch not in self._orders:
            order = self._order_noise.at_step(epoch).permutation("order", self._n)
            before = {e: self._orders[e] for e in (epoch - 1,) if e in self._orders}
            self._orders = before | {epoch: torch.from_numpy(order)}
        return self._orders[epoch]


def make_loader(train: Split | StreamingSplit, feed: BatchTransform) -> Loader | StreamingLoader:
    """The batches of a source's training images, at hand or streamed."""
    return Loader(train, feed) if isinstance(train, Split) else StreamingLoader(train, feed)
