"""The Toronto Face Database, and files in its layout (Susskind, Anderson and Hinton, 2010)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from advnets.config import check_min
from advnets.data.dataset import ArraySplit, Dataset, HeldOutSplits
from advnets.data.datasets.formats.mat import read_mat, to_integers
from advnets.data.spec import first_existing, join_words
from advnets.errors import DataError

LAYOUT = ("images", "labs_ex", "folds")
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
class TFD:
    """The options of the Toronto Face Database.

    Raises:
        UsageError: the fold is below 1.
    """

    size: Literal[48, 96] = 48
    """The height and width of the images in pixels."""
    fold: int = 1
    """The number of the fold that splits the images, 1 to 5."""

    def __post_init__(self) -> None:
        check_min(self, 1, "fold")


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
    return open_mat_layout(path, Fold(options.fold), name="tfd")


def open_mat_layout(path: Path, options: Fold | None = None, name: str | None = None) -> Dataset:
    """Open a MATLAB file in TFD's layout, split by one of its folds.

    `images` is uint8 of shape (N, H, W), `labs_ex` has N numbers, `folds` has shape (N, folds)
    with entries 0 (unlabeled), 1 (training), 2 (validation) and 3 (test). The training split is the
    unlabeled images, or the fold's training images if none is unlabeled. Images are (1, H, W);
    labels are `labs_ex` minus 1 (0 to 6, the facial expressions), or None if not all images of a
    split are labeled. `Dataset.folds` has the validation and test images of all folds.

    Raises:
        DataError: the file is damaged, has another layout, fewer folds, or no training images.
    """
    number = (options or Fold()).fold
    images, labels, folds = _read(path)
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


def _read(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return `images`, `labs_ex` minus 1 and `folds`, after checking types and shapes."""
    variables = read_mat(path, LAYOUT)
    if missing := [name for name in LAYOUT if name not in variables]:
        raise DataError(
            f"{path} has no {join_words(missing)}, expected {join_words(LAYOUT)} as in TFD's "
            "files; replace it with the original file"
        )
    images, labs_ex, folds = (variables[name] for name in LAYOUT)
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
