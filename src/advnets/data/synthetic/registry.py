"""A distribution as a source of training, validation and test points."""

from __future__ import annotations

import numpy as np

from advnets.data.dataset import ArraySplit, Dataset
from advnets.data.synthetic.base import SyntheticDistribution
from advnets.data.synthetic.gaussian import Gaussian, Uniform
from advnets.data.synthetic.manifolds import Moons, Pinwheel, Spiral
from advnets.data.synthetic.mixtures import Grid, Mixture, Ring
from advnets.rng import RNG

HELD_OUT = 10_000
"""Points for validation, and as many for the test."""

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
"""Distributions by name; the fields of each are its options, `about` says what it is."""


def open_distribution(name: str, distribution: SyntheticDistribution) -> Dataset:
    """Draw training points (n of them), and 10,000 each for validation and test.

    Points are images of shape (dims, 1, 1) with white 1, labeled with their mode where there are
    several. They hang on the distribution and its own `seed` alone, so every run sees the same.
    """
    rng = RNG(distribution.seed)
    counts = {"train": distribution.n, "valid": HELD_OUT, "test": HELD_OUT}
    train, valid, test = (
        _images(distribution, count, rng.fold_in(split)) for split, count in counts.items()
    )
    modes = distribution.num_modes
    classes = tuple(f"mode {mode}" for mode in range(modes)) if modes > 1 else ()
    return Dataset(name, train, valid, test, classes=classes, distribution=distribution)


def _images(distribution: SyntheticDistribution, count: int, rng: RNG) -> ArraySplit:
    points, modes = distribution.sample_with_modes(count, rng)
    images = np.ascontiguousarray(points[:, :, None, None])
    return ArraySplit(images, modes if distribution.num_modes > 1 else None, white_level=1)
