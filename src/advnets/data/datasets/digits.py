"""The 8x8 digits that come inside scikit-learn (Alpaydin and Kaynak, 1998): the offline default."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from advnets.data.dataset import ArraySplit, Dataset
from advnets.errors import require

_WHITE = 16
_VALID, _TEST = 300, 300


def open_digits() -> Dataset:
    """Open the 1,797 digits: the first 1,197, the next 300 and the last 300.

    Images are (1, 8, 8) with values 0 to 16; labels are the digits.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    bunch = require("sklearn.datasets", "digits").load_digits()
    pixels = np.ascontiguousarray(bunch.images[:, None].astype(np.uint8))
    split = ArraySplit(pixels, bunch.target.astype(np.int64), _WHITE)
    n = len(split)
    bounds = (0, n - _VALID - _TEST, n - _TEST, n)
    train, valid, test = (split.subset(slice(a, b)) for a, b in pairwise(bounds))
    return Dataset("digits", train, valid, test)
