from dataclasses import replace

import numpy as np
import pytest

from advnets.data.dataset import ArraySplit, Dataset, hold_out_last


@pytest.fixture
def splits(make_images) -> Dataset:
    return Dataset("some", make_images(9), make_images(2), None)


def test_shape_is_that_of_an_image(splits):
    """The shape is channels, height, width."""
    assert splits.shape == (3, 4, 5)


def test_digest_is_stable(splits, make_images):
    """Equal data has equal digests, independent of name and memory layout."""
    same = Dataset("other", make_images(9), make_images(2), None)
    assert same.digest() == splits.digest()
    images = np.asfortranarray(splits.train.images)
    assert replace(splits, train=replace(splits.train, images=images)).digest() == splits.digest()


def test_digest_depends_on_everything(splits, make_images):
    """A changed pixel, label, white level, shape or split, or missing labels, change the digest."""
    train = splits.train
    pixel, label = train.images.copy(), train.labels.copy()
    pixel[8, 2, 3, 4] ^= 1
    label[0] += 1
    changed = [
        splits,
        replace(splits, train=replace(train, images=pixel)),
        replace(splits, train=replace(train, labels=label)),
        replace(splits, train=replace(train, labels=None)),
        replace(splits, train=replace(train, white_level=16)),
        replace(splits, train=replace(train, images=train.images.reshape(9, 3, 5, 4))),
        replace(splits, valid=make_images(3)),
        replace(splits, valid=None),
        replace(splits, valid=None, test=make_images(2)),
    ]
    assert len({dataset.digest() for dataset in changed}) == len(changed)


def test_hold_out_last(make_images):
    """The last images are held out without a copy; None if there are none."""
    images = make_images(9)
    train, valid = hold_out_last(images, 2)
    assert valid is not None
    assert np.shares_memory(train.images, images.images)
    np.testing.assert_array_equal(np.concatenate([train.labels, valid.labels]), images.labels)
    assert len(valid) == 2
    assert hold_out_last(images, 0) == (images, None)


def test_subset_keeps_the_white_level(make_images):
    """A subset has the white level of the whole."""
    assert make_images(9, white=16).subset(slice(3)).white_level == 16
    assert ArraySplit(make_images(9).images).subset(np.arange(9) > 6).labels is None
