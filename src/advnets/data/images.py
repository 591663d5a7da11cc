"""A folder of pictures, flat or nested, of whatever sizes and kinds."""

from __future__ import annotations

import hashlib
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from advnets.config import Data
from advnets.data.decode import decode, is_picture
from advnets.data.source import Broken, Pictures, Splits
from advnets.errors import DataError

_ENOUGH_TO_SPLIT = 50


def open_picture_folder(folder: Path, data: Data) -> Splits:
    """Open a folder, bringing each picture to `data.size` and `data.channels`.

    Pictures are in the order of their names. Of 50 or more about a tenth each, chosen by a hash of
    the name, are for validation and test, so that a picture stays where it is as the folder grows;
    fewer are all for training. Files that cannot be read are in `Splits.broken`; hidden files, and
    those that are no pictures by their names, are passed over.

    Raises:
        DataError: no file in the folder is a picture that can be read.
    """
    broken: list[Broken] = []
    with warnings.catch_warnings():
        # Pillow warns of odd metadata that do not touch the pixels; what does is an error.
        warnings.simplefilter("ignore")
        paths = {_name(path, folder): path for path in _walk(folder, broken)}
        names = sorted(paths)
        images, reasons = _decode([paths[name] for name in names], data)
    broken += [Broken(_shown(name), reasons[i]) for i, name in enumerate(names) if i in reasons]
    broken.sort(key=lambda file: file.name)
    whole = np.array([i not in reasons for i in range(len(names))], dtype=bool)
    if not whole.any():
        found = "no file in it is a picture"
        if broken:
            found = f"none of its {len(broken)} can be read ({broken[0].name} {broken[0].reason})"
        raise DataError(
            f"{folder} has nothing to train on, as {found}; "
            f"give a folder of PNG, JPEG or other pictures"
        )
    if not whole.all():
        images = images[whole]
    kept = [name for name, good in zip(names, whole, strict=True) if good]
    return Splits(folder.resolve().name, *_split(Pictures(images), kept), tuple(broken))


def _walk(root: Path, broken: list[Broken]) -> list[Path]:
    """The picture files in a folder and in those below it; each real folder is entered once."""
    found: list[Path] = []
    entered: set[tuple[int, int]] = set()
    pending = [root]
    while pending:
        folder = pending.pop()
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in entered:
                continue
            entered.add((status.st_dev, status.st_ino))
            for path in sorted(folder.iterdir()):
                if path.name.startswith("."):
                    continue
                if path.is_dir():
                    pending.append(path)
                elif is_picture(path):
                    found.append(path)
        except OSError as error:
            name = _shown(_name(folder, root))
            broken.append(Broken(name, f"cannot be entered: {error.strerror}"))
    return found


def _decode(paths: list[Path], data: Data) -> tuple[np.ndarray, dict[int, str]]:
    """The pictures, and why those that are missing among them are."""
    images = np.zeros((len(paths), data.channels, data.size, data.size), np.uint8)
    reasons: dict[int, str] = {}

    def decode_one(i: int) -> None:
        try:
            images[i] = decode(paths[i], data.size, data.channels)
        except DataError as error:
            reasons[i] = str(error)

    # Pillow lets go of the interpreter while it decodes and resizes, so threads are enough.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(decode_one, range(len(paths))):
            pass
    return images, reasons


def _split(
    pictures: Pictures, names: list[bytes]
) -> tuple[Pictures, Pictures | None, Pictures | None]:
    if len(pictures) < _ENOUGH_TO_SPLIT:
        return pictures, None, None
    tenth = np.array([_hash(name) % 10 for name in names])
    train, valid, test = (
        pictures.part(tenth < 8),
        pictures.part(tenth == 8),
        pictures.part(tenth == 9),
    )
    return train, valid if len(valid) else None, test if len(test) else None


def _hash(name: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big")


def _name(path: Path, root: Path) -> bytes:
    """The name within the folder, the same on every system; not all names are Unicode."""
    return os.fsencode(path.relative_to(root).as_posix())


def _shown(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")
