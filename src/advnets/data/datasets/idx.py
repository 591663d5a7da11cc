"""A reader of IDX files, the format of MNIST and its variants (LeCun, Cortes and Burges, 1998).

A file is 2 zero bytes, a byte for the type, a byte for the rank, the dimensions as big-endian
32-bit integers, and then the values.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import math
import os
import re
import struct
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from advnets.data.dataset import ArraySplit, Dataset, hold_out_last, renumber_labels
from advnets.data.spec import first_existing
from advnets.errors import DataError
from advnets.files import (
    MIB,
    RATIO,
    Readable,
    is_decompression_bomb,
    is_shape,
    open_data_file,
    read_up_to,
)

_CHUNK = MIB
_MAX_BOMB_BYTES = 256 * MIB
_UNSIGNED_BYTES = 0x08
_TYPES = {
    _UNSIGNED_BYTES: "unsigned bytes",
    0x09: "signed bytes",
    0x0B: "16-bit integers",
    0x0C: "32-bit integers",
    0x0D: "32-bit floats",
    0x0E: "64-bit floats",
}
_NAME = re.compile(
    r"(?P<set>.*?)(?P<split>train|t10k|test)-(?P<what>images|labels)[-.]idx\d-ubyte(\.gz)?"
)
_NAME_PART = "-ubyte"
"""A part of every name that _NAME matches."""
_SPLITS = {"train": "train", "t10k": "test", "test": "test"}
_VALID_DIVISOR = 6
"""The inverse of the fraction of training images that are the validation split."""


def read_idx(path: Path, rank: int, md5: str | None = None) -> UInt8[np.ndarray, "..."]:
    """Read an IDX file of unsigned bytes, gzipped or not (detected by content, not by name).

    Raises:
        DataError: the file is missing or damaged, is not an IDX file, has a wrong type, rank or
            length, or (if `md5` is set) a wrong MD5 of its decompressed content.
    """
    with open_data_file(path) as file:
        return parse_idx(file, path, rank, md5)


def parse_idx(
    file: io.BufferedIOBase, path: Path, rank: int, md5: str | None = None
) -> UInt8[np.ndarray, "..."]:
    """Read an IDX file from a stream, as `read_idx` does; errors name it `path`."""
    compressed_size = _compressed_size(file)
    with _open_decompressed(file, path, compressed_size) as stream:
        header = read_up_to(stream, 4 + 4 * rank)
        shape = _shape(header, rank, path)
        n = math.prod(shape)
        if compressed_size is not None and is_decompression_bomb(
            compressed_size, n, _MAX_BOMB_BYTES
        ):
            raise DataError(
                f"{path} declares that its {compressed_size:,} bytes decompress to {n:,}, more "
                f"than {RATIO} times as many, which no images do; download it again from its "
                "publisher"
            )
        # Read one byte more, to notice a longer file and to make gzip check its checksum.
        body = read_up_to(stream, n + 1)
    if len(body) != n:
        count = "more" if len(body) > n else f"{len(body):,}"
        raise DataError(
            f"{path} must have {' × '.join(map(str, shape))} = {n:,} values, got {count}; download "
            "it again"
        )
    if md5 is not None and _md5([header, body]) != md5:
        raise DataError(
            f"{path} is not the original file: its decompressed MD5 must be {md5}, got "
            f"{_md5([header, body])}; download it again, or open another dataset by the path of "
            "its folder"
        )
    return np.frombuffer(body, np.uint8).reshape(shape)


def _shape(header: bytearray, rank: int, path: Path) -> tuple[int, ...]:
    if len(header) < 4 or not header.startswith(b"\0\0") or header[2] not in _TYPES:
        raise DataError(
            f"{path} must start with the bytes '00 00 08 {rank:02x}', as an IDX file does, got "
            f"'{header[:4].hex(' ')}'; replace it with the right file"
        )
    if (header[2], header[3]) != (_UNSIGNED_BYTES, rank):
        raise DataError(
            f"{path} must have unsigned bytes of rank {rank}, got {_TYPES[header[2]]} of rank "
            f"{header[3]}; replace it with the right file"
        )
    if len(header) < 4 + 4 * rank:
        raise DataError(f"{path} is truncated within its header; download it again")
    shape = struct.unpack(f">{rank}I", header[4:])
    if not is_shape(shape):
        raise DataError(
            f"{path} declares the impossible shape {' × '.join(map(str, shape))}; download it again"
        )
    return shape


def decompressed_md5(path: Path) -> str:
    """Return the MD5 of a file's content, decompressed if it is gzipped.

    Raises:
        DataError: the file is missing or damaged.
    """
    with (
        open_data_file(path) as file,
        _open_decompressed(file, path, _compressed_size(file)) as stream,
    ):
        return _md5(iter(lambda: stream.read(_CHUNK), b""))


def find_idx(folder: Path, name: str) -> Path | None:
    """Return the path of an IDX file in a folder, gzipped preferred, or None."""
    return first_existing((folder / f"{name}.gz", folder / name))


def read_images(
    images_file: Path, labels: Path | None, md5s: tuple[str | None, str | None] = (None, None)
) -> ArraySplit:
    """Read gray images and optionally their labels.

    Raises:
        DataError: as for `read_idx`; or there are no images, or a different number of labels.
    """
    values = read_idx(images_file, 3, md5s[0])
    if not values.size:
        raise DataError(f"{images_file} contains no images; replace it with the right file")
    images = np.ascontiguousarray(values[:, None])
    if labels is None:
        return ArraySplit(images)
    classes = read_idx(labels, 1, md5s[1])
    if len(classes) != len(images):
        raise DataError(
            f"{labels} must have one label per image, got {len(classes):,} labels for the "
            f"{len(images):,} images of {images_file}; use files of the same dataset"
        )
    return ArraySplit(images, classes.astype(np.int64))


def hold_out_sixth(images: ArraySplit) -> tuple[ArraySplit, ArraySplit | None]:
    """Split off the last sixth (10,000 of MNIST's 60,000 images) as the validation split."""
    return hold_out_last(images, len(images) // _VALID_DIVISOR)


def is_idx_folder(path: Path) -> bool:
    """Return whether a path is a folder with IDX files."""
    return path.is_dir() and bool(_files(path))


def open_idx_folder(folder: Path) -> Dataset:
    """Open a folder with IDX files that are named as those of MNIST or EMNIST.

    The last sixth of the training images is the validation split.

    Raises:
        DataError: there are no training images or several datasets, or a file is damaged.
    """
    files = _files(folder)
    if "train images" not in files:
        raise DataError(
            f"{folder} has no training images, got only {files.popitem()[1].name}; add a file such "
            "as train-images-idx3-ubyte.gz"
        )
    images = read_images(files["train images"], files.get("train labels"))
    train, valid = hold_out_sixth(images)
    test = None
    if "test images" in files:
        test = read_images(files["test images"], files.get("test labels"))
        if test.images.shape[1:] != train.images.shape[1:]:
            raise DataError(
                f"{files['test images']} must have images of the size of {files['train images']}, "
                f"{train.images.shape[2:]}, got {test.images.shape[2:]}; use files of the same "
                "dataset"
            )
    (train, valid, test), classes = renumber_labels(train, valid, test)
    return Dataset(folder.resolve().name, train, valid, test, classes=classes)


def _files(folder: Path) -> dict[str, Path]:
    """Return the IDX files of a folder by their role, such as "train images"."""
    files: dict[str, Path] = {}
    sets: set[str] = set()
    # In sorted order a gzipped file follows and replaces the other, as in `find_idx`. Sort only
    # IDX files, as this function is called for any folder, which may have many other files.
    names = [name for name in os.listdir(folder) if _NAME_PART in name]  # noqa: PTH208 - half the time
    for path in sorted(folder / name for name in names):
        if (match := _NAME.fullmatch(path.name)) and path.is_file():
            files[f"{_SPLITS[match['split']]} {match['what']}"] = path
            sets.add(match["set"])
    if len(sets) > 1:
        raise DataError(
            f"{folder} must have the IDX files of one dataset, got {len(sets)} sets "
            f"({', '.join(sorted(sets))}); move each to its own folder"
        )
    return files


def _compressed_size(file: io.BufferedIOBase) -> int | None:
    """Return the size of a gzip file in bytes, or None for any other file."""
    compressed = file.read(2) == b"\x1f\x8b"
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    return size if compressed else None


@contextmanager
def _open_decompressed(
    file: io.BufferedIOBase, path: Path, compressed_size: int | None
) -> Generator[Readable]:
    """Open a possibly gzipped file; errors while reading are raised as DataError."""
    if compressed_size is None:
        yield file
        return
    try:
        with gzip.GzipFile(fileobj=file) as stream:
            yield stream
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is a damaged gzip file ({error}); download it again") from None


def _md5(chunks: list[bytearray] | Iterator[bytes]) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()
