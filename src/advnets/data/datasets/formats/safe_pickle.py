"""Pickles of arrays, as CIFAR's python version is, read without pickle.

A pickle is a program. We run the few opcodes that build numbers, texts, lists, tuples, dicts and
arrays, on a stack of our own; no name in the file is ever imported and nothing in it is called.
"""

from __future__ import annotations

import io
import math
import pickletools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from advnets.data.datasets.formats.limits import GIB, is_shape
from advnets.errors import DataError
from advnets.files import open_data_file

_MOST_OPCODES = 1_000_000
"""CIFAR-100 has some 200,000; each may cost some hundred bytes of memory."""
_CODES = {f"{kind}{size}" for kind in "iuf" for size in (1, 2, 4, 8)} - {"f1"}
_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
_RECONSTRUCT = frozenset((module, "_reconstruct") for module in _MULTIARRAY)
_FROM_BUFFER = frozenset((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core"))
_DTYPE, _NDARRAY, _ENCODE = ("numpy", "dtype"), ("numpy", "ndarray"), ("_codecs", "encode")
_BYTES = ("__builtin__", "bytes")  # how Python 3 writes no bytes at all in the old protocols
_KNOWN = {*_RECONSTRUCT, *_FROM_BUFFER, _DTYPE, _NDARRAY, _ENCODE, _BYTES}
_PLAIN = (bool, int, float, str, bytes, bytearray, np.ndarray)
_MARK = object()


@dataclass(frozen=True)
class _Name:
    """What stands for something of a module: its two names, and nothing that could be called."""

    module: str
    name: str

    @property
    def pair(self) -> tuple[str, str]:
        return self.module, self.name


@dataclass
class _Type:
    """What stands for a dtype: its code, and the byte order once that is known."""

    code: str
    order: str = "="

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.order + self.code)


@dataclass
class _Array:
    """What stands for an array until its state comes."""

    values: np.ndarray | None = None


class _Fault(Exception):  # noqa: N818 - becomes a DataError, which names the file
    """What is wrong with a pickle, in a few words."""


def read_pickle(path: Path) -> object:
    """Read a pickle of lists, tuples, dicts, texts, numbers and numeric arrays, and no others.

    Strings of Python 2 come as bytes. Protocols 1 to 5 are read, and 0 as Python 3 writes it;
    nothing that the file names is imported or called.

    Raises:
        DataError: the file is absent, damaged or above 1 GiB, or asks for anything else.
    """
    with open_data_file(path) as file:
        size = path.stat().st_size
        content = file.read() if size <= GIB else b""
    if size > GIB:
        raise DataError(f"{path} has {size:,} bytes, more than 1 GiB; put the right file there")
    return parse_pickle(content, path)


def parse_pickle(content: bytes, path: Path) -> object:
    """Read a pickle from bytes; `path` is what errors call it. Raises as `read_pickle`."""
    machine = _Machine()
    try:
        for number, (opcode, argument, _) in enumerate(pickletools.genops(io.BytesIO(content))):
            if number == _MOST_OPCODES:
                raise _Fault(f"has more than {_MOST_OPCODES:,} opcodes")
            machine.run(opcode.name, argument)
        return _checked(machine.result())
    except _Fault as fault:
        raise DataError(f"{path} {fault}; put the right file there") from None
    # What the stack or an opcode's argument does not bear out, and what an odd escape warns of.
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, Warning) as error:
        raise DataError(
            f"{path} is a damaged pickle ({str(error)[:80]}); put the right file there"
        ) from None


