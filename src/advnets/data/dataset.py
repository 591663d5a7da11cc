"""Datasets: their splits, in memory, on disk, streamed or drawn from a distribution."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol, cast, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from advnets.data.distribution import SyntheticDistribution
from advnets.data.spec import SkippedFile
from advnets.rng import RNG

Shape = tuple[int, int, int]
"""Channels, height and width."""

Gather = Callable[[Int64[Tensor, " rows"], RNG], Tensor]
"""A function from image indices (on the host) to images on a device, shape (rows, C, H, W)."""

Index = slice | np.ndarray
"""An index of some of the images: a slice, a boolean mask or integer indices."""

MAX_STATISTICS_IMAGES = 1 << 16
"""The maximum number of images, evenly spaced, from which a statistic is estimated."""
_BLOCK = 1024
"""The number of images in a block."""
_MAX_DEVICE_FRACTION = 0.5
"""The maximum fraction of a device's free memory that images may occupy."""


@runtime_checkable
class Split(Protocol):
    """A split with random access: images of shape (C, H, W), by index."""

    @property
    def shape(self) -> Shape:
        """Return the shape of an image."""
        ...

    @property
    def white_level(self) -> int:
        """Return the pixel value that corresponds to 1.0."""
        ...

    @property
    def labels(self) -> np.ndarray | None:
        """Return the class indices of all images as int64, or None without labels."""
        ...

    def __len__(self) -> int: ...

    def read(self, index: Index) -> np.ndarray:
        """Return some of the images as an array, shape (rows, C, H, W)."""
        ...

    def gather_fn(self, device: torch.device) -> Gather:
        """Return the function that gathers images by index on a device."""
        ...

    def digest(self) -> str:
        """Return the BLAKE2b digest of images and labels in hex."""
        ...


