"""Which split and class a picture belongs to, and in what order a split is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SPLITS = ("train", "valid", "test")
_SPLIT_OF = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "val", "validation", "dev"), "valid"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_ENOUGH = 50
"""Pictures of which a tenth each may be spared for validation and test."""


@dataclass(frozen=True)
class Placing:
    """What the names within a folder say: each file's split ("" for none) and class."""

    splits: tuple[str, ...]
    labels: tuple[int, ...] | None
    classes: tuple[str, ...]


def placing(keys: Sequence[bytes]) -> Placing:
    """Read splits and classes from names such as train/cat/1.png, cat/1.png or 1.png.

    Folders named train, valid (val, validation) and test are splits, if every file lies in one of
    them; the folder below is the class, if every file lies in one and there are two or more. A
    folder around all the rest counts for nothing.
    """
    paths = [key.split(b"/") for key in keys]
    while paths and _shared(paths) and split_of(paths[0][0]) is None:
        paths = [path[1:] for path in paths]
    splits = [split_of(path[0]) if len(path) > 1 else None for path in paths]
    if all(splits):
        paths = [path[1:] for path in paths]
    named = tuple(split or "" for split in splits) if all(splits) else ("",) * len(paths)
    classes = sorted({path[0] for path in paths if len(path) > 1})
    if len(classes) < 2 or any(len(path) == 1 for path in paths):
        return Placing(named, None, ())
    number = {name: i for i, name in enumerate(classes)}
    return Placing(
        named,
        tuple(number[path[0]] for path in paths),
        tuple(name.decode("utf-8", "backslashreplace") for name in classes),
    )


def split_of(name: bytes) -> str | None:
    """The split that a folder of that name holds, or None."""
    return _SPLIT_OF.get(name.decode("utf-8", "replace").lower())


def dealt(keys: Sequence[bytes], splits: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The order in which pictures are kept, and the split of each in it: 0 train, 1 valid, 2 test.

    Within a split they lie in the order of a hash of their names: as good as shuffled, and a
    picture stays where it is as the set grows. Where no validation or test split is given and the
    training pictures are 50 or more, those whose hash ends in 8 or 9 (of a tenth each) become it.
    """
    hashes = np.array([_hash(key) for key in keys], np.uint64)
    number = np.array([SPLITS.index(split or "train") for split in splits], np.int64)
    training = number == 0
    if training.sum() >= _ENOUGH:
        tenth = hashes % np.uint64(10)
        for split, digit in ((1, 8), (2, 9)):
            if not (number == split).any():
                number[training & (tenth == digit)] = split
    order = np.lexsort((hashes, number))
    return order, number[order]


def _shared(paths: Sequence[list[bytes]]) -> bool:
    """Whether all lie in one and the same folder."""
    return all(len(path) > 1 and path[0] == paths[0][0] for path in paths)


def _hash(key: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big")
