"""What every source of data is opened into."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, cast, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64, UInt8
from torch import Tensor

from advnets.data.spec import SkippedFile
from advnets.rng import RNG

Shape = tuple[int, int, int]
"""Channels, height and width."""

Gather = Callable[[Int64[Tensor, " rows"], RNG], Tensor]
"""Images by their numbers (on the host), shape (rows, C, H, W), on a device."""

Index = slice | np.ndarray
"""Some of the images: a range, a mask or numbers."""

BaseDistribution = Literal["uniform", "normal"]
"""How a number that a point is drawn from is distributed: on [0, 1], or as N(0, 1)."""

MAX_STATISTICS_IMAGES = 1 << 16
"""Images that are looked at, evenly spread, where a statistic of all is wanted."""
_BLOCK = 1024
_MAX_DEVICE_FRACTION = 0.5
"""Of a device's free memory, what images may take."""


@runtime_checkable
class Split(Protocol):
    """One split: numbered images, (C, H, W) each; `white` is the value that means 1.0."""

    @property
    def shape(self) -> Shape:
        """Of an image."""
        ...

    @property
    def white_level(self) -> int:
        """The value that means 1.0."""
        ...

    @property
    def labels(self) -> np.ndarray | None:
        """The classes 0, 1, … of all images, int64, or None."""
        ...

    def __len__(self) -> int: ...

    def read(self, index: Index) -> np.ndarray:
        """Some images, as an array of their own values."""
        ...

    def gather_fn(self, device: torch.device) -> Gather:
        """The way from numbers to images on a device."""
        ...

    def digest(self) -> str:
        """BLAKE2b, in hex, of all that the images and labels are."""
        ...


@dataclass(frozen=True, eq=False)
class ArraySplit:
    """One split as an array, in memory or mapped from a file.

    `images` has shape (N, C, H, W): bytes, or float32 for points of a plane. `white` is 255, 16 for
    scikit-learn's digits, 1 for points. `labels` are the classes 0, 1, … of shape (N,). `known` is
    the digest, where it was found out before.
    """

    images: UInt8[np.ndarray, "n channels height width"] | Float32[np.ndarray, "n dims 1 1"]
    labels: Int64[np.ndarray, " n"] | None = None
    white_level: int = 255
    known_digest: str | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> Shape:
        """Of an image."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    def subset(self, index: Index) -> ArraySplit:
        """Some of the images: a view for a slice, a copy for a mask or numbers."""
        labels = None if self.labels is None else self.labels[index]
        return ArraySplit(self.images[index], labels, self.white_level)

    def read(self, index: Index) -> np.ndarray:
        """Some of the images, as an array."""
        return self.images[index]

    def gather_fn(self, device: torch.device) -> Gather:
        """Images by number; kept on the device where they fit, else fetched from the host."""
        kept = data_device(self.images.nbytes, device)
        images = to_tensor(self.images).to(kept)
        return lambda numbers, _: images.index_select(0, numbers.to(kept)).to(device)

    def digest(self) -> str:
        """BLAKE2b of kind, shape, pixels and labels."""
        if self.known_digest is not None:
            return self.known_digest
        return array_digest(
            self.images, self.labels, repr((self.images.dtype.str, self.white_level))
        )


@runtime_checkable
class StreamingSplit(Protocol):
    """Training images that come one after the other, and are not all at hand."""

    shape: Shape
    white_level: int
    length: int | None
    """Images in a pass, where that is known."""

    def head(self, n: int) -> ArraySplit:
        """The first images of the stream, at most n."""
        ...

    def epochs(
        self, seed: int, epoch: int, skip: int, rank: int, world: int
    ) -> Iterator[tuple[UInt8[np.ndarray, "channels height width"], int | None]]:
        """One pass over this rank's share, shuffled by seed and epoch, without its first `skip`.

        Gives images with their labels; what is skipped is not decoded.
        """
        ...

    def count(self, rank: int, world: int) -> int:
        """Images in this rank's share of a pass, found by reading it through where need be."""
        ...

    def digest(self) -> str:
        """Of all that tells this stream from another, without reading it through."""
        ...


@dataclass(frozen=True, eq=False)
class BaseSample:
    """What points may have been drawn from."""

    component: Int64[np.ndarray, " n"]
    """The number of the part; -1 where the density is 0."""
    noise: Float64[np.ndarray, "n dims"]
    """Of each axis; NaN where the density is 0."""


