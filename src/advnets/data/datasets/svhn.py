"""Street View House Numbers, cropped digits (Netzer, Wang, Coates, Bissacco, Wu and Ng, 2011).

A MATLAB file holds `X`, bytes of (height, width, 3, N), and `y`, N labels of which 10 means the 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from advnets.data.dataset import ArraySplit, Dataset
from advnets.data.datasets.formats.idx import hold_out_sixth
from advnets.data.datasets.formats.mat import read_mat, whole_numbers
from advnets.data.spec import fetch_command, first_existing, join_words
from advnets.errors import DataError

LAYOUT = ("X", "y")
"""The variables of a file in this layout."""
TRAIN, TEST, EXTRA = "train_32x32.mat", "test_32x32.mat", "extra_32x32.mat"
_VALID = 10_000
_CLASSES = tuple("0123456789")


@dataclass(frozen=True)
class SVHN:
    """Whether the 531,131 simpler digits of the extra file are for training too."""

    extra: bool = False


def open_svhn(options: SVHN, folders: Sequence[Path]) -> Dataset:
    """Open SVHN from the first of the folders that has its training digits.

    Raises:
        DataError: they are in none of them, or a file is absent or broken.
    """
    found = first_existing(folder / TRAIN for folder in folders)
    if found is None:
        raise DataError(
            f"SVHN's {TRAIN} is neither in {join_words(folders)}; "
            f"to bring it, type: {fetch_command('svhn', folders)}"
        )
    return open_svhn_folder(found.parent, options, name="svhn")


def is_svhn_folder(path: Path) -> bool:
    """Whether a path is a folder with SVHN's training digits."""
    return (path / TRAIN).is_file()


def open_svhn_folder(folder: Path, options: SVHN | None = None, name: str | None = None) -> Dataset:
    """Open a folder with SVHN's files: training, test and, where asked for, extra digits.

    The last 10,000 training digits are for validation; the others, and then the extra ones, are
    for training. Images are (3, 32, 32); labels are the digits.

    Raises:
        DataError: a file is absent or broken, or no training digits would be left.
    """
    files = [TRAIN, EXTRA] if options is not None and options.extra else [TRAIN]
    parts = [_read(folder / file) for file in files]
    n = len(parts[0][0])
    if n <= _VALID:
        raise DataError(
            f"{folder / TRAIN} has {n:,} images, of which the last {_VALID:,} are for "
            f"validation, so none is left; put the right file there"
        )
    if len({images.shape[1:] for images, _ in parts}) > 1:
        raise DataError(
            f"{folder / EXTRA} has images of another size than {TRAIN}; bring both anew"
        )
    images, labels = parts[0]
    valid = _images([(images[n - _VALID :], labels[n - _VALID :])])
    parts[0] = images[: n - _VALID], labels[: n - _VALID]
    train = _images(parts)
    test = _images([_read(folder / TEST)])
    return Dataset(name or folder.resolve().name, train, valid, test, classes=_CLASSES)


def open_svhn_file(path: Path) -> Dataset:
    """Open one MATLAB file in SVHN's layout; the last sixth of its images is for validation.

    Raises:
        DataError: the file is no such file.
    """
    return Dataset(path.stem, *hold_out_sixth(_images([_read(path)])), None, classes=_CLASSES)


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Views of images, (N, 3, height, width), and the digits."""
    if not path.is_file():
        name = "svhn-extra" if path.name == EXTRA else "svhn"
        own = path.parent
        folders = [own, own.parent] if own.name == "svhn" else [own]
        raise DataError(f"{path} is absent; to bring it, type: {fetch_command(name, folders)}")
    found = read_mat(path, LAYOUT)
    if absent := [name for name in LAYOUT if name not in found]:
        raise DataError(
            f"{path} has no {join_words(absent, 'and')}, but a file in SVHN's layout has X and y; "
            f"put the right file there"
        )
    images, given = found["X"], found["y"]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[2] != 3 or not images.size:
        raise DataError(
            f"{path} has `X` of {images.dtype} and shape {images.shape}, but uint8 and "
            f"(height, width, 3, N) were expected; put the right file there"
        )
    labels = whole_numbers(given.reshape(-1))
    if labels is None or len(labels) != images.shape[3]:
        raise DataError(
            f"{path} has `y` of {given.dtype} and shape {given.shape}, but whole numbers for each "
            f"of {images.shape[3]:,} images were expected; put the right file there"
        )
    if labels.min() < 1 or labels.max() > 10:
        raise DataError(
            f"{path} has labels from {labels.min()} to {labels.max()}, but 1 to 10 were expected; "
            f"put the right file there"
        )
    return images.transpose(3, 2, 0, 1), labels % 10


def _images(parts: list[tuple[np.ndarray, np.ndarray]]) -> ArraySplit:
    """The parts one after the other, each let go once it is copied: the extra one has 1.6 GB."""
    labels = np.concatenate([labels for _, labels in parts])
    images = np.empty((len(labels), *parts[0][0].shape[1:]), np.uint8)
    first = 0
    while parts:
        part, _ = parts.pop(0)
        images[first : first + len(part)] = part
        first += len(part)
    return ArraySplit(images, labels)
