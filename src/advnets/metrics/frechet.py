"""Fréchet distance between Gaussians fitted to two sets of features."""

from __future__ import annotations

import math
import warnings

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from advnets.distributed import sum_over_rows
from advnets.errors import FewImagesWarning
from advnets.metrics.validation import check_features

_SINGULAR = 1e-6
"""A covariance is singular if its Cholesky factor's smallest diagonal element is below this
fraction of the largest."""
_COLUMNS = 256
_ROWS, _ROW_PADDING = 64, 8
"""The rows that are centered at once, which stay in cache, and the unused numbers in each."""


@torch.no_grad()
def frechet_distance(real: Float[Tensor, "n d"], fake: Float[Tensor, "m _"]) -> float:
    """Return the squared Fréchet distance of the Gaussians with the sets' means and covariances.

    ‖μ_1 - μ_2‖² + Tr(Σ_1 + Σ_2 - 2 (Σ_1 Σ_2)^½), in squared units of the features, at least 0;
    computed in float64. It increases for smaller sets: compare only at the same numbers of images.
    Sources: Dowson and Landau 1982; Heusel et al. 2017, equation 6.

    Args:
        real: features of real images, (n, d).
        fake: features of samples, (m, d).

    Raises:
        DataError: a set has fewer than 2 rows, widths differ, or numbers are not finite.

    Warns:
        FewImagesWarning: a set has no more rows than columns, so its covariance is singular.

    Example:
        >>> x = torch.tensor([[0.0], [2.0]])  # mean 1, variance 2
        >>> advnets.metrics.frechet_distance(x, x + 3)
        9.0
    """
    real, fake = check_features(2, real=real, fake=fake)
    for name, features in (("real", real), ("fake", fake)):
        if len(features) <= features.shape[1]:  # n centered rows span n - 1 dimensions
            warnings.warn(
                f"{len(features)} {name} images are too few for {features.shape[1]} features; "
                "the Fréchet distance is far too large: use more images than features",
                FewImagesWarning,
                stacklevel=3,  # past `no_grad`, to the caller's own line
            )
    (mean, x), (other_mean, y) = _center(real), _center(fake)
    traces = torch.linalg.vector_norm(x).square() + torch.linalg.vector_norm(y).square()
    distance = (mean - other_mean).square().sum() + traces - 2 * _trace_of_root(x, y)
    return max(float(distance), 0.0)  # below 0 only by rounding


@torch.no_grad()
def frechet_standard_error(real: Float[Tensor, "n d"], fake: Float[Tensor, "m _"]) -> float | None:
    """Return the standard error of the distance over draws of both sets, to first order.

    A draw y of p_g changes the distance by (ψ(y) - E ψ) / m, with

        ψ(y) = 2 y·(μ_2 - μ_1) + yᵀ (1 - T) y,  y about μ_2,  T = Σ_1^½ (Σ_1^½ Σ_2 Σ_1^½)^-½ Σ_1^½,

    where T is the optimal transport map from N(0, Σ_2) to N(0, Σ_1); a draw of the data changes it
    accordingly. If a covariance is singular, T acts on the subspace that its set spans. The bias
    of few images is not included. None if there are no more images than features.
    Source: the delta method; for T, Dowson and Landau 1982.

    Args:
        real: features of real images, (n, d).
        fake: features of samples, (m, d).

    Raises:
        DataError: a set has fewer than 2 rows, widths differ, or numbers are not finite.
    """
    real, fake = check_features(2, real=real, fake=fake)
    # By the features themselves: centered constants are not exactly 0, because of rounding.
    varying = (real != real[0]).any(0) | (fake != fake[0]).any(0)
    (mean, x), (other_mean, y) = _center(real[:, varying]), _center(fake[:, varying])
    shift = other_mean - mean
    if min(len(x), len(y)) <= x.shape[1]:
        return None
    covariance, other = _gram(x), _gram(y)
    forward, backward = _transport_map(covariance, other), _transport_map(other, covariance)
    variance = 0.0
    for rows, mean_shift, transport in ((x, -shift, forward), (y, shift, backward)):
        centered = rows * math.sqrt(len(rows) - 1)
        influence = 2 * centered @ mean_shift + (centered * (centered - centered @ transport)).sum(
            1
        )
        variance += float(influence.var()) / len(rows)
    return math.sqrt(variance)


