"""A reader of MATLAB files of level 5 (MathWorks, "MAT-File Format") with numeric arrays.

A file is a header of 128 bytes followed by variables, each possibly compressed by zlib. A variable
is a matrix element that contains the elements flags, dimensions, name and values; an element is a
type, a number of bytes, and the bytes, padded to a multiple of 8. Values are in column-major order,
in the type of the variable or a smaller one that can represent them.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from io import SEEK_END, BufferedIOBase
from pathlib import Path

import numpy as np

from advnets.errors import DataError
from advnets.files import (
    GIB,
    RATIO,
    Readable,
    is_decompression_bomb,
    is_shape,
    open_data_file,
    read_up_to,
)

_HEADER = 128
_TYPES = dict(enumerate(["i1", "u1", "i2", "u2", "i4", "u4", "f4"], 1)) | {
    9: "f8",
    12: "i8",
    13: "u8",
}
_BYTES, _INT, _UINT, _MATRIX, _COMPRESSED = 1, 5, 6, 14, 15
_CLASSES = dict(enumerate(["f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"], 6))
_UNSUPPORTED_CLASSES = {
    1: "a cell array",
    2: "a struct",
    3: "an object",
    4: "text",
    5: "a sparse matrix",
    16: "a function",
    17: "an object",
}
_OPAQUE = 17
_COMPLEX = 0x800
_MAX_NAME_BYTES = 4096
_ZLIB_CHUNK = 1 << 18
"""The number of compressed bytes passed to zlib at a time."""
_LEVEL_4 = 5000
"""The upper bound of the first integer of a file of level 4; later levels start with text."""


def read_mat(path: Path, names: Collection[str]) -> dict[str, np.ndarray]:
    """Read those of the named variables that a file has.

    Arrays have MATLAB's shape and class (logical arrays are uint8) and column-major order.

    Raises:
        DataError: the file is missing, damaged, or not a MATLAB file of level 5; or a named
            variable is not an array of real numbers.
    """
    with open_data_file(path) as file:
        return parse_mat(file, path, names)


def variable_names(path: Path) -> tuple[str, ...]:
    """Return the names of the variables of a file, in order.

    Raises:
        DataError: the file is missing, damaged, or not a MATLAB file of level 5.
    """
    with open_data_file(path) as file:
        return parse_names(file, path)


def is_mat(path: Path) -> bool:
    """Return whether a path is a file with the suffix .mat."""
    return path.suffix.lower() == ".mat" and path.is_file()


def to_integers(array: np.ndarray) -> np.ndarray | None:
    """Convert an array to int64, or return None if it has other values than integers."""
    with np.errstate(all="ignore"):
        numbers = array.astype(np.int64)
    return numbers if np.array_equal(numbers, array) else None


def parse_mat(file: BufferedIOBase, path: Path, names: Collection[str]) -> dict[str, np.ndarray]:
    """Read named variables from a stream, as `read_mat` does; errors name it `path`."""
    arrays: dict[str, np.ndarray] = {}
    for variable in _variables(file, path):
        if variable.name in names:
            if variable.name in arrays:
                raise DataError(
                    f"{path} must have one variable {variable.name}, got two; download it again"
                )
            arrays[variable.name] = variable.values()
    return arrays


def parse_names(file: BufferedIOBase, path: Path) -> tuple[str, ...]:
    """Return the names of the variables in a stream, as `variable_names` does."""
    return tuple(variable.name for variable in _variables(file, path))


@dataclass
class _Elements:
    """A sequence of elements in at most `remaining` bytes of a stream."""

    stream: Readable
    remaining: int
    order: str
    path: Path

    def read_tag(self) -> tuple[int, int, bytes | None]:
        """Read the type and length of the next element, and its bytes if it is a small element."""
        first = self.read_bytes(4)
        word = self.decode_uint(first)
        if small := word >> 16:
            if small > 4:
                raise self.damaged_error(
                    f"has a small element of {small} bytes, expected at most 4"
                )
            return word & 0xFFFF, small, bytes(self.read_bytes(4)[:small])
        return word, self.decode_uint(self.read_bytes(4)), None

    def read_element(self, expected_type: int, max_bytes: int) -> bytes:
        """Read the bytes of the next element, which must have that type and length."""
        element_type, n, small = self.read_tag()
        if element_type != expected_type or n > max_bytes:
            raise self.damaged_error(
                f"has an element of {n:,} bytes of type {element_type}, expected at most "
                f"{max_bytes:,} of type {expected_type}"
            )
        if small is not None:
            return small
        content = bytes(self.read_bytes(n))
        self.read_bytes(-n % 8)
        return content

    def read_bytes(self, n: int) -> bytearray:
        """Read n bytes, or raise a DataError."""
        content = read_up_to(self.stream, min(n, self.remaining))
        self.remaining -= len(content)
        if len(content) < n:
            raise self.damaged_error("is truncated")
        return content

    def decode_uint(self, content: bytes | bytearray) -> int:
        """Decode an unsigned integer."""
        return int.from_bytes(content, "little" if self.order == "<" else "big")

    def damaged_error(self, problem: str) -> DataError:
        """Return the error for a damaged file."""
        return DataError(f"{self.path} {problem}; the file is damaged, download it again")


@dataclass
class _Variable:
    """A variable whose values have not been read; `compressed_size` is None if uncompressed."""

    elements: _Elements
    flags: int
    shape: tuple[int, ...]
    name: str
    compressed_size: int | None

    def values(self) -> np.ndarray:
        """Read the values; type and size are checked first."""
        elements, path = self.elements, self.elements.path
        # Check the class of the array and the type in which its values are stored.
        class_code = self.flags & 0xFF
        array_class = _CLASSES.get(class_code)
        if array_class is None or self.flags & _COMPLEX:
            found_type = (
                "an array of complex numbers"
                if array_class
                else _UNSUPPORTED_CLASSES.get(class_code, f"of the unknown class {class_code}")
            )
            raise DataError(
                f"{path} has {self.name}, which is {found_type}, expected an array of real "
                "numbers; replace it with the original file"
            )
        type_code, n, small = elements.read_tag()
        if type_code not in _TYPES:
            raise elements.damaged_error(
                f"has values of the unknown type {type_code} in {self.name}"
            )
        stored = np.dtype(elements.order + _TYPES[type_code])
        final = np.dtype(array_class)
        if stored != final and stored.kind == "f" and final.kind != "f":
            raise elements.damaged_error(f"has {final} stored as {stored} in {self.name}")
        # Check the size before reading.
        count = math.prod(self.shape)
        if n != count * stored.itemsize:
            raise elements.damaged_error(
                f"has {n:,} bytes in {self.name}, expected {count:,} values of {stored.itemsize}"
            )
        decompressed_size = count * max(stored.itemsize, final.itemsize)
        if self.compressed_size is not None and is_decompression_bomb(
            self.compressed_size, decompressed_size, GIB
        ):
            raise DataError(
                f"{path} declares that {self.compressed_size:,} bytes decompress to "
                f"{decompressed_size:,} in {self.name}, more than {RATIO} times as many, "
                "which no images do; download it again from its publisher"
            )
        # Read the values and convert them to the class of the array.
        body = bytearray(small) if small is not None else elements.read_bytes(n)
        self._check_end(-n % 8 if small is None else 0)
        values = np.ndarray(self.shape, stored, body, order="F")
        if stored.newbyteorder("=") == final:
            return values.astype(final, copy=False)
        with np.errstate(all="ignore"):  # float64 represents all values of the stored types
            cast = values.astype(final, order="F")
        if final.kind != "f" and not np.array_equal(cast, values):
            raise elements.damaged_error(f"has values in {self.name} that {final} cannot represent")
        return cast

    def _check_end(self, padding: int) -> None:
        """Check that only padding follows; zlib then checks the checksum."""
        if self.elements.remaining > padding:
            raise self.elements.damaged_error(f"has data after the values of {self.name}")
        self.elements.read_bytes(self.elements.remaining)
        if isinstance(self.elements.stream, _ZlibStream):
            self.elements.stream.check_end()


@dataclass
class _ZlibStream:
    """A zlib stream of at most `remaining` bytes of a file, decompressed as it is read."""

    file: BufferedIOBase
    remaining: int
    path: Path

    def __post_init__(self) -> None:
        self._zlib, self._input = zlib.decompressobj(), b""

    def read(self, n: int, /) -> bytes:
        """Read at most n bytes; none at the end."""
        while n:
            try:
                content = self._zlib.decompress(self._input, n)
            except zlib.error as error:
                raise DataError(
                    f"{self.path} has damaged compressed data ({error}); download it again"
                ) from None
            self._input = self._zlib.unconsumed_tail
            if content or self._zlib.eof:
                return content
            if not self._input:
                self._input = self.file.read(min(_ZLIB_CHUNK, self.remaining))
                self.remaining -= len(self._input)
                if not self._input:
                    return b""
        return b""

    def check_end(self) -> None:
        """Check that this is the end of the stream, with the right checksum."""
        if self.read(1) or not self._zlib.eof or self._zlib.unused_data or self.remaining:
            raise DataError(
                f"{self.path} has a compressed variable of a wrong length; download it again"
            )


def _variables(file: BufferedIOBase, path: Path) -> Iterator[_Variable]:
    """Iterate over the variables of a file; their values must be read before the next one."""
    size = file.seek(0, SEEK_END)
    file.seek(0)
    order = _byte_order(file.read(_HEADER), path)
    start = _HEADER
    while start < size:
        file.seek(start)
        top = _Elements(file, size - start, order, path)
        element_type, n, small = top.read_tag()
        if small is not None or element_type not in (_MATRIX, _COMPRESSED):
            raise top.damaged_error(f"has an element of type {element_type}, expected a variable")
        if n > top.remaining:
            raise top.damaged_error(
                f"has a variable of {n:,} bytes, but only {top.remaining:,} bytes follow"
            )
        start += 8 + n
        if element_type == _MATRIX:
            yield _read_header(_Elements(file, n, order, path), None)
            continue
        # Decompress a compressed variable.
        inner = _Elements(_ZlibStream(file, n, path), 8, order, path)
        element_type, inner.remaining, small = inner.read_tag()
        if small is not None or element_type != _MATRIX:
            raise top.damaged_error(
                f"has a compressed element of type {element_type}, expected a matrix"
            )
        yield _read_header(inner, n)


def _read_header(elements: _Elements, compressed_size: int | None) -> _Variable:
    """Read flags, dimensions and name of a variable, up to its values."""
    flags = elements.decode_uint(elements.read_element(_UINT, 8)[:4])
    shape: tuple[int, ...] = ()
    if flags & 0xFF != _OPAQUE:  # an opaque object has no dimensions
        dimensions = elements.read_element(_INT, 4 * 32)
        whole = dimensions[: len(dimensions) // 4 * 4]
        shape = tuple(np.frombuffer(whole, f"{elements.order}i4").tolist())
    if not is_shape(shape):
        raise elements.damaged_error(f"has a variable of the impossible shape {shape}")
    name = elements.read_element(_BYTES, _MAX_NAME_BYTES).decode("latin1")
    return _Variable(elements, flags, shape, name, compressed_size)


def _byte_order(header: bytes, path: Path) -> str:
    """Return the byte order of a header, after checking that it is one of level 5."""
    mark = header[126:128]
    order = {b"IM": "<", b"MI": ">"}.get(mark)
    level = header[125 if order == "<" else 124] if order else None
    if b"MATLAB 7.3" in header or header.startswith(b"\x89HDF") or level == 2:
        raise DataError(
            f"{path} is a MATLAB file of version 7.3, which is not supported; save it with -v7 in "
            "MATLAB"
        )
    if order is None and len(header) >= 20 and _first_number(header) < _LEVEL_4:
        raise DataError(
            f"{path} is a MATLAB file of level 4, which is not supported; save it with -v7 in "
            "MATLAB"
        )
    if order is None or level != 1:
        raise DataError(
            f"{path} is not a MATLAB file: its header must end with '49 4d' or '4d 49', got "
            f"'{mark.hex(' ')}'; replace it with the right file"
        )
    return order


def _first_number(header: bytes) -> int:
    return min(int.from_bytes(header[:4], "little"), int.from_bytes(header[:4], "big"))
