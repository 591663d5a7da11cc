"""What distributions of points share: their options, how they are drawn, how densities are summed.

A distribution is a frozen dataclass whose fields are its options. Its density is a sum of terms,
of which it gives the logarithms; the sum is taken here, in blocks and without overflow. A term is a
way in which a point may have been drawn, and leads back to the numbers that it was drawn from.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import ClassVar

import numpy as np
from jaxtyping import Float32, Float64, Int64

from advnets.config import check_min, check_values
from advnets.data.dataset import BaseDistribution, BaseSample, Distribution
from advnets.errors import UsageError
from advnets.rng import RNG

LOG_ROOT_TAU = 0.5 * math.log(2 * math.pi)
"""log √(2π)."""

_MAX_POINTS = 10_000_000
_BLOCK = 1 << 17  # terms of a density at once: a mebibyte of float64, which stays in the cache
_MIN_RESOLUTION = 2.0**-20  # of the farthest coordinate: eight steps of float32


@dataclass(frozen=True, kw_only=True)
class SampleOptions:
    """How many points are drawn, and which."""

    n: int = 100_000
    """Training points."""
    seed: int = 0
    """Which draw of the points; it is not the run's seed."""

    def __post_init__(self) -> None:
        check_values(self, f"1 to {_MAX_POINTS:,}", lambda n: 1 <= n <= _MAX_POINTS, "n")
        check_min(self, 0, "seed")


