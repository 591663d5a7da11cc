"""Mixtures of normal distributions: arbitrary, on a ring, on a grid."""

from __future__ import annotations

import itertools
import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float64

from advnets.config import check_values
from advnets.data.distribution import (
    LOG_SQRT_2PI,
    BaseDistribution,
    Indices,
    Points,
    SyntheticDistribution,
    check_coordinates,
    check_lengths,
    check_resolution,
    draw_modes,
    draw_normal,
    draw_uniform,
    uniform_weights,
)
from advnets.errors import UsageError
from advnets.rng import RNG

_MAX_RHO = 0.999999


@dataclass(frozen=True)
class Gaussian(SyntheticDistribution):
    """A normal distribution in one or two dimensions, with correlation ρ of the coordinates.

    p(x) = N(x; mean, Σ), Σ_ij = ρ_ij sd_i sd_j, ρ_ii = 1
    """

    description: ClassVar[str] = "a normal distribution in one or two dimensions"

    dims: Literal[1, 2] = 1  # type: ignore[reportIncompatibleMethodOverride, reportIncompatibleVariableOverride]
    """The number of coordinates of a point."""
    mean: tuple[float, ...] = (0.0,)
    """The mean of each coordinate, or of all."""
    sd: tuple[float, ...] = (1.0,)
    """The standard deviation of each coordinate, or of all."""
    rho: float = 0.0
    """The correlation of the two coordinates."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_coordinates(self, "mean")
        check_lengths(self, "sd")
        check_values(self, f"-{_MAX_RHO} to {_MAX_RHO}", lambda rho: abs(rho) <= _MAX_RHO, "rho")
        if self.rho and self.dims == 1:
            raise UsageError(f"rho must be 0 with dims=1, got {self.rho}; set dims=2")
        mean, sd = self._mean_and_sd()
        check_resolution("sd", float(sd.min()), float(np.abs(mean).max()))

    def _mean_and_sd(self) -> tuple[Float64[np.ndarray, " dims"], Float64[np.ndarray, " dims"]]:
        return (
            broadcast_option(self.mean, self.dims, "mean"),
            broadcast_option(self.sd, self.dims, "sd"),
        )

    def _log_terms(self, points: Points) -> Float64[np.ndarray, "n 1"]:
        log_peak = -self.dims * LOG_SQRT_2PI - np.log(self._mean_and_sd()[1]).sum()
        if self.dims == 2:
            log_peak -= 0.5 * math.log(1 - self.rho**2)
        return (log_peak - 0.5 * (self._standardize(points) ** 2).sum(1))[:, None]

    def _standardize(self, points: Points) -> Points:
        """Return the standard normal numbers that generate points."""
        mean, sd = self._mean_and_sd()
        z = (points - mean) / sd
        if self.dims == 2:
            # Use (z₁² - 2ρ z₁z₂ + z₂²) / (1 - ρ²) = z₁² + (z₂ - ρ z₁)² / (1 - ρ²).
            z[:, 1] = (z[:, 1] - self.rho * z[:, 0]) / math.sqrt(1 - self.rho**2)
        return z

    def _invert(self, points: Points, term: Indices) -> tuple[Indices, Points]:
        return term, self._standardize(points)

    def _draw(self, n: int, rng: RNG) -> tuple[Points, Indices]:
        z = draw_normal(rng, "point", n, self.dims)
        if self.dims == 2:
            z[:, 1] = self.rho * z[:, 0] + math.sqrt(1 - self.rho**2) * z[:, 1]
        mean, sd = self._mean_and_sd()
        return mean + sd * z, np.zeros(n, np.int64)


@dataclass(frozen=True)
class Uniform(SyntheticDistribution):
    """The uniform distribution on a box: an interval or a rectangle.

    p(x) = 1 / Π (high_i - low_i) in the closed box, 0 outside
    """

    description: ClassVar[str] = "a uniform distribution on an interval or a rectangle"

    dims: Literal[1, 2] = 1  # type: ignore[reportIncompatibleMethodOverride, reportIncompatibleVariableOverride]
    """The number of coordinates of a point."""
    low: tuple[float, ...] = (-1.0,)
    """The minimum of each coordinate, or of all."""
    high: tuple[float, ...] = (1.0,)
    """The maximum of each coordinate, or of all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_coordinates(self, "low", "high")
        low, high = self._bounds()
        if not (low < high).all():
            raise UsageError(
                f"low must be less than high, got low={self.low} and high={self.high}; swap them"
            )
        check_resolution("high - low", float((high - low).min()), float(np.abs([low, high]).max()))

    @property
    def base_distributions(self) -> tuple[BaseDistribution, ...]:
        """Return the distribution of the relative position along each side."""
        return ("uniform",) * self.dims

    def _invert(self, points: Points, term: Indices) -> tuple[Indices, Points]:
        low, high = self._bounds()
        return term, (points - low) / (high - low)

    def _bounds(self) -> tuple[Float64[np.ndarray, " dims"], Float64[np.ndarray, " dims"]]:
        return (
            broadcast_option(self.low, self.dims, "low"),
            broadcast_option(self.high, self.dims, "high"),
        )

    def _log_terms(self, points: Points) -> Float64[np.ndarray, "n 1"]:
        low, high = self._bounds()
        within = ((points >= low) & (points <= high)).all(1)
        return np.where(within, -np.log(high - low).sum(), -math.inf)[:, None]

    def _draw(self, n: int, rng: RNG) -> tuple[Points, Indices]:
        low, high = self._bounds()
        fraction = np.stack(
            [draw_uniform(rng, f"axis {axis}", n) for axis in range(self.dims)], axis=1
        )
        # Clip to the float32 numbers inside the box: rounding must not move a point out of it.
        minimum, maximum = low.astype(np.float32), high.astype(np.float32)
        minimum = np.where(minimum < low, np.nextafter(minimum, np.float32(np.inf)), minimum)
        maximum = np.where(maximum > high, np.nextafter(maximum, np.float32(-np.inf)), maximum)
        points = np.clip(low + (high - low) * fraction, minimum, maximum)
        return points.astype(np.float64), np.zeros(n, np.int64)


