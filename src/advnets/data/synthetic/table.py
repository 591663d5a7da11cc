"""Tables of points: .csv (text) and .npy (NumPy's own format), one point a row.

A CSV file is UTF-8; its columns are parted by semicolons, commas, tabs or blanks, its first line
may name them, empty lines and those that begin with # are passed over. Of .npy the format is that
of NEP 1 (Kern, 2007), "A simple file format for NumPy arrays".
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from advnets.data.reading import opened
from advnets.errors import DataError

SUFFIXES = (".csv", ".npy")
"""Of files that are tables."""

_MOST_BYTES = 64 << 20
_MOST_POINTS = 1_000_000
_FEWER = "give a part of it, drawn at random"
_LARGEST = 1e30  # a sum of squares of such numbers is far from the limits of float64

_LINE = re.compile(r"\r\n|\r|\n")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)
_BEGUN = re.compile(r"[+-]?\.?\d", re.ASCII)
_MISSING = re.compile(r"[+-]?(nan|inf|infinity|na|n/a|null|none)", re.IGNORECASE | re.ASCII)

_MAGIC = b"\x93NUMPY"
_LONGEST_HEADER = 10_000
_VALUE = r"'[^']*'|True|False|\((?:\d{1,18},){0,9}(?:\d{1,18})?\)"
_ITEM = re.compile(rf"'(\w+)':({_VALUE})")
_HEADER = re.compile(rf"\{{(?:'\w+':(?:{_VALUE}),?){{0,9}}\}}")
_DTYPE = re.compile(r"'([<>|=]?(?:[iu][1248]|f[248]))'")


def read_table(path: Path) -> Float64[np.ndarray, "n dims"]:
    """Read points of one or two coordinates, all finite, from a .csv or .npy file.

    Raises:
        DataError: the file is absent, too large, broken, or holds something else.
    """
    with opened(path) as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise DataError(f"{path} is larger than {_MOST_BYTES >> 20} MiB; {_FEWER}")
    npy = path.suffix.lower() == ".npy"
    return _read_npy(path, content) if npy else _read_csv(path, content)


def _read_csv(path: Path, content: bytes) -> Float64[np.ndarray, "n dims"]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(f"{path}, line {line} is not UTF-8; save it as such") from None
    values: list[list[float]] = []
    separator: str | None = None
    width, since = 0, 0
    named = False
    for line, row in _rows(text):
        if not values:
            separator = separator or next((mark for mark in ";,\t" if mark in row), None)
        fields = [field.strip() for field in row.split(separator)]
        if not named and not values and not any(map(_numeric, fields)):
            if "" in fields:
                raise DataError(
                    f"{path}, line {line} leaves column {fields.index('') + 1} without a name, as "
                    f"an index has it; leave that column out"
                )
            named = True
            if separator:  # else blanks may be of a name, and do not tell how many there are
                width, since = len(fields), line
            continue
        if width and len(fields) != width:
            raise DataError(
                f"{path}, line {line} has {_columns(len(fields))}, but line {since} has {width}; "
                f"give each line the same"
            )
        if len(fields) > 2:
            raise DataError(
                f"{path}, line {line} has {_columns(len(fields))}; a point has 1 or 2: leave out "
                f"the others"
            )
        width, since = len(fields), since or line
        if len(values) == _MOST_POINTS:
            raise DataError(f"{path} has more than {_MOST_POINTS:,} points; {_FEWER}")
        values.append([_number(path, line, field) for field in fields])
    if not values:
        raise DataError(f"{path} holds no points; put one in each line")
    return np.array(values)


def _rows(text: str) -> Iterator[tuple[int, str]]:
    """Lines that hold something, with their numbers from 1."""
    for number, line in enumerate(_LINE.split(text), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, line.strip(" ")


def _numeric(field: str) -> bool:
    """Whether a field is meant as a number."""
    return bool(_BEGUN.match(field) or _MISSING.fullmatch(field))


def _number(path: Path, line: int, field: str) -> float:
    where = f"{path}, line {line}"
    if _MISSING.fullmatch(field):
        raise DataError(f"{where} holds {field}; leave the point out or mend it")
    if not field:
        raise DataError(f"{where} has an empty column; leave the point out or mend it")
    if not _NUMBER.fullmatch(field):
        shown = field if len(field) <= 20 else field[:20] + "…"
        raise DataError(f"{where} holds {shown!r}, which is no number; write it like -1.5 or 2e-3")
    value = float(field)
    if abs(value) > _LARGEST:
        raise DataError(f"{where} holds {field[:20]}, beyond {_LARGEST:g}; take another unit")
    return value


def _columns(count: int) -> str:
    return "1 column" if count == 1 else f"{count} columns"


def _read_npy(path: Path, content: bytes) -> Float64[np.ndarray, "n dims"]:
    # Read here and not by numpy.load: a few plain headers are all that points need, and whatever a
    # header says, no more is made than the file holds.
    if not content.startswith(_MAGIC) or len(content) < 12 or content[6] not in (1, 2, 3):
        raise DataError(f"{path} is no .npy file; write one with numpy.save")
    head = 10 if content[6] == 1 else 12
    start = head + int.from_bytes(content[8:head], "little")
    header = "".join(content[head : min(start, head + _LONGEST_HEADER)].decode("latin-1").split())
    facts = dict(_ITEM.findall(header)) if _HEADER.fullmatch(header) else {}
    dtype = _DTYPE.fullmatch(facts.get("descr", ""))
    if facts.keys() != {"descr", "fortran_order", "shape"} or not dtype:
        raise DataError(
            f"{path} holds no plain array of whole or real numbers "
            f"({header[:80] or 'an empty header'}); save a float64 array of shape (N, 2) or (N,)"
        )
    shape = tuple(int(length) for length in re.findall(r"\d+", facts["shape"]))
    if not (len(shape) == 1 or (len(shape) == 2 and shape[1] in (1, 2))):
        raise DataError(f"{path} has shape {shape}; expected (N,), (N, 1) or (N, 2)")
    if shape[0] > _MOST_POINTS:
        raise DataError(f"{path} has more than {_MOST_POINTS:,} points; {_FEWER}")
    kind = np.dtype(dtype[1])
    expected, found = math.prod(shape) * kind.itemsize, max(0, len(content) - start)
    if expected != found:
        raise DataError(
            f"{path} says that it holds {expected:,} bytes of numbers, but there are {found:,}; "
            f"save it anew"
        )
    if not shape[0]:
        raise DataError(f"{path} holds no points; give at least one")
    array = np.frombuffer(content, kind, offset=start)
    order = "F" if facts["fortran_order"] == "True" else "C"
    values = array.reshape((shape[0], -1), order=order).astype(np.float64)
    return _checked(path, values)


def _checked(path: Path, values: Float64[np.ndarray, "n dims"]) -> Float64[np.ndarray, "n dims"]:
    wrong = ~(np.abs(values) <= _LARGEST)  # so that a NaN is found too
    if wrong.any():
        row, column = map(int, np.argwhere(wrong)[0])
        value = values[row, column]
        what = f", beyond {_LARGEST:g}" if math.isfinite(value) else ""
        raise DataError(
            f"{path}, row {row} (counted from 0) holds {value:g}{what}; leave it out or mend it"
        )
    return values
