"""Packs: image files decoded once into arrays, which are memory-mapped from then on.

A pack is a folder with pack.json and images.npy, bytes of shape (N, C, H, W); or, for images that
are cropped at random, with uncropped.bin, their values one after the other, and extents.npy, the
offset, height and width of each. labels.npy has the classes, -1 for none, if there are any. The
training images come first, then those for validation, for test, and those without labels.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import shutil
import zlib
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from filelock import Timeout

from advnets.config import ImagePreprocessing
from advnets.data.dataset import ArraySplit, Dataset, RandomCropSplit
from advnets.data.image_folder.decode import Frame
from advnets.data.image_folder.files import ImageFiles, describe_unsupported, list_folder, list_zip
from advnets.data.image_folder.splits import (
    ASSIGNMENT_VERSION,
    SPLITS,
    SplitAssignment,
    assign_splits,
    display_name,
)
from advnets.data.image_folder.workers import DecodeIntoArray, DecodeIntoFile, process_files
from advnets.data.spec import SkippedFile, cache_directory
from advnets.errors import DataError, UsageError, WriteError
from advnets.files import (
    created_folder,
    file_lock,
    fsync,
    open_regular_file,
    read_regular_file,
    write_json,
)

VERSION = 4
"""The version of the format of packs."""
# The exceptions of readers of damaged records and array headers.
_FORMAT_ERRORS = (
    *(OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError),
    *(EOFError, SyntaxError, OverflowError, MemoryError, TokenError, UsageError),
)
RECORD, IMAGES, UNCROPPED, EXTENTS, LABELS = (
    *("pack.json", "images.npy", "uncropped.bin", "extents.npy", "labels.npy"),
)
_ARRAYS = (IMAGES, UNCROPPED, EXTENTS, LABELS)
PACK_AGAIN = "pack the images again"
"""The end of messages about packs that cannot be used."""
_CHUNK = 4 << 20
_MAX_RECORD_BYTES = 1 << 30
_BLOCK = 1024
_UNFINISHED_SUFFIX, _LOCK_SUFFIX = ".unfinished-pack", ".unfinished-pack-lock"
"""The suffixes of the folder of an unfinished pack and of its lock."""
_RESERVED_BYTES = 64 << 20
"""The free space, in bytes, that a disk must have besides the pack."""


def is_image_source(path: Path) -> bool:
    """Return whether a path is a folder or a zip."""
    return path.is_dir() or path.suffix.lower() == ".zip"


def find_images(path: Path, *, follow_links: bool = False) -> ImageFiles:
    """List the image files of a folder or zip without reading them.

    `follow_links` also lists files outside the folder that symbolic links lead to.

    Raises:
        DataError: it is a zip that cannot be read.
    """
    return list_folder(path, follow_links=follow_links) if path.is_dir() else list_zip(path)


def to_dataset(source: Dataset | ImageFiles, preprocessing: ImagePreprocessing) -> Dataset:
    """Return a source as a dataset: image files packed as `preprocessing` says, others unchanged.

    Raises:
        DataError, UsageError, WriteError: as for `open_image_files`; or the background is not a
            color.
    """
    return (
        open_image_files(source, Frame.from_config(preprocessing))
        if isinstance(source, ImageFiles)
        else source
    )


def open_image_files(files: ImageFiles, frame: Frame) -> Dataset:
    """Open the pack of image files from the cache, and make it first if it is absent or damaged.

    Raises:
        DataError: no file is an image that can be read.
        WriteError: the cache cannot be written.
    """
    identity = (
        VERSION,
        ASSIGNMENT_VERSION,
        files.location,
        files.fingerprint,
        len(files.keys),
        frame,
    )
    key = hashlib.blake2b(repr(identity).encode(), digest_size=16).hexdigest()
    folder = cache_directory() / "packs"
    path = folder / key
    if path.exists():
        try:
            return open_pack(path, key)
        except DataError as error:
            message = str(error).removesuffix(PACK_AGAIN)
            logging.getLogger("advnets").warning("%sthe images are packed again now", message)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"{folder}, the cache of packed images, cannot be created ({error.strerror}); "
            f"set ADVNETS_CACHE to a folder that you can write"
        ) from None
    with file_lock(folder / f"{key}.lock"):
        try:
            return open_pack(path, key)  # another process may have made it meanwhile
        except DataError:
            for leftover in (path, *folder.glob(f".{key}.*.part")):
                shutil.rmtree(leftover, ignore_errors=True)
        return pack(files, frame, path, identity=key)


def pack(
    files: ImageFiles, frame: Frame, out: Path, *, progress: bool | None = None, identity: str = ""
) -> Dataset:
    """Decode every image into a new folder `out`, on all cores, and open it.

    The folder is created atomically: complete or not at all. `progress` shows a progress bar, by
    default on a terminal. `identity` is stored in the pack, for `open_pack` to compare.

    Raises:
        UsageError: `out` exists already.
        DataError: no image can be read, or the disk has no space.
        WriteError: the folder cannot be written.
    """
    if out.exists():
        raise _exists_error(out)
    rows = _provisional_rows(files)
    try:
        with _unfinished_folder(out) as folder:
            digests, reasons = _decode_files(files, frame, folder, rows, progress)
            if not digests:
                raise DataError(_no_images_message(files, reasons))
            # Assign the decoded images to splits, now that duplicates are known.
            indices = sorted(digests)
            declared = files.declared_splits(indices)
            keys = [files.keys[i] for i in indices]
            assignment = assign_splits(keys, declared, [digests[i] for i in indices])
            reasons |= {indices[i]: reason for i, reason in assignment.excluded.items()}
            _require_training_images(files.name, assignment)
            # Order the images and drop those that are in no split.
            used_rows = rows[np.array(indices)[assignment.order]]
            if not np.array_equal(used_rows, np.arange(len(rows))):
                _select_rows(folder, used_rows)
            if assignment.labels is not None:
                np.save(folder / LABELS, assignment.labels)
            # Write the record and rename the folder.
            skipped = [
                SkippedFile(display_name(files.keys[i]), reason) for i, reason in reasons.items()
            ]
            write_record(
                folder,
                frame,
                name=files.name,
                counts=assignment.counts,
                classes=declared.classes,
                skipped_files=sorted((*files.skipped_files, *skipped), key=lambda file: file.name),
                unsupported_files=dict(files.unsupported_files.most_common()),
                notes=declared.notes,
                identity=identity,
            )
            for file in folder.iterdir():
                fsync(file)
            folder.rename(out)
    except OSError as error:
        if out.exists():
            raise _exists_error(out) from None  # another process made it meanwhile
        raise WriteError(out, error) from None
    return open_pack(out)


def _exists_error(out: Path) -> UsageError:
    return UsageError(f"{out} exists already; give another path for the pack, or remove it")


def _provisional_rows(files: ImageFiles) -> np.ndarray:
    """Return each file's row in the pack if all can be read and none is a duplicate."""
    indices = np.arange(len(files.keys))
    order = assign_splits(files.keys, files.declared_splits(range(len(indices)))).order
    rows = np.empty_like(indices)
    rows[np.concatenate((order, np.setdiff1d(indices, order)))] = indices
    return rows


