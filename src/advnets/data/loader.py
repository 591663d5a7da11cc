"""Minibatches in the order of training, each computed from the seed and its index alone."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from advnets.data.dataset import Split, StreamingSplit, to_tensor
from advnets.data.normalization import Normalizer
from advnets.errors import DataError, UsageError
from advnets.protocols import Batch
from advnets.rng import RNG

_Rows = tuple[np.ndarray, np.ndarray | None]
"""Images and, where each of them has one, labels."""


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
    world_size: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world_size <= self.batch_size:
            raise UsageError(
                f"rank {self.rank} of {self.world_size} with batches of {self.batch_size} cannot be; "
                f"ranks begin at 0, and each needs a row of the batch"
            )

    @property
    def rank_rows(self) -> slice:
        """The rows of every batch that are this rank's."""
        edges = [self.batch_size * rank // self.world_size for rank in (self.rank, self.rank + 1)]
        return slice(*edges)

    def make_batch(self, pixels: Tensor, labels: Tensor | None, rng: RNG) -> Batch:
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

    def rng(self, index: int) -> RNG:
        """Of this rank's rows of the batch of that index."""
        return RNG(self.seed, step=index, purpose="batch", first_row=self.rank_rows.start)


class Loader:
    """The endless row of a run's batches, each a pure function of the seed and its index.

    Their order is one random permutation of the images after the other, one an epoch, cut into
    batches: every image comes once an epoch, and a batch may hold the end of one epoch and the
    beginning of the next (or more than one, if it is larger than the set). A run resumes from two
    integers, the seed and the index.

    Raises:
        UsageError: there are no images.
    """

    def __init__(self, images: Split, transform: BatchTransform) -> None:
        if not len(images):
            raise UsageError("there are no images to make batches of; give at least one")
        self._n = len(images)
        self._gather = images.gather_fn(transform.device)
        self._labels = None if images.labels is None else to_tensor(images.labels)
        self._transform = transform
        self._order_rng = RNG(transform.seed)
        self._orders: dict[int, Int64[Tensor, " n"]] = {}
        self._last: tuple[int, Batch] | None = None

    def batch_at(self, index: int) -> Batch:
        """The batch of that index (the first is 0), in the nets' range."""
        if self._last is None or self._last[0] != index:  # a phase may ask for it again
            numbers = self._numbers(index * self._transform.batch_size)
            rng = self._transform.rng(index)
            labels = None if self._labels is None else self._labels.index_select(0, numbers)
            self._last = index, self._transform.make_batch(self._gather(numbers, rng), labels, rng)
        return self._last[1]

    def epoch_at(self, index: int) -> float:
        """Passes over the images made before the batch of that index."""
        return index * self._transform.batch_size / self._n

    def _numbers(self, first: int) -> Int64[Tensor, " rows"]:
        """The images at this rank's positions of all epochs one after the other."""
        n, rows = self._n, self._transform.rank_rows
        start, stop = first + rows.start, first + rows.stop
        return torch.cat(
            [
                self._order(epoch)[max(start - epoch * n, 0) : stop - epoch * n]
                for epoch in range(start // n, (stop - 1) // n + 1)
            ]
        )

    def _order(self, epoch: int) -> Int64[Tensor, " n"]:
        if epoch not in self._orders:
            order = self._order_rng.at_step(epoch).permutation("order", self._n)
            before = {e: self._orders[e] for e in (epoch - 1,) if e in self._orders}
            self._orders = before | {epoch: torch.from_numpy(order)}
        return self._orders[epoch]


class StreamingLoader:
    """The endless row of batches of a stream, one pass after the other.

    A batch is a pure function of seed and index, as for images at hand; but to return to an index
    the stream is read from the beginning of the pass, undecoded. The next batch is decoded while
    one is trained on.

    Raises:
        DataError: a pass holds no image for this rank.
    """

    def __init__(self, stream: StreamingSplit, transform: BatchTransform) -> None:
        self._stream = stream
        self._transform = transform
        self._rows = transform.rank_rows.stop - transform.rank_rows.start
        self._count: int | None = None
        self._next = -1  # no index: nothing is begun
        self._last: tuple[int, Batch] | None = None
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="advnets-stream")
        self._ahead: tuple[int, Future[_Rows]] | None = None

    def batch_at(self, index: int) -> Batch:
        """The batch of that index (the first is 0), in the nets' range."""
        if self._last is not None and self._last[0] == index:
            return self._last[1]
        images, labels = self._fetched(index)
        self._ahead = index + 1, self._worker.submit(self._read, index + 1)
        rng = self._transform.rng(index)
        pixels = to_tensor(images).to(self._transform.device)
        batch = self._transform.make_batch(
            pixels, None if labels is None else to_tensor(labels), rng
        )
        self._last = index, batch
        return batch

    def epoch_at(self, index: int) -> float:
        """Passes made before the batch of that index; 0 where the stream's length is not known.

        What a process has read so far must not count: it differs by rank, and after a resume.
        """
        length = self._stream.length
        return index * self._transform.batch_size / length if length else 0.0

    def _fetched(self, index: int) -> _Rows:
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] == index:
            return ahead[1].result()
        # What was read ahead for another index is not wanted, nor an error on the way to it.
        return self._worker.submit(self._read, index).result()

    def _read(self, index: int) -> _Rows:
        going_on, self._next = index == self._next, -1  # after an error nothing is gone on with
        if not going_on:
            self._seek(index * self._rows)
        rows = [self._row() for _ in range(self._rows)]
        self._next = index + 1
        labels = [label for _, label in rows if label is not None]
        images = np.stack([image for image, _ in rows])
        return images, np.array(labels, np.int64) if len(labels) == len(rows) else None

    def _seek(self, position: int) -> None:
        """Go to a position of this rank's row of images."""
        if position == 0:
            self._begin(0, 0)
            return
        if self._count is None:
            self._count = self._stream.count(self._transform.rank, self._transform.world_size)
        self._begin(*divmod(position, max(self._count, 1)))

    def _begin(self, epoch: int, skip: int) -> None:
        transform = self._transform
        self._epoch = epoch
        self._position = skip
        self._left = self._stream.epochs(
            transform.seed, epoch, skip, transform.rank, transform.world_size
        )

    def _row(self) -> tuple[np.ndarray, int | None]:
        for row in self._left:
            self._position += 1
            return row
        if self._position == 0:
            raise DataError(
                f"rank {self._transform.rank} of {self._transform.world_size} has no image to read; "
                f"use fewer processes, or more shards"
            )
        self._count = self._position
        self._begin(self._epoch + 1, 0)
        return self._row()


def make_loader(
    train: Split | StreamingSplit, transform: BatchTransform
) -> Loader | StreamingLoader:
    """The batches of a source's training images, at hand or streamed."""
    return (
        Loader(train, transform) if isinstance(train, Split) else StreamingLoader(train, transform)
    )
