"""Distributions along curves of a plane: spiral arms, two moons, a pinwheel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float64, Int64

from advnets.config import check_values
from advnets.data.dataset import BaseDistribution
from advnets.data.synthetic.base import (
    SyntheticDistribution,
    check_lengths,
    check_resolution,
    draw_modes,
    draw_normal,
    draw_uniform,
    log_normal,
    rotate,
    uniform_weights,
)
from advnets.errors import UsageError
from advnets.rng import RNG

_MAX_COUNT = 100
_MIN_RADIUS = 1e-6  # in standard deviations, see `Spiral`
_ANGLE_TOLERANCE = (
    2.0**-22
)  # of an arm's angle, by which rounding to float32 may carry a point past its ends


@dataclass(frozen=True)
class Spiral(SyntheticDistribution):
    """Arms whose radius grows with the angle, from `inner` to `radius`.

    A point of arm j is s (cos φ, sin φ) with φ = t + 2πj / arms, t uniform in [0, T],
    T = 2π turns, and s ~ N(r(t), sd²), r(t) = inner + (radius - inner) t / T. At polar
    coordinates (ρ, φ) the density is

    p(x) = 1/arms Σ_j 1/(T ρ) Σ_t N(±ρ; r(t), sd²),

    t over φ - 2πj / arms + 2πk in [0, T] with sign +, and, as s may be negative, over the same
    plus π with sign -. It grows like 1/ρ at the center; within sd / 10⁶ of it ρ is taken as that.
    """

    description: ClassVar[str] = "arms of a spiral"

    arms: int = 2
    """How many; a point's mode is its arm."""
    turns: float = 1.0
    """Of each arm."""
    radius: float = 1.0
    """Where an arm ends."""
    inner: float = 0.1
    """Radius where it begins."""
    sd: float = 0.02
    """Standard deviation of the radius."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_values(self, f"1 to {_MAX_COUNT}", lambda arms: 1 <= arms <= _MAX_COUNT, "arms")
        check_values(
            self, f"0.01 to {_MAX_COUNT}", lambda turns: 0.01 <= turns <= _MAX_COUNT, "turns"
        )
        check_lengths(self, "radius", "sd")
        if not 0 <= self.inner < self.radius:
            raise UsageError(
                f"inner is {self.inner}, but an arm runs from inner to radius, {self.radius}; "
                f"make it at least 0 and less than that"
            )
        check_resolution("sd", self.sd, self.radius)

    @property
    def num_modes(self) -> int:
        """Arms."""
        return self.arms

    @property
    def base_distributions(self) -> tuple[BaseDistribution, ...]:
        """Of t / T and (s - r(t)) / sd."""
        return "uniform", "normal"

    @property
    def _total_angle(self) -> float:
        return 2 * math.pi * self.turns

    @property
    def _num_terms(self) -> int:
        return 2 * self.arms * self._windings

    @property
    def _windings(self) -> int:
        return math.floor(self.turns) + 1

    def _radius(self, t: Float64[np.ndarray, "..."]) -> Float64[np.ndarray, "..."]:
        return self.inner + (self.radius - self.inner) * (t / self._total_angle)

    def _log_terms(self, points: Float64[np.ndarray, "n 2"]) -> Float64[np.ndarray, "n terms"]:
        rho, angle = polar(points, self.sd)
        t, z = self._invert_terms(rho[:, None], angle[:, None], np.arange(self._num_terms))
        height = np.log(self.arms * self._total_angle * rho)
        last = self._total_angle * (1 + _ANGLE_TOLERANCE)
        return np.where(t <= last, log_normal(z, self.sd), -math.inf) - height[:, None]

    def _invert_terms(
        self,
        rho: Float64[np.ndarray, "*points"],
        angle: Float64[np.ndarray, "*points"],
        term: Int64[np.ndarray, "*terms"],
    ) -> tuple[Float64[np.ndarray, "*both"], Float64[np.ndarray, "*both"]]:
        """The t, if it is at most T, and z = (s - r(t)) / sd that lead to these points.

        Terms are numbered by arm, then by whole turns, then by the sign of s.
        """
        way, turned_over = np.divmod(term, 2)
        arm, winding = np.divmod(way, self._windings)
        begins = _ANGLE_TOLERANCE * self._total_angle
        first = angle + math.pi * turned_over - arm * (2 * math.pi / self.arms)
        t = np.mod(first + begins, 2 * math.pi) - begins + 2 * math.pi * winding
        return t, ((1 - 2 * turned_over) * rho - self._radius(t)) / self.sd

    def _invert(
        self, points: Float64[np.ndarray, "n 2"], term: Int64[np.ndarray, " n"]
    ) -> tuple[Int64[np.ndarray, " n"], Float64[np.ndarray, "n 2"]]:
        t, z = self._invert_terms(*polar(points, self.sd), term)
        return term // (2 * self._windings), np.stack([t / self._total_angle, z], axis=1)

    def _draw(self, n: int, rng: RNG) -> tuple[Float64[np.ndarray, "n 2"], Int64[np.ndarray, " n"]]:
        arm = draw_modes(rng, n, uniform_weights(self.arms))
        t = self._total_angle * draw_uniform(rng, "angle", n)
        s = self._radius(t) + self.sd * draw_normal(rng, "radius", n, 1)[:, 0]
        return on_ray(s, t + arm * (2 * math.pi / self.arms)), arm


@dataclass(frozen=True)
class Moons(SyntheticDistribution):
    """Two half circles of radius 1, one upside down with its end in the other's middle.

    A point of the first moon is s (cos t, sin t), t uniform in [0, π], s ~ N(1, sd²); one of the
    second is (1, ½) less such a point. With (ρ, φ) the polar coordinates of x, or of (1, ½) - x,

    p(x) = ½ Σ_moons 1/(π ρ) N(±ρ; 1, sd²),

    the sign + for φ in [0, π], else -, as s may be negative. At a center ρ is as in `Spiral`.
    The shape is that of scikit-learn's make_moons, whose noise is not of the radius alone.
    """

    description: ClassVar[str] = "two half circles that reach into each other"

    sd: float = 0.05
    """Standard deviation of the radius."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_lengths(self, "sd")
        check_resolution("sd", self.sd, 2.0)

    @property
    def num_modes(self) -> int:
        """The upper moon is 0, the lower 1."""
        return 2

    @property
    def base_distributions(self) -> tuple[BaseDistribution, ...]:
        """Of t / π and (s - 1) / sd."""
        return "uniform", "normal"

    def _log_terms(self, points: Float64[np.ndarray, "n 2"]) -> Float64[np.ndarray, "n 2"]:
        terms: list[np.ndarray] = []
        for own in points, _SECOND_MOON - points:
            rho, _, z = self._invert_first_moon(own)
            terms.append(log_normal(z, self.sd) - np.log(2 * math.pi * rho))
        return np.stack(terms, axis=1)

    def _invert(
        self, points: Float64[np.ndarray, "n 2"], term: Int64[np.ndarray, " n"]
    ) -> tuple[Int64[np.ndarray, " n"], Float64[np.ndarray, "n 2"]]:
        _, t, z = self._invert_first_moon(
            np.where(term[:, None] == 0, points, _SECOND_MOON - points)
        )
        return term, np.stack([t / math.pi, z], axis=1)

    def _invert_first_moon(
        self, own: Float64[np.ndarray, "n 2"]
    ) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
        """Radius, and the t and z = (s - 1) / sd that lead to points of the first moon."""
        rho, angle = polar(own, self.sd)
        s = np.where(angle >= 0, rho, -rho)
        return rho, np.mod(angle, math.pi), (s - 1) / self.sd

    def _draw(self, n: int, rng: RNG) -> tuple[Float64[np.ndarray, "n 2"], Int64[np.ndarray, " n"]]:
        moon = draw_modes(rng, n, uniform_weights(2))
        s = 1 + self.sd * draw_normal(rng, "radius", n, 1)[:, 0]
        points = on_ray(s, math.pi * draw_uniform(rng, "angle", n))
        return np.where(moon[:, None] == 0, points, _SECOND_MOON - points), moon


