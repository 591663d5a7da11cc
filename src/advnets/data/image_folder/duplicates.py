"""Exact and near duplicates.

Exact duplicates have equal digests. Near duplicates are found by thumbnails (dHash and correlation)
or by the codes of an autoencoder: Radford et al. 2015, section 4.1, a 3072-128-3072 denoising
autoencoder with rectifiers and dropout, trained on 32 x 32 center crops of the set itself; the bits
of a code are 1 for those of its 128 units that are active. In the paper duplicates
have equal codes; here some bits may differ, as they do for a re-encoded copy. Hashes and codes are
compared within bands, in time about proportional to the number of images.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from contextlib import closing
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8, UInt64
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from advnets.data.dataset import Dataset, Split
from advnets.data.image_folder.decode import Frame, to_pil_image
from advnets.data.image_folder.files import ImageFiles
from advnets.data.image_folder.splits import display_name
from advnets.data.image_folder.workers import DecodeImage, process_files
from advnets.errors import DataError

_BITS = 64
_BANDS = 4
_MAX_HASH_DISTANCE = 16
"""The largest Hamming distance of two hashes of near duplicates; a band must be equal."""
_MAX_MEAN_DIFFERENCE = 10.0
"""The largest mean difference of two thumbnails of near duplicates, in levels of 255."""
_MIN_CORRELATION = 0.94
"""The smallest correlation of such thumbnails, needed to distinguish line drawings."""
_NEIGHBORS = 32
"""The number of neighbors, in sorted order, that each hash or code is compared with."""


def group_equal(digests: Sequence[Hashable]) -> list[list[int]]:
    """Return the indices of equal digests, grouped, where there are two or more."""
    groups: dict[Hashable, list[int]] = {}
    for number, digest in enumerate(digests):
        groups.setdefault(digest, []).append(number)
    return [group for group in groups.values() if len(group) > 1]


def group_near_duplicates(thumbnails: UInt8[np.ndarray, "n 16 18"]) -> list[list[int]]:
    """Return the indices of near duplicates, grouped: images of another size, format or quality.

    Two images are near duplicates if a quarter of the 64 signs of their horizontal gradients
    (dHash) is equal and at most 16 differ, and their thumbnails differ by at most 10 of 255 levels
    on average and have a correlation of at least 0.94. Within an equal quarter each image is
    compared with the next 32 in order of hash and brightness, so that some pairs among very many
    similar images may be missed.
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
            first, second = order[:-shift], order[shift:]
            near = key[first] == key[second]
            near &= group[first] != group[second]
            near[near] = _are_near_duplicates(hashes, flat, first[near], second[near])
            group = merge_groups(group, first[near], second[near])
    return group_equal(group.tolist())


def dhash(thumbnails: UInt8[np.ndarray, "n 16 18"]) -> UInt64[np.ndarray, " n"]:
    """Return the signs of the horizontal gradients of 8 x 9 cells, one bit each (dHash)."""
    cells = thumbnails.reshape(-1, 8, 2, 9, 2).sum((2, 4), dtype=np.int64)
    bits = np.packbits((cells[:, :, 1:] > cells[:, :, :-1]).reshape(-1, _BITS), axis=1)
    return np.ascontiguousarray(bits).view(np.uint64).reshape(-1)


def _are_near_duplicates(
    hashes: np.ndarray, flat: np.ndarray, first: np.ndarray, second: np.ndarray
) -> Bool[np.ndarray, " pairs"]:
    is_similar = np.bitwise_count(hashes[first] ^ hashes[second]) <= _MAX_HASH_DISTANCE
    first_thumbnails, second_thumbnails = (
        flat[indices[is_similar]].astype(np.float32) for indices in (first, second)
    )
    near = np.abs(first_thumbnails - second_thumbnails).mean(1) <= _MAX_MEAN_DIFFERENCE
    for thumbnails in (first_thumbnails, second_thumbnails):
        thumbnails -= thumbnails.mean(1, keepdims=True)
    scale = np.linalg.norm(first_thumbnails, axis=1) * np.linalg.norm(second_thumbnails, axis=1)
    is_similar[is_similar] = near & (
        (first_thumbnails * second_thumbnails).sum(1) >= _MIN_CORRELATION * scale
    )
    return is_similar


def merge_groups(
    group: Int64[np.ndarray, " n"], first: np.ndarray, second: np.ndarray
) -> Int64[np.ndarray, " n"]:
    """Merge the groups of each pair of images (union-find); a group is its lowest index."""
    for a, b in zip(group[first].tolist(), group[second].tolist(), strict=True):
        low, high = sorted((_root(group, a), _root(group, b)))
        group[high] = low
    while (group != group[group]).any():
        group = group[group]
    return group


def _root(group: np.ndarray, number: int) -> int:
    while group[number] != number:
        number = int(group[number])
    return number


