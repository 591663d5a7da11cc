"""Points mapped back to the noise that generates them, and counted in bins."""

import math

import numpy as np
import pytest
from scipy import stats

from advnets.data.distribution import bin_counts, hash_to_unit_interval
from advnets.data.synthetic.kde import KernelDensity
from advnets.data.synthetic.manifolds import Moons, Pinwheel, Spiral
from advnets.data.synthetic.mixtures import Gaussian, Grid, Mixture, Ring, Uniform
from advnets.errors import UsageError
from advnets.rng import RNG

APART = [
    Spiral(),
    Spiral(arms=1, turns=0.4, sd=0.01),
    Moons(sd=0.02),
    Pinwheel(width=0.02, length=0.1),
    Ring(),
    Grid(),
    Mixture(sds=(0.1,), weights=(1.0, 3.0)),
    Gaussian(),
    Gaussian(dims=2, mean=(0.5, -1.0), sd=(0.7, 0.4), rho=-0.8),
    Uniform(),
    Uniform(dims=2, low=(0.0, -3.0)),
]
OVERLAPPING = [
    Spiral(arms=3, turns=1.6, sd=0.3),
    Spiral(arms=1, turns=0.4, sd=0.4),
    Spiral(turns=2.0, inner=0.0, sd=0.2),
    Moons(sd=0.5),
    Pinwheel(blades=7, width=0.4, length=0.5),
    Ring(sd=0.5),
    Grid(sd=1.0),
    Mixture(sds=(3.0, 1.0), weights=(1.0, 2.0)),
    KernelDensity(centers=np.random.default_rng(0).normal(size=(300, 2))),
]


@pytest.mark.parametrize("distribution", [*APART, *OVERLAPPING], ids=str)
def test_inverted_samples_have_the_base_distribution(distribution):
    """Components have their weights, and noise is uniform or normal, also with several inverses."""
    n = 30_000
    coordinates = distribution.invert(distribution.sample(n, RNG(3)))
    weights = distribution.component_weights
    assert coordinates.component.min() >= 0
    counts = np.bincount(coordinates.component, minlength=len(weights))
    if len(weights) > 1:
        assert stats.chisquare(counts, n * weights).pvalue > 1e-4
    cdf = {"uniform": stats.uniform.cdf, "normal": stats.norm.cdf}
    for axis, numbers in zip(distribution.base_distributions, coordinates.noise.T, strict=True):
        assert stats.kstest(cdf[axis](numbers), "uniform").pvalue > 1e-4
    if distribution.dims == 2:
        assert abs(stats.spearmanr(*coordinates.noise.T).statistic) < 4.5 / math.sqrt(n)


@pytest.mark.parametrize("distribution", [*APART, *OVERLAPPING], ids=str)
def test_bin_counts_follow_their_probabilities(distribution):
    """Counts of 50,000 points are multinomial with the probabilities, which sum to 1."""
    n = 50_000
    counts, masses = bin_counts(distribution, distribution.sample(n, RNG(4)))
    assert (counts.sum(), len(counts)) == (n, len(masses))
    assert masses.sum() == pytest.approx(1, abs=1e-12)
    assert masses[-1] == counts[-1] == 0
    often = n * masses > 5  # of rarer ones the statistic is not chi-squared: they are one cell
    observed = np.append(counts[often], counts[~often].sum())
    expected = np.append(masses[often], masses[~often].sum()) * n
    assert stats.chisquare(observed[expected > 0], expected[expected > 0]).pvalue > 1e-4


@pytest.mark.parametrize("distribution", APART, ids=str)
def test_unique_inverse_has_the_mode_as_component(distribution):
    points, modes = distribution.sample_with_modes(5_000, RNG(5))
    assert (distribution.invert(points).component == modes).mean() > 0.999


