"""A test of memorization: whether samples are copies of training images."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from advnets.errors import DataError, UsageError
from advnets.metrics.distance import nearest, scale_to_range
from advnets.metrics.validation import check_features

DISTANCE_RATIO = 0.5
"""A copy's largest ratio of distances to the nearest and second nearest training image."""
_CANDIDATES = 4


@dataclass(frozen=True)
class Memorization:
    """The fraction of samples that are copies, compared with that of held-out images."""

    copy_fraction: float
    """Fraction of samples that are copies of a training image."""
    expected_copy_fraction: float
    """That fraction of held-out images, which are copies by chance only."""
    z: float
    """Standard score of `copy_fraction`, were samples distributed as held-out images."""
    p_value: float
    """Probability of so large a fraction then: Fisher's exact test."""
    nearer_fraction: float
    """Fraction of samples nearer to a training image than every other training image is."""
    expected_nearer_fraction: float
    """That fraction of held-out images."""
    nearer_p_value: float
    """Probability of so large a fraction by chance. Blurred images are nearer too, without being
    copies."""
    distance_ratio: float
    n_train: int
    """Number of distinct training images."""
    n_test: int
    n_samples: int


@torch.no_grad()
def memorization(
    train: Float[Tensor, "n d"],
    test: Float[Tensor, "m _"],
    samples: Float[Tensor, "s _"],
    *,
    distance_ratio: float = DISTANCE_RATIO,
) -> Memorization:
    """Return the fraction of samples much nearer to one training image than to all others.

        ‖x - x_(1)‖ < near ‖x - x_(2)‖, x_(1) and x_(2) the two training images nearest to x

    Beside it the share of those that are nearer to a training image than training images are to
    it, tested alike: ‖x - x_(1)‖ < ‖x_(1) - x_i‖ for all other i. It finds copies changed by more,
    and takes what is blurred for one, as that is near to many.

    The ratio tells copies, not the distance: blurred samples are near to every image, noise is
    far from all, and of neither is it small. The bound is fixed, so that a few copies are found
    among samples of any other kind; and p is that of Fisher's exact test, which holds whatever the
    data is. It is for images: of points in d dimensions about near^d lie so by chance. Not found
    are copies changed by more than half the way to another training image, and copies of what
    the training set has twice with a slight difference.

    Related: Meehan et al. 2020, “A non-parametric test to detect data-copying in generative
    models”, which ranks the distances of samples and of held-out images.

    Raises:
        UsageError: `distance_ratio` is not above 0 and below 1.
        DataError: a set is empty, there are fewer than 2 unlike training images, widths differ,
            or numbers are not finite.
    """
    if not 0 < distance_ratio < 1:
        raise UsageError(
            f"distance_ratio is {distance_ratio:g}; expected a ratio above 0 and below 1, "
            f"as {DISTANCE_RATIO}"
        )
    train, test, samples = check_features(1, train=train, test=test, samples=samples)
    train, test, samples = scale_to_range(train, test, samples)
    came, train = len(train), train.unique(dim=0)
    if len(train) < 2:
        raise DataError(
            f"{came} training images came, all of the same features; give at least 2 unlike ones"
        )
    on, nearer = zip(
        *(count_copies(x, train, distance_ratio) for x in (test, samples)), strict=True
    )
    (on_test, on_samples), (near_test, near_samples) = on, nearer
    z, p_value = _more_than_chance(on_samples, len(samples), on_test, len(test))
    _, nearer_p_value = _more_than_chance(near_samples, len(samples), near_test, len(test))
    return Memorization(
        copy_fraction=on_samples / len(samples),
        expected_copy_fraction=on_test / len(test),
        z=z,
        p_value=p_value,
        nearer_fraction=near_samples / len(samples),
        expected_nearer_fraction=near_test / len(test),
        nearer_p_value=nearer_p_value,
        distance_ratio=distance_ratio,
        n_train=len(train),
        n_test=len(test),
        n_samples=len(samples),
    )


def count_copies(
    points: Float[Tensor, "n d"], train: Float[Tensor, "m d"], distance_ratio: float
) -> tuple[int, int]:
    """Count copies of a training image, and points nearer to one than other training images are."""
    distance, which = _nearest_two(points, train)
    first, second = distance.unbind(1)
    # Where rounding makes both 0, the point lies on neither more than on the other.
    ratio = torch.where(second > 0, first / second, 1.0)
    known, place = which[:, 0].unique(return_inverse=True)
    apart = _nearest_two(train[known], train)[0][:, 1]  # the nearest of each is itself
    return int((ratio < distance_ratio).sum()), int((first < apart[place]).sum())


def _nearest_two(
    points: Float[Tensor, "n d"], train: Float[Tensor, "m d"]
) -> tuple[Float[Tensor, "n 2"], Int64[Tensor, "n 2"]]:
    """Return distances and indices of the two nearest training images of each point."""
    # Distances by products cancel near a copy: those of the nearest are taken again by differences.
    _, which = nearest(points, train, min(_CANDIDATES, len(train)))
    exact = torch.stack([(points - train[column]).norm(dim=1) for column in which.T], dim=1)
    distance, order = exact.sort(dim=1)
    return distance[:, :2], which.gather(1, order[:, :2])


def _more_than_chance(count: int, n: int, other: int, m: int) -> tuple[float, float]:
    """The z score and p of `count` out of n beside `other` out of m, s in all.

    P(X >= count) = Σ_i C(n, i) C(m, s - i) / C(n + m, s), i from count to min(n, s)
    """
    s, whole = count + other, n + m
    variance = s * n * m * (whole - s) / (whole**2 * (whole - 1))
    z = (count - s * n / whole) / math.sqrt(variance) if variance else 0.0
    i = torch.arange(count, min(n, s) + 1, dtype=torch.float64)
    every = _log_choose(whole, torch.tensor(s, dtype=torch.float64))
    log_p = (_log_choose(n, i) + _log_choose(m, s - i) - every).logsumexp(0)
    return z, min(float(log_p.exp()), 1.0)


def _log_choose(n: int, k: Float64[Tensor, "*k"]) -> Float64[Tensor, "*k"]:
    return math.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)
