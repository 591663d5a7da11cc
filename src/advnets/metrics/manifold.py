"""Whether samples lie where data lies, and data where samples lie: by nearest neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from advnets.errors import UsageError
from advnets.metrics.distance import (
    half_squared_distances,
    nearest,
    nearest_others,
    rounding,
    unresolved,
)
from advnets.metrics.features import comparable

NEIGHBOURS = 5
"""Those that a ball reaches to, as Naeem et al. 2020 have it."""
_TIE = 4
"""Roundings by which a distance has to be less than a radius."""


@dataclass(frozen=True)
class Manifold:
    """Precision, recall, density and coverage, and the neighbours that they hang on."""

    precision: float
    """Share of samples that lie in a ball about a real picture, in [0, 1]."""
    recall: float
    """Share of real pictures that lie in a ball about a sample, in [0, 1]."""
    density: float
    """Real pictures' balls that a sample lies in, over `neighbours`; 1 for p_g = p_data."""
    coverage: float
    """Share of real pictures in whose ball a sample lies, in [0, 1]."""
    neighbours: int
    """A ball reaches to the so-many-th nearest picture of its own set."""


@torch.no_grad()
def prdc(
    real: Float[Tensor, "n d"], fake: Float[Tensor, "m _"], neighbours: int = NEIGHBOURS
) -> Manifold:
    """Precision, recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020).

    A ball about a point has the distance to its k-th nearest other point of its own set as radius,
    and holds what is nearer. Compare only at the same k and the same numbers of pictures.

    Raises:
        UsageError: `neighbours` is not at least 1 and less than either set.
        DataError: a set has fewer than 2 rows, widths differ, or numbers are not finite.
    """
    real, fake = comparable(2, real=real, fake=fake)
    fewest = min(len(real), len(fake))
    if not 1 <= neighbours < fewest:
        raise UsageError(
            f"{neighbours} neighbours were asked for in sets of {fewest}; give 1 to {fewest - 1}"
        )
    found = _lying(real, fake, *(nearest_others(some, neighbours)[:, -1] for some in (real, fake)))
    return Manifold(
        precision=float((found.balls > 0).double().mean()),
        recall=float(found.recalled.double().mean()),
        density=float(found.balls.double().mean()) / neighbours,
        coverage=float(found.covered.double().mean()),
        neighbours=neighbours,
    )


@dataclass(frozen=True)
class _Lying:
    """What lies in whose ball."""

    balls: Int64[Tensor, " m"]
    """Real pictures' balls that each sample lies in."""
    covered: Bool[Tensor, " n"]
    """Whether a sample lies in the ball of each real picture …"""
    recalled: Bool[Tensor, " n"]
    """… and whether the picture lies in the ball of a sample."""


def _lying(
    real: Float[Tensor, "n d"],
    fake: Float[Tensor, "m d"],
    real_radius: Float64[Tensor, " n"],
    fake_radius: Float64[Tensor, " m"],
) -> _Lying:
    """Look at all pairs; balls that float32 does not resolve are looked at in float64."""
    centre = fake.mean(0)
    lost = unresolved(real, centre, real_radius)
    lost_fake = unresolved(fake, centre, fake_radius)
    found = _looked(
        real, fake, real_radius.masked_fill(lost, 0), fake_radius.masked_fill(lost_fake, 0)
    )
    if lost.any():
        again = _looked(
            real[lost].double(), fake.double(), real_radius[lost], torch.zeros_like(fake_radius)
        )
        found.balls.add_(again.balls)
        found.covered[lost] = again.covered
    if lost_fake.any():
        again = _looked(
            real.double(),
            fake[lost_fake].double(),
            torch.zeros_like(real_radius),
            fake_radius[lost_fake],
        )
        found.recalled.logical_or_(again.recalled)
    return found


def _looked(
    real: Float[Tensor, "n d"],
    fake: Float[Tensor, "m d"],
    real_radius: Float64[Tensor, " n"],
    fake_radius: Float64[Tensor, " m"],
) -> _Lying:
    """The same in one dtype; nothing lies in a ball of radius 0."""
    centre = fake.mean(0)
    real_edge, fake_edge = _edges(real, centre, real_radius), _edges(fake, centre, fake_radius)
    covered, recalled = (torch.zeros_like(real_edge, dtype=torch.bool) for _ in range(2))
    balls = torch.zeros_like(fake_edge, dtype=torch.long)
    for rows, columns, block in half_squared_distances(real, fake):
        # Truth as numbers: truth values are summed and searched several times more slowly.
        inside = torch.gt(block, real_edge[rows, None], out=torch.empty_like(block))
        balls[columns] += inside.sum(0).long()
        covered[rows] |= block.amax(1) > real_edge[rows]
        recalled[rows] |= torch.gt(block, fake_edge[None, columns], out=inside).amax(1) > 0
    return _Lying(balls, covered, recalled)


def _edges(
    points: Float[Tensor, "n d"], centre: Float[Tensor, " d"], radius: Float64[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """-½ r² of each ball, which -½‖x - y‖² of what lies in it exceeds by more than rounding.

    What is as far as the edge lies outside, whatever rounding makes of it: copies tie with what
    they are copies of.
    """
    edge = _TIE * rounding(points, centre, radius) - 0.5 * radius.square()
    return edge.masked_fill(radius == 0, torch.inf).to(points.dtype)


@dataclass(frozen=True)
class TwoSample:
    """How well the nearest other picture tells what is real; 1/2 for p_g = p_data."""

    accuracy: float
    """Share of all pictures whose nearest other one is of their own kind."""
    of_real: float
    """The same of real pictures; less than 1/2 says that samples crowd around each of them."""
    of_fake: float
    """The same of samples; more than 1/2 says that they keep to themselves."""
    n: int
    """Pictures of each kind."""


@torch.no_grad()
def nearest_neighbour_test(real: Float[Tensor, "n d"], fake: Float[Tensor, "m _"]) -> TwoSample:
    """Leave-one-out accuracy of a 1-nearest-neighbour classifier of real against generated.

    Source: Lopez-Paz and Oquab 2017; Xu et al. 2018, “An empirical study on evaluation metrics of
    generative adversarial networks”.

    Raises:
        UsageError: the sets are of unlike size.
        DataError: a set has fewer than 2 rows, widths differ, or numbers are not finite.
    """
    real, fake = comparable(2, real=real, fake=fake)
    if len(real) != len(fake):
        raise UsageError(
            f"{len(real)} real and {len(fake)} generated pictures came; the nearest-neighbour test "
            "takes as many of either"
        )
    of_real, of_fake = _keeping(real, fake), _keeping(fake, real)
    return TwoSample((of_real + of_fake) / 2, of_real, of_fake, len(real))


def _keeping(mine: Float[Tensor, "n d"], others: Float[Tensor, "m d"]) -> float:
    """Share of points whose nearest other one is of their own; where they tie, it is not."""
    own, across = nearest_others(mine)[:, 0], nearest(mine, others)[0][:, 0]
    off = torch.maximum(*(rounding(mine, mine.mean(0), some) for some in (own, across)))
    return float((own.square() + _TIE * off < across.square()).double().mean())
