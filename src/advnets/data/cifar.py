"""CIFAR-10 in its binary version (Krizhevsky, 2009).

A batch is 10,000 records of a label and then 32x32 red, green and blue values, row by row.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from advnets.data.places import first_existing, listed
from advnets.data.source import Pictures, Splits, hold_out_last
from advnets.errors import DataError

_TRAIN = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
_TEST = "test_batch.bin"
_UNPACKED = "cifar-10-batches-bin"  # the folder that the published archive unpacks to
_SHAPE = (3, 32, 32)
_RECORD = 3073
_RECORDS = 10_000
_CLASSES = 10


def open_cifar10(folders: Sequence[Path]) -> Splits:
    """Open CIFAR-10 from the first of the folders (or their `cifar-10-batches-bin`) that has it.

    Raises:
        DataError: it is in none of them, or a file is broken.
    """
    places = [place for folder in folders for place in (folder, folder / _UNPACKED)]
    found = first_existing(place / _TRAIN[0] for place in places)
    if found is None:
        raise DataError(
            f"CIFAR-10's {_TRAIN[0]} is neither in {listed(places)}; "
            f"unpack cifar-10-binary.tar.gz in {folders[0]}"
        )
    return open_cifar10_folder(found.parent)


def is_cifar10_folder(path: Path) -> bool:
    """Whether a path is a folder with batches of CIFAR-10's binary version."""
    return (path / _TRAIN[0]).is_file()


def open_cifar10_folder(folder: Path) -> Splits:
    """Open a folder's five training batches and its test batch.

    The first 40,000 training pictures are for training and the last 10,000 for validation;
    pictures are (3, 32, 32), labels 0 (airplane) to 9 (truck).

    Raises:
        DataError: a batch is absent, of another length, or has a label past 9.
    """
    train = _read([folder / name for name in _TRAIN])
    return Splits("cifar10", *hold_out_last(train, _RECORDS), _read([folder / _TEST]))


def _read(paths: Sequence[Path]) -> Pictures:
    images = np.empty((len(paths), _RECORDS, *_SHAPE), np.uint8)
    labels = np.empty((len(paths), _RECORDS), np.int64)
    for i, path in enumerate(paths):
        records = _records(path)
        images[i] = records[:, 1:].reshape(-1, *_SHAPE)
        labels[i] = records[:, 0]
        if labels[i].max() >= _CLASSES:
            raise DataError(
                f"{path} has the label {labels[i].max()}, but 0 to 9 were expected; bring it anew"
            )
    return Pictures(images.reshape(-1, *_SHAPE), labels.reshape(-1))


def _records(path: Path) -> np.ndarray:
    try:
        content = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}); unpack cifar-10-binary.tar.gz anew"
        ) from None
    if content.size != _RECORDS * _RECORD:
        raise DataError(
            f"{path} has {content.size:,} bytes, but {_RECORDS:,} records of {_RECORD} were "
            f"expected; unpack cifar-10-binary.tar.gz anew"
        )
    return content.reshape(_RECORDS, _RECORD)
