"""MATLAB files of level 5 (MathWorks, "MAT-File Format"), as far as arrays of numbers go.

A file is 128 bytes of header and then a variable after the other, each as such or packed by zlib.
A variable is a matrix of elements: flags, lengths of the axes, name, values; an element is a type,
a number of bytes, and the bytes, padded to 8. Values lie first axis fastest, in their own type or
in a smaller one that holds them all.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from io import SEEK_END, BufferedIOBase
from pathlib import Path

import numpy as np

from advnets.data.datasets.formats.limits import GIB, RATIO, Readable, is_bomb, is_shape, read_up_to
from advnets.errors import DataError
from advnets.files import open_data_file

_HEADER = 128
_STORED = ["i1", "u1", "i2", "u2", "i4", "u4", "f4"]
_TYPES = dict(enumerate(_STORED, 1)) | {9: "f8", 12: "i8", 13: "u8"}
_BYTES, _INT, _UINT, _MATRIX, _PACKED = 1, 5, 6, 14, 15
_CLASSES = dict(enumerate(["f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"], 6))
_OTHERS = {
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
_LONGEST_NAME = 4096
_FED = 1 << 18  # packed bytes given to zlib at a time
_LEVEL_4 = 5000  # its files begin with a number of four digits, where later ones begin with text


def read_mat(path: Path, names: Collection[str]) -> dict[str, np.ndarray]:
    """Read those of the named variables that a file has; the others are passed over.

    Arrays have MATLAB's shape and class (logical ones are uint8) and lie first axis fastest.

    Raises:
        DataError: the file is absent, damaged, no MATLAB file or not of level 5; or a variable
            that is asked for is no array of real numbers.
    """
    with open_data_file(path) as file:
        return parse_mat(file, path, names)


def names_in(path: Path) -> tuple[str, ...]:
    """The names of a file's variables, in its order.

    Raises:
        DataError: the file is absent, damaged, no MATLAB file or not of level 5.
    """
    with open_data_file(path) as file:
        return parse_names(file, path)


def is_mat(path: Path) -> bool:
    """Whether a path is called as a MATLAB file is."""
    return path.suffix.lower() == ".mat" and path.is_file()


def whole_numbers(array: np.ndarray) -> np.ndarray | None:
    """The array as int64, or None where it holds something else."""
    with np.errstate(all="ignore"):
        numbers = array.astype(np.int64)
    return numbers if np.array_equal(numbers, array) else None


def parse_mat(file: BufferedIOBase, path: Path, names: Collection[str]) -> dict[str, np.ndarray]:
    """Read variables from a stream; `path` is what errors call it. Raises as `read_mat`."""
    arrays: dict[str, np.ndarray] = {}
    for variable in _variables(file, path):
        if variable.name in names:
            if variable.name in arrays:
                raise DataError(f"{path} has {variable.name} twice; bring it anew")
            arrays[variable.name] = variable.values()
    return arrays


def parse_names(file: BufferedIOBase, path: Path) -> tuple[str, ...]:
    """The names of the variables in a stream. Raises as `names_in`."""
    return tuple(variable.name for variable in _variables(file, path))


@dataclass
class _Elements:
    """Elements one after the other, in at most `left` bytes of a stream."""

    stream: Readable
    left: int
    order: str
    path: Path

    def tag(self) -> tuple[int, int, bytes | None]:
        """The next element's type, its number of bytes, and a small element's bytes themselves."""
        first = self.take(4)
        word = self.number(first)
        if small := word >> 16:
            if small > 4:
                raise self.damage(f"says that 4 bytes hold {small}")
            return word & 0xFFFF, small, bytes(self.take(4)[:small])
        return word, self.number(self.take(4)), None

    def element(self, kind: int, most: int) -> bytes:
        """The bytes of the next element, which is of that type and no longer than `most`."""
        found, n, small = self.tag()
        if found != kind or n > most:
            raise self.damage(f"has {n:,} bytes of type {found} where type {kind} was expected")
        if small is not None:
            return small
        content = bytes(self.take(n))
        self.take(-n % 8)
        return content

    def take(self, n: int) -> bytearray:
        """So many bytes, or an error."""
        content = read_up_to(self.stream, min(n, self.left))
        self.left -= len(content)
        if len(content) < n:
            raise self.damage("ends too early")
        return content

    def number(self, content: bytes | bytearray) -> int:
        """A 32-bit number without a sign."""
        return int.from_bytes(content, "little" if self.order == "<" else "big")

    def damage(self, what: str) -> DataError:
        """The error of a file that is not what it says."""
        return DataError(f"{self.path} {what}, so it is damaged; bring it anew")


@dataclass
class _Variable:
    """A variable whose values are not read yet; `packed` is its size in the file, if packed."""

    elements: _Elements
    flags: int
    shape: tuple[int, ...]
    name: str
    packed: int | None

    def values(self) -> np.ndarray:
        """Its values, checked before they are read."""
        elements, path = self.elements, self.elements.path
        kind = _CLASSES.get(self.flags & 0xFF)
        if kind is None or self.flags & _COMPLEX:
            what = "complex numbers" if kind else _OTHERS.get(self.flags & 0xFF, "of no known kind")
            raise DataError(
                f"{path} has {self.name}, which is {what}, but an array of real numbers was "
                f"expected; put the right file there"
            )
        stored_as, n, small = elements.tag()
        if stored_as not in _TYPES:
            raise elements.damage(f"has values of the unknown type {stored_as} in {self.name}")
        stored = np.dtype(elements.order + _TYPES[stored_as])
        final = np.dtype(kind)
        if stored != final and stored.kind == "f" and final.kind != "f":
            raise elements.damage(f"has {final} stored as {stored} in {self.name}")
        count = math.prod(self.shape)
        if n != count * stored.itemsize:
            raise elements.damage(
                f"says that {self.name} has {count:,} values of {stored.itemsize} bytes in {n:,}"
            )
        unpacked = count * max(stored.itemsize, final.itemsize)
        if self.packed is not None and is_bomb(self.packed, unpacked, GIB):
            raise DataError(
                f"{path} says that {self.packed:,} bytes unpack to {unpacked:,} in {self.name}, "
                f"but images pack to no less than 1 in {RATIO}; bring it anew from where it was "
                f"published"
            )
        body = bytearray(small) if small is not None else elements.take(n)
        self._end(-n % 8 if small is None else 0)
        values = np.ndarray(self.shape, stored, body, order="F")
        if stored.newbyteorder("=") == final:
            return values.astype(final, copy=False)
        with np.errstate(all="ignore"):  # a float64 holds all that a stored type does
            cast = values.astype(final, order="F")
        if final.kind != "f" and not np.array_equal(cast, values):
            raise elements.damage(f"has numbers in {self.name} that {final} does not hold")
        return cast

    def _end(self, padding: int) -> None:
        """See that nothing but padding follows; for a packed variable zlib then checks its sum."""
        if self.elements.left > padding:
            raise self.elements.damage(f"has more than its values in {self.name}")
        self.elements.take(self.elements.left)
        if isinstance(self.elements.stream, _Inflated):
            self.elements.stream.end()


@dataclass
class _Inflated:
    """A zlib stream of at most `left` bytes of a file, unpacked as it is read."""

    file: BufferedIOBase
    left: int
    path: Path

    def __post_init__(self) -> None:
        self._zlib, self._fed = zlib.decompressobj(), b""

    def read(self, n: int, /) -> bytes:
        """At most n bytes; none at the end."""
        while n:
            try:
                content = self._zlib.decompress(self._fed, n)
            except zlib.error as error:
                raise DataError(
                    f"{self.path} is damaged, as zlib says ({error}); bring it anew"
                ) from None
            self._fed = self._zlib.unconsumed_tail
            if content or self._zlib.eof:
                return content
            if not self._fed:
                self._fed = self.file.read(min(_FED, self.left))
                self.left -= len(self._fed)
                if not self._fed:
                    return b""
        return b""

    def end(self) -> None:
        """See that this is the stream's end, with the right sum."""
        if self.read(1) or not self._zlib.eof or self._zlib.unused_data or self.left:
            raise DataError(
                f"{self.path} has a packed variable that does not end where it should; bring it "
                f"anew"
            )


