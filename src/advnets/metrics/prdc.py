"""Precision, recall, density, coverage, and the 1-NN two-sample test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from advnets.errors import UsageError
from advnets.metrics.distance import (
    half_squared_distances,
    is_unresolved,
    nearest,
    nearest_others,
    nearest_others_float64,
    rounding_error,
    scale_to_range,
)
from advnets.metrics.validation import check_features

NEIGHBORS = 5
"""The default k of the balls, as in Naeem et al. 2020."""
_TIE, _DOUBT = 4, 16
"""Roundings by which a distance has to be less than a radius, where it is taken in float64; and by
which in float32, whose errors pile up, it has to be apart from it to be believed."""
_PAIRS = 4096
_MAX_DOUBTFUL = 10
"""Times as many pairs as points, of which float32 does not tell whether one is in a ball."""
Centers = Sequence[Float[Tensor, " d"]]
"""Points that sets were centered on before products of them were taken."""


@dataclass(frozen=True)
class PRDC:
    """Precision, recall, density and coverage, and the neighbors that they hang on."""

    precision: float
    """Share of samples that lie in a ball about a real image, in [0, 1]."""
    recall: float
    """Share of real images that lie in a ball about a sample, in [0, 1]."""
    density: float
    """Real images' balls that a sample lies in, over `neighbors`; 1 for p_g = p_data."""
    coverage: float
    """Share of real images in whose ball a sample lies, in [0, 1]."""
    neighbors: int
    """A ball reaches to the so-many-th nearest image of its own set."""


@torch.no_grad()
def prdc(
    real: Float[Tensor, "n d"], fake: Float[Tensor, "m _"], neighbors: int = NEIGHBORS
) -> PRDC:
    """Return precision, recall (Kynkäänniemi et al. 2019), density, coverage (Naeem et al. 2020).

    A ball about a point has the distance to its k-th nearest other point of its own set as radius,
    and holds what is nearer. Compare only at the same k and the same numbers of images.

    Raises:
        UsageError: `neighbors` is not at least 1 and less than either set.
        DataError: a set has fewer than 2 rows, widths differ, or numbers are not finite.
    """
    real, fake = check_features(2, real=real, fake=fake)
    fewest = min(len(real), len(fake))
    if not 1 <= neighbors < fewest:
        raise UsageError(
            f"{neighbors} neighbors were asked for in sets of {fewest}; give 1 to {fewest - 1}"
        )
    real, fake = scale_to_range(real, fake)
    found = _ball_membership(real, fake, neighbors)
    return PRDC(
        precision=float((found.balls > 0).double().mean()),
        recall=float(found.recalled.double().mean()),
        density=float(found.balls.double().mean()) / neighbors,
        coverage=float(found.covered.double().mean()),
        neighbors=neighbors,
    )


@dataclass(frozen=True)
class _BallMembership:
    """What lies in whose ball."""

    balls: Int64[Tensor, " m"]
    """Real images' balls that each sample lies in."""
    covered: Bool[Tensor, " n"]
    """Whether a sample lies in the ball of each real image …"""
    recalled: Bool[Tensor, " n"]
    """… and whether the image lies in the ball of a sample."""
    doubtful: list[Int64[Tensor, "2 _"]]
    """Numbers of images and samples that lie too near to the edge of the image's ball …"""
    doubtful_fake: list[Int64[Tensor, "2 _"]]
    """… and of the sample's, to be told; they are not counted yet."""


