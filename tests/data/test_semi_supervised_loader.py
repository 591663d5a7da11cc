from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from advnets.data.batch_transform import BatchTransform
from advnets.data.dataset import Part, Splits
from advnets.data.normalization import UnitScaling
from advnets.data.semi_supervised_loader import (
    Concatenated,
    PartlyLabelled,
    all_training,
    few_labelled,
)
from advnets.rng import RNG

CPU = torch.device("cpu")


def splits(some_pictures) -> Splits:
    """Four labeled images of the classes 0 and 1, of levels 0 to 3, and three more, 4 to 6."""
    every = some_pictures(7, (1, 2, 2))
    every.images[:] = np.arange(7)[:, None, None, None]
    labeled = replace(every.part(slice(4)), labels=np.array([0, 1, 0, 1]))
    return Splits("x", labeled, None, None, unlabeled=every.part(slice(4, None)))


def test_an_unlabeled_part_follows_the_training_images(some_pictures):
    """As one part: in that order, read or gathered by any numbers, without labels."""
    opened = splits(some_pictures)
    whole = all_training(opened)
    assert isinstance(whole, Concatenated)
    assert isinstance(whole, Part)
    assert (len(whole), whole.labels, whole.shape, whole.white) == (7, None, (1, 2, 2), 255)
    numbers = np.array([6, 0, 3, 4, 0])
    for images in (
        whole.read(numbers),
        whole.on(CPU)(torch.from_numpy(numbers), RNG(0)).numpy(),
    ):
        assert images[:, 0, 0, 0].tolist() == numbers.tolist()
    assert whole.read(slice(2, 6))[:, 0, 0, 0].tolist() == [2, 3, 4, 5]
    assert all_training(replace(opened, unlabeled=None)) is opened.train


def test_batches_hold_labeled_and_unlabeled_images(some_pictures):
    """Unlabeled images come among the ones without labels, never among the few labeled ones."""
    opened = splits(some_pictures)
    feed = BatchTransform(UnitScaling(), 7, 0, CPU)
    few = few_labelled(opened.train, 2, 0)
    batches = PartlyLabelled(all_training(opened), few, feed, replace(feed, batch_size=2))
    for index in range(5):
        batch = batches.at(index)
        levels = (batch.pictures[:, 0, 0, 0] * 255).round().int().tolist()
        assert sorted(levels) == list(range(7))
        assert batch.beside is not None
        assert batch.beside.pictures.max() * 255 < 4
        assert sorted(batch.beside.labels.tolist()) == [0, 1]


def test_the_digest_tells_unlabeled_images(some_pictures):
    """Other unlabeled images are other data; a source without them keeps the digest it had."""
    one, two = splits(some_pictures), splits(some_pictures)
    assert one.digest() == two.digest()
    two.unlabeled.images[0] += 1
    assert one.digest() != two.digest()
    assert replace(one, unlabeled=None).digest() == replace(two, unlabeled=None).digest()
