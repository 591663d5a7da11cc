"""Gaussian Parzen window log-likelihood, the score of Goodfellow et al. (2014), section 5."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from advnets.distributed import map_rows
from advnets.errors import DataError, UnknownNameError, UsageError
from advnets.metrics.distance import ROWS, half_squared_distances

PAPER_GRID = tuple(10 ** (-1 + k / 9) for k in range(10))
"""Widths σ of Goodfellow et al. (2014): ten from 0.1 to 1, evenly spaced in log σ."""
FINE_GRID = tuple(k / 100 for k in range(10, 30))
"""Widths σ of generative moment matching networks (Li et al. 2015): 0.1, 0.11, …, 0.29."""
GRIDS: Mapping[str, tuple[float, ...]] = MappingProxyType({"paper": PAPER_GRID, "fine": FINE_GRID})

SELECTION_POINTS = 1000
"""Validation points that σ is selected on: the first 1,000, as in the authors' script."""

_SIGMA_RANGE = 1e-9, 1e9  # 1 / σ² stays a finite float32
_MIN_POWER = -126.0  # 2^-126 is the smallest normal float32; exp2 is slow below it


@dataclass(frozen=True)
class ParzenScore:
    """Parzen log-likelihood of test points, with the settings it depends on.

    It is a score of samples, not of images' quality: it rewards what is smoother than the data
    (Theis et al. 2016, "A note on the evaluation of generative models"), so compare it with the
    score of as many real training images.
    """

    mean: float
    """Mean log p(x) over the test points, in nats."""
    valid_mean: float
    """Mean over the validation points that σ was selected on; use it to select an epoch."""
    standard_error: float
    """Standard deviation of log p(x) over the test points / √n_test, in nats."""
    sigma: float
    """Width of the window, in the unit of the points."""
    sigma_on_edge: bool
    """Whether σ is the smallest or largest of its grid, so that a wider grid might score higher."""
    grid: str
    """Name of the grid that σ was selected from."""
    n_samples: int
    """Number of samples, each the center of a Gaussian."""
    n_valid: int
    """Number of validation points that σ was selected on."""
    n_test: int
    """Number of test points."""


def parzen_log_likelihood(
    points: Float[Tensor, "n d"], centers: Float[Tensor, "m d"], sigma: float
) -> Float64[Tensor, " n"]:
    """Return the log density of each point, in nats, under a mixture of Gaussians on the centers.

    log p(x) = log (1/m) Σ_i exp(-½‖(x - μ_i)/σ‖²) - d log(σ √(2π))

    The estimate of Breuleux et al. (2011), "Quickly generating representative samples from an
    RBM-derived process", as used by Goodfellow et al. (2014), section 5. Computed in float32, with
    an error near 1e-6 ‖x‖² / σ², unless the points are float64; the result is on the CPU.

    Args:
        points: points to rate, (n, d).
        centers: centers of the mixture, (m, d).
        sigma: standard deviation of each Gaussian, above 0.

    Raises:
        UsageError: σ is not a positive number.
        DataError: a set is empty, dimensions differ, or there are numbers that are not finite.
    """
    return parzen_log_likelihoods(points, centers, (sigma,))[0]


@torch.no_grad()
def parzen_log_likelihoods(
    points: Float[Tensor, "n d"], centers: Float[Tensor, "m d"], sigmas: Sequence[float]
) -> Float64[Tensor, "sigmas n"]:
    """Return `parzen_log_likelihood` for several σ, in one pass over the distances.

    Raises:
        UsageError: there is no σ, or one that is not a positive number.
        DataError: a set is empty, dimensions differ, or there are numbers that are not finite.
    """
    _check_sigmas(sigmas)
    for name, some in (("points", points), ("centers", centers)):
        if some.ndim != 2:
            raise DataError(f"{name} have shape {tuple(some.shape)}; give a matrix, a row for each")
    _check_points(1, points=points, centers=centers)
    centers = centers.to(_compute_dtype(points, centers))

    def transposed(rows: Tensor) -> Tensor:
        return _log_likelihoods(rows, centers, sigmas).T

    return map_rows(transposed, points.to(centers), ROWS).T


def _log_likelihoods(
    points: Float[Tensor, "n d"], centers: Float[Tensor, "m d"], sigmas: Sequence[float]
) -> Float64[Tensor, "sigmas n"]:
    """Return the log densities of points in the dtype of the centers, for several σ."""
    # Per σ: Σ_i exp((e_i - top) / σ²) with e = -½‖x - μ‖², where top is the largest e so far.
    # It belongs to the nearest center and is the same for every σ.
    top = points.new_full((len(points),), -math.inf)
    total = points.new_zeros((len(sigmas), len(points)))
    powers = [1 / (math.log(2) * sigma**2) for sigma in sigmas]  # exp(e / σ²) = 2^(e power)
    for rows, _, exponent in half_squared_distances(points, centers):
        nearest = torch.maximum(top[rows], exponent.amax(1))
        exponent.sub_(nearest[:, None])
        term = torch.empty_like(exponent)
        for sums, power in zip(total, powers, strict=True):
            torch.mul(exponent, power, out=term).clamp_(min=_MIN_POWER).exp2_()
            sums[rows] *= ((top[rows] - nearest) * power).exp2_()
            sums[rows] += term.sum(1)
        top[rows] = nearest

    top, total = top.cpu().double(), total.cpu().double()
    sigma = torch.tensor(list(sigmas), dtype=torch.float64)[:, None]
    log_volume = points.shape[1] * (sigma.log() + 0.5 * math.log(2 * math.pi))
    return top / sigma**2 + total.log() - math.log(len(centers)) - log_volume


