"""Kernel distance: the maximum mean discrepancy of two sets of features."""

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
_LARGEST = 1e25  # whose twelfth power, as errors take it, float64 has


@dataclass(frozen=True)
class MMD:
    """Squared maximum mean discrepancy, with all that it hangs on."""

    value: float
    """Mean over subsets; its expectation is 0 for p_g = p_data, so that it may be less."""
    standard_error: float
    """Of that mean, over draws of both sets and of subsets."""
    std: float | None
    """Standard deviation over subsets by their number, as it is published; of one subset none."""
    subsets: int
    subset_size: int
    """Images of either set in a subset."""


@torch.no_grad()
def polynomial_mmd(
    real: Float[Tensor, "n d"],
    fake: Float[Tensor, "m _"],
    *,
    subsets: int = 100,
    size: int = 1000,
    seed: int = 0,
) -> MMD:
    """Unbiased squared MMD with the cubic kernel k(x, y) = (xᵀy / d + 1)³, mean over subsets.

    MMD² = 1/(s (s - 1)) Σ_{i≠j} [k(x_i, x_j) + k(y_i, y_j)] - 2/s² Σ_ij k(x_i, y_j)

    A subset has `size` images of either set, drawn without repetition, or as many as the smaller
    set has; of two sets of no more there is one. In float64: sums near to each other are
    subtracted. Unlike the Fréchet distance its mean does not hang on how many images there are.
    The standard error is, to first order,

        4/n Var h(x) + 4/m Var h(y) + Var over subsets / subsets,  h(x) = E k(x, X) - E k(x, Y),

    E over images in the same subsets; where the sets are alike it errs on the large side.
    Sources: Bińkowski et al. 2018, “Demystifying MMD GANs”, section 4; for the error, Hoeffding
    1948, “A class of statistics with asymptotically normal distribution”.

    Raises:
        UsageError: there is no subset, or it is of fewer than 2 images.
        DataError: a set has fewer than 2 rows, widths differ, or numbers are not finite.
    """
    if subsets < 1 or size < 2:
        raise UsageError(
            f"{subsets} subsets of {size} images were asked for; give at least 1 of at least 2"
        )
    real, fake = check_features(2, real=real, fake=fake)
    if (largest := max(float(some.abs().max()) for some in (real, fake))) > _LARGEST:
        raise DataError(
            f"features hold numbers up to {largest:.0e}, whose kernels are lost; divide both sets "
            "by one number"
        )
    size = min(size, len(real), len(fake))
    if size == len(real) == len(fake):  # any two subsets would be the same
        subsets = 1
    x, y = shuffle_by_content(real), shuffle_by_content(fake)
    seen_x, seen_y = _Witness.of(x), _Witness.of(y)
    values: list[float] = []
    for number in range(subsets):
        rng = RNG(seed, step=number)
        which_x, which_y = (
            torch.from_numpy(rng.permutation(name, len(points))[:size]).to(points.device)
            for name, points in (("real", x), ("fake", y))
        )
        some_x, some_y = x[which_x], y[which_y]
        across_x, across_y = _sums(some_x, some_y)
        h_x = _sums_over_others(some_x) / (size - 1) - across_x / size
        h_y = _sums_over_others(some_y) / (size - 1) - across_y / size
        seen_x.add(which_x, h_x)
        seen_y.add(which_y, h_y)
        values.append(float(h_x.mean() + h_y.mean()))
    found = torch.tensor(values, dtype=torch.float64)
    if subsets > 1:
        over = float(found.var()) / subsets
        variance = seen_x.variance(len(x)) + seen_y.variance(len(y)) + over
    else:  # as if there were no more images
        variance = seen_x.variance(size) + seen_y.variance(size)
    return MMD(
        value=float(found.mean()),
        standard_error=math.sqrt(variance),
        std=float(found.std(correction=0)) if subsets > 1 else None,
        subsets=subsets,
        subset_size=size,
    )


@dataclass(frozen=True)
class _Witness:
    """h of each image, summed over the subsets that it was in."""

    total: Float64[Tensor, " n"]
    times: Float64[Tensor, " n"]

    @classmethod
    def of(cls, points: Float64[Tensor, "n d"]) -> _Witness:
        return cls(points.new_zeros(len(points)), points.new_zeros(len(points)))

    def add(self, which: Int[Tensor, " s"], h: Float64[Tensor, " s"]) -> None:
        self.total[which] += h
        self.times[which] += 1

    def variance(self, n: int) -> float:
        """4/n Var h, which an image that was in no subset tells nothing of."""
        seen = self.times > 0
        return 4 * float((self.total[seen] / self.times[seen]).var()) / n


def _sums(
    x: Float64[Tensor, "s d"], y: Float64[Tensor, "s d"]
) -> tuple[Float64[Tensor, " s"], Float64[Tensor, " s"]]:
    """Sums of k(x_i, y_j) over j and over i, a block of rows at a time."""
    rows, columns = x.new_zeros(len(x)), x.new_zeros(len(x))
    for start in range(0, len(x), _ROWS):
        here = slice(start, start + _ROWS)
        kernels = _cubic((x[here] @ y.T) / x.shape[1])
        rows[here] = kernels.sum(1)
        columns += kernels.sum(0)
    return rows, columns


def _sums_over_others(x: Float64[Tensor, "s d"]) -> Float64[Tensor, " s"]:
    """Sums of k(x_i, x_j) over the others j."""
    return _sums(x, x)[0] - _cubic(x.square().sum(1) / x.shape[1])


def _cubic(products: Float64[Tensor, "*s"]) -> Float64[Tensor, "*s"]:
    root = products.add_(1)
    return root * root * root
