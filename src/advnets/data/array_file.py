"""Arrays of images in .npy and .npz files, read block by block, without unpickling."""

from __future__ import annotations

import math
import zipfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from advnets.data.dataset import Dataset
from advnets.data.memory import Pixels, array_to_pixels, assign_to_splits, read_labels
from advnets.errors import DataError, UsageError
from advnets.files import open_regular_file

_BLOCK_BYTES = 64 << 20
_MAX_PIXELS = 8 << 30
"""The largest number of pixel values in an array, which memory holds as bytes."""
_MAX_HEADER = 10_000
_READ_ERRORS = (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error, RuntimeError)
"""The errors of numpy and zipfile for damaged or encrypted files."""


@dataclass(frozen=True)
class _Header:
    """The shape and type of an array in a file."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran_order: bool


def is_image_array(path: Path) -> bool:
    """Return whether a path is an .npz file, or an .npy file whose array has 3 or more axes."""
    if path.suffix.lower() == ".npz":
        return path.is_file()
    if path.suffix.lower() != ".npy" or not path.is_file():
        return False
    try:
        with open_regular_file(path) as file:
            return len(_read_header(file, objects=True).shape) > 2
    except _READ_ERRORS:
        return False


def open_image_array(path: Path, *, stream: bool = False) -> Dataset:
    """Open the array `images` of a file, with the array `labels` if there is one.

    The images in an .npz file may have another name if no other array has 3 or 4 axes. Shapes,
    values and splits are those of `open_in_memory`.

    Raises:
        DataError: the file is damaged or too large, or contains Python objects.
        UsageError: it has no images, images or labels have an invalid shape or range, or streaming
            was requested.
    """
    name = "images.npy"
    if stream:
        raise UsageError(f"stream applies to shards, and {path} is an array; leave it out")
    try:
        if path.suffix.lower() == ".npy":
            with open_regular_file(path) as file:
                pixels, labels = _read_pixels(file, "the array"), None
        else:
            with open_regular_file(path) as file, zipfile.ZipFile(file) as archive:
                name = _image_member(archive)
                with archive.open(name) as member:
                    pixels = _read_pixels(member, name.removesuffix(".npy"))
                labels = _read_labels(archive)
        labeled = None if labels is None else read_labels(labels, len(pixels))
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    except _READ_ERRORS as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
        raise DataError(
            f"{path} cannot be read ({reason or type(error).__name__}); save it again with "
            "numpy.savez or numpy.save"
        ) from None
    dataset = assign_to_splits(path.stem, pixels, labeled)
    if path.suffix.lower() == ".npy" or name == "images.npy":
        return dataset
    missing = "images" if labels is not None else "images and labels"
    note = (
        f"{path} has no arrays named {missing}; its array {name.removesuffix('.npy')} is read as "
        f"the images" + ("" if labels is not None else ", without labels")
    )
    return replace(dataset, notes=(note,))


def _image_member(archive: zipfile.ZipFile) -> str:
    """Return the name of the member of an .npz file that holds the images."""
    names = [name for name in archive.namelist() if name.endswith(".npy")]
    if "images.npy" in names:
        return "images.npy"
    found: list[str] = []
    for name in names:
        with archive.open(name) as member:
            found += [name] if len(_read_header(member).shape) in (3, 4) else []
    if len(found) != 1:
        listed = ", ".join(name.removesuffix(".npy") for name in names[:10]) or "none"
        raise UsageError(f"its arrays are {listed}; save the images as images, labels as labels")
    return found[0]


def _read_header(file: Any, *, objects: bool = False) -> _Header:
    """Read the header of an array, and check that it has no Python objects, unless `objects`."""
    version = np.lib.format.read_magic(file)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(f"version {version} of the .npy format")
    shape, fortran_order, dtype = readers[version](file, max_header_size=_MAX_HEADER)
    if dtype.hasobject and not objects:
        raise ValueError("it contains Python objects, which are never unpickled")
    return _Header(shape, dtype, fortran_order)


def _read_pixels(file: Any, name: str) -> Pixels:
    """Read an array of images a block at a time; memory holds its bytes and one block."""
    header = _read_header(file)
    if header.fortran_order:
        raise ValueError("it is in Fortran order; apply numpy.ascontiguousarray first")
    if math.prod(header.shape) > _MAX_PIXELS:
        raise ValueError(f"it has more than {_MAX_PIXELS:,} values; save the images as files")
    # Find the layout with an array of the same shape that takes no memory.
    layout = array_to_pixels(np.broadcast_to(np.uint8(0), header.shape), name, channels_last=True)
    pixels = np.empty(layout.shape, np.uint8)
    row = header.dtype.itemsize * math.prod(header.shape[1:])
    rows = max(1, _BLOCK_BYTES // row)
    for start in range(0, len(pixels), rows):
        count = min(rows, len(pixels) - start)
        content = _read_exactly(file, count * row)
        block = np.frombuffer(content, header.dtype).reshape(count, *header.shape[1:])
        pixels[start : start + count] = array_to_pixels(block, name, channels_last=True)
    return pixels


def _read_exactly(file: Any, size: int) -> bytes:
    content = file.read(size)
    if len(content) != size:
        raise EOFError("it ends before its last image")
    return content


def _read_labels(archive: zipfile.ZipFile) -> np.ndarray | None:
    """Return the array `labels` of an .npz file, or None."""
    if "labels.npy" not in archive.namelist():
        return None
    with archive.open("labels.npy") as file:
        header = _read_header(file)
        size = math.prod(header.shape) * header.dtype.itemsize
        if size > _MAX_PIXELS:
            raise ValueError("its labels are too large")
        return np.frombuffer(_read_exactly(file, size), header.dtype).reshape(header.shape)