SIDE, UNITS = 32, 128
STEPS, BATCH, LEARNING_RATE, DROPOUT = 2000, 256, 1e-3, 0.2
_BLOCK = 4096
MAX_CODE_DISTANCE = 12
"""The largest distance of two codes of near duplicates, in bits. Re-encoded copies differ in 2 or
3 bits, different images in 25 or more."""
_FRAME = Frame(SIDE, SIDE)
_BLOCK_ROWS = 1024


def group_by_codes(images: UInt8[np.ndarray, "n 3 32 32"], seed: int = 0) -> list[list[int]]:
    """Return the indices of images whose codes differ in at most 12 bits, grouped.

    Only codes with an equal band of 16 bits are compared, each with the next 32, so that some pairs
    among very many similar images may be missed.
    """
    n = len(images)
    if n < 2:
        return []
    packed = np.packbits(autoencoder_codes(images, seed), axis=1)
    words = np.ascontiguousarray(packed).view(np.uint64)
    group = np.arange(n)
    for key in np.ascontiguousarray(packed).view(np.uint16).T:
        order = np.lexsort((words[:, 1], words[:, 0], key))
        for shift in range(1, min(_NEIGHBORS, n - 1) + 1):
            first, second = order[:-shift], order[shift:]
            near = (key[first] == key[second]) & (group[first] != group[second])
            first, second = first[near], second[near]
            is_similar = np.bitwise_count(words[first] ^ words[second]).sum(1) <= MAX_CODE_DISTANCE
            group = merge_groups(group, first[is_similar], second[is_similar])
    return group_equal(group.tolist())


def autoencoder_codes(
    images: UInt8[np.ndarray, "n 3 32 32"], seed: int = 0
) -> Bool[np.ndarray, "n 128"]:
    """Return the codes of images: which of the autoencoder's units are active."""
    values = torch.from_numpy(images.reshape(len(images), -1))
    mean = values.float().mean(0) / 255
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encode = _train_encoder(values, mean)
    with torch.no_grad():
        bits = [encode(block.float() / 255 - mean) > 0 for block in values.split(_BLOCK)]
    return torch.cat(bits).numpy()


def _train_encoder(values: UInt8[Tensor, "n pixels"], mean: Float[Tensor, " pixels"]) -> nn.Linear:
    """Train a denoising autoencoder with dropout and return its encoder."""
    n, pixels = values.shape
    encode, decode = nn.Linear(pixels, UNITS), nn.Linear(UNITS, pixels)
    optimizer = torch.optim.Adam([*encode.parameters(), *decode.parameters()], lr=LEARNING_RATE)
    for _ in range(STEPS):
        x = values[torch.randint(n, (min(BATCH, n),))].float() / 255 - mean
        h = F.dropout(F.relu(encode(F.dropout(x, DROPOUT))), DROPOUT)
        loss = F.mse_loss(decode(h), x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return encode


def near_duplicate_files(files: ImageFiles, *, progress: bool | None = None) -> list[list[int]]:
    """Return the indices of near duplicates among files, grouped, by an autoencoder's codes."""
    indices: list[int] = []
    images: list[np.ndarray] = []
    task, text = DecodeImage(_FRAME), f"reading {files.name}"
    with closing(process_files(files, task, text, progress)) as results:
        for index, result in results:
            if not isinstance(result, DataError):
                indices.append(index)
                images.append(np.frombuffer(result, np.uint8).reshape(3, SIDE, SIDE))
    order = np.argsort(indices)
    groups = group_by_codes(np.stack([images[i] for i in order])) if images else []
    return [[indices[order[i]] for i in group] for group in groups]


def near_duplicate_rows(dataset: Dataset) -> list[list[str]]:
    """Return the near duplicates of a dataset of arrays, grouped, by names such as train/17."""
    names: list[str] = []
    images: list[np.ndarray] = []
    for name, split in (("train", dataset.train), ("valid", dataset.valid), ("test", dataset.test)):
        if not isinstance(split, Split):
            continue
        for start in range(0, len(split), _BLOCK_ROWS):
            rows = split.read(slice(start, start + _BLOCK_ROWS))
            names += [f"{name}/{start + i}" for i in range(len(rows))]
            images += [_resize_row(row, split.white_level) for row in rows]
    return [[names[i] for i in group] for group in group_by_codes(np.stack(images))]


def _resize_row(row: np.ndarray, white: int) -> np.ndarray:
    resized = to_pil_image(row, white).convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return np.asarray(resized).transpose(2, 0, 1)


def group_names(files: ImageFiles, groups: list[list[int]]) -> list[list[str]]:
    """Return the names of grouped files."""
    return [[display_name(files.keys[number]) for number in group] for group in groups]


def remove_duplicates(files: ImageFiles, groups: list[list[int]]) -> ImageFiles:
    """Return the files without all but the first of each group of duplicates."""
    dropped = {number for group in groups for number in sorted(group)[1:]}
    kept = [number for number in range(len(files.keys)) if number not in dropped]
    declared = files.declared
    return replace(
        files,
        keys=tuple(files.keys[number] for number in kept),
        declared=declared and declared.subset(kept),
    )
