"""Files that show nearly the same, and a collection without them."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import numpy as np
from PIL import Image

from advnets.data.dataset import Part, Splits
from advnets.data.image_folder.autoencoder_hash import SIDE, code_groups
from advnets.data.image_folder.decode import Frame, image_of
from advnets.data.image_folder.files import Collection, shown
from advnets.data.image_folder.tasks import Small
from advnets.data.image_folder.workers import all_files
from advnets.errors import DataError

_FRAME = Frame(SIDE, SIDE)
_BLOCK = 1024


def near_files(collection: Collection, *, progress: bool | None = None) -> list[list[int]]:
    """The numbers of files that show nearly the same, by an autoencoder's codes."""
    numbers: list[int] = []
    pictures: list[np.ndarray] = []
    job, text = Small(_FRAME), f"reading {collection.name}"
    with closing(all_files(collection, job, text, progress)) as done:
        for number, result in done:
            if not isinstance(result, DataError):
                numbers.append(number)
                pictures.append(np.frombuffer(result, np.uint8).reshape(3, SIDE, SIDE))
    order = np.argsort(numbers)
    groups = code_groups(np.stack([pictures[i] for i in order])) if pictures else []
    return [[numbers[order[i]] for i in group] for group in groups]


def near_rows(splits: Splits) -> list[list[str]]:
    """The same for a set that is arrays already: names such as train/17."""
    names: list[str] = []
    pictures: list[np.ndarray] = []
    for name, part in (("train", splits.train), ("valid", splits.valid), ("test", splits.test)):
        if not isinstance(part, Part):
            continue
        for start in range(0, len(part), _BLOCK):
            rows = part.read(slice(start, start + _BLOCK))
            names += [f"{name}/{start + i}" for i in range(len(rows))]
            pictures += [_small(row, part.white) for row in rows]
    return [[names[i] for i in group] for group in code_groups(np.stack(pictures))]


def _small(row: np.ndarray, white: int) -> np.ndarray:
    resized = image_of(row, white).convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return np.asarray(resized).transpose(2, 0, 1)


def names_of(collection: Collection, groups: list[list[int]]) -> list[list[str]]:
    """The names of files, group by group."""
    return [[shown(collection.keys[number]) for number in group] for group in groups]


def without(collection: Collection, groups: list[list[int]]) -> Collection:
    """The collection with the first file of each group alone."""
    dropped = {number for group in groups for number in sorted(group)[1:]}
    kept = [number for number in range(len(collection.keys)) if number not in dropped]
    placed = collection.placed
    return replace(
        collection,
        keys=tuple(collection.keys[number] for number in kept),
        placed=placed and placed.part(kept),
    )
