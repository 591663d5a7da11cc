"""Street View House Numbers, cropped digits (Netzer, Wang, Coates, Bissacco, Wu and Ng, 2011).

A MATLAB file contains `X`, uint8 of shape (height, width, 3, N), and `y`, N labels from 1 to 10,
where 10 is the digit 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from advnets.data.dataset import ArraySplit, Dataset
from advnets.data.datasets.formats.idx import hold_out_sixth
from advnets.data.datasets.formats.mat import read_mat, to_integers
from advnets.data.spec import fetch_command, first_existing, join_words
from advnets.errors import DataError

LAYOUT = ("X", "y")
"""The variables of a file in the layout of SVHN."""
TRAIN, TEST, EXTRA = "train_32x32.mat", "test_32x32.mat", "extra_32x32.mat"
_VALID = 10_000
_CLASSES = tuple("0123456789")


@dataclass(frozen=True)
class SVHN:
    """The options of SVHN."""

    extra: bool = False
    """Whether the 531,131 simpler digits of the extra file are training images too."""


def open_svhn(options: SVHN, folders: Sequence[Path]) -> Dataset:
    """Open SVHN from the first folder that contains its training file.

    Raises:
        DataError: a file is missing or damaged.
    """
    path = first_existing(folder / TRAIN for folder in folders)
    if path is None:
        raise DataError(
            f"SVHN ({TRAIN}) is missing from {join_words(folders)}; "
            f"download it with: {fetch_command('svhn', folders)}"
        )
    return open_svhn_folder(path.parent, options, name="svhn")


def is_svhn_folder(path: Path) -> bool:
    """Return whether a path is a folder with the training file of SVHN."""
    return (path / TRAIN).is_file()


def open_svhn_folder(folder: Path, options: SVHN | None = None, name: str | None = None) -> Dataset:
    """Open a folder with the training, test and (optionally) extra file of SVHN.

    The last 10,000 training images are the validation split; the others and then the extra images
    are the training split. Images are (3, 32, 32); labels are the digits.

    Raises:
        DataError: a file is missing or damaged, or there are at most 10,000 training images.
    """
    files = [TRAIN, EXTRA] if options is not None and options.extra else [TRAIN]
    parts = [_read(folder / file) for file in files]
    n = len(parts[0][0])
    if n <= _VALID:
        raise DataError(
            f"{folder / TRAIN} must have more than {_VALID:,} images, the last of which are the "
            f"validation split, got {n:,}; replace it with the original file"
        )
    if len({images.shape[1:] for images, _ in parts}) > 1:
        raise DataError(
            f"{folder / EXTRA} must have images of the same size as {TRAIN}; download both again"
        )
    images, labels = parts[0]
    valid = _images([(images[n - _VALID :], labels[n - _VALID :])])
    parts[0] = images[: n - _VALID], labels[: n - _VALID]
    train = _images(parts)
    test = _images([_read(folder / TEST)])
    return Dataset(name or folder.resolve().name, train, valid, test, classes=_CLASSES)


def open_svhn_file(path: Path) -> Dataset:
    """Open a MATLAB file in SVHN's layout; the last sixth of its images is the validation split.

    Raises:
        DataError: the file is damaged or has another layout.
    """
    return Dataset(path.stem, *hold_out_sixth(_images([_read(path)])), None, classes=_CLASSES)


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return images as a view of shape (N, 3, height, width), and the digits."""
    if not path.is_file():
        name = "svhn-extra" if path.name == EXTRA else "svhn"
        folder = path.parent
        folders = [folder, folder.parent] if folder.name == "svhn" else [folder]
        raise DataError(f"{path} is missing; download it with: {fetch_command(name, folders)}")
    variables = read_mat(path, LAYOUT)
    if missing := [name for name in LAYOUT if name not in variables]:
        raise DataError(
            f"{path} has no {join_words(missing)}, expected X and y as in SVHN's files; replace it "
            "with the original file"
        )
    images, y = variables["X"], variables["y"]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[2] != 3 or not images.size:
        raise DataError(
            f"{path} must have `X` of uint8 and shape (height, width, 3, N), got {images.dtype} "
            f"and {images.shape}; replace it with the original file"
        )
    labels = to_integers(y.reshape(-1))
    if labels is None or len(labels) != images.shape[3]:
        raise DataError(
            f"{path} must have one integer in `y` for each of {images.shape[3]:,} images, got "
            f"{y.dtype} of shape {y.shape}; replace it with the original file"
        )
    if labels.min() < 1 or labels.max() > 10:
        raise DataError(
            f"{path} must have labels from 1 to 10, got {labels.min()} to {labels.max()}; replace "
            "it with the original file"
        )
    return images.transpose(3, 2, 0, 1), labels % 10


def _images(parts: list[tuple[np.ndarray, np.ndarray]]) -> ArraySplit:
    """Concatenate parts, releasing each once it is copied: the extra file has 1.6 GB."""
    labels = np.concatenate([labels for _, labels in parts])
    images = np.empty((len(labels), *parts[0][0].shape[1:]), np.uint8)
    first = 0
    while parts:
        part, _ = parts.pop(0)
        images[first : first + len(part)] = part
        first += len(part)
    return ArraySplit(images, labels)
