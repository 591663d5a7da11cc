from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch

from advnets.data.batch_transform import BatchTransform
from advnets.data.dataset import ArraySplit, Part
from advnets.data.loader import Batches
from advnets.data.normalization import UnitScaling
from advnets.errors import UsageError
from advnets.rng import RNG

CPU = torch.device("cpu")


def batches(pictures: Part, batch_size: int, seed: int = 3, **more: Any) -> Batches:
    return Batches(pictures, BatchTransform(UnitScaling(), batch_size, seed, CPU, **more))


@pytest.mark.parametrize("batch_size", [1, 3, 7, 10, 25])
def test_stream_is_one_permutation_after_the_other(some_pictures, batch_size):
    """Batches of any size cut the epochs' permutations, one after the other, without a gap."""
    pictures = some_pictures(7)
    orders = (RNG(3, step=epoch).permutation("order", 7).tolist() for epoch in range(20))
    stream = list(chain.from_iterable(orders))
    feed = batches(pictures, batch_size)
    for i in range(len(stream) // batch_size):
        numbers = stream[i * batch_size : (i + 1) * batch_size]
        batch = feed.at(i)
        assert batch.labels is not None
        assert batch.labels.tolist() == numbers
        np.testing.assert_array_equal(
            batch.pictures.numpy(), pictures.images[numbers].astype(np.float32) / 255
        )


def test_every_picture_once_an_epoch(some_pictures):
    """Over an epoch each picture comes once, and no two epochs have the same order."""
    feed = batches(some_pictures(30), 5)
    epochs = [
        torch.cat([feed.at(i).labels for i in range(e * 6, e * 6 + 6)]).tolist() for e in range(8)
    ]
    assert all(sorted(epoch) == list(range(30)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 8


def test_batches_have_no_memory(some_pictures):
    """The batch of an index is the same whatever was asked before, and by another object."""
    pictures = some_pictures(11)
    feed = batches(pictures, 4)
    forward = [feed.at(i) for i in range(12)]
    for i in np.random.default_rng(0).permutation(12).tolist():
        assert torch.equal(feed.at(i).pictures, forward[i].pictures)
    assert torch.equal(batches(pictures, 4).at(9).pictures, forward[9].pictures)
    assert not torch.equal(batches(pictures, 4, seed=4).at(9).pictures, forward[9].pictures)


def test_slices_make_the_batch(some_pictures):
    """Processes hold together, without overlap, what one process holds; mirrored or not."""
    pictures = some_pictures(13)
    for world in (1, 2, 3, 10):
        whole = batches(pictures, 10, flip=True)
        shares = [batches(pictures, 10, flip=True, rank=r, world=world) for r in range(world)]
        for i in range(6):
            parts = torch.cat([share.at(i).pictures for share in shares])
            assert torch.equal(parts, whole.at(i).pictures)
            assert shares[-1].epoch_at(i) == whole.epoch_at(i)


def test_epochs_are_counted(some_pictures):
    """Passes made before a batch: batches times their size over the number of pictures."""
    feed = batches(some_pictures(8), 6)
    assert [feed.epoch_at(i) for i in range(5)] == [0, 0.75, 1.5, 2.25, 3]


def test_data_without_labels(some_pictures):
    """Pictures without labels give batches without."""
    assert batches(ArraySplit(some_pictures().images), 2).at(0).labels is None


def test_data_is_not_copied_and_not_altered(some_pictures):
    """On the host the bytes are shared; no batch alters them; memory that is read-only is fine."""
    pictures = some_pictures()
    before = pictures.images.copy()
    feed = batches(pictures, 5)
    feed.at(0).pictures.zero_()
    np.testing.assert_array_equal(pictures.images, before)
    pictures.images.flags.writeable = False
    assert torch.equal(batches(pictures, 5).at(1).pictures, feed.at(1).pictures)


def test_pictures_on_the_host_are_shared(some_pictures):
    """The bytes are not copied: what changes in the array changes in the batch."""
    pictures = some_pictures(1)
    feed = batches(pictures, 1)
    pictures.images[:] = 255
    assert (feed.at(0).pictures == 1).all()


@pytest.mark.parametrize(("rank", "world"), [(2, 2), (-1, 2), (0, 6), (0, 0)])
def test_shares_that_cannot_be(some_pictures, rank, world):
    """A rank outside the world, and more ranks than rows, are refused; so are no pictures."""
    with pytest.raises(UsageError, match=f"rank {rank} of {world} with batches of 5"):
        batches(some_pictures(), 5, rank=rank, world=world)
    with pytest.raises(UsageError, match="there are no pictures"):
        batches(some_pictures(0), 5)


def test_half_are_mirrored(some_pictures):
    """With flip each picture is shown mirrored half the time, chosen anew each time."""
    pictures = some_pictures(1)
    plain, mirrored = batches(pictures, 400), batches(pictures, 400, flip=True)
    kept = (mirrored.at(0).pictures == plain.at(0).pictures).flatten(1).all(1)
    turned = (mirrored.at(0).pictures == plain.at(0).pictures.flip(-1)).flatten(1).all(1)
    assert torch.equal(kept, ~turned)
    assert 160 < turned.sum() < 240  # 200 ± 4 standard deviations of 10
    assert not torch.equal(mirrored.at(0).pictures, mirrored.at(1).pictures)
