"""Checks of features, and their order by content."""

from __future__ import annotations

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from advnets.errors import DataError
from advnets.rng import RNG

_MAX_ABS = 1e40
"""The largest absolute value, whose fourth power is finite in float64."""


def check_features(min_rows: int, **sets: Tensor) -> list[Tensor]:
    """Return matrices of features in one dtype: float64 if one of them is, else float32.

    Raises:
        DataError: one of them has too few rows, another width, or numbers that are not finite.
    """
    (first, like), *_ = sets.items()
    for name, x in sets.items():
        check_rows(f"{name} features", x, min_rows)
        if x.shape[1] != like.shape[1]:
            raise DataError(
                f"{name} features have {x.shape[1]} columns and {first} ones {like.shape[1]}; take "
                "both from the same extractor"
            )
    exact = any(x.dtype == torch.float64 for x in sets.values())
    return [x.to(torch.float64 if exact else torch.float32) for x in sets.values()]


def check_rows(name: str, x: object, min_rows: int) -> None:
    """Check that `x` is a matrix of real, finite numbers with enough rows.

    Raises:
        DataError: `x` is not such a matrix.
    """
    if not isinstance(x, Tensor):
        raise DataError(f"{name} are a {type(x).__name__}; convert it with torch.as_tensor")
    if x.is_complex():
        raise DataError(f"{name} are complex numbers; give real ones")
    if x.ndim != 2 or len(x) < min_rows or not x.shape[1]:
        raise DataError(
            f"{name} have shape {tuple(x.shape)}; expected a matrix of at least {min_rows} "
            "rows, one for each image, and a column or more"
        )
    # A finite sum has finite terms, and takes a tenth of the time.
    if not x.sum().isfinite() and not x.isfinite().all():
        raise DataError(f"{name} hold numbers that are not finite; leave these images out")
    if x.dtype == torch.float64 and (largest := float(x.abs().max())) > _MAX_ABS:
        raise DataError(
            f"{name} have values up to {largest:.0e}, whose squares overflow; divide all "
            "sets by the same number"
        )


def shuffle_by_content(x: Float[Tensor, "n d"], name: str = "") -> Float64[Tensor, "n d"]:
    """Return the rows in a pseudo-random order that depends on their values, not on their order.

    Rows are sorted by their projection on a random direction, and then shuffled, so that subsets do
    not depend on the order in which images went through an extractor. If features differ in their
    last bits, as they do between batch sizes, few rows change places. Sets with different names
    are shuffled differently, so that their subsets are independent.
    """
    x = x.double()
    rng = RNG(0, purpose="order")
    line = rng.normal("line", 1, x.shape[1]).to(x)
    order = (x * line).sum(1).argsort(stable=True)
    shuffled = rng.permutation(f"rows {name}".rstrip(), len(x))
    return x[order[torch.from_numpy(shuffled).to(x.device)]]