@runtime_checkable
class Distribution(Protocol):
    """A distribution of points whose density is known."""

    @property
    def dims(self) -> int:
        """Numbers in a point."""
        ...

    @property
    def base_distributions(self) -> tuple[BaseDistribution, ...]:
        """How each of the numbers that a point is drawn from is distributed."""
        ...

    @property
    def component_weights(self) -> Float64[np.ndarray, " parts"]:
        """How probable each part of it is that points are drawn from, as a mode or an arm."""
        ...

    def invert(self, points: np.ndarray) -> BaseSample:
        """Lead points of shape (n, dims) back to what they may have been drawn from."""
        ...

    def sample(self, n: int, rng: RNG) -> Float32[np.ndarray, "n dims"]:
        """Draw n points; the first ones do not depend on n."""
        ...

    def log_density(self, points: np.ndarray) -> Float64[np.ndarray, " n"]:
        """Log p(x) in nats at points of shape (n, dims), exact, in float64."""
        ...


@dataclass(frozen=True, eq=False)
class HeldOutSplits:
    """What one of a file's folds holds out."""

    valid: Split
    test: Split
    same_train_images: bool
    """Whether it trains on the very images that the opened fold trains on."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """A source, opened.

    `train` is never empty; `valid` and `test` are None where the source has none. `classes` names
    the labels, `distribution` is what points were drawn from. Of a file that can be split in
    several ways, `fold` is the one that was opened, from 1, and `folds` has all that hold out
    validation and test images. `unlabeled` are images beside the training ones that only games
    with few labels use. `unused` counts the files that are no images advnets reads, by the ending
    of their names; `notes` are sentences about how the source was read.
    """

    name: str
    train: Split | StreamingSplit
    valid: Split | None
    test: Split | None
    skipped_files: tuple[SkippedFile, ...] = ()
    classes: tuple[str, ...] = ()
    distribution: Distribution | None = None
    fold: int | None = None
    folds: Mapping[int, HeldOutSplits] = field(default_factory=dict[int, HeldOutSplits])
    unlabeled: Split | None = None
    unsupported_files: Mapping[str, int] = field(default_factory=dict[str, int])
    notes: tuple[str, ...] = ()

    @property
    def evaluation_folds(self) -> dict[int, HeldOutSplits]:
        """The folds that one training on these images is for."""
        return {number: held for number, held in self.folds.items() if held.same_train_images}

    @property
    def shape(self) -> Shape:
        """Channels, height and width of an image."""
        return self.train.shape

    def class_names(self) -> tuple[str, ...]:
        """Names of the labels, their numbers where they have none; empty without labels."""
        labels = self.train.labels if isinstance(self.train, Split) else None
        if labels is None:
            return ()
        return self.classes or tuple(map(str, range(int(labels.max()) + 1)))

    def class_counts(self) -> tuple[int, ...]:
        """Return how many training images each class of `labeled` has."""
        names = self.class_names()
        if not names:
            return ()
        labels = cast(Split, self.train).labels
        return tuple(np.bincount(cast(np.ndarray, labels), minlength=len(names)).tolist())

    def digest(self) -> str:
        """BLAKE2b, in hex, of the training images and of the sizes of the splits.

        A resumed run compares it with the one it began with, to see that its data is the same.
        """
        sizes = [0 if split is None else len(split) for split in (self.valid, self.test)]
        text = f"{self.train.digest()}/{sizes}"
        if self.unlabeled is not None:
            text += f"/{self.unlabeled.digest()}/{len(self.unlabeled)}"
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def digest_all_splits(self) -> str:
        """BLAKE2b, in hex, of the images of all splits: what scores on them hang on."""
        held_out = [None if split is None else split.digest() for split in (self.valid, self.test)]
        digest = hashlib.blake2b(f"{self.train.digest()}/{held_out}".encode(), digest_size=16)
        return digest.hexdigest()


def num_train_images(train: Split | StreamingSplit) -> int | None:
    """Training images in an epoch; None where a stream does not know."""
    return len(train) if isinstance(train, Split) else train.length


def iterate_blocks(
    train: Split | StreamingSplit, max_images: int = MAX_STATISTICS_IMAGES
) -> Iterator[np.ndarray]:
    """At most so many images, evenly spread, in arrays of some; of a stream the first ones."""
    if not isinstance(train, Split):
        yield train.head(min(max_images, _BLOCK)).images
        return
    n = len(train)
    numbers = np.arange(n) if n <= max_images else np.arange(max_images) * n // max_images
    for start in range(0, len(numbers), _BLOCK):
        yield train.read(numbers[start : start + _BLOCK])


def hold_out_last(images: ArraySplit, held_out: int) -> tuple[ArraySplit, ArraySplit | None]:
    """The images but the last few, and the last few (None for 0): training and validation."""
    if not held_out:
        return images, None
    kept = len(images) - held_out
    return images.subset(slice(kept)), images.subset(slice(kept, None))


def renumber_labels(
    train: ArraySplit, *others: ArraySplit | None
) -> tuple[tuple[ArraySplit, *tuple[ArraySplit | None, ...]], tuple[str, ...]]:
    """Number the label ids that occur 0, 1, …, and return the parts with the ids as class names.

    No number between two ids is a class. Without labels there are no names.
    """
    parts = (train, *others)
    labels = [part.labels for part in parts if part is not None and part.labels is not None]
    if not labels:
        return parts, ()
    ids = np.unique(np.concatenate(labels))
    if np.array_equal(ids, np.arange(len(ids))):
        return parts, tuple(map(str, ids))

    def numbered(part: ArraySplit) -> ArraySplit:
        if part.labels is None:
            return part
        return replace(part, labels=np.searchsorted(ids, part.labels), known_digest=None)

    rest = [None if part is None else numbered(part) for part in others]
    return (numbered(train), *rest), tuple(map(str, ids))


def array_digest(images: np.ndarray, labels: np.ndarray | None, heading: str) -> str:
    """BLAKE2b, in hex, of a heading, the pixels and the labels."""
    shape = (heading, images.shape, labels is None)
    digest = hashlib.blake2b(repr(shape).encode(), digest_size=16)
    for start in range(0, len(images), _BLOCK):
        digest.update(np.ascontiguousarray(images[start : start + _BLOCK]).reshape(-1).data)
    if labels is not None:
        digest.update(np.ascontiguousarray(labels).data)
    return digest.hexdigest()


def to_tensor(array: np.ndarray) -> Tensor:
    """The array as a tensor; torch wants it writable and without gaps, else it is copied."""
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))


def data_device(size: int, device: torch.device) -> torch.device:
    """Where so many bytes are kept: on the device, or on the host where they do not fit."""
    if device.type != "cuda":
        return device
    free, _ = torch.cuda.mem_get_info(device)
    return device if size <= _MAX_DEVICE_FRACTION * free else torch.device("cpu")


MIN_DISTINCT_IMAGES = 50
"""Different training images, under which a warning is due."""
MAX_COMPARED_IMAGES = 2000
"""Training images that are compared with each other, at most."""
_WHITE_LEVEL_OF_POINTS = 1
"""The value that means 1.0 in points, of which two are never the same."""


def count_distinct_images(train: Split | StreamingSplit) -> int | None:
    """Count the different ones among at most 2,000 training images, evenly spread.

    None for streams and points.
    """
    if not isinstance(train, Split) or train.white_level == _WHITE_LEVEL_OF_POINTS:
        return None
    n = len(train)
    rows = train.read(
        np.arange(n)
        if n <= MAX_COMPARED_IMAGES
        else np.arange(MAX_COMPARED_IMAGES) * n // MAX_COMPARED_IMAGES
    )
    return len({hashlib.blake2b(np.ascontiguousarray(row).data).digest() for row in rows})


def few_images_warning(num_distinct: int | None, num_train: int) -> str | None:
    """Return a warning where a generator can only learn its training images by heart."""
    if num_distinct is None or num_train == 0 or num_distinct >= MIN_DISTINCT_IMAGES:
        return None
    if num_distinct == num_train:
        count = "1 training image" if num_train == 1 else f"{num_train:,} training images"
        there = f"there is only {count}" if num_train == 1 else f"there are only {count}"
    else:
        compared = f"{min(num_train, MAX_COMPARED_IMAGES):,} training images"
        compared += " that were compared" if num_train > MAX_COMPARED_IMAGES else ""
        there = f"only {num_distinct:,} of {compared} are different"
    return f"warning: {there}, which G can learn by heart; give some hundreds to have others"
