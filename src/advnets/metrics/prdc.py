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
_MARGIN_FLOAT64, _MARGIN_FLOAT32 = 4, 16
"""Rounding errors by which a distance in float64 must be smaller than a radius to be inside; and by
which one in float32, where errors accumulate, must differ from it to be decided."""
_PAIRS = 4096
_MAX_DOUBTFUL = 10
"""The largest number of undecided pairs per point in float32; beyond it, float64 is used."""
Centers = Sequence[Float[Tensor, " d"]]
"""The points on which sets were centered before matrix products."""


@dataclass(frozen=True)
class PRDC:
    """Precision, recall, density and coverage, and the k that they depend on."""

    precision: float
    """Fraction of samples inside the ball of a real image, in [0, 1]."""
    recall: float
    """Fraction of real images inside the ball of a sample, in [0, 1]."""
    density: float
    """Mean number of balls of real images that contain a sample, over k; 1 for p_g = p_data."""
    coverage: float
    """Fraction of real images whose ball contains a sample, in [0, 1]."""
    neighbors: int
    """k: the radius of a ball is the distance to the k-th nearest other image of the same set."""


@torch.no_grad()
def prdc(
    real: Float[Tensor, "n d"], fake: Float[Tensor, "m _"], neighbors: int = NEIGHBORS
) -> PRDC:
    """Return precision, recall (Kynkäänniemi et al. 2019), density, coverage (Naeem et al. 2020).

    The radius of the ball around a point is the distance to its k-th nearest other point of the
    same set; a point at exactly this distance is outside. Compare only at the same k and the
    same numbers of images.

    Args:
        real: features of real images, (n, d).
        fake: features of samples, (m, d).
        neighbors: k, at least 1.

    Raises:
        UsageError: `neighbors` is not at least 1 and less than either set.
        DataError: a set has fewer than 2 rows, widths differ, or numbers are not finite.

    Example:
        >>> x = torch.arange(12.0)[:, None]
        >>> advnets.metrics.prdc(x, x, neighbors=3).precision
        1.0
    """
    real, fake = check_features(2, real=real, fake=fake)
    fewest = min(len(real), len(fake))
    if not 1 <= neighbors < fewest:
        raise UsageError(
            f"{neighbors} neighbors were requested in sets of {fewest}; give 1 to {fewest - 1}"
        )
    real, fake = scale_to_range(real, fake)
    membership = _ball_membership(real, fake, neighbors)
    return PRDC(
        precision=float((membership.balls > 0).double().mean()),
        recall=float(membership.recalled.double().mean()),
        density=float(membership.balls.double().mean()) / neighbors,
        coverage=float(membership.covered.double().mean()),
        neighbors=neighbors,
    )


@dataclass(frozen=True)
class _BallMembership:
    """Which images are inside which balls."""

    balls: Int64[Tensor, " m"]
    """Number of balls of real images that contain each sample."""
    covered: Bool[Tensor, " n"]
    """Whether the ball of each real image contains a sample."""
    recalled: Bool[Tensor, " n"]
    """Whether each real image is inside the ball of a sample."""
    doubtful: list[Int64[Tensor, "2 _"]]
    """Pairs of image and sample, by index, for which float32 does not decide whether the sample is
    inside the ball of the image; they are not counted yet."""
    doubtful_fake: list[Int64[Tensor, "2 _"]]
    """Pairs for which it does not decide whether the image is inside the ball of the sample."""