def _variables(file: BufferedIOBase, path: Path) -> Iterator[_Variable]:
    """The variables of a file, one after the other; values may be read until the next is taken."""
    size = file.seek(0, SEEK_END)
    file.seek(0)
    order = _order(file.read(_HEADER), path)
    start = _HEADER
    while start < size:
        file.seek(start)
        top = _Elements(file, size - start, order, path)
        kind, n, small = top.tag()
        if small is not None or kind not in (_MATRIX, _PACKED):
            raise top.damage(f"has an element of type {kind} where a variable was expected")
        if n > top.left:
            raise top.damage(f"says that {n:,} bytes follow, but there are {top.left:,}")
        start += 8 + n
        if kind == _MATRIX:
            yield _begun(_Elements(file, n, order, path), None)
            continue
        inner = _Elements(_Inflated(file, n, path), 8, order, path)
        kind, inner.left, small = inner.tag()
        if small is not None or kind != _MATRIX:
            raise top.damage(f"has an element of type {kind} packed where a matrix was expected")
        yield _begun(inner, n)


def _begun(elements: _Elements, packed: int | None) -> _Variable:
    flags = elements.number(elements.element(_UINT, 8)[:4])
    shape: tuple[int, ...] = ()
    if flags & 0xFF != _OPAQUE:  # which has a name, and then what only MATLAB knows
        axes = elements.element(_INT, 4 * 32)
        shape = tuple(np.frombuffer(axes[: len(axes) // 4 * 4], f"{elements.order}i4").tolist())
    if not is_shape(shape):
        raise elements.damage(f"has a variable of shape {shape}, which nothing can have")
    name = elements.element(_BYTES, _LONGEST_NAME).decode("latin1")
    return _Variable(elements, flags, shape, name, packed)


def _order(header: bytes, path: Path) -> str:
    """The byte order that a header tells, once it is known to be one of level 5."""
    mark = header[126:128]
    order = {b"IM": "<", b"MI": ">"}.get(mark)
    level = header[125 if order == "<" else 124] if order else None
    if b"MATLAB 7.3" in header or header.startswith(b"\x89HDF") or level == 2:
        raise DataError(
            f"{path} is a MATLAB file of version 7.3, which is not read here; "
            f"in MATLAB, save it with -v7"
        )
    if order is None and len(header) >= 20 and _first_number(header) < _LEVEL_4:
        raise DataError(
            f"{path} is a MATLAB file of level 4, which is not read here; "
            f"in MATLAB, save it with -v7"
        )
    if order is None or level != 1:
        raise DataError(
            f"{path} is no MATLAB file, as its header ends with '{mark.hex(' ')}' and not with "
            f"'49 4d' or '4d 49'; put the right file there"
        )
    return order


def _first_number(header: bytes) -> int:
    return min(int.from_bytes(header[:4], "little"), int.from_bytes(header[:4], "big"))
