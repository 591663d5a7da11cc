"""The base class of synthetic distributions of points with exact densities.

A distribution is a frozen dataclass whose fields are its options. A point is computed from a
mixture component and base noise (uniform or normal). The density at a point is a sum of terms, one
for each way in which the point may have been generated; subclasses return the logarithms of the
terms, and invert them to component and noise.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float32, Float64, Int64

from advnets.config import check_min, check_values
from advnets.errors import UsageError
from advnets.rng import RNG

LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)
"""log √(2π)."""

Points = Float64[np.ndarray, "n dims"]
"""Points, or base noise, with `dims` coordinates each."""
Indices = Int64[np.ndarray, " n"]
"""An index for each point: of its mode, component or term."""
BaseDistribution = Literal["uniform", "normal"]
"""The distribution of a coordinate of base noise: uniform on [0, 1], or N(0, 1)."""

_MAX_POINTS = 10_000_000
_BLOCK = 1 << 17
"""The number of terms of a density that are computed at once: 1 MiB, which fits a CPU cache."""
_MIN_RESOLUTION = 2.0**-20
"""The minimum width relative to the largest coordinate: eight steps of float32."""


@dataclass(frozen=True, eq=False)
class BaseSample:
    """The mixture components and the base noise from which points may have been drawn."""

    component: Indices
    """The component index; -1 where the density is 0."""
    noise: Points
    """The base noise; NaN where the density is 0."""


@dataclass(frozen=True, kw_only=True)
class SampleOptions:
    """The number of points that are drawn, and the random seed."""

    n: int = 100_000
    """The number of training points."""
    seed: int = 0
    """The random seed of the points, independent of the seed of a run."""

    def __post_init__(self) -> None:
        check_values(self, f"1 to {_MAX_POINTS:,}", lambda n: 1 <= n <= _MAX_POINTS, "n")
        check_min(self, 0, "seed")


@dataclass(frozen=True)
class SyntheticDistribution(SampleOptions, ABC):
    """A distribution of points with an exact log density."""

    description: ClassVar[str]

    @property
    def dims(self) -> int:
        """Return the number of coordinates of a point, 1 or 2."""
        return 2

    @property
    def num_modes(self) -> int:
        """Return the number of modes; 1 if the distribution has no separate modes."""
        return 1

    def sample(self, n: int, rng: RNG) -> Float32[np.ndarray, "n dims"]:
        """Draw n points; the first points do not depend on n."""
        return self.sample_with_modes(n, rng)[0]

    def sample_with_modes(self, n: int, rng: RNG) -> tuple[Float32[np.ndarray, "n dims"], Indices]:
        """Draw n points, and the mode of each, counted from 0."""
        points, modes = self._draw(n, rng)
        return points.astype(np.float32), modes

    def log_density(self, points: np.ndarray) -> Float64[np.ndarray, " n"]:
        """Return the exact log p(x) in nats, in float64, at points of shape (n, dims).

        It is -inf where p is 0 and at infinite points, and NaN at NaN.

        Raises:
            UsageError: the points have a wrong shape.
        """
        self._check_shape(points)
        points = points.astype(np.float64)
        log_p = np.where(np.isnan(points).any(1), math.nan, -math.inf)
        for block, terms in self._iterate_terms(points):
            log_p[block] = log_sum_exp(terms)
        return log_p

    @property
    def base_distributions(self) -> tuple[BaseDistribution, ...]:
        """Return the distribution of each coordinate of the base noise."""
        return ("normal",) * self.dims

    @property
    def component_weights(self) -> Float64[np.ndarray, " components"]:
        """Return the probability of each mixture component, such as a mode or a spiral arm."""
        return uniform_weights(self.num_modes)

    def invert(self, points: np.ndarray) -> BaseSample:
        """Map points of shape (n, dims) to components and base noise that generate them.

        If x may have been generated in several ways, one of them is chosen with its posterior
        probability, pseudo-randomly by a hash of x. So components and noise of points drawn from
        this distribution have the distributions from which they were drawn.

        Raises:
            UsageError: the points have a wrong shape.
        """
        self._check_shape(points)
        points = points.astype(np.float64)
        component = np.full(len(points), -1)
        noise = np.full(points.shape, math.nan)
        uniform = hash_to_unit_interval(points)
        for block, terms in self._iterate_terms(points):
            # Leave out points of density 0.
            total = log_sum_exp(terms)
            possible = ~np.isneginf(total)
            block, terms, total = block[possible], terms[possible], total[possible]
            # Choose a term with its posterior probability, and invert it.
            cumulative = np.exp(terms - total[:, None]).cumsum(1)
            term = (cumulative < uniform[block, None] * cumulative[:, -1:]).sum(1)
            component[block], noise[block] = self._invert(points[block], term)
        return BaseSample(component, noise)

    def _check_shape(self, points: np.ndarray) -> None:
        if points.ndim != 2 or points.shape[1] != self.dims:
            raise UsageError(
                f"points must have shape (n, {self.dims}), got {points.shape}; pass one point per "
                "row"
            )

    def _iterate_terms(
        self, points: Points
    ) -> Iterator[tuple[Int64[np.ndarray, " b"], Float64[np.ndarray, "b terms"]]]:
        """Iterate over blocks of finite points: their indices and the logarithms of their terms."""
        finite = np.flatnonzero(np.isfinite(points).all(1))
        rows = max(1, _BLOCK // self._num_terms)
        for start in range(0, len(finite), rows):
            block = finite[start : start + rows]
            with np.errstate(over="ignore"):  # an infinite square means a density of 0
                terms = self._log_terms(points[block])
            yield block, terms

    @property
    def _num_terms(self) -> int:
        """Return the number of terms of the density."""
        return self.num_modes

    @abstractmethod
    def _log_terms(self, points: Points) -> Float64[np.ndarray, "n terms"]:
        """Return the logarithms of the terms whose sum is p(x)."""

    @abstractmethod
    def _invert(self, points: Points, term: Indices) -> tuple[Indices, Points]:
        """Return component and noise that generate each point by the given term."""

    @abstractmethod
    def _draw(self, n: int, rng: RNG) -> tuple[Points, Indices]:
        """Draw points and their modes."""


def log_sum_exp(terms: Float64[np.ndarray, "n terms"]) -> Float64[np.ndarray, " n"]:
    """Return log Σ exp(terms) of each row; -inf if all terms are."""
    largest = terms.max(1)
    # Compute log Σ exp(t) = m + log Σ exp(t - m) with the largest term m, so that the sum is >= 1.
    shift = np.where(np.isneginf(largest), 0.0, largest)
    with np.errstate(divide="ignore"):
        return shift + np.log(np.exp(terms - shift[:, None]).sum(1))


def hash_to_unit_interval(points: Points) -> Float64[np.ndarray, " n"]:
    """Return a pseudo-random number in [0, 1) for each point, a hash of its coordinates.

    Source: Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators", figure 16.
    """
    mixed = np.zeros(len(points), np.uint64)
    for bits in np.ascontiguousarray(points).view(np.uint64).T:
        mixed = (mixed ^ bits) + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return (mixed >> np.uint64(11)) * 2.0**-53


def log_normal(z: np.ndarray, sd: float) -> np.ndarray:
    """Return the log density of N(0, sd²) at sd · z."""
    return -0.5 * z**2 - (LOG_SQRT_2PI + math.log(sd))


def draw_uniform(rng: RNG, purpose: str, n: int) -> Float64[np.ndarray, " n"]:
    """Draw uniform numbers in the open interval (0, 1), with a resolution of 2^-48."""
    high, low = rng.uniform(purpose, n, 2).cpu().numpy().astype(np.float64).T
    return high + low * 2.0**-24 + 2.0**-49


def draw_normal(rng: RNG, purpose: str, n: int, dims: int) -> Points:
    """Draw standard normal numbers."""
    return rng.normal(purpose, n, dims).cpu().numpy().astype(np.float64)


def draw_modes(rng: RNG, n: int, weights: Float64[np.ndarray, " modes"]) -> np.ndarray:
    """Draw modes, int64, with probabilities in proportion to their weights."""
    cumulative = np.cumsum(weights)
    uniform = draw_uniform(rng, "mode", n)
    modes = np.searchsorted(cumulative, uniform * cumulative[-1], side="right")
    return np.minimum(modes, len(weights) - 1).astype(np.int64)


def uniform_weights(n: int) -> Float64[np.ndarray, " modes"]:
    """Return equal weights of n modes."""
    return np.full(n, 1 / n)


def rotate(points: Float64[np.ndarray, "... 2"], angle: np.ndarray) -> Float64[np.ndarray, "... 2"]:
    """Rotate points about the origin, counter-clockwise, by angles in radians."""
    x, y = points[..., 0], points[..., 1]
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([cos * x - sin * y, sin * x + cos * y], axis=-1)


def check_lengths(config: object, *names: str) -> None:
    """Check that lengths are positive and within the useful range of float32."""
    check_values(config, "0.000001 to 1,000,000", lambda size: 1e-6 <= size <= 1e6, *names)


def check_coordinates(config: object, *names: str) -> None:
    """Check that coordinates are within the useful range of float32."""
    check_values(config, "-1,000,000 to 1,000,000", lambda value: abs(value) <= 1e6, *names)


def check_resolution(name: str, width: float, largest: float) -> None:
    """Check that float32 points resolve a width at the largest coordinate.

    Raises:
        UsageError: the width is less than eight steps of float32.
    """
    if width < _MIN_RESOLUTION * largest:
        raise UsageError(
            f"{name} must be at least {_MIN_RESOLUTION * largest:.2g} to be resolved by float32 "
            f"points with coordinates of {largest:g}, got {width:g}; increase {name}, or move the "
            "points closer to 0"
        )


_BIN_EDGES: dict[BaseDistribution, tuple[tuple[float, ...], ...]] = {
    "uniform": (tuple(n / 16 for n in range(1, 16)), (0.25, 0.5, 0.75), (0.5,), ()),
    "normal": ((-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0), (-1.0, 0.0, 1.0), (0.0,), ()),
}
"""The bin edges of a coordinate of the base noise, from fine to coarse."""
_MAX_BINS = 1024
"""The maximum number of bins, unless there are more components."""


def bin_counts(
    distribution: SyntheticDistribution, points: np.ndarray
) -> tuple[Int64[np.ndarray, " bins"], Float64[np.ndarray, " bins"]]:
    """Return the number of points of shape (n, dims) in each bin, and the bins' probabilities.

    A bin is a component and an interval of each coordinate of the base noise: a sixteenth of
    [0, 1] if uniform, one standard deviation (up to 3) if normal, or coarser ones if there would be
    more than 1,024 bins. The last bin is where the density is 0. As points are binned by a
    function of their value (`invert`), no divergence over bins exceeds that of the points.

    Raises:
        UsageError: the points have a wrong shape.
    """
    weights, bases = distribution.component_weights, distribution.base_distributions
    # Choose the finest edges with at most _MAX_BINS bins.
    levels = (
        tuple(_BIN_EDGES[base][level] for base in bases)
        for level in range(len(_BIN_EDGES["normal"]))
    )
    edges = next(
        level for level in levels if len(weights) * _num_bins(level) <= max(_MAX_BINS, len(weights))
    )
    # Compute the bin of each point, and the probability of each bin.
    inverse = distribution.invert(points)
    index, probabilities = inverse.component, weights
    for base, base_edges, noise in zip(bases, edges, inverse.noise.T, strict=True):
        index = index * (len(base_edges) + 1) + np.searchsorted(base_edges, noise, side="right")
        probabilities = np.multiply.outer(probabilities, _bin_probabilities(base, base_edges))
    # Put points of density 0 into a last bin of probability 0.
    index = np.where(inverse.component < 0, probabilities.size, index)
    return np.bincount(index, minlength=probabilities.size + 1), np.append(probabilities, 0.0)


def _num_bins(edges: tuple[tuple[float, ...], ...]) -> int:
    return math.prod(len(base_edges) + 1 for base_edges in edges)


def _bin_probabilities(
    base: BaseDistribution, edges: tuple[float, ...]
) -> Float64[np.ndarray, " bins"]:
    cumulative = edges if base == "uniform" else [NormalDist().cdf(edge) for edge in edges]
    return np.diff([0.0, *cumulative, 1.0])
