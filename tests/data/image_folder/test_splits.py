from __future__ import annotations

import numpy as np
import pytest

from advnets.data.image_folder.layout import SplitAssignment
from advnets.data.image_folder.splits import Dealt, dealt


def keys(n: int) -> list[bytes]:
    return [f"{i}.png".encode() for i in range(n)]


def deal(names: list[bytes], splits: list[str] | None = None, contents: list[bytes] = []) -> Dealt:  # noqa: B006
    return dealt(names, SplitAssignment(tuple(splits or [""] * len(names)), None, ()), contents)


def split_of_each(deal: Dealt) -> dict[int, int]:
    return dict(zip(deal.order.tolist(), deal.splits.tolist(), strict=True))


def test_every_picture_is_dealt_once():
    """The order is a permutation, splits come one after the other, about a tenth is held out."""
    found = deal(keys(3000))
    assert sorted(found.order.tolist()) == list(range(3000))
    assert (np.diff(found.splits) >= 0).all()
    shares = np.bincount(found.splits) / 3000
    np.testing.assert_allclose(shares, [0.8, 0.1, 0.1], atol=0.03)
    assert (found.left_out, found.crossing) == ({}, 0)


def test_an_order_without_order():
    """A split is as good as shuffled: the ranks of names in order are not correlated."""
    order = deal(keys(3000), ["test"] * 3000).order
    assert abs(np.corrcoef(order, np.arange(3000))[0, 1]) < 0.06  # 3.3 / sqrt(3000)


def test_only_missing_splits_are_dealt():
    """Named splits stay as they are; of the training pictures only what is missing is taken."""
    found = deal(keys(1100), ["train"] * 1000 + ["test"] * 100)
    assert set(found.order[found.splits == 2].tolist()) == set(range(1000, 1100))
    assert 60 < (found.splits == 1).sum() < 140
    found = deal(keys(1100), ["train"] * 1000 + ["test"] * 50 + ["valid"] * 50)
    assert found.counts == (1000, 50, 50, 0)
    found = deal(keys(1100), ["train"] * 49 + ["unlabeled"] * 1051)
    assert found.counts == (49, 0, 0, 1051)
    found = deal(keys(1100), ["train"] * 50 + ["unlabeled"] * 1050)  # 50 training files are enough
    assert found.counts == (37, 6, 7, 1050)


def test_a_picture_stays_where_it_is():
    """As the set grows, pictures keep their split."""
    few, many = split_of_each(deal(keys(100))), split_of_each(deal(keys(5000)))
    assert all(many[i] == split for i, split in few.items())


def test_names_are_pinned_to_splits():
    """A set that was dealt before is dealt in the same way by every later version."""
    found = deal(keys(60))
    assert sorted(found.order[found.splits == 1].tolist()) == PINNED_VALID
    assert sorted(found.order[found.splits == 2].tolist()) == PINNED_TEST
    assert found.order[:5].tolist() == PINNED_FIRST


PINNED_VALID = [2, 3, 8, 23, 40, 47]
PINNED_TEST = [0, 4, 13, 19, 32, 36, 42, 53]
PINNED_FIRST = [25, 41, 59, 22, 38]


@pytest.mark.parametrize("times", [2, 4])
def test_copies_are_dealt_to_one_split(times):
    """Pictures of equal content are dealt by the first of their names; the audit counts others."""
    n = 100 * times
    contents = [f"{i % 100}".encode() for i in range(n)]
    names = keys(n)
    alone, together = split_of_each(deal(names)), split_of_each(deal(names, contents=contents))
    assert len(together) == n
    for i in range(100):
        copies = [j for j in range(n) if j % 100 == i]
        first = min(copies, key=names.__getitem__)
        assert {together[j] for j in copies} == {alone[first]}
    crossing = sum(alone[i] != together[i] for i in range(n))
    assert deal(names, contents=contents).crossing == crossing > 0


def test_of_copies_in_two_named_splits_the_held_out_one_stays():
    """Test pictures stay as they were given; copies of them elsewhere are left out by name."""
    names = [b"train/a", b"train/b", b"train/c", b"val/a", b"test/a", b"test/b", b"unlabeled/b"]
    splits = ["train", "train", "train", "valid", "test", "test", "unlabeled"]
    contents = [b"A", b"B", b"B", b"A", b"A", b"Z", b"B"]
    found = deal(names, splits, contents)
    assert split_of_each(found) == {1: 0, 2: 0, 4: 2, 5: 2, 6: 3}
    assert found.left_out == dict.fromkeys((0, 3), "is a copy of test/a, which is held out")
    assert found.crossing == 2


def test_labels_go_with_their_pictures():
    found = dealt(
        keys(4), SplitAssignment(("", "test", "", ""), (1, -1, 0, 1), ("a", "b"), {0: "why"})
    )
    assert found.labels is not None
    assert dict(zip(found.order.tolist(), found.labels.tolist(), strict=True)) == {
        1: -1,
        2: 0,
        3: 1,
    }
    assert found.left_out == {0: "why"}