def broadcast_option(
    values: tuple[float, ...], count: int, name: str
) -> Float64[np.ndarray, " count"]:
    """Broadcast an option of one number to `count` numbers.

    Raises:
        UsageError: there are neither one nor `count` numbers.
    """
    if len(values) not in (1, count):
        expected = "one number" if count == 1 else f"one number or {count}"
        raise UsageError(
            f"{name} must have {expected}, got {len(values)}; write two numbers as 1/2"
        )
    return np.broadcast_to(np.array(values, np.float64), (count,))


_MAX_MODES = 10_000
_MAX_SIDE = 100

Components = tuple[
    Float64[np.ndarray, "modes dims"], Float64[np.ndarray, " modes"], Float64[np.ndarray, " modes"]
]
"""The centers, standard deviations and weights (which sum to 1) of a mixture."""


@dataclass(frozen=True)
class NormalMixture(SyntheticDistribution):
    """A mixture of isotropic normal distributions.

    p(x) = Σ_k w_k N(x; c_k, sd_k² I)
    """

    @abstractmethod
    def components(self) -> Components:
        """Return centers, standard deviations and weights of the modes."""

    @property
    def dims(self) -> int:
        """Return the number of coordinates of a point."""
        return self.components()[0].shape[1]

    @property
    def num_modes(self) -> int:
        """Return the number of modes, one per center."""
        return len(self.components()[0])

    @property
    def component_weights(self) -> Float64[np.ndarray, " components"]:
        """Return the weights of the normal distributions."""
        return self.components()[2]

    def _invert(self, points: Points, term: Indices) -> tuple[Indices, Points]:
        centers, sds, _ = self.components()
        return term, (points - centers[term]) / sds[term, None]

    def _log_terms(self, points: Points) -> Float64[np.ndarray, "n components"]:
        centers, sds, weights = self.components()
        # Use differences instead of a matrix product, which cancels for narrow modes far from 0.
        square = ((points[:, :1] - centers[:, 0]) / sds) ** 2
        for axis in range(1, centers.shape[1]):
            square += ((points[:, axis, None] - centers[:, axis]) / sds) ** 2
        square *= -0.5
        square += np.log(weights) - centers.shape[1] * (LOG_SQRT_2PI + np.log(sds))
        return square

    def _draw(self, n: int, rng: RNG) -> tuple[Points, Indices]:
        centers, sds, weights = self.components()
        modes = draw_modes(rng, n, weights)
        points = centers[modes] + sds[modes, None] * draw_normal(rng, "point", n, centers.shape[1])
        return points, modes