class _Machine:
    """The stack, the memo, and what each opcode does to them."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def result(self) -> object:
        """What is left on the stack at the end."""
        (result,) = self.stack
        return result

    def run(self, opcode: str, argument: Any) -> None:
        """Do what one opcode says."""
        stack = self.stack
        if opcode in _VALUES:
            stack.append(argument)
        elif opcode in _TEXTS_2:
            stack.append(argument.encode("latin1"))
        elif opcode in _FRESH:
            stack.append(_FRESH[opcode]())
        elif opcode in _PUTS:
            self.memo[len(self.memo) if argument is None else argument] = self._top()
        elif opcode in _GETS:
            stack.append(_built(self.memo[argument]))
        elif opcode in _TUPLES:
            stack.append(tuple(self._pop(_TUPLES[opcode])))
        elif opcode in ("GLOBAL", "STACK_GLOBAL", "INST"):
            module, name = self._pop(2) if argument is None else argument.split(" ", 1)
            stack.append(_known(module, name, called=opcode == "INST"))
        elif opcode not in _IGNORED:
            self._change(opcode)

    def _change(self, opcode: str) -> None:
        """The opcodes without an argument that take from the stack what they work on."""
        stack = self.stack
        if opcode == "TUPLE":
            stack.append(tuple(self._since_mark()))
        elif opcode == "LIST":
            stack.append(self._since_mark())
        elif opcode == "DICT":
            stack.append(_paired({}, self._since_mark()))
        elif opcode in ("APPEND", "APPENDS"):
            items = self._pop(1) if opcode == "APPEND" else self._since_mark()
            _expect(self._top(), list).extend(items)
        elif opcode in ("SETITEM", "SETITEMS"):
            items = self._pop(2) if opcode == "SETITEM" else self._since_mark()
            _paired(_expect(self._top(), dict), items)
        elif opcode == "REDUCE":
            name, arguments = self._pop(2)
            stack.append(_called(_expect(name, _Name), _expect(arguments, tuple)))
        elif opcode == "BUILD":
            target, state = self._pop(2)
            stack.append(_stated(target, _expect(state, tuple)))
        elif opcode == "POP":
            self._pop(1)
        elif opcode == "POP_MARK":
            self._since_mark()
        elif opcode == "DUP":
            stack.append(self._top())
        else:
            raise _Fault(f"asks for the opcode {opcode}, which no array needs")

    def _top(self) -> Any:
        if self.stack[-1] is _MARK:
            raise IndexError("a mark where an item was expected")
        return self.stack[-1]

    def _pop(self, n: int) -> list[Any]:
        items = self.stack[-n:]
        if len(items) < n or any(item is _MARK for item in items):
            raise IndexError("the stack has too few items")
        del self.stack[-n:]
        return items

    def _since_mark(self) -> list[Any]:
        items: list[Any] = []
        while (item := self.stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]


_VALUES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_TEXTS_2 = {"STRING", "BINSTRING", "SHORT_BINSTRING"}
_FRESH: Mapping[str, Callable[[], Any]] = {
    "MARK": lambda: _MARK,
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
}
_PUTS = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
_GETS = {"GET", "BINGET", "LONG_BINGET"}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_IGNORED = {"PROTO", "FRAME", "STOP"}


T = TypeVar("T")


def _refused(module: str, name: str) -> _Fault:
    asked = "".join(c if c.isprintable() else "?" for c in f"{module[:80]}.{name[:80]}")
    return _Fault(f"asks for {asked}, which is no array")


def _known(module: object, name: object, called: bool) -> _Name:
    module, name = _expect(module, str), _expect(name, str)
    if called or (module, name) not in _KNOWN:
        raise _refused(module, name)
    return _Name(module, name)


def _called(name: _Name, arguments: tuple[Any, ...]) -> object:
    """What a call that we know would have given."""
    match arguments:
        case (_Name(), tuple(), _) if name.pair in _RECONSTRUCT and arguments[0].pair == _NDARRAY:
            return _Array()
        case (str() | bytes(), *_) if name.pair == _DTYPE:
            code = arguments[0] if isinstance(arguments[0], str) else arguments[0].decode("latin1")
            if code not in _CODES:
                raise _Fault("has an array of another type than numbers")
            return _Type(code)
        case () if name.pair == _BYTES:
            return b""
        case (str(), "latin1") if name.pair == _ENCODE:
            return arguments[0].encode("latin1")
        case (bytes() | bytearray(), _Type(), tuple(), str()) if name.pair in _FROM_BUFFER:
            return _array(arguments[2], arguments[1], arguments[3], arguments[0])
        case _:
            raise _Fault(f"calls {name.module}.{name.name} as no array does")


def _stated(target: object, state: tuple[Any, ...]) -> object:
    """What an array or its dtype becomes by its state, which numpy lays out so."""
    match state:
        case (1, tuple(), _Type(), int(), bytes() | bytearray()) if isinstance(target, _Array):
            _, shape, kind, fortran, content = state
            target.values = _array(shape, kind, "F" if fortran else "C", content)
            return target.values
        case (3 | 4, str() | bytes(), None, None, None, *_) if isinstance(target, _Type):
            order = state[1] if isinstance(state[1], str) else state[1].decode("latin1")
            if order not in ("<", ">", "|", "="):
                raise _Fault("has an array of no known byte order")
            target.order = order
            return target
        case _:
            raise _Fault("sets the state of something as no array does")


def _array(shape: Sequence[Any], kind: _Type, order: str, content: bytes | bytearray) -> np.ndarray:
    if order not in ("C", "F") or not all(type(length) is int for length in shape):
        raise _Fault("has an array of no known layout")
    if not is_shape(shape) or math.prod(shape) * kind.dtype.itemsize != len(content):
        raise _Fault(f"has an array whose {len(content):,} bytes do not fill its shape")
    return np.ndarray(shape, kind.dtype, content, order="F" if order == "F" else "C")


def _built(item: Any) -> Any:
    """An array in place of what stood for it: the memo took it before its state came."""
    return item.values if isinstance(item, _Array) and item.values is not None else item


def _paired(pairs: dict[Any, Any], items: list[Any]) -> dict[Any, Any]:
    if len(items) % 2:
        raise ValueError("a key without a value")
    for key, value in zip(items[::2], items[1::2], strict=True):
        if not isinstance(key, str | bytes | int):  # a nested tuple's hash can exhaust the C stack
            raise _Fault("has a dict whose keys are neither texts nor numbers")
        pairs[key] = value
    return pairs


def _checked(result: object) -> object:
    """The result, once nothing in it only stands for something."""
    left, seen = [result], set[int]()
    while left:
        item: Any = left.pop()
        if isinstance(item, list | tuple | dict):
            if id(item) not in seen:
                seen.add(id(item))
                left.extend(item.values() if isinstance(item, dict) else item)
        elif not (item is None or isinstance(item, _PLAIN)):
            raise _Fault("holds an array that is not finished")
    return result


def _expect(item: object, kind: type[T]) -> T:
    if not isinstance(item, kind):
        raise TypeError(f"a {kind.__name__} was expected")
    return item