def select_sigma(
    valid: Float[Tensor, "n_valid ..."],
    samples: Float[Tensor, "n_samples ..."],
    grid: Sequence[float] = PAPER_GRID,
) -> tuple[float, float]:
    """Return the σ with the largest mean log-likelihood of the first 1,000 validation points.

    The second value is that mean, in nats.

    Raises:
        UsageError: there is no σ, or one that is not a positive number.
        DataError: a set is empty, shapes differ, or there are numbers that are not finite.
    """
    valid = valid[:SELECTION_POINTS]
    _check_points(1, validation_images=valid, samples=samples)
    log_likelihoods = parzen_log_likelihoods(valid.flatten(1), samples.flatten(1), grid)
    mean, which = log_likelihoods.mean(1).max(0)
    return grid[int(which)], float(mean)


def parzen_score(
    samples: Float[Tensor, "n_samples ..."],
    valid: Float[Tensor, "n_valid ..."],
    test: Float[Tensor, "n_test ..."],
    grid: str = "paper",
) -> ParzenScore:
    """Score samples by the Parzen log-likelihood of all test points, σ selected on validation ones.

    The authors' script (github.com/goodfeli/adversarial, parzen_ll.py) takes 10,000 samples, the
    grid "paper" and pixels in [0, 1]; scores on other scales of the pixels are not comparable.

    Args:
        samples: samples, (n, …), with pixels in [0, 1].
        valid: validation images, which select σ.
        test: test images, which are rated.
        grid: name of the values of σ to select from.

    Raises:
        UnknownNameError: no grid has that name.
        DataError: a set has fewer than 2 images, shapes differ, or numbers are not finite.
    """
    if grid not in GRIDS:
        raise UnknownNameError("Parzen grid", grid, GRIDS)
    sigmas = GRIDS[grid]
    _check_points(2, samples=samples, validation_images=valid, test_images=test)
    sigma, valid_mean = select_sigma(valid, samples, sigmas)
    log_likelihood = parzen_log_likelihood(test.flatten(1), samples.flatten(1), sigma)
    return ParzenScore(
        mean=float(log_likelihood.mean()),
        valid_mean=valid_mean,
        standard_error=float(log_likelihood.std(correction=0)) / math.sqrt(len(test)),
        sigma=sigma,
        sigma_on_edge=sigma in (min(sigmas), max(sigmas)),
        grid=grid,
        n_samples=len(samples),
        n_valid=min(len(valid), SELECTION_POINTS),
        n_test=len(test),
    )


def _check_sigmas(sigmas: Sequence[float]) -> None:
    low, high = _SIGMA_RANGE
    if not sigmas:
        raise UsageError("the grid of σ is empty; give at least one positive number")
    for sigma in sigmas:
        if not low <= sigma <= high:
            raise UsageError(f"σ is {sigma:g}; expected {low:g} to {high:g}, and 0.1 to 1 is usual")


def _check_points(min_points: int, **sets: Tensor) -> None:
    """Check that sets of points are large enough, of equal shapes, and finite."""
    sets = {name.replace("_", " "): points for name, points in sets.items()}
    for name, points in sets.items():
        if points.ndim < 2:
            raise DataError(f"{name} have shape {tuple(points.shape)}; give a row for each image")
        if len(points) < min_points or not points.shape[1:].numel():
            raise DataError(
                f"{len(points)} {name} came; the Parzen score needs {min_points} or more"
            )
    (first, shape), *others = ((name, tuple(points.shape[1:])) for name, points in sets.items())
    for name, other in others:
        if other != shape:
            raise DataError(
                f"{name} have shape {other} and {first} {shape}; give both the same height, "
                "width and channels"
            )
    for name, points in sets.items():
        # Distances are computed from squares, so the sum of squares has to be finite.
        if not points.to(_compute_dtype(points)).square().sum().isfinite():
            raise DataError(
                f"{name} hold numbers that are not finite, or too large to square; expected "
                "pixels in [0, 1]: leave the broken ones out"
            )


def _compute_dtype(*tensors: Tensor) -> torch.dtype:
    return functools.reduce(torch.promote_types, (t.dtype for t in tensors), torch.float32)