def _transport_map(
    source: Float64[Tensor, "d d"], target: Float64[Tensor, "d d"]
) -> Float64[Tensor, "d d"]:
    """Return the map S^-½ (S^½ T S^½)^½ S^-½ from N(0, S) to N(0, T), on the range of S."""
    values, vectors = torch.linalg.eigh(source)
    spanned = values > _SINGULAR**2 * values[-1:]
    values, vectors = values[spanned], vectors[:, spanned]
    root = (vectors * values.sqrt()) @ vectors.T
    inverse = (vectors / values.sqrt()) @ vectors.T
    return inverse @ _matrix_sqrt(root @ target @ root) @ inverse


def _trace_of_root(x: Float64[Tensor, "n d"], y: Float64[Tensor, "m _"]) -> Float64[Tensor, ""]:
    """Return Tr (Σ_1 Σ_2)^½ of Σ_1 = XᵀX and Σ_2 = YᵀY: the sum of singular values of X Yᵀ.

    With more images than features it is Tr (Rᵀ Σ_2 R)^½, where R Rᵀ = Σ_1; its eigenvalues are
    real and not negative. R is the Cholesky factor with features in the order of their variance,
    so that rounding errors are relative to each eigenvalue. Square roots of the eigenvalues of
    Σ_1 Σ_2 would turn a rounding error ε into √ε.
    """
    if min(len(x), len(y)) > x.shape[1]:
        covariance = _gram(x)
        order = covariance.diagonal().argsort(descending=True)
        factor, failed = torch.linalg.cholesky_ex(covariance[order[:, None], order])
        if not failed and factor.diagonal().min() >= _SINGULAR * factor.diagonal().max():
            middle = _congruence(factor, _gram(y)[order[:, None], order])
            return torch.linalg.eigvalsh(middle).clamp(min=0).sqrt().sum()
        x, y = (torch.linalg.qr(rows, mode="r").R for rows in (x, y))
    return torch.linalg.svdvals(x @ y.T).sum()


def _matrix_sqrt(covariance: Float64[Tensor, "d d"]) -> Float64[Tensor, "d d"]:
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def _center(x: Float[Tensor, "n d"]) -> tuple[Float64[Tensor, " d"], Float64[Tensor, "n d"]]:
    """Return the mean, and X centered and divided by √(n - 1), so that XᵀX is the covariance."""
    mean, scale = x.mean(0, dtype=torch.float64), math.sqrt(len(x) - 1)
    # Rows a power of two apart would share cache lines, and matrix products be a tenth slower.
    centered = mean.new_empty(len(x), x.shape[1] + _ROW_PADDING)[:, : x.shape[1]]
    for target, rows in zip(centered.split(_ROWS), x.split(_ROWS), strict=True):
        target.copy_(rows).sub_(mean).div_(scale)
    return mean, centered


def _gram(x: Float64[Tensor, "n d"]) -> Float64[Tensor, "d d"]:
    """Return XᵀX; several processes sum over their own rows."""
    return sum_over_rows(_gram_of_rows, x)


def _gram_of_rows(x: Float64[Tensor, "n d"]) -> Float64[Tensor, "d d"]:
    """Return XᵀX; blocks above the diagonal are copied from those below."""
    columns = x.shape[1]
    if columns <= _COLUMNS:
        return x.T @ x
    product, half = x.new_empty(columns, columns), columns // 2
    left, right = x[:, :half], x[:, half:]
    product[:half, :half], product[half:, half:] = _gram_of_rows(left), _gram_of_rows(right)
    product[half:, :half] = right.T @ left
    product[:half, half:] = product[half:, :half].T
    return product


def _congruence(
    factor: Float64[Tensor, "d d"], covariance: Float64[Tensor, "d d"]
) -> Float64[Tensor, "d d"]:
    """Return RᵀΣR on and below its diagonal, for lower triangular R, skipping products with 0."""
    product, result = torch.empty_like(covariance), torch.zeros_like(covariance)
    columns = range(0, len(covariance), _COLUMNS)
    for start in columns:
        stop = start + _COLUMNS
        product[:, start:stop] = covariance[:, start:] @ factor[start:, start:stop]
    for start in columns:
        stop = start + _COLUMNS
        result[start:stop, :stop] = factor[start:, start:stop].T @ product[start:, :stop]
    return result
