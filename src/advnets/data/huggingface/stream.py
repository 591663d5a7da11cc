"""Streamed datasets of Hugging Face."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from advnets.data.dataset import Shape
from advnets.data.huggingface.library import datasets_module, describe_error
from advnets.data.huggingface.table import (
    KEY,
    Columns,
    check_label,
    escapes_archive,
    image_content,
)
from advnets.data.image_folder.decode import Frame, decode
from advnets.data.stream import (
    NUM_DIGEST_IMAGES,
    SHUFFLE_BUFFER,
    ImageStream,
    StreamRow,
    shuffle_seed,
)
from advnets.errors import AdvnetsError, DataError


@dataclass(eq=False)
class HubStream(ImageStream):
    """The training rows of a dataset, read sequentially.

    The order of the shards is shuffled too. `fingerprint` identifies the dataset, `length` is its
    number of rows, where known, and `diagnose` finds the broken file after an error.
    """

    dataset: Any
    columns: Columns
    frame: Frame
    fingerprint: str
    diagnose: Callable[[], DataError | None] = lambda: None

    def __post_init__(self) -> None:
        self.shape: Shape = (self.frame.channels, self.frame.height, self.frame.width)

    def _identity(self) -> tuple[object, ...]:
        first = self.head(NUM_DIGEST_IMAGES).digest()
        return self.fingerprint, self.length, self.columns, self.frame, first

    def _read_in_order(self) -> Iterator[dict[str, Any]]:
        return self._rows(self.dataset)

    def _rows_of_rank(self, rank: int, world_size: int) -> Iterator[dict[str, Any]]:
        label_column = self.dataset.select_columns([self.columns.label or self.columns.image])
        return self._rows(_rank_shard(label_column, rank, world_size))

    def _expected_count(self, rank: int, world_size: int) -> int | None:
        uneven = world_size > 1 and _has_even_shards(self.dataset, world_size)
        return None if uneven else super()._expected_count(rank, world_size)

    def _shuffled(
        self, seed: int, epoch: int, rank: int, world_size: int
    ) -> Iterator[dict[str, Any]]:
        shard = _rank_shard(self.dataset, rank, world_size)
        shard = shard.shuffle(seed=shuffle_seed(seed), buffer_size=SHUFFLE_BUFFER)
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

    def _decode(self, row: dict[str, Any], position: str) -> StreamRow | None:
        """Return a row's image and label, or None where the image is broken."""
        value = row[self.columns.image]
        try:
            if self.columns.key and escapes_archive(str(row[KEY])):
                raise DataError("has a name that leads out of the archive")
            image = decode(image_content(value, self.columns.roots), self.frame)
        except DataError as error:
            name = self._row_name(row, position)
            identity = repr((value, name if self.columns.key else "", str(error)))
            self._report(f"{name} {error}", identity)
            return None
        if self.columns.label is None:
            return image, None
        label = row[self.columns.label]
        return image, check_label(
            label, self.columns, f"{self.name}: {self._row_name(row, position)}"
        )

    def _row_name(self, row: dict[str, Any], position: str) -> str:
        value = row[self.columns.image]
        path = value.get("path") if isinstance(value, dict) else None
        return str(row[KEY] if self.columns.key else path or position)


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
