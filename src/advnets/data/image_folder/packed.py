"""A pack, opened: mapped into memory, which holds of it only what is in use."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np

from advnets.data.dataset import ArraySplit, Splits
from advnets.data.image_folder.decode import Frame
from advnets.data.image_folder.random_crop import Uncut
from advnets.data.image_folder.splits import SPLITS
from advnets.data.skipped_file import SkippedFile
from advnets.errors import DataError, UsageError
from advnets.files import open_regular_file, read_regular_file, write_json

VERSION = 3
# What a record or an array's header makes of bytes that are not its own.
_FAULTS = (
    *(OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError),
    *(EOFError, SyntaxError, OverflowError, MemoryError, TokenError, UsageError),
)
RECORD, IMAGES, UNCUT, PLACES, LABELS = (
    *("pack.json", "images.npy", "uncut.bin", "places.npy", "labels.npy"),
)
_ARRAYS = (IMAGES, UNCUT, PLACES, LABELS)
PACK_AGAIN = "pack the images again"
"""How messages about a pack that cannot be used end."""
_CHUNK = 4 << 20
_MAX_RECORD_BYTES = 1 << 30


def is_pack(path: Path) -> bool:
    """Whether a path is a folder with a pack."""
    return (path / RECORD).is_file()


def write_record(
    folder: Path,
    frame: Frame,
    *,
    name: str,
    counts: Sequence[int],
    classes: Sequence[str],
    broken: Sequence[SkippedFile],
    unused: Mapping[str, int],
    notes: Sequence[str],
    identity: str,
) -> None:
    """Write pack.json: what the arrays of a folder are, and the checksums of all files.

    `identity` tells what the pack was made of and how.

    `counts` are the pictures for training, validation and test and those without labels, in whose
    order the arrays are.
    """
    record = {
        "version": VERSION,
        "name": name,
        "frame": asdict(frame),
        "counts": list(counts),
        "classes": list(classes),
        "broken": [[file.name, file.reason] for file in broken],
        "unused": dict(unused),
        "notes": list(notes),
        "identity": identity,
        "digests": [""] * len(SPLITS),
        "checksums": _checksums(folder),
    }
    record["digests"] = [part.digest() for part in _parts(folder, record)]
    write_json(folder / RECORD, record | {"checksum": _record_checksum(record)})


def open_pack(path: Path, identity: str | None = None) -> Splits:
    """Open a pack whose files all have the checksums they were written with.

    With `identity`, the pack must have been written with that one.

    Raises:
        DataError: it is of another version or identity, or a file is not as it was written.
    """
    try:
        record = json.loads(read_regular_file(path / RECORD, _MAX_RECORD_BYTES).decode())
        if record["version"] != VERSION:
            raise DataError(
                f"{path} is a pack of version {record['version']}, but {VERSION} was expected; "
                f"{PACK_AGAIN}"
            )
        if damaged := _damaged(path, record):
            raise DataError(f"{path} is damaged: {damaged} is not as it was written; {PACK_AGAIN}")
        if identity not in (None, record["identity"]):
            raise DataError(f"{path} is a pack of other images; {PACK_AGAIN}")
        return _splits(path, record)
    except _FAULTS as error:
        raise DataError(
            f"{path} is no pack that can be read ({type(error).__name__}: {error}); {PACK_AGAIN}"
        ) from None


def _damaged(folder: Path, record: dict[str, Any]) -> str | None:
    """Return the name of the first file that is not as it was written, or None."""
    content = {name: value for name, value in record.items() if name != "checksum"}
    if record["checksum"] != _record_checksum(content):
        return RECORD
    found, expected = _checksums(folder), record["checksums"]
    return next((name for name in _ARRAYS if found.get(name) != expected.get(name)), None)


def _checksums(folder: Path) -> dict[str, int]:
    """Return the CRC-32 of each array's file, read through once: 7 GiB/s, no slower than a disk."""
    return {name: _crc32(folder / name) for name in _ARRAYS if (folder / name).exists()}


def _crc32(path: Path) -> int:
    checksum, chunk = 0, memoryview(bytearray(_CHUNK))
    with open_regular_file(path) as file:
        while size := file.readinto(chunk):
            checksum = zlib.crc32(chunk[:size], checksum)
    return checksum


def _record_checksum(record: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(record, sort_keys=True).encode())


def _splits(folder: Path, record: dict[str, Any]) -> Splits:
    train, valid, test, unlabeled = _parts(folder, record)
    return Splits(
        name=str(record["name"]),
        train=train,
        valid=valid if len(valid) else None,
        test=test if len(test) else None,
        broken=tuple(SkippedFile(str(name), str(reason)) for name, reason in record["broken"]),
        classes=tuple(map(str, record["classes"])),
        unlabeled=unlabeled if len(unlabeled) else None,
        unused={str(kind): int(count) for kind, count in record["unused"].items()},
        notes=tuple(map(str, record["notes"])),
    )


def _parts(folder: Path, record: dict[str, Any]) -> list[ArraySplit | Uncut]:
    """Return the pictures of each split, of which all but the first may be empty."""
    frame = Frame(**record["frame"])
    counts = [int(count) for count in record["counts"]]
    bounds = list(pairwise(np.cumsum([0, *counts]).tolist()))
    digests = [str(digest) or None for digest in record["digests"]]
    rows = len(np.load(folder / (PLACES if frame.crop == "random" else IMAGES), mmap_mode="r"))
    if rows != sum(counts):
        raise ValueError(f"{sum(counts)} pictures are counted, but there are {rows}")
    if len(counts) != len(SPLITS) or min(counts) < 0 or not counts[0]:
        raise ValueError(f"counts are {counts}")
    return [
        _part(folder, frame, slice(*bound), digest)
        for bound, digest in zip(bounds, digests, strict=True)
    ]


def _part(folder: Path, frame: Frame, rows: slice, digest: str | None) -> ArraySplit | Uncut:
    labels = None
    if (folder / LABELS).exists():
        labels = _array(folder / LABELS, np.int64, ())[rows]
        if (labels < 0).any():  # a part without labels, beside others that have some
            labels = None
    shape = (frame.channels, frame.height, frame.width)
    if frame.crop != "random":
        images = _array(folder / IMAGES, np.uint8, shape)[rows]
        return ArraySplit(images, _checked(labels, len(images)), known=digest)
    places = np.array(_array(folder / PLACES, np.int64, (3,)))
    values = np.memmap(folder / UNCUT, np.uint8, "c")
    ends = places[:, 0] + shape[0] * places[:, 1] * places[:, 2]
    inside = (places[:, 0] >= 0).all() and (ends <= len(values)).all()
    if not inside or (places[:, 1:] < shape[1:]).any():
        raise ValueError(f"{PLACES} names places that are not in {UNCUT}")
    return Uncut(values, places[rows], shape, _checked(labels, len(places[rows])), known=digest)


def _array(path: Path, dtype: type, shape: tuple[int, ...]) -> np.ndarray:
    """A mapped array; writing to it would not reach the file."""
    array = np.load(path, mmap_mode="c", allow_pickle=False)
    if array.dtype != dtype or array.shape[1:] != shape:
        raise ValueError(f"{path.name} holds {array.dtype} of shape {array.shape}")
    return array


def _checked(labels: np.ndarray | None, n: int) -> np.ndarray | None:
    if labels is not None and len(labels) != n:
        raise ValueError(f"{len(labels)} labels for {n} pictures")
    return labels
