"""Which columns of a set are its images and labels, and what a row of them holds."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from advnets.data.huggingface.library import datasets_module, describe_error
from advnets.data.image_folder.decode import Frame, decode, is_image_name
from advnets.data.image_folder.files import MAX_FILE_BYTES, FolderReader
from advnets.errors import DataError, UnknownNameError

NO_LABELS = "none"
"""As the option `label`: read the set without labels."""
KEY = "__key__"
"""WebDataset's column of the names that its members share."""
_PNG_MODES = ("1", "L", "LA", "I", "I;16", "P", "RGB", "RGBA")
_LABELS = ("label", "labels", "class", "cls", "fine_label", "target", "y", "category")
_MAX_TRIED_ROWS = 8
"""First rows of which one must decode, where only that shows that a column holds images."""
_MAX_CLASSES = 1 << 16
"""Of numbers without names; more are not classes."""


@dataclass(frozen=True)
class Hub:
    """What a set is told besides its name; what is left out is found.

    `label` may be "none": the set is then read without labels.
    """

    config: str = ""
    split: str = ""
    image: str = ""
    label: str = ""
    revision: str = ""


@dataclass(frozen=True)
class Columns:
    """The columns that are read; `classes` are the names of the labels, where they have some.

    `roots` are the folders in which files lie that rows may name by their paths; None: anywhere.
    """

    image: str
    label: str | None = None
    classes: tuple[str, ...] = ()
    key: bool = False
    roots: tuple[Path, ...] | None = field(default=None, repr=False)

    @property
    def all(self) -> list[str]:
        """Their names."""
        return [self.image, *([self.label] if self.label else []), *([KEY] if self.key else [])]


def find_columns(
    dataset: Any,
    options: Hub,
    frame: Frame,
    name: str,
    *,
    text: bool = False,
    roots: tuple[Path, ...] | None = None,
) -> Columns:
    """The image column and, if there is one, the label column.

    The images are what `options.image` names, else the first column that is declared as images,
    else the first of pairs of bytes and path, else the first of bytes that decode. The labels are
    what `options.label` names, else the first that is declared as classes, else whole numbers under
    a name such as label, else, with `text`, names of classes under such a name.

    Raises:
        DataError: no column holds images, or the one that is named holds none.
        UnknownNameError: a column that is named is not there.
    """
    features = _features(dataset)
    image = options.image or _find_image_column(dataset, features, frame, roots)
    if image is None:
        shown = ", ".join(
            f"{name} ({_describe_type(feature)})" for name, feature in features.items()
        )
        raise DataError(
            f"{name} has no column of images, only {shown or 'none at all'}; expected one of "
            f"datasets.Image or of an image file's bytes: name it with image=COLUMN"
        )
    _require_column(image, features, name)
    if _image_rank(features[image]) is None:
        raise DataError(
            f"{name}: column {image!r} holds {_describe_type(features[image])}; expected datasets.Image or "
            f"an image file's bytes: name another with image=COLUMN"
        )
    label = _find_label_column(features, options.label, name, text=text)
    classes = tuple(map(str, getattr(features[label], "names", None) or ())) if label else ()
    return Columns(image, label, classes, KEY in features, roots)


def select_columns(dataset: Any, columns: Columns, name: str) -> Any:
    """The set with the columns that are read alone, its images as the bytes they are.

    Raises:
        DataError: a column is missing, as splits of one set may differ.
    """
    names = list(_features(dataset))
    for column in columns.all:
        if column not in names:
            raise DataError(
                f"{name} has no column {column!r} in one of its splits, only {', '.join(names)}; "
                f"name another with image= or label= (label=none: no labels), or one split=NAME"
            )
    dataset = dataset.select_columns(columns.all)
    datasets = datasets_module()
    if dataset.features and isinstance(dataset.features[columns.image], datasets.Image):
        return dataset.cast_column(columns.image, datasets.Image(decode=False))
    return dataset


def image_content(value: Any, roots: Sequence[Path] | None = None) -> bytes:
    """Return the image file that a row holds, or that it names by a path within the roots.

    Raises:
        DataError: there is none; the message is the reason alone.
    """
    path = None
    if isinstance(value, dict):
        path, value = value.get("path"), value.get("bytes")
    if value is None and isinstance(path, str) and path:
        value = _read_path(path, roots)
    if isinstance(value, Image.Image):  # as a program's own map or filter leaves it
        value = _encode_png(value)
    if not isinstance(value, bytes):
        raise DataError("has no image")
    if len(value) > MAX_FILE_BYTES:
        raise DataError(f"is {len(value) >> 20:,} MiB large, more than an image takes")
    return value


def check_label(value: Any, columns: Columns, row: str) -> int:
    """The label of a row.

    Raises:
        DataError: it is missing or out of range.
    """
    bound = len(columns.classes) or _MAX_CLASSES
    if isinstance(value, int) and 0 <= value < bound:
        return int(value)
    raise DataError(
        f"{row} has {value!r} in its column {columns.label!r}; expected a class from 0 to "
        f"{bound - 1:,}: mend it, or add label={NO_LABELS} to do without labels"
    )


