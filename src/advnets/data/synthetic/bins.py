"""Cells about any distribution of points, whose probabilities are exact."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from jaxtyping import Float64, Int64

from advnets.data.dataset import Axis, Distribution

_EDGES: dict[Axis, tuple[tuple[float, ...], ...]] = {
    "uniform": (tuple(n / 16 for n in range(1, 16)), (0.25, 0.5, 0.75), (0.5,), ()),
    "normal": ((-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0), (-1.0, 0.0, 1.0), (0.0,), ()),
}
"""What parts the numbers of an axis, from fine to coarse."""
_MOST = 1024
"""Cells, at most, unless there are more parts."""


def count_in_cells(
    distribution: Distribution, points: np.ndarray
) -> tuple[Int64[np.ndarray, " cells"], Float64[np.ndarray, " cells"]]:
    """How many points of shape (n, dims) fall into each cell, and how probable it is there.

    A cell is of one part of the distribution, of a sixteenth of each number on [0, 1] that points
    are drawn from, and of one deviation of each normal one, up to 3; of more where so there are
    over 1,024 cells. The last one is where the density is 0. Points are led back by `origins`, all
    alike wherever they came from, so no divergence over cells is above that of the points.

    Raises:
        UsageError: the points are of another shape.
    """
    parts, axes = distribution.part_weights, distribution.axes
    levels = (tuple(_EDGES[axis][level] for axis in axes) for level in range(len(_EDGES["normal"])))
    edges = next(level for level in levels if len(parts) * _count(level) <= max(_MOST, len(parts)))
    origins = distribution.origins(points)
    cell, masses = origins.part, parts
    for axis, some, numbers in zip(axes, edges, origins.numbers.T, strict=True):
        cell = cell * (len(some) + 1) + np.searchsorted(some, numbers, side="right")
        masses = np.multiply.outer(masses, _masses(axis, some))
    cell = np.where(origins.part < 0, masses.size, cell)
    return np.bincount(cell, minlength=masses.size + 1), np.append(masses, 0.0)


def _count(level: tuple[tuple[float, ...], ...]) -> int:
    return math.prod(len(edges) + 1 for edges in level)


def _masses(axis: Axis, edges: tuple[float, ...]) -> Float64[np.ndarray, " cells"]:
    below = edges if axis == "uniform" else [NormalDist().cdf(edge) for edge in edges]
    return np.diff([0.0, *below, 1.0])
