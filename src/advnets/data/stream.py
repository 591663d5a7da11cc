"""Streams of images, which are shuffled in a buffer and decoded when they are needed."""

from __future__ import annotations

import hashlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, ClassVar

import numpy as np
from jaxtyping import UInt8

from advnets.data.dataset import ArraySplit, Shape
from advnets.errors import DataError, printable
from advnets.rng import RNG

SHUFFLE_BUFFER = 1000
"""The number of rows of the shuffle buffer."""
NUM_DIGEST_IMAGES = 16
"""The number of first images that are part of a stream's digest."""

StreamRow = tuple[UInt8[np.ndarray, "channels height width"], int | None]
"""An image and its label, if it has one."""


def shuffle_seed(seed: int) -> int:
    """Return the seed of the shuffled order of a stream, from the seed of the run."""
    key = hashlib.blake2b(f"{seed}/stream".encode(), digest_size=8).digest()
    return int.from_bytes(key, "little")


@dataclass(eq=False)
class ImageStream(ABC):
    """Training images that are read sequentially, from rows of any kind.

    The order of an epoch depends on the seed and the epoch. A broken image is replaced by the next
    intact one of the epoch, or at the end by the first one, so that the image at a position is a
    function of seed, epoch, rank and position alone.
    """

    name: str
    length: int | None
    """The number of rows, if it is known."""
    shape: Shape = field(init=False)
    """Channels, height and width of the images after cropping."""
    white_level: int = field(default=255, init=False)
    """The pixel value of white."""
    _count_remedy: ClassVar[str] = "correct its metadata, or read it without --stream"
    """The advice if the number of rows is not `length`."""
    _reported: set[bytes] = field(default_factory=set[bytes], init=False, repr=False)
    _head: ArraySplit | None = field(default=None, init=False, repr=False)

    @abstractmethod
    def _read_in_order(self) -> Iterator[Any]:
        """Yield all rows in the order of the data."""

    @abstractmethod
    def _shuffled(self, seed: int, epoch: int, rank: int, world_size: int) -> Iterator[Any]:
        """Yield this rank's rows of an epoch in shuffled order."""

    @abstractmethod
    def _rows_of_rank(self, rank: int, world_size: int) -> Iterator[Any]:
        """Yield this rank's rows, or parts of them, in the order of the data."""

    @abstractmethod
    def _decode(self, row: Any, position: str) -> StreamRow | None:
        """Return a row's image and label, or None if the image is broken."""

    @abstractmethod
    def _identity(self) -> tuple[object, ...]:
        """Return the values from which the digest of the stream is computed."""

    def head(self, n: int) -> ArraySplit:
        """Return the first intact images of the dataset, at most n, cropped at the center.

        Raises:
            DataError: there is none, or reading fails.
        """
        if self._head is not None and len(self._head) >= n:
            return self._head.subset(slice(n))
        rows = (self._decode(row, f"row {i:,}") for i, row in enumerate(self._read_in_order()))
        decoded = list(islice((row for row in rows if row is not None), n))
        if not decoded:
            raise self._no_image_error()
        labels = [label for _, label in decoded if label is not None]
        self._head = ArraySplit(
            np.stack([self._crop(image, (0.5, 0.5)) for image, _ in decoded]),
            np.array(labels, np.int64) if labels else None,
        )
        return self._head

    def read_epoch(
        self, seed: int, epoch: int, skip: int, rank: int, world_size: int
    ) -> Iterator[StreamRow]:
        """Yield the images of one epoch of this rank in shuffled order, without the first `skip`.

        Skipped rows are read, because the state of the buffer depends on them, but not decoded.

        Raises:
            DataError: reading fails, no image is intact, or the number of rows is not the one that
                the dataset states, so that a run could not be resumed.
        """
        # Yield each intact image at its position and at those of broken ones before it.
        positions: list[int] = []
        position = -1
        for position, row in enumerate(self._shuffled(seed, epoch, rank, world_size)):
            if position < skip:
                continue
            positions.append(position)
            decoded = self._decode(row, f"row {position:,} of epoch {epoch + 1}")
            if decoded is not None:
                yield from self._fill_positions(decoded, positions, seed, epoch, rank)
                positions.clear()

        # Put the first intact image at the positions of broken ones at the end.
        self._check_count(position + 1, rank, world_size)
        if positions:
            yield from self._fill_positions(
                self._first_intact(seed, epoch, rank, world_size), positions, seed, epoch, rank
            )

    def count(self, rank: int, world_size: int, limit: int | None = None) -> int:
        """Return the number of this rank's images per epoch.

        If the length is not known, rows are read and counted up to `limit`, which is returned if
        there are as many or more: an endless stream can be resumed.
        """
        expected = self._expected_count(rank, world_size)
        if expected is not None:
            return expected
        return sum(1 for _ in islice(self._rows_of_rank(rank, world_size), limit))

    def digest(self) -> str:
        """Return a digest, in hex, that identifies the stream by its first images and settings."""
        return hashlib.blake2b(repr(self._identity()).encode(), digest_size=16).hexdigest()

    def _first_intact(self, seed: int, epoch: int, rank: int, world_size: int) -> StreamRow:
        """Return the first intact image of an epoch."""
        for position, row in enumerate(self._shuffled(seed, epoch, rank, world_size)):
            decoded = self._decode(row, f"row {position:,} of epoch {epoch + 1}")
            if decoded is not None:
                return decoded
        raise self._no_image_error()

    def _no_image_error(self) -> DataError:
        return DataError(f"{self.name} holds no image that can be read; give another dataset")

    def _report(self, problem: str, identity: str) -> None:
        """Log that an image is broken, once for each `identity`, not in each epoch."""
        digest = hashlib.blake2b(identity.encode(), digest_size=16).digest()
        if digest not in self._reported:
            self._reported.add(digest)
            logging.getLogger("advnets").warning(
                "%s: %s; skipped", printable(self.name), printable(problem)
            )

    def _fill_positions(
        self, decoded: StreamRow, positions: list[int], seed: int, epoch: int, rank: int
    ) -> Iterator[StreamRow]:
        """Yield an image at its own position and at those of broken ones before it."""
        image, label = decoded
        for position in positions:
            rng = RNG(seed, step=epoch, purpose=f"window/{rank}", first_row=position)
            top, left = rng.uniform("window", 1, 2)[0].tolist()
            yield self._crop(image, (top, left)), label

    def _crop(
        self,
        image: UInt8[np.ndarray, "channels image_height image_width"],
        fractions: tuple[float, float],
    ) -> UInt8[np.ndarray, "channels height width"]:
        """Crop an image to the frame, at fractions of the largest offsets from the top and left."""
        _, height, width = self.shape
        _, image_height, image_width = image.shape
        top, left = (
            int(fractions[0] * (image_height - height + 1)),
            int(fractions[1] * (image_width - width + 1)),
        )
        return np.ascontiguousarray(image[:, top : top + height, left : left + width])

    def _expected_count(self, rank: int, world_size: int) -> int | None:
        """Return the number of this rank's rows; None if the length is not known."""
        return None if self.length is None else len(range(rank, self.length, world_size))

    def _check_count(self, rows: int, rank: int, world_size: int) -> None:
        """Check the number of rows that an epoch had for this rank.

        Raises:
            DataError: it is not the one that follows from the length.
        """
        expected = self._expected_count(rank, world_size)
        if expected is not None and rows != expected:
            raise DataError(
                f"{self.name} states {self.length:,} rows, {expected:,} of them for this process, "
                f"but has {rows:,}; {self._count_remedy}"
            )
