"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009), in their binary and their python version.

A binary record is a label (for CIFAR-100 a coarse and then a fine one) and 32x32 red, green and
blue values, row by row. The python version is a pickled dict of `data`, such rows of values as an
array, and of lists of labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from advnets.data.dataset import ArraySplit, Dataset, hold_out_last
from advnets.data.datasets.formats.safe_pickle import read_pickle
from advnets.data.spec import fetch_command, join_words
from advnets.errors import DataError
from advnets.files import open_regular_file

_SHAPE = (3, 32, 32)
_PIXELS = 3072
_VALID = 10_000
_LONGEST_TEXT = 1 << 16


@dataclass(frozen=True)
class CIFAR100:
    """Which labels: the 100 fine classes or the 20 coarse ones."""

    labels: Literal["fine", "coarse"] = "fine"


@dataclass(frozen=True)
class Labeling:
    """One labeling: where its label stands in a record and in a dict, and its classes."""

    position: int
    key: str
    names_key: str
    names_file: str
    classes: int
    known: tuple[str, ...] = ()


@dataclass(frozen=True)
class Version:
    """One version of one set: its files, and how many records each has.

    `per_record` are the labels of a binary record; None: the files are pickles.
    """

    archive: str
    folder: str
    train: tuple[str, ...]
    test: str
    meta: str
    records: tuple[int, int]
    per_record: int | None


_TEN = tuple("airplane automobile bird cat deer dog frog horse ship truck".split())  # noqa: SIM905
LABELINGS = {
    "ten": Labeling(0, "labels", "label_names", "batches.meta.txt", 10, _TEN),
    "fine": Labeling(1, "fine_labels", "fine_label_names", "fine_label_names.txt", 100),
    "coarse": Labeling(0, "coarse_labels", "coarse_label_names", "coarse_label_names.txt", 20),
}
_BATCHES = tuple(f"data_batch_{i}" for i in range(1, 6))
_BATCHES_BIN = tuple(f"{name}.bin" for name in _BATCHES)
VERSIONS_10 = (
    Version(
        "cifar-10-binary.tar.gz",
        "cifar-10-batches-bin",
        _BATCHES_BIN,
        "test_batch.bin",
        "",
        (10_000, 10_000),
        1,
    ),
    Version(
        "cifar-10-python.tar.gz",
        "cifar-10-batches-py",
        _BATCHES,
        "test_batch",
        "batches.meta",
        (10_000, 10_000),
        None,
    ),
)
VERSIONS_100 = (
    Version(
        "cifar-100-binary.tar.gz",
        "cifar-100-binary",
        ("train.bin",),
        "test.bin",
        "",
        (50_000, 10_000),
        2,
    ),
    Version(
        "cifar-100-python.tar.gz",
        "cifar-100-python",
        ("train",),
        "test",
        "meta",
        (50_000, 10_000),
        None,
    ),
)
_JPEGS = "cifar10-jpg.zip"


def open_cifar10(folders: Sequence[Path]) -> Dataset:
    """Open CIFAR-10 from the first of the folders that has it in either version.

    It may lie in a folder itself, or in the `cifar-10-batches-bin` or `-py` that the published
    archives unpack to.

    Raises:
        DataError: it is in none of them, or a file is broken.
    """
    return _open_named("CIFAR-10", "cifar10", VERSIONS_10, LABELINGS["ten"], folders)


def open_cifar100(options: CIFAR100, folders: Sequence[Path]) -> Dataset:
    """Open CIFAR-100 from the first of the folders (or their `cifar-100-binary` or `-python`).

    Raises:
        DataError: it is in none of them, or a file is broken.
    """
    return _open_named("CIFAR-100", "cifar100", VERSIONS_100, LABELINGS[options.labels], folders)


def is_cifar10_folder(path: Path) -> bool:
    """Whether a path is a folder with batches of CIFAR-10."""
    return _version(path, VERSIONS_10) is not None


def is_cifar100_folder(path: Path) -> bool:
    """Whether a path is a folder with CIFAR-100's training and test files."""
    version = _version(path, VERSIONS_100)  # whose file names alone do not say much
    return version is not None and all(
        (path / file).is_file() for file in (version.test, version.meta) if file
    )


def open_cifar10_folder(folder: Path) -> Dataset:
    """Open a folder's five training batches and its test batch.

    The first 40,000 training images are for training and the last 10,000 for validation;
    images are (3, 32, 32), labels 0 (airplane) to 9 (truck).

    Raises:
        DataError: a batch is absent, of another length, or has a label past 9.
    """
    return _open(folder, "cifar10", VERSIONS_10, LABELINGS["ten"])


def open_cifar100_folder(folder: Path, options: CIFAR100 | None = None) -> Dataset:
    """Open a folder's training and test file; split as CIFAR-10, with fine or coarse labels.

    Raises:
        DataError: a file is absent, of another length, or has a label past the last class.
    """
    kind = LABELINGS[(options or CIFAR100()).labels]
    return _open(folder, "cifar100", VERSIONS_100, kind)


def _version(folder: Path, versions: Sequence[Version]) -> Version | None:
    return next((each for each in versions if (folder / each.train[0]).is_file()), None)


def _open_named(
    title: str, name: str, versions: Sequence[Version], kind: Labeling, folders: Sequence[Path]
) -> Dataset:
    places = [
        place
        for folder in folders
        for place in (folder, *(folder / version.folder for version in versions))
    ]
    found = next((place for place in places if _version(place, versions)), None)
    if found is None:
        jpegs = [folder / _JPEGS for folder in folders if (folder / _JPEGS).is_file()]
        said = ""
        if name == "cifar10" and jpegs:
            said = f"; {jpegs[0]} has other pixels than the original, open it by its path"
        files = join_words([version.train[0] for version in versions], "or")
        raise DataError(
            f"{title}'s {files} lies in none of {join_words(places, 'and')}; "
            f"to bring it, type: {fetch_command(name, folders)}; "
            f"or unpack {versions[0].archive} in {folders[0]}{said}"
        )
    return _open(found, name, versions, kind)


