"""MATLAB files of images: the Toronto Face Database and SVHN, and files in their layouts.

TFD (Susskind, Anderson and Hinton, 2010) has `images`, uint8 of shape (N, H, W), `labs_ex`, N
numbers, and `folds`, of shape (N, folds). SVHN, the cropped digits of the Street View House Numbers
(Netzer, Wang, Coates, Bissacco, Wu and Ng, 2011), has `X`, uint8 of shape (height, width, 3, N),
and `y`, N labels from 1 to 10, where 10 is the digit 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from advnets.config import check_min
from advnets.data.dataset import ArraySplit, Dataset, HeldOutSplits
from advnets.data.datasets.idx import hold_out_sixth
from advnets.data.datasets.mat import read_mat, to_integers, variable_names
from advnets.data.spec import fetch_command, first_existing, join_words
from advnets.errors import DataError, UsageError

TFD_LAYOUT = ("images", "labs_ex", "folds")
"""The variables of a file in the layout of TFD that are read."""
_UNLABELED, _TRAIN, _VALID, _TEST = range(4)
"""The entries of `folds`."""


@dataclass(frozen=True)
class Fold:
    """The options of a MATLAB file.

    Raises:
        UsageError: the fold is below 1.
    """

    fold: int = 1
    """The number of the fold that splits the images, from 1."""

    def __post_init__(self) -> None:
        check_min(self, 1, "fold")


@dataclass(frozen=True)
class TFD(Fold):
    """The options of the Toronto Face Database, which has 5 folds."""

    size: Literal[48, 96] = 48
    """The height and width of the images in pixels."""


def open_tfd(options: TFD, folders: Sequence[Path]) -> Dataset:
    """Open TFD_48x48.mat or TFD_96x96.mat from the first folder that contains it.

    Raises:
        DataError: the file is missing or damaged, or has fewer folds.
    """
    file = f"TFD_{options.size}x{options.size}.mat"
    path = first_existing(folder / file for folder in folders)
    if path is None:
        raise DataError(
            f"{file} is missing from {join_words(folders)}; request it from the authors of the "
            f"database (it may not be redistributed) and put it in {folders[0]}"
        )
    return open_mat_layout(path, options, name="tfd")


def open_mat_layout(path: Path, options: Fold | None = None, name: str | None = None) -> Dataset:
    """Open a MATLAB file in TFD's layout, split by one of its folds.

    The entries of `folds` are 0 (unlabeled), 1 (training), 2 (validation) and 3 (test). The
    training split is the unlabeled images, or the fold's training images if none is unlabeled.
    Images are (1, H, W); labels are `labs_ex` minus 1 (0 to 6, the facial expressions), or None if
    not all images of a split are labeled. `Dataset.folds` has the validation and test images of all
    folds.

    Raises:
        DataError: the file is damaged, has another layout, fewer folds, or no training images.
    """
    number = (options or Fold()).fold
    images, labels, folds = _read_tfd(path)
    if number > folds.shape[1]:
        raise DataError(
            f"the fold must be 1 to {folds.shape[1]} for {path}, got {number}; choose another fold"
        )

    def select(mask: np.ndarray) -> ArraySplit | None:
        if not mask.any():
            return None
        labeled = bool((labels[mask] >= 0).all())
        pixels = np.ascontiguousarray(images[mask][:, None])
        return ArraySplit(pixels, labels[mask] if labeled else None)

    train_mask = _train_mask(folds[:, number - 1])
    train = select(train_mask)
    if train is None:
        raise DataError(
            f"{path} has no image with an entry 0 or 1 in `folds`; replace it with the original "
            "file"
        )
    held_out = [(select(column == _VALID), select(column == _TEST)) for column in folds.T]
    return Dataset(
        name or path.stem,
        train,
        *held_out[number - 1],
        fold=number,
        folds={
            i: HeldOutSplits(valid, test, np.array_equal(_train_mask(column), train_mask))
            for i, (column, (valid, test)) in enumerate(
                zip(folds.T, held_out, strict=True), start=1
            )
            if valid is not None and test is not None
        },
    )


def _train_mask(fold: np.ndarray) -> np.ndarray:
    """Return the mask of a fold's training split: unlabeled images, or training images."""
    unlabeled = fold == _UNLABELED
    return unlabeled if unlabeled.any() else fold == _TRAIN


