"""Kernel distance: the maximum mean discrepancy of two sets of features."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from advnets.errors import UsageError
from advnets.metrics.features import by_content, check_features
from advnets.noise import Noise


@dataclass(frozen=True)
class KernelDistance:
    """Squared maximum mean discrepancy, with all that it hangs on."""

    value: float
    """Mean over subsets; its expectation is 0 for p_g = p_data, so that it may be less."""
    standard_error: float | None
    """Of that mean over subsets, not over new pictures; of one subset none."""
    subsets: int
    size: int
    """Pictures of either set in a subset."""


@torch.no_grad()
def kernel_distance(
    real: Float[Tensor, "n d"],
    fake: Float[Tensor, "m _"],
    *,
    subsets: int = 100,
    size: int = 1000,
    seed: int = 0,
) -> KernelDistance:
    """Unbiased squared MMD with the cubic kernel k(x, y) = (xᵀy / d + 1)³, mean over subsets.

    MMD² = 1/(s (s - 1)) Σ_{i≠j} [k(x_i, x_j) + k(y_i, y_j)] - 2/s² Σ_ij k(x_i, y_j)

    A subset has `size` pictures of either set, drawn without repetition, or as many as the smaller
    set has. In float64: sums near to each other are subtracted. Unlike the Fréchet distance its
    mean does not hang on how many pictures there are.
    Source: Bińkowski et al. 2018, “Demystifying MMD GANs”, section 4.

    Raises:
        UsageError: there is no subset, or it is of fewer than 2 pictures.
        DataError: a set has fewer than 2 rows, widths differ, or numbers are not finite.
    """
    if subsets < 1 or size < 2:
        raise UsageError(
            f"{subsets} subsets of {size} pictures were asked for; give at least 1 of at least 2"
        )
    check_features(2, real=real, fake=fake)
    size = min(size, len(real), len(fake))
    x, y = by_content(real), by_content(fake)
    values: list[float] = []
    for number in range(subsets):
        noise = Noise(seed, step=number)
        some_x, some_y = (
            points[torch.from_numpy(noise.permutation(name, len(points))[:size])]
            for name, points in (("real", x), ("fake", y))
        )
        values.append(_squared_discrepancy(some_x, some_y))
    found = torch.tensor(values, dtype=torch.float64)
    return KernelDistance(
        value=float(found.mean()),
        standard_error=float(found.std()) / math.sqrt(subsets) if subsets > 1 else None,
        subsets=subsets,
        size=size,
    )


def _squared_discrepancy(x: Float64[Tensor, "s d"], y: Float64[Tensor, "s d"]) -> float:
    pairs = len(x) * (len(x) - 1)
    within = sum(k.sum() - k.diagonal().sum() for k in (_cubic(x, x), _cubic(y, y)))
    return float(within / pairs - 2 * _cubic(x, y).mean())


def _cubic(x: Float64[Tensor, "s d"], y: Float64[Tensor, "s d"]) -> Float64[Tensor, "s s"]:
    root = (x @ y.T).div_(x.shape[1]).add_(1)
    return root * root * root
