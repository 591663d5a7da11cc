import random
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from advnets.data.datasets.matlab import TFD, Fold, open_mat, open_mat_layout, open_tfd
from advnets.errors import DataError, UsageError

N = 12


def write(path: Path, compressed: bool = False, **changes: np.ndarray | None) -> Path:
    rng = np.random.default_rng(0)
    folds = np.stack([np.array([0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 3])] * 5, 1).astype(np.uint8)
    arrays = {
        "images": rng.integers(0, 256, (N, 6, 5), dtype=np.uint8),
        "labs_ex": np.where(folds[:, :1] == 0, -1, np.arange(N)[:, None] % 7 + 1).astype(np.int16),
        "labs_id": np.arange(N, dtype=np.int16)[:, None],
        "folds": folds,
    }
    variables = {name: array for name, array in (arrays | changes).items() if array is not None}
    savemat(path, variables, do_compression=compressed)
    return path


def test_unlabeled_images_are_the_training_split(tmp_path):
    """Unlabeled images, if any, are the training split."""
    path = write(tmp_path / "TFD_48x48.mat")
    splits = open_tfd(TFD(), [tmp_path / "tfd", tmp_path])
    images = loadmat(path)["images"]
    assert splits.name == "tfd"
    assert splits.valid is not None
    assert splits.test is not None
    np.testing.assert_array_equal(splits.train.images[:, 0], images[:3])
    np.testing.assert_array_equal(splits.valid.images[:, 0], images[7:9])
    np.testing.assert_array_equal(splits.test.images[:, 0], images[9:])
    assert splits.train.labels is None
    # Expressions 1 to 7 are classes 0 to 6.
    assert splits.valid.labels.tolist() == [0, 1]
    assert splits.test.labels.tolist() == [2, 3, 4]


def test_fold_selects_the_training_split_of_labeled_files(tmp_path):
    """Without unlabeled images, the fold's training images are the training split."""
    folds = np.repeat(np.array([[1], [2], [3]], np.uint8), 4, 0)
    classes = np.ones((N, 1), np.int16)
    splits = open_mat(write(tmp_path / "x.mat", folds=folds, labs_ex=classes))
    assert splits.valid is not None
    assert splits.test is not None
    assert [len(splits.train), len(splits.valid), len(splits.test)] == [4, 4, 4]
    assert splits.train.labels.tolist() == [0] * 4


@pytest.mark.parametrize("unlabeled", [True, False])
def test_other_folds_are_listed(tmp_path, unlabeled):
    """Folds have the same training split if images are unlabeled, otherwise different ones."""
    folds = np.stack([np.roll(np.repeat([1, 2, 3], 4), 2 * k) for k in range(3)], 1)
    folds[:2] = 0 if unlabeled else 1
    path = write(tmp_path / "x.mat", folds=folds, labs_ex=np.ones((N, 1)))
    images = loadmat(path)["images"]
    splits = open_mat_layout(path, Fold(2))
    assert splits.fold == 2
    assert list(splits.folds) == [1, 2, 3]
    assert list(splits.evaluation_folds) == ([1, 2, 3] if unlabeled else [2])
    for number, fold in splits.folds.items():
        for part, which in [(fold.valid, 2), (fold.test, 3)]:
            np.testing.assert_array_equal(part.images[:, 0], images[folds[:, number - 1] == which])


def test_a_fold_without_held_out_images_is_not_listed(tmp_path):
    folds = np.stack([np.repeat([1, 2, 3], 4), np.repeat([1, 3], 6)], 1)
    path = write(tmp_path / "x.mat", folds=folds, labs_ex=np.ones((N, 1)))
    splits = open_mat_layout(path, Fold(2))
    assert (splits.valid, list(splits.folds), splits.evaluation_folds) == (None, [1], {})