def escapes_archive(key: str) -> bool:
    """Whether a member's name within an archive is not to be trusted."""
    return ".." in key.replace("\\", "/").split("/") or key.startswith(("/", "\\"))


def _encode_png(image: Image.Image) -> bytes:
    """An image in a file that keeps its values and says how it lies."""
    content = io.BytesIO()
    kept = image if image.mode in _PNG_MODES else image.convert("RGB")
    try:
        kept.save(content, "PNG", exif=image.getexif(), compress_level=0)
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"cannot be read: {error}") from None
    return content.getvalue()


def _features(dataset: Any) -> dict[str, Any]:
    """What each column is declared to be; where nothing is, the values of the first row."""
    if dataset.features is not None:
        return dict(dataset.features)
    return dict(next(iter(dataset), {}))


def _find_image_column(
    dataset: Any, features: dict[str, Any], frame: Frame, roots: tuple[Path, ...] | None
) -> str | None:
    ranked = [
        (rank, name) for name in features if (rank := _image_rank(features[name])) is not None
    ]
    # Of several columns of bytes, one that is named after an image's ending comes first.
    ranked.sort(key=lambda pair: (pair[0], pair[0] == 2 and not is_image_name(f"x.{pair[1]}")))
    for rank, name in ranked:
        if rank < 2 or _decodes(dataset, name, frame, roots):
            return name
    return None


def _image_rank(feature: Any) -> int | None:
    """How surely a column holds images: 0 declared, 1 a pair of bytes and path, 2 bytes."""
    if isinstance(feature, datasets_module().Image | Image.Image):
        return 0
    if isinstance(feature, dict):
        return 1 if "bytes" in feature else None
    binary = getattr(feature, "dtype", None) in ("binary", "large_binary")
    return 2 if binary or isinstance(feature, bytes) else None


def _decodes(dataset: Any, name: str, frame: Frame, roots: tuple[Path, ...] | None) -> bool:
    rows = iter(dataset.select_columns([name]))
    for _, row in zip(range(_MAX_TRIED_ROWS), rows, strict=False):
        try:
            decode(image_content(row[name], roots), frame)
        except DataError:
            continue
        return True
    return False


def _find_label_column(
    features: dict[str, Any], requested: str, name: str, *, text: bool
) -> str | None:
    if requested == NO_LABELS and NO_LABELS not in features:
        return None
    declared = [
        name for name in features if isinstance(features[name], datasets_module().ClassLabel)
    ]
    if requested:
        _require_column(requested, features, name)
        feature = features[requested]
        fits = _is_integer(feature) or (text and _is_text(feature))
        if requested not in declared and not fits:
            names = ", whole numbers or names" if text else " or whole numbers"
            raise DataError(
                f"{name}: column {requested!r} holds {_describe_type(feature)}; expected "
                f"classes{names}: name another with label=COLUMN"
            )
        return requested
    numbers = [name for name in _LABELS if name in features and _is_integer(features[name])]
    texts = [name for name in _LABELS if text and name in features and _is_text(features[name])]
    column = next(iter([*declared, *numbers, *texts]), None)
    others = [name for name in _LABELS if name in features]
    if column is None and others:
        logging.getLogger("advnets").warning(
            "%s: column %r holds %s, neither whole numbers nor names, and is not read as labels",
            *(name, others[0], _describe_type(features[others[0]])),
        )
    return column


def _is_integer(feature: Any) -> bool:
    dtype = getattr(feature, "dtype", type(feature).__name__)
    return str(dtype).startswith(("int", "uint"))


def _is_text(feature: Any) -> bool:
    dtype = getattr(feature, "dtype", type(feature).__name__)
    return str(dtype) in ("string", "large_string", "str")


def _require_column(column: str, features: Sequence[str] | dict[str, Any], name: str) -> None:
    if column not in features:
        raise UnknownNameError(f"column of {name}", column, features)


def _describe_type(feature: Any) -> str:
    if isinstance(feature, dict):
        return f"pairs of {' and '.join(map(str, feature))}"
    dtype = getattr(feature, "dtype", None)
    return str(dtype) if isinstance(dtype, str) else type(feature).__name__


def _read_path(path: str, roots: Sequence[Path] | None) -> bytes:
    """A file that a row names: on this machine, or where the library streams from."""
    if "://" not in path:
        if not os.path.isabs(path):  # noqa: PTH117 - of no folder that we know
            raise DataError(f"has no image, only the name of one, {path}")
        real = Path(path).resolve()
        if roots is not None and not any(real.is_relative_to(root.resolve()) for root in roots):
            raise DataError(f"names {path}, outside of the set; --follow-links reads it")
        # An absolute path is its own, whatever folder it is asked of.
        content = next(FolderReader(Path("/")).read([os.fsencode(path)]))
        if isinstance(content, DataError):
            raise content
        return content
    from datasets.utils.file_utils import xopen

    try:
        with xopen(path, "rb") as file:
            return file.read(MAX_FILE_BYTES + 1)
    except Exception as error:  # of many kinds, as are the places
        raise DataError(f"cannot be fetched: {describe_error(error)}") from None
