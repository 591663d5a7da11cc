import gzip
import hashlib

import numpy as np
import pytest

from advnets.data.datasets import mnist
from advnets.data.datasets.mnist import EMNIST, open_emnist, open_fashion_mnist, open_kmnist
from advnets.errors import DataError

FILES = [*mnist.TRAIN, *mnist.TEST]
RNG = np.random.default_rng(0)


def write_set(folder, write_idx, names, labels, packed=True) -> np.ndarray:
    """Write twelve training and four test images; return the training images as stored."""
    images = RNG.integers(0, 256, (12, 4, 4))
    for name in names:
        values = images if "images" in name else np.resize(labels, 12)
        if "train" not in name:
            values = values[:4]
        write_idx(folder / (f"{name}.gz" if packed else name), values, packed)
    return images


@pytest.mark.parametrize(
    ("opener", "name", "first_class"),
    [(open_fashion_mnist, "fashion-mnist", "T-shirt/top"), (open_kmnist, "kmnist", "o")],
)
def test_variants_open_like_mnist(tmp_path, write_idx, opener, name, first_class):
    """The files are read like MNIST's, with the published class names."""
    images = write_set(tmp_path, write_idx, FILES, range(10), packed=name == "kmnist")
    splits = opener([tmp_path / name, tmp_path])
    assert splits.name == name
    assert (len(splits.classes), splits.classes[0]) == (10, first_class)
    np.testing.assert_array_equal(splits.train.images[:, 0], images[:10])
    np.testing.assert_array_equal(splits.valid.images[:, 0], images[10:])
    assert splits.test.labels.tolist() == [0, 1, 2, 3]


def test_missing_variants_are_refused_with_advice(tmp_path):
    """The error has the command to download the dataset."""
    for opener, name in [
        (open_fashion_mnist, "fashion-mnist"),
        (open_kmnist, "kmnist"),
        (lambda folders: open_emnist(EMNIST(), folders), "emnist"),
    ]:
        with pytest.raises(DataError, match=rf"download it with: advnets data fetch {name}$"):
            opener([tmp_path])


def test_files_of_another_dataset_are_refused(tmp_path, write_idx, monkeypatch):
    """All variants have MNIST's file names: a known file of another one is refused."""
    write_set(tmp_path, write_idx, FILES, range(10))
    labels = (tmp_path / f"{FILES[3]}.gz").read_bytes()
    md5 = hashlib.md5(labels).hexdigest()
    monkeypatch.setitem(mnist.KMNIST_MD5, f"{FILES[3]}.gz", md5)
    assert len(open_kmnist([tmp_path]).train) == 10
    with pytest.raises(
        DataError, match=r"t10k-labels.* must be a file of Fashion-MNIST, got one of kmnist"
    ):
        open_fashion_mnist([tmp_path])
    md5 = hashlib.md5(gzip.decompress(labels)).hexdigest()
    monkeypatch.setitem(mnist.MD5, FILES[3], md5)
    with pytest.raises(DataError, match=r"must be a file of KMNIST, got one of mnist"):
        open_kmnist([tmp_path])


def test_real_mnist_is_not_fashion(real_data):
    """MNIST's files are not taken for Fashion-MNIST."""
    with pytest.raises(DataError, match="got one of mnist"):
        open_fashion_mnist([real_data / "mnist"])


@pytest.mark.parametrize(
    ("split", "classes", "labels"),
    [
        ("balanced", 47, range(47)),
        ("byclass", 62, [61, 0, 10, 36]),
        ("bymerge", 47, [46]),
        ("digits", 10, range(10)),
        ("letters", 26, [1, 26, 13]),
        ("mnist", 10, range(10)),
    ],
)
def test_emnist_is_transposed(tmp_path, write_idx, split, classes, labels):
    """Images are stored transposed; the labels of letters start at 1 in the file."""
    parts = [f"emnist-{split}-{part}" for part in ("train", "test")]
    names = [f"{p}-{kind}-ubyte" for p in parts for kind in ("images-idx3", "labels-idx1")]
    images = write_set(tmp_path / "gzip", write_idx, names, list(labels))
    splits = open_emnist(EMNIST(split), [tmp_path])
    np.testing.assert_array_equal(splits.train.images[:, 0], images[:10].swapaxes(1, 2))
    assert splits.train.images.flags.c_contiguous
    expected = np.resize(list(labels), 12)[:10] - (split == "letters")
    np.testing.assert_array_equal(splits.train.labels, expected)
    assert len(splits.classes) == classes
    if split == "byclass":
        assert [splits.classes[k] for k in (0, 10, 36)] == ["0", "A", "a"]
    write_set(tmp_path / "gzip", write_idx, names, [classes + 1])
    with pytest.raises(
        DataError, match=rf"must have labels from .* got {classes + 1} to {classes + 1};"
    ):
        open_emnist(EMNIST(split), [tmp_path])


def test_letters_with_label_zero_are_refused(tmp_path, write_idx):
    """The label 0 is invalid for letters."""
    names = [
        f"emnist-letters-{part}-{kind}-ubyte"
        for part in ("train", "test")
        for kind in ("images-idx3", "labels-idx1")
    ]
    write_set(tmp_path, write_idx, names, range(5))
    with pytest.raises(DataError, match="must have labels from 1 to 26, got 0 to 4"):
        open_emnist(EMNIST("letters"), [tmp_path])
