"""What every metric of two sets of features asks of them."""

from __future__ import annotations

import hashlib

from jaxtyping import Float, Float64
from torch import Tensor

from advnets.errors import DataError


def check_features(least: int, **sets: Tensor) -> None:
    """Refuse matrices of features that are too small, of several widths, or not finite.

    Raises:
        DataError: one of these, named.
    """
    (first, like), *_ = sets.items()
    for name, x in sets.items():
        check_rows(f"{name} features", x, least)
        if x.shape[1] != like.shape[1]:
            raise DataError(
                f"{name} features have {x.shape[1]} columns and {first} ones {like.shape[1]}; take "
                "both from the same extractor"
            )


def check_rows(what: str, x: Tensor, least: int) -> None:
    """Refuse a matrix that has too few rows, or numbers that are not finite.

    Raises:
        DataError: one of these.
    """
    if x.ndim != 2 or len(x) < least:
        raise DataError(
            f"{what} have shape {tuple(x.shape)}; give a matrix of at least {least} rows, one for "
            "each picture"
        )
    # A sum that is finite has finite terms, and is had in a tenth of the time.
    if not x.sum().isfinite() and not x.isfinite().all():
        raise DataError(f"{what} hold numbers that are not finite; leave these pictures out")


def by_content(x: Float[Tensor, "n d"]) -> Float64[Tensor, "n d"]:
    """The rows in an order as if at random, which hangs on them and not on how they came.

    They are sorted by a hash of their numbers: parts of them are then the same parts whatever the
    order and the batches in which pictures went through an extractor.
    """
    x = x.double()
    rows = x.cpu().numpy()
    keys = [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rows]
    return x[sorted(range(len(keys)), key=keys.__getitem__)]