def _require_training_images(name: str, assignment: SplitAssignment) -> None:
    """Raise a DataError if no image is for training."""
    if assignment.counts[0]:
        return
    held_out = ", ".join(
        f"{n:,} {split}" for split, n in zip(SPLITS, assignment.counts, strict=True) if n
    )
    others = f"; {len(assignment.excluded):,} more are skipped" if assignment.excluded else ""
    if assignment.cross_split_duplicates:
        others += f", {assignment.cross_split_duplicates:,} of them as copies of held-out images"
    raise DataError(
        f"{name} has no training images ({held_out}{others}); put some into a folder train, or "
        f"give the path of the folder to train on"
    )


def _decode_files(
    files: ImageFiles, frame: Frame, folder: Path, rows: np.ndarray, progress: bool | None
) -> tuple[dict[int, bytes], dict[int, str]]:
    """Decode every file into its row of the pack.

    Returns:
        the digests of the files that were decoded, and the reasons why others were not, both by
        index.
    """
    description = f"packing {files.name}"
    if frame.crop == "random":
        return _decode_uncropped(files, frame, folder, rows, description, progress)
    _require_free_space(folder, len(rows) * frame.channels * frame.height * frame.width)
    shape = (len(rows), frame.channels, frame.height, frame.width)
    np.lib.format.open_memmap(folder / IMAGES, "w+", np.uint8, shape).flush()
    return process_files(
        files, DecodeIntoArray(frame, folder / IMAGES, rows), description, progress
    )