@dataclass(frozen=True, eq=False)
class ArraySplit:
    """A split as an array, in memory or memory-mapped.

    `images` has shape (N, C, H, W): uint8, or float32 for points, whose C is 1 or 2. `white_level`
    is 255, or 16 for scikit-learn's digits and 1 for points. `labels` are class indices of shape
    (N,). `known_digest` is the digest if it has been computed before.
    """

    images: UInt8[np.ndarray, "n channels height width"] | Float32[np.ndarray, "n dims 1 1"]
    labels: Int64[np.ndarray, " n"] | None = None
    white_level: int = 255
    known_digest: str | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.images.shape[1:]))
        labels = "" if self.labels is None else ", labeled"
        return f"ArraySplit({len(self.images):,} x {shape}, {self.images.dtype}{labels})"

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> Shape:
        """Return the shape of an image."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    def subset(self, index: Index) -> ArraySplit:
        """Return a subset of the images: a view for a slice, otherwise a copy."""
        labels = None if self.labels is None else self.labels[index]
        return ArraySplit(self.images[index], labels, self.white_level)

    def read(self, index: Index) -> np.ndarray:
        """Return some of the images."""
        return self.images[index]

    def gather_fn(self, device: torch.device) -> Gather:
        """Return a gather function; the images stay on the device if they fit there."""
        storage = data_device(self.images.nbytes, device)
        images = to_tensor(self.images).to(storage)
        return lambda rows, _: images.index_select(0, rows.to(storage)).to(device)

    def digest(self) -> str:
        """Return the BLAKE2b digest of data type, shape, pixels and labels in hex."""
        if self.known_digest is not None:
            return self.known_digest
        return array_digest(
            self.images, self.labels, repr((self.images.dtype.str, self.white_level))
        )


@dataclass(frozen=True, eq=False)
class RandomCropSplit:
    """A split of uncropped images, their values one after the other in `values`.

    `extents` has the offset in `values`, the height and the width of each image. For training a
    window of shape `shape` is cropped at random, anew each time; `read` crops the center.
    `known_digest` is the digest, if it has been computed before.
    """

    values: UInt8[np.ndarray, " values"]
    extents: Int64[np.ndarray, "n 3"]
    shape: Shape
    labels: Int64[np.ndarray, " n"] | None = None
    known_digest: str | None = field(default=None, repr=False)
    white_level: int = 255

    def __len__(self) -> int:
        return len(self.extents)

    def read(self, index: Index) -> UInt8[np.ndarray, "k channels height width"]:
        """Return some of the images, cropped at the center."""
        extents = self.extents[index]
        return self._crop(to_tensor(self.values), extents, self._max_offsets(extents) // 2).numpy()

    def gather_fn(self, device: torch.device) -> Gather:
        """Return a function that gathers images by index, each cropped at random."""
        values = to_tensor(self.values).to(data_device(self.values.nbytes, device))

        def gather(indices: Int64[Tensor, " rows"], rng: RNG) -> UInt8[Tensor, "rows c h w"]:
            extents = self.extents[indices.numpy()]
            fractions = rng.uniform("window", len(extents), 2).numpy()
            offsets = (fractions * (self._max_offsets(extents) + 1)).astype(np.int64)
            return self._crop(values, extents, offsets).to(device)

        return gather

    def digest(self) -> str:
        """Return a BLAKE2b digest of the shape, of each image, and of the labels."""
        if self.known_digest is not None:
            return self.known_digest
        digest = hashlib.blake2b(repr((self.shape, self.labels is None)).encode(), digest_size=16)
        for start, height, width in self.extents.tolist():
            digest.update(f"{height} {width}".encode())
            digest.update(self.values[start : start + self.shape[0] * height * width].data)
        if self.labels is not None:
            digest.update(self.labels.data)
        return digest.hexdigest()

    def _max_offsets(self, extents: Int64[np.ndarray, "rows 3"]) -> Int64[np.ndarray, "rows 2"]:
        """Return the largest offsets of a window, down and to the right, in pixels."""
        return extents[:, 1:] - np.array(self.shape[1:])

    def _crop(
        self,
        values: UInt8[Tensor, " values"],
        extents: Int64[np.ndarray, "rows 3"],
        offsets: Int64[np.ndarray, "rows 2"],
    ) -> UInt8[Tensor, "rows channels height width"]:
        """Return a window of each image at `offsets` pixels down and to the right."""
        channels, height, width = self.shape
        starts, heights, widths = extents[:, :, None, None].swapaxes(0, 1)
        tops, lefts = offsets[:, :, None, None].swapaxes(0, 1)
        rows = np.arange(channels)[:, None] * heights + np.arange(height) + tops
        # The rows of a window are apart, the values of a row are not: copy whole rows.
        starts_of_rows = torch.from_numpy((rows * widths + (starts + lefts)).reshape(-1))
        gathered = values.unfold(0, width, 1).index_select(0, starts_of_rows.to(values.device))
        return gathered.view(-1, *self.shape)


@runtime_checkable
class StreamingSplit(Protocol):
    """Training images that are read sequentially, without random access."""

    shape: Shape
    white_level: int
    length: int | None
    """The number of images in an epoch; None if unknown."""

    def head(self, n: int) -> ArraySplit:
        """Return the first n images of the stream, or all if there are fewer."""
        ...

    def read_epoch(
        self, seed: int, epoch: int, skip: int, rank: int, world_size: int
    ) -> Iterator[tuple[UInt8[np.ndarray, "channels height width"], int | None]]:
        """Iterate over images and labels of one epoch, shuffled by seed and epoch.

        Only the images of process `rank` of `world_size` are returned, without the first `skip` of
        them, which are not decoded.
        """
        ...

    def count(self, rank: int, world_size: int, limit: int | None = None) -> int:
        """Return the number of images of a process in an epoch, or `limit`, if it has more.

        At most `limit` images of the stream are read, where it does not state their number.
        """
        ...

    def digest(self) -> str:
        """Return a digest that identifies the stream, computed without reading all of it."""
        ...


@dataclass(frozen=True, eq=False)
class HeldOutSplits:
    """The validation and test images of one fold of a file."""

    valid: Split
    test: Split
    same_train_images: bool
    """Whether the fold has the same training images as the fold that was opened."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """An opened dataset.

    `train` is never empty; `valid` and `test` are None if the source has no such split. `classes`
    are the names of the labels, `distribution` is the one that points were drawn from. For a file
    with several folds, `fold` is the one that was opened (from 1), and `folds` are all that have
    validation and test images. `unlabeled` are further training images that only semi-supervised
    games use. `unsupported_files` counts files of unsupported formats by their suffix; `notes` are
    sentences about how the source was read.
    """

    name: str
    train: Split | StreamingSplit
    valid: Split | None
    test: Split | None
    skipped_files: tuple[SkippedFile, ...] = ()
    classes: tuple[str, ...] = ()
    distribution: SyntheticDistribution | None = None
    fold: int | None = None
    folds: Mapping[int, HeldOutSplits] = field(default_factory=dict[int, HeldOutSplits])
    unlabeled: Split | None = None
    unsupported_files: Mapping[str, int] = field(default_factory=dict[str, int])
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        count = num_train_images(self.train)
        sizes = [
            f"train={'streamed' if count is None else f'{count:,}'}",
            *(
                f"{name}={len(split):,}"
                for name, split in (("valid", self.valid), ("test", self.test))
                if split is not None
            ),
        ]
        shape = " x ".join(map(str, self.shape))
        return f"Dataset({self.name!r}, {shape}, {', '.join(sizes)})"

    @property
    def evaluation_folds(self) -> dict[int, HeldOutSplits]:
        """Return the folds that a model trained on `train` can be evaluated on, by number."""
        return {number: fold for number, fold in self.folds.items() if fold.same_train_images}

    @property
    def shape(self) -> Shape:
        """Return channels, height and width of an image."""
        return self.train.shape

    def class_names(self) -> tuple[str, ...]:
        """Return the names of the labels, or their indices as text; empty without labels."""
        labels = self.train.labels if isinstance(self.train, Split) else None
        if labels is None:
            return ()
        return self.classes or tuple(map(str, range(int(labels.max()) + 1)))

    def class_counts(self) -> tuple[int, ...]:
        """Return the number of training images of each class; empty without labels."""
        names = self.class_names()
        if not names:
            return ()
        labels = cast(Split, self.train).labels
        return tuple(np.bincount(cast(np.ndarray, labels), minlength=len(names)).tolist())

    def digest(self) -> str:
        """Return the BLAKE2b digest of the training images and split sizes in hex.

        A resumed run compares it with the recorded one, to detect changed data.
        """
        sizes = [0 if split is None else len(split) for split in (self.valid, self.test)]
        text = f"{self.train.digest()}/{sizes}"
        if self.unlabeled is not None:
            text += f"/{self.unlabeled.digest()}/{len(self.unlabeled)}"
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def digest_all_splits(self) -> str:
        """Return the BLAKE2b digest of the images of all splits in hex, which scores depend on."""
        held_out = [None if split is None else split.digest() for split in (self.valid, self.test)]
        digest = hashlib.blake2b(f"{self.train.digest()}/{held_out}".encode(), digest_size=16)
        return digest.hexdigest()


def num_train_images(train: Split | StreamingSplit) -> int | None:
    """Return the number of training images in an epoch; None for a stream of unknown length."""
    return len(train) if isinstance(train, Split) else train.length


def iterate_blocks(
    train: Split | StreamingSplit, max_images: int = MAX_STATISTICS_IMAGES
) -> Iterator[np.ndarray]:
    """Iterate over at most `max_images` evenly spaced images in blocks.

    Of a stream, only the first block of images is returned.
    """
    if not isinstance(train, Split):
        yield train.head(min(max_images, _BLOCK)).images
        return
    n = len(train)
    indices = _evenly_spaced(n, max_images)
    for start in range(0, len(indices), _BLOCK):
        yield train.read(indices[start : start + _BLOCK])


def _evenly_spaced(n: int, max_count: int) -> np.ndarray:
    return np.arange(n) if n <= max_count else np.arange(max_count) * n // max_count


def hold_out_last(images: ArraySplit, held_out: int) -> tuple[ArraySplit, ArraySplit | None]:
    """Split off the last `held_out` images as a validation split; None if `held_out` is 0."""
    if not held_out:
        return images, None
    num_train = len(images) - held_out
    return images.subset(slice(num_train)), images.subset(slice(num_train, None))


def renumber_labels(
    train: ArraySplit, *others: ArraySplit | None
) -> tuple[tuple[ArraySplit, *tuple[ArraySplit | None, ...]], tuple[str, ...]]:
    """Renumber the labels that occur as 0, 1, …, and return the splits and the class names.

    The class names are the original labels as text; empty without labels.
    """
    splits = (train, *others)
    labels = [split.labels for split in splits if split is not None and split.labels is not None]
    if not labels:
        return splits, ()
    unique = np.unique(np.concatenate(labels))
    if np.array_equal(unique, np.arange(len(unique))):
        return splits, tuple(map(str, unique))

    def renumber(split: ArraySplit) -> ArraySplit:
        if split.labels is None:
            return split
        return replace(split, labels=np.searchsorted(unique, split.labels), known_digest=None)

    rest = [None if split is None else renumber(split) for split in others]
    return (renumber(train), *rest), tuple(map(str, unique))


def array_digest(images: np.ndarray, labels: np.ndarray | None, heading: str) -> str:
    """Return the BLAKE2b digest of a heading, pixels and labels in hex."""
    shape = (heading, images.shape, labels is None)
    digest = hashlib.blake2b(repr(shape).encode(), digest_size=16)
    for start in range(0, len(images), _BLOCK):
        digest.update(np.ascontiguousarray(images[start : start + _BLOCK]).reshape(-1).data)
    if labels is not None:
        digest.update(np.ascontiguousarray(labels).data)
    return digest.hexdigest()


def to_tensor(array: np.ndarray) -> Tensor:
    """Convert an array to a tensor, without a copy if it is contiguous and writable."""
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))


def data_device(size: int, device: torch.device) -> torch.device:
    """Return the device that stores `size` bytes: `device`, or the host if that is too small."""
    if device.type != "cuda":
        return device
    free, _ = torch.cuda.mem_get_info(device)
    return device if size <= _MAX_DEVICE_FRACTION * free else torch.device("cpu")


MIN_DISTINCT_IMAGES = 50
"""The number of distinct training images below which a warning is issued."""
MAX_COMPARED_IMAGES = 2000
"""The maximum number of training images that are compared with each other."""
_WHITE_LEVEL_OF_POINTS = 1
"""The `white_level` of points, two of which are never equal."""


def count_distinct_images(train: Split | StreamingSplit) -> int | None:
    """Count the distinct images among at most 2,000 evenly spaced training images.

    Return None for streams and points.
    """
    if not isinstance(train, Split) or train.white_level == _WHITE_LEVEL_OF_POINTS:
        return None
    rows = train.read(_evenly_spaced(len(train), MAX_COMPARED_IMAGES))
    return len({hashlib.blake2b(np.ascontiguousarray(row).data).digest() for row in rows})


def few_images_warning(num_distinct: int | None, num_train: int) -> str | None:
    """Return a warning if there are so few training images that a generator memorizes them."""
    if num_distinct is None or num_train == 0 or num_distinct >= MIN_DISTINCT_IMAGES:
        return None
    if num_distinct == num_train:
        count = "1 training image" if num_train == 1 else f"{num_train:,} training images"
        finding = f"there is only {count}" if num_train == 1 else f"there are only {count}"
    else:
        compared = f"{min(num_train, MAX_COMPARED_IMAGES):,} training images"
        compared += " that were compared" if num_train > MAX_COMPARED_IMAGES else ""
        finding = f"only {num_distinct:,} of {compared} are different"
    return (
        f"warning: {finding}, which the generator can memorize; use at least several hundred "
        "different images"
    )
