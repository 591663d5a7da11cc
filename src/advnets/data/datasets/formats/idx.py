"""IDX files, the format of MNIST and its kin (LeCun, Cortes and Burges, 1998).

A file is 2 zero bytes, a byte for the type, a byte for the rank, the lengths of the axes as
big-endian 32-bit integers, and then the values.
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
from advnets.data.datasets.formats.limits import MIB, RATIO, Readable, is_bomb, is_shape, read_up_to
from advnets.data.spec import first_existing
from advnets.errors import DataError
from advnets.files import open_data_file

_CHUNK = MIB
_LARGE = 256 * MIB
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
_MARK = "-ubyte"  # in every name that _NAME matches
_SPLITS = {"train": "train", "t10k": "test", "test": "test"}
_HELD_OUT = 6


def read_idx(path: Path, rank: int, md5: str | None = None) -> UInt8[np.ndarray, "..."]:
    """Read an IDX file of unsigned bytes, gzipped or not (its content tells, not its name).

    Raises:
        DataError: the file is absent or damaged, is no IDX file, has another type or rank, is
            shorter or longer than it says, or (where `md5` is given) has other unpacked content.
    """
    with open_data_file(path) as file:
        return parse_idx(file, path, rank, md5)


def parse_idx(
    file: io.BufferedIOBase, path: Path, rank: int, md5: str | None = None
) -> UInt8[np.ndarray, "..."]:
    """Read an IDX file from a stream; `path` is what errors call it. Raises as `read_idx`."""
    packed = _packed_size(file)
    with _unpacked(file, path, packed) as stream:
        header = read_up_to(stream, 4 + 4 * rank)
        shape = _shape(header, rank, path)
        n = math.prod(shape)
        if packed is not None and is_bomb(packed, n, _LARGE):
            raise DataError(
                f"{path} says that its {packed:,} bytes unpack to {n:,}, but images pack to no "
                f"less than 1 in {RATIO}; bring it anew from where it was published"
            )
        # One byte more than there should be: it shows a longer file, and makes gzip check its sum.
        body = read_up_to(stream, n + 1)
    if len(body) != n:
        found = "more" if len(body) > n else f"{len(body):,}"
        raise DataError(
            f"{path} says that it holds {' × '.join(map(str, shape))} = {n:,} values, but there "
            f"are {found}; bring it anew"
        )
    if md5 is not None and _md5([header, body]) != md5:
        raise DataError(
            f"{path} is not the original file, as its unpacked MD5 is {_md5([header, body])} and "
            f"not {md5}; bring it anew, or open another set by the path of its folder"
        )
    return np.frombuffer(body, np.uint8).reshape(shape)


def _shape(header: bytearray, rank: int, path: Path) -> tuple[int, ...]:
    if len(header) < 4 or not header.startswith(b"\0\0") or header[2] not in _TYPES:
        raise DataError(
            f"{path} begins with the bytes '{header[:4].hex(' ')}', but an IDX file begins "
            f"with '00 00 08 {rank:02x}'; put the right file there"
        )
    if (header[2], header[3]) != (_UNSIGNED_BYTES, rank):
        raise DataError(
            f"{path} holds {_TYPES[header[2]]} of rank {header[3]}, but unsigned bytes of rank "
            f"{rank} were expected; put the right file there"
        )
    if len(header) < 4 + 4 * rank:
        raise DataError(f"{path} ends within its header; bring it anew")
    shape = struct.unpack(f">{rank}I", header[4:])
    if not is_shape(shape):
        raise DataError(
            f"{path} says that it holds {' × '.join(map(str, shape))} values, which nothing can; "
            f"bring it anew"
        )
    return shape


def unpacked_md5(path: Path) -> str:
    """The MD5 of a file's content, of its unpacked content if it is gzipped.

    Raises:
        DataError: the file is absent or damaged.
    """
    with open_data_file(path) as file, _unpacked(file, path, _packed_size(file)) as stream:
        return _md5(iter(lambda: stream.read(_CHUNK), b""))


def find_idx(folder: Path, name: str) -> Path | None:
    """The IDX file of that name in a folder, gzipped before not, or None."""
    return first_existing((folder / f"{name}.gz", folder / name))


def read_images(
    images_file: Path, labels: Path | None, md5s: tuple[str | None, str | None] = (None, None)
) -> ArraySplit:
    """Read gray images and, where there is such a file, their labels.

    Raises:
        DataError: as for `read_idx`; or there is no image, or another number of labels.
    """
    values = read_idx(images_file, 3, md5s[0])
    if not values.size:
        raise DataError(f"{images_file} holds no images; put the right file there")
    images = np.ascontiguousarray(values[:, None])
    if labels is None:
        return ArraySplit(images)
    classes = read_idx(labels, 1, md5s[1])
    if len(classes) != len(images):
        raise DataError(
            f"{labels} holds {len(classes):,} labels, but {images_file} holds {len(images):,} "
            f"images; bring both from the same set"
        )
    return ArraySplit(images, classes.astype(np.int64))


def hold_out_sixth(images: ArraySplit) -> tuple[ArraySplit, ArraySplit | None]:
    """The images but the last sixth, and that sixth: 10,000 of MNIST's 60,000, for validation."""
    return hold_out_last(images, len(images) // _HELD_OUT)


def is_idx_folder(path: Path) -> bool:
    """Whether a path is a folder with IDX files."""
    return path.is_dir() and bool(_files(path))


def open_idx_folder(folder: Path) -> Dataset:
    """Open a folder with the files of MNIST or of a set that took its shape.

    The last sixth of the training images is for validation.

    Raises:
        DataError: no training images, several sets in the folder, or a broken file.
    """
    files = _files(folder)
    if "train images" not in files:
        raise DataError(
            f"{folder} has {files.popitem()[1].name} but no training images; "
            f"put a file such as train-images-idx3-ubyte.gz there"
        )
    images = read_images(files["train images"], files.get("train labels"))
    train, valid = hold_out_sixth(images)
    test = None
    if "test images" in files:
        test = read_images(files["test images"], files.get("test labels"))
        if test.images.shape[1:] != train.images.shape[1:]:
            raise DataError(
                f"{files['test images']} has images of {test.images.shape[2:]}, but those of "
                f"{files['train images']} are of {train.images.shape[2:]}; "
                f"bring both from the same set"
            )
    (train, valid, test), classes = renumber_labels(train, valid, test)
    return Dataset(folder.resolve().name, train, valid, test, classes=classes)


def _files(folder: Path) -> dict[str, Path]:
    """The IDX files of a folder by what they are, such as "train images"."""
    files: dict[str, Path] = {}
    sets: set[str] = set()
    # Packed after unpacked, so that of two the packed one is taken, as `find_idx` does.
    # Only these are sorted, as there may be many others: any folder is asked whether it has them.
    names = [name for name in os.listdir(folder) if _MARK in name]  # noqa: PTH208 - half the time
    for path in sorted(folder / name for name in names):
        if (match := _NAME.fullmatch(path.name)) and path.is_file():
            files[f"{_SPLITS[match['split']]} {match['what']}"] = path
            sets.add(match["set"])
    if len(sets) > 1:
        raise DataError(
            f"{folder} has IDX files of {len(sets)} sets ({', '.join(sorted(sets))}), but one was "
            f"expected; give each a folder of its own"
        )
    return files


def _packed_size(file: io.BufferedIOBase) -> int | None:
    """The size of a gzip file, None of another."""
    packed = file.read(2) == b"\x1f\x8b"
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    return size if packed else None


@contextmanager
def _unpacked(file: io.BufferedIOBase, path: Path, packed: int | None) -> Generator[Readable]:
    """The file's unpacked bytes, whose every fault is a DataError."""
    if packed is None:
        yield file
        return
    try:
        with gzip.GzipFile(fileobj=file) as stream:
            yield stream
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is a damaged gzip file ({error}); bring it anew") from None


def _md5(chunks: list[bytearray] | Iterator[bytes]) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()