def _decode_uncropped(
    files: ImageFiles,
    frame: Frame,
    folder: Path,
    rows: np.ndarray,
    description: str,
    progress: bool | None,
) -> tuple[dict[int, bytes], dict[int, str]]:
    """Decode files into one file per worker process, join these, and save the extents."""
    decoded, reasons = process_files(files, DecodeIntoFile(frame, folder), description, progress)
    # Join the workers' files.
    part_offsets: dict[str, int] = {}
    with (folder / UNCROPPED).open("wb") as whole:
        for part in sorted(folder.glob("*.part")):
            part_offsets[part.name] = whole.tell()
            with part.open("rb") as file:
                shutil.copyfileobj(file, whole)
            part.unlink()
    # Save where each image is.
    extents = np.zeros((len(rows), 3), np.int64)
    for index, image in decoded.items():
        start = part_offsets[image.file] + image.offset
        extents[rows[index]] = start, image.height, image.width
    np.save(folder / EXTENTS, extents)
    return {index: image.digest for index, image in decoded.items()}, reasons


def _select_rows(folder: Path, rows: np.ndarray) -> None:
    """Reduce an array on disk to some of its rows, in the given order."""
    name = EXTENTS if (folder / EXTENTS).exists() else IMAGES
    old = np.load(folder / name, mmap_mode="r")
    shape = (len(rows), *old.shape[1:])
    new = np.lib.format.open_memmap(folder / f"new-{name}", "w+", old.dtype, shape)
    for start in range(0, len(rows), _BLOCK):
        new[start : start + _BLOCK] = old[rows[start : start + _BLOCK]]
    new.flush()
    del old, new  # Windows cannot replace a file that is mapped
    (folder / f"new-{name}").replace(folder / name)


@contextmanager
def _unfinished_folder(out: Path) -> Generator[Path]:
    """Create a folder next to `out`, which is removed afterwards unless it was renamed.

    Meanwhile this process holds a lock next to the folder, which shows that it is not abandoned.
    """
    with created_folder(out.parent):
        _remove_abandoned(out.parent)
        folder = out.parent / f".{out.name}.{secrets.token_hex(4)}{_UNFINISHED_SUFFIX}"
        # Lock before creating the folder: a folder without a held lock counts as abandoned.
        with file_lock(folder.with_suffix(_LOCK_SUFFIX)):
            try:
                folder.mkdir()
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
                folder.with_suffix(_LOCK_SUFFIX).unlink(missing_ok=True)


def _remove_abandoned(parent: Path) -> None:
    """Remove unfinished packs whose processes were killed."""
    for lock in parent.glob(f".*{_LOCK_SUFFIX}"):
        # Ignore locks that another process holds or another user owns.
        with suppress(Timeout, OSError), file_lock(lock, timeout=0.0) as locked:
            if locked:
                shutil.rmtree(lock.with_suffix(_UNFINISHED_SUFFIX), ignore_errors=True)
                lock.unlink(missing_ok=True)


