"""Streamed datasets: shuffled in a buffer, each image decoded when it is needed."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from jaxtyping import UInt8

from advnets.data.dataset import ArraySplit, Shape
from advnets.data.huggingface.library import datasets_module, describe_error
from advnets.data.huggingface.table import (
    KEY,
    Columns,
    check_label,
    escapes_archive,
    image_content,
)
from advnets.data.image_folder.decode import Frame, decode
from advnets.errors import AdvnetsError, DataError, printable
from advnets.rng import RNG

SHUFFLE_BUFFER = 1000
"""The number of rows of the shuffle buffer; the order of the shards is shuffled too."""
_NUM_DIGEST_IMAGES = 16
"""The number of first images that are part of a stream's digest."""

_Row = tuple[UInt8[np.ndarray, "channels height width"], int | None]


@dataclass(eq=False)
class HubStream:
    """The training rows of a dataset, read sequentially.

    The order of an epoch depends on the seed and the epoch. A broken image is replaced by the next
    intact one of the epoch, at the end by the first, so that the image at a position is a function
    of seed, epoch, rank and position alone. `fingerprint` identifies the dataset, `length` is its
    number of rows, where known, and `diagnose` finds the broken file after an error.
    """

    dataset: Any
    columns: Columns
    frame: Frame
    name: str
    fingerprint: str
    length: int | None = None
    diagnose: Callable[[], DataError | None] = lambda: None
    white_level: int = 255
    shape: Shape = field(init=False)
    _reported: set[bytes] = field(default_factory=set[bytes], init=False, repr=False)
    _counts: dict[tuple[int, int], int] = field(default_factory=dict[Any, int], init=False)
    _head: ArraySplit | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self.shape = (self.frame.channels, self.frame.height, self.frame.width)

    def head(self, n: int) -> ArraySplit:
        """Return the first intact images of the dataset, at most n, cropped at the center.

        Raises:
            DataError: there is none, or reading fails.
        """
        if self._head is not None and len(self._head) >= n:
            return self._head.subset(slice(n))
        rows = (self._decode(row, f"row {i:,}") for i, row in enumerate(self._rows(self.dataset)))
        decoded = list(islice((row for row in rows if row is not None), n))
        if not decoded:
            raise DataError(f"{self.name} holds no image that can be read; give another dataset")
        labels = [label for _, label in decoded if label is not None]
        self._head = ArraySplit(
            np.stack([self._crop(image, (0.5, 0.5)) for image, _ in decoded]),
            np.array(labels, np.int64) if labels else None,
        )
        return self._head

    def read_epoch(
        self, seed: int, epoch: int, skip: int, rank: int, world_size: int
    ) -> Iterator[_Row]:
        """Yield one epoch of this rank's rows in shuffled order, without the first `skip`.

        Skipped rows are read, as the buffer must be filled as before, but not decoded.

        Raises:
            DataError: reading fails, no image is intact, or the number of rows is not the one that
                the dataset states, so that a run could not be resumed.
        """
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
        self._check_count(position + 1, rank, world_size)
        if positions:
            yield from self._fill_positions(
                self._first_decodable(seed, epoch, rank, world_size), positions, seed, epoch, rank
            )

    def count(self, rank: int, world_size: int) -> int:
        """Return the number of this rank's images per epoch, reading an epoch if it is unknown."""
        expected = self._expected_count(rank, world_size)
        if expected is not None:
            return expected
        if (rank, world_size) not in self._counts:
            label_column = self.dataset.select_columns([self.columns.label or self.columns.image])
            rows = self._rows(_rank_shard(label_column, rank, world_size))
            self._counts[rank, world_size] = sum(1 for _ in rows)
        return self._counts[rank, world_size]

    def digest(self) -> str:
        """Return a digest of the fingerprint, the columns, the frame and the first images."""
        identity = (
            self.fingerprint,
            self.length,
            self.columns,
            self.frame,
            self.head(_NUM_DIGEST_IMAGES).digest(),
        )
        return hashlib.blake2b(repr(identity).encode(), digest_size=16).hexdigest()

    def _shuffled(
        self, seed: int, epoch: int, rank: int, world_size: int
    ) -> Iterator[dict[str, Any]]:
        key = hashlib.blake2b(f"{seed}/stream".encode(), digest_size=8).digest()
        shard = _rank_shard(self.dataset, rank, world_size)
        shard = shard.shuffle(seed=int.from_bytes(key, "little"), buffer_size=SHUFFLE_BUFFER)
        shard.set_epoch(epoch)
        return self._rows(shard)

    def _rows(self, dataset: Any) -> Iterator[dict[str, Any]]:
        try:
            yield from dataset
        except AdvnetsError:
            raise
        except Exception as error:  # libraries raise many types for broken files and networks
            raise self.diagnose() or DataError(
                f"{self.name} cannot be read further ({describe_error(error)}); check that its "
                "files are complete and accessible, then resume"
            ) from None

    def _decode(self, row: dict[str, Any], position: str) -> _Row | None:
        """Return a row's image and label, or None where the image is broken."""
        value = row[self.columns.image]
        try:
            if self.columns.key and escapes_archive(str(row[KEY])):
                raise DataError("has a name that leads out of the archive")
            image = decode(image_content(value, self.columns.roots), self.frame)
        except DataError as error:
            self._report(row, position, str(error))
            return None
        if self.columns.label is None:
            return image, None
        label = row[self.columns.label]
        return image, check_label(
            label, self.columns, f"{self.name}: {self._row_name(row, position)}"
        )

    def _report(self, row: dict[str, Any], position: str, reason: str) -> None:
        """Warn of a broken image, once even if it occurs in every epoch."""
        name = self._row_name(row, position)
        identity = repr((row[self.columns.image], name if self.columns.key else "", reason))
        digest = hashlib.blake2b(identity.encode(), digest_size=16).digest()
        if digest not in self._reported:
            self._reported.add(digest)
            logging.getLogger("advnets").warning(
                "%s: %s %s; skipped", *map(printable, (self.name, name, reason))
            )

    def _row_name(self, row: dict[str, Any], position: str) -> str:
        value = row[self.columns.image]
        path = value.get("path") if isinstance(value, dict) else None
        return str(row[KEY] if self.columns.key else path or position)

    def _first_decodable(self, seed: int, epoch: int, rank: int, world_size: int) -> _Row:
        """Return the first intact image of an epoch."""
        for position, row in enumerate(self._shuffled(seed, epoch, rank, world_size)):
            decoded = self._decode(row, f"row {position:,} of epoch {epoch + 1}")
            if decoded is not None:
                return decoded
        raise DataError(f"{self.name} holds no image that can be read; give another dataset")

    def _fill_positions(
        self, decoded: _Row, positions: list[int], seed: int, epoch: int, rank: int
    ) -> Iterator[_Row]:
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
        """Return the number of this rank's rows, where it follows from the dataset's."""
        if self.length is None or (world_size > 1 and _has_even_shards(self.dataset, world_size)):
            return None
        return len(range(rank, self.length, world_size))

    def _check_count(self, rows: int, rank: int, world_size: int) -> None:
        expected = self._expected_count(rank, world_size)
        if expected is not None and rows != expected:
            raise DataError(
                f"{self.name} states {self.length:,} rows, {expected:,} of them for this process, "
                f"but has {rows:,}; correct its metadata, or read it without --stream"
            )


def _has_even_shards(dataset: Any, world_size: int) -> bool:
    return dataset.num_shards % world_size == 0


def _rank_shard(dataset: Any, rank: int, world_size: int) -> Any:
    """Return a rank's own shards if they can be divided evenly, else every `world_size`-th row."""
    if world_size == 1:
        return dataset
    if _has_even_shards(dataset, world_size):
        # split_dataset_by_node would reassign the shards each epoch, to parts of varying length: to
        # resume, all earlier epochs would have to be read.
        return dataset.shard(num_shards=world_size, index=rank, contiguous=False)
    datasets_module()
    from datasets.distributed import split_dataset_by_node

    return split_dataset_by_node(dataset, rank=rank, world_size=world_size, strategy="examples")
