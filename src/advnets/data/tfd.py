"""The Toronto Face Database, and files in its layout (Susskind, Anderson and Hinton, 2010)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from advnets.data.places import first_existing, listed
from advnets.data.source import Pictures, Splits
from advnets.errors import DataError, require

FILE = "TFD_48x48.mat"
_UNLABELLED, _TRAIN, _VALID, _TEST = range(4)  # what an entry of `folds` says
# What scipy's reader raises on a file that is not MATLAB's, or no longer.
_FAULTS = (
    *(ValueError, TypeError, KeyError, IndexError, AttributeError, NotImplementedError),
    *(OverflowError, MemoryError, EOFError, OSError, zlib.error, struct.error),
)


def open_tfd(folders: Sequence[Path]) -> Splits:
    """Open TFD_48x48.mat from the first of the folders that has it.

    Raises:
        DataError: it is in none of them, or is broken.
        MissingExtraError: scipy is not installed.
    """
    found = first_existing(folder / FILE for folder in folders)
    if found is None:
        raise DataError(
            f"{FILE} is neither in {listed(folders)}; ask the database's authors for it, "
            f"as it may not be handed on, and put it in {folders[0]}"
        )
    return open_mat(found, name="tfd")


def is_mat(path: Path) -> bool:
    """Whether a path is a MATLAB file."""
    return path.is_file() and path.suffix.lower() == ".mat"


def open_mat(path: Path, name: str | None = None) -> Splits:
    """Open a MATLAB file in TFD's layout, split by its first fold.

    Training pictures are the unlabelled ones, or the fold's own where there are none unlabelled.
    Pictures are (1, H, W); labels are `labs_ex` less 1 (0 to 6, the expressions), None for a
    split that is not labelled throughout.

    Raises:
        DataError: the file is no such file, or has no training pictures.
        MissingExtraError: scipy is not installed.
    """
    arrays = _read(path)
    images = np.ascontiguousarray(arrays["images"][:, None])
    classes = arrays["labs_ex"].reshape(-1).astype(np.int64) - 1
    fold = arrays["folds"][:, 0]

    def split(which: int) -> Pictures | None:
        chosen = fold == which
        if not chosen.any():
            return None
        labelled = bool((classes[chosen] >= 0).all())
        return Pictures(images[chosen], classes[chosen] if labelled else None)

    train = split(_UNLABELLED) or split(_TRAIN)
    if train is None:
        raise DataError(f"{path} has no picture whose `folds` is 0 or 1; put the right file there")
    return Splits(name or path.stem, train, split(_VALID), split(_TEST))


def _read(path: Path) -> dict[str, np.ndarray]:
    """`images`, `labs_ex` and `folds`, with their types and shapes checked."""
    scipy_io = require("scipy.io", "digits")
    names = ("images", "labs_ex", "folds")
    try:
        found = scipy_io.loadmat(path, variable_names=names)
    except (*_FAULTS, scipy_io.matlab.MatReadError) as error:
        raise DataError(
            f"{path} is no MATLAB file that scipy can read ({error}); bring it anew"
        ) from None
    if absent := [name for name in names if name not in found]:
        raise DataError(
            f"{path} has no {listed(absent, 'and')}, but a file in TFD's layout has "
            f"{listed(names, 'and')}; put the right file there"
        )
    arrays = {name: np.asarray(found[name]) for name in names}
    images, classes, folds = arrays.values()
    if images.dtype != np.uint8 or images.ndim != 3 or not images.size:
        raise DataError(
            f"{path} has `images` of {images.dtype} and shape {images.shape}, but uint8 and "
            f"(N, height, width) were expected; put the right file there"
        )
    n = len(images)
    numbers = classes.dtype.kind in "iuf" and folds.dtype.kind in "iuf"
    if not numbers or classes.size != n or folds.ndim != 2 or len(folds) != n or not folds.size:
        raise DataError(
            f"{path} has `labs_ex` of {classes.dtype} and shape {classes.shape} and `folds` of "
            f"{folds.dtype} and shape {folds.shape}, but numbers for each of {n:,} pictures were "
            f"expected; put the right file there"
        )
    return arrays
