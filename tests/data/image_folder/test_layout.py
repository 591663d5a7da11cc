"""Splits and classes are those of the folders' names."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advnets.data.image_folder.splits import (
    DeclaredSplits,
    SplitAssignment,
    assign_splits,
    split_of,
    splits_from_folders,
)

OUT = "outside"


def parse_layout(names: list[str]) -> dict[str, tuple[str, str | None]]:
    """Return the split of each file, or OUT, and its class."""
    assignment = splits_from_folders([name.encode() for name in names])
    labels = assignment.labels or (-1,) * len(names)
    return {
        name: (
            OUT if i in assignment.excluded else assignment.splits[i],
            None if labels[i] < 0 or i in assignment.excluded else assignment.classes[labels[i]],
        )
        for i, name in enumerate(names)
    }


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        # Flat, by class, and by class within a folder around all.
        ("a.png b.png", ":- :-"),
        ("cat/a dog/b cat/c", ":cat :dog :cat"),
        ("all/cat/a all/dog/b all/dog/c", ":cat :dog :dog"),
        ("cat/a cat/b cat/c", ":- :- :-"),
        ("cat/x/a cat/y/b dog/x/c", ":cat :cat :dog"),
        # Splits, with and without classes, at any depth and in any spelling.
        ("set/train/cat/a set/Val/dog/b set/test/cat/c", "train:- valid:- test:-"),
        ("s/train/cat/a s/train/dog/d s/Val/dog/b", "train:cat train:dog valid:dog"),
        ("train/a test/b training/c", "train:- test:- train:-"),
        ("train/a train/b train/c", "train:- train:- train:-"),
        ("cat/train/1 dog/train/2 cat/test/3", "train:cat train:dog test:cat"),
        ("train2017/cat/1 train2017/dog/2 val2017/3", "train:cat train:dog valid:-"),
        ("trainA/1 trainB/2 testA/3 testB/4", "train:A train:B test:A test:B"),
        ("dev/train/1 dev/test/2", "train:- test:-"),
        # The word in a longer name, next to a folder of another split.
        (
            "seg_train/seg_train/a/1 seg_train/seg_train/b/2 seg_test/seg_test/a/3 seg_pred/4",
            "train:a train:b test:a OUT",
        ),
        ("train_64x64/1 valid_64x64/2", "train:- valid:-"),
        ("DIV2K_train_HR/1 DIV2K_valid_HR/2", "train:- valid:-"),
        (
            "ILSVRC2012_img_train/a/1 ILSVRC2012_img_train/b/2 ILSVRC2012_img_val/3",
            "train:a train:b valid:-",
        ),
        (
            "Final_Training/Images/0/1 Final_Training/Images/1/2 Final_Test/Images/3",
            "train:0 train:1 test:-",
        ),
        ("cat_train/1 cat_test/2 dog_train/3 dog_test/4", "train:cat test:cat train:dog test:dog"),
        ("my_train/a/1 my_train/b/2 test/a/3", "train:a train:b test:a"),
        ("train/1 train_extra/2 val/3 test/4", "train:- train:- valid:- test:-"),
        ("train.(1)/1 test.(1)/2", "train:- test:-"),
        # Otherwise it is part of the name of a class.
        ("bullet_train/1 car/2 bullet_train/3", ":bullet_train :car :bullet_train"),
        ("bullet_train/1 car/2 test/3", ":bullet_train :car test:-"),
        ("test_tube/1 flask/2 train/test_tube/3", "OUT OUT train:-"),
        ("steam_train/1 model_train/2", ":steam_train :model_train"),
        # One file outside the classes does not affect the labels of the others.
        ("cat/a dog/b cat/c dog/d e", ":cat :dog :cat :dog OUT"),
        ("train/cat/1 train/dog/2 train/3 test/cat/4 5", "train:cat train:dog OUT test:cat OUT"),
        # Too many files outside the classes: there are no classes, and all files are used.
        ("cat/a dog/b c d", ":- :- :- :-"),
        # Other splits need no labels.
        ("train/cat/1 train/dog/2 test/3", "train:cat train:dog test:-"),
        (
            "train/cat/1 train/dog/2 test/cat/3 unlabeled/4 unlabeled/5",
            "train:cat train:dog test:cat unlabeled:- unlabeled:-",
        ),
        ("cat/1 dog/2 test/3 Unlabeled/4", ":cat :dog test:- unlabeled:-"),
        ("train/cat/1 train/dog/2 train/unlabeled/3", "train:cat train:dog unlabeled:-"),
        ("train/labeled/cat/1 train/labeled/dog/2", "train:cat train:dog"),
        # A single folder around or below the classes is ignored.
        ("train/cat/images/1 train/dog/images/2 val/images/3", "train:cat train:dog valid:-"),
        ("train/images/cat/1 train/images/dog/2 val/cat/3", "train:cat train:dog valid:cat"),
        ("train/images/cat/1 train/images/dog/2 train/3", "train:cat train:dog OUT"),
        ("train/cat/1 train/dog/2 test/images/dog/3", "train:cat train:dog test:dog"),
        # Folders of held-out images that are not training classes are not classes.
        (
            "train/cat/1 train/dog/2 test/monday/3 test/friday/4",
            "train:cat train:dog test:- test:-",
        ),
        # Folders above those of the splits are classes, or sources that share classes.
        (
            "cat/train/images/1 dog/train/by-date/2 cat/test/images/3",
            "train:cat train:dog test:cat",
        ),
        (
            "A/train/cat/1 A/train/dog/2 B/train/cat/3 B/train/dog/4 B/test/cat/5",
            "train:cat train:dog train:cat train:dog test:cat",
        ),
        # A train is also a vehicle.
        ("bus/1 car/2 train/3", ":bus :car :train"),
        ("train/bus/1 train/train/2 test/train/3", "train:bus train:train test:train"),
        ("train/1 train/2 extra/3", "train:- train:- OUT"),
        (
            "bus/train/1 bus/test/2 train/train/3 train/test/4",
            "train:bus test:bus train:train test:train",
        ),
    ],
)
def test_names_of_folders_give_splits_and_classes(names, expected):
    files = names.split()
    expected_parts = [
        (OUT, None)
        if part == "OUT"
        else (part.partition(":")[0], None if part.endswith("-") else part.partition(":")[2])
        for part in expected.split()
    ]
    assert parse_layout(files) == dict(zip(files, expected_parts, strict=True))


def test_no_names_give_no_splits():
    assert splits_from_folders([]) == DeclaredSplits((), None, ())


def test_spellings_of_splits():
    """Usual names in any case are recognized; names that only begin like one are not."""
    for name in (
        "train",
        "Training",
        "TRAIN",
        "trainset",
        "train_images",
        "train-2",
        "images_train",
    ):
        assert split_of(name) == "train"
    for name in ("val", "Valid", "validation", "dev", "val2017", "validation_set"):
        assert split_of(name) == "valid"
    for name in ("test", "testing", "Test Set", "test1", "testB"):
        assert split_of(name) == "test"
    for name in ("unlabeled", "Unlabeled", "unlabeled2017", "unsupervised", "no_labels"):
        assert split_of(name) == "unlabeled"
    for name in (
        "",
        "trains",
        "trainer",
        "valley",
        "contest",
        "tests",
        "testament",
        "devil",
        "cat",
    ):
        assert split_of(name) is None


def test_the_subset_keeps_the_given_order():
    assignment = splits_from_folders(
        [b"train/cat/1", b"train/dog/2", b"train/3", b"test/cat/4", b"train/dog/5"]
    )
    assert assignment.excluded.keys() == {2}
    part = assignment.subset([3, 2, 1, 4])
    assert part.splits == ("test", "train", "train", "train")
    assert part.labels == (0, -1, 1, 1)
    assert part.excluded == {1: assignment.excluded[2]}
    assert (part.classes, part.notes) == (("cat", "dog"), ())


def test_classes_that_are_not_unicode():
    assert splits_from_folders([b"\xff/a", b"b/c"]).classes == ("b", "\\xff")


def test_unicode_forms_of_a_name_are_one_class():
    """NFC, as most systems write é, and NFD, as macOS does."""
    names = [unicodedata.normalize(form, "café/1") for form in ("NFC", "NFD")]
    assert names[0] != names[1]
    assignment = splits_from_folders([name.encode() for name in (*names, "dog/2")])
    assert assignment.classes == ("café", "dog")
    assert assignment.labels == (0, 0, 1)


def test_ambiguous_layouts_are_reported():
    assert splits_from_folders([b"bus/1", b"train/2"]).notes == (
        "the folder train is read as a class",
    )
    [note] = splits_from_folders([b"cat/1", b"dog/2", b"3", b"4"]).notes
    assert note.startswith("no classes are read, as 2 of 4 training files are in no folder")
    assert splits_from_folders([b"cat/1", b"dog/2", b"cat/3"]).notes == ()
    # In a training folder, a folder named train is a class.
    assert splits_from_folders([b"train/bus/1", b"train/train/2", b"extra/3"]).notes == ()


@dataclass
class Tree:
    """Files by path, each with its expected split and class."""

    files: dict[str, tuple[str, str | None]]

    def add(self, *folders: str, split: str, label: str | None = None) -> None:
        name = f"{len(self.files)}.png"
        self.files["/".join((*filter(None, folders), name))] = split, label


SPELLED = {
    "train": ["train", "Train", "TRAINING", "train_images", "train2017"],
    "valid": ["val", "Valid", "validation", "dev", "val2017"],
    "test": ["test", "Testing", "TEST", "test_set", "test2017"],
    "unlabeled": ["unlabeled", "Unlabeled", "unlabeled2017", "unsup"],
}
CLASSES = ["cat", "dog", "7", "café", "a b", "\u6c34"]


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    """Generate layouts of datasets."""
    tree = Tree({})
    around = draw(st.sampled_from(["", "data", "my set/v2"]))
    style = draw(st.sampled_from(["split above class", "class above split", "class"]))
    names = [*CLASSES, "train"] if style == "split above class" else CLASSES
    classes = draw(st.lists(st.sampled_from(names), min_size=2, max_size=4, unique=True))
    spelled = {split: draw(st.sampled_from(each)) for split, each in SPELLED.items()}

    def fill(split: str, label: str | None, between: str, n: int) -> None:
        below = draw(st.sampled_from(["", "images", "by date/monday"])) if label else ""
        folder_name = label and unicodedata.normalize(draw(st.sampled_from(["NFC", "NFD"])), label)
        folder = "" if split == "" else spelled[split]
        above = (
            (folder_name or "", folder)
            if style == "class above split"
            else (folder, between, folder_name or "")
        )
        for _ in range(n):
            tree.add(around, *above, below, split=split, label=label)

    training = "" if style == "class" else "train"
    between = draw(st.sampled_from(["", "images"])) if style == "split above class" else ""
    for label in classes:
        fill(training, label, between, draw(st.integers(1, 5)))
    labeled = len(tree.files)
    for split in draw(st.lists(st.sampled_from(["valid", "test"]), unique=True)):
        between = (
            draw(st.sampled_from(["", "images", "x/y"])) if style != "class above split" else ""
        )
        if draw(st.booleans()):
            for label in draw(st.lists(st.sampled_from(classes), min_size=1, unique=True)):
                fill(split, label, between, draw(st.integers(1, 3)))
        else:
            fill(split, None, between, draw(st.integers(1, 3)))
    # An unlabeled split next to the others, or in the training folder.
    inside = (spelled["train"],) if training and draw(st.booleans()) else ()
    for _ in range(draw(st.integers(0, 3))):
        tree.add(around, *inside, spelled["unlabeled"], split="unlabeled")
    # A few files outside the classes.
    for _ in range(draw(st.integers(0, labeled // 2))):
        tree.add(around, spelled["train"] if style == "split above class" else "", split=OUT)
    return tree


@given(trees(), st.randoms())
@settings(max_examples=200, deadline=None)
def test_random_layouts_are_recognized(tree, random):
    """Splits and classes are those of the folders, for any order of files."""
    names = list(tree.files)
    random.shuffle(names)
    assert parse_layout(names) == {name: tree.files[name] for name in names}
    assignment = splits_from_folders([name.encode() for name in names])
    assert list(assignment.classes) == sorted({label for _, label in tree.files.values() if label})


def keys(n: int) -> list[bytes]:
    return [f"{i}.png".encode() for i in range(n)]


def deal(
    names: list[bytes], splits: list[str] | None = None, contents: Sequence[bytes] = ()
) -> SplitAssignment:
    return assign_splits(
        names, DeclaredSplits(tuple(splits or [""] * len(names)), None, ()), contents
    )


def split_of_each(deal: SplitAssignment) -> dict[int, int]:
    return dict(zip(deal.order.tolist(), deal.splits.tolist(), strict=True))


def test_every_image_is_assigned_once():
    """The order is a permutation by splits, and about a tenth is held out for each."""
    assignment = deal(keys(3000))
    assert sorted(assignment.order.tolist()) == list(range(3000))
    assert (np.diff(assignment.splits) >= 0).all()
    shares = np.bincount(assignment.splits) / 3000
    np.testing.assert_allclose(shares, [0.8, 0.1, 0.1], atol=0.03)
    assert (assignment.excluded, assignment.cross_split_duplicates) == ({}, 0)


def test_the_order_within_a_split_is_random():
    """Ranks of sorted names are not correlated."""
    order = deal(keys(3000), ["test"] * 3000).order
    assert abs(np.corrcoef(order, np.arange(3000))[0, 1]) < 0.06  # 3.3 / sqrt(3000)


def test_only_missing_splits_are_assigned():
    """Named splits are kept; missing ones are taken from the training images."""
    assignment = deal(keys(1100), ["train"] * 1000 + ["test"] * 100)
    assert set(assignment.order[assignment.splits == 2].tolist()) == set(range(1000, 1100))
    assert 60 < (assignment.splits == 1).sum() < 140
    assignment = deal(keys(1100), ["train"] * 1000 + ["test"] * 50 + ["valid"] * 50)
    assert assignment.counts == (1000, 50, 50, 0)
    assignment = deal(keys(1100), ["train"] * 49 + ["unlabeled"] * 1051)
    assert assignment.counts == (49, 0, 0, 1051)
    assignment = deal(
        keys(1100), ["train"] * 50 + ["unlabeled"] * 1050
    )  # 50 training files are enough
    assert assignment.counts == (37, 6, 7, 1050)


def test_images_keep_their_split_as_the_dataset_grows():
    """As the set grows, images keep their split."""
    few, many = split_of_each(deal(keys(100))), split_of_each(deal(keys(5000)))
    assert all(many[i] == split for i, split in few.items())


def test_the_assignment_is_fixed_for_all_versions():
    """Later versions assign an existing dataset in the same way."""
    assignment = deal(keys(60))
    assert sorted(assignment.order[assignment.splits == 1].tolist()) == PINNED_VALID
    assert sorted(assignment.order[assignment.splits == 2].tolist()) == PINNED_TEST
    assert assignment.order[:5].tolist() == PINNED_FIRST


PINNED_VALID = [2, 3, 8, 23, 40, 47]
PINNED_TEST = [0, 4, 13, 19, 32, 36, 42, 53]
PINNED_FIRST = [25, 41, 59, 22, 38]


@pytest.mark.parametrize("times", [2, 4])
def test_copies_are_in_one_split(times):
    """They are assigned by the first of their names; the audit counts the others."""
    n = 100 * times
    contents = [f"{i % 100}".encode() for i in range(n)]
    names = keys(n)
    separate, joint = split_of_each(deal(names)), split_of_each(deal(names, contents=contents))
    assert len(joint) == n
    for i in range(100):
        copies = [j for j in range(n) if j % 100 == i]
        first = min(copies, key=names.__getitem__)
        assert {joint[j] for j in copies} == {separate[first]}
    crossing = sum(separate[i] != joint[i] for i in range(n))
    assert deal(names, contents=contents).cross_split_duplicates == crossing > 0


def test_of_copies_in_two_named_splits_the_held_out_one_is_kept():
    """Its copies in other splits are skipped and named."""
    names = [b"train/a", b"train/b", b"train/c", b"val/a", b"test/a", b"test/b", b"unlabeled/b"]
    splits = ["train", "train", "train", "valid", "test", "test", "unlabeled"]
    contents = [b"A", b"B", b"B", b"A", b"A", b"Z", b"B"]
    assignment = deal(names, splits, contents)
    assert split_of_each(assignment) == {1: 0, 2: 0, 4: 2, 5: 2, 6: 3}
    assert assignment.excluded == dict.fromkeys((0, 3), "is a copy of test/a, which is held out")
    assert assignment.cross_split_duplicates == 2


def test_labels_belong_to_their_images():
    assignment = assign_splits(
        keys(4), DeclaredSplits(("", "test", "", ""), (1, -1, 0, 1), ("a", "b"), {0: "why"})
    )
    assert assignment.labels is not None
    assert dict(zip(assignment.order.tolist(), assignment.labels.tolist(), strict=True)) == {
        1: -1,
        2: 0,
        3: 1,
    }
    assert assignment.excluded == {0: "why"}
