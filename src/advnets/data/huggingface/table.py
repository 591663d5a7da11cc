"""Columns of images and labels, and memory-mapped tables of them as image files with splits."""

from __future__ import annotations

import hashlib
import io
import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unicodedata import normalize

from PIL import Image

from advnets.data.huggingface.library import (
    convert_errors,
    datasets_module,
    describe_error,
    ignore_warnings,
)
from advnets.data.image_folder.decode import Frame, decode, is_image_name
from advnets.data.image_folder.files import MAX_FILE_BYTES, FolderReader, ImageFiles
from advnets.data.image_folder.splits import NO_CLASS, DeclaredSplits
from advnets.data.spec import SkippedFile, cache_directory
from advnets.errors import DataError, UnknownNameError

NO_LABELS = "none"
"""The value of the option `label` that reads the dataset without labels."""
KEY = "__key__"
"""The column of WebDataset with the name that the members of a sample share."""
_PNG_MODES = ("1", "L", "LA", "I", "I;16", "P", "RGB", "RGBA")
_LABELS = ("label", "labels", "class", "cls", "fine_label", "target", "y", "category")
_MAX_TRIED_ROWS = 8
"""The number of first rows, one of which must decode if the column type is not an image."""
_MAX_CLASSES = 1 << 16
"""The largest number of classes of integer labels without names."""


@dataclass(frozen=True)
class Hub:
    """The options after the name of a dataset, as in hf:NAME:split=train; "" selects by default.

    `label` may be "none": the dataset is then read without labels.
    """

    config: str = ""
    split: str = ""
    image: str = ""
    label: str = ""
    revision: str = ""


@dataclass(frozen=True)
class Columns:
    """The columns that are read.

    `classes` are the names of the labels, where they have names. `key` is True if there is a
    column of WebDataset's keys. `roots` are the folders that may contain the files that rows name
    by path; None: any folder. `from_python` is True for a dataset that Python passed, which has no
    options in its name.
    """

    image: str
    label: str | None = None
    classes: tuple[str, ...] = ()
    key: bool = False
    roots: tuple[Path, ...] | None = field(default=None, repr=False)
    from_python: bool = field(default=False, repr=False)

    @property
    def all(self) -> list[str]:
        """The names of the columns."""
        return [self.image, *([self.label] if self.label else []), *([KEY] if self.key else [])]


def find_columns(
    dataset: Any,
    options: Hub,
    frame: Frame,
    source: str,
    *,
    text: bool = False,
    roots: tuple[Path, ...] | None = None,
    from_python: bool = False,
) -> Columns:
    """Find the image column and, if there is one, the label column.

    The images are the column that `options.image` names, else the first that is declared as images,
    else the first of pairs of bytes and path, else the first of bytes that decode. The labels are
    the column that `options.label` names, else the first that is declared as classes, else
    integers in a column with a name such as label, else, with `text`, class names in such a column.

    Raises:
        DataError: no column holds images, or the named one holds none.
        UnknownNameError: a named column does not exist.
    """
    features = _features(dataset)
    image = options.image or _find_image_column(dataset, features, frame, roots)
    if image is None:
        shown = ", ".join(
            f"{name} ({_describe_type(feature)})" for name, feature in features.items()
        )
        advice = "name it with image=COLUMN"
        if from_python:
            advice = "cast it with cast_column(COLUMN, datasets.Image()), or give its pixels as an "
            advice += 'array, data=numpy.stack(dataset.with_format("numpy")[COLUMN]), as uint8 or '
            advice += "floats from 0 to 1"
        raise DataError(
            f"{source} has no image column, got {shown or 'no columns'}; expected a column of "
            f"datasets.Image or of the bytes of image files: {advice}"
        )
    _require_column(image, features, source)
    if _image_rank(features[image]) is None:
        raise DataError(
            f"{source}: column {image!r} holds {_describe_type(features[image])}; expected "
            f"datasets.Image or the bytes of image files: name another with image=COLUMN"
        )
    label = _find_label_column(features, options.label, source, text=text)
    classes = tuple(map(str, getattr(features[label], "names", None) or ())) if label else ()
    return Columns(image, label, classes, KEY in features, roots, from_python)


