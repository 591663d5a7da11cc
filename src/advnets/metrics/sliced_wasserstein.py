"""The sliced Wasserstein distance: the mean over one-dimensional projections."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from advnets.errors import UsageError
from advnets.metrics.validation import check_features
from advnets.rng import RNG

DIRECTIONS = 1000
"""The default number of random directions."""
_BLOCK = 100  # directions at once: the projections of 10,000 points on them are 8 MB


@dataclass(frozen=True)
class SlicedWasserstein:
    """The distance, with its standard error and number of directions."""

    value: float
    """The distance in units of the features, at least 0."""
    standard_error: float | None
    """Standard error over draws of both sets and of directions, to first order; None if the sets
    are equal, or one has a single row."""
    directions: int


@torch.no_grad()
def sliced_wasserstein(
    real: Float[Tensor, "n d"],
    fake: Float[Tensor, "m _"],
    *,
    directions: int = DIRECTIONS,
    seed: int = 0,
) -> SlicedWasserstein:
    """Return the sliced 2-Wasserstein distance, in units of the features, over random directions θ.

        SW² = mean over θ of ∫_0^1 (F⁻¹(u) - G⁻¹(u))² du

    F⁻¹ and G⁻¹ are the quantile functions of the two sets' projections onto θ, a unit vector; they
    are step functions, so the integral is a sum, also for sets of different sizes. Computed in
    float64. It increases for smaller sets: compare only at the same numbers of images. To first
    order an image x changes SW² by the mean over θ of φ(x·θ) / n, with the Kantorovich potential
    φ' = 2 (t - G⁻¹(F(t))).
    Sources: Rabin et al. 2011, “Wasserstein barycenter and its application to texture mixing”; for
    the error, Manole, Balakrishnan and Wasserman 2022, “Minimax confidence intervals for the sliced
    Wasserstein distance”.

    Args:
        real: features of real images, (n, d).
        fake: features of samples, (m, d).
        directions: number of directions, at least 1.
        seed: random seed of the directions.

    Raises:
        UsageError: there is no direction.
        DataError: a set is empty, widths differ, or numbers are not finite.

    Example:
        >>> x = torch.arange(10.0)[:, None]
        >>> round(advnets.metrics.sliced_wasserstein(x, x + 3).value, 6)
        3.0
    """
    if directions < 1:
        raise UsageError(f"{directions} directions were requested; give at least 1")
    x, y = (features.double() for features in check_features(1, real=real, fake=fake))
    theta = RNG(seed).normal("direction", directions, x.shape[1]).to(x)
    theta /= theta.norm(dim=1, keepdim=True)
    squares: list[Tensor] = []
    potential_x, potential_y = x.new_zeros(len(x)), y.new_zeros(len(y))
    for block in theta.split(_BLOCK):
        projections = _project(x @ block.T, y @ block.T)
        squares.append(projections.squares)
        potential_x += projections.potential_x / directions
        potential_y += projections.potential_y / directions
    squared = torch.cat(squares)
    value, error = math.sqrt(float(squared.mean())), None
    if value > 0 and min(len(x), len(y)) > 1:
        over_directions = float(squared.var()) / directions if directions > 1 else 0.0
        over_images = sum(float(p.var(correction=0)) / len(p) for p in (potential_x, potential_y))
        error = math.sqrt(over_directions + over_images) / (2 * value)
    return SlicedWasserstein(value, error, directions)


@dataclass(frozen=True)
class _Projections:
    """Distances and potentials of the projections on some directions."""

    squares: Float64[Tensor, " lines"]
    """W² on each direction."""
    potential_x: Float64[Tensor, " n"]
    """The potential of each real image, summed over the projections."""
    potential_y: Float64[Tensor, " m"]
    """The potential of each generated image, likewise."""


def _project(x: Float64[Tensor, "n lines"], y: Float64[Tensor, "m lines"]) -> _Projections:
    """Compute the squared distances and the potentials of projected points."""
    n, m = len(x), len(y)
    # Steps of F⁻¹ end at multiples of 1/n, those of G⁻¹ of 1/m, integers in units of 1/(n m).
    steps = (torch.arange(1, k + 1, device=x.device) * (n * m // k) for k in (n, m))
    ends = torch.cat(tuple(steps)).unique()
    width = ends.diff(prepend=ends.new_zeros(1)).double() / (n * m)
    index_x, index_y = (ends - 1) // m, (ends - 1) // n
    (sorted_x, order_x), (sorted_y, order_y) = x.sort(0), y.sort(0)
    gaps = sorted_x[index_x] - sorted_y[index_y]
    weighted = width[:, None] * gaps
    gaps_x = torch.zeros_like(x).index_add_(0, index_x, weighted).mul_(n)
    gaps_y = torch.zeros_like(y).index_add_(0, index_y, weighted).mul_(-m)
    return _Projections(
        squares=(weighted * gaps).sum(0),
        potential_x=_potential(sorted_x, gaps_x).gather(0, order_x.argsort(0)).sum(1),
        potential_y=_potential(sorted_y, gaps_y).gather(0, order_y.argsort(0)).sum(1),
    )


def _potential(
    points: Float64[Tensor, "n lines"], gaps: Float64[Tensor, "n lines"]
) -> Float64[Tensor, "n lines"]:
    """Return φ of sorted points: the integral of twice the gap, by the trapezoidal rule."""
    steps = points.diff(dim=0) * (gaps[1:] + gaps[:-1])
    return torch.cat((torch.zeros_like(points[:1]), steps.cumsum(0)))
