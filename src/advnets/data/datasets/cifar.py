"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009), binary or Python version.

A binary record is a label (for CIFAR-100 a coarse and a fine one) and 32x32 red, green and blue
values, row by row. The Python version is a pickled dict of `data`, an array of such values, and
lists of labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from advnets.data.dataset import ArraySplit, Dataset, hold_out_last
from advnets.data.datasets.safe_pickle import read_pickle
from advnets.data.spec import fetch_command, join_words
from advnets.errors import DataError
from advnets.files import open_regular_file

_SHAPE = (3, 32, 32)
_PIXELS = 3072
_VALID = 10_000
_MAX_TEXT_BYTES = 1 << 16


@dataclass(frozen=True)
class CIFAR100:
    """The options of CIFAR-100."""

    labels: Literal["fine", "coarse"] = "fine"
    """The labels: 100 fine or 20 coarse classes."""


@dataclass(frozen=True)
class Labeling:
    """The position of a label in a binary record and its key in a pickled dict, and the classes."""

    position: int
    key: str
    names_key: str
    names_file: str
    num_classes: int
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Version:
    """A version of a dataset: its files, and the number of records in each training file.

    `labels_per_record` is the number of labels in a binary record; None for pickled files, whose
    class names are in the file `meta`.
    """

    archive: str
    folder: str
    train: tuple[str, ...]
    test: str
    records: int
    labels_per_record: int | None = None
    meta: str = ""


_CIFAR10_NAMES = tuple("airplane automobile bird cat deer dog frog horse ship truck".split())  # noqa: SIM905
LABELINGS = {
    "ten": Labeling(0, "labels", "label_names", "batches.meta.txt", 10, _CIFAR10_NAMES),
    "fine": Labeling(1, "fine_labels", "fine_label_names", "fine_label_names.txt", 100),
    "coarse": Labeling(0, "coarse_labels", "coarse_label_names", "coarse_label_names.txt", 20),
}
_BATCHES = tuple(f"data_batch_{i}" for i in range(1, 6))
_BATCHES_BIN = tuple(f"{name}.bin" for name in _BATCHES)
VERSIONS_10 = (
    Version(
        "cifar-10-binary.tar.gz", "cifar-10-batches-bin", _BATCHES_BIN, "test_batch.bin", 10_000, 1
    ),
    Version(
        *("cifar-10-python.tar.gz", "cifar-10-batches-py", _BATCHES, "test_batch", 10_000),
        meta="batches.meta",
    ),
)
VERSIONS_100 = (
    Version("cifar-100-binary.tar.gz", "cifar-100-binary", ("train.bin",), "test.bin", 50_000, 2),
    Version("cifar-100-python.tar.gz", "cifar-100-python", ("train",), "test", 50_000, meta="meta"),
)
_TEST_RECORDS = 10_000
_JPEG_ARCHIVE = "cifar10-jpg.zip"


def open_cifar10(folders: Sequence[Path]) -> Dataset:
    """Open CIFAR-10, in either version, from the first folder that contains it.

    The files may be in a folder itself, or in the subfolder `cifar-10-batches-bin` or `-py` to
    which the published archives extract.

    Raises:
        DataError: the files are missing or damaged.
    """
    return _open_named("CIFAR-10", "cifar10", VERSIONS_10, LABELINGS["ten"], folders)


def open_cifar100(options: CIFAR100, folders: Sequence[Path]) -> Dataset:
    """Open CIFAR-100 from the first folder (or subfolder `cifar-100-binary` or `-python`) with it.

    Raises:
        DataError: the files are missing or damaged.
    """
    return _open_named("CIFAR-100", "cifar100", VERSIONS_100, LABELINGS[options.labels], folders)


def is_cifar10_folder(path: Path) -> bool:
    """Return whether a path is a folder with training batches of CIFAR-10."""
    return _find_version(path, VERSIONS_10) is not None


