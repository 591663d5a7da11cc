import gzip
import hashlib

import numpy as np
import pytest

from advnets.data.datasets import mnist
from advnets.data.datasets.mnist import open_mnist
from advnets.errors import DataError

FILES = [*mnist.TRAIN, *mnist.TEST]


def test_real_mnist_is_split_as_published(real_data):
    """50,000, 10,000 and 10,000 digits of 28x28, in the order of the files."""
    splits = open_mnist([real_data / "mnist"])
    assert splits.shape == (1, 28, 28)
    assert splits.valid is not None
    assert splits.test is not None
    assert [len(splits.train), len(splits.valid), len(splits.test)] == [50_000, 10_000, 10_000]
    # The published first labels of both files, and the class counts of the 60,000.
    assert splits.train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert splits.test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    labels = np.concatenate([splits.train.labels, splits.valid.labels])
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(labels).tolist() == counts
    # Read again with nothing but gzip: 16 bytes of header, then row by row.
    raw = gzip.decompress((real_data / "mnist" / "train-images-idx3-ubyte.gz").read_bytes())[16:]
    assert splits.train.images.tobytes() + splits.valid.images.tobytes() == raw


@pytest.fixture
def small_mnist(tmp_path, write_idx, monkeypatch):
    for name, n in zip(FILES, [6, 6, 3, 3], strict=True):
        values = np.ones((n, 4, 4)) if "images" in name else np.arange(n)
        path = write_idx(tmp_path / "mnist" / f"{name}.gz", values, packed=True)
        digest = hashlib.md5(gzip.decompress(path.read_bytes())).hexdigest()
        monkeypatch.setitem(mnist.MD5, name, digest)
    return tmp_path / "mnist"


def test_last_training_images_are_the_validation_split(small_mnist):
    """The last training images are the validation split."""
    splits = open_mnist([small_mnist])
    assert splits.valid is not None
    assert splits.train.labels.tolist() == [0, 1, 2, 3, 4]
    assert splits.valid.labels.tolist() == [5]
    assert splits.classes == tuple("0123456789")


def test_files_may_be_in_either_folder(small_mnist, tmp_path):
    """Each file is searched in all folders."""
    name = f"{FILES[1]}.gz"
    (small_mnist / name).rename(tmp_path / name)
    assert len(open_mnist([small_mnist, tmp_path]).train) == 5


def test_missing_files_are_refused_with_advice(small_mnist, tmp_path):
    """The error names the files, the folders and the command."""
    (small_mnist / f"{FILES[1]}.gz").unlink()
    with pytest.raises(DataError) as caught:
        open_mnist([small_mnist, tmp_path])
    assert str(caught.value) == (
        f"MNIST (train-labels-idx1-ubyte, gzipped or not) is missing from {small_mnist} and "
        f"{tmp_path}; "
        f"download it with: advnets data fetch mnist --data-dir {tmp_path}"
    )


def test_files_of_another_dataset_are_refused(small_mnist, write_idx):
    """Files of another dataset with MNIST's names are refused."""
    write_idx(small_mnist / f"{FILES[2]}.gz", np.zeros((3, 4, 4)))
    with pytest.raises(DataError, match="not the original"):
        open_mnist([small_mnist])
