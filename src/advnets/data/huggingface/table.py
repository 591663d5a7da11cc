"""Memory-mapped tables as image files, and the splits and labels of their rows."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unicodedata import normalize

from advnets.data.huggingface.columns import (
    Columns,
    check_label,
    escapes_archive,
    image_content,
    select_columns,
)
from advnets.data.huggingface.library import (
    convert_errors,
    datasets_module,
    describe_error,
    ignore_warnings,
)
from advnets.data.image_folder.files import ImageFiles
from advnets.data.image_folder.splits import NO_CLASS, DeclaredSplits
from advnets.data.spec import SkippedFile, cache_directory
from advnets.errors import DataError

_MAX_IN_MEMORY_BYTES = 1 << 20
"""The size in bytes up to which tables are sent to worker processes and not saved to disk."""


@dataclass(frozen=True)
class TableReader:
    """A reader of images of tables by split and row, such as train/000123."""

    tables: Mapping[str, Any]
    image: str
    roots: tuple[Path, ...] | None = None

    def read(self, keys: Sequence[bytes]) -> Iterator[bytes | DataError]:
        """Yield the content of each image file, or the error that explains why there is none."""
        for key in keys:
            split, _, row = key.rpartition(b"/")
            try:
                yield image_content(self.tables[split.decode()][int(row)][self.image], self.roots)
            except DataError as error:
                yield error
            except Exception as error:  # Arrow raises many types of errors
                yield DataError(f"cannot be read: {describe_error(error)}")


def collect_rows(
    splits: Sequence[tuple[str, str, Any]],
    columns: Columns,
    name: str,
    location: str,
    fingerprint: str,
    *,
    label_requested: bool = True,
) -> ImageFiles:
    """Return the rows of splits as image files; a split has a name and a role ("": unassigned).

    `location` is where the dataset is, `fingerprint` identifies its contents, `label_requested` is
    True if the user named the label column.

    Raises:
        DataError: there are no rows, a column is missing in a split, or a label is out of range.
    """
    tables: dict[str, Any] = {}
    keys: list[bytes] = []
    roles: list[str] = []
    values: list[Any] = []
    skipped: list[SkippedFile] = []
    for split, role, dataset in splits:
        table = tables[split] = _to_disk(select_columns(dataset, columns, location))
        indices: Any = range(len(table))
        if columns.key:
            escaping = [
                i for i, key in enumerate(_values(table, "__key__")) if escapes_archive(str(key))
            ]
            reason = "has a name that leads out of the archive"
            skipped += [SkippedFile(_row_name(split, i), reason) for i in escaping]
            indices = sorted(set(indices).difference(escaping))
        keys += [_row_name(split, i).encode() for i in indices]
        roles += [role] * len(indices)
        if role == "unlabeled" or columns.label is None:
            values += [None] * len(indices)
        else:
            label_values = _values(table, columns.label)
            values += [label_values[i] for i in indices]
    if not keys and not skipped:
        raise DataError(f"{location} has no rows; give a dataset with at least one image")
    names = [key.decode() for key in keys]
    declared = splits_from_rows(
        names, roles, values, columns, location, label_requested=label_requested
    )
    split_roles = [(split, role) for split, role, _ in splits]
    identity = repr((fingerprint, columns, split_roles, declared.classes))
    return ImageFiles(
        name=name,
        location=location,
        reader=TableReader(tables, columns.image, columns.roots),
        keys=tuple(keys),
        fingerprint=hashlib.blake2b(identity.encode(), digest_size=16).hexdigest(),
        num_bytes=sum(int(table.data.nbytes) for table in tables.values()),
        declared=declared,
        skipped_files=tuple(skipped),
        unsupported_files=Counter(),
    )


def _row_name(split: str, number: int) -> str:
    return f"{split}/{number:06d}"


def _values(table: Any, column: str) -> list[Any]:
    return list(table.select_columns([column])[:][column])


def _to_disk(table: Any) -> Any:
    """Return the table, or a copy on disk of one in memory, which would be sent to all processes.

    Raises:
        DataError: the cache cannot be written.
    """
    if table.cache_files or table.data.nbytes < _MAX_IN_MEMORY_BYTES:
        return table
    folder = cache_directory() / "datasets" / "tables" / str(table._fingerprint)
    with (
        convert_errors(
            str(folder), "set ADVNETS_CACHE to a folder that you can write and that has space"
        ),
        ignore_warnings(),
    ):
        if not (folder / "state.json").exists():
            table.save_to_disk(str(folder))
        return datasets_module().load_from_disk(str(folder))


_TRAINING, _UNLABELED = ("", "train"), "unlabeled"
_MIN_ROWS = 50
"""The number of labeled rows above which texts are checked for being class names, not captions."""
_NO_LABEL = "has no label, unlike other rows of its split"


def splits_from_rows(
    rows: Sequence[str],
    splits: Sequence[str],
    values: Sequence[Any],
    columns: Columns,
    location: str,
    *,
    label_requested: bool,
) -> DeclaredSplits:
    """Return the declared splits of rows, given their names, splits and values of the label column.

    A value of -1, None or "" means no label. Training rows without a label become unlabeled images;
    held-out rows without one are excluded, unless none of their split has a label. Texts of the
    training rows are the classes, in sorted order; held-out rows with another text are excluded.
    Unless `label_requested`, texts that differ in most rows, such as captions, are not labels.

    Raises:
        DataError: a number is out of range.
    """
    values = [normalize("NFC", value) if isinstance(value, str) else value for value in values]
    has_label = [value is not None and value != NO_CLASS and value != "" for value in values]
    labeled = {split for split, is_labeled in zip(splits, has_label, strict=True) if is_labeled}
    if labeled.isdisjoint(_TRAINING):
        return DeclaredSplits(tuple(splits), None, ())
    names = _class_names(splits, values, has_label)
    count = sum(
        is_labeled and split in _TRAINING
        for split, is_labeled in zip(splits, has_label, strict=True)
    )
    if not label_requested and count >= _MIN_ROWS and 2 * len(names) > count:
        return DeclaredSplits(tuple(splits), None, ())
    label_of = {name: number for number, name in enumerate(names)}
    assigned, labels = list(splits), [NO_CLASS] * len(rows)
    excluded: dict[int, str] = {}
    num_unlabeled = 0
    for i, (split, value) in enumerate(zip(splits, values, strict=True)):
        if split == _UNLABELED or split not in labeled:
            continue
        if not has_label[i]:
            if split in _TRAINING:
                assigned[i] = _UNLABELED
                num_unlabeled += 1
            else:
                excluded[i] = _NO_LABEL
        elif not names:
            labels[i] = check_label(value, columns, f"{location}: {rows[i]}")
        elif value in label_of:
            labels[i] = label_of[value]
        else:
            excluded[i] = f"has the label {str(value)[:80]!r}, which no training row has"
    classes = columns.classes or names
    if not classes:
        # Only numbers that occur are classes.
        numbers = sorted(set(labels) - {NO_CLASS})
        index = {number: i for i, number in enumerate(numbers)} | {NO_CLASS: NO_CLASS}
        classes, labels = tuple(map(str, numbers)), [index[number] for number in labels]
    notes = (
        (f"{num_unlabeled:,} rows have no label and are unlabeled images",) if num_unlabeled else ()
    )
    return DeclaredSplits(tuple(assigned), tuple(labels), classes, excluded, notes)


def _class_names(
    splits: Sequence[str], values: Sequence[Any], has_label: Sequence[bool]
) -> tuple[str, ...]:
    """Return the class names that training rows have as labels; none where labels are numbers."""
    names = {
        value
        for split, value, is_labeled in zip(splits, values, has_label, strict=True)
        if is_labeled and split in _TRAINING and isinstance(value, str)
    }
    return tuple(sorted(names))