def is_cifar100_folder(path: Path) -> bool:
    """Return whether a path is a folder with the training and test files of CIFAR-100."""
    # Check for all files, as the name of the training file alone is not specific.
    version = _find_version(path, VERSIONS_100)
    return version is not None and all(
        (path / file).is_file() for file in (version.test, version.meta) if file
    )


def open_cifar10_folder(folder: Path) -> Dataset:
    """Open a folder with five training batches and a test batch of CIFAR-10.

    The last 10,000 of the 50,000 training images are the validation split. Images are
    (3, 32, 32), labels 0 (airplane) to 9 (truck).

    Raises:
        DataError: a batch is missing, has a wrong length, or a label above 9.
    """
    return _open(folder, "cifar10", VERSIONS_10, LABELINGS["ten"])


def open_cifar100_folder(folder: Path, options: CIFAR100 | None = None) -> Dataset:
    """Open a folder with the training and test file of CIFAR-100, split as CIFAR-10 is.

    Raises:
        DataError: a file is missing, has a wrong length, or a label above the last class.
    """
    labeling = LABELINGS[(options or CIFAR100()).labels]
    return _open(folder, "cifar100", VERSIONS_100, labeling)


def _find_version(folder: Path, versions: Sequence[Version]) -> Version | None:
    return next((v for v in versions if (folder / v.train[0]).is_file()), None)


def _open_named(
    title: str, name: str, versions: Sequence[Version], labeling: Labeling, folders: Sequence[Path]
) -> Dataset:
    candidates = [
        candidate
        for folder in folders
        for candidate in (folder, *(folder / version.folder for version in versions))
    ]
    for candidate in candidates:
        if _find_version(candidate, versions):
            return _open(candidate, name, versions, labeling)
    jpegs = [folder / _JPEG_ARCHIVE for folder in folders if (folder / _JPEG_ARCHIVE).is_file()]
    hint = ""
    if name == "cifar10" and jpegs:
        hint = f"; {jpegs[0]} has other pixels than the original; open it by its path"
    files = join_words([version.train[0] for version in versions], "or")
    raise DataError(
        f"{title} ({files}) is missing from {join_words(candidates)}; "
        f"download it with: {fetch_command(name, folders)}; "
        f"or extract {versions[0].archive} in {folders[0]}{hint}"
    )


def _open(folder: Path, name: str, versions: Sequence[Version], labeling: Labeling) -> Dataset:
    version = _find_version(folder, versions)
    if version is None:
        raise DataError(f"{folder / versions[0].train[0]} is missing; download the dataset again")
    train = _read([folder / file for file in version.train], version, labeling, version.records)
    test = _read([folder / version.test], version, labeling, _TEST_RECORDS)
    classes = _class_names(folder, version, labeling)
    return Dataset(name, *hold_out_last(train, _VALID), test, classes=classes)


def _read(paths: Sequence[Path], version: Version, labeling: Labeling, records: int) -> ArraySplit:
    images = np.empty((len(paths), records, *_SHAPE), np.uint8)
    labels = np.empty((len(paths), records), np.int64)
    for i, path in enumerate(paths):
        per_record = version.labels_per_record
        if per_record is None:
            pixels, labels[i] = parse_batch(read_pickle(path), path, labeling, records)
        else:
            content = _read_bytes(path, records * (per_record + _PIXELS))
            pixels, labels[i] = parse_records(content, path, labeling, per_record, records)
        images[i] = pixels.reshape(-1, *_SHAPE)
    return ArraySplit(images.reshape(-1, *_SHAPE), labels.reshape(-1))


def _read_bytes(path: Path, expected: int) -> bytes:
    """Read at most one byte more than expected, so that a longer file is noticed."""
    try:
        with open_regular_file(path) as file:
            return file.read(expected + 1)
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}); download the dataset again"
        ) from None


