"""IDX files, the format of MNIST and its kin (LeCun, Cortes and Burges, 1998).

A file is 2 zero bytes, a byte for the type, a byte for the rank, the lengths of the axes as
big-endian 32-bit integers, and then the values.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import math
import re
import struct
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from advnets.data.places import first_existing
from advnets.data.source import Pictures, Splits, hold_out_last
from advnets.errors import DataError

_CHUNK = 1 << 20
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
_SPLITS = {"train": "train", "t10k": "test", "test": "test"}
_HELD_OUT = 6  # one training picture in six is for validation: 10,000 of MNIST's 60,000


def read_idx(path: Path, rank: int, md5: str | None = None) -> UInt8[np.ndarray, "..."]:
    """Read an IDX file of unsigned bytes, gzipped or not (its content tells, not its name).

    Raises:
        DataError: the file is absent or damaged, is no IDX file, has another type or rank, is
            shorter or longer than it says, or (where `md5` is given) has other unpacked content.
    """
    with _unpacked(path) as stream:
        header = _read(stream, 4 + 4 * rank)
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
        # One byte more than there should be: it shows a longer file, and makes gzip check its sum.
        body = _read(stream, math.prod(shape) + 1)
    if len(body) != math.prod(shape):
        found = "more" if len(body) > math.prod(shape) else f"{len(body):,}"
        raise DataError(
            f"{path} says that it holds {' × '.join(map(str, shape))} = {math.prod(shape):,} "
            f"values, but there are {found}; bring it anew"
        )
    if md5 is not None and _md5([header, body]) != md5:
        raise DataError(
            f"{path} is not the original file, as its unpacked MD5 is {_md5([header, body])} and "
            f"not {md5}; bring it anew, or open another set by the path of its folder"
        )
    return np.frombuffer(body, np.uint8).reshape(shape)


def unpacked_md5(path: Path) -> str:
    """The MD5 of a file's content, of its unpacked content if it is gzipped.

    Raises:
        DataError: the file is absent or damaged.
    """
    with _unpacked(path) as stream:
        return _md5(iter(lambda: stream.read(_CHUNK), b""))


def find_idx(folder: Path, name: str) -> Path | None:
    """The IDX file of that name in a folder, gzipped before not, or None."""
    return first_existing((folder / f"{name}.gz", folder / name))


def read_pictures(
    images: Path, labels: Path | None, md5s: tuple[str | None, str | None] = (None, None)
) -> Pictures:
    """Read grey pictures and, where there is such a file, their labels.

    Raises:
        DataError: as for `read_idx`; or there is no picture, or another number of labels.
    """
    values = read_idx(images, 3, md5s[0])
    if not values.size:
        raise DataError(f"{images} holds no pictures; put the right file there")
    pictures = np.ascontiguousarray(values[:, None])
    if labels is None:
        return Pictures(pictures)
    classes = read_idx(labels, 1, md5s[1])
    if len(classes) != len(pictures):
        raise DataError(
            f"{labels} holds {len(classes):,} labels, but {images} holds {len(pictures):,} "
            f"pictures; bring both from the same set"
        )
    return Pictures(pictures, classes.astype(np.int64))


def is_idx_folder(path: Path) -> bool:
    """Whether a path is a folder with IDX files."""
    return path.is_dir() and bool(_files(path))


def open_idx_folder(folder: Path) -> Splits:
    """Open a folder with the files of MNIST or of a set that took its shape.

    The last sixth of the training pictures is for validation.

    Raises:
        DataError: no training pictures, several sets in the folder, or a broken file.
    """
    files = _files(folder)
    if "train images" not in files:
        raise DataError(
            f"{folder} has {files.popitem()[1].name} but no training pictures; "
            f"put a file such as train-images-idx3-ubyte.gz there"
        )
    pictures = read_pictures(files["train images"], files.get("train labels"))
    train, valid = hold_out_last(pictures, len(pictures) // _HELD_OUT)
    test = None
    if "test images" in files:
        test = read_pictures(files["test images"], files.get("test labels"))
        if test.images.shape[1:] != train.images.shape[1:]:
            raise DataError(
                f"{files['test images']} has pictures of {test.images.shape[2:]}, but those of "
                f"{files['train images']} are of {train.images.shape[2:]}; "
                f"bring both from the same set"
            )
    return Splits(folder.resolve().name, train, valid, test)


def _files(folder: Path) -> dict[str, Path]:
    """The IDX files of a folder by what they are, such as "train images"."""
    files: dict[str, Path] = {}
    sets: set[str] = set()
    # Packed after unpacked, so that of two the packed one is taken, as `find_idx` does.
    for path in sorted(folder.iterdir()):
        if (match := _NAME.fullmatch(path.name)) and path.is_file():
            files[f"{_SPLITS[match['split']]} {match['what']}"] = path
            sets.add(match["set"])
    if len(sets) > 1:
        raise DataError(
            f"{folder} has IDX files of {len(sets)} sets ({', '.join(sorted(sets))}), but one was "
            f"expected; give each a folder of its own"
        )
    return files


@contextmanager
def _unpacked(path: Path) -> Generator[io.BufferedIOBase]:
    """The file as a stream of its unpacked bytes, whose every fault is a DataError."""
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if packed:
                with gzip.GzipFile(fileobj=file) as stream:
                    yield stream
            else:
                yield file
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is a damaged gzip file ({error}); bring it anew") from None
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}); see that the file is there and yours"
        ) from None


def _read(stream: io.BufferedIOBase, most: int) -> bytearray:
    """At most so many bytes, in chunks: a lying header must not claim the memory it names."""
    content = bytearray()
    while chunk := stream.read(min(_CHUNK, most - len(content))):
        content += chunk
    return content


def _md5(chunks: list[bytearray] | Iterator[bytes]) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()