def _ball_membership(
    real: Float[Tensor, "n d"], fake: Float[Tensor, "m d"], neighbors: int
) -> _BallMembership:
    """Compare all pairs; those that float32 does not resolve are computed again in float64."""
    # Radii are computed about the center of their own set, distances about that of the samples.
    centers = real.mean(0), fake.mean(0)
    radius, unresolved = _radii(real, centers, neighbors)
    fake_radius, unresolved_fake = _radii(fake, centers, neighbors)
    membership = _compare_pairs(
        real,
        fake,
        radius.masked_fill(unresolved, 0),
        fake_radius.masked_fill(unresolved_fake, 0),
        centers,
    )
    # With few distinct values, most distances tie.
    pairs = sum(p.shape[1] for p in (*membership.doubtful, *membership.doubtful_fake))
    if pairs > _MAX_DOUBTFUL * (len(real) + len(fake)):
        return _ball_membership(real.double(), fake.double(), neighbors)
    if unresolved.any():
        no_radius = torch.zeros_like(fake_radius)
        recomputed = _compare_pairs(
            real[unresolved].double(), fake.double(), radius[unresolved], no_radius, centers
        )
        membership.balls.add_(recomputed.balls)
        membership.covered[unresolved] = recomputed.covered
    if unresolved_fake.any():
        no_radius, fake_rows = torch.zeros_like(radius), fake[unresolved_fake].double()
        recomputed = _compare_pairs(
            real.double(), fake_rows, no_radius, fake_radius[unresolved_fake], centers
        )
        membership.recalled.logical_or_(recomputed.recalled)
    if membership.doubtful:
        images, samples = _pairs_inside(real, fake, torch.cat(membership.doubtful, 1), neighbors)
        membership.balls.index_add_(0, samples, torch.ones_like(samples))
        membership.covered[images] = True
    if membership.doubtful_fake:
        _, images = _pairs_inside(
            fake, real, torch.cat(membership.doubtful_fake, 1).flip(0), neighbors
        )
        membership.recalled[images] = True
    return membership


def _radii(
    points: Float[Tensor, "n d"], centers: Centers, neighbors: int
) -> tuple[Float64[Tensor, " n"], Bool[Tensor, " n"]]:
    """Return the radius of each ball, and which ones float32 does not resolve.

    Those are too small for products about one of the centers, and are computed in float64.
    """
    radius = nearest_others(points, neighbors)[:, -1]
    unresolved = torch.stack([is_unresolved(points, center, radius) for center in centers]).any(0)
    recomputed = unresolved & ~is_unresolved(points, points.mean(0), radius)
    if recomputed.any():
        radius[recomputed] = nearest_others_float64(points, recomputed, neighbors)[:, -1]
    return radius, unresolved


def _compare_pairs(
    real: Float[Tensor, "n d"],
    fake: Float[Tensor, "m d"],
    real_radius: Float64[Tensor, " n"],
    fake_radius: Float64[Tensor, " m"],
    centers: Centers,
) -> _BallMembership:
    """Compare all pairs in one dtype; a ball of radius 0 contains nothing.

    `centers` are those about which the radii were computed. In float64 every pair is decided: a
    distance equal to the radius within rounding is outside, since copies tie with their originals.
    """
    centers = *centers, fake.mean(0)
    edge, possible_edge = _thresholds(real, centers, real_radius)
    fake_edge, possible_fake_edge = _thresholds(fake, centers, fake_radius)
    covered, recalled = (torch.zeros_like(edge, dtype=torch.bool) for _ in range(2))
    membership = _BallMembership(
        torch.zeros_like(fake_edge, dtype=torch.long), covered, recalled, [], []
    )
    for rows, columns, block in half_squared_distances(real, fake):
        # As floats: sums and maxima of booleans are several times slower.
        inside = torch.gt(block, edge[rows, None], out=torch.empty_like(block))
        membership.balls[columns] += inside.sum(0).long()
        covered[rows] |= inside.amax(1) > 0
        membership.doubtful.extend(
            _doubtful_pairs(block, possible_edge[rows, None], inside, rows, columns)
        )
        torch.gt(block, fake_edge[None, columns], out=inside)
        recalled[rows] |= inside.amax(1) > 0
        membership.doubtful_fake.extend(
            _doubtful_pairs(block, possible_fake_edge[None, columns], inside, rows, columns)
        )
    return membership


def _doubtful_pairs(
    block: Float[Tensor, "n m"],
    possible_edge: Tensor,
    inside: Float[Tensor, "n m"],
    rows: slice,
    columns: slice,
) -> list[Int64[Tensor, "2 _"]]:
    """Return the indices of the undecided pairs of a block; none in float64."""
    if block.dtype == torch.float64:
        return []
    possible = torch.gt(block, possible_edge, out=torch.empty_like(block))
    if possible.sum() == inside.sum():
        return []
    row, column = (possible > inside).nonzero(as_tuple=True)
    return [torch.stack((row + rows.start, column + columns.start))]