def parse_records(
    content: bytes, path: Path, labeling: Labeling, labels_per_record: int, records: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels, shape (records, 3072), and the labels of a binary file.

    `path` is the name of the file in error messages.

    Raises:
        DataError: the content has a wrong length, or a label above the last class.
    """
    size = labels_per_record + _PIXELS
    if len(content) != records * size:
        length = f"{len(content):,}" if len(content) < records * size else "more"
        raise DataError(
            f"{path} must have {records:,} records of {size} bytes, got {length} bytes; download "
            "it again"
        )
    rows = np.frombuffer(content, np.uint8).reshape(records, size)
    labels = rows[:, labeling.position]
    _check_labels(path, labels, labeling)
    return rows[:, labels_per_record:], labels


def parse_batch(
    batch: object, path: Path, labeling: Labeling, records: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels, shape (records, 3072), and the labels of an unpickled batch.

    Raises:
        DataError: it is not a dict of `data` and labels, or these have wrong types or lengths.
    """
    entries = _decode_keys(batch, path)
    pixels, labels = entries.get("data"), entries.get(labeling.key)
    if not isinstance(pixels, np.ndarray) or not isinstance(labels, list):
        raise DataError(
            f"{path} has no array `data` and list `{labeling.key}`, expected in a batch of CIFAR; "
            "replace it with the original file"
        )
    if pixels.dtype != np.uint8 or pixels.shape != (records, _PIXELS):
        raise DataError(
            f"{path} must have `data` of uint8 and shape ({records}, {_PIXELS}), got "
            f"{pixels.dtype} and {pixels.shape}; download it again"
        )
    if len(labels) != records or not all(type(x) is int and 0 <= x < 256 for x in labels):
        raise DataError(
            f"{path} must have {records:,} integers from 0 to 255 in `{labeling.key}`, got "
            f"{len(labels):,} items or other values; download it again"
        )
    label_array = np.array(labels, np.uint8)
    _check_labels(path, label_array, labeling)
    return pixels, label_array


def _decode_keys(batch: object, path: Path) -> dict[str, Any]:
    """Return an unpickled dict with keys as str; Python 2 wrote them as bytes."""
    if not isinstance(batch, dict):
        raise DataError(
            f"{path} must contain a pickled dict, as CIFAR's files do; replace it with the "
            "original file"
        )
    entries: dict[Any, Any] = batch
    return {
        key.decode("latin1") if isinstance(key, bytes) else key: value
        for key, value in entries.items()
        if isinstance(key, bytes | str)
    }


def _check_labels(path: Path, labels: np.ndarray, labeling: Labeling) -> None:
    if labels.max() >= labeling.num_classes:
        raise DataError(
            f"{path} must have labels from 0 to {labeling.num_classes - 1}, got {labels.max()}; "
            "download it again"
        )


def _class_names(folder: Path, version: Version, labeling: Labeling) -> tuple[str, ...]:
    """Return the class names in the folder, else the published ones, else an empty tuple."""
    if version.labels_per_record is None:
        path = folder / version.meta
        names = tuple(_meta_names(path, labeling)) if path.is_file() else labeling.names
    else:
        path = folder / labeling.names_file
        text = _read_bytes(path, _MAX_TEXT_BYTES).decode("latin1") if path.is_file() else ""
        names = tuple(text.split()) or labeling.names
    if names and len(names) != labeling.num_classes:
        raise DataError(
            f"{path} must have {labeling.num_classes} class names, got {len(names)}; download it "
            "again"
        )
    return names


def _meta_names(path: Path, labeling: Labeling) -> Iterator[str]:
    names = _decode_keys(read_pickle(path), path).get(labeling.names_key)
    if not isinstance(names, list):
        raise DataError(f"{path} has no list `{labeling.names_key}`; download it again")
    items: list[Any] = names
    for name in islice(items, labeling.num_classes + 1):
        if not isinstance(name, str | bytes):
            raise DataError(
                f"{path} must have text in `{labeling.names_key}`, got {type(name).__name__}; "
                "download it again"
            )
        yield name.decode("latin1") if isinstance(name, bytes) else name
