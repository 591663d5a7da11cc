"""Points of one's own, from a table, smoothed so that they have a density."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Float64, Int64

from advnets.config import check_values
from advnets.data.dataset import Dataset
from advnets.data.synthetic.base import SampleOptions, check_resolution, uniform_weights
from advnets.data.synthetic.mixtures import Components, NormalMixture
from advnets.data.synthetic.registry import open_distribution
from advnets.errors import DataError, UsageError
from advnets.files import open_data_file
from advnets.rng import RNG

_DEFAULT_SD_FRACTION = 0.05
_MIN_SD = 1e-30  # less is lost in float32


@dataclass(frozen=True)
class PointsOptions(SampleOptions):
    """How a table of points is opened: training points are drawn from the smoothed ones."""

    sd: float = 0.0
    """Standard deviation of the kernel on each point; 0: a twentieth of the points' spread."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_values(self, "positive, or 0 to have it chosen", lambda sd: 0 <= sd < math.inf, "sd")


@dataclass(frozen=True, eq=False, kw_only=True)
class KernelDensity(NormalMixture):
    """Points c_1 … c_M with a normal kernel on each.

    p(x) = 1/M Σ_m N(x; c_m, sd² I)

    An `sd` of 0 becomes .05 √(1/M Σ_m ‖c_m - mean‖²).
    """

    description: ClassVar[str] = "points of your own, smoothed"

    centers: Float64[np.ndarray, "m dims"] = field(repr=False)
    """Points of one or two coordinates."""
    sd: float = 0.0
    """Standard deviation of the kernel."""

    def __post_init__(self) -> None:
        super().__post_init__()
        shape = self.centers.shape
        if not (len(shape) == 2 and shape[0] and shape[1] in (1, 2)):
            raise UsageError(f"centers have shape {shape}; expected (M, 1) or (M, 2), M not 0")
        if not np.isfinite(self.centers).all():
            raise UsageError("centers hold numbers that are not finite; leave them out")
        check_values(self, "positive, or 0 to have it chosen", lambda sd: 0 <= sd < math.inf, "sd")
        if not self.sd:
            spread = math.sqrt(((self.centers - self.centers.mean(0)) ** 2).sum(1).mean())
            object.__setattr__(self, "sd", _DEFAULT_SD_FRACTION * spread)
        if self.sd < _MIN_SD:
            raise UsageError(
                f"sd is {self.sd:g}, as the points (all but) coincide; give one, such as sd=0.1"
            )
        check_resolution("sd", self.sd, float(np.abs(self.centers).max()))

    def components(self) -> Components:
        """Centers, standard deviations and weights."""
        count = len(self.centers)
        return self.centers, np.full(count, self.sd), uniform_weights(count)

    @property
    def num_modes(self) -> int:
        """One: a point of a table is no mode."""
        return 1

    @property
    def _num_terms(self) -> int:
        return len(self.centers)

    def _draw(
        self, n: int, rng: RNG
    ) -> tuple[Float64[np.ndarray, "n dims"], Int64[np.ndarray, " n"]]:
        points, chosen = super()._draw(n, rng)
        return points, np.zeros_like(chosen)


def is_point_file(path: Path) -> bool:
    """Whether a path is a file that goes by the name of a table: .csv or .npy."""
    return path.suffix.lower() in POINT_FILE_SUFFIXES and path.is_file()


def open_point_file(path: Path, options: PointsOptions) -> Dataset:
    """Open a table of points of a line or a plane: all splits are drawn from its smoothed points.

    Raises:
        DataError: the file is absent, broken, or holds something else than points.
        UsageError: an option has a value that cannot be.
    """
    centers = read_point_file(path)
    try:
        points = KernelDensity(centers=centers, sd=options.sd, n=options.n, seed=options.seed)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    return open_distribution(path.stem, points)


POINT_FILE_SUFFIXES = (".csv", ".npy")
"""Of files that are tables."""

_MAX_BYTES = 64 << 20
_MAX_POINTS = 1_000_000
_SUBSAMPLE_ADVICE = "give a part of it, drawn at random"
_MAX_VALUE = 1e30  # a sum of squares of such numbers is far from the limits of float64

_LINE = re.compile(r"\r\n|\r|\n")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)
_NUMBER_START = re.compile(r"[+-]?\.?\d", re.ASCII)
_MISSING = re.compile(r"[+-]?(nan|inf|infinity|na|n/a|null|none)", re.IGNORECASE | re.ASCII)