def _read_tfd(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return `images`, `labs_ex` minus 1 and `folds`, after checking types and shapes."""
    images, labs_ex, folds = _read_variables(path, TFD_LAYOUT, "TFD")
    if images.dtype != np.uint8 or images.ndim != 3 or not images.size:
        raise DataError(
            f"{path} must have `images` of uint8 and shape (N, height, width), got {images.dtype} "
            f"and {images.shape}; replace it with the original file"
        )
    n, labels = len(images), to_integers(labs_ex)
    is_valid = labs_ex.size == n and folds.ndim == 2 and len(folds) == n and folds.size
    if labels is None or not is_valid:
        raise DataError(
            f"{path} must have integers in `labs_ex` and `folds` for each of {n:,} images, got "
            f"`labs_ex` of {labs_ex.dtype} and shape {labs_ex.shape} and `folds` of {folds.dtype} "
            f"and shape {folds.shape}; replace it with the original file"
        )
    return images, labels.reshape(-1) - 1, folds


SVHN_LAYOUT = ("X", "y")
"""The variables of a file in the layout of SVHN."""
SVHN_TRAIN, SVHN_TEST, SVHN_EXTRA = "train_32x32.mat", "test_32x32.mat", "extra_32x32.mat"
_NUM_VALID = 10_000
_SVHN_CLASSES = tuple("0123456789")


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
    path = first_existing(folder / SVHN_TRAIN for folder in folders)
    if path is None:
        raise DataError(
            f"SVHN ({SVHN_TRAIN}) is missing from {join_words(folders)}; "
            f"download it with: {fetch_command('svhn', folders)}"
        )
    return open_svhn_folder(path.parent, options, name="svhn")


def is_svhn_folder(path: Path) -> bool:
    """Return whether a path is a folder with the training file of SVHN."""
    return (path / SVHN_TRAIN).is_file()


def open_svhn_folder(folder: Path, options: SVHN | None = None, name: str | None = None) -> Dataset:
    """Open a folder with the training, test and (optionally) extra file of SVHN.

    The last 10,000 training images are the validation split; the others and then the extra images
    are the training split. Images are (3, 32, 32); labels are the digits.

    Raises:
        DataError: a file is missing or damaged, or there are at most 10,000 training images.
    """
    files = [SVHN_TRAIN, SVHN_EXTRA] if options is not None and options.extra else [SVHN_TRAIN]
    parts = [_read_svhn(folder / file) for file in files]
    n = len(parts[0][0])
    if n <= _NUM_VALID:
        raise DataError(
            f"{folder / SVHN_TRAIN} must have more than {_NUM_VALID:,} images, the last of which "
            f"are the validation split, got {n:,}; replace it with the original file"
        )
    if len({images.shape[1:] for images, _ in parts}) > 1:
        raise DataError(
            f"{folder / SVHN_EXTRA} must have images of the same size as {SVHN_TRAIN}; download "
            "both again"
        )
    images, labels = parts[0]
    valid = _concatenate([(images[n - _NUM_VALID :], labels[n - _NUM_VALID :])])
    parts[0] = images[: n - _NUM_VALID], labels[: n - _NUM_VALID]
    train = _concatenate(parts)
    test = _concatenate([_read_svhn(folder / SVHN_TEST)])
    return Dataset(name or folder.resolve().name, train, valid, test, classes=_SVHN_CLASSES)


def open_svhn_file(path: Path) -> Dataset:
    """Open a MATLAB file in SVHN's layout; the last sixth of its images is the validation split.

    Raises:
        DataError: the file is damaged or has another layout.
    """
    return Dataset(
        path.stem, *hold_out_sixth(_concatenate([_read_svhn(path)])), None, classes=_SVHN_CLASSES
    )


def _read_svhn(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return images as a view of shape (N, 3, height, width), and the digits."""
    if not path.is_file():
        name = "svhn-extra" if path.name == SVHN_EXTRA else "svhn"
        folder = path.parent
        folders = [folder, folder.parent] if folder.name == "svhn" else [folder]
        raise DataError(f"{path} is missing; download it with: {fetch_command(name, folders)}")
    images, y = _read_variables(path, SVHN_LAYOUT, "SVHN")
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


def _concatenate(parts: list[tuple[np.ndarray, np.ndarray]]) -> ArraySplit:
    """Concatenate parts, releasing each once it is copied: the extra file has 1.6 GB."""
    labels = np.concatenate([labels for _, labels in parts])
    images = np.empty((len(labels), *parts[0][0].shape[1:]), np.uint8)
    first = 0
    while parts:
        part, _ = parts.pop(0)
        images[first : first + len(part)] = part
        first += len(part)
    return ArraySplit(images, labels)


def _read_variables(path: Path, layout: Sequence[str], title: str) -> list[np.ndarray]:
    """Return the variables of a layout, after checking that the file has them all."""
    variables = read_mat(path, layout)
    if missing := [name for name in layout if name not in variables]:
        raise DataError(
            f"{path} has no {join_words(missing)}, expected {join_words(layout)} as in {title}'s "
            "files; replace it with the original file"
        )
    return [variables[name] for name in layout]


def open_mat(path: Path, options: Fold | None = None) -> Dataset:
    """Open a MATLAB file in the layout of TFD (`images`, `labs_ex`, `folds`) or SVHN (`X`, `y`).

    Raises:
        UsageError: `fold` is set for a file in SVHN's layout, which has none.
        DataError: the file is damaged or has another layout.
    """
    names = variable_names(path)
    if set(TFD_LAYOUT) <= set(names):
        return open_mat_layout(path, options)
    if set(SVHN_LAYOUT) <= set(names):
        if options not in (None, Fold()):
            raise UsageError(
                f"fold is set, but {path} has SVHN's layout, which has no folds; remove `fold`"
            )
        return open_svhn_file(path)
    variables = join_words(map(ascii, names[:20])) if names else "no variables"
    raise DataError(
        f"{path} must contain images, labs_ex and folds (TFD's layout) or X and y (SVHN's layout), "
        f"got {variables}; use a file in one of these layouts"
    )
