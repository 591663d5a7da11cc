"""Points of one's own, from a table, smoothed so that they have a density."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Float64, Int64

from advnets.config import check
from advnets.data.dataset import Splits
from advnets.data.synthetic.base import Draw, equal, resolved
from advnets.data.synthetic.mixtures import Components, NormalMixture
from advnets.data.synthetic.open import open_distribution
from advnets.data.synthetic.table import SUFFIXES, read_table
from advnets.errors import UsageError
from advnets.rng import RNG

_SHARE = 0.05
_LEAST = 1e-30  # less is lost in float32


@dataclass(frozen=True)
class PointsOptions(Draw):
    """How a table of points is opened: training points are drawn from the smoothed ones."""

    sd: float = 0.0
    """Standard deviation of the kernel on each point; 0: a twentieth of the points' spread."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self, "positive, or 0 to have it chosen", lambda sd: 0 <= sd < math.inf, "sd")


@dataclass(frozen=True, eq=False, kw_only=True)
class SmoothedPoints(NormalMixture):
    """Points c_1 … c_M with a normal kernel on each.

    p(x) = 1/M Σ_m N(x; c_m, sd² I)

    An `sd` of 0 becomes .05 √(1/M Σ_m ‖c_m - mean‖²).
    """

    about: ClassVar[str] = "points of your own, smoothed"

    centres: Float64[np.ndarray, "m dims"] = field(repr=False)
    """Points of one or two coordinates."""
    sd: float = 0.0
    """Standard deviation of the kernel."""

    def __post_init__(self) -> None:
        super().__post_init__()
        shape = self.centres.shape
        if not (len(shape) == 2 and shape[0] and shape[1] in (1, 2)):
            raise UsageError(f"centres have shape {shape}; expected (M, 1) or (M, 2), M not 0")
        if not np.isfinite(self.centres).all():
            raise UsageError("centres hold numbers that are not finite; leave them out")
        check(self, "positive, or 0 to have it chosen", lambda sd: 0 <= sd < math.inf, "sd")
        if not self.sd:
            spread = math.sqrt(((self.centres - self.centres.mean(0)) ** 2).sum(1).mean())
            object.__setattr__(self, "sd", _SHARE * spread)
        if self.sd < _LEAST:
            raise UsageError(
                f"sd is {self.sd:g}, as the points (all but) coincide; give one, such as sd=0.1"
            )
        resolved("sd", self.sd, float(np.abs(self.centres).max()))

    def components(self) -> Components:
        """Centres, standard deviations and weights."""
        count = len(self.centres)
        return self.centres, np.full(count, self.sd), equal(count)

    @property
    def mode_count(self) -> int:
        """One: a point of a table is no mode."""
        return 1

    @property
    def _terms(self) -> int:
        return len(self.centres)

    def _draw(
        self, n: int, noise: RNG
    ) -> tuple[Float64[np.ndarray, "n dims"], Int64[np.ndarray, " n"]]:
        points, chosen = super()._draw(n, noise)
        return points, np.zeros_like(chosen)


def is_points(path: Path) -> bool:
    """Whether a path is a file that goes by the name of a table: .csv or .npy."""
    return path.suffix.lower() in SUFFIXES and path.is_file()


def open_points(path: Path, options: PointsOptions) -> Splits:
    """Open a table of points of a line or a plane: all splits are drawn from its smoothed points.

    Raises:
        DataError: the file is absent, broken, or holds something else than points.
        UsageError: an option has a value that cannot be.
    """
    centres = read_table(path)
    try:
        points = SmoothedPoints(centres=centres, sd=options.sd, n=options.n, seed=options.seed)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    return open_distribution(path.stem, points)
