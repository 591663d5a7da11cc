"""A safe reader of pickled arrays, such as the Python version of CIFAR, without `pickle`.

A pickle is a program. This interpreter runs only the opcodes that build numbers, strings, lists,
tuples, dicts and arrays; it never imports a name of the file nor calls anything in it.
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

from advnets.errors import DataError
from advnets.files import GIB, is_shape, open_data_file

_MAX_OPCODES = 1_000_000
"""CIFAR-100 has about 200,000 opcodes; each may take a few hundred bytes of memory."""
_CODES = {f"{kind}{size}" for kind in "iuf" for size in (1, 2, 4, 8)} - {"f1"}
_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
_RECONSTRUCT = frozenset((module, "_reconstruct") for module in _MULTIARRAY)
_FROM_BUFFER = frozenset((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core"))
_DTYPE, _NDARRAY, _ENCODE = ("numpy", "dtype"), ("numpy", "ndarray"), ("_codecs", "encode")
_BYTES = ("__builtin__", "bytes")  # in old protocols, Python 3 writes b"" as a call of bytes
_KNOWN = {*_RECONSTRUCT, *_FROM_BUFFER, _DTYPE, _NDARRAY, _ENCODE, _BYTES}
_PLAIN = (bool, int, float, str, bytes, bytearray, np.ndarray)
_MARK = object()


@dataclass(frozen=True)
class _Name:
    """A placeholder for a global variable of a module: its names only, nothing callable."""

    module: str
    name: str

    @property
    def pair(self) -> tuple[str, str]:
        return self.module, self.name


@dataclass
class _Type:
    """A placeholder for a dtype: its code, and its byte order once known."""

    code: str
    order: str = "="

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.order + self.code)


@dataclass
class _Array:
    """A placeholder for an array until its state is set."""

    values: np.ndarray | None = None


class _PickleError(Exception):
    """A problem of a pickle, reported in a DataError that names the file."""


def read_pickle(path: Path) -> object:
    """Read a pickle of lists, tuples, dicts, strings, numbers and numeric arrays only.

    Strings of Python 2 are returned as bytes. Supported are protocols 1 to 5, and 0 as written by
    Python 3. Nothing that the file refers to is imported or called.

    Raises:
        DataError: the file is missing, damaged, larger than 1 GiB, or contains anything else.
    """
    with open_data_file(path) as file:
        size = path.stat().st_size
        content = file.read() if size <= GIB else b""
    if size > GIB:
        raise DataError(
            f"{path} must have at most 1 GiB, got {size:,} bytes; replace it with the original file"
        )
    return parse_pickle(content, path)


def parse_pickle(content: bytes, path: Path) -> object:
    """Read a pickle from bytes, as `read_pickle` does; errors name it `path`."""
    machine = _Machine()
    try:
        for number, (opcode, argument, _) in enumerate(pickletools.genops(io.BytesIO(content))):
            if number == _MAX_OPCODES:
                raise _PickleError(f"has more than {_MAX_OPCODES:,} opcodes")
            machine.run(opcode.name, argument)
        return _check_complete(machine.result())
    except _PickleError as fault:
        raise DataError(f"{path} {fault}; replace it with the original file") from None
    # Errors of an invalid stack or argument, and warnings about an invalid escape.
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, Warning) as error:
        raise DataError(
            f"{path} is a damaged pickle ({str(error)[:80]}); replace it with the original file"
        ) from None


class _Machine:
    """An interpreter of pickle opcodes, with a stack and a memo."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def result(self) -> object:
        """Return the only item on the stack."""
        (result,) = self.stack
        return result

    def run(self, opcode: str, argument: Any) -> None:
        """Run one opcode."""
        stack = self.stack
        if opcode in _VALUES:
            stack.append(argument)
        elif opcode in _PYTHON_2_STRINGS:
            stack.append(argument.encode("latin1"))
        elif opcode in _CONSTANTS:
            stack.append(_CONSTANTS[opcode]())
        elif opcode in _PUTS:
            self.memo[len(self.memo) if argument is None else argument] = self._top()
        elif opcode in _GETS:
            stack.append(_resolve(self.memo[argument]))
        elif opcode in _TUPLES:
            stack.append(tuple(self._pop(_TUPLES[opcode])))
        elif opcode in ("GLOBAL", "STACK_GLOBAL", "INST"):
            module, name = self._pop(2) if argument is None else argument.split(" ", 1)
            stack.append(_find_global(module, name, called=opcode == "INST"))
        elif opcode not in _IGNORED:
            self._run_on_stack(opcode)

    def _run_on_stack(self, opcode: str) -> None:
        """Run an opcode without an argument that operates on items of the stack."""
        stack = self.stack
        if opcode == "TUPLE":
            stack.append(tuple(self._since_mark()))
        elif opcode == "LIST":
            stack.append(self._since_mark())
        elif opcode == "DICT":
            stack.append(_set_items({}, self._since_mark()))
        elif opcode in ("APPEND", "APPENDS"):
            items = self._pop(1) if opcode == "APPEND" else self._since_mark()
            _expect(self._top(), list).extend(items)
        elif opcode in ("SETITEM", "SETITEMS"):
            items = self._pop(2) if opcode == "SETITEM" else self._since_mark()
            _set_items(_expect(self._top(), dict), items)
        elif opcode == "REDUCE":
            name, arguments = self._pop(2)
            stack.append(_emulate_call(_expect(name, _Name), _expect(arguments, tuple)))
        elif opcode == "BUILD":
            target, state = self._pop(2)
            stack.append(_set_state(target, _expect(state, tuple)))
        elif opcode == "POP":
            self._pop(1)
        elif opcode == "POP_MARK":
            self._since_mark()
        elif opcode == "DUP":
            stack.append(self._top())
        else:
            raise _PickleError(f"uses the opcode {opcode}, which is not allowed")

    def _top(self) -> Any:
        if self.stack[-1] is _MARK:
            raise IndexError("expected an item on the stack, got a mark")
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
_PYTHON_2_STRINGS = {"STRING", "BINSTRING", "SHORT_BINSTRING"}
_CONSTANTS: Mapping[str, Callable[[], Any]] = {
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


def _find_global(module: object, name: object, called: bool) -> _Name:
    module, name = _expect(module, str), _expect(name, str)
    if called or (module, name) not in _KNOWN:
        full_name = f"{module[:80]}.{name[:80]}"
        text = "".join(c if c.isprintable() else "?" for c in full_name)
        raise _PickleError(f"refers to {text}, which is not allowed")
    return _Name(module, name)


def _emulate_call(name: _Name, arguments: tuple[Any, ...]) -> object:
    """Return the result of a known call, without calling anything."""
    match arguments:
        case (_Name(), tuple(), _) if name.pair in _RECONSTRUCT and arguments[0].pair == _NDARRAY:
            return _Array()
        case (str() | bytes(), *_) if name.pair == _DTYPE:
            code = arguments[0] if isinstance(arguments[0], str) else arguments[0].decode("latin1")
            if code not in _CODES:
                raise _PickleError("has an array that is not numeric")
            return _Type(code)
        case () if name.pair == _BYTES:
            return b""
        case (str(), "latin1") if name.pair == _ENCODE:
            return arguments[0].encode("latin1")
        case (bytes() | bytearray(), _Type(), tuple(), str()) if name.pair in _FROM_BUFFER:
            return _make_array(arguments[2], arguments[1], arguments[3], arguments[0])
        case _:
            raise _PickleError(f"calls {name.module}.{name.name} with invalid arguments")


def _set_state(target: object, state: tuple[Any, ...]) -> object:
    """Set the state of an array or dtype, in numpy's layout, and return the result."""
    match state:
        case (1, tuple(), _Type(), int(), bytes() | bytearray()) if isinstance(target, _Array):
            _, shape, dtype, fortran, content = state
            target.values = _make_array(shape, dtype, "F" if fortran else "C", content)
            return target.values
        case (3 | 4, str() | bytes(), None, None, None, *_) if isinstance(target, _Type):
            order = state[1] if isinstance(state[1], str) else state[1].decode("latin1")
            if order not in ("<", ">", "|", "="):
                raise _PickleError("has an array of unknown byte order")
            target.order = order
            return target
        case _:
            raise _PickleError("sets an invalid state of an object")


def _make_array(
    shape: Sequence[Any], placeholder: _Type, order: str, content: bytes | bytearray
) -> np.ndarray:
    if order not in ("C", "F") or not all(type(length) is int for length in shape):
        raise _PickleError("has an array of unknown memory layout")
    dtype = placeholder.dtype
    if not is_shape(shape) or math.prod(shape) * dtype.itemsize != len(content):
        raise _PickleError(f"has an array whose {len(content):,} bytes do not match its shape")
    return np.ndarray(shape, dtype, content, order="F" if order == "F" else "C")


def _resolve(item: Any) -> Any:
    """Replace a placeholder by its array; the memo stores it before its state is set."""
    return item.values if isinstance(item, _Array) and item.values is not None else item


def _set_items(pairs: dict[Any, Any], items: list[Any]) -> dict[Any, Any]:
    if len(items) % 2:
        raise ValueError("a key without a value")
    for key, value in zip(items[::2], items[1::2], strict=True):
        if not isinstance(key, str | bytes | int):  # a nested tuple's hash can exhaust the C stack
            raise _PickleError("has a dict with keys other than strings and numbers")
        pairs[key] = value
    return pairs


def _check_complete(result: object) -> object:
    """Check that no placeholder is left in the result, and return it."""
    pending, visited = [result], set[int]()
    while pending:
        item: Any = pending.pop()
        if isinstance(item, list | tuple | dict):
            if id(item) not in visited:
                visited.add(id(item))
                pending.extend(item.values() if isinstance(item, dict) else item)
        elif not (item is None or isinstance(item, _PLAIN)):
            raise _PickleError("contains an incomplete array")
    return result


def _expect(item: object, expected_type: type[T]) -> T:
    if not isinstance(item, expected_type):
        raise TypeError(f"expected {expected_type.__name__}, got {type(item).__name__}")
    return item
