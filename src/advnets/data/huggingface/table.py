"""Sets whose rows are all at hand: memory-mapped tables as a collection of image files."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advnets.data.huggingface.columns import Columns, content_of, leads_out, narrowed
from advnets.data.huggingface.labels import place_rows
from advnets.data.huggingface.library import hushed, library, reason, told
from advnets.data.image_folder.files import ImageFiles
from advnets.data.spec import SkippedFile, cache_directory
from advnets.errors import DataError

_SMALL = 1 << 20
"""Bytes of a table that may be sent to every process that decodes."""


@dataclass(frozen=True)
class TableReader:
    """Reads images of tables by split and row, such as train/000123."""

    tables: Mapping[str, Any]
    image: str
    roots: tuple[Path, ...] | None = None

    def read(self, keys: Sequence[bytes]) -> Iterator[bytes | DataError]:
        """The content of each image file, or why there is none."""
        for key in keys:
            split, _, row = key.rpartition(b"/")
            try:
                yield content_of(self.tables[split.decode()][int(row)][self.image], self.roots)
            except DataError as error:
                yield error
            except Exception as error:  # Arrow raises of many kinds
                yield DataError(f"cannot be read: {reason(error)}")


def collect(
    splits: Sequence[tuple[str, str, Any]],
    columns: Columns,
    name: str,
    place: str,
    stamp: str,
    *,
    asked: bool = True,
) -> ImageFiles:
    """The rows of some splits, each with its own name and ours ("" where it is yet to be dealt).

    `place` is where the set lies; `stamp` tells its contents from others'; `asked` says whether the
    label column was named.

    Raises:
        DataError: there are no rows, a column is missing in a split, or a label is out of range.
    """
    tables: dict[str, Any] = {}
    keys: list[bytes] = []
    ours: list[str] = []
    values: list[Any] = []
    broken: list[SkippedFile] = []
    for split, our, dataset in splits:
        table = tables[split] = _mapped(narrowed(dataset, columns, place))
        numbers: Any = range(len(table))
        if columns.key:
            bad = [i for i, key in enumerate(_values(table, "__key__")) if leads_out(str(key))]
            reason_out = "has a name that leads out of the archive"
            broken += [SkippedFile(_row(split, i), reason_out) for i in bad]
            numbers = sorted(set(numbers).difference(bad))
        keys += [_row(split, i).encode() for i in numbers]
        ours += [our] * len(numbers)
        if our == "unlabeled" or columns.label is None:
            values += [None] * len(numbers)
        else:
            found = _values(table, columns.label)
            values += [found[i] for i in numbers]
    if not keys and not broken:
        raise DataError(f"{place} holds no rows; give a set with at least one image")
    names = [key.decode() for key in keys]
    placed = place_rows(names, ours, values, columns, place, asked=asked)
    ours_of = [(split, our) for split, our, _ in splits]
    told_apart = repr((stamp, columns, ours_of, placed.classes))
    return ImageFiles(
        name=name,
        place=place,
        reader=TableReader(tables, columns.image, columns.roots),
        keys=tuple(keys),
        fingerprint=hashlib.blake2b(told_apart.encode(), digest_size=16).hexdigest(),
        size=sum(int(table.data.nbytes) for table in tables.values()),
        splits=placed,
        skipped_files=tuple(broken),
        unsupported_files=Counter(),
    )


def _row(split: str, number: int) -> str:
    return f"{split}/{number:06d}"


def _values(table: Any, column: str) -> list[Any]:
    return list(table.select_columns([column])[:][column])


def _mapped(table: Any) -> Any:
    """The table, or its copy on disk: one in memory would be sent to the processes over and over.

    Raises:
        DataError: the cache cannot be written.
    """
    if table.cache_files or table.data.nbytes < _SMALL:
        return table
    place = cache_directory() / "datasets" / "tables" / str(table._fingerprint)
    with told(str(place), "set ADVNETS_CACHE to a folder that is yours and has room"), hushed():
        if not (place / "state.json").exists():
            table.save_to_disk(str(place))
        return library().load_from_disk(str(place))
