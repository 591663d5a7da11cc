"""Distributions along curves in the plane: spiral arms, two moons, a pinwheel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float64, Int64

from advnets.config import check_values
from advnets.data.distribution import (
    BaseDistribution,
    Indices,
    Points,
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
_MIN_RADIUS = 1e-6
"""The minimum radius in standard deviations at which densities are computed, see `Spiral`."""
_ANGLE_TOLERANCE = 2.0**-22
"""The fraction of an arm's angle by which float32 rounding may move a point past its ends."""


@dataclass(frozen=True)
class Spiral(SyntheticDistribution):
    """Spiral arms whose radius grows linearly with the angle, from `inner` to `radius`.

    A point of arm j is s (cos φ, sin φ) with φ = t + 2πj / arms, t uniform in [0, T],
    T = 2π turns, and s ~ N(r(t), sd²), r(t) = inner + (radius - inner) t / T. At polar
    coordinates (ρ, φ) the density is

    p(x) = 1/arms Σ_j 1/(T ρ) Σ_t N(±ρ; r(t), sd²),

    where t runs over φ - 2πj / arms + 2πk in [0, T] with sign + and, as s may be negative, over the
    same plus π with sign -. It grows as 1/ρ at the center; ρ is taken to be at least sd / 10⁶.
    """

    description: ClassVar[str] = "spiral arms (2 by default)"

    arms: int = 2
    """The number of arms; the mode of a point is its arm."""
    turns: float = 1.0
    """The number of turns of each arm."""
    radius: float = 1.0
    """The radius at which an arm ends."""
    inner: float = 0.1
    """The radius at which an arm starts."""
    sd: float = 0.02
    """The standard deviation of the radius."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_values(self, f"1 to {_MAX_COUNT}", lambda arms: 1 <= arms <= _MAX_COUNT, "arms")
        check_values(
            self, f"0.01 to {_MAX_COUNT}", lambda turns: 0.01 <= turns <= _MAX_COUNT, "turns"
        )
        check_lengths(self, "radius", "sd")
        if not 0 <= self.inner < self.radius:
            raise UsageError(
                f"inner must be at least 0 and less than radius ({self.radius}), got {self.inner}; "
                "choose a smaller inner or a larger radius"
            )
        check_resolution("sd", self.sd, self.radius)

    @property
    def num_modes(self) -> int:
        """Return the number of arms."""
        return self.arms

    @property
    def base_distributions(self) -> tuple[BaseDistribution, ...]:
        """Return the distributions of t / T and (s - r(t)) / sd."""
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

    def _log_terms(self, points: Points) -> Float64[np.ndarray, "n terms"]:
        rho, angle = polar(points, self.sd)
        t, z = self._invert_terms(rho[:, None], angle[:, None], np.arange(self._num_terms))
        log_jacobian = np.log(self.arms * self._total_angle * rho)
        max_angle = self._total_angle * (1 + _ANGLE_TOLERANCE)
        return np.where(t <= max_angle, log_normal(z, self.sd), -math.inf) - log_jacobian[:, None]

    def _invert_terms(
        self,
        rho: Float64[np.ndarray, "*points"],
        angle: Float64[np.ndarray, "*points"],
        term: Int64[np.ndarray, "*terms"],
    ) -> tuple[Float64[np.ndarray, "*both"], Float64[np.ndarray, "*both"]]:
        """Return the t and z = (s - r(t)) / sd that generate points by the given terms.

        Terms are numbered by arm, then by whole turns, then by the sign of s. A term with t > T
        generates nothing.
        """
        rest, is_negative = np.divmod(term, 2)
        arm, winding = np.divmod(rest, self._windings)
        tolerance = _ANGLE_TOLERANCE * self._total_angle
        first = angle + math.pi * is_negative - arm * (2 * math.pi / self.arms)
        t = np.mod(first + tolerance, 2 * math.pi) - tolerance + 2 * math.pi * winding
        return t, ((1 - 2 * is_negative) * rho - self._radius(t)) / self.sd

    def _invert(self, points: Points, term: Indices) -> tuple[Indices, Points]:
        t, z = self._invert_terms(*polar(points, self.sd), term)
        return term // (2 * self._windings), np.stack([t / self._total_angle, z], axis=1)

    def _draw(self, n: int, rng: RNG) -> tuple[Points, Indices]:
        arm = draw_modes(rng, n, uniform_weights(self.arms))
        t = self._total_angle * draw_uniform(rng, "angle", n)
        s = self._radius(t) + self.sd * draw_normal(rng, "radius", n, 1)[:, 0]
        return on_ray(s, t + arm * (2 * math.pi / self.arms)), arm


@dataclass(frozen=True)
class Moons(SyntheticDistribution):
    """Two interlocking half circles of radius 1.

    A point of the first moon is s (cos t, sin t), t uniform in [0, π], s ~ N(1, sd²); a point of
    the second is (1, ½) minus such a point. With the polar coordinates (ρ, φ) of x, or of
    (1, ½) - x,

    p(x) = ½ Σ_moons 1/(π ρ) N(±ρ; 1, sd²),

    with sign + for φ in [0, π] and - otherwise, as s may be negative; ρ is bounded as in `Spiral`.
    The shape is that of scikit-learn's make_moons, which adds noise to both coordinates instead.
    """

    description: ClassVar[str] = "two interlocking half circles"

    sd: float = 0.05
    """The standard deviation of the radius."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_lengths(self, "sd")
        check_resolution("sd", self.sd, 2.0)

    @property
    def num_modes(self) -> int:
        """Return 2: the upper moon is mode 0, the lower is mode 1."""
        return 2

    @property
    def base_distributions(self) -> tuple[BaseDistribution, ...]:
        """Return the distributions of t / π and (s - 1) / sd."""
        return "uniform", "normal"

    def _log_terms(self, points: Points) -> Float64[np.ndarray, "n 2"]:
        terms: list[np.ndarray] = []
        for moon_points in points, _SECOND_MOON - points:
            rho, _, z = self._invert_first_moon(moon_points)
            terms.append(log_normal(z, self.sd) - np.log(2 * math.pi * rho))
        return np.stack(terms, axis=1)

    def _invert(self, points: Points, term: Indices) -> tuple[Indices, Points]:
        _, t, z = self._invert_first_moon(
            np.where(term[:, None] == 0, points, _SECOND_MOON - points)
        )
        return term, np.stack([t / math.pi, z], axis=1)

    def _invert_first_moon(
        self, points: Points
    ) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
        """Return the radius, and the t and z = (s - 1) / sd that generate the first moon."""
        rho, angle = polar(points, self.sd)
        s = np.where(angle >= 0, rho, -rho)
        return rho, np.mod(angle, math.pi), (s - 1) / self.sd

    def _draw(self, n: int, rng: RNG) -> tuple[Points, Indices]:
        moon = draw_modes(rng, n, uniform_weights(2))
        s = 1 + self.sd * draw_normal(rng, "radius", n, 1)[:, 0]
        points = on_ray(s, math.pi * draw_uniform(rng, "angle", n))
        return np.where(moon[:, None] == 0, points, _SECOND_MOON - points), moon


