"""How many different pictures there are to learn from."""

from __future__ import annotations

import hashlib

import numpy as np

from advnets.data.dataset import Part, Stream

FEW = 50
"""Different training pictures, under which a warning is due."""
MAX_COMPARED = 2000
"""Training pictures that are compared with each other, at most."""
_POINTS = 1
"""The value that means 1.0 in points, of which two are never the same."""


def distinct_pictures(train: Part | Stream) -> int | None:
    """Count the different ones among at most 2,000 training pictures, evenly spread.

    None for streams and points.
    """
    if not isinstance(train, Part) or train.white == _POINTS:
        return None
    n = len(train)
    rows = train.read(
        np.arange(n) if n <= MAX_COMPARED else np.arange(MAX_COMPARED) * n // MAX_COMPARED
    )
    return len({hashlib.blake2b(np.ascontiguousarray(row).data).digest() for row in rows})


def few_pictures(distinct: int | None, train: int) -> str | None:
    """Return a warning where a generator can only learn its training pictures by heart."""
    if distinct is None or train == 0 or distinct >= FEW:
        return None
    if distinct == train:
        count = "1 training picture" if train == 1 else f"{train:,} training pictures"
        there = f"there is only {count}" if train == 1 else f"there are only {count}"
    else:
        compared = f"{min(train, MAX_COMPARED):,} training pictures"
        compared += " that were compared" if train > MAX_COMPARED else ""
        there = f"only {distinct:,} of {compared} are different"
    return f"warning: {there}, which G can learn by heart; give some hundreds to have others"
