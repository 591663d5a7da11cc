from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch

from advnets.data.dataset import ArraySplit, Split
from advnets.data.loader import BatchTransform, Loader
from advnets.data.normalization import UnitNormalizer
from advnets.errors import UsageError
from advnets.rng import RNG

CPU = torch.device("cpu")


def batches(images: Split, batch_size: int, seed: int = 3, **more: Any) -> Loader:
    return Loader(images, BatchTransform(UnitNormalizer(), batch_size, seed, CPU, **more))


@pytest.mark.parametrize("batch_size", [1, 3, 7, 10, 25])
def test_batches_are_concatenated_permutations(make_images, batch_size):
    """Batches of any size are cut from the concatenated permutations of the epochs."""
    images = make_images(7)
    orders = (RNG(3, step=epoch).permutation("order", 7).tolist() for epoch in range(20))
    stream = list(chain.from_iterable(orders))
    feed = batches(images, batch_size)
    for i in range(len(stream) // batch_size):
        numbers = stream[i * batch_size : (i + 1) * batch_size]
        batch = feed.batch_at(i)
        assert batch.labels is not None
        assert batch.labels.tolist() == numbers
        np.testing.assert_array_equal(
            batch.images.numpy(), images.images[numbers].astype(np.float32) / 255
        )


def test_every_image_occurs_once_per_epoch(make_images):
    """Each image occurs once per epoch, and no two epochs have the same order."""
    feed = batches(make_images(30), 5)
    epochs = [
        torch.cat([feed.batch_at(i).labels for i in range(e * 6, e * 6 + 6)]).tolist()
        for e in range(8)
    ]
    assert all(sorted(epoch) == list(range(30)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 8


def test_batches_do_not_depend_on_earlier_requests(make_images):
    """The batch of an index does not depend on earlier requests or on the loader object."""
    images = make_images(11)
    feed = batches(images, 4)
    forward = [feed.batch_at(i) for i in range(12)]
    for i in np.random.default_rng(0).permutation(12).tolist():
        assert torch.equal(feed.batch_at(i).images, forward[i].images)
    assert torch.equal(batches(images, 4).batch_at(9).images, forward[9].images)
    assert not torch.equal(batches(images, 4, seed=4).batch_at(9).images, forward[9].images)


def test_slices_of_all_ranks_form_the_batch(make_images):
    """The batches of all processes together are the batch of a single process, flipped or not."""
    images = make_images(13)
    for world in (1, 2, 5, 10):
        loader = batches(images, 10, hflip=True)
        shares = [batches(images, 10, hflip=True, rank=r, world_size=world) for r in range(world)]
        for i in range(6):
            parts = torch.cat([share.batch_at(i).images for share in shares])
            assert torch.equal(parts, loader.batch_at(i).images)
            assert shares[-1].epoch_at(i) == loader.epoch_at(i)


def test_epochs_are_counted(make_images):
    """The epoch of a batch is index times batch size divided by the number of images."""
    feed = batches(make_images(8), 6)
    assert [feed.epoch_at(i) for i in range(5)] == [0, 0.75, 1.5, 2.25, 3]


def test_data_without_labels(make_images):
    """Images without labels give batches without labels."""
    assert batches(ArraySplit(make_images().images), 2).batch_at(0).labels is None


def test_data_is_neither_copied_nor_modified(make_images):
    """On the host the images are shared and never modified; read-only memory is supported."""
    images = make_images()
    before = images.images.copy()
    feed = batches(images, 5)
    feed.batch_at(0).images.zero_()
    np.testing.assert_array_equal(images.images, before)
    images.images.flags.writeable = False
    assert torch.equal(batches(images, 5).batch_at(1).images, feed.batch_at(1).images)


def test_images_on_the_host_are_shared(make_images):
    """The images are not copied: changes of the array appear in the batch."""
    images = make_images(1)
    feed = batches(images, 1)
    images.images[:] = 255
    assert (feed.batch_at(0).images == 1).all()


def test_unequal_slices_and_empty_splits_are_refused(make_images):
    """A batch that cannot be divided equally over the processes, and a split without images."""
    with pytest.raises(UsageError, match="a batch of 5 cannot be divided equally over 2 processes"):
        batches(make_images(), 5, rank=0, world_size=2)
    with pytest.raises(UsageError, match="a loader needs at least one image, got none"):
        batches(make_images(0), 5)


def test_half_of_the_images_are_flipped(make_images):
    """With hflip, each image is flipped with probability 1/2, independently each time."""
    images = make_images(1)
    plain, mirrored = batches(images, 400), batches(images, 400, hflip=True)
    unflipped = (mirrored.batch_at(0).images == plain.batch_at(0).images).flatten(1).all(1)
    flipped = (mirrored.batch_at(0).images == plain.batch_at(0).images.flip(-1)).flatten(1).all(1)
    assert torch.equal(unflipped, ~flipped)
    assert 160 < flipped.sum() < 240  # 200 ± 4 standard deviations of 10
    assert not torch.equal(mirrored.batch_at(0).images, mirrored.batch_at(1).images)
