"""Distances between two sets of points, a block at a time."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from advnets.errors import UsageError

ROWS = _COLUMNS = 1024  # one float32 block is 4 MiB and stays in cache for the next operation
_MIN_PRECISION = 1e4
"""A distance is resolved if its square is more than this many times the rounding error."""
_LARGE = 2.0**20
"""Values between 1 / _LARGE and _LARGE are not scaled."""


@torch.no_grad()
def half_squared_distances(
    x: Float[Tensor, "n d"],
    y: Float[Tensor, "m d"],
    rows: int = ROWS,
    columns: int = _COLUMNS,
    *,
    upper_only: bool = False,
) -> Iterator[tuple[slice, slice, Float[Tensor, "_ _"]]]:
    """Yield blocks of -½‖x_i - y_j‖², each with the slices of i and of j that it covers.

    Uses one matrix product, ‖x - y‖² = ‖x‖² + ‖y‖² - 2 x·y, of points centered on the mean of y,
    so that the terms have the size of the distances and float32 loses little by cancellation
    (for equal points the result may exceed 0 by rounding). Computed in the dtype of x, even under
    autocast or reduced-precision matrix products. The caller may overwrite a block. With
    `upper_only`, for y equal to x, blocks below the diagonal are omitted.
    """
    center = y.mean(0)
    x, y = x - center, y - center
    half_x, half_y = _half_squared_norms(x), _half_squared_norms(y)
    for i in range(0, len(x), rows):
        for j in range(i if upper_only else 0, len(y), columns):
            x_rows, y_rows = slice(i, i + rows), slice(j, j + columns)
            with full_precision(x.device):
                block = torch.addmm(-half_y[y_rows], x[x_rows], y[y_rows].T)
            yield x_rows, y_rows, block.sub_(half_x[x_rows, None])


def nearest(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], count: int = 1
) -> tuple[Float64[Tensor, "n count"], Int[Tensor, "n count"]]:
    """Return the distances of each x_i to its nearest y_j, nearest first, and the indices j.

    Rows in which float32 does not resolve the largest of these are computed again in float64.

    Raises:
        UsageError: there are fewer y than requested.
    """
    if not 1 <= count <= len(y):
        raise UsageError(f"{count} neighbors were requested among {len(y)}; request 1 to {len(y)}")
    best = x.new_full((len(x), count), -torch.inf)
    which = torch.zeros(len(x), count, dtype=torch.long, device=x.device)
    for rows, columns, block in half_squared_distances(x, y):
        near, column = block.topk(min(count, block.shape[1]))
        near, order = torch.cat((best[rows], near), dim=1).topk(count)
        best[rows] = near
        which[rows] = torch.cat((which[rows], column + columns.start), dim=1).gather(1, order)
    distances = _distances(best)
    unresolved = is_unresolved(x, y.mean(0), distances[:, -1])
    if unresolved.any():
        distances[unresolved], which[unresolved] = nearest(
            x[unresolved].double(), y.double(), count
        )
    return distances, which


def nearest_others(x: Float[Tensor, "n d"], count: int = 1) -> Float64[Tensor, "n count"]:
    """Return the distances of each point to the nearest other points of its set, nearest first.

    Rows in which float32 does not resolve the largest of these are computed again in float64.

    Raises:
        UsageError: there are fewer other points than requested.
    """
    if not 1 <= count < len(x):
        raise UsageError(
            f"{count} neighbors were requested among {len(x) - 1} others; request 1 to {len(x) - 1}"
        )
    best = x.new_full((len(x), count), -torch.inf)

    def update(rows: slice, block: Tensor) -> None:
        near = block.topk(min(count, block.shape[1]))[0]
        best[rows] = torch.cat((best[rows], near), dim=1).topk(count)[0]

    for rows, columns, block in half_squared_distances(x, x, upper_only=True):
        if rows == columns:
            block.fill_diagonal_(-torch.inf)
        else:  # a distance counts for both points
            update(columns, block.T.contiguous())
        update(rows, block)
    distances = _distances(best)
    unresolved = is_unresolved(x, x.mean(0), distances[:, -1])
    if unresolved.any():
        distances[unresolved] = nearest_others_float64(x, unresolved, count)
    return distances


def nearest_others_float64(
    x: Float[Tensor, "n d"], rows: Bool[Tensor, " n"], count: int
) -> Float64[Tensor, "m count"]:
    """Return distances of these rows to their nearest other points, in float64, nearest first."""
    if rows.all() and x.dtype != torch.float64:
        return nearest_others(x.double(), count)
    itself = rows.nonzero().flatten()
    near, which = nearest(x[rows].double(), x.double(), count + 1)
    # A point with many duplicates may not be among its own neighbors: then drop the last of them.
    is_other = which != itself[:, None]
    is_other[is_other.all(1), -1] = False
    return near[is_other].view(-1, count)


def is_unresolved(
    x: Float[Tensor, "n d"], center: Float[Tensor, " d"], distance: Float64[Tensor, " n"]
) -> Bool[Tensor, " n"]:
    """Return whether distances are too small for products in the dtype of x about a center.

    The rounding error is about ε ‖x‖², and the squared distance has to be `_MIN_PRECISION` times as
    large. float64 is always sufficient.
    """
    if x.dtype == torch.float64:
        return torch.zeros(len(x), dtype=torch.bool, device=x.device)
    return distance.square() <= _MIN_PRECISION * torch.finfo(x.dtype).eps * (
        x - center
    ).square().sum(1)


def rounding_error(
    x: Float[Tensor, "n d"], center: Float[Tensor, " d"], distance: Float64[Tensor, " n"]
) -> Float64[Tensor, " n"]:
    """Return a bound of the rounding error of a squared distance that `nearest` returns."""
    unresolved = is_unresolved(x, center, distance)
    eps = torch.where(unresolved, torch.finfo(torch.float64).eps, torch.finfo(x.dtype).eps)
    return eps.double() * ((x - center).double().square().sum(1) + distance.square())


def scale_to_range(*sets: Float[Tensor, "_ d"]) -> list[Float[Tensor, "_ d"]]:
    """Scale the sets by a common power of two, if their squares would overflow or underflow.

    This is for metrics that depend on the order of distances, but not on their unit.
    """
    largest = max((float(x.abs().max()) for x in sets if x.numel()), default=0.0)
    if not largest or 1 / _LARGE < largest < _LARGE:
        return list(sets)
    _, exponent = math.frexp(largest)
    # In two steps, since the factor itself may overflow.
    half = -exponent // 2
    return [x * 2.0**half * 2.0 ** (-exponent - half) for x in sets]


def _distances(half_squares: Float[Tensor, "n count"]) -> Float64[Tensor, "n count"]:
    return half_squares.double().mul_(-2).clamp_(min=0).sqrt_()


def _half_squared_norms(x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    return x.square().sum(1).mul_(0.5)


@contextmanager
def full_precision(device: torch.device) -> Generator[None]:
    """Disable autocast, TF32 and bfloat16 inside float32 products, where distances cancel."""
    cpu = torch.backends.mkldnn.matmul  # pyright: ignore[reportAttributeAccessIssue]: made at import
    backends = torch.backends.cuda.matmul, cpu
    previous = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "ieee"
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for backend, precision in zip(backends, previous, strict=True):
            backend.fp32_precision = precision
