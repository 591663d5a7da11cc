"""The registry of synthetic distributions, and datasets drawn from them."""

from __future__ import annotations

import numpy as np

from advnets.data.dataset import ArraySplit, Dataset
from advnets.data.distribution import SyntheticDistribution
from advnets.data.synthetic.manifolds import Moons, Pinwheel, Spiral
from advnets.data.synthetic.mixtures import Gaussian, Grid, Mixture, Ring, Uniform
from advnets.rng import RNG

HELD_OUT = 10_000
"""The number of validation points, and of test points."""

DISTRIBUTIONS: dict[str, type[SyntheticDistribution]] = {
    "gaussian": Gaussian,
    "mixture": Mixture,
    "uniform": Uniform,
    "ring": Ring,
    "grid": Grid,
    "spiral": Spiral,
    "moons": Moons,
    "pinwheel": Pinwheel,
}
"""The distributions by name; the fields of each are its options."""


def open_distribution(name: str, distribution: SyntheticDistribution) -> Dataset:
    """Draw n training points, 10,000 validation points and 10,000 test points.

    Points are images of shape (dims, 1, 1) with `white_level` 1, labeled with their mode if there
    are several. They depend only on the distribution and its `seed`, and are the same for all runs.
    """
    rng = RNG(distribution.seed)
    counts = {"train": distribution.n, "valid": HELD_OUT, "test": HELD_OUT}
    train, valid, test = (
        _draw_split(distribution, count, rng.fold_in(split)) for split, count in counts.items()
    )
    modes = distribution.num_modes
    classes = tuple(f"mode {mode}" for mode in range(modes)) if modes > 1 else ()
    return Dataset(name, train, valid, test, classes=classes, distribution=distribution)


def _draw_split(distribution: SyntheticDistribution, count: int, rng: RNG) -> ArraySplit:
    points, modes = distribution.sample_with_modes(count, rng)
    images = np.ascontiguousarray(points[:, :, None, None])
    return ArraySplit(images, modes if distribution.num_modes > 1 else None, white_level=1)
