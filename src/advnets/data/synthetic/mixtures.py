"""Mixtures of normal distributions: arbitrary, on a ring, on a grid."""

from __future__ import annotations

import itertools
import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float64, Int64

from advnets.config import check_values
from advnets.data.synthetic.base import (
    LOG_SQRT_2PI,
    SyntheticDistribution,
    check_lengths,
    check_resolution,
    draw_modes,
    draw_normal,
    uniform_weights,
)
from advnets.data.synthetic.gaussian import broadcast_option
from advnets.errors import UsageError
from advnets.rng import RNG

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

    def _invert(
        self, points: Float64[np.ndarray, "n dims"], term: Int64[np.ndarray, " n"]
    ) -> tuple[Int64[np.ndarray, " n"], Float64[np.ndarray, "n dims"]]:
        centers, sds, _ = self.components()
        return term, (points - centers[term]) / sds[term, None]

    def _log_terms(
        self, points: Float64[np.ndarray, "n dims"]
    ) -> Float64[np.ndarray, "n components"]:
        centers, sds, weights = self.components()
        # Use differences instead of a matrix product, which cancels for narrow modes far from 0.
        square = ((points[:, :1] - centers[:, 0]) / sds) ** 2
        for axis in range(1, centers.shape[1]):
            square += ((points[:, axis, None] - centers[:, axis]) / sds) ** 2
        square *= -0.5
        square += np.log(weights) - centers.shape[1] * (LOG_SQRT_2PI + np.log(sds))
        return square

    def _draw(
        self, n: int, rng: RNG
    ) -> tuple[Float64[np.ndarray, "n dims"], Int64[np.ndarray, " n"]]:
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
