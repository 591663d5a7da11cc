"""Fréchet distance between Gaussians fitted to two sets of features."""

from __future__ import annotations

import math
import warnings

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from advnets.errors import FewImagesWarning
from advnets.metrics.validation import check_features

_SINGULAR = 1e-6
"""Of the factor of a covariance, the least number on the diagonal over the largest."""
_COLUMNS = 256


@torch.no_grad()
def frechet_distance(real: Float[Tensor, "n d"], fake: Float[Tensor, "m _"]) -> float:
    """Squared Fréchet distance of the Gaussians with the sets' means and covariances.

    ‖μ_1 - μ_2‖² + Tr(Σ_1 + Σ_2 - 2 (Σ_1 Σ_2)^½), in squared units of the features, at least 0;
    computed in float64. It grows as sets shrink: compare only at the same numbers of images.
    Sources: Dowson and Landau 1982; Heusel et al. 2017, equation 6.

    Raises:
        DataError: a set has fewer than 2 rows, widths differ, or numbers are not finite.

    Warns:
        FewImagesWarning: a set has no more rows than columns, so that its covariance is singular.
    """
    real, fake = check_features(2, real=real, fake=fake)
    for name, features in (("real", real), ("fake", fake)):
        if len(features) <= features.shape[1]:  # n rows about their mean span n - 1
            warnings.warn(
                f"{len(features)} {name} rows span less than their {features.shape[1]} columns; "
                "the Fréchet distance is then far too large: give more images",
                FewImagesWarning,
                stacklevel=3,  # past `no_grad`, to the caller's own line
            )
    (mean, x), (other_mean, y) = _center(real), _center(fake)
    traces = torch.linalg.vector_norm(x).square() + torch.linalg.vector_norm(y).square()
    distance = (mean - other_mean).square().sum() + traces - 2 * _trace_of_root(x, y)
    return max(float(distance), 0.0)  # less than 0 by rounding alone


@torch.no_grad()
def frechet_standard_error(real: Float[Tensor, "n d"], fake: Float[Tensor, "m _"]) -> float | None:
    """Standard deviation of the distance over draws of both sets, to first order.

    To first order a draw y of p_g moves the distance by (ψ(y) - E ψ) / m, with

        ψ(y) = 2 y·(μ_2 - μ_1) + yᵀ (1 - T) y,  y about μ_2,  T = Σ_1^½ (Σ_1^½ Σ_2 Σ_1^½)^-½ Σ_1^½,

    T being the linear map that takes N(0, Σ_2) to N(0, Σ_1) most cheaply; a draw of the data so by
    its other. Where a covariance is singular, the map is of what its set spans, in which its draws
    lie. The bias of few images is not in it; None where they do not span their columns for being
    too few. Source: the delta method; for T, Dowson and Landau 1982.

    Raises:
        DataError: a set has fewer than 2 rows, widths differ, or numbers are not finite.
    """
    real, fake = check_features(2, real=real, fake=fake)
    # By the features themselves: about a mean, a constant is what rounding has left of it.
    alive = (real != real[0]).any(0) | (fake != fake[0]).any(0)
    (mean, x), (other_mean, y) = _center(real[:, alive]), _center(fake[:, alive])
    apart = other_mean - mean
    if min(len(x), len(y)) <= x.shape[1]:
        return None
    covariance, other = _gram(x), _gram(y)
    there, back = _transport_map(covariance, other), _transport_map(other, covariance)
    squares = 0.0
    for rows, toward, moved in ((x, -apart, there), (y, apart, back)):
        about = rows * math.sqrt(len(rows) - 1)
        influence = 2 * about @ toward + (about * (about - about @ moved)).sum(1)
        squares += float(influence.var()) / len(rows)
    return math.sqrt(squares)


def _transport_map(
    source: Float64[Tensor, "d d"], target: Float64[Tensor, "d d"]
) -> Float64[Tensor, "d d"]:
    """S^-½ (S^½ T S^½)^½ S^-½, from N(0, S) to N(0, T), of what S spans."""
    values, vectors = torch.linalg.eigh(source)
    spanned = values > _SINGULAR**2 * values[-1:]
    values, vectors = values[spanned], vectors[:, spanned]
    root = (vectors * values.sqrt()) @ vectors.T
    inverse = (vectors / values.sqrt()) @ vectors.T
    return inverse @ _matrix_sqrt(root @ target @ root) @ inverse


def _trace_of_root(x: Float64[Tensor, "n d"], y: Float64[Tensor, "m _"]) -> Float64[Tensor, ""]:
    """Tr (Σ_1 Σ_2)^½ of Σ_1 = XᵀX and Σ_2 = YᵀY: the sum of the singular values of X Yᵀ.

    Where there are more images than features it is Tr (Rᵀ Σ_2 R)^½, R Rᵀ = Σ_1, of eigenvalues
    that are real and at least 0. R is the factor of Cholesky of numbers in the order of their
    variance: rounding is then as small as the eigenvalue. Roots of those of Σ_1 Σ_2 would make of
    their rounding, ε, √ε.
    """
    if min(len(x), len(y)) > x.shape[1]:
        covariance = _gram(x)
        order = covariance.diagonal().argsort(descending=True)
        factor, failed = torch.linalg.cholesky_ex(covariance[order][:, order])
        if not failed and factor.diagonal().min() >= _SINGULAR * factor.diagonal().max():
            middle = _congruence(factor, _gram(y)[order][:, order])
            return torch.linalg.eigvalsh(middle).clamp(min=0).sqrt().sum()
        x, y = (torch.linalg.qr(some, mode="r").R for some in (x, y))
    return torch.linalg.svdvals(x @ y.T).sum()


def _matrix_sqrt(covariance: Float64[Tensor, "d d"]) -> Float64[Tensor, "d d"]:
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def _center(x: Float[Tensor, "n d"]) -> tuple[Float64[Tensor, " d"], Float64[Tensor, "n d"]]:
    """The mean, and X about it over √(n - 1): XᵀX is the covariance."""
    x = x.to(torch.float64, copy=True)
    mean = x.mean(0)
    return mean, x.sub_(mean).div_(math.sqrt(len(x) - 1))


def _gram(x: Float64[Tensor, "n d"]) -> Float64[Tensor, "d d"]:
    """XᵀX; what lies above a block on the diagonal is copied from below it."""
    columns = x.shape[1]
    if columns <= _COLUMNS:
        return x.T @ x
    product, half = x.new_empty(columns, columns), columns // 2
    left, right = x[:, :half], x[:, half:]
    product[:half, :half], product[half:, half:] = _gram(left), _gram(right)
    product[half:, :half] = right.T @ left
    product[:half, half:] = product[half:, :half].T
    return product


def _congruence(
    factor: Float64[Tensor, "d d"], covariance: Float64[Tensor, "d d"]
) -> Float64[Tensor, "d d"]:
    """RᵀΣR on and below its diagonal, of a lower R; products with the zeros above are left out."""
    product, result = torch.empty_like(covariance), torch.zeros_like(covariance)
    columns = range(0, len(covariance), _COLUMNS)
    for start in columns:
        stop = start + _COLUMNS
        product[:, start:stop] = covariance[:, start:] @ factor[start:, start:stop]
    for start in columns:
        stop = start + _COLUMNS
        result[start:stop, :stop] = factor[start:, start:stop].T @ product[start:, :stop]
    return result
