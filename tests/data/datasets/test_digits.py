import sys
from importlib.machinery import BuiltinImporter

import numpy as np
import pytest
from sklearn.datasets import load_digits

from advnets.data.datasets.mnist import open_digits
from advnets.errors import MissingExtraError


def test_digits_are_split_in_order():
    """1,197, 300 and 300 digits of 0 to 16, which together are scikit-learn's."""
    splits = open_digits()
    parts = [splits.train, splits.valid, splits.test]
    assert [len(part) for part in parts if part] == [1197, 300, 300]
    assert splits.shape == (1, 8, 8)
    assert splits.train.white_level == splits.train.images.max() == 16
    bunch = load_digits()
    images = np.concatenate([part.images for part in parts if part])
    np.testing.assert_array_equal(images.reshape(1797, 64), bunch.data)
    labels = np.concatenate([part.labels for part in parts if part])
    np.testing.assert_array_equal(labels, bunch.target)


def test_missing_library_is_named(monkeypatch):
    """The error says what to install."""
    monkeypatch.delitem(sys.modules, "sklearn.datasets")
    monkeypatch.delitem(sys.modules, "sklearn")
    monkeypatch.setattr(sys, "meta_path", [BuiltinImporter])
    with pytest.raises(MissingExtraError, match=r"pip install 'advnets\[digits\]'"):
        open_digits()
