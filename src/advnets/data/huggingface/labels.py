"""Labels of a table's rows: numbers or names, and rows without one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from unicodedata import normalize

from advnets.data.huggingface.columns import Columns, check_label
from advnets.data.image_folder.layout import NO_CLASS, DeclaredSplits

_TRAINING, _UNLABELED = ("", "train"), "unlabeled"
_MIN_ROWS = 50
"""Rows of which can be told whether their texts are names of classes."""
_NO_LABEL = "has no label, as others of its split have"


def splits_from_rows(
    rows: Sequence[str],
    splits: Sequence[str],
    values: Sequence[Any],
    columns: Columns,
    location: str,
    *,
    label_requested: bool,
) -> DeclaredSplits:
    """Return the placing of rows by their names, splits and values of the label column.

    A value of -1, None or "" is no label. Training rows without one become unlabeled images; of
    held-out rows those are left out, unless none of their split has a label. Names are the classes
    of the training rows, in sorted order; a held-out row of another name is left out. Unless the
    column is `asked` for, names of which most rows have their own, such as captions, are no labels.

    Raises:
        DataError: a number is out of range.
    """
    values = [normalize("NFC", one) if isinstance(one, str) else one for one in values]
    has_label = [value is not None and value != NO_CLASS and value != "" for value in values]
    labeled = {split for split, has in zip(splits, has_label, strict=True) if has}
    if labeled.isdisjoint(_TRAINING):
        return DeclaredSplits(tuple(splits), None, ())
    names = _names(splits, values, has_label)
    count = sum(has and split in _TRAINING for split, has in zip(splits, has_label, strict=True))
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
            excluded[i] = f"has the label {str(value)[:80]!r}, as no training row has"
    classes = columns.classes or names
    if not classes:
        # Each number that occurs is a class, and no number between two of them is one.
        numbers = sorted(set(labels) - {NO_CLASS})
        index = {number: i for i, number in enumerate(numbers)} | {NO_CLASS: NO_CLASS}
        classes, labels = tuple(map(str, numbers)), [index[number] for number in labels]
    notes = (
        (f"{num_unlabeled:,} rows have no label and are unlabeled images",) if num_unlabeled else ()
    )
    return DeclaredSplits(tuple(assigned), tuple(labels), classes, excluded, notes)


def _names(
    splits: Sequence[str], values: Sequence[Any], has_label: Sequence[bool]
) -> tuple[str, ...]:
    """Return the names that training rows have as labels; none where labels are numbers."""
    found = {
        value
        for split, value, has in zip(splits, values, has_label, strict=True)
        if has and split in _TRAINING and isinstance(value, str)
    }
    return tuple(sorted(found))
