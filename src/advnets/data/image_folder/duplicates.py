"""Images that are there more than once, or nearly so."""

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


SIDE, UNITS = 32, 128
STEPS, BATCH, LEARNING_RATE, DROPOUT = 2000, 256, 1e-3, 0.2
_BLOCK = 4096
MAX_CODE_DISTANCE = 12
"""Of two codes, that may differ. Copies encoded anew differ in 2 or 3, unlike images in 25 on."""
_FRAME = Frame(SIDE, SIDE)
_BLOCK_ROWS = 1024


def group_by_codes(images: UInt8[np.ndarray, "n 3 32 32"], seed: int = 0) -> list[list[int]]:
    """The numbers of images whose codes differ in at most 12 bits, where there are two or more.

    Only codes with an equal band of 16 bits are compared, each with the 32 next to it, so that of
    very many that are alike some pairs may be missed.
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
            one, other = order[:-shift], order[shift:]
            near = (key[one] == key[other]) & (group[one] != group[other])
            one, other = one[near], other[near]
            alike = np.bitwise_count(words[one] ^ words[other]).sum(1) <= MAX_CODE_DISTANCE
            group = merge_groups(group, one[alike], other[alike])
    return group_equal(group.tolist())


def autoencoder_codes(
    images: UInt8[np.ndarray, "n 3 32 32"], seed: int = 0
) -> Bool[np.ndarray, "n 128"]:
    """Which of the code's units are active."""
    values = torch.from_numpy(images.reshape(len(images), -1))
    mean = values.float().mean(0) / 255
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encode = _train_encoder(values, mean)
    with torch.no_grad():
        bits = [encode(block.float() / 255 - mean) > 0 for block in values.split(_BLOCK)]
    return torch.cat(bits).numpy()


def _train_encoder(values: UInt8[Tensor, "n pixels"], mean: Float[Tensor, " pixels"]) -> nn.Linear:
    """The encoder of an autoencoder that was trained to make up for what dropout took."""
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
    """The numbers of files that show nearly the same, by an autoencoder's codes."""
    numbers: list[int] = []
    images: list[np.ndarray] = []
    job, text = DecodeImage(_FRAME), f"reading {files.name}"
    with closing(process_files(files, job, text, progress)) as done:
        for number, result in done:
            if not isinstance(result, DataError):
                numbers.append(number)
                images.append(np.frombuffer(result, np.uint8).reshape(3, SIDE, SIDE))
    order = np.argsort(numbers)
    groups = group_by_codes(np.stack([images[i] for i in order])) if images else []
    return [[numbers[order[i]] for i in group] for group in groups]


def near_duplicate_rows(dataset: Dataset) -> list[list[str]]:
    """The same for a set that is arrays already: names such as train/17."""
    names: list[str] = []
    images: list[np.ndarray] = []
    for name, part in (("train", dataset.train), ("valid", dataset.valid), ("test", dataset.test)):
        if not isinstance(part, Split):
            continue
        for start in range(0, len(part), _BLOCK_ROWS):
            rows = part.read(slice(start, start + _BLOCK_ROWS))
            names += [f"{name}/{start + i}" for i in range(len(rows))]
            images += [_resize_row(row, part.white_level) for row in rows]
    return [[names[i] for i in group] for group in group_by_codes(np.stack(images))]


def _resize_row(row: np.ndarray, white: int) -> np.ndarray:
    resized = to_pil_image(row, white).convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return np.asarray(resized).transpose(2, 0, 1)


def group_names(files: ImageFiles, groups: list[list[int]]) -> list[list[str]]:
    """The names of files, group by group."""
    return [[display_name(files.keys[number]) for number in group] for group in groups]


def remove_duplicates(files: ImageFiles, groups: list[list[int]]) -> ImageFiles:
    """The collection with the first file of each group alone."""
    dropped = {number for group in groups for number in sorted(group)[1:]}
    kept = [number for number in range(len(files.keys)) if number not in dropped]
    placed = files.declared
    return replace(
        files,
        keys=tuple(files.keys[number] for number in kept),
        splits=placed and placed.subset(kept),
    )
