"""Images that are there more than once, or nearly so."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from jaxtyping import Bool, Int64, UInt8, UInt64

_BITS = 64
_BANDS = 4
_MAX_HASH_DISTANCE = 16
"""Of two hashes, that may differ; a quarter of them must be equal."""
_MAX_MEAN_DIFFERENCE = 10.0
"""Mean difference of two thumbs."""
_MIN_CORRELATION = 0.94
"""Of two thumbs: what tells one line drawing from another, whose levels differ little."""
_NEIGHBORS = 32


def group_equal(digests: Sequence[Hashable]) -> list[list[int]]:
    """The numbers of things of equal digest, where there are two or more."""
    groups: dict[Hashable, list[int]] = {}
    for number, digest in enumerate(digests):
        groups.setdefault(digest, []).append(number)
    return [group for group in groups.values() if len(group) > 1]


def group_near_duplicates(thumbnails: UInt8[np.ndarray, "n 16 18"]) -> list[list[int]]:
    """The numbers of images that look the same: of another size, format or quality.

    Two images do if of the 64 signs of their horizontal gradients (dHash) a quarter is the same
    and at most 16 differ, and their thumbs differ by at most 10 of 255 levels in the mean and
    have a correlation of at least .94. Among those of one quarter each is compared with the 32 next
    in hash and brightness, so that of very many that are alike some pairs may be missed.
    """
    n = len(thumbnails)
    flat = thumbnails.reshape(n, thumbnails[0].size if n else 0)
    hashes, means = dhash(thumbnails), flat.mean(1) if n else np.empty(0)
    group = np.arange(n)
    for band in range(_BANDS):
        width = np.uint64(_BITS // _BANDS)
        key = (hashes >> (np.uint64(band) * width)) & ((np.uint64(1) << width) - np.uint64(1))
        order = np.lexsort((means, hashes, key))
        for shift in range(1, min(_NEIGHBORS, n - 1) + 1):
            one, other = order[:-shift], order[shift:]
            near = key[one] == key[other]
            near &= group[one] != group[other]
            near[near] = _are_near_duplicates(hashes, flat, one[near], other[near])
            group = merge_groups(group, one[near], other[near])
    return group_equal(group.tolist())


def dhash(thumbnails: UInt8[np.ndarray, "n 16 18"]) -> UInt64[np.ndarray, " n"]:
    """The signs of the horizontal gradients of 8 x 9 cells, a bit each (dHash)."""
    cells = thumbnails.reshape(-1, 8, 2, 9, 2).sum((2, 4), dtype=np.int64)
    bits = np.packbits((cells[:, :, 1:] > cells[:, :, :-1]).reshape(-1, _BITS), axis=1)
    return np.ascontiguousarray(bits).view(np.uint64).reshape(-1)


def _are_near_duplicates(
    hashes: np.ndarray, flat: np.ndarray, one: np.ndarray, other: np.ndarray
) -> Bool[np.ndarray, " pairs"]:
    alike = np.bitwise_count(hashes[one] ^ hashes[other]) <= _MAX_HASH_DISTANCE
    these, those = (flat[which[alike]].astype(np.float32) for which in (one, other))
    near = np.abs(these - those).mean(1) <= _MAX_MEAN_DIFFERENCE
    for each in (these, those):
        each -= each.mean(1, keepdims=True)
    scale = np.linalg.norm(these, axis=1) * np.linalg.norm(those, axis=1)
    alike[alike] = near & ((these * those).sum(1) >= _MIN_CORRELATION * scale)
    return alike


def merge_groups(
    group: Int64[np.ndarray, " n"], one: np.ndarray, other: np.ndarray
) -> Int64[np.ndarray, " n"]:
    """The groups, each known by its lowest number, with those of each pair made one."""
    for a, b in zip(group[one].tolist(), group[other].tolist(), strict=True):
        low, high = sorted((_root(group, a), _root(group, b)))
        group[high] = low
    while (group != group[group]).any():
        group = group[group]
    return group


def _root(group: np.ndarray, number: int) -> int:
    while group[number] != number:
        number = int(group[number])
    return number
