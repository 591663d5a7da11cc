"""Minibatches in the order of training, each computed from the seed and its index alone.

Semi-supervised games get few labeled images with each batch of many unlabeled ones.
"""

from __future__ import annotations

import hashlib
import math
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from advnets.data.dataset import (
    ArraySplit,
    Dataset,
    Gather,
    Index,
    Split,
    StreamingSplit,
    to_tensor,
)
from advnets.data.normalization import Normalizer
from advnets.errors import DataError, UsageError
from advnets.protocols import Batch
from advnets.rng import RNG

_Rows = tuple[np.ndarray, np.ndarray | None]
"""Images and, where each of them has one, labels."""


@dataclass(frozen=True)
class BatchTransform:
    """The transform from pixels to a batch: horizontal flips, normalization, device.

    Each of `world_size` processes gets its own slice of every batch, without overlap.

    Raises:
        UsageError: the slices would not be equally long.
    """

    normalizer: Normalizer
    batch_size: int
    seed: int
    device: torch.device
    hflip: bool = False
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        if self.batch_size % self.world_size:
            raise UsageError(
                f"a batch of {self.batch_size} cannot be divided equally over {self.world_size} "
                "processes; give a multiple of the number of processes"
            )

    @property
    def rank_rows(self) -> slice:
        """Return the rows of every batch that belong to this rank."""
        rows = self.batch_size // self.world_size
        return slice(self.rank * rows, (self.rank + 1) * rows)

    def make_batch(self, pixels: Tensor, labels: Tensor | None, rng: RNG) -> Batch:
        """Flip pixels at random if `hflip` is set, normalize them, and return a batch."""
        if self.hflip:
            # Gather from originals and flipped images: faster than writing into the originals.
            indices = torch.arange(len(pixels))
            selected = indices[rng.uniform("flip", len(pixels)) < 0.5]
            indices[selected] = len(pixels) + torch.arange(len(selected))
            flipped = pixels.index_select(0, selected.to(self.device)).flip(-1)
            pixels = torch.cat((pixels, flipped)).index_select(0, indices.to(self.device))
        labels = None if labels is None else labels.to(self.device)
        return Batch(self.normalizer.to_model(pixels), labels)

    def rng(self, index: int) -> RNG:
        """Return the random source of this rank's rows of a batch."""
        return RNG(self.seed, step=index, purpose="batch", rank=self.rank)


class Loader:
    """The infinite sequence of batches of a run, each a pure function of seed and index.

    Images are shuffled anew each epoch and the epochs are concatenated, then cut into batches. A
    batch may therefore contain the end of one epoch and the beginning of the next (or several
    epochs, if it is larger than the dataset). A run resumes from two integers, seed and index.

    Raises:
        UsageError: there are no images.
    """

    def __init__(self, images: Split, transform: BatchTransform) -> None:
        if not len(images):
            raise UsageError("a loader needs at least one image, got none; use a non-empty split")
        self._n = len(images)
        self._gather = images.gather_fn(transform.device)
        self._labels = None if images.labels is None else to_tensor(images.labels)
        self._transform = transform
        self._order_rng = RNG(transform.seed)
        self._orders: dict[int, Int64[Tensor, " n"]] = {}
        self._last: tuple[int, Batch] | None = None

    def batch_at(self, index: int) -> Batch:
        """Return the normalized batch of that index, counted from 0."""
        if self._last is None or self._last[0] != index:  # a phase may ask for it again
            rows = self._rows_at(index * self._transform.batch_size)
            rng = self._transform.rng(index)
            labels = None if self._labels is None else self._labels.index_select(0, rows)
            self._last = index, self._transform.make_batch(self._gather(rows, rng), labels, rng)
        return self._last[1]

    def epoch_at(self, index: int) -> float:
        """Return the number of epochs completed before the batch of that index."""
        return index * self._transform.batch_size / self._n

    def _rows_at(self, first: int) -> Int64[Tensor, " rows"]:
        """Return the image indices of this rank's rows of the batch that begins at `first`."""
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
            # Keep the previous epoch's order too, for a batch that spans both.
            previous = {e: self._orders[e] for e in (epoch - 1,) if e in self._orders}
            self._orders = previous | {epoch: torch.from_numpy(order)}
        return self._orders[epoch]