_MAGIC = b"\x93NUMPY"
_MAX_HEADER_CHARS = 10_000
_VALUE = r"'[^']*'|True|False|\((?:\d{1,18},){0,9}(?:\d{1,18})?\)"
_ITEM = re.compile(rf"'(\w+)':({_VALUE})")
_HEADER = re.compile(rf"\{{(?:'\w+':(?:{_VALUE}),?){{0,9}}\}}")
_DTYPE = re.compile(r"'([<>|=]?(?:[iu][1248]|f[248]))'")


def read_point_file(path: Path) -> Float64[np.ndarray, "n dims"]:
    """Read points of one or two coordinates, all finite, from a .csv or .npy file.

    Raises:
        DataError: the file is absent, too large, broken, or holds something else.
    """
    with open_data_file(path) as file:
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise DataError(f"{path} is larger than {_MAX_BYTES >> 20} MiB; {_SUBSAMPLE_ADVICE}")
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
    for line, row in _content_lines(text):
        if not values:
            separator = separator or next((mark for mark in ";,\t" if mark in row), None)
        fields = [field.strip() for field in row.split(separator)]
        if not named and not values and not any(map(_looks_numeric, fields)):
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
                f"{path}, line {line} has {_count_columns(len(fields))}, but line {since} has {width}; "
                f"give each line the same"
            )
        if len(fields) > 2:
            raise DataError(
                f"{path}, line {line} has {_count_columns(len(fields))}; a point has 1 or 2: leave out "
                f"the others"
            )
        width, since = len(fields), since or line
        if len(values) == _MAX_POINTS:
            raise DataError(f"{path} has more than {_MAX_POINTS:,} points; {_SUBSAMPLE_ADVICE}")
        values.append([_parse_number(path, line, field) for field in fields])
    if not values:
        raise DataError(f"{path} holds no points; put one in each line")
    return np.array(values)


def _content_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines that hold something, with their numbers from 1."""
    for number, line in enumerate(_LINE.split(text), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, line.strip(" ")


def _looks_numeric(field: str) -> bool:
    """Whether a field is meant as a number."""
    return bool(_NUMBER_START.match(field) or _MISSING.fullmatch(field))


def _parse_number(path: Path, line: int, field: str) -> float:
    where = f"{path}, line {line}"
    if _MISSING.fullmatch(field):
        raise DataError(f"{where} holds {field}; leave the point out or mend it")
    if not field:
        raise DataError(f"{where} has an empty column; leave the point out or mend it")
    if not _NUMBER.fullmatch(field):
        shown = field if len(field) <= 20 else field[:20] + "…"
        raise DataError(f"{where} holds {shown!r}, which is no number; write it like -1.5 or 2e-3")
    value = float(field)
    if abs(value) > _MAX_VALUE:
        raise DataError(f"{where} holds {field[:20]}, beyond {_MAX_VALUE:g}; take another unit")
    return value


def _count_columns(count: int) -> str:
    return "1 column" if count == 1 else f"{count} columns"


def _read_npy(path: Path, content: bytes) -> Float64[np.ndarray, "n dims"]:
    # Read here and not by numpy.load: a few plain headers are all that points need, and whatever a
    # header says, no more is made than the file holds.
    if not content.startswith(_MAGIC) or len(content) < 12 or content[6] not in (1, 2, 3):
        raise DataError(f"{path} is no .npy file; write one with numpy.save")
    head = 10 if content[6] == 1 else 12
    start = head + int.from_bytes(content[8:head], "little")
    header = "".join(content[head : min(start, head + _MAX_HEADER_CHARS)].decode("latin-1").split())
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
    if shape[0] > _MAX_POINTS:
        raise DataError(f"{path} has more than {_MAX_POINTS:,} points; {_SUBSAMPLE_ADVICE}")
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
    return _check_values(path, values)


def _check_values(
    path: Path, values: Float64[np.ndarray, "n dims"]
) -> Float64[np.ndarray, "n dims"]:
    wrong = ~(np.abs(values) <= _MAX_VALUE)  # so that a NaN is found too
    if wrong.any():
        row, column = map(int, np.argwhere(wrong)[0])
        value = values[row, column]
        what = f", beyond {_MAX_VALUE:g}" if math.isfinite(value) else ""
        raise DataError(
            f"{path}, row {row} (counted from 0) holds {value:g}{what}; leave it out or mend it"
        )
    return values
