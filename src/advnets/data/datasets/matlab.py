"""MATLAB files of images, in the layout of TFD or SVHN."""

from __future__ import annotations

from pathlib import Path

from advnets.data.dataset import Dataset
from advnets.data.datasets import svhn, tfd
from advnets.data.datasets.formats.mat import variable_names
from advnets.data.spec import join_words
from advnets.errors import DataError, UsageError


def open_mat(path: Path, options: tfd.Fold | None = None) -> Dataset:
    """Open a MATLAB file in the layout of TFD (`images`, `labs_ex`, `folds`) or SVHN (`X`, `y`).

    Raises:
        UsageError: `fold` is set for a file in SVHN's layout, which has none.
        DataError: the file is damaged or has another layout.
    """
    names = variable_names(path)
    if set(tfd.LAYOUT) <= set(names):
        return tfd.open_mat_layout(path, options)
    if set(svhn.LAYOUT) <= set(names):
        if options not in (None, tfd.Fold()):
            raise UsageError(
                f"fold is set, but {path} has SVHN's layout, which has no folds; remove `fold`"
            )
        return svhn.open_svhn_file(path)
    variables = join_words(map(ascii, names[:20])) if names else "no variables"
    raise DataError(
        f"{path} must contain images, labs_ex and folds (TFD's layout) or X and y (SVHN's layout), "
        f"got {variables}; use a file in one of these layouts"
    )