@dataclass(frozen=True)
class Mixture(NormalMixture):
    """A mixture with given means: means=-2/3 in one dimension, means=0:1/2:3 in two.

    p(x) = Σ_k w_k N(x; mean_k, sd_k² I)
    """

    description: ClassVar[str] = "a mixture of normal distributions in one or two dimensions"

    means: tuple[tuple[float, ...], ...] = ((-2.0,), (2.0,))
    """The centers, of one or two coordinates each."""
    sds: tuple[float, ...] = (0.5,)
    """The standard deviation of each mode, or of all."""
    weights: tuple[float, ...] = (1.0,)
    """The relative frequency of each mode, or of all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        dims = {len(mean) for mean in self.means}
        if dims not in ({1}, {2}) or len(self.means) > _MAX_MODES:
            raise UsageError(
                f"means must be 1 to {_MAX_MODES:,} points, all of 1 or all of 2 coordinates, got "
                f"{len(self.means):,} of {sorted(dims)} coordinates; write means=-2/3 or "
                "means=0:1/2:3"
            )
        for value in itertools.chain(*self.means):
            if not abs(value) <= 1e6:
                raise UsageError(
                    f"means must be -1,000,000 to 1,000,000, got {value}; use smaller values"
                )
        check_lengths(self, "sds", "weights")
        centers, sds, _ = self.components()
        check_resolution("sds", float(sds.min()), float(np.abs(centers).max()))

    def components(self) -> Components:
        """Return centers, standard deviations and weights of the modes."""
        count = len(self.means)
        weights = broadcast_option(self.weights, count, "weights")
        return (
            np.array(self.means),
            broadcast_option(self.sds, count, "sds"),
            weights / weights.sum(),
        )


@dataclass(frozen=True)
class Ring(NormalMixture):
    """Normal distributions equally spaced on a circle; VEEGAN and PacGAN use 8 modes.

    p(x) = 1/K Σ_k N(x; radius (cos 2πk/K, sin 2πk/K), sd² I)

    Srivastava et al. (2017), "VEEGAN: reducing mode collapse in GANs using implicit variational
    learning", section 4.1; Lin et al. (2018), "PacGAN: the power of two samples in generative
    adversarial networks".
    """

    description: ClassVar[str] = (
        "normal distributions on a circle (8 by default, as in VEEGAN and PacGAN)"
    )

    modes: int = 8
    """The number of modes."""
    radius: float = 1.0
    """The radius of the circle."""
    sd: float = 0.01
    """The standard deviation of each mode."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_values(self, f"1 to {_MAX_MODES:,}", lambda modes: 1 <= modes <= _MAX_MODES, "modes")
        check_lengths(self, "radius", "sd")
        check_resolution("sd", self.sd, self.radius)

    def components(self) -> Components:
        """Return centers, standard deviations and weights of the modes."""
        angle = np.arange(self.modes) * (2 * math.pi / self.modes)
        centers = self.radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        return centers, np.full(self.modes, self.sd), uniform_weights(self.modes)


@dataclass(frozen=True)
class Grid(NormalMixture):
    """Normal distributions on a square grid about 0; VEEGAN and PacGAN use a side of 5.

    p(x) = 1/side² Σ_ij N(x; spacing (i - m, j - m), sd² I), m = (side - 1) / 2

    With the defaults the centers are {-4, -2, 0, 2, 4}². Sources as for `Ring`.
    """

    description: ClassVar[str] = (
        "normal distributions on a square grid (5 x 5 by default, as in VEEGAN and PacGAN)"
    )

    side: int = 5
    """The number of modes per row, and of rows."""
    spacing: float = 2.0
    """The distance between neighboring modes."""
    sd: float = 0.05
    """The standard deviation of each mode."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_values(self, f"1 to {_MAX_SIDE}", lambda side: 1 <= side <= _MAX_SIDE, "side")
        check_lengths(self, "spacing", "sd")
        check_resolution("sd", self.sd, self.spacing * self.side / 2)

    def components(self) -> Components:
        """Return centers, standard deviations and weights of the modes, with y varying fastest."""
        positions = self.spacing * (np.arange(self.side) - (self.side - 1) / 2)
        mesh = np.meshgrid(positions, positions, indexing="ij")
        centers = np.stack(mesh, axis=-1).reshape(-1, 2)
        return centers, np.full(len(centers), self.sd), uniform_weights(len(centers))