def _ball_membership(
    real: Float[Tensor, "n d"], fake: Float[Tensor, "m d"], neighbors: int
) -> _BallMembership:
    """Look at all pairs; what float32 does not resolve is looked at in float64."""
    # Radii are rounded about the center of their own set, distances about that of the samples.
    centers = real.mean(0), fake.mean(0)
    radius, lost = _radii(real, centers, neighbors)
    fake_radius, lost_fake = _radii(fake, centers, neighbors)
    found = _compare_pairs(
        real, fake, radius.masked_fill(lost, 0), fake_radius.masked_fill(lost_fake, 0), centers
    )
    pairs = sum(some.shape[1] for some in (*found.doubtful, *found.doubtful_fake))
    if pairs > _MAX_DOUBTFUL * (len(real) + len(fake)):  # numbers so few that distances tie
        return _ball_membership(real.double(), fake.double(), neighbors)
    if lost.any():
        nothing = torch.zeros_like(fake_radius)
        again = _compare_pairs(real[lost].double(), fake.double(), radius[lost], nothing, centers)
        found.balls.add_(again.balls)
        found.covered[lost] = again.covered
    if lost_fake.any():
        nothing, those = torch.zeros_like(radius), fake[lost_fake].double()
        again = _compare_pairs(real.double(), those, nothing, fake_radius[lost_fake], centers)
        found.recalled.logical_or_(again.recalled)
    if found.doubtful:
        here, there = _pairs_inside(real, fake, torch.cat(found.doubtful, 1), neighbors)
        found.balls.index_add_(0, there, torch.ones_like(there))
        found.covered[here] = True
    if found.doubtful_fake:
        _, here = _pairs_inside(fake, real, torch.cat(found.doubtful_fake, 1).flip(0), neighbors)
        found.recalled[here] = True
    return found


def _radii(
    points: Float[Tensor, "n d"], centers: Centers, neighbors: int
) -> tuple[Float64[Tensor, " n"], Bool[Tensor, " n"]]:
    """Return the radius of each ball, and which are found in float64, the others being too small.

    Too small is what products about any of the centers do not resolve.
    """
    radius = nearest_others(points, neighbors)[:, -1]
    lost = torch.stack([is_unresolved(points, center, radius) for center in centers]).any(0)
    again = lost & ~is_unresolved(points, points.mean(0), radius)
    if again.any():
        radius[again] = nearest_others_float64(points, again, neighbors)[:, -1]
    return radius, lost


def _compare_pairs(
    real: Float[Tensor, "n d"],
    fake: Float[Tensor, "m d"],
    real_radius: Float64[Tensor, " n"],
    fake_radius: Float64[Tensor, " m"],
    centers: Centers,
) -> _BallMembership:
    """The same in one dtype; nothing lies in a ball of radius 0.

    Radii have been found about `centers`.

    Of float64 nothing is in doubt: what is as far as the edge lies outside, whatever rounding makes
    of it, as copies tie with what they are copies of.
    """
    centers = *centers, fake.mean(0)
    edge, beyond = _thresholds(real, centers, real_radius)
    fake_edge, fake_beyond = _thresholds(fake, centers, fake_radius)
    covered, recalled = (torch.zeros_like(edge, dtype=torch.bool) for _ in range(2))
    found = _BallMembership(
        torch.zeros_like(fake_edge, dtype=torch.long), covered, recalled, [], []
    )
    for rows, columns, block in half_squared_distances(real, fake):
        # Truth as numbers: truth values are summed and searched several times more slowly.
        inside = torch.gt(block, edge[rows, None], out=torch.empty_like(block))
        found.balls[columns] += inside.sum(0).long()
        covered[rows] |= inside.amax(1) > 0
        found.doubtful.extend(_doubtful_pairs(block, beyond[rows, None], inside, rows, columns))
        torch.gt(block, fake_edge[None, columns], out=inside)
        recalled[rows] |= inside.amax(1) > 0
        found.doubtful_fake.extend(
            _doubtful_pairs(block, fake_beyond[None, columns], inside, rows, columns)
        )
    return found


def _doubtful_pairs(
    block: Float[Tensor, "n m"],
    beyond: Tensor,
    inside: Float[Tensor, "n m"],
    rows: slice,
    columns: slice,
) -> list[Int64[Tensor, "2 _"]]:
    """Numbers of the pairs of a block that may lie inside besides those; of float64 none."""
    if block.dtype == torch.float64:
        return []
    possible = torch.gt(block, beyond, out=torch.empty_like(block))
    if possible.sum() == inside.sum():
        return []
    here, there = (possible > inside).nonzero(as_tuple=True)
    return [torch.stack((here + rows.start, there + columns.start))]


