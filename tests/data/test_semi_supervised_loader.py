from dataclasses import replace

import numpy as np
import torch

from advnets.data.dataset import Dataset, Split
from advnets.data.loader import (
    BatchTransform,
    ConcatSplit,
    SemiSupervisedLoader,
    all_training_images,
    labeled_subset,
)
from advnets.data.normalization import UnitNormalizer
from advnets.rng import RNG

CPU = torch.device("cpu")


def splits(make_images) -> Dataset:
    """Return four labeled images of classes 0 and 1 and levels 0 to 3, and three more, 4 to 6."""
    every = make_images(7, (1, 2, 2))
    every.images[:] = np.arange(7)[:, None, None, None]
    labeled = replace(every.subset(slice(4)), labels=np.array([0, 1, 0, 1]))
    return Dataset("x", labeled, None, None, unlabeled=every.subset(slice(4, None)))


def test_unlabeled_images_follow_the_training_images(make_images):
    """The concatenation reads and gathers by index, and has no labels."""
    dataset = splits(make_images)
    split = all_training_images(dataset)
    assert isinstance(split, ConcatSplit)
    assert isinstance(split, Split)
    assert (len(split), split.labels, split.shape, split.white_level) == (7, None, (1, 2, 2), 255)
    numbers = np.array([6, 0, 3, 4, 0])
    for images in (
        split.read(numbers),
        split.gather_fn(CPU)(torch.from_numpy(numbers), RNG(0)).numpy(),
    ):
        assert images[:, 0, 0, 0].tolist() == numbers.tolist()
    assert split.read(slice(2, 6))[:, 0, 0, 0].tolist() == [2, 3, 4, 5]
    assert all_training_images(replace(dataset, unlabeled=None)) is dataset.train


def test_batches_contain_labeled_and_unlabeled_images(make_images):
    """Unlabeled images are never among the labeled ones of a batch."""
    dataset = splits(make_images)
    feed = BatchTransform(UnitNormalizer(), 7, 0, CPU)
    few = labeled_subset(dataset.train, 2, 0)
    batches = SemiSupervisedLoader(
        all_training_images(dataset), few, feed, replace(feed, batch_size=2)
    )
    for index in range(5):
        batch = batches.batch_at(index)
        levels = (batch.images[:, 0, 0, 0] * 255).round().int().tolist()
        assert sorted(levels) == list(range(7))
        assert batch.labeled is not None
        assert batch.labeled.images.max() * 255 < 4
        assert sorted(batch.labeled.labels.tolist()) == [0, 1]


def test_the_digest_depends_on_unlabeled_images(make_images):
    """Unlabeled images change the digest; data without them keep theirs."""
    first, second = splits(make_images), splits(make_images)
    assert first.digest() == second.digest()
    second.unlabeled.images[0] += 1
    assert first.digest() != second.digest()
    assert replace(first, unlabeled=None).digest() == replace(second, unlabeled=None).digest()
