"""Sets read as they come: shuffled in a buffer, each image decoded when it is its turn."""

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
from advnets.data.huggingface.columns import (
    KEY,
    Columns,
    check_label,
    escapes_archive,
    image_content,
)
from advnets.data.huggingface.library import datasets_module, describe_error
from advnets.data.image_folder.decode import Frame, decode
from advnets.errors import AdvnetsError, DataError, printable
from advnets.rng import RNG

SHUFFLE_BUFFER = 1000
"""Rows among which a pass is shuffled, besides the order of the shards."""
_NUM_DIGEST_IMAGES = 16
"""First images that are part of a stream's digest."""

_Row = tuple[UInt8[np.ndarray, "channels height width"], int | None]


@dataclass(eq=False)
class HubStream:
    """The training rows of a set of the library's, read one after the other.

    A pass is in an order that seed and epoch give. In the place of a broken image stands the next
    whole one of the pass, after the last the first, so that what stands in a place follows from
    seed, epoch, rank and place alone. `stamp` tells the set from others, `length` is its rows,
    where they are known, and `fault` finds the file that is at fault where reading fails.
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
        """The first whole images of the set, at most n, uncut ones cut about their centers.

        Raises:
            DataError: there is none, or reading fails.
        """
        if self._head is not None and len(self._head) >= n:
            return self._head.subset(slice(n))
        rows = (self._decode(row, f"row {i:,}") for i, row in enumerate(self._rows(self.dataset)))
        decoded = list(islice((row for row in rows if row is not None), n))
        if not decoded:
            raise DataError(f"{self.name} holds no image that can be read; give another set")
        labels = [label for _, label in decoded if label is not None]
        self._head = ArraySplit(
            np.stack([self._crop(image, (0.5, 0.5)) for image, _ in decoded]),
            np.array(labels, np.int64) if labels else None,
        )
        return self._head

    def epochs(self, seed: int, epoch: int, skip: int, rank: int, world: int) -> Iterator[_Row]:
        """One pass over this rank's share, shuffled by seed and epoch, without its first `skip`.

        What is skipped is read, as the buffer must be filled as it was, but not decoded.

        Raises:
            DataError: reading fails, no image is whole, or there are not as many rows as the set
                says, which would make the resume of a run wrong.
        """
        positions: list[int] = []
        position = -1
        for position, row in enumerate(self._shuffled(seed, epoch, rank, world)):
            if position < skip:
                continue
            positions.append(position)
            decoded = self._decode(row, f"row {position:,} of pass {epoch + 1}")
            if decoded is not None:
                yield from self._fill_positions(decoded, positions, seed, epoch, rank)
                positions.clear()
        self._check_count(position + 1, rank, world)
        if positions:
            yield from self._fill_positions(
                self._first_decodable(seed, epoch, rank, world), positions, seed, epoch, rank
            )

    def count(self, rank: int, world: int) -> int:
        """Images in this rank's share of a pass: known, or found by reading it through."""
        expected = self._expected_count(rank, world)
        if expected is not None:
            return expected
        if (rank, world) not in self._counts:
            label_column = self.dataset.select_columns([self.columns.label or self.columns.image])
            rows = self._rows(_rank_shard(label_column, rank, world))
            self._counts[rank, world] = sum(1 for _ in rows)
        return self._counts[rank, world]

    def digest(self) -> str:
        """Of the set's stamp, its columns, the frame and the first images."""
        what = (
            self.fingerprint,
            self.length,
            self.columns,
            self.frame,
            self.head(_NUM_DIGEST_IMAGES).digest(),
        )
        return hashlib.blake2b(repr(what).encode(), digest_size=16).hexdigest()

    def _shuffled(self, seed: int, epoch: int, rank: int, world: int) -> Iterator[dict[str, Any]]:
        key = hashlib.blake2b(f"{seed}/stream".encode(), digest_size=8).digest()
        share = _rank_shard(self.dataset, rank, world)
        share = share.shuffle(seed=int.from_bytes(key, "little"), buffer_size=SHUFFLE_BUFFER)
        share.set_epoch(epoch)
        return self._rows(share)

    def _rows(self, dataset: Any) -> Iterator[dict[str, Any]]:
        try:
            yield from dataset
        except AdvnetsError:
            raise
        except Exception as error:  # whatever a library makes of strangers' bytes and of the net
            raise self.diagnose() or DataError(
                f"{self.name} cannot be read on ({describe_error(error)}); see that its files are whole "
                f"and can be reached, then resume"
            ) from None

    def _decode(self, row: dict[str, Any], position: str) -> _Row | None:
        """A row's image and label, or None where the image is broken."""
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
        """Name a broken image, once however often it comes."""
        name = self._row_name(row, position)
        identity = repr((row[self.columns.image], name if self.columns.key else "", reason))
        digest = hashlib.blake2b(identity.encode(), digest_size=16).digest()
        if digest not in self._reported:
            self._reported.add(digest)
            logging.getLogger("advnets").warning(
                "%s: %s %s; left out", *map(printable, (self.name, name, reason))
            )

    def _row_name(self, row: dict[str, Any], position: str) -> str:
        value = row[self.columns.image]
        path = value.get("path") if isinstance(value, dict) else None
        return str(row[KEY] if self.columns.key else path or position)

    def _first_decodable(self, seed: int, epoch: int, rank: int, world: int) -> _Row:
        """The first whole image of a pass."""
        for position, row in enumerate(self._shuffled(seed, epoch, rank, world)):
            decoded = self._decode(row, f"row {position:,} of pass {epoch + 1}")
            if decoded is not None:
                return decoded
        raise DataError(f"{self.name} holds no image that can be read; give another set")

    def _fill_positions(
        self, decoded: _Row, positions: list[int], seed: int, epoch: int, rank: int
    ) -> Iterator[_Row]:
        """An image in its own place and in those of broken ones before it."""
        image, label = decoded
        for position in positions:
            rng = RNG(seed, step=epoch, purpose=f"window/{rank}", first_row=position)
            top, left = rng.uniform("window", 1, 2)[0].tolist()
            yield self._crop(image, (top, left)), label

    def _crop(
        self, image: UInt8[np.ndarray, "channels high wide"], fractions: tuple[float, float]
    ) -> UInt8[np.ndarray, "channels height width"]:
        """The image's window of the frame's size, so far down and to the right as shares say."""
        _, height, width = self.shape
        _, high, wide = image.shape
        top, left = int(fractions[0] * (high - height + 1)), int(fractions[1] * (wide - width + 1))
        return np.ascontiguousarray(image[:, top : top + height, left : left + width])

    def _expected_count(self, rank: int, world: int) -> int | None:
        """The rows of a share, where they follow from those of the set."""
        if self.length is None or (world > 1 and _divisible_into_shards(self.dataset, world)):
            return None
        return len(range(rank, self.length, world))

    def _check_count(self, rows: int, rank: int, world: int) -> None:
        expected = self._expected_count(rank, world)
        if expected is not None and rows != expected:
            raise DataError(
                f"{self.name} says that it has {self.length:,} rows, {expected:,} of them here, "
                f"but it gave {rows:,}; mend what it says, or read it without --stream"
            )


def _divisible_into_shards(dataset: Any, world: int) -> bool:
    return dataset.num_shards % world == 0


def _rank_shard(dataset: Any, rank: int, world: int) -> Any:
    """Of a rank: its own shards where they can be dealt evenly, else every world-th row."""
    if world == 1:
        return dataset
    if _divisible_into_shards(dataset, world):
        # split_dataset_by_node would deal the shards anew each epoch: shares of changing length,
        # in which no place could be found again without reading all epochs before it.
        return dataset.shard(num_shards=world, index=rank, contiguous=False)
    datasets_module()
    from datasets.distributed import split_dataset_by_node

    return split_dataset_by_node(dataset, rank=rank, world_size=world, strategy="examples")
