"""Pictures packed: decoded once, and from then on mapped into memory as bytes.

A pack is a folder with pack.json and with images.npy, (N, C, H, W) bytes; or, for pictures that are
to be cut anew each time, with uncut.bin, their values one after the other, and places.npy, where
each begins and its height and width. labels.npy has the classes, -1 for none, if there are any. The
training pictures come first, then those for validation, for test, and those without labels.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Generator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import numpy as np
from filelock import Timeout

from advnets.data.dataset import Splits
from advnets.data.image_folder.decode import Frame
from advnets.data.image_folder.files import Collection, shown
from advnets.data.image_folder.packed import IMAGES, LABELS, PLACES, UNCUT, open_pack, write_record
from advnets.data.image_folder.splits import SPLITS, Dealt, dealt
from advnets.data.image_folder.tasks import Append, Piece, Place
from advnets.data.image_folder.unsupported_files import unused_lines
from advnets.data.image_folder.workers import all_files
from advnets.data.skipped_file import SkippedFile
from advnets.errors import DataError, UsageError, WriteError
from advnets.files import file_lock, flush, made_folder

_BLOCK = 1024
_UNFINISHED, _LOCK = ".unfinished-pack", ".unfinished-pack-lock"
"""Endings of the folder of a pack that is being made, and of its lock."""
_SPARE_BYTES = 64 << 20
"""That a disk must have left, besides the pack."""


def pack(
    collection: Collection,
    frame: Frame,
    out: Path,
    *,
    progress: bool | None = None,
    identity: str = "",
) -> Splits:
    """Decode every picture into a new folder `out`, on all cores, and open it.

    The folder appears whole or not at all. `progress` shows a bar, by default on a terminal;
    `identity` is written into the pack, for who opens it to compare.

    Raises:
        UsageError: `out` exists already.
        DataError: no picture can be read, or the disk has no room.
        WriteError: the folder cannot be written.
    """
    if out.exists():
        raise _exists(out)
    rows = _provisional_rows(collection)
    try:
        with _beside(out) as folder:
            digests, reasons = _decoded(collection, frame, folder, rows, progress)
            if not digests:
                raise DataError(_nothing(collection, reasons))
            # Deal what could be read, now that copies are known.
            numbers = sorted(digests)
            placing = collection.placing(numbers)
            keys = [collection.keys[i] for i in numbers]
            deal = dealt(keys, placing, [digests[i] for i in numbers])
            reasons |= {numbers[i]: reason for i, reason in deal.left_out.items()}
            _check_training(collection.name, deal)
            kept = rows[np.array(numbers)[deal.order]]
            if not np.array_equal(kept, np.arange(len(rows))):
                _keep_rows(folder, kept)
            if deal.labels is not None:
                np.save(folder / LABELS, deal.labels)
            left_out = [
                SkippedFile(shown(collection.keys[i]), reason) for i, reason in reasons.items()
            ]
            write_record(
                folder,
                frame,
                name=collection.name,
                counts=deal.counts,
                classes=placing.classes,
                broken=sorted((*collection.broken, *left_out), key=lambda file: file.name),
                unused=dict(collection.others.most_common()),
                notes=placing.notes,
                identity=identity,
            )
            for file in folder.iterdir():
                flush(file)
            folder.rename(out)
    except OSError as error:
        if out.exists():
            raise _exists(out) from None  # another process has made it meanwhile
        raise WriteError(out, error) from None
    return open_pack(out)


def _exists(out: Path) -> UsageError:
    return UsageError(f"{out} exists already; give another place for the pack, or remove it")


def _provisional_rows(collection: Collection) -> np.ndarray:
    """Return each file's row in the pack if all can be read and none is a copy."""
    every = np.arange(len(collection.keys))
    order = dealt(collection.keys, collection.placing(range(len(every)))).order
    rows = np.empty_like(every)
    rows[np.concatenate((order, np.setdiff1d(every, order)))] = every
    return rows


def _check_training(name: str, deal: Dealt) -> None:
    """Refuse pictures of which none is for training."""
    if deal.counts[0]:
        return
    held_out = ", ".join(
        f"{n:,} {split}" for split, n in zip(SPLITS, deal.counts, strict=True) if n
    )
    others = f"; {len(deal.left_out):,} more are left out" if deal.left_out else ""
    if deal.crossing:
        others += f", {deal.crossing:,} of them as copies of held-out ones"
    raise DataError(
        f"{name} has no picture for training ({held_out}{others}); put others into a folder "
        f"train, or give the folder of those that are to be trained on"
    )


