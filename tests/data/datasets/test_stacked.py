import tracemalloc

import numpy as np
import pytest
import torch

from advnets.data.dataset import ArraySplit, Split
from advnets.data.datasets import mnist
from advnets.data.datasets.mnist import (
    StackedMNIST,
    StackedSplit,
    open_mnist,
    open_stacked_mnist,
    stack,
)
from advnets.data.loader import BatchTransform, Loader
from advnets.data.normalization import UnitNormalizer
from advnets.errors import UsageError
from advnets.rng import RNG

CPU = torch.device("cpu")


@pytest.fixture
def gray() -> ArraySplit:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (50, 1, 4, 5), dtype=np.uint8)
    return ArraySplit(images, np.arange(50, dtype=np.int64) % 10)


def test_channels_and_label_are_those_of_three_digits(gray):
    """Channel c of image k is gray image indices[k, c], and the label is that of all three."""
    part = stack(gray, 200, seed=1, purpose="train")
    assert isinstance(part, StackedSplit)
    assert isinstance(part, Split)
    assert (len(part), part.shape, part.white_level) == (200, (3, 4, 5), 255)
    images = part.read(slice(None))
    assert (images.shape, images.dtype) == ((200, 3, 4, 5), np.uint8)
    for k in range(200):
        for c in range(3):
            np.testing.assert_array_equal(images[k, c], gray.images[part.indices[k, c], 0])
    digits = gray.labels[part.indices]
    np.testing.assert_array_equal(
        part.labels, digits[:, 0] * 100 + digits[:, 1] * 10 + digits[:, 2]
    )
    assert part.labels.dtype == np.int64


def test_read_and_gather_fn_agree(gray):
    """Reading by index, mask or slice agrees with gathering on a device."""
    part = stack(gray, 200, seed=0, purpose="train")
    numbers = np.array([3, 199, 3, 0])
    gathered = part.gather_fn(CPU)(torch.from_numpy(numbers), RNG(0))
    np.testing.assert_array_equal(gathered.numpy(), part.read(numbers))
    np.testing.assert_array_equal(part.read(slice(3, 5)), part.read(np.array([3, 4])))
    np.testing.assert_array_equal(part.read(np.arange(200) == 3), part.read(np.array([3])))


def test_draws_depend_on_seed_and_split(gray):
    """Draws depend on seed and purpose only, and the first ones do not depend on n."""
    part = stack(gray, 200, seed=0, purpose="train")
    np.testing.assert_array_equal(
        part.indices[:50], stack(gray, 50, seed=0, purpose="train").indices
    )
    assert part.digest() == stack(gray, 200, seed=0, purpose="train").digest()
    for changed in [
        stack(gray, 200, seed=1, purpose="train"),
        stack(gray, 200, seed=0, purpose="test"),
        stack(gray, 199, seed=0, purpose="train"),
    ]:
        assert changed.digest() != part.digest()
        assert changed.indices[:199].tolist() != part.indices[:199].tolist() or len(changed) == 199
    assert part.indices.min() == 0
    assert part.indices.max() == 49


def test_batches_of_stacked_images(gray):
    """A stacked split gives batches like any other split."""
    part = stack(gray, 40, seed=0, purpose="train")
    feed = BatchTransform(UnitNormalizer(), batch_size=8, seed=0, device=CPU)
    batches = Loader(part, feed)
    batch = batches.batch_at(0)
    assert batch.images.shape == (8, 3, 4, 5)
    labels = torch.cat([batches.batch_at(k).labels for k in range(5)])
    assert sorted(labels.tolist()) == sorted(part.labels.tolist())
    label_of_image = {part.read(slice(k, k + 1)).tobytes(): part.labels[k] for k in range(40)}
    for image, label in zip(batch.images, batch.labels, strict=True):
        pixels = (image * 255).round().byte().numpy().tobytes()
        assert label_of_image[pixels] == label


def test_real_data_has_all_modes_and_little_memory(real_data):
    """Every large enough split has 1,000 modes; memory is at most 1.2 times that of the digits."""
    folders = [real_data / "mnist"]
    digits = open_mnist(folders)
    expected_bytes = sum(
        part.images.nbytes + part.labels.nbytes
        for part in (digits.train, digits.valid, digits.test)
    )
    del digits
    tracemalloc.start()
    splits = open_stacked_mnist(StackedMNIST(), folders)
    num_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert num_bytes < 1.2 * expected_bytes
    assert splits.shape == (3, 28, 28)
    assert [len(p) for p in (splits.train, splits.valid, splits.test)] == [128_000, 10_000, 26_000]
    for part in (splits.train, splits.test):
        assert len(np.unique(part.labels)) == 1000
    assert splits.classes[:2] + splits.classes[-1:] == ("000", "001", "999")
    # Chosen evenly: each training digit about 128,000 * 3 / 50,000 times.
    counts = np.bincount(splits.train.indices.reshape(-1), minlength=50_000)
    assert len(counts) == 50_000
    assert counts.mean() == pytest.approx(7.68)
    assert counts.var() == pytest.approx(7.68, rel=0.05)
    k = 12_345
    gray = splits.train._gray
    np.testing.assert_array_equal(
        splits.train.read(slice(k, k + 1))[0], gray.images[splits.train.indices[k], 0]
    )


def test_invalid_n_is_refused():
    """n must be between 1 and the maximum."""
    for n in (0, mnist._MAX_STACKED + 1):
        with pytest.raises(UsageError, match=f"n is {n}"):
            StackedMNIST(n=n)
