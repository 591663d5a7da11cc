"""Which split an image belongs to, and in what order a split is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from advnets.data.image_folder.files import display_name
from advnets.data.image_folder.layout import DeclaredSplits

SPLITS = ("train", "valid", "test", "unlabeled")
ASSIGNMENT_VERSION = 3
"""The version of how images are placed and dealt: a pack made by another one is made anew."""
_TRAIN, _VALID, _TEST, _UNLABELED = range(len(SPLITS))
_MIN_IMAGES_TO_HOLD_OUT = 50
"""Images of which a tenth each may be spared for validation and test."""


@dataclass(frozen=True, eq=False)
class SplitAssignment:
    """The order in which images are kept, by their numbers, and the split of each in it.

    `labels` are the classes in that order, -1 for none, or None where no image has one.
    `left_out` has the reasons, by number, why some are in no split. `crossing` counts the copies
    that would lie in another split than their originals if each were dealt by itself.
    """

    order: Int64[np.ndarray, " kept"]
    splits: Int64[np.ndarray, " kept"]
    labels: Int64[np.ndarray, " kept"] | None
    excluded: dict[int, str]
    cross_split_duplicates: int

    @property
    def counts(self) -> tuple[int, ...]:
        """Return the number of images in each split."""
        return tuple(np.bincount(self.splits, minlength=len(SPLITS)).tolist())


def assign_splits(
    keys: Sequence[bytes], declared: DeclaredSplits, digests: Sequence[bytes] = ()
) -> SplitAssignment:
    """Deal images to splits, given their names, their placing and digests of their contents.

    Within a split they lie in the order of a hash of their names: as good as shuffled, and a
    image stays where it is as the set grows. Where no validation or test split is named and the
    training images are 50 or more, those whose hash ends in 8 or 9 (about a tenth each) become
    it. Copies are dealt by the first of their names; where they are in several named splits, test
    keeps its own, then validation, and the others are left out.
    """
    excluded = dict(declared.excluded)
    split_index = np.array([SPLITS.index(split or "train") for split in declared.splits], np.int64)
    hashes = np.array([_name_hash(key) for key in keys], np.uint64)
    duplicates = _duplicate_groups(keys, digests, excluded)
    cross_split_duplicates = 0
    for group in duplicates:
        for first in [i for split in (_TEST, _VALID) for i in group if split_index[i] == split][:1]:
            reason = f"is a copy of {display_name(keys[first])}, which is held out"
            others = {i: reason for i in group if split_index[i] != split_index[first]}
            excluded |= others
            cross_split_duplicates += len(others)
    included = np.array([i not in excluded for i in range(len(keys))], bool)
    training = included & (split_index == _TRAIN)
    if training.sum() >= _MIN_IMAGES_TO_HOLD_OUT:
        by_name, by_content = hashes % np.uint64(10), hashes % np.uint64(10)
        for group in duplicates:
            by_content[group] = by_content[group[0]]
        split_by_name = split_index.copy()
        for split, digit in ((_VALID, 8), (_TEST, 9)):
            if not (included & (split_index == split)).any():
                split_by_name[training & (by_name == digit)] = split
                split_index[training & (by_content == digit)] = split
        cross_split_duplicates += int((split_by_name != split_index).sum())
    order = np.lexsort((hashes, split_index))
    order = order[included[order]]
    labels = None if declared.labels is None else np.array(declared.labels, np.int64)[order]
    return SplitAssignment(order, split_index[order], labels, excluded, cross_split_duplicates)


def _duplicate_groups(
    keys: Sequence[bytes], digests: Sequence[bytes], excluded: dict[int, str]
) -> list[list[int]]:
    """Group the numbers of images of equal content, each group in the order of their names."""
    groups: dict[bytes, list[int]] = {}
    for number, content in enumerate(digests):
        if number not in excluded:
            groups.setdefault(content, []).append(number)
    return [sorted(group, key=keys.__getitem__) for group in groups.values() if len(group) > 1]


def _name_hash(key: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big")
