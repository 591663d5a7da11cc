"""Sliced Wasserstein distance: how far two sets lie apart, seen along many lines."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from advnets.errors import UsageError
from advnets.metrics.features import check_features
from advnets.noise import Noise

DIRECTIONS = 1000
"""Lines that are looked along."""
_BLOCK = 100  # directions at once: the projections of 10,000 points on them are 8 MB


@dataclass(frozen=True)
class SlicedWasserstein:
    """The distance, and what it hangs on."""

    value: float
    """In units of the features, at least 0."""
    standard_error: float | None
    """Over directions, to first order; of one, or where the sets are equal, None."""
    directions: int


@torch.no_grad()
def sliced_wasserstein(
    real: Float[Tensor, "n d"],
    fake: Float[Tensor, "m _"],
    *,
    directions: int = DIRECTIONS,
    seed: int = 0,
) -> SlicedWasserstein:
    """Sliced 2-Wasserstein distance, in units of the features, over random directions θ.

        SW² = mean over θ of ∫_0^1 (F⁻¹(u) - G⁻¹(u))² du

    F⁻¹ and G⁻¹ are the quantile functions of the two sets' projections on θ, a unit vector; they
    are steps, so the integral is a sum, whatever the sizes of the sets. Computed in float64. It
    grows as sets shrink: compare only at the same numbers of pictures.
    Source: Rabin et al. 2011, “Wasserstein barycenter and its application to texture mixing”.

    Raises:
        UsageError: there is no direction.
        DataError: a set is empty, widths differ, or numbers are not finite.
    """
    if directions < 1:
        raise UsageError(f"{directions} directions were asked for; give at least 1")
    check_features(1, real=real, fake=fake)
    x, y = real.double(), fake.double()
    theta = Noise(seed).normal("direction", directions, x.shape[1]).to(x)
    theta /= theta.norm(dim=1, keepdim=True)
    squares = torch.cat([_squared_distances(x @ t.T, y @ t.T) for t in theta.split(_BLOCK)])
    value, error = math.sqrt(float(squares.mean())), None
    if directions > 1 and value > 0:
        error = float(squares.std()) / math.sqrt(directions) / (2 * value)
    return SlicedWasserstein(value, error, directions)


def _squared_distances(
    x: Float64[Tensor, "n lines"], y: Float64[Tensor, "m lines"]
) -> Float64[Tensor, " lines"]:
    """W² on each line: of sets alike in size the mean square of differences in order of size."""
    n, m = len(x), len(y)
    # Steps of F⁻¹ end at multiples of 1/n, those of G⁻¹ of 1/m: in units of 1/(n m), whole numbers.
    steps = (torch.arange(1, k + 1, device=x.device) * (n * m // k) for k in (n, m))
    ends = torch.cat(tuple(steps)).unique()
    width = ends.diff(prepend=ends.new_zeros(1)).double() / (n * m)
    here, there = (ends - 1) // m, (ends - 1) // n
    return width @ (x.sort(0).values[here] - y.sort(0).values[there]).square()