class StreamingLoader:
    """The infinite sequence of batches of a stream.

    A batch is a pure function of seed and index, as in `Loader`; but to seek to an index, the
    stream is read (without decoding) from the beginning of the epoch. The next batch is decoded in
    a thread during the training step.

    Raises:
        DataError: an epoch has no images for this rank.
    """

    def __init__(self, stream: StreamingSplit, transform: BatchTransform) -> None:
        self._stream = stream
        self._transform = transform
        self._num_rows = transform.rank_rows.stop - transform.rank_rows.start
        self._epoch_length: int | None = None
        self._next_index = -1  # an invalid index: the stream has no position yet
        self._last: tuple[int, Batch] | None = None
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="advnets-stream")
        self._prefetched: tuple[int, Future[_Rows]] | None = None

    def batch_at(self, index: int) -> Batch:
        """Return the normalized batch of that index, counted from 0."""
        if self._last is not None and self._last[0] == index:
            return self._last[1]
        images, labels = self._fetch(index)
        self._prefetched = index + 1, self._worker.submit(self._read_rows, index + 1)
        rng = self._transform.rng(index)
        pixels = to_tensor(images).to(self._transform.device)
        batch = self._transform.make_batch(
            pixels, None if labels is None else to_tensor(labels), rng
        )
        self._last = index, batch
        return batch

    def epoch_at(self, index: int) -> float:
        """Return the number of epochs completed before that batch; 0 if the length is unknown.

        The number of images read so far is not used: it differs by rank, and after a resume.
        """
        length = self._stream.length
        return index * self._transform.batch_size / length if length else 0.0

    def _fetch(self, index: int) -> _Rows:
        prefetched, self._prefetched = self._prefetched, None
        if prefetched is not None and prefetched[0] == index:
            return prefetched[1].result()
        # Ignore rows prefetched for another index, and errors while reading them.
        return self._worker.submit(self._read_rows, index).result()

    def _read_rows(self, index: int) -> _Rows:
        # Invalidate the position while reading, so that the next read seeks after an error.
        is_next, self._next_index = index == self._next_index, -1
        if not is_next:
            self._seek(index * self._num_rows)
        rows = [self._read_row() for _ in range(self._num_rows)]
        self._next_index = index + 1
        labels = [label for _, label in rows if label is not None]
        images = np.stack([image for image, _ in rows])
        return images, np.array(labels, np.int64) if len(labels) == len(rows) else None

    def _seek(self, position: int) -> None:
        """Seek to a position in this rank's sequence of images over all epochs."""
        if position == 0:
            self._start_epoch(0, 0)
            return
        length = self._epoch_length
        if length is None:
            # Read no more images than needed, as a stream may have no end.
            rank, world_size = self._transform.rank, self._transform.world_size
            length = self._stream.count(rank, world_size, limit=position + 1)
            if length <= position:
                self._epoch_length = length
        self._start_epoch(*divmod(position, max(length, 1)))

    def _start_epoch(self, epoch: int, skip: int) -> None:
        transform = self._transform
        self._epoch = epoch
        self._position = skip
        self._iterator = self._stream.read_epoch(
            transform.seed, epoch, skip, transform.rank, transform.world_size
        )

    def _read_row(self) -> tuple[np.ndarray, int | None]:
        for row in self._iterator:
            self._position += 1
            return row
        if self._position == 0:
            raise DataError(
                f"rank {self._transform.rank} of {self._transform.world_size} has no images in an "
                "epoch; use fewer processes or more shards"
            )
        self._epoch_length = self._position
        self._start_epoch(self._epoch + 1, 0)
        return self._read_row()


def make_loader(
    train: Split | StreamingSplit, transform: BatchTransform
) -> Loader | StreamingLoader:
    """Return the loader of training images, in memory or streamed."""
    return (
        Loader(train, transform) if isinstance(train, Split) else StreamingLoader(train, transform)
    )


