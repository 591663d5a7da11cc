"""The Toronto Face Database, and files in its layout (Susskind, Anderson and Hinton, 2010)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from advnets.config import check_min
from advnets.data.dataset import ArraySplit, Dataset, HeldOutSplits
from advnets.data.datasets.formats.mat import read_mat, whole_numbers
from advnets.data.spec import first_existing, join_words
from advnets.errors import DataError

LAYOUT = ("images", "labs_ex", "folds")
"""The variables of a file in this layout, as far as they are read."""
_UNLABELED, _TRAIN, _VALID, _TEST = range(4)  # what an entry of `folds` says


@dataclass(frozen=True)
class Fold:
    """Which of a file's ways to split it; the first is 1.

    Raises:
        UsageError: it is below 1.
    """

    fold: int = 1

    def __post_init__(self) -> None:
        check_min(self, 1, "fold")


@dataclass(frozen=True)
class TFD:
    """Height and width of the faces, and which of the five folds splits them.

    Raises:
        UsageError: the fold is below 1.
    """

    size: Literal[48, 96] = 48
    fold: int = 1

    def __post_init__(self) -> None:
        check_min(self, 1, "fold")


def open_tfd(options: TFD, folders: Sequence[Path]) -> Dataset:
    """Open TFD_48x48.mat or TFD_96x96.mat from the first of the folders that has it.

    Raises:
        DataError: it is in none of them, is broken, or has fewer folds.
    """
    file = f"TFD_{options.size}x{options.size}.mat"
    found = first_existing(folder / file for folder in folders)
    if found is None:
        raise DataError(
            f"{file} is neither in {join_words(folders)}; ask the database's authors for it, "
            f"as it may not be handed on, and put it in {folders[0]}"
        )
    return open_mat_layout(found, Fold(options.fold), name="tfd")


def open_mat_layout(path: Path, options: Fold | None = None, name: str | None = None) -> Dataset:
    """Open a MATLAB file in TFD's layout, split by one of its folds (the first).

    `images` is uint8 of (N, H, W), `labs_ex` N numbers, `folds` (N, folds) of 0 unlabeled,
    1 training, 2 validation, 3 test. Training images are the unlabeled ones, or the fold's own
    where there are none unlabeled. Images are (1, H, W); labels are `labs_ex` less 1 (0 to 6,
    the expressions), None for a split that is not labeled throughout. What the other folds hold
    out stands beside.

    Raises:
        DataError: the file is no such file, has fewer folds, or has no training images.
    """
    number = (options or Fold()).fold
    images, classes, folds = _read(path)
    if number > folds.shape[1]:
        raise DataError(
            f"{path} has folds 1 to {folds.shape[1]}, but fold {number} was asked for; "
            f"give one that it has"
        )

    def part(chosen: np.ndarray) -> ArraySplit | None:
        if not chosen.any():
            return None
        labeled = bool((classes[chosen] >= 0).all())
        pixels = np.ascontiguousarray(images[chosen][:, None])
        return ArraySplit(pixels, classes[chosen] if labeled else None)

    fold = folds[:, number - 1]
    training = _training(fold)
    train = part(training)
    if train is None:
        raise DataError(f"{path} has no image whose `folds` is 0 or 1; put the right file there")
    held_out = [(part(column == _VALID), part(column == _TEST)) for column in folds.T]
    return Dataset(
        name or path.stem,
        train,
        *held_out[number - 1],
        fold=number,
        folds={
            other: HeldOutSplits(valid, test, np.array_equal(_training(column), training))
            for other, (column, (valid, test)) in enumerate(
                zip(folds.T, held_out, strict=True), start=1
            )
            if valid is not None and test is not None
        },
    )


def _training(fold: np.ndarray) -> np.ndarray:
    """Which images a fold trains on: the unlabeled ones, or where there are none its own."""
    unlabeled = fold == _UNLABELED
    return unlabeled if unlabeled.any() else fold == _TRAIN


def _read(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`images`, `labs_ex` less 1 and `folds`, with their types and shapes checked."""
    found = read_mat(path, LAYOUT)
    if absent := [name for name in LAYOUT if name not in found]:
        raise DataError(
            f"{path} has no {join_words(absent, 'and')}, but a file in TFD's layout has "
            f"{join_words(LAYOUT, 'and')}; put the right file there"
        )
    images, given, folds = (found[name] for name in LAYOUT)
    if images.dtype != np.uint8 or images.ndim != 3 or not images.size:
        raise DataError(
            f"{path} has `images` of {images.dtype} and shape {images.shape}, but uint8 and "
            f"(N, height, width) were expected; put the right file there"
        )
    n, classes = len(images), whole_numbers(given)
    matching = given.size == n and folds.ndim == 2 and len(folds) == n and folds.size
    if classes is None or not matching:
        raise DataError(
            f"{path} has `labs_ex` of {given.dtype} and shape {given.shape} and `folds` of "
            f"{folds.dtype} and shape {folds.shape}, but whole numbers for each of {n:,} images "
            f"were expected; put the right file there"
        )
    return images, classes.reshape(-1) - 1, folds