def _pairs_inside(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], pairs: Int64[Tensor, "2 p"], neighbors: int
) -> Int64[Tensor, "2 q"]:
    """Return those of the pairs (i, j) in which y_j is inside the ball of x_i, in float64."""
    which, place = pairs[0].unique(return_inverse=True)
    rows = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    rows[which] = True
    radius, centers = nearest_others_float64(x, rows, neighbors)[:, -1][place], [x.mean(0)]
    inside: list[Tensor] = []
    for block, block_radius in zip(pairs.split(_PAIRS, 1), radius.split(_PAIRS), strict=True):
        x_i, y_j = x[block[0]].double(), y[block[1]].double()
        error = _error_bound(x_i, centers, block_radius)
        inside.append((x_i - y_j).square().sum(1) + error < block_radius.square())
    return pairs[:, torch.cat(inside)]


def _thresholds(
    points: Float[Tensor, "n d"], centers: Centers, radius: Float64[Tensor, " n"]
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Return bounds of -½‖x - y‖²: above the first y is surely in the ball, above the second maybe.

    They are -½ r² plus and minus the rounding error.
    """
    error = _error_bound(points, centers, radius)
    certain, possible = (
        edge.masked_fill(radius == 0, torch.inf).to(points.dtype)
        for edge in (error - 0.5 * radius.square(), -error - 0.5 * radius.square())
    )
    return certain, possible


def _error_bound(
    points: Float[Tensor, "n d"], centers: Centers, distance: Float64[Tensor, " n"]
) -> Float64[Tensor, " n"]:
    """Return a bound of the rounding error of squared distances, computed about any of the centers.

    Two tied distances may have been computed about different centers, and a point can be near
    one of them and far from another, so the largest error counts.
    """
    margin = _MARGIN_FLOAT64 if points.dtype == torch.float64 else _MARGIN_FLOAT32
    errors = [rounding_error(points, center, distance) for center in centers]
    return margin * torch.stack(errors).amax(0)


@dataclass(frozen=True)
class NearestNeighborTest:
    """The accuracy of a 1-NN classifier of real against generated; 1/2 for p_g = p_data."""

    accuracy: float
    """Fraction of all images whose nearest other image is in their own set."""
    accuracy_real: float
    """That fraction of real images; below 1/2, samples concentrate around them."""
    accuracy_fake: float
    """That fraction of samples; above 1/2, they are apart from real images."""
    n: int
    """Number of images in each set."""


@torch.no_grad()
def nearest_neighbor_test(
    real: Float[Tensor, "n d"], fake: Float[Tensor, "m _"]
) -> NearestNeighborTest:
    """Return the leave-one-out accuracy of a 1-NN classifier of real against generated.

    Source: Lopez-Paz and Oquab 2017; Xu et al. 2018, “An empirical study on evaluation metrics of
    generative adversarial networks”.

    Args:
        real: features of real images, (n, d).
        fake: features of samples, (m, d).

    Raises:
        UsageError: the sets differ in size.
        DataError: a set has fewer than 2 rows, widths differ, or numbers are not finite.
    """
    real, fake = check_features(2, real=real, fake=fake)
    if len(real) != len(fake):
        raise UsageError(
            f"the nearest-neighbor test expects equally many real and generated images, got "
            f"{len(real)} and {len(fake)}"
        )
    real, fake = scale_to_range(real, fake)
    accuracy_real, accuracy_fake = _own_kind_accuracy(real, fake), _own_kind_accuracy(fake, real)
    return NearestNeighborTest(
        (accuracy_real + accuracy_fake) / 2, accuracy_real, accuracy_fake, len(real)
    )


def _own_kind_accuracy(points: Float[Tensor, "n d"], others: Float[Tensor, "m d"]) -> float:
    """Return the fraction of points whose nearest neighbor is in their own set, without ties."""
    to_own, to_others = nearest_others(points)[:, 0], nearest(points, others)[0][:, 0]
    centers = points.mean(0), others.mean(0)
    error = torch.maximum(
        _error_bound(points, centers[:1], to_own), _error_bound(points, centers[1:], to_others)
    )
    doubtful = (to_own.square() - to_others.square()).abs() <= error
    if points.dtype != torch.float64 and doubtful.any():
        exact = points[doubtful].double()
        to_own[doubtful] = nearest_others_float64(points, doubtful, 1)[:, 0]
        to_others[doubtful] = nearest(exact, others.double())[0][:, 0]
        error[doubtful] = torch.maximum(
            _error_bound(exact, centers[:1], to_own[doubtful]),
            _error_bound(exact, centers[1:], to_others[doubtful]),
        )
    return float((to_own.square() + error < to_others.square()).double().mean())