class SemiSupervisedLoader:
    """The infinite sequence of unlabeled batches, each with a batch of labeled images.

    Both are pure functions of seed and index. The labeled images are also among the unlabeled
    ones.
    """

    def __init__(
        self,
        train: Split,
        labeled_images: ArraySplit,
        transform: BatchTransform,
        labeled_transform: BatchTransform,
    ) -> None:
        self._unlabeled = Loader(train, transform)
        # Use another seed for the labeled images, so that their random draws differ.
        seed = labeled_transform.seed + 1_000_003
        self._labeled = Loader(labeled_images, replace(labeled_transform, seed=seed))

    def batch_at(self, index: int) -> Batch:
        """Return the normalized batch of that index, counted from 0."""
        return Batch(self._unlabeled.batch_at(index).images, labeled=self._labeled.batch_at(index))

    def epoch_at(self, index: int) -> float:
        """Return the number of epochs over all images completed before that batch."""
        return self._unlabeled.epoch_at(index)


def all_training_images(dataset: Dataset) -> Split:
    """Return the training images followed by the unlabeled images, without labels.

    Raises:
        UsageError: the source is a stream.
    """
    train = dataset.train
    if not isinstance(train, Split):
        raise UsageError(
            f"semi-supervised games need random access, but {dataset.name} is a stream; remove "
            "--stream"
        )
    return train if dataset.unlabeled is None else ConcatSplit(train, dataset.unlabeled)


class ConcatSplit:
    """The concatenation of two splits of equal image shape, without labels."""

    def __init__(self, first: Split, second: Split) -> None:
        self.first: Split = first
        self.second: Split = second
        self.shape: tuple[int, int, int] = first.shape
        self.white_level: int = first.white_level
        self.labels: None = None

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def read(self, index: Index) -> np.ndarray:
        """Return some of the images."""
        rows, n = np.arange(len(self))[index], len(self.first)
        images = np.empty((len(rows), *self.shape), np.uint8)
        images[rows < n] = self.first.read(rows[rows < n])
        images[rows >= n] = self.second.read(rows[rows >= n] - n)
        return images

    def gather_fn(self, device: torch.device) -> Gather:
        """Return the function that gathers images by index on a device."""
        gather_fns = self.first.gather_fn(device), self.second.gather_fn(device)
        n = len(self.first)

        def gather(rows: Int64[Tensor, " rows"], rng: RNG) -> Tensor:
            in_first = rows < n
            images = torch.empty((len(rows), *self.shape), dtype=torch.uint8, device=device)
            for gather_fn, mask, start in zip(
                gather_fns, (in_first, ~in_first), (0, n), strict=True
            ):
                if mask.any():
                    images[mask.to(device)] = gather_fn(rows[mask] - start, rng.fold_in(str(start)))
            return images

        return gather

    def digest(self) -> str:
        """Return the BLAKE2b digest of both splits' digests in hex."""
        text = f"{self.first.digest()}/{self.second.digest()}"
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def labeled_subset(train: Split, num_labels: int, seed: int) -> ArraySplit:
    """Draw `num_labels` labeled images, equally many of each class.

    Raises:
        DataError: there are no labels, a class has too few images, or `num_labels` is not a
            multiple of the number of classes.
    """
    if train.labels is None:
        raise DataError(
            "a semi-supervised game needs labeled images, but the data has no labels; use labeled "
            "data"
        )
    classes = int(train.labels.max()) + 1
    if num_labels % classes:
        raise DataError(
            f"the number of labeled images must be a multiple of the {classes} classes, got "
            f"{num_labels:,}; use {classes * math.ceil(num_labels / classes):,}"
        )
    # Draw the same number of images of each class.
    per_class = num_labels // classes
    rng, selected = np.random.default_rng(seed), list[np.ndarray]()
    for label in range(classes):
        of_class = np.flatnonzero(train.labels == label)
        if len(of_class) < per_class:
            raise DataError(
                f"class {label} must have at least {per_class:,} labeled images, got "
                f"{len(of_class):,}; use fewer labeled images"
            )
        selected.append(rng.permutation(of_class)[:per_class])
    rows = np.concatenate(selected)
    return ArraySplit(np.asarray(train.read(rows)), train.labels[rows], train.white_level)