def select_columns(dataset: Any, columns: Columns, source: str) -> Any:
    """Return the dataset reduced to the columns that are read, with images as undecoded bytes.

    Raises:
        DataError: a column is missing in one of the splits.
    """
    names = list(_features(dataset))
    for column in columns.all:
        if column not in names:
            advice = "choose another with image= or label= (label=none: no labels), or one split "
            advice += "with split=NAME"
            if columns.from_python:
                advice = "give splits with the same columns, or one of them alone"
            raise DataError(
                f"{source} has no column {column!r} in one of its splits, only {', '.join(names)}; "
                f"{advice}"
            )
    dataset = dataset.select_columns(columns.all)
    datasets = datasets_module()
    if dataset.features and isinstance(dataset.features[columns.image], datasets.Image):
        return dataset.cast_column(columns.image, datasets.Image(decode=False))
    return dataset


def image_content(value: Any, roots: Sequence[Path] | None = None) -> bytes:
    """Return the image file that a row holds, or that it names by a path within the roots.

    Raises:
        DataError: there is no image; the message is the reason alone.
    """
    path = None
    if isinstance(value, dict):
        path, value = value.get("path"), value.get("bytes")
    if value is None and isinstance(path, str) and path:
        value = _read_path(path, roots)
    if isinstance(value, Image.Image):  # from a program's own map or filter
        value = _encode_png(value)
    if not isinstance(value, bytes):
        raise DataError("has no image")
    if len(value) > MAX_FILE_BYTES:
        raise DataError(
            f"is {len(value) >> 20:,} MiB large; expected at most {MAX_FILE_BYTES >> 20} MiB"
        )
    return value


def check_label(value: Any, columns: Columns, row: str) -> int:
    """Return the label of a row.

    Raises:
        DataError: it is missing or out of range.
    """
    bound = len(columns.classes) or _MAX_CLASSES
    if isinstance(value, int) and 0 <= value < bound:
        return int(value)
    advice = f"add label={NO_LABELS} to read no labels"
    if columns.from_python:
        advice = f"leave the labels out with remove_columns({columns.label!r})"
    raise DataError(
        f"{row} has {value!r} in its column {columns.label!r}; expected a class from 0 to "
        f"{bound - 1:,}: correct it, or {advice}"
    )


def escapes_archive(key: str) -> bool:
    """Return whether the name of a member leads out of its archive."""
    return ".." in key.replace("\\", "/").split("/") or key.startswith(("/", "\\"))


def _encode_png(image: Image.Image) -> bytes:
    """Encode an image as a PNG file that keeps its values and its EXIF orientation."""
    content = io.BytesIO()
    saved = image if image.mode in _PNG_MODES else image.convert("RGB")
    try:
        saved.save(content, "PNG", exif=image.getexif(), compress_level=0)
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"cannot be read: {error}") from None
    return content.getvalue()


def _features(dataset: Any) -> dict[str, Any]:
    """Return the declared type of each column or, without declarations, the first row's values."""
    if dataset.features is not None:
        return dict(dataset.features)
    return dict(next(iter(dataset), {}))


def _find_image_column(
    dataset: Any, features: dict[str, Any], frame: Frame, roots: tuple[Path, ...] | None
) -> str | None:
    ranked = [
        (rank, name) for name in features if (rank := _image_rank(features[name])) is not None
    ]
    # Try columns of bytes that are named after an image suffix first.
    ranked.sort(key=lambda pair: (pair[0], pair[0] == 2 and not is_image_name(f"x.{pair[1]}")))
    for rank, name in ranked:
        if rank < 2 or _is_decodable(dataset, name, frame, roots):
            return name
    return None


