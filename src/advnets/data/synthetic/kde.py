"""Kernel density estimates of points from a .csv or .npy file."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Float64

from advnets.config import check_values
from advnets.data.dataset import Dataset
from advnets.data.distribution import (
    Indices,
    Points,
    SampleOptions,
    check_resolution,
    uniform_weights,
)
from advnets.data.spec import POINT_FILE_SUFFIXES
from advnets.data.synthetic.mixtures import Components, NormalMixture
from advnets.data.synthetic.registry import open_distribution
from advnets.errors import DataError, UsageError
from advnets.files import open_data_file
from advnets.rng import RNG

_DEFAULT_SD_FRACTION = 0.05
"""The default bandwidth as a fraction of the standard deviation of the points."""
_MIN_SD = 1e-30
"""The smallest bandwidth that float32 resolves."""


@dataclass(frozen=True)
class PointsOptions(SampleOptions):
    """The options of a file of points."""

    sd: float = 0.0
    """The standard deviation of the kernel; 0 means a twentieth of that of the points."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_values(self, "positive, or 0 for the default", lambda sd: 0 <= sd < math.inf, "sd")


@dataclass(frozen=True, eq=False, kw_only=True)
class KernelDensity(NormalMixture):
    """A kernel density estimate with a normal kernel on each of the points c_1 … c_M.

    p(x) = 1/M Σ_m N(x; c_m, sd² I)

    An `sd` of 0 is replaced by 0.05 √(1/M Σ_m ‖c_m - mean‖²).
    """

    description: ClassVar[str] = "a kernel density estimate of your own points"

    centers: Float64[np.ndarray, "m dims"] = field(repr=False)
    """The points, of one or two coordinates."""
    sd: float = 0.0
    """The standard deviation of the kernel."""

    def __post_init__(self) -> None:
        super().__post_init__()
        shape = self.centers.shape
        if not (len(shape) == 2 and shape[0] and shape[1] in (1, 2)):
            raise UsageError(
                f"centers must have shape (M, 1) or (M, 2) with M > 0, got {shape}; pass one point "
                "per row"
            )
        if not np.isfinite(self.centers).all():
            raise UsageError("centers must be finite, got NaN or infinity; remove those points")
        check_values(self, "positive, or 0 for the default", lambda sd: 0 <= sd < math.inf, "sd")
        if not self.sd:
            std = math.sqrt(((self.centers - self.centers.mean(0)) ** 2).sum(1).mean())
            object.__setattr__(self, "sd", _DEFAULT_SD_FRACTION * std)
        if self.sd < _MIN_SD:
            raise UsageError(
                f"sd must be at least {_MIN_SD:g}, got {self.sd:g}, as the points (nearly) "
                "coincide; set it, for example sd=0.1"
            )
        check_resolution("sd", self.sd, float(np.abs(self.centers).max()))

    def components(self) -> Components:
        """Return centers, standard deviations and weights."""
        count = len(self.centers)
        return self.centers, np.full(count, self.sd), uniform_weights(count)

    @property
    def num_modes(self) -> int:
        """Return 1: the points are not modes."""
        return 1

    @property
    def _num_terms(self) -> int:
        return len(self.centers)

    def _draw(self, n: int, rng: RNG) -> tuple[Points, Indices]:
        points, centers = super()._draw(n, rng)
        return points, np.zeros_like(centers)


def is_point_file(path: Path) -> bool:
    """Return whether a path is a file with the suffix .csv or .npy."""
    return path.suffix.lower() in POINT_FILE_SUFFIXES and path.is_file()


def open_point_file(path: Path, options: PointsOptions) -> Dataset:
    """Open a file of points; all splits are drawn from their kernel density estimate.

    Raises:
        DataError: the file is missing, damaged, or contains anything but points.
        UsageError: an option has an invalid value.
    """
    centers = read_point_file(path)
    try:
        points = KernelDensity(centers=centers, sd=options.sd, n=options.n, seed=options.seed)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    return open_distribution(path.stem, points)


def open_points(centers: Float64[np.ndarray, "m dims"]) -> Dataset:
    """Open points in memory as a file of them with the default options.

    Raises:
        UsageError: the points (nearly) coincide.
    """
    return open_distribution("points", KernelDensity(centers=centers))


# Files of points.

_MAX_BYTES = 64 << 20
_MAX_POINTS = 1_000_000
_SUBSAMPLE_ADVICE = "use a random subset"
_MAX_VALUE = 1e30
"""The maximum absolute value of a coordinate: larger squares could overflow float64 sums."""

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


def read_point_file(path: Path) -> Points:
    """Read points of one or two coordinates, all finite, from a .csv or .npy file.

    Raises:
        DataError: the file is missing, too large, damaged, or contains anything else.
    """
    with open_data_file(path) as file:
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise DataError(
            f"{path} must be at most {_MAX_BYTES >> 20} MiB, got a larger file; {_SUBSAMPLE_ADVICE}"
        )
    npy = path.suffix.lower() == ".npy"
    return _read_npy(path, content) if npy else _read_csv(path, content)