@dataclass(frozen=True)
class SyntheticDistribution(SampleOptions, ABC):
    """A distribution of points whose log density is exact."""

    description: ClassVar[str]

    @property
    def dims(self) -> int:
        """Numbers in a point, 1 or 2."""
        return 2

    @property
    def num_modes(self) -> int:
        """Modes, numbered from 0; 1 where the distribution is not told apart into several."""
        return 1

    def sample(self, n: int, rng: RNG) -> Float32[np.ndarray, "n dims"]:
        """Draw n points; the first ones do not depend on n."""
        return self.sample_with_modes(n, rng)[0]

    def sample_with_modes(
        self, n: int, rng: RNG
    ) -> tuple[Float32[np.ndarray, "n dims"], Int64[np.ndarray, " n"]]:
        """Draw n points, and the number of the mode that each was drawn from."""
        points, modes = self._draw(n, rng)
        return points.astype(np.float32), modes

    def log_density(self, points: np.ndarray) -> Float64[np.ndarray, " n"]:
        """Log p(x) in nats at points of shape (n, dims), exact, in float64.

        -inf where p is 0 and at points that are infinite; NaN at points that are NaN.

        Raises:
            UsageError: the points are of another shape.
        """
        self._check_shape(points)
        points = points.astype(np.float64)
        found = np.where(np.isnan(points).any(1), math.nan, -math.inf)
        for block, terms in self._blocks_of_terms(points):
            found[block] = log_sum_exp(terms)
        return found

    @property
    def base_distributions(self) -> tuple[BaseDistribution, ...]:
        """How each of the numbers that a point is drawn from is distributed."""
        return ("normal",) * self.dims

    @property
    def component_weights(self) -> Float64[np.ndarray, " parts"]:
        """How probable each part of it is that points are drawn from, as a mode or an arm."""
        return uniform_weights(self.num_modes)

    def invert(self, points: np.ndarray) -> BaseSample:
        """Lead points of shape (n, dims) back to what they may have been drawn from.

        Where x may have been drawn in several ways, its last digits choose one, each as often as it
        is probable given x. So parts and numbers of points of this distribution are distributed as
        those that it draws from.

        Raises:
            UsageError: the points are of another shape.
        """
        self._check_shape(points)
        points = points.astype(np.float64)
        part = np.full(len(points), -1)
        numbers = np.full(points.shape, math.nan)
        chance = hash_to_unit_interval(points)
        for block, terms in self._blocks_of_terms(points):
            total = log_sum_exp(terms)
            possible = ~np.isneginf(total)
            block, terms, total = block[possible], terms[possible], total[possible]
            sums = np.exp(terms - total[:, None]).cumsum(1)
            term = (sums < chance[block, None] * sums[:, -1:]).sum(1)
            part[block], numbers[block] = self._invert(points[block], term)
        return BaseSample(part, numbers)

    def _check_shape(self, points: np.ndarray) -> None:
        if points.ndim != 2 or points.shape[1] != self.dims:
            raise UsageError(
                f"points have shape {points.shape}; expected (n, {self.dims}): give a point a row"
            )

    def _blocks_of_terms(
        self, points: Float64[np.ndarray, "n dims"]
    ) -> Iterator[tuple[Int64[np.ndarray, " b"], Float64[np.ndarray, "b terms"]]]:
        """Which points, all finite, and the logarithms of their terms."""
        finite = np.flatnonzero(np.isfinite(points).all(1))
        rows = max(1, _BLOCK // self._num_terms)
        for start in range(0, len(finite), rows):
            block = finite[start : start + rows]
            with np.errstate(over="ignore"):  # a square that is infinite is of density 0
                terms = self._log_terms(points[block])
            yield block, terms

    @property
    def _num_terms(self) -> int:
        """How many terms the density is a sum of."""
        return self.num_modes

    @abstractmethod
    def _log_terms(self, points: Float64[np.ndarray, "n dims"]) -> Float64[np.ndarray, "n terms"]:
        """Logarithms of the terms whose sum p(x) is."""

    @abstractmethod
    def _invert(
        self, points: Float64[np.ndarray, "n dims"], term: Int64[np.ndarray, " n"]
    ) -> tuple[Int64[np.ndarray, " n"], Float64[np.ndarray, "n dims"]]:
        """Part and numbers that lead to a point in the way of this term."""

    @abstractmethod
    def _draw(
        self, n: int, rng: RNG
    ) -> tuple[Float64[np.ndarray, "n dims"], Int64[np.ndarray, " n"]]:
        """Points and the numbers of their modes."""


def log_sum_exp(terms: Float64[np.ndarray, "n terms"]) -> Float64[np.ndarray, " n"]:
    """Give log Σ exp(terms) of each row; -inf where all are."""
    top = terms.max(1)
    # log Σ exp(t) = m + log Σ exp(t - m), m being the largest t, so that the sum is at least 1
    shift = np.where(np.isneginf(top), 0.0, top)
    with np.errstate(divide="ignore"):
        return shift + np.log(np.exp(terms - shift[:, None]).sum(1))


def hash_to_unit_interval(points: Float64[np.ndarray, "n dims"]) -> Float64[np.ndarray, " n"]:
    """A number in [0, 1) for each point, as if at random, that hangs on its digits alone.

    Source: Steele, Lea and Flood 2014, “Fast splittable pseudorandom number generators”, figure 16.
    """
    mixed = np.zeros(len(points), np.uint64)
    for digits in np.ascontiguousarray(points).view(np.uint64).T:
        mixed = (mixed ^ digits) + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return (mixed >> np.uint64(11)) * 2.0**-53


def log_normal(z: np.ndarray, sd: float) -> np.ndarray:
    """Log density of N(0, sd²) at sd · z."""
    return -0.5 * z**2 - (LOG_ROOT_TAU + math.log(sd))


def draw_uniform(rng: RNG, purpose: str, n: int) -> Float64[np.ndarray, " n"]:
    """Uniform numbers in the open interval (0, 1), evenly in steps of 2^-48."""
    high, low = rng.uniform(purpose, n, 2).cpu().numpy().astype(np.float64).T
    return high + low * 2.0**-24 + 2.0**-49


def draw_normal(rng: RNG, purpose: str, n: int, dims: int) -> Float64[np.ndarray, "n dims"]:
    """Standard normal numbers."""
    return rng.normal(purpose, n, dims).cpu().numpy().astype(np.float64)


def draw_modes(rng: RNG, n: int, weights: Float64[np.ndarray, " modes"]) -> np.ndarray:
    """Numbers of modes, int64, drawn by their weights."""
    edges = np.cumsum(weights)
    chosen = np.searchsorted(edges, draw_uniform(rng, "mode", n) * edges[-1], side="right")
    return np.minimum(chosen, len(weights) - 1).astype(np.int64)


def uniform_weights(modes: int) -> Float64[np.ndarray, " modes"]:
    """Weights of modes that are all alike."""
    return np.full(modes, 1 / modes)


def rotate(points: Float64[np.ndarray, "... 2"], angle: np.ndarray) -> Float64[np.ndarray, "... 2"]:
    """Points turned about the origin, counter-clockwise, by angles in radians."""
    x, y = points[..., 0], points[..., 1]
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([cos * x - sin * y, sin * x + cos * y], axis=-1)


def check_lengths(config: object, *names: str) -> None:
    """Refuse lengths that are not positive, or beyond what float32 makes sense of."""
    check_values(config, "0.000001 to 1,000,000", lambda size: 1e-6 <= size <= 1e6, *names)


def check_coordinates(config: object, *names: str) -> None:
    """Refuse coordinates beyond what float32 makes sense of."""
    check_values(config, "-1,000,000 to 1,000,000", lambda place: abs(place) <= 1e6, *names)


def check_resolution(what: str, size: float, farthest: float) -> None:
    """Refuse a width that is lost where the points lie, which are float32.

    Raises:
        UsageError: it is less than eight steps of float32 there.
    """
    if size < _MIN_RESOLUTION * farthest:
        raise UsageError(
            f"{what} is {size:g}, but points lie {farthest:g} from 0, where numbers of 32 bits "
            f"are too coarse for it; make it at least {_MIN_RESOLUTION * farthest:.2g}, or move the points"
        )


_BIN_EDGES: dict[BaseDistribution, tuple[tuple[float, ...], ...]] = {
    "uniform": (tuple(n / 16 for n in range(1, 16)), (0.25, 0.5, 0.75), (0.5,), ()),
    "normal": ((-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0), (-1.0, 0.0, 1.0), (0.0,), ()),
}
"""What parts the numbers of an axis, from fine to coarse."""
_MAX_BINS = 1024
"""Cells, at most, unless there are more parts."""


def bin_counts(
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
    parts, axes = distribution.component_weights, distribution.base_distributions
    levels = (
        tuple(_BIN_EDGES[axis][level] for axis in axes)
        for level in range(len(_BIN_EDGES["normal"]))
    )
    edges = next(
        level for level in levels if len(parts) * _num_bins(level) <= max(_MAX_BINS, len(parts))
    )
    origins = distribution.invert(points)
    cell, masses = origins.component, parts
    for axis, some, numbers in zip(axes, edges, origins.noise.T, strict=True):
        cell = cell * (len(some) + 1) + np.searchsorted(some, numbers, side="right")
        masses = np.multiply.outer(masses, _bin_probabilities(axis, some))
    cell = np.where(origins.component < 0, masses.size, cell)
    return np.bincount(cell, minlength=masses.size + 1), np.append(masses, 0.0)


def _num_bins(level: tuple[tuple[float, ...], ...]) -> int:
    return math.prod(len(edges) + 1 for edges in level)


def _bin_probabilities(
    axis: BaseDistribution, edges: tuple[float, ...]
) -> Float64[np.ndarray, " cells"]:
    below = edges if axis == "uniform" else [NormalDist().cdf(edge) for edge in edges]
    return np.diff([0.0, *below, 1.0])
