"""The image and label columns of a Hugging Face dataset, and the content of their rows."""

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
"""The value of the option `label` that reads the set without labels."""
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

    `label` may be "none": the set is then read without labels.
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
    by path; None: any folder.
    """

    image: str
    label: str | None = None
    classes: tuple[str, ...] = ()
    key: bool = False
    roots: tuple[Path, ...] | None = field(default=None, repr=False)

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
        raise DataError(
            f"{source} has no image column, got {shown or 'no columns'}; expected a column of "
            "datasets.Image or of the bytes of image files: name it with image=COLUMN"
        )
    _require_column(image, features, source)
    if _image_rank(features[image]) is None:
        raise DataError(
            f"{source}: column {image!r} holds {_describe_type(features[image])}; expected "
            f"datasets.Image or the bytes of image files: name another with image=COLUMN"
        )
    label = _find_label_column(features, options.label, source, text=text)
    classes = tuple(map(str, getattr(features[label], "names", None) or ())) if label else ()
    return Columns(image, label, classes, KEY in features, roots)


def select_columns(dataset: Any, columns: Columns, source: str) -> Any:
    """Return the dataset reduced to the columns that are read, with images as undecoded bytes.

    Raises:
        DataError: a column is missing in one of the splits.
    """
    names = list(_features(dataset))
    for column in columns.all:
        if column not in names:
            raise DataError(
                f"{source} has no column {column!r} in one of its splits, only {', '.join(names)}; "
                f"choose another with image= or label= (label=none: no labels), "
                f"or one split with split=NAME"
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
    raise DataError(
        f"{row} has {value!r} in its column {columns.label!r}; expected a class from 0 to "
        f"{bound - 1:,}: correct it, or add label={NO_LABELS} to read no labels"
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
