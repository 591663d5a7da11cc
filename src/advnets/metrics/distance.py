"""Distances between two sets of points, a block at a time."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor

_ROWS = _COLUMNS = 1024  # one float32 block is 4 MiB and stays in cache for what is done to it next


@torch.no_grad()
def half_squared_distances(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], rows: int = _ROWS, columns: int = _COLUMNS
) -> Iterator[tuple[slice, slice, Float[Tensor, "_ _"]]]:
    """Yield blocks of -½‖x_i - y_j‖², each with the slices of i and of j that it covers.

    One matrix product, ‖x - y‖² = ‖x‖² + ‖y‖² - 2 x·y, of points centred on the mean of y: the
    squares then stay of the size of the distances, and float32 loses little where they cancel
    (of two equal points the result may exceed 0 by that rounding). Computed in the dtype of x,
    whatever autocast or lower-precision matrix products the caller runs under. A block is the
    receiver's to overwrite.
    """
    centre = y.mean(0)
    x, y = x - centre, y - centre
    half_x, half_y = _half_squares(x), _half_squares(y)
    for i in range(0, len(x), rows):
        for j in range(0, len(y), columns):
            here, there = slice(i, i + rows), slice(j, j + columns)
            with _full_precision(x.device):
                block = torch.addmm(-half_y[there], x[here], y[there].T)
            yield here, there, block.sub_(half_x[here, None])


def _half_squares(x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
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
