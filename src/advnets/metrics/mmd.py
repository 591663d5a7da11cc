"""Maximum mean discrepancy (MMD) of two sets of features, with a polynomial kernel."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from advnets.errors import DataError, UsageError
from advnets.metrics.validation import check_features, shuffle_by_content
from advnets.rng import RNG

_ROWS = 1024
_LARGEST = 1e25  # its twelfth power, which the error estimate needs, is finite in float64


@dataclass(frozen=True)
class MMD:
    """Squared maximum mean discrepancy, with the settings it depends on."""

    value: float
    """Mean over subsets; its expectation is 0 for p_g = p_data, so it may be negative."""
    standard_error: float
    """Standard error of that mean, over draws of both sets and of subsets."""
    std: float | None
    """Population standard deviation over subsets, as published; None for a single subset."""
    subsets: int
    subset_size: int
    """Number of images of each set in a subset."""


@torch.no_grad()
def polynomial_mmd(
    real: Float[Tensor, "n d"],
    fake: Float[Tensor, "m _"],
    *,
    subsets: int = 100,
    size: int = 1000,
    seed: int = 0,
) -> MMD:
    """Return the unbiased squared MMD with kernel k(x, y) = (xᵀy / d + 1)³, mean over subsets.

    MMD² = 1/(s (s - 1)) Σ_{i≠j} [k(x_i, x_j) + k(y_i, y_j)] - 2/s² Σ_ij k(x_i, y_j)

    A subset has `size` images of each set, drawn without replacement, or the number of images in
    the smaller set; if neither set has more, there is a single subset. Computed in float64, since
    nearly equal sums are subtracted. Unlike that of the Fréchet distance, its expectation does not
    depend on the number of images. The standard error is, to first order,

        4/n Var h(x) + 4/m Var h(y) + Var over subsets / subsets,  h(x) = E k(x, X) - E k(x, Y),

    with E over images in the same subsets; it is too large if the sets have the same distribution.
    Sources: Bińkowski et al. 2018, “Demystifying MMD GANs”, section 4; for the error, Hoeffding
    1948, “A class of statistics with asymptotically normal distribution”.

    Args:
        real: features of real images, (n, d).
        fake: features of samples, (m, d).
        subsets: number of subsets, at least 1.
        size: number of images of each set in a subset, at least 2.
        seed: random seed of the subsets.

    Raises:
        UsageError: there is no subset, or subsets have fewer than 2 images.
        DataError: a set has fewer than 2 rows, widths differ, or numbers are not finite.

    Example:
        >>> real, fake = torch.ones(20, 1), torch.zeros(20, 1)
        >>> advnets.metrics.polynomial_mmd(real, fake).value  # 2³ + 1 - 2
        7.0
    """
    if subsets < 1 or size < 2:
        raise UsageError(
            f"{subsets} subsets of {size} images were requested; give at least 1 subset of at "
            "least 2"
        )
    real, fake = check_features(2, real=real, fake=fake)
    if (largest := max(float(features.abs().max()) for features in (real, fake))) > _LARGEST:
        raise DataError(
            f"features have values up to {largest:.0e}, whose kernels overflow; divide both sets "
            "by the same number"
        )
    size = min(size, len(real), len(fake))
    if size == len(real) == len(fake):  # any two subsets would be the same
        subsets = 1
    x, y = shuffle_by_content(real), shuffle_by_content(fake)
    witness_x, witness_y = _Witness.zeros(x), _Witness.zeros(y)
    values: list[float] = []
    for number in range(subsets):
        rng = RNG(seed, step=number)
        index_x, index_y = (
            torch.from_numpy(rng.permutation(name, len(points))[:size]).to(points.device)
            for name, points in (("real", x), ("fake", y))
        )
        subset_x, subset_y = x[index_x], y[index_y]
        cross_x, cross_y = _sums(subset_x, subset_y)
        h_x = _sums_over_others(subset_x) / (size - 1) - cross_x / size
        h_y = _sums_over_others(subset_y) / (size - 1) - cross_y / size
        witness_x.add(index_x, h_x)
        witness_y.add(index_y, h_y)
        values.append(float(h_x.mean() + h_y.mean()))
    estimates = torch.tensor(values, dtype=torch.float64)
    if subsets > 1:
        over_subsets = float(estimates.var()) / subsets
        variance = witness_x.variance(len(x)) + witness_y.variance(len(y)) + over_subsets
    else:  # one subset of all images
        variance = witness_x.variance(size) + witness_y.variance(size)
    return MMD(
        value=float(estimates.mean()),
        standard_error=math.sqrt(variance),
        std=float(estimates.std(correction=0)) if subsets > 1 else None,
        subsets=subsets,
        subset_size=size,
    )


@dataclass(frozen=True)
class _Witness:
    """The values h of each image, summed over the subsets that contain it."""

    total: Float64[Tensor, " n"]
    counts: Float64[Tensor, " n"]

    @classmethod
    def zeros(cls, points: Float64[Tensor, "n d"]) -> _Witness:
        """Return the sums before the first subset."""
        return cls(points.new_zeros(len(points)), points.new_zeros(len(points)))

    def add(self, index: Int[Tensor, " s"], h: Float64[Tensor, " s"]) -> None:
        """Add the values of the images of one subset, by their indices."""
        self.total[index] += h
        self.counts[index] += 1

    def variance(self, n: int) -> float:
        """Return 4/n Var h over the images that were in a subset."""
        in_subset = self.counts > 0
        return 4 * float((self.total[in_subset] / self.counts[in_subset]).var()) / n


def _sums(
    x: Float64[Tensor, "s d"], y: Float64[Tensor, "s d"]
) -> tuple[Float64[Tensor, " s"], Float64[Tensor, " s"]]:
    """Return the sums of k(x_i, y_j) over j and over i, computed in blocks of rows."""
    rows, columns = x.new_zeros(len(x)), x.new_zeros(len(x))
    for start in range(0, len(x), _ROWS):
        block = slice(start, start + _ROWS)
        kernels = _cubic((x[block] @ y.T) / x.shape[1])
        rows[block] = kernels.sum(1)
        columns += kernels.sum(0)
    return rows, columns


def _sums_over_others(x: Float64[Tensor, "s d"]) -> Float64[Tensor, " s"]:
    """Return the sums of k(x_i, x_j) over j != i."""
    return _sums(x, x)[0] - _cubic(x.square().sum(1) / x.shape[1])


def _cubic(products: Float64[Tensor, "*s"]) -> Float64[Tensor, "*s"]:
    base = products.add_(1)
    return base * base * base