def _open(folder: Path, name: str, versions: Sequence[Version], kind: Labeling) -> Dataset:
    version = _version(folder, versions)
    if version is None:
        raise DataError(f"{folder / versions[0].train[0]} is absent; bring the whole set anew")
    in_train, in_test = version.records
    train = _read([folder / file for file in version.train], version, kind, in_train)
    test = _read([folder / version.test], version, kind, in_test)
    classes = _class_names(folder, version, kind)
    return Dataset(name, *hold_out_last(train, _VALID), test, classes=classes)


def _read(paths: Sequence[Path], version: Version, kind: Labeling, records: int) -> ArraySplit:
    images = np.empty((len(paths), records, *_SHAPE), np.uint8)
    labels = np.empty((len(paths), records), np.int64)
    for i, path in enumerate(paths):
        if version.per_record is None:
            pixels, labels[i] = parse_batch(read_pickle(path), path, kind, records)
        else:
            content = _content(path, records * (version.per_record + _PIXELS))
            pixels, labels[i] = parse_records(content, path, kind, version.per_record, records)
        images[i] = pixels.reshape(-1, *_SHAPE)
    return ArraySplit(images.reshape(-1, *_SHAPE), labels.reshape(-1))


def _content(path: Path, expected: int) -> bytes:
    try:
        with open_regular_file(path) as file:
            return file.read(expected + 1)
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}); bring the whole set anew"
        ) from None


def parse_records(
    content: bytes, path: Path, kind: Labeling, per_record: int, records: int
) -> tuple[np.ndarray, np.ndarray]:
    """The pixels, (records, 3072), and the labels of a binary file; `path` is what errors call it.

    Raises:
        DataError: it has another length, or a label past the last class.
    """
    size = per_record + _PIXELS
    if len(content) != records * size:
        found = f"{len(content):,}" if len(content) < records * size else "more"
        raise DataError(
            f"{path} has {found} bytes, but {records:,} records of {size} were expected; "
            f"bring it anew"
        )
    rows = np.frombuffer(content, np.uint8).reshape(records, size)
    labels = rows[:, kind.position]
    _check_labels(path, labels, kind)
    return rows[:, per_record:], labels


def parse_batch(
    batch: object, path: Path, kind: Labeling, records: int
) -> tuple[np.ndarray, np.ndarray]:
    """The pixels, (records, 3072), and the labels of what was pickled.

    Raises:
        DataError: it is no dict of `data` and labels, or they have other types or lengths.
    """
    entries = _texted(batch, path)
    pixels, labels = entries.get("data"), entries.get(kind.key)
    if not isinstance(pixels, np.ndarray) or not isinstance(labels, list):
        raise DataError(
            f"{path} has no array `data` and list `{kind.key}`, as a pickled batch of CIFAR has; "
            f"put the right file there"
        )
    if pixels.dtype != np.uint8 or pixels.shape != (records, _PIXELS):
        raise DataError(
            f"{path} has `data` of {pixels.dtype} and shape {pixels.shape}, but uint8 and "
            f"({records}, {_PIXELS}) were expected; bring it anew"
        )
    if len(labels) != records or not all(type(x) is int and 0 <= x < 256 for x in labels):
        raise DataError(
            f"{path} has {len(labels):,} `{kind.key}` for {records:,} images, or others than "
            f"small numbers; bring it anew"
        )
    numbers = np.array(labels, np.uint8)
    _check_labels(path, numbers, kind)
    return pixels, numbers


def _texted(found: object, path: Path) -> dict[str, Any]:
    """A dict whose keys are texts: Python 2 wrote them as bytes."""
    if not isinstance(found, dict):
        raise DataError(f"{path} holds no dict, as CIFAR's pickles do; put the right file there")
    entries: dict[Any, Any] = found
    return {
        key.decode("latin1") if isinstance(key, bytes) else key: value
        for key, value in entries.items()
        if isinstance(key, bytes | str)
    }


def _check_labels(path: Path, labels: np.ndarray, kind: Labeling) -> None:
    if labels.max() >= kind.classes:
        raise DataError(
            f"{path} has the label {labels.max()}, but 0 to {kind.classes - 1} were expected; "
            f"bring it anew"
        )


def _class_names(folder: Path, version: Version, kind: Labeling) -> tuple[str, ...]:
    """The names of the classes, from the folder or as published; none where neither has them."""
    if version.per_record is None:
        path = folder / version.meta
        names = tuple(_meta_names(path, kind)) if path.is_file() else kind.known
    else:
        path = folder / kind.names_file
        text = _content(path, _LONGEST_TEXT).decode("latin1") if path.is_file() else ""
        names = tuple(text.split()) or kind.known
    if names and len(names) != kind.classes:
        raise DataError(
            f"{path} has {len(names)} names, but {kind.classes} were expected; bring it anew"
        )
    return names


def _meta_names(path: Path, kind: Labeling) -> Iterator[str]:
    names = _texted(read_pickle(path), path).get(kind.names_key)
    if not isinstance(names, list):
        raise DataError(f"{path} has no list `{kind.names_key}`; bring it anew")
    items: list[Any] = names
    for name in islice(items, kind.classes + 1):
        if not isinstance(name, str | bytes):
            raise DataError(f"{path} has `{kind.names_key}` that are no texts; bring it anew")
        yield name.decode("latin1") if isinstance(name, bytes) else name