_SECOND_MOON = np.array([1.0, 0.5])


@dataclass(frozen=True)
class Pinwheel(SyntheticDistribution):
    """Long normal distributions on a circle, each turned the more the farther out it is.

    A point is R(twist (|z| - radius) + 2πk / blades) z with z ~ N((radius, 0), diag(length²,
    width²)) and R(a) the rotation by a. As the angle depends on |z| = |x| alone the map keeps
    areas, and

    p(x) = 1/blades Σ_k N(R(-twist (|x| - radius) - 2πk / blades) x; (radius, 0), …).

    The shape is that of Johnson et al. (2016), "Composing graphical models with neural networks
    for structured representations and fast inference", whose own has no density in closed form.
    """

    description: ClassVar[str] = "bent blades about a center"

    blades: int = 5
    """How many; a point's mode is its blade."""
    radius: float = 1.0
    """Where the middle of a blade is."""
    length: float = 0.3
    """Standard deviation along a blade."""
    width: float = 0.06
    """Standard deviation across it."""
    twist: float = 1.2
    """Radians per unit of radius."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_values(self, f"1 to {_MAX_COUNT}", lambda blades: 1 <= blades <= _MAX_COUNT, "blades")
        check_lengths(self, "radius", "length", "width")
        check_values(
            self, f"-{_MAX_COUNT} to {_MAX_COUNT}", lambda twist: abs(twist) <= _MAX_COUNT, "twist"
        )
        check_resolution("length", self.length, self.radius)
        check_resolution("width", self.width, self.radius)

    @property
    def num_modes(self) -> int:
        """Blades."""
        return self.blades

    def _log_terms(self, points: Float64[np.ndarray, "n 2"]) -> Float64[np.ndarray, "n blades"]:
        z = self._standardize(
            points[:, None], self._twist_angle(points)[:, None], np.arange(self.blades)
        )
        along, across = log_normal(z[..., 0], self.length), log_normal(z[..., 1], self.width)
        return along + across - math.log(self.blades)

    def _standardize(
        self,
        points: Float64[np.ndarray, "*points 2"],
        turn: Float64[np.ndarray, "*points"],
        blade: Int64[np.ndarray, "*blades"],
    ) -> Float64[np.ndarray, "*both 2"]:
        """Points as they lie along and across a blade, from its middle, in deviations."""
        straight = rotate(points, -turn - blade * (2 * math.pi / self.blades))
        return (straight - (self.radius, 0.0)) / (self.length, self.width)

    def _invert(
        self, points: Float64[np.ndarray, "n 2"], term: Int64[np.ndarray, " n"]
    ) -> tuple[Int64[np.ndarray, " n"], Float64[np.ndarray, "n 2"]]:
        return term, self._standardize(points, self._twist_angle(points), term)

    def _draw(self, n: int, rng: RNG) -> tuple[Float64[np.ndarray, "n 2"], Int64[np.ndarray, " n"]]:
        blade = draw_modes(rng, n, uniform_weights(self.blades))
        z = draw_normal(rng, "point", n, 2) * (self.length, self.width) + (self.radius, 0.0)
        return rotate(z, self._twist_angle(z) + blade * (2 * math.pi / self.blades)), blade

    def _twist_angle(self, z: Float64[np.ndarray, "n 2"]) -> Float64[np.ndarray, " n"]:
        return self.twist * (np.hypot(z[:, 0], z[:, 1]) - self.radius)


def polar(
    points: Float64[np.ndarray, "n 2"], sd: float
) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    """Radius, at least sd / 10⁶, and angle in (-π, π]."""
    x, y = points.T
    return np.maximum(np.hypot(x, y), _MIN_RADIUS * sd), np.arctan2(y, x)


def on_ray(s: Float64[np.ndarray, " n"], angle: Float64[np.ndarray, " n"]) -> np.ndarray:
    """Points s (cos angle, sin angle), shape (n, 2)."""
    return np.stack([s * np.cos(angle), s * np.sin(angle)], axis=1)