def _read_csv(path: Path, content: bytes) -> Points:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(f"{path}, line {line} must be UTF-8; save the file as UTF-8") from None
    values: list[list[float]] = []
    separator: str | None = None
    width, width_line = 0, 0  # the number of columns, and the line that determined it
    has_header = False
    for line, row in _content_lines(text):
        if not values:
            separator = separator or next((mark for mark in ";,\t" if mark in row), None)
        fields = [field.strip() for field in row.split(separator)]
        # Skip a header.
        if not has_header and not values and not any(map(_looks_numeric, fields)):
            if "" in fields:
                raise DataError(
                    f"{path}, line {line} must name all columns, got an empty name for column "
                    f"{fields.index('') + 1}; remove that column if it is an index"
                )
            has_header = True
            if separator:  # without one, blanks may be parts of a name
                width, width_line = len(fields), line
            continue
        # Check the number of columns, and parse the point.
        if width and len(fields) != width:
            raise DataError(
                f"{path}, line {line} must have {_count_columns(width)} as line {width_line}, got "
                f"{len(fields)}; correct the line"
            )
        if len(fields) > 2:
            raise DataError(
                f"{path}, line {line} must have 1 or 2 columns, got {len(fields)}; remove the "
                "other columns"
            )
        width, width_line = len(fields), width_line or line
        if len(values) == _MAX_POINTS:
            raise DataError(
                f"{path} must have at most {_MAX_POINTS:,} points, got more; {_SUBSAMPLE_ADVICE}"
            )
        values.append([_parse_number(path, line, field) for field in fields])
    if not values:
        raise DataError(f"{path} must contain points, got none; write one point per line")
    return np.array(values)


def _content_lines(text: str) -> Iterator[tuple[int, str]]:
    """Iterate over lines that are neither empty nor comments, with their numbers from 1."""
    for number, line in enumerate(_LINE.split(text), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, line.strip(" ")


def _looks_numeric(field: str) -> bool:
    """Return whether a field starts like a number or is a missing value."""
    return bool(_NUMBER_START.match(field) or _MISSING.fullmatch(field))


def _parse_number(path: Path, line: int, field: str) -> float:
    location = f"{path}, line {line}"
    if not field or _MISSING.fullmatch(field):
        raise DataError(
            f"{location} must have finite numbers, got {field or 'an empty column'}; remove or "
            "correct the point"
        )
    if not _NUMBER.fullmatch(field):
        text = field if len(field) <= 20 else field[:20] + "…"
        raise DataError(
            f"{location} must have numbers, got {text!r}; write numbers as -1.5 or 2e-3"
        )
    value = float(field)
    if abs(value) > _MAX_VALUE:
        raise DataError(
            f"{location} must have numbers up to {_MAX_VALUE:g}, got {field[:20]}; use another unit"
        )
    return value


def _count_columns(count: int) -> str:
    return "1 column" if count == 1 else f"{count} columns"


def _describe_header(entries: Mapping[str, str], header: str) -> str:
    """Return the type of the values, such as <U3, or else the start of a header."""
    value_type = entries.get("descr", "").strip("'")
    if value_type == "|O":
        return "Python objects"
    return f"values of type {value_type}" if value_type else header[:80] or "an empty header"


def _read_npy(path: Path, content: bytes) -> Points:
    # Parse the header without numpy.load: points need only simple headers, and no header can make
    # this function allocate more memory than the file has.
    if not content.startswith(_MAGIC) or len(content) < 12 or content[6] not in (1, 2, 3):
        raise DataError(f"{path} is not a .npy file; write one with numpy.save")
    head = 10 if content[6] == 1 else 12
    start = head + int.from_bytes(content[8:head], "little")
    header = "".join(content[head : min(start, head + _MAX_HEADER_CHARS)].decode("latin-1").split())
    entries = dict(_ITEM.findall(header)) if _HEADER.fullmatch(header) else {}
    dtype_text = _DTYPE.fullmatch(entries.get("descr", ""))
    if entries.keys() != {"descr", "fortran_order", "shape"} or not dtype_text:
        raise DataError(
            f"{path} must contain an array of integers or real numbers, got "
            f"{_describe_header(entries, header)}; save a float64 array of shape (N, 2) or (N,) "
            "for points, (N, height, width) for images"
        )
    # Check the shape and the size.
    shape = tuple(int(length) for length in re.findall(r"\d+", entries["shape"]))
    if not (len(shape) == 1 or (len(shape) == 2 and shape[1] in (1, 2))):
        raise DataError(
            f"{path} must have shape (N,), (N, 1) or (N, 2), got {shape}; save one point "
            "per row, or images of shape (N, height, width)"
        )
    if shape[0] > _MAX_POINTS:
        raise DataError(
            f"{path} must have at most {_MAX_POINTS:,} points, got more; {_SUBSAMPLE_ADVICE}"
        )
    dtype = np.dtype(dtype_text[1])
    expected, size = math.prod(shape) * dtype.itemsize, max(0, len(content) - start)
    if expected != size:
        raise DataError(
            f"{path} must have {expected:,} bytes of numbers, got {size:,}; save it again"
        )
    if not shape[0]:
        raise DataError(f"{path} must contain points, got none; save at least one point")
    # Convert the values.
    array = np.frombuffer(content, dtype, offset=start)
    order = "F" if entries["fortran_order"] == "True" else "C"
    values = array.reshape((shape[0], -1), order=order).astype(np.float64)
    return _check_values(path, values)


def _check_values(path: Path, values: Points) -> Points:
    invalid = ~(np.abs(values) <= _MAX_VALUE)  # True for NaN too
    if invalid.any():
        row, column = map(int, np.argwhere(invalid)[0])
        raise DataError(
            f"{path}, row {row} (counted from 0) must have finite numbers up to {_MAX_VALUE:g}, "
            f"got {values[row, column]:g}; remove or correct the point"
        )
    return values
