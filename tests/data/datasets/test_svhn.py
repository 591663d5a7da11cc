from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from advnets.data.datasets import matlab
from advnets.data.datasets.matlab import (
    SVHN,
    Fold,
    is_svhn_folder,
    open_mat,
    open_svhn,
    open_svhn_file,
    open_svhn_folder,
)
from advnets.errors import DataError, UsageError

RNG = np.random.default_rng(0)


def write(path: Path, n: int, **changes: np.ndarray) -> np.ndarray:
    """Write a file of n images of size (8, 6); return them with shape (n, 3, 8, 6)."""
    images = RNG.integers(0, 256, (8, 6, 3, n), dtype=np.uint8)
    labels = np.arange(n, dtype=np.uint8)[:, None] % 10 + 1
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"X": images, "y": labels} | changes, do_compression=True)
    return images.transpose(3, 2, 0, 1)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(matlab, "_NUM_VALID", 4)
    return tmp_path / "svhn"


def test_last_training_digits_are_the_validation_split(folder):
    """Label 10 is the digit 0; extra digits follow the training digits."""
    train = write(folder / matlab.SVHN_TRAIN, 12)
    test = write(folder / matlab.SVHN_TEST, 5)
    extra = write(folder / matlab.SVHN_EXTRA, 7)
    assert is_svhn_folder(folder)
    splits = open_svhn(SVHN(), [folder.parent, folder])
    assert splits.name == "svhn"
    assert splits.classes == tuple("0123456789")
    np.testing.assert_array_equal(splits.train.images, train[:8])
    np.testing.assert_array_equal(splits.valid.images, train[8:])
    np.testing.assert_array_equal(splits.test.images, test)
    assert splits.train.labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert splits.valid.labels.tolist() == [9, 0, 1, 2]
    assert splits.train.images.flags.c_contiguous
    more = open_svhn(SVHN(extra=True), [folder])
    np.testing.assert_array_equal(more.train.images, np.concatenate([train[:8], extra]))
    assert more.train.labels.tolist() == [*range(1, 9), *range(1, 8)]
    np.testing.assert_array_equal(more.valid.images, train[8:])


def test_single_file_opens_by_path(tmp_path):
    """The last sixth of a single file is the validation split; it has no folds."""
    images = write(tmp_path / "x.mat", 12)
    splits = open_mat(tmp_path / "x.mat")
    np.testing.assert_array_equal(splits.train.images, images[:10])
    np.testing.assert_array_equal(splits.valid.images, images[10:])
    assert splits.test is None
    with pytest.raises(UsageError, match="no folds"):
        open_mat(tmp_path / "x.mat", Fold(2))


def test_unknown_layout_is_refused(tmp_path):
    """The error names the variables of the file."""
    savemat(tmp_path / "x.mat", {"images": np.ones(3), "y": np.ones(3)})
    with pytest.raises(
        DataError, match=r"x\.mat must contain images, labs_ex .* got 'images' and 'y'"
    ):
        open_mat(tmp_path / "x.mat")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"X": np.ones((8, 6, 3, 12))}, "`X` .* got float64"),
        ({"X": np.ones((8, 6, 4, 12), np.uint8)}, r"got uint8 and \(8, 6, 4, 12\)"),
        (
            {"y": np.ones((11, 1))},
            r"one integer in `y` for each of 12 images, got float64 of shape \(11, 1\)",
        ),
        ({"y": np.full((12, 1), 0.5)}, "one integer in `y`"),
        ({"y": np.full((12, 1), np.nan)}, "one integer in `y`"),
        ({"y": np.arange(12)[:, None]}, "must have labels from 1 to 10, got 0 to 11"),
    ],
)
def test_invalid_variables_are_refused(tmp_path, changes, problem):
    """The error names the file and the problem."""
    write(tmp_path / "x.mat", 12, **changes)
    with pytest.raises(DataError, match=rf"x\.mat .*{problem}"):
        open_svhn_file(tmp_path / "x.mat")


def test_missing_files_are_refused_with_advice(folder):
    """The error names the file, the folders and the command."""
    with pytest.raises(DataError, match=r"train_32x32.mat\) is missing from .*fetch svhn$"):
        open_svhn(SVHN(), [folder])
    write(folder / matlab.SVHN_TRAIN, 12)
    with pytest.raises(DataError, match=r"test_32x32.mat is missing; .*fetch svhn --data-dir "):
        open_svhn_folder(folder)
    write(folder / matlab.SVHN_TEST, 2)
    with pytest.raises(DataError, match=r"extra_32x32.mat is missing; .* svhn-extra --data-dir "):
        open_svhn(SVHN(extra=True), [folder])
    savemat(folder / matlab.SVHN_TEST, {"y": np.ones(3)})
    with pytest.raises(DataError, match=r"test_32x32.mat has no X"):
        open_svhn_folder(folder)
    write(folder / matlab.SVHN_TRAIN, 4)
    with pytest.raises(DataError, match=r"must have more than 4 images, .* got 4"):
        open_svhn_folder(folder)
