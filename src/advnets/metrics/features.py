"""What every metric of two sets of features asks of them."""

from __future__ import annotations

from torch import Tensor

from advnets.errors import DataError


def check_features(least: int, **sets: Tensor) -> None:
    """Refuse matrices of features that are too small, of several widths, or not finite.

    Raises:
        DataError: one of these, named.
    """
    (first, like), *_ = sets.items()
    for name, x in sets.items():
        if x.ndim != 2 or len(x) < least:
            raise DataError(
                f"{name} features have shape {tuple(x.shape)}; give a matrix of at least {least} "
                "rows, one for each picture"
            )
        if x.shape[1] != like.shape[1]:
            raise DataError(
                f"{name} features have {x.shape[1]} columns and {first} ones {like.shape[1]}; take "
                "both from the same extractor"
            )
        if not x.isfinite().all():
            raise DataError(
                f"{name} features hold numbers that are not finite; leave these pictures out"
            )