def _pairs_inside(
    x: Float[Tensor, "n d"],
    y: Float[Tensor, "m d"],
    pairs: Int64[Tensor, "2 p"],
    neighbors: int,
) -> Int64[Tensor, "2 q"]:
    """Those of the pairs (i, j) in which y_j lies in the ball about x_i, in float64."""
    which, place = pairs[0].unique(return_inverse=True)
    rows = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    rows[which] = True
    radius, centers = nearest_others_float64(x, rows, neighbors)[:, -1][place], [x.mean(0)]
    lies: list[Tensor] = []
    for some, reach in zip(pairs.split(_PAIRS, 1), radius.split(_PAIRS), strict=True):
        here, there = x[some[0]].double(), y[some[1]].double()
        off = _error_bound(here, centers, reach)
        lies.append((here - there).square().sum(1) + off < reach.square())
    return pairs[:, torch.cat(lies)]


def _thresholds(
    points: Float[Tensor, "n d"], centers: Centers, radius: Float64[Tensor, " n"]
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """What -½‖x - y‖² of all that surely lies in a ball exceeds, and of all that may lie in it.

    -½ r² and as much as rounding may make of it to either side.
    """
    off = _error_bound(points, centers, radius)
    sure, possible = (
        edge.masked_fill(radius == 0, torch.inf).to(points.dtype)
        for edge in (off - 0.5 * radius.square(), -off - 0.5 * radius.square())
    )
    return sure, possible


def _error_bound(
    points: Float[Tensor, "n d"], centers: Centers, distance: Float64[Tensor, " n"]
) -> Float64[Tensor, " n"]:
    """Return a bound of the rounding error of squares of distances, found about any of the centers.

    Two distances that tie may have been found about different centers, and a point can be near to
    one of these and far from another: the largest error counts.
    """
    doubt = _TIE if points.dtype == torch.float64 else _DOUBT
    errors = [rounding_error(points, center, distance) for center in centers]
    return doubt * torch.stack(errors).amax(0)


@dataclass(frozen=True)
class NearestNeighborTest:
    """Accuracy of a 1-NN classifier of real against generated; 1/2 for p_g = p_data."""

    accuracy: float
    """Fraction of all images whose nearest other image is of their own kind."""
    accuracy_real: float
    """That fraction of real images; below 1/2, samples concentrate around them."""
    accuracy_fake: float
    """That fraction of samples; above 1/2, they are apart from real images."""
    n: int
    """Images of each kind."""


@torch.no_grad()
def nearest_neighbor_test(
    real: Float[Tensor, "n d"], fake: Float[Tensor, "m _"]
) -> NearestNeighborTest:
    """Leave-one-out accuracy of a 1-nearest-neighbor classifier of real against generated.

    Source: Lopez-Paz and Oquab 2017; Xu et al. 2018, “An empirical study on evaluation metrics of
    generative adversarial networks”.

    Raises:
        UsageError: the sets are of unlike size.
        DataError: a set has fewer than 2 rows, widths differ, or numbers are not finite.
    """
    real, fake = check_features(2, real=real, fake=fake)
    if len(real) != len(fake):
        raise UsageError(
            f"the nearest-neighbor test expects equally many real and generated images, got "
            f"{len(real)} and {len(fake)}"
        )
    real, fake = scale_to_range(real, fake)
    of_real, of_fake = _own_kind_accuracy(real, fake), _own_kind_accuracy(fake, real)
    return NearestNeighborTest((of_real + of_fake) / 2, of_real, of_fake, len(real))


def _own_kind_accuracy(mine: Float[Tensor, "n d"], others: Float[Tensor, "m d"]) -> float:
    """Share of points whose nearest other one is of their own; where they tie, it is not."""
    own, across = nearest_others(mine)[:, 0], nearest(mine, others)[0][:, 0]
    centers = mine.mean(0), others.mean(0)
    off = torch.maximum(
        _error_bound(mine, centers[:1], own), _error_bound(mine, centers[1:], across)
    )
    doubtful = (own.square() - across.square()).abs() <= off
    if mine.dtype != torch.float64 and doubtful.any():
        exact = mine[doubtful].double()
        own[doubtful] = nearest_others_float64(mine, doubtful, 1)[:, 0]
        across[doubtful] = nearest(exact, others.double())[0][:, 0]
        off[doubtful] = torch.maximum(
            _error_bound(exact, centers[:1], own[doubtful]),
            _error_bound(exact, centers[1:], across[doubtful]),
        )
    return float((own.square() + off < across.square()).double().mean())
