"""Distances between two sets of points, a block at a time."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from advnets.errors import UsageError

_ROWS = _COLUMNS = 1024  # one float32 block is 4 MiB and stays in cache for what is done to it next
_CLEAR = 1e4
_LARGE = 2.0**20


@torch.no_grad()
def half_squared_distances(
    x: Float[Tensor, "n d"],
    y: Float[Tensor, "m d"],
    rows: int = _ROWS,
    columns: int = _COLUMNS,
    *,
    upper_only: bool = False,
) -> Iterator[tuple[slice, slice, Float[Tensor, "_ _"]]]:
    """Yield blocks of -½‖x_i - y_j‖², each with the slices of i and of j that it covers.

    One matrix product, ‖x - y‖² = ‖x‖² + ‖y‖² - 2 x·y, of points centerd on the mean of y: the
    squares then stay of the size of the distances, and float32 loses little where they cancel
    (of two equal points the result may exceed 0 by that rounding). Computed in the dtype of x,
    whatever autocast or lower-precision matrix products the caller runs under. A block is the
    receiver's to overwrite. With `above`, where y is x, blocks below the diagonal are left out.
    """
    center = y.mean(0)
    x, y = x - center, y - center
    half_x, half_y = _half_squared_norms(x), _half_squared_norms(y)
    for i in range(0, len(x), rows):
        for j in range(i if upper_only else 0, len(y), columns):
            here, there = slice(i, i + rows), slice(j, j + columns)
            with _full_precision(x.device):
                block = torch.addmm(-half_y[there], x[here], y[there].T)
            yield here, there, block.sub_(half_x[here, None])


def nearest(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], count: int = 1
) -> tuple[Float64[Tensor, "n count"], Int[Tensor, "n count"]]:
    """Distances of each x_i to its nearest y_j, nearest first, and the numbers j of these.

    Rows in which float32 does not resolve the last of these are taken again in float64.

    Raises:
        UsageError: there are fewer y than are asked for.
    """
    if not 1 <= count <= len(y):
        raise UsageError(f"{count} neighbors were asked for among {len(y)}; ask for 1 to {len(y)}")
    best = x.new_full((len(x), count), -torch.inf)
    which = torch.zeros(len(x), count, dtype=torch.long, device=x.device)
    for here, there, block in half_squared_distances(x, y):
        near, column = block.topk(min(count, block.shape[1]))
        near, order = torch.cat((best[here], near), dim=1).topk(count)
        best[here] = near
        which[here] = torch.cat((which[here], column + there.start), dim=1).gather(1, order)
    found = _distances(best)
    lost = is_unresolved(x, y.mean(0), found[:, -1])
    if lost.any():
        found[lost], which[lost] = nearest(x[lost].double(), y.double(), count)
    return found, which


def nearest_others(x: Float[Tensor, "n d"], count: int = 1) -> Float64[Tensor, "n count"]:
    """Distances of each point to its nearest other points of the same set, nearest first.

    Rows in which float32 does not resolve the last of these are taken again in float64.

    Raises:
        UsageError: there are fewer others than are asked for.
    """
    if not 1 <= count < len(x):
        raise UsageError(
            f"{count} neighbors were asked for among {len(x) - 1} others; ask for 1 to {len(x) - 1}"
        )
    best = x.new_full((len(x), count), -torch.inf)

    def see(here: slice, block: Tensor) -> None:
        near = block.topk(min(count, block.shape[1]))[0]
        best[here] = torch.cat((best[here], near), dim=1).topk(count)[0]

    for here, there, block in half_squared_distances(x, x, upper_only=True):
        if here == there:
            block.fill_diagonal_(-torch.inf)
        else:  # a distance is as good for the one as for the other
            see(there, block.T.contiguous())
        see(here, block)
    found = _distances(best)
    lost = is_unresolved(x, x.mean(0), found[:, -1])
    if lost.any():
        found[lost] = nearest_others_float64(x, lost, count)
    return found


def nearest_others_float64(
    x: Float[Tensor, "n d"], rows: Bool[Tensor, " n"], count: int
) -> Float64[Tensor, "m count"]:
    """Of some points, distances to their nearest other points in float64, nearest first."""
    if rows.all() and x.dtype != torch.float64:
        return nearest_others(x.double(), count)
    itself = rows.nonzero().flatten()
    near, which = nearest(x[rows].double(), x.double(), count + 1)
    # Where it has equals, it may be none of those found: then the last of them is one too many.
    left = which != itself[:, None]
    left[left.all(1), -1] = False
    return near[left].view(-1, count)


def is_unresolved(
    x: Float[Tensor, "n d"], center: Float[Tensor, " d"], distance: Float64[Tensor, " n"]
) -> Bool[Tensor, " n"]:
    """Whether products of the dtype of x, about a center, say too little of so small a distance.

    Their rounding is about ε ‖x‖², and the square of the distance is to be _CLEAR times as large.
    Of float64 all is taken as it is.
    """
    if x.dtype == torch.float64:
        return torch.zeros(len(x), dtype=torch.bool, device=x.device)
    return distance.square() <= _CLEAR * torch.finfo(x.dtype).eps * (x - center).square().sum(1)


def rounding_error(
    x: Float[Tensor, "n d"], center: Float[Tensor, " d"], distance: Float64[Tensor, " n"]
) -> Float64[Tensor, " n"]:
    """By how much the square of a distance from x may be off, as `nearest` has found it."""
    lost = is_unresolved(x, center, distance)
    eps = torch.where(lost, torch.finfo(torch.float64).eps, torch.finfo(x.dtype).eps)
    return eps.double() * ((x - center).double().square().sum(1) + distance.square())


def scale_to_range(*sets: Float[Tensor, "_ d"]) -> list[Float[Tensor, "_ d"]]:
    """The sets by a common power of two, where squares of their numbers would be lost otherwise.

    For what hangs on which distance is less, and not on their unit.
    """
    largest = max((float(x.abs().max()) for x in sets if x.numel()), default=0.0)
    if not largest or 1 / _LARGE < largest < _LARGE:
        return list(sets)
    _, exponent = math.frexp(largest)
    # In two steps, as the factor itself may be out of the range.
    half = -exponent // 2
    return [x * 2.0**half * 2.0 ** (-exponent - half) for x in sets]


def _distances(half_squares: Float[Tensor, "n count"]) -> Float64[Tensor, "n count"]:
    return half_squares.double().mul_(-2).clamp_(min=0).sqrt_()


def _half_squared_norms(x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    return x.square().sum(1).mul_(0.5)


@contextmanager
def _full_precision(device: torch.device) -> Generator[None]:
    """No autocast, no TF32 and no bfloat16 inside a float32 product: distances cancel."""
    cpu = torch.backends.mkldnn.matmul  # pyright: ignore[reportAttributeAccessIssue]: made at import
    backends = torch.backends.cuda.matmul, cpu
    before = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "ieee"
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision
