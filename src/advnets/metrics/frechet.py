"""Fréchet distance between Gaussians fitted to two sets of features."""

from __future__ import annotations

import math
import warnings

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from advnets.errors import FewPicturesWarning
from advnets.metrics.features import check_features

_SINGULAR = 1e-6
"""Of the factor of a covariance, the least number on the diagonal over the largest."""
_COLUMNS = 256


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
    apart = (mean - other_mean).square().sum() + covariance.trace() + other.trace()
    root = _trace_of_root(covariance, other)
    return max(float(apart) - 2 * root, 0.0)  # less than 0 by rounding alone


@torch.no_grad()
def frechet_standard_error(real: Float[Tensor, "n d"], fake: Float[Tensor, "m _"]) -> float | None:
    """Standard deviation of the distance over draws of both sets, to first order.

    To first order a draw y of p_g moves the distance by (ψ(y) - E ψ) / m, with

        ψ(y) = 2 y·(μ_2 - μ_1) + yᵀ (1 - T) y,  y about μ_2,  T = Σ_1^½ (Σ_1^½ Σ_2 Σ_1^½)^-½ Σ_1^½,

    T being the linear map that takes N(0, Σ_2) to N(0, Σ_1) most cheaply; a draw of the data so by
    T⁻¹. The bias of few pictures is not in it. Numbers that are constant in both sets are passed
    over; None where a covariance is singular. Source: the delta method; for T, Dowson and Landau
    1982.

    Raises:
        DataError: a set has fewer than 2 rows, widths differ, or numbers are not finite.
    """
    check_features(2, real=real, fake=fake)
    (mean, covariance), (other_mean, other) = _moments(real), _moments(fake)
    alive = (covariance.diagonal() > 0) | (other.diagonal() > 0)
    covariance, other = covariance[alive][:, alive], other[alive][:, alive]
    map_back = _cheapest_map(other, covariance)
    map_there = _cheapest_map(covariance, other)
    if map_back is None or map_there is None:
        return None
    apart, squares = other_mean[alive] - mean[alive], 0.0
    for x, middle, sign, moved in (
        (real, mean, -1, map_there),
        (fake, other_mean, 1, map_back),
    ):
        about = (x.double() - middle)[:, alive]
        influence = 2 * sign * about @ apart + (about * (about - about @ moved)).sum(1)
        squares += float(influence.var()) / len(x)
    return math.sqrt(squares)


def _cheapest_map(
    source: Float64[Tensor, "d d"], target: Float64[Tensor, "d d"]
) -> Float64[Tensor, "d d"] | None:
    """S^-½ (S^½ T S^½)^½ S^-½, from N(0, S) to N(0, T); None where S is as good as singular."""
    values, vectors = torch.linalg.eigh(source)
    if not len(values) or values[0] <= _SINGULAR**2 * values[-1]:
        return None
    root = (vectors * values.sqrt()) @ vectors.T
    inverse = (vectors / values.sqrt()) @ vectors.T
    return inverse @ _root(root @ target @ root) @ inverse


def _trace_of_root(covariance: Float64[Tensor, "d d"], other: Float64[Tensor, "d d"]) -> float:
    """Tr (Σ_1 Σ_2)^½ = Tr (Rᵀ Σ_2 R)^½ for any R Rᵀ = Σ_1: of eigenvalues that are real and >= 0.

    R is the factor of Cholesky of numbers in the order of their variance, so that rounding is as
    small as the eigenvalue; roots of those of the product would make of their rounding, ε, √ε.
    """
    order = covariance.diagonal().argsort(descending=True)
    factor, failed = torch.linalg.cholesky_ex(covariance[order][:, order])
    if failed or factor.diagonal().min() < _SINGULAR * factor.diagonal().max():
        # Three times the work: singular values of Σ_1^½ Σ_2^½, of which no root is taken any more.
        return float(torch.linalg.svdvals(_root(covariance) @ _root(other)).sum())
    values = torch.linalg.eigvalsh(factor.T @ other[order][:, order] @ factor)
    return float(values.clamp(min=0).sqrt().sum())


def _root(covariance: Float64[Tensor, "d d"]) -> Float64[Tensor, "d d"]:
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def _moments(x: Float[Tensor, "n d"]) -> tuple[Float64[Tensor, " d"], Float64[Tensor, "d d"]]:
    x = x.double()
    mean = x.mean(0)
    x = x - mean
    covariance = x.new_empty(x.shape[1], x.shape[1])
    for start in range(0, x.shape[1], _COLUMNS):  # on and below the diagonal: the rest is the same
        here, done = slice(start, start + _COLUMNS), slice(0, start + _COLUMNS)
        covariance[here, done] = x[:, here].T @ x[:, done]
    return mean, (covariance.tril() + covariance.tril(-1).T) / (len(x) - 1)
