"""Streams of torch's iterable datasets; only the images of the shuffle buffer are in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from torch import Tensor

from advnets.config import Data
from advnets.data.dataset import Dataset, Shape
from advnets.data.huggingface.library import describe_error
from advnets.data.image_folder.decode import Frame
from advnets.data.memory import decode_item, split_pair
from advnets.data.stream import (
    NUM_DIGEST_IMAGES,
    SHUFFLE_BUFFER,
    ImageStream,
    StreamRow,
    shuffle_seed,
)
from advnets.errors import AdvnetsError, DataError, UsageError, warn_user

_Item = tuple[int, Any]
"""The index of an item of the dataset, and the item."""


@dataclass(eq=False)
class IterableStream(ImageStream):
    """A stream of the items of an iterable dataset: images, or pairs of an image and a class.

    Raises:
        UsageError: the dataset has no images, or an item is not an image.
        DataError: the dataset raises an exception.
    """

    dataset: Iterable[Any]
    frame: Frame
    """The size and channels to which files and PIL images are decoded; arrays keep their shape."""
    repeats: bool = field(init=False)
    """Whether two iterations begin with the same images; only then are these part of the digest."""
    _count_remedy = "correct its __len__"

    def __post_init__(self) -> None:
        # Take the shape of images from the first one.
        first = next(self._read_in_order(), None)
        if first is None:
            raise UsageError(f"data is a {self.name}, which has no images; give at least one")
        image, _ = split_pair(first[1])
        self.shape: Shape = (self.frame.channels, self.frame.height, self.frame.width)
        if isinstance(image, np.ndarray | Tensor):
            channels, height, width = decode_item(image, "image 0", self.frame).shape
            self.shape = channels, height, width

        # Iterate twice and compare the first images.
        digest, self._head = self.head(NUM_DIGEST_IMAGES).digest(), None
        self.repeats = self.head(NUM_DIGEST_IMAGES).digest() == digest

    def _identity(self) -> tuple[object, ...]:
        first = self.head(NUM_DIGEST_IMAGES).digest() if self.repeats else ""
        return "iterable", self.length, self.shape, self.frame, first

    def _read_in_order(self) -> Iterator[_Item]:
        index = -1
        try:
            for index, item in enumerate(self.dataset):
                yield index, item
        except AdvnetsError:
            raise
        except Exception as error:  # of the user's code
            raise DataError(
                f"{self.name} raised an exception after {index + 1:,} images "
                f"({describe_error(error)}); correct it, then resume"
            ) from error

    def _rows_of_rank(self, rank: int, world_size: int) -> Iterator[_Item]:
        return islice(self._read_in_order(), rank, None, world_size)

    def _shuffled(self, seed: int, epoch: int, rank: int, world_size: int) -> Iterator[_Item]:
        # Fill the buffer.
        rng = np.random.default_rng([shuffle_seed(seed), epoch])
        items = self._rows_of_rank(rank, world_size)
        buffer = list(islice(items, SHUFFLE_BUFFER))
        if not buffer:
            raise DataError(
                f"{self.name} gives no images in epoch {epoch + 1}; return a new iterator from "
                "each call of __iter__"
            )

        # Yield a random item of the buffer, and replace it by the next one; then yield the rest.
        for item in items:
            place = int(rng.integers(len(buffer)))
            yield buffer[place]
            buffer[place] = item
        yield from (buffer[place] for place in rng.permutation(len(buffer)))

    def _decode(self, row: _Item, position: str) -> StreamRow | None:  # noqa: ARG002
        name, (image, label) = f"image {row[0]:,}", split_pair(row[1])
        try:
            pixels = decode_item(image, name, self.frame)
        except DataError as error:
            self._report(str(error), identity=name)
            return None
        if isinstance(image, np.ndarray | Tensor) and pixels.shape != self.shape:
            raise UsageError(
                f"{name} has shape {pixels.shape} and image 0 {self.shape}; give arrays of one "
                "shape, or PIL images, which are resized"
            )
        if label is None:
            return pixels, None
        if not isinstance(label, int) or label < 0:
            raise UsageError(
                f"{name} has the label {label!r}; expected an integer from 0: number the classes"
            )
        return pixels, label


def open_iterable(dataset: Iterable[Any], labels: object, data: Data) -> Dataset:
    """Open an iterable dataset of torch as a stream, all of it for training.

    Raises:
        UsageError: `labels` is given; or as for `IterableStream`.
        DataError: as for `IterableStream`.

    Warns:
        RunWarning: each iteration gives other images, so that resuming is not bit-exact.
    """
    if labels is not None:
        raise UsageError(
            "labels was given, and data is an iterable Dataset; yield pairs of image and label "
            "from it, and leave labels out"
        )
    name = type(dataset).__name__
    length = len(dataset) if hasattr(dataset, "__len__") else None  # type: ignore[arg-type]
    train = IterableStream(name, length, dataset, Frame.from_config(data))
    if train.repeats:
        note = (
            f"{name} is recognized by its first {NUM_DIGEST_IMAGES} images: if later ones change, "
            "or their order does, a resumed run is not bit-exact, and no message says so"
        )
    else:
        note = (
            f"{name} gives other images each time it is iterated: a resumed run is not bit-exact, "
            "and other data cannot be detected"
        )
        warn_user(note)
    return Dataset("iterable", train, valid=None, test=None, notes=(note,))