def _image_rank(feature: Any) -> int | None:
    """Return how a column holds images: 0 declared, 1 bytes and path, 2 bytes, None not at all."""
    if isinstance(feature, datasets_module().Image | Image.Image):
        return 0
    if isinstance(feature, dict):
        return 1 if "bytes" in feature else None
    binary = getattr(feature, "dtype", None) in ("binary", "large_binary")
    return 2 if binary or isinstance(feature, bytes) else None


def _is_decodable(dataset: Any, name: str, frame: Frame, roots: tuple[Path, ...] | None) -> bool:
    """Return whether one of the first rows of a column decodes as an image."""
    rows = iter(dataset.select_columns([name]))
    for _, row in zip(range(_MAX_TRIED_ROWS), rows, strict=False):
        try:
            decode(image_content(row[name], roots), frame)
        except DataError:
            continue
        return True
    return False


def _find_label_column(
    features: dict[str, Any], requested: str, source: str, *, text: bool
) -> str | None:
    if requested == NO_LABELS and NO_LABELS not in features:
        return None
    declared = [
        name for name in features if isinstance(features[name], datasets_module().ClassLabel)
    ]
    if requested:
        _require_column(requested, features, source)
        feature = features[requested]
        fits = _is_integer(feature) or (text and _is_text(feature))
        if requested not in declared and not fits:
            names = ", integers or names" if text else " or integers"
            raise DataError(
                f"{source}: column {requested!r} holds {_describe_type(feature)}; expected "
                f"classes{names}: name another with label=COLUMN"
            )
        return requested
    numbers = [name for name in _LABELS if name in features and _is_integer(features[name])]
    texts = [name for name in _LABELS if text and name in features and _is_text(features[name])]
    column = next(iter([*declared, *numbers, *texts]), None)
    others = [name for name in _LABELS if name in features]
    if column is None and others:
        logging.getLogger("advnets").warning(
            "%s: column %r holds %s, neither integers nor names, and is not read as labels",
            *(source, others[0], _describe_type(features[others[0]])),
        )
    return column


def _is_integer(feature: Any) -> bool:
    dtype = getattr(feature, "dtype", type(feature).__name__)
    return str(dtype).startswith(("int", "uint"))


def _is_text(feature: Any) -> bool:
    dtype = getattr(feature, "dtype", type(feature).__name__)
    return str(dtype) in ("string", "large_string", "str")


def _require_column(column: str, features: Sequence[str] | dict[str, Any], source: str) -> None:
    if column not in features:
        raise UnknownNameError(f"column of {source}", column, features)


def _describe_type(feature: Any) -> str:
    if isinstance(feature, dict):
        return f"pairs of {' and '.join(map(str, feature))}"
    dtype = getattr(feature, "dtype", None)
    return str(dtype) if isinstance(dtype, str) else type(feature).__name__


def _read_path(path: str, roots: Sequence[Path] | None) -> bytes:
    """Return the content of a file that a row names: a local file, or one at a URL."""
    if "://" not in path:
        if not os.path.isabs(path):  # noqa: PTH117 - relative to an unknown folder
            raise DataError(f"has no image, only the relative path of one, {path}")
        real = Path(path).resolve()
        if roots is not None and not any(real.is_relative_to(root.resolve()) for root in roots):
            raise DataError(f"names {path}, outside of the dataset; --follow-links reads it")
        # An absolute path is read as it is, whatever the reader's folder.
        content = next(FolderReader(Path("/")).read([os.fsencode(path)]))
        if isinstance(content, DataError):
            raise content
        return content
    from datasets.utils.file_utils import xopen

    try:
        with xopen(path, "rb") as file:
            return file.read(MAX_FILE_BYTES + 1)
    except Exception as error:  # fsspec's file systems raise many types
        raise DataError(f"cannot be downloaded: {describe_error(error)}") from None


# Tables as image files.

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
