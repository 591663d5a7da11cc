"""Near duplicates by the code that an autoencoder of the set itself gives them.

Source: Radford et al. 2015, section 4.1: a 3072-128-3072 denoising autoencoder with rectifiers and
dropout, on 32 x 32 center crops; the bits of a code say which of its 128 units are active. The
paper takes images of one code for one; here some bits may differ, as a copy's do that was encoded
anew. Codes are compared within bands, in time about proportional to the number of images.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from advnets.data.dataset import Dataset, Split
from advnets.data.image_folder.decode import Frame, to_pil_image
from advnets.data.image_folder.duplicates import group_equal, merge_groups
from advnets.data.image_folder.files import ImageFiles, display_name
from advnets.data.image_folder.workers import DecodeImage, process_files
from advnets.errors import DataError

SIDE, UNITS = 32, 128
STEPS, BATCH, LEARNING_RATE, DROPOUT = 2000, 256, 1e-3, 0.2
_BLOCK = 4096
MAX_CODE_DISTANCE = 12
"""Of two codes, that may differ. Copies encoded anew differ in 2 or 3, unlike images in 25 on."""
_NEIGHBORS = 32
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
