"""The 8x8 digits included in scikit-learn (Alpaydin and Kaynak, 1998), the default dataset."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from advnets.data.dataset import ArraySplit, Dataset
from advnets.errors import require

_WHITE_LEVEL = 16
_VALID, _TEST = 300, 300


def open_digits() -> Dataset:
    """Open the 1,797 digits: the first 1,197 for training, 300 for validation, 300 for testing.

    Images are (1, 8, 8) with values 0 to 16; labels are the digits.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    bunch = require("sklearn.datasets", "digits").load_digits()
    pixels = np.ascontiguousarray(bunch.images[:, None].astype(np.uint8))
    split = ArraySplit(pixels, bunch.target.astype(np.int64), _WHITE_LEVEL)
    n = len(split)
    bounds = (0, n - _VALID - _TEST, n - _TEST, n)
    train, valid, test = (split.subset(slice(a, b)) for a, b in pairwise(bounds))
    return Dataset("digits", train, valid, test)