def _require_free_space(folder: Path, size: int) -> None:
    """Raise a DataError if the disk cannot hold `size` bytes: writing to a mapping would crash."""
    free = shutil.disk_usage(folder).free
    if free < size + _RESERVED_BYTES:
        raise DataError(
            f"the pack needs {size >> 20:,} MiB, but {folder.parent} has {free >> 20:,} MiB free; "
            f"free some space there, or set ADVNETS_CACHE to a folder with more"
        )


def _no_images_message(files: ImageFiles, reasons: dict[int, str]) -> str:
    """Return the message that no file is an image or none can be read."""
    problem = "no file in it is an image"
    unreadable = [f"{file.name} {file.reason}" for file in files.skipped_files]
    unreadable += [f"{display_name(files.keys[i])} {reason}" for i, reason in reasons.items()]
    if unreadable:
        problem = f"none of its {len(unreadable)} images can be read ({unreadable[0]})"
    if lines := describe_unsupported(files.unsupported_files):
        problem += f" ({'; '.join(lines)})"
    return (
        f"{files.name} has no images to train on, as {problem}; "
        f"give a folder or zip of images, such as PNG or JPEG files"
    )


def is_pack(path: Path) -> bool:
    """Return whether a path is a folder with a pack."""
    return (path / RECORD).is_file()


def write_record(
    folder: Path,
    frame: Frame,
    *,
    name: str,
    counts: Sequence[int],
    classes: Sequence[str],
    skipped_files: Sequence[SkippedFile],
    unsupported_files: Mapping[str, int],
    notes: Sequence[str],
    identity: str,
) -> None:
    """Write pack.json: the description of the arrays in a folder, and the checksums of all files.

    `counts` are the numbers of training, validation, test and unlabeled images, which are stored in
    this order. `identity` identifies the files and the frame that the
    pack was made of.
    """
    record = {
        "version": VERSION,
        "name": name,
        "frame": asdict(frame),
        "counts": list(counts),
        "classes": list(classes),
        "skipped_files": [[file.name, file.reason] for file in skipped_files],
        "unsupported_files": dict(unsupported_files),
        "notes": list(notes),
        "identity": identity,
        "digests": [""] * len(SPLITS),
        "checksums": _checksums(folder),
    }
    record["digests"] = [part.digest() for part in _read_splits(folder, record)]
    write_json(folder / RECORD, record | {"checksum": _record_checksum(record)})


def open_pack(path: Path, identity: str | None = None) -> Dataset:
    """Open a pack after verifying the checksums of all its files.

    With `identity`, the pack must have been written with the same one.

    Raises:
        DataError: it is of another version or identity, or a file is damaged.
    """
    try:
        record = json.loads(read_regular_file(path / RECORD, _MAX_RECORD_BYTES).decode())
        if record["version"] != VERSION:
            raise DataError(
                f"{path} is a pack of version {record['version']}, expected version {VERSION}; "
                f"{PACK_AGAIN}"
            )
        if damaged := _find_damaged(path, record):
            raise DataError(f"{path} is damaged: the checksum of {damaged} is wrong; {PACK_AGAIN}")
        if identity not in (None, record["identity"]):
            raise DataError(f"{path} is a pack of other images; {PACK_AGAIN}")
        return _read_dataset(path, record)
    except _FORMAT_ERRORS as error:
        raise DataError(
            f"{path} is not a pack that can be read ({type(error).__name__}: {error}); {PACK_AGAIN}"
        ) from None


def _find_damaged(folder: Path, record: dict[str, Any]) -> str | None:
    """Return the name of the first file whose checksum is wrong, or None."""
    content = {name: value for name, value in record.items() if name != "checksum"}
    if record["checksum"] != _record_checksum(content):
        return RECORD
    found, expected = _checksums(folder), record["checksums"]
    return next((name for name in _ARRAYS if found.get(name) != expected.get(name)), None)


