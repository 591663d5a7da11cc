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
    """In units of the features, at least 0."""
    standard_error: float | None
    """Over draws of both sets and of directions, to first order; None where they are equal, or one
    has a single row."""
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

    F⁻¹ and G⁻¹ are the quantile functions of the two sets' projections on θ, a unit vector; they
    are steps, so the integral is a sum, whatever the sizes of the sets. Computed in float64. It
    grows as sets shrink: compare only at the same numbers of images. To first order an image x
    moves SW² by the mean over θ of φ(x·θ) / n, φ' = 2 (t - G⁻¹(F(t))): Kantorovich's potential.
    Sources: Rabin et al. 2011, “Wasserstein barycenter and its application to texture mixing”; for
    the error, Manole, Balakrishnan and Wasserman 2022, “Minimax confidence intervals for the sliced
    Wasserstein distance”.

    Raises:
        UsageError: there is no direction.
        DataError: a set is empty, widths differ, or numbers are not finite.
    """
    if directions < 1:
        raise UsageError(f"{directions} directions were asked for; give at least 1")
    x, y = (some.double() for some in check_features(1, real=real, fake=fake))
    theta = RNG(seed).normal("direction", directions, x.shape[1]).to(x)
    theta /= theta.norm(dim=1, keepdim=True)
    squares: list[Tensor] = []
    moved_x, moved_y = x.new_zeros(len(x)), y.new_zeros(len(y))
    for some in theta.split(_BLOCK):
        along = _project(x @ some.T, y @ some.T)
        squares.append(along.squares)
        moved_x += along.moved_x / directions
        moved_y += along.moved_y / directions
    found = torch.cat(squares)
    value, error = math.sqrt(float(found.mean())), None
    if value > 0 and min(len(x), len(y)) > 1:
        over = float(found.var()) / directions if directions > 1 else 0.0
        of_images = sum(float(some.var(correction=0)) / len(some) for some in (moved_x, moved_y))
        error = math.sqrt(over + of_images) / (2 * value)
    return SlicedWasserstein(value, error, directions)


@dataclass(frozen=True)
class _Projections:
    """Distances and potentials of the projections on some directions."""

    squares: Float64[Tensor, " lines"]
    """W² on each direction."""
    moved_x: Float64[Tensor, " n"]
    """Potentials of each image, summed over the lines."""
    moved_y: Float64[Tensor, " m"]


def _project(x: Float64[Tensor, "n lines"], y: Float64[Tensor, "m lines"]) -> _Projections:
    """Of sets alike in size, W² is the mean square of differences in order of size."""
    n, m = len(x), len(y)
    # Steps of F⁻¹ end at multiples of 1/n, those of G⁻¹ of 1/m: in units of 1/(n m), whole numbers.
    steps = (torch.arange(1, k + 1, device=x.device) * (n * m // k) for k in (n, m))
    ends = torch.cat(tuple(steps)).unique()
    width = ends.diff(prepend=ends.new_zeros(1)).double() / (n * m)
    here, there = (ends - 1) // m, (ends - 1) // n
    (xs, order_x), (ys, order_y) = x.sort(0), y.sort(0)
    gaps = xs[here] - ys[there]
    weighted = width[:, None] * gaps
    of_x = torch.zeros_like(x).index_add_(0, here, weighted).mul_(n)
    of_y = torch.zeros_like(y).index_add_(0, there, weighted).mul_(-m)
    return _Projections(
        squares=(weighted * gaps).sum(0),
        moved_x=_potential(xs, of_x).gather(0, order_x.argsort(0)).sum(1),
        moved_y=_potential(ys, of_y).gather(0, order_y.argsort(0)).sum(1),
    )


def _potential(
    points: Float64[Tensor, "n lines"], gaps: Float64[Tensor, "n lines"]
) -> Float64[Tensor, "n lines"]:
    """φ of points in their order: the integral of twice the gap, by the trapezium rule."""
    steps = points.diff(dim=0) * (gaps[1:] + gaps[:-1])
    return torch.cat((torch.zeros_like(points[:1]), steps.cumsum(0)))
