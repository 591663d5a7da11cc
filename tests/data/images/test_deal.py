from __future__ import annotations

import numpy as np
import pytest

from advnets.data.images.deal import Placing, dealt, placing

NO_SPLITS = ("", "", "")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.png", "b.png", "c.png"], Placing(NO_SPLITS, None, ())),
        (["cat/a.png", "dog/b.png", "cat/c.png"], Placing(NO_SPLITS, (0, 1, 0), ("cat", "dog"))),
        (["all/cat/a", "all/dog/b", "all/dog/c"], Placing(NO_SPLITS, (0, 1, 1), ("cat", "dog"))),
        (["cat/a.png", "dog/b.png", "c.png"], Placing(NO_SPLITS, None, ())),
        (["cat/a.png", "cat/b.png", "cat/c.png"], Placing(NO_SPLITS, None, ())),
        (["cat/x/a", "cat/y/b", "dog/x/c"], Placing(NO_SPLITS, (0, 0, 1), ("cat", "dog"))),
        (
            ["set/train/cat/a", "set/Val/dog/b", "set/test/cat/c"],
            Placing(("train", "valid", "test"), (0, 1, 0), ("cat", "dog")),
        ),
        (["train/a", "test/b", "training/c"], Placing(("train", "test", "train"), None, ())),
        (["train/a", "test/b", "cat/c"], Placing(NO_SPLITS, (2, 1, 0), ("cat", "test", "train"))),
        (["train/a", "train/b", "train/c"], Placing(("train",) * 3, None, ())),
        ([], Placing((), None, ())),
    ],
)
def test_what_names_tell(names, expected):
    """Folders of splits, of classes, both or neither; a folder around all counts for nothing."""
    assert placing([name.encode() for name in names]) == expected


def test_classes_that_are_not_unicode():
    assert placing([b"\xff/a", b"b/c"]).classes == ("b", "\\xff")


def keys(n: int) -> list[bytes]:
    return [f"{i}.png".encode() for i in range(n)]


def test_every_picture_is_dealt_once():
    """The order is a permutation, splits come one after the other, about a tenth is held out."""
    order, splits = dealt(keys(3000), [""] * 3000)
    assert sorted(order.tolist()) == list(range(3000))
    assert (np.diff(splits) >= 0).all()
    shares = np.bincount(splits) / 3000
    np.testing.assert_allclose(shares, [0.8, 0.1, 0.1], atol=0.03)


def test_an_order_without_order():
    """A split is as good as shuffled: the ranks of names in order are not correlated."""
    order, _ = dealt(keys(3000), ["test"] * 3000)
    assert abs(np.corrcoef(order, np.arange(3000))[0, 1]) < 0.06  # 3.3 / sqrt(3000)


def test_only_missing_splits_are_dealt():
    """Named splits stay as they are; of the training pictures only what is missing is taken."""
    given = ["train"] * 1000 + ["test"] * 100
    order, splits = dealt(keys(1100), given)
    assert set(order[splits == 2].tolist()) == set(range(1000, 1100))
    assert 60 < (splits == 1).sum() < 140
    _, splits = dealt(keys(1100), ["train"] * 1000 + ["test"] * 50 + ["valid"] * 50)
    assert np.bincount(splits).tolist() == [1000, 50, 50]


def test_a_picture_stays_where_it_is():
    """As the set grows, pictures keep their split."""
    few, many = dealt(keys(100), [""] * 100), dealt(keys(5000), [""] * 5000)
    splits = dict(zip(many[0].tolist(), many[1].tolist(), strict=True))
    assert all(splits[i] == split for i, split in zip(*map(np.ndarray.tolist, few), strict=True))
