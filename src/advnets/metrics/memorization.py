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

        ‖x - x_(1)‖ < distance_ratio ‖x - x_(2)‖, x_(1), x_(2) the training images nearest to x

    It also returns the fraction of samples that are nearer to a training image than every other
    training image is, with the same test: ‖x - x_(1)‖ < ‖x_(1) - x_i‖ for all other i. This
    detects copies that are changed more, but also counts blurred samples, which are close to many
    images.

    The criterion is a ratio and not a distance, because blurred samples are near every image and
    noise is far from all, but neither has a small ratio. The bound is fixed, so a few copies are
    detected among any other samples, and the p-value is that of Fisher's exact test, which is valid
    for any data. The test is for images: of random points in d dimensions a fraction of about
    distance_ratio^d is counted. It does not detect copies changed by more than half the distance
    to another training image, nor copies of images that the training set contains in two slightly
    different versions.

    Related: Meehan et al. 2020, “A non-parametric test to detect data-copying in generative
    models”, which ranks the distances of samples and of held-out images.

    Args:
        train: pixels or features of training images, (n, d).
        test: the same of test images, (m, d), for comparison.
        samples: the same of samples, (s, d).
        distance_ratio: bound of the ratio, between 0 and 1.

    Raises:
        UsageError: `distance_ratio` is not above 0 and below 1.
        DataError: a set is empty, there are fewer than 2 different training images, widths differ,
            or numbers are not finite.
    """
    if not 0 < distance_ratio < 1:
        raise UsageError(
            f"distance_ratio is {distance_ratio:g}; expected a ratio above 0 and below 1, "
            f"as {DISTANCE_RATIO}"
        )
    train, test, samples = check_features(1, train=train, test=test, samples=samples)
    train, test, samples = scale_to_range(train, test, samples)
    num_images, train = len(train), train.unique(dim=0)
    if len(train) < 2:
        raise DataError(
            f"all {num_images} training images have the same features; give at least 2 different "
            "images"
        )
    copies, nearer = zip(
        *(count_copies(x, train, distance_ratio) for x in (test, samples)), strict=True
    )
    (copies_test, copies_samples), (nearer_test, nearer_samples) = copies, nearer
    z, p_value = _more_than_chance(copies_samples, len(samples), copies_test, len(test))
    _, nearer_p_value = _more_than_chance(nearer_samples, len(samples), nearer_test, len(test))
    return Memorization(
        copy_fraction=copies_samples / len(samples),
        expected_copy_fraction=copies_test / len(test),
        z=z,
        p_value=p_value,
        nearer_fraction=nearer_samples / len(samples),
        expected_nearer_fraction=nearer_test / len(test),
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
    # If rounding makes both distances 0, the point is equally close to both.
    ratio = torch.where(second > 0, first / second, 1.0)
    closest, closest_index = which[:, 0].unique(return_inverse=True)
    isolation = _nearest_two(train[closest], train)[0][:, 1]  # the nearest of each is itself
    return int((ratio < distance_ratio).sum()), int((first < isolation[closest_index]).sum())


def _nearest_two(
    points: Float[Tensor, "n d"], train: Float[Tensor, "m d"]
) -> tuple[Float[Tensor, "n 2"], Int64[Tensor, "n 2"]]:
    """Return distances and indices of the two nearest training images of each point."""
    # Distances by products cancel near a copy, so compute those of the nearest by differences.
    _, which = nearest(points, train, min(_CANDIDATES, len(train)))
    exact = torch.stack([(points - train[column]).norm(dim=1) for column in which.T], dim=1)
    distance, order = exact.sort(dim=1)
    return distance[:, :2], which.gather(1, order[:, :2])


def _more_than_chance(count: int, n: int, other: int, m: int) -> tuple[float, float]:
    """Return z score and p-value of `count` out of n, compared with `other` out of m; s is the sum.

    P(X >= count) = Σ_i C(n, i) C(m, s - i) / C(n + m, s), i from count to min(n, s)
    """
    s, total = count + other, n + m
    variance = s * n * m * (total - s) / (total**2 * (total - 1))
    z = (count - s * n / total) / math.sqrt(variance) if variance else 0.0
    i = torch.arange(count, min(n, s) + 1, dtype=torch.float64)
    log_total = _log_choose(total, torch.tensor(s, dtype=torch.float64))
    log_p = (_log_choose(n, i) + _log_choose(m, s - i) - log_total).logsumexp(0)
    return z, min(float(log_p.exp()), 1.0)


def _log_choose(n: int, k: Float64[Tensor, "*k"]) -> Float64[Tensor, "*k"]:
    return math.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)