def _checksums(folder: Path) -> dict[str, int]:
    """Return the CRC-32 of each array's file, computed at about 7 GiB/s."""
    return {name: _crc32(folder / name) for name in _ARRAYS if (folder / name).exists()}


def _crc32(path: Path) -> int:
    checksum, chunk = 0, memoryview(bytearray(_CHUNK))
    with open_regular_file(path) as file:
        while size := file.readinto(chunk):
            checksum = zlib.crc32(chunk[:size], checksum)
    return checksum


def _record_checksum(record: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(record, sort_keys=True).encode())


def _read_dataset(folder: Path, record: dict[str, Any]) -> Dataset:
    train, valid, test, unlabeled = _read_splits(folder, record)
    return Dataset(
        name=str(record["name"]),
        train=train,
        valid=valid if len(valid) else None,
        test=test if len(test) else None,
        skipped_files=tuple(
            SkippedFile(str(name), str(reason)) for name, reason in record["skipped_files"]
        ),
        classes=tuple(map(str, record["classes"])),
        unlabeled=unlabeled if len(unlabeled) else None,
        unsupported_files={
            str(kind): int(count) for kind, count in record["unsupported_files"].items()
        },
        notes=tuple(map(str, record["notes"])),
    )


def _read_splits(folder: Path, record: dict[str, Any]) -> list[ArraySplit | RandomCropSplit]:
    """Return the four splits, of which all but the first may be empty."""
    frame = Frame(**record["frame"])
    counts = [int(count) for count in record["counts"]]
    bounds = list(pairwise(np.cumsum([0, *counts]).tolist()))
    digests = [str(digest) or None for digest in record["digests"]]
    rows = len(np.load(folder / (EXTENTS if frame.crop == "random" else IMAGES), mmap_mode="r"))
    if rows != sum(counts):
        raise ValueError(f"expected {sum(counts)} images, got {rows}")
    if len(counts) != len(SPLITS) or min(counts) < 0 or not counts[0]:
        raise ValueError(f"counts of splits are {counts}")
    return [
        _read_split(folder, frame, slice(*bound), digest)
        for bound, digest in zip(bounds, digests, strict=True)
    ]


def _read_split(
    folder: Path, frame: Frame, rows: slice, digest: str | None
) -> ArraySplit | RandomCropSplit:
    labels = None
    if (folder / LABELS).exists():
        labels = _map_array(folder / LABELS, np.int64, ())[rows]
        if (labels < 0).any():  # a split without labels in a partly labeled dataset
            labels = None
    shape = (frame.channels, frame.height, frame.width)
    if frame.crop != "random":
        images = _map_array(folder / IMAGES, np.uint8, shape)[rows]
        return ArraySplit(images, _check_labels(labels, len(images)), known_digest=digest)
    extents = np.array(_map_array(folder / EXTENTS, np.int64, (3,)))
    values = np.memmap(folder / UNCROPPED, np.uint8, "c")
    ends = extents[:, 0] + shape[0] * extents[:, 1] * extents[:, 2]
    inside = (extents[:, 0] >= 0).all() and (ends <= len(values)).all()
    if not inside or (extents[:, 1:] < shape[1:]).any():
        raise ValueError(f"{EXTENTS} exceeds {UNCROPPED}")
    return RandomCropSplit(
        values, extents[rows], shape, _check_labels(labels, len(extents[rows])), known_digest=digest
    )


def _map_array(path: Path, dtype: type, shape: tuple[int, ...]) -> np.ndarray:
    """Return a memory-mapped array; writing to it does not change the file."""
    array = np.load(path, mmap_mode="c", allow_pickle=False)
    if array.dtype != dtype or array.shape[1:] != shape:
        raise ValueError(f"{path.name} holds {array.dtype} of shape {array.shape}")
    return array


def _check_labels(labels: np.ndarray | None, n: int) -> np.ndarray | None:
    if labels is not None and len(labels) != n:
        raise ValueError(f"{len(labels)} labels for {n} images")
    return labels
