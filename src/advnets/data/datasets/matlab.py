"""A MATLAB file of images by its path: the names in it tell whose layout it has."""

from __future__ import annotations

from pathlib import Path

from advnets.data.dataset import Dataset
from advnets.data.datasets import svhn, tfd
from advnets.data.datasets.formats.mat import names_in
from advnets.data.spec import join_words
from advnets.errors import DataError, UsageError


def open_mat(path: Path, options: tfd.Fold | None = None) -> Dataset:
    """Open a MATLAB file in the layout of TFD (`images`, `labs_ex`, `folds`) or SVHN (`X`, `y`).

    Raises:
        UsageError: a fold is asked for, and the layout has none.
        DataError: the file is in neither layout, or is broken.
    """
    names = names_in(path)
    if set(tfd.LAYOUT) <= set(names):
        return tfd.open_mat_layout(path, options)
    if set(svhn.LAYOUT) <= set(names):
        if options not in (None, tfd.Fold()):
            raise UsageError(f"{path} is in SVHN's layout, which has no folds; leave `fold` out")
        return svhn.open_svhn_file(path)
    found = join_words(map(ascii, names[:20]), "and") if names else "no variables"
    raise DataError(
        f"{path} has {found}, but images, labs_ex and folds (as TFD's) or X and y (as SVHN's) "
        f"were expected; put the right file there"
    )