def _decoded(
    collection: Collection, frame: Frame, folder: Path, rows: np.ndarray, progress: bool | None
) -> tuple[dict[int, bytes], dict[int, str]]:
    """Decode every file into its row.

    Returns:
        digests of the files that could be read, and the reasons of those that are broken, both by
        their numbers.
    """
    task = f"packing {collection.name}"
    if frame.crop == "random":
        return _loose(collection, frame, folder, rows, task, progress)
    _make_room(folder, len(rows) * frame.channels * frame.height * frame.width)
    shape = (len(rows), frame.channels, frame.height, frame.width)
    np.lib.format.open_memmap(folder / IMAGES, "w+", np.uint8, shape).flush()
    digests: dict[int, bytes] = {}
    reasons: dict[int, str] = {}
    with closing(
        all_files(collection, Place(frame, folder / IMAGES, rows), task, progress)
    ) as done:
        for number, result in done:
            if isinstance(result, DataError):
                reasons[number] = str(result)
            else:
                digests[number] = result
    return digests, reasons


def _loose(
    collection: Collection,
    frame: Frame,
    folder: Path,
    rows: np.ndarray,
    task: str,
    progress: bool | None,
) -> tuple[dict[int, bytes], dict[int, str]]:
    """Decode into a file a process, join these, and note where each picture lies."""
    reasons: dict[int, str] = {}
    found: dict[int, Piece] = {}
    with closing(all_files(collection, Append(frame, folder), task, progress)) as done:
        for number, result in done:
            if isinstance(result, DataError):
                reasons[number] = str(result)
            else:
                found[number] = result
    begins: dict[str, int] = {}
    with (folder / UNCUT).open("wb") as whole:
        for part in sorted(folder.glob("*.part")):
            begins[part.name] = whole.tell()
            with part.open("rb") as file:
                shutil.copyfileobj(file, whole)
            part.unlink()
    places = np.zeros((len(rows), 3), np.int64)
    for number, piece in found.items():
        places[rows[number]] = begins[piece.part] + piece.start, piece.height, piece.width
    np.save(folder / PLACES, places)
    return {number: piece.digest for number, piece in found.items()}, reasons


def _keep_rows(folder: Path, rows: np.ndarray) -> None:
    """Keep some rows alone, in the given order."""
    name = PLACES if (folder / PLACES).exists() else IMAGES
    old = np.load(folder / name, mmap_mode="r")
    shape = (len(rows), *old.shape[1:])
    new = np.lib.format.open_memmap(folder / f"new-{name}", "w+", old.dtype, shape)
    for start in range(0, len(rows), _BLOCK):
        new[start : start + _BLOCK] = old[rows[start : start + _BLOCK]]
    new.flush()
    del old, new  # some systems do not replace a file that is mapped
    (folder / f"new-{name}").replace(folder / name)


@contextmanager
def _beside(out: Path) -> Generator[Path]:
    """Give a new folder next to `out`, which is gone afterwards unless it was renamed.

    While this process lives it holds a lock beside the folder, by which others see that it is not
    abandoned.
    """
    with made_folder(out.parent):
        _remove_abandoned(out.parent)
        folder = out.parent / f".{out.name}.{secrets.token_hex(4)}{_UNFINISHED}"
        # Lock before the folder is there: what has no lock any more is abandoned.
        with file_lock(folder.with_suffix(_LOCK)):
            try:
                folder.mkdir()
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
                folder.with_suffix(_LOCK).unlink(missing_ok=True)


def _remove_abandoned(parent: Path) -> None:
    """Remove the unfinished packs in a folder whose processes were killed."""
    for lock in parent.glob(f".*{_LOCK}"):
        # Another process may hold it, or it is another user's.
        with suppress(Timeout, OSError), file_lock(lock, timeout=0.0) as locked:
            if locked:
                shutil.rmtree(lock.with_suffix(_UNFINISHED), ignore_errors=True)
                lock.unlink(missing_ok=True)


def _make_room(folder: Path, size: int) -> None:
    # A mapped file that finds no room while it is filled ends the process without a word.
    free = shutil.disk_usage(folder).free
    if free < size + _SPARE_BYTES:
        raise DataError(
            f"the pack takes {size >> 20:,} MiB, but {folder.parent} has {free >> 20:,} MiB left; "
            f"make room there, or set ADVNETS_CACHE to a folder that has it"
        )


def _nothing(collection: Collection, reasons: dict[int, str]) -> str:
    found = "no file in it is a picture"
    broken = [f"{file.name} {file.reason}" for file in collection.broken]
    broken += [f"{shown(collection.keys[i])} {reason}" for i, reason in reasons.items()]
    if broken:
        found = f"none of its {len(broken)} can be read ({broken[0]})"
    if unused := unused_lines(collection.others):
        found += f" ({'; '.join(unused)})"
    return (
        f"{collection.name} has nothing to train on, as {found}; "
        f"give a folder or zip of PNG, JPEG or other pictures"
    )