def test_size_and_fold_are_options(tmp_path):
    """The size selects the file, the fold a column; an invalid fold is refused."""
    folds = np.stack([np.roll(np.repeat([1, 2, 3], 4), 2 * k) for k in range(5)], 1)
    path = write(tmp_path / "TFD_96x96.mat", folds=folds, labs_ex=np.ones((N, 1)))
    images = loadmat(path)["images"]
    for number in range(1, 6):
        splits = open_tfd(TFD(number, 96), [tmp_path])
        for part, which in [(splits.train, 1), (splits.valid, 2), (splits.test, 3)]:
            np.testing.assert_array_equal(part.images[:, 0], images[folds[:, number - 1] == which])
    with pytest.raises(DataError, match=r"the fold must be 1 to 5 for .*96.mat, got 6"):
        open_tfd(TFD(6, 96), [tmp_path])
    with pytest.raises(DataError, match=r"TFD_48x48.mat is missing"):
        open_tfd(TFD(), [tmp_path])
    for make in (lambda: TFD(fold=0), lambda: Fold(0)):
        with pytest.raises(UsageError, match="fold is 0"):
            make()


def test_real_file_in_the_layout(real_data):
    """The Olivetti faces in TFD's layout: 280, 40 and 80 portraits, none unlabeled."""
    path = real_data / "faces" / "olivetti-tfd-layout-48.mat"
    splits = open_mat(path)
    assert splits.shape == (1, 48, 48)
    assert splits.valid is not None
    assert splits.test is not None
    assert [len(splits.train), len(splits.valid), len(splits.test)] == [280, 40, 80]
    mat = loadmat(path)
    for part, which in [(splits.train, 1), (splits.valid, 2), (splits.test, 3)]:
        np.testing.assert_array_equal(part.images[:, 0], mat["images"][mat["folds"][:, 0] == which])
        assert part.images.flags.c_contiguous


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"folds": None}, "has no folds"),
        ({"images": None, "labs_ex": None}, "has no images and labs_ex"),
        ({"images": np.zeros((N, 6, 5))}, "`images` .* got float64"),
        ({"images": np.zeros((N, 30), np.uint8)}, r"got uint8 and \(12, 30\)"),
        ({"labs_ex": np.ones((N - 1, 1))}, r"`labs_ex` of float64 and shape \(11, 1\)"),
        ({"folds": np.ones((N + 1, 5))}, r"`folds` of float64 and shape \(13, 5\)"),
        ({"labs_ex": np.full((N, 1), np.nan)}, "must have integers in `labs_ex` and `folds`"),
        ({"folds": np.full((N, 5), 3)}, "no image with an entry 0 or 1 in `folds`"),
    ],
)
def test_invalid_variables_are_refused(tmp_path, changes, problem):
    """The error names the file and the problem."""
    with pytest.raises(DataError, match=rf"x.mat .*{problem}"):
        open_mat_layout(write(tmp_path / "x.mat", **changes))


def test_missing_file_is_refused_with_advice(tmp_path):
    """The error names the file, the folders, and where to put it."""
    with pytest.raises(
        DataError, match=rf"TFD_48x48.mat is missing from .* put it in {tmp_path}/tfd"
    ):
        open_tfd(TFD(), [tmp_path / "tfd", tmp_path])


def test_damaged_files_are_refused(tmp_path):
    """Random and truncated files are refused with a DataError."""
    path = write(tmp_path / "x.mat", compressed=True)
    intact = path.read_bytes()
    for content in [b"not a MATLAB file", *(intact[:end] for end in range(0, len(intact), 7))]:
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"x\.mat "):
            open_mat(path)


def test_modified_files_raise_only_data_errors(tmp_path):
    """Modified files, compressed or not, give images or a DataError."""
    rng = random.Random(0)
    for compressed in (False, True):
        path = write(tmp_path / "x.mat", compressed=compressed)
        content = path.read_bytes()
        for _ in range(200):
            altered = bytearray(content)
            altered[rng.randrange(128, len(content))] ^= 1 << rng.randrange(8)
            path.write_bytes(altered)
            with suppress(DataError):
                open_mat(path)
