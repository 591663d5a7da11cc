"""A Gaussian, and a uniform distribution on a box."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float64, Int64

from advnets.config import check_values
from advnets.data.dataset import BaseDistribution
from advnets.data.synthetic.base import (
    LOG_SQRT_2PI,
    SyntheticDistribution,
    check_coordinates,
    check_lengths,
    check_resolution,
    draw_normal,
    draw_uniform,
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

    def _log_terms(self, points: Float64[np.ndarray, "n dims"]) -> Float64[np.ndarray, "n 1"]:
        log_peak = -self.dims * LOG_SQRT_2PI - np.log(self._mean_and_sd()[1]).sum()
        if self.dims == 2:
            log_peak -= 0.5 * math.log(1 - self.rho**2)
        return (log_peak - 0.5 * (self._standardize(points) ** 2).sum(1))[:, None]

    def _standardize(self, points: Float64[np.ndarray, "n dims"]) -> Float64[np.ndarray, "n dims"]:
        """Return the standard normal numbers that generate points."""
        mean, sd = self._mean_and_sd()
        z = (points - mean) / sd
        if self.dims == 2:
            # Use (z₁² - 2ρ z₁z₂ + z₂²) / (1 - ρ²) = z₁² + (z₂ - ρ z₁)² / (1 - ρ²).
            z[:, 1] = (z[:, 1] - self.rho * z[:, 0]) / math.sqrt(1 - self.rho**2)
        return z

    def _invert(
        self, points: Float64[np.ndarray, "n dims"], term: Int64[np.ndarray, " n"]
    ) -> tuple[Int64[np.ndarray, " n"], Float64[np.ndarray, "n dims"]]:
        return term, self._standardize(points)

    def _draw(
        self, n: int, rng: RNG
    ) -> tuple[Float64[np.ndarray, "n dims"], Int64[np.ndarray, " n"]]:
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

    def _invert(
        self, points: Float64[np.ndarray, "n dims"], term: Int64[np.ndarray, " n"]
    ) -> tuple[Int64[np.ndarray, " n"], Float64[np.ndarray, "n dims"]]:
        low, high = self._bounds()
        return term, (points - low) / (high - low)

    def _bounds(self) -> tuple[Float64[np.ndarray, " dims"], Float64[np.ndarray, " dims"]]:
        return (
            broadcast_option(self.low, self.dims, "low"),
            broadcast_option(self.high, self.dims, "high"),
        )

    def _log_terms(self, points: Float64[np.ndarray, "n dims"]) -> Float64[np.ndarray, "n 1"]:
        low, high = self._bounds()
        within = ((points >= low) & (points <= high)).all(1)
        return np.where(within, -np.log(high - low).sum(), -math.inf)[:, None]

    def _draw(
        self, n: int, rng: RNG
    ) -> tuple[Float64[np.ndarray, "n dims"], Int64[np.ndarray, " n"]]:
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
