"""Distances by fast products of rounded points: bounds, and exact distances where they matter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor

from advnets.metrics.distance import full_precision, nearest_others_float64

BLOCK, _PAIRS = 1024, 256
_EXTRA = 11
"""The number of candidates that are kept for each point beyond k."""
_MAX_INCOMPLETE = 0.1
"""The largest fraction of points with more candidates than are kept."""
_SECOND_ORDER = 1.01
"""Covers products of two rounding errors."""


@dataclass(frozen=True)
class RoundedPoints:
    """Points about a center, rounded to the dtype of fast matrix products."""

    values: Float[Tensor, "n d"]
    half_squares: Float32[Tensor, " n"]
    """½‖x‖² of each point, before rounding."""
    error: float
    """The largest ‖e‖ / ‖x‖ of a point, where e is the rounding error."""

    @classmethod
    def round(
        cls, points: Float[Tensor, "n d"], center: Float[Tensor, " d"], dtype: torch.dtype
    ) -> RoundedPoints:
        """Round float32 or float64 points to `dtype`."""
        points = points - center
        values = points.to(dtype)
        norms = _norms(points)
        error = (_norms(points - values) / norms).nan_to_num(0.0).max()
        return cls(values, norms.square().mul(0.5).float(), float(error))

    def __getitem__(self, rows: slice) -> RoundedPoints:
        """Return some of the points, with the error of all."""
        return RoundedPoints(self.values[rows], self.half_squares[rows], self.error)


def rounded_half_distances(
    x: RoundedPoints, y: RoundedPoints, *, upper_only: bool = False
) -> Iterator[tuple[slice, slice, Float32[Tensor, "_ _"], Float32[Tensor, "_ _"]]]:
    """Yield blocks of -½‖x_i - y_j‖² and of bounds of its error, with their slices of i and of j.

    By Cauchy-Schwarz, the rounding errors of x_i and y_j change their product by no more than that
    multiple of ‖x_i‖ ‖y_j‖ ≤ ½ ‖x_i‖² + ½ ‖y_j‖². To this are added the errors of the d terms of
    a product in float32, and of its result in the dtype of the points. The caller may overwrite
    blocks. With `upper_only`, for y equal to x, blocks below the diagonal are omitted.
    """
    dtype, single = x.values.dtype, torch.finfo(torch.float32).eps
    spread = _SECOND_ORDER * (x.error + y.error) + (x.values.shape[1] + 8) * single
    unit = _SECOND_ORDER * torch.finfo(dtype).eps / 2
    for i in range(0, len(x.values), BLOCK):
        for j in range(i if upper_only else 0, len(y.values), BLOCK):
            rows, columns = slice(i, i + BLOCK), slice(j, j + BLOCK)
            with full_precision(x.values.device):
                block = (x.values[rows] @ y.values[columns].T).float()
            squares = x.half_squares[rows, None] + y.half_squares[columns]
            error = block.abs().mul_(unit).add_(squares, alpha=spread)
            yield rows, columns, block.sub_(squares), error


def kth_distances(
    points: Float[Tensor, "n d"], k: int, dtype: torch.dtype
) -> Float64[Tensor, " n"] | None:
    """Return the distance of each point to its k-th nearest other point, in float64.

    Products in `dtype` select the candidates, whose distances are computed in float64. None if too
    many points have more candidates than are kept.
    """
    n = len(points)
    kept = min(k + _EXTRA, n - 1)
    best = points.new_full((n, kept), -torch.inf).float()
    which = torch.zeros(n, kept, dtype=torch.long, device=points.device)

    def update(rows: slice, columns: slice, block: Tensor) -> None:
        near, column = block.topk(min(kept, block.shape[1]))
        best[rows], order = torch.cat((best[rows], near), 1).topk(kept)
        which[rows] = torch.cat((which[rows], column + columns.start), 1).gather(1, order)

    # Keep for each point those others that may be nearest.
    x = RoundedPoints.round(points, points.mean(0), dtype)
    for rows, columns, block, error in rounded_half_distances(x, x, upper_only=True):
        block += error
        if rows == columns:
            block.fill_diagonal_(-torch.inf)
        else:  # a distance counts for both points
            update(columns, rows, block.T.contiguous())
        update(rows, columns, block)

    # The k-th nearest is no farther than any k others; compute those that may be nearer.
    squares = points.new_full((n, kept), torch.inf, dtype=torch.float64)
    edge = best[:, k - 1 : k]
    for _ in range(2):
        row, place = ((best >= edge) & squares.isinf()).nonzero(as_tuple=True)
        squares[row, place] = squared_distances(points, points, row, which[row, place])
        edge = -0.5 * squares.topk(k, largest=False)[0][:, -1:]
    incomplete = (best[:, -1] > edge[:, 0]) & (kept < n - 1)
    if incomplete.sum() > _MAX_INCOMPLETE * n:
        return None
    result = (-2 * edge[:, 0]).sqrt()
    if incomplete.any():
        result[incomplete] = nearest_others_float64(points, incomplete, k)[:, -1]
    return result


def squared_distances(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], i: Int64[Tensor, " p"], j: Int64[Tensor, " p"]
) -> Float64[Tensor, " p"]:
    """Return ‖x_i - y_j‖² of pairs, computed in float64 from differences."""
    result = x.new_empty(len(i), dtype=torch.float64)
    for start in range(0, len(i), _PAIRS):
        pairs = slice(start, start + _PAIRS)
        result[pairs] = (x[i[pairs]].double() - y[j[pairs]].double()).square_().sum(1)
    return result


def _norms(x: Float[Tensor, "n d"]) -> Float64[Tensor, " n"]:
    return torch.linalg.vector_norm(x, dim=1).double()
