"""Precision, recall, density, coverage, and the 1-NN two-sample test."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from advnets.distributed import gather_own, map_tasks, own_rows
from advnets.errors import UsageError
from advnets.metrics.distance import (
    half_squared_distances,
    nearest,
    nearest_others,
    nearest_others_float64,
    rounding_error,
    scale_to_range,
)
from advnets.metrics.low_precision import (
    BLOCK,
    RoundedPoints,
    kth_distances,
    rounded_half_distances,
    squared_distances,
)
from advnets.metrics.validation import check_features

NEIGHBORS = 5
"""The default k of the balls, as in Naeem et al. 2020."""
_MARGIN_FLOAT64, _MARGIN_FLOAT32 = 4, 16
"""Rounding errors by which a distance in float64 must be smaller than a radius to be inside; and by
which one in float32, where errors accumulate, must differ from it to be decided."""
_MIN_FEATURES = 64
"""The smallest number of features for which products take most of the time."""
_MAX_UNDECIDED = 32
"""The largest number of undecided pairs per point; beyond it, more bits are used."""
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


def _ball_membership(
    real: Float[Tensor, "n d"], fake: Float[Tensor, "m d"], neighbors: int
) -> _BallMembership:
    """Compare all pairs by fast products; those that they do not decide, in float64."""
    for dtype in _fast_dtypes(real):
        radius, fake_radius = map_tasks(
            [partial(kth_distances, points, neighbors, dtype) for points in (real, fake)]
        )
        if radius is None or fake_radius is None:
            continue
        x, y = (RoundedPoints.round(points, fake.mean(0), dtype) for points in (real, fake))
        blocks = partial(_rounded_blocks, x, y)
        membership = _compare_own_rows(real, fake, radius, fake_radius, blocks)
        if membership is not None:
            return membership
    real, fake = real.double(), fake.double()
    radius, fake_radius = map_tasks(
        [partial(nearest_others, points, neighbors) for points in (real, fake)]
    )
    blocks = partial(_exact_blocks, real, fake)
    membership = _compare_own_rows(real, fake, radius[:, -1], fake_radius[:, -1], blocks)
    assert membership is not None  # equal bounds decide every pair
    return membership


_Blocks = Iterable[tuple[slice, slice, Float[Tensor, "_ _"], Float[Tensor, "_ _"] | None]]
"""Blocks of -½‖x - y‖² and bounds of its error, or None: it has none; with their slices."""


def _rounded_blocks(x: RoundedPoints, y: RoundedPoints, own: slice) -> _Blocks:
    return rounded_half_distances(x[own], y)


def _exact_blocks(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], own: slice) -> _Blocks:
    return ((*block, None) for block in half_squared_distances(x[own], y))


class _Limits(NamedTuple):
    """Squared distances below which a point is inside a ball; -inf for balls of radius 0."""

    real: Float64[Tensor, " n"]
    fake: Float64[Tensor, " m"]


def _compare_own_rows(
    real: Float[Tensor, "n d"],
    fake: Float[Tensor, "m d"],
    radius: Float64[Tensor, " n"],
    fake_radius: Float64[Tensor, " m"],
    blocks: Callable[[slice], _Blocks],
) -> _BallMembership | None:
    """Compare all pairs, of which each process compares those of its own rows of real images."""
    # Radii in float64 are rounded about the center of their set, distances about that of samples.
    centers = real.mean(0), fake.mean(0)
    limits, fake_limits = (
        (r.square() - _tie_margin(points, centers, r)).masked_fill(r == 0, -torch.inf)
        for points, r in ((real, radius), (fake, fake_radius))
    )
    own = own_rows(len(real), BLOCK)
    parts = gather_own(
        _compare_pairs(real[own], fake, _Limits(limits[own], fake_limits), blocks(own))
    )
    decided = [part for part in parts if part is not None]
    if len(decided) < len(parts):
        return None
    return _BallMembership(
        torch.stack([part.balls for part in decided]).sum(0),
        torch.cat([part.covered for part in decided]),
        torch.cat([part.recalled for part in decided]),
    )


def _fast_dtypes(points: Float[Tensor, "n d"]) -> tuple[torch.dtype, ...]:
    """Return the dtypes whose products save time, the fastest one first."""
    if points.shape[1] < _MIN_FEATURES:
        return ()
    if points.device.type == "cpu" and torch.cpu._is_avx512_bf16_supported():  # pyright: ignore
        return torch.bfloat16, torch.float32
    return (torch.float32,)


def _compare_pairs(
    real: Float[Tensor, "n d"],
    fake: Float[Tensor, "m d"],
    limits: _Limits,
    blocks: _Blocks,
) -> _BallMembership | None:
    """Compare all pairs of some real images and all samples.

    Pairs within the error are compared in float64; the result is None if they are too many. A
    distance equal to the radius within rounding is outside, since copies tie with their
    originals; a ball of radius 0 contains nothing.
    """
    membership = _BallMembership(
        torch.zeros_like(limits.fake, dtype=torch.long),
        *(torch.zeros_like(limits.real, dtype=torch.bool) for _ in range(2)),
    )
    pairs_left = _MAX_UNDECIDED * (len(real) + len(fake))
    none = torch.empty(2, 0, dtype=torch.long, device=real.device)
    undecided, undecided_fake = [none], [none]
    for rows, columns, block, error in blocks:
        low, high = (block, block) if error is None else (block - error, block.add_(error))
        edge = (-0.5 * limits.real[rows, None]).to(low.dtype)
        fake_edge = (-0.5 * limits.fake[None, columns]).to(low.dtype)
        # As floats: sums and maxima of booleans are several times slower.
        inside = torch.gt(low, edge, out=torch.empty_like(low))
        membership.balls[columns] += inside.sum(0).long()
        membership.covered[rows] |= inside.amax(1) > 0
        if high is not low:
            undecided.append(_pairs_between(inside, high, edge, rows, columns))
        torch.gt(low, fake_edge, out=inside)
        membership.recalled[rows] |= inside.amax(1) > 0
        if high is not low:
            undecided_fake.append(_pairs_between(inside, high, fake_edge, rows, columns))
            pairs_left -= undecided[-1].shape[1] + undecided_fake[-1].shape[1]
            if pairs_left < 0:
                return None

    # Decide the others by distances in float64.
    i, j = torch.cat(undecided, 1)
    inside = squared_distances(real, fake, i, j) < limits.real[i]
    membership.balls.index_add_(0, j[inside], torch.ones_like(j[inside]))
    membership.covered[i[inside]] = True
    i, j = torch.cat(undecided_fake, 1)
    membership.recalled[i[squared_distances(real, fake, i, j) < limits.fake[j]]] = True
    return membership


def _pairs_between(
    inside: Float[Tensor, "n m"],
    high: Float[Tensor, "n m"],
    edge: Float[Tensor, "_ _"],
    rows: slice,
    columns: slice,
) -> Int64[Tensor, "2 _"]:
    """Return the indices of pairs of a block that may be inside, and are not surely."""
    possible = torch.gt(high, edge, out=torch.empty_like(high)) > inside
    row, column = possible.nonzero(as_tuple=True)
    return torch.stack((row + rows.start, column + columns.start))


def _tie_margin(
    points: Float[Tensor, "n d"], centers: Centers, radius: Float64[Tensor, " n"]
) -> Float64[Tensor, " n"]:
    """Return a bound of the rounding error of squared radii in float64.

    A point can be near one of the centers and far from another, so the largest error counts.
    """
    squares = torch.stack([(points - center).square_().sum(1) for center in centers]).amax(0)
    return _MARGIN_FLOAT64 * torch.finfo(torch.float64).eps * (squares.double() + radius.square())


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
