"""One Gaussian, one box."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float64, Int64

from advnets.config import check_values
from advnets.data.dataset import BaseDistribution
from advnets.data.synthetic.base import (
    LOG_ROOT_TAU,
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
    """A normal distribution of a line or, with correlation ρ of its coordinates, of a plane.

    p(x) = N(x; mean, Σ), Σ_ij = ρ_ij sd_i sd_j, ρ_ii = 1
    """

    description: ClassVar[str] = "one normal distribution"

    dims: Literal[1, 2] = 1  # type: ignore[reportIncompatibleMethodOverride, reportIncompatibleVariableOverride]
    """Numbers in a point."""
    mean: tuple[float, ...] = (0.0,)
    """Of each coordinate, or of all."""
    sd: tuple[float, ...] = (1.0,)
    """Standard deviation of each coordinate, or of all."""
    rho: float = 0.0
    """Correlation of the two coordinates."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_coordinates(self, "mean")
        check_lengths(self, "sd")
        check_values(self, f"-{_MAX_RHO} to {_MAX_RHO}", lambda rho: abs(rho) <= _MAX_RHO, "rho")
        if self.rho and self.dims == 1:
            raise UsageError(f"rho is {self.rho}, but a line has no correlation; say dims=2")
        mean, sd = (
            broadcast_option(self.mean, self.dims, "mean"),
            broadcast_option(self.sd, self.dims, "sd"),
        )
        check_resolution("sd", float(sd.min()), float(np.abs(mean).max()))

    def _log_terms(self, points: Float64[np.ndarray, "n dims"]) -> Float64[np.ndarray, "n 1"]:
        height = (
            -self.dims * LOG_ROOT_TAU - np.log(broadcast_option(self.sd, self.dims, "sd")).sum()
        )
        if self.dims == 2:
            height -= 0.5 * math.log(1 - self.rho**2)
        return (height - 0.5 * (self._standardize(points) ** 2).sum(1))[:, None]

    def _standardize(self, points: Float64[np.ndarray, "n dims"]) -> Float64[np.ndarray, "n dims"]:
        """Standard normal numbers that points are drawn from."""
        mean, sd = (
            broadcast_option(self.mean, self.dims, "mean"),
            broadcast_option(self.sd, self.dims, "sd"),
        )
        z = (points - mean) / sd
        if self.dims == 2:
            # (z₁² - 2ρ z₁z₂ + z₂²) / (1 - ρ²) = z₁² + (z₂ - ρ z₁)² / (1 - ρ²)
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
        mean, sd = (
            broadcast_option(self.mean, self.dims, "mean"),
            broadcast_option(self.sd, self.dims, "sd"),
        )
        return mean + sd * z, np.zeros(n, np.int64)


@dataclass(frozen=True)
class Uniform(SyntheticDistribution):
    """A box, evenly filled: an interval of a line or a rectangle of a plane.

    p(x) = 1 / Π (high_i - low_i) in the box with its border, 0 outside
    """

    description: ClassVar[str] = "a box, evenly filled"

    dims: Literal[1, 2] = 1  # type: ignore[reportIncompatibleMethodOverride, reportIncompatibleVariableOverride]
    """Numbers in a point."""
    low: tuple[float, ...] = (-1.0,)
    """Least value of each coordinate, or of all."""
    high: tuple[float, ...] = (1.0,)
    """Largest value of each coordinate, or of all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_coordinates(self, "low", "high")
        low, high = self._bounds()
        if not (low < high).all():
            raise UsageError(f"low is {self.low} and high {self.high}; each low must be the lesser")
        check_resolution("high - low", float((high - low).min()), float(np.abs([low, high]).max()))

    @property
    def base_distributions(self) -> tuple[BaseDistribution, ...]:
        """Of the share of each side."""
        return ("uniform",) * self.dims

    def _invert(
        self, points: Float64[np.ndarray, "n dims"], term: Int64[np.ndarray, " n"]
    ) -> tuple[Int64[np.ndarray, " n"], Float64[np.ndarray, "n dims"]]:
        low, high = self._bounds()
        return term, (points - low) / (high - low)

    def _bounds(self) -> tuple[Float64[np.ndarray, " dims"], Float64[np.ndarray, " dims"]]:
        return broadcast_option(self.low, self.dims, "low"), broadcast_option(
            self.high, self.dims, "high"
        )

    def _log_terms(self, points: Float64[np.ndarray, "n dims"]) -> Float64[np.ndarray, "n 1"]:
        low, high = self._bounds()
        within = ((points >= low) & (points <= high)).all(1)
        return np.where(within, -np.log(high - low).sum(), -math.inf)[:, None]

    def _draw(
        self, n: int, rng: RNG
    ) -> tuple[Float64[np.ndarray, "n dims"], Int64[np.ndarray, " n"]]:
        low, high = self._bounds()
        share = np.stack(
            [draw_uniform(rng, f"axis {axis}", n) for axis in range(self.dims)], axis=1
        )
        # Rounding to float32 must not carry a point over the border, where p is 0.
        least, most = low.astype(np.float32), high.astype(np.float32)
        least = np.where(least < low, np.nextafter(least, np.float32(np.inf)), least)
        most = np.where(most > high, np.nextafter(most, np.float32(-np.inf)), most)
        points = np.clip(low + (high - low) * share, least, most)
        return points.astype(np.float64), np.zeros(n, np.int64)


def broadcast_option(
    values: tuple[float, ...], count: int, what: str
) -> Float64[np.ndarray, " count"]:
    """A number for each of so many, where one number stands for all.

    Raises:
        UsageError: there are neither so many nor one.
    """
    if len(values) not in (1, count):
        some = "one number" if count == 1 else f"one number or {count}"
        raise UsageError(f"{what} has {len(values)} numbers; expected {some}: 1/2 for two of them")
    return np.broadcast_to(np.array(values, np.float64), (count,))
