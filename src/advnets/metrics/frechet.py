"""Fréchet distance between Gaussians fitted to two sets of features."""

from __future__ import annotations

import warnings

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from advnets.metrics.features import check_features


@torch.no_grad()
def frechet_distance(real: Float[Tensor, "n d"], fake: Float[Tensor, "m _"]) -> float:
    """Squared Fréchet distance of the Gaussians with the sets' means and covariances.

    ‖μ_1 - μ_2‖² + Tr(Σ_1 + Σ_2 - 2 (Σ_1 Σ_2)^½), in squared units of the features, at least 0;
    computed in float64. It grows as sets shrink: compare only at the same numbers of pictures.
    Sources: Dowson and Landau 1982; Heusel et al. 2017, equation 6.

    Raises:
        DataError: a set has fewer than 2 rows, widths differ, or numbers are not finite.

    Warns:
        UserWarning: a set has fewer rows than columns, so that its covariance is singular.
    """
    check_features(2, real=real, fake=fake)
    for name, features in (("real", real), ("fake", fake)):
        if len(features) < features.shape[1]:
            warnings.warn(
                f"{len(features)} {name} rows span less than their {features.shape[1]} columns; "
                "the Fréchet distance is then far too large: give more pictures",
                stacklevel=2,
            )
    (mean, covariance), (other_mean, other) = _moments(real), _moments(fake)
    # (Σ_1 Σ_2)^½ has the trace of (Σ_1^½ Σ_2 Σ_1^½)^½, whose root is of a symmetric matrix.
    values, vectors = torch.linalg.eigh(covariance)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    product = root @ other @ root
    trace_of_root = torch.linalg.eigvalsh((product + product.T) / 2).clamp(min=0).sqrt().sum()
    distance = (
        (mean - other_mean).square().sum() + covariance.trace() + other.trace() - 2 * trace_of_root
    )
    return max(float(distance), 0.0)


def _moments(x: Float[Tensor, "n d"]) -> tuple[Float64[Tensor, " d"], Float64[Tensor, "d d"]]:
    x = x.double()
    mean = x.mean(0)
    centred = x - mean
    return mean, centred.T @ centred / (len(x) - 1)