_SECOND_MOON = np.array([1.0, 0.5])


@dataclass(frozen=True)
class Pinwheel(SyntheticDistribution):
    """Elongated normal distributions on a circle, twisted by an angle that grows with the radius.

    A point is R(twist (|z| - radius) + 2πk / blades) z with z ~ N((radius, 0), diag(length²,
    width²)) and the rotation R(a) by an angle a. As the angle depends only on |z| = |x|, the map
    preserves area, and

    p(x) = 1/blades Σ_k N(R(-twist (|x| - radius) - 2πk / blades) x; (radius, 0), …).

    The shape is that of Johnson et al. (2016), "Composing graphical models with neural networks
    for structured representations and fast inference", whose density has no closed form.
    """

    description: ClassVar[str] = "bent blades around a center (5 by default)"

    blades: int = 5
    """The number of blades; the mode of a point is its blade."""
    radius: float = 1.0
    """The distance of a blade's middle from the center."""
    length: float = 0.3
    """The standard deviation along a blade."""
    width: float = 0.06
    """The standard deviation across a blade."""
    twist: float = 1.2
    """The twist in radians per unit of radius."""

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
        """Return the number of blades."""
        return self.blades

    def _log_terms(self, points: Points) -> Float64[np.ndarray, "n blades"]:
        z = self._standardize(
            points[:, None], self._twist_angle(points)[:, None], np.arange(self.blades)
        )
        along, across = log_normal(z[..., 0], self.length), log_normal(z[..., 1], self.width)
        return along + across - math.log(self.blades)

    def _standardize(
        self,
        points: Float64[np.ndarray, "*points 2"],
        twist: Float64[np.ndarray, "*points"],
        blade: Int64[np.ndarray, "*blades"],
    ) -> Float64[np.ndarray, "*both 2"]:
        """Return the positions along and across a blade from its middle, in standard deviations."""
        untwisted = rotate(points, -twist - blade * (2 * math.pi / self.blades))
        return (untwisted - (self.radius, 0.0)) / (self.length, self.width)

    def _invert(self, points: Points, term: Indices) -> tuple[Indices, Points]:
        return term, self._standardize(points, self._twist_angle(points), term)

    def _draw(self, n: int, rng: RNG) -> tuple[Points, Indices]:
        blade = draw_modes(rng, n, uniform_weights(self.blades))
        z = draw_normal(rng, "point", n, 2) * (self.length, self.width) + (self.radius, 0.0)
        return rotate(z, self._twist_angle(z) + blade * (2 * math.pi / self.blades)), blade

    def _twist_angle(self, z: Points) -> Float64[np.ndarray, " n"]:
        return self.twist * (np.hypot(z[:, 0], z[:, 1]) - self.radius)


def polar(points: Points, sd: float) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    """Return the radius, at least sd / 10⁶, and the angle in (-π, π] of points."""
    x, y = points.T
    return np.maximum(np.hypot(x, y), _MIN_RADIUS * sd), np.arctan2(y, x)


def on_ray(s: Float64[np.ndarray, " n"], angle: Float64[np.ndarray, " n"]) -> np.ndarray:
    """Return the points s (cos angle, sin angle), shape (n, 2)."""
    return np.stack([s * np.cos(angle), s * np.sin(angle)], axis=1)
