"""Fréchet distance between Gaussians fitted to two sets of features."""

from __future__ import annotations

import warnings

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from advnets.errors import FewPicturesWarning
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
        FewPicturesWarning: a set has no more rows than columns, so that its covariance is singular.
    """
    check_features(2, real=real, fake=fake)
    for name, features in (("real", real), ("fake", fake)):
        if len(features) <= features.shape[1]:  # n rows about their mean span n - 1
            warnings.warn(
                f"{len(features)} {name} rows span less than their {features.shape[1]} columns; "
                "the Fréchet distance is then far too large: give more pictures",
                FewPicturesWarning,
                stacklevel=3,  # past `no_grad`, to the caller's own line
            )
    (mean, covariance), (other_mean, other) = _moments(real), _moments(fake)
    # Tr (Σ_1 Σ_2)^½ = Tr (Σ_1^½ Σ_2 Σ_1^½)^½, the sum of the singular values of Σ_1^½ Σ_2^½: real
    # and at least 0. Roots of eigenvalues of the product would make of their rounding, ε, √ε.
    trace_of_root = torch.linalg.svdvals(_root(covariance) @ _root(other)).sum()
    distance = (
        (mean - other_mean).square().sum() + covariance.trace() + other.trace() - 2 * trace_of_root
    )
    return max(float(distance), 0.0)  # less than 0 by rounding alone


def _root(covariance: Float64[Tensor, "d d"]) -> Float64[Tensor, "d d"]:
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def _moments(x: Float[Tensor, "n d"]) -> tuple[Float64[Tensor, " d"], Float64[Tensor, "d d"]]:
    x = x.double()
    mean = x.mean(0)
    centred = x - mean
    return mean, centred.T @ centred / (len(x) - 1)