@pytest.mark.parametrize(
    "distribution",
    [Spiral(turns=1.5), Moons(), Pinwheel(), Gaussian(dims=2, rho=0.5), Uniform(dims=2)],
    ids=str,
)
def test_base_noise_generates_the_point_again(distribution):
    """Points are computed from the noise by the formulas of the docstrings."""
    points = distribution.sample(2_000, RNG(6)).astype(np.float64)
    coordinates = distribution.invert(points)
    a, b = coordinates.noise.T
    match distribution:
        case Spiral():
            t = a * 2 * math.pi * distribution.turns
            s = 0.1 + 0.9 * a + 0.02 * b
            angle = t + coordinates.component * math.pi
            repeated = np.stack((s * np.cos(angle), s * np.sin(angle)), 1)
        case Moons():
            expected = (1 + 0.05 * b)[:, None] * np.stack((np.cos(np.pi * a), np.sin(np.pi * a)), 1)
            repeated = np.where(coordinates.component[:, None] == 0, expected, (1, 0.5) - expected)
        case Pinwheel():
            z = (1 + 0.3 * a) + 0.06j * b
            turn = 1.2 * (abs(z) - 1) + coordinates.component * 2 * math.pi / 5
            repeated = (z * np.exp(1j * turn)).view(np.float64).reshape(-1, 2)
        case Gaussian():
            repeated = np.stack((a, 0.5 * a + math.sqrt(0.75) * b), 1)
        case _:
            repeated = 2 * coordinates.noise - 1
    np.testing.assert_allclose(repeated, points, atol=1e-9)


def test_points_of_density_0_have_no_inverse():
    """Points outside the box, and outside the sector of a short spiral arm."""
    coordinates = Uniform(dims=2).invert(np.array([[0.0, 0.0], [1.5, 0.0], [math.inf, 0.0]]))
    assert coordinates.component.tolist() == [0, -1, -1]
    assert np.isnan(coordinates.noise[1:]).all()
    short = Spiral(arms=1, turns=0.1)
    across = np.array([[0.5, 0.1], [-0.5, -0.1], [-0.1, 0.5]])
    assert short.invert(across).component.tolist() == [0, 0, -1]  # s may be negative, and hardly is
    counts, masses = bin_counts(short, across)
    assert (counts[-1], masses[-1]) == (1, 0)


@pytest.mark.parametrize("turns", [0.3, 1.0, 2.0])
def test_rounding_does_not_move_a_point_off_an_arm(turns):
    """Float32 rounding may move points past the end of an arm; their density is not 0."""
    arm = Spiral(arms=3, turns=turns, sd=1e-3)
    t = np.array([1e-12, 1 - 1e-12]) * 2 * math.pi * turns
    for start in range(3):
        angle = (t + start * 2 * math.pi / 3)[:, None] + np.linspace(-1, 1, 101) * 1e-7 * turns
        s = np.array([[0.1], [1.0]])
        ends = np.stack((s * np.cos(angle), s * np.sin(angle)), -1).reshape(-1, 2)
        assert np.isfinite(arm.log_density(ends)).all()
        coordinates = arm.invert(ends)
        assert (coordinates.component == start).all()
        assert (np.abs(coordinates.noise[:, 1]) < 0.01).all()


@pytest.mark.parametrize(
    ("distribution", "cells"),
    [(Gaussian(), 8), (Uniform(dims=2), 256), (Spiral(), 256), (Ring(), 512), (Grid(), 400)],
    ids=str,
)
def test_bins_are_fine_with_few_components(distribution, cells):
    counts, _ = bin_counts(distribution, distribution.sample(10, RNG(1)))
    assert len(counts) == cells + 1


def test_the_order_of_points_does_not_matter():
    """The inverse of a point is chosen by a hash of its coordinates alone."""
    distribution = Moons(sd=0.5)
    points = distribution.sample(3_000, RNG(1))
    counts, _ = bin_counts(distribution, points)
    halves = [bin_counts(distribution, half)[0] for half in (points[::-2], points[-2::-2])]
    np.testing.assert_array_equal(sum(halves), counts)


def test_hashes_are_uniform_and_independent():
    """The hashes of neighboring float32 points are uniform and uncorrelated."""
    for dims in (1, 2):
        points = (1 + np.arange(20_000 * dims).reshape(-1, dims) * 2.0**-23).astype(np.float64)
        chance = hash_to_unit_interval(points)
        assert stats.kstest(chance, "uniform").pvalue > 1e-3
        assert abs(stats.spearmanr(chance[1:], chance[:-1]).statistic) < 0.03
    assert len(np.unique(hash_to_unit_interval(np.array([[1.0, 2.0], [2.0, 1.0]])))) == 2


def test_points_of_wrong_shape_are_refused():
    with pytest.raises(UsageError, match=r"points must have shape \(n, 2\), got \(3, 1\)"):
        Spiral().invert(np.zeros((3, 1)))
