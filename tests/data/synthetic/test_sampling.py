"""Points against the density that they claim."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from advnets.data.distribution import SyntheticDistribution, draw_modes, draw_uniform
from advnets.data.synthetic.kde import KernelDensity
from advnets.data.synthetic.manifolds import Moons, Pinwheel, Spiral
from advnets.data.synthetic.mixtures import Gaussian, Grid, Mixture, Ring, Uniform
from advnets.rng import RNG

SOME = np.random.default_rng(0).normal(size=(40, 2))
CASES: list[tuple[SyntheticDistribution, float]] = [
    (Gaussian(mean=(0.5,), sd=(0.7,)), 3.0),
    (Gaussian(dims=2, mean=(0.5, -1.0), sd=(0.7, 0.4), rho=-0.8), 3.0),
    (Mixture(means=((-2.0,), (1.0,)), sds=(0.3, 1.0), weights=(3.0, 1.0)), 4.0),
    (Mixture(means=((0.0, 1.0), (2.0, -1.0)), sds=(0.3, 0.5), weights=(1.0, 4.0)), 3.0),
    (Uniform(low=(-0.3,), high=(1.1,)), 1.5),
    (Uniform(dims=2, low=(-0.3, 0.0), high=(1.1, 2.0)), 2.0),
    (Ring(), 1.05),
    (Ring(modes=5, radius=2.0, sd=0.4), 3.0),
    (Grid(), 4.2),
    (Spiral(), 1.05),
    (Spiral(arms=1, turns=1.75, inner=0.0, sd=0.25), 1.5),
    (Spiral(arms=3, turns=1.5, sd=0.05), 1.2),
    (Moons(), 2.1),
    (Moons(sd=0.4), 2.5),
    (Pinwheel(), 2.2),
    (Pinwheel(blades=3, length=0.5, width=0.3, twist=-2.0), 2.5),
    (KernelDensity(centers=SOME[:, :1]), 2.5),
    (KernelDensity(centers=SOME), 2.5),
]
NOISE = RNG(3).fold_in("train")
N = 100_000
BINS = 20


def shares(distribution: SyntheticDistribution, half: float) -> np.ndarray:
    """Return the probability of each of BINS^dims cells about 0, from the density on a lattice."""
    fine = 60 * BINS if distribution.dims == 2 else 2000 * BINS
    step = 2 * half / fine
    axis = -half + step * (np.arange(fine) + 0.5)
    points = np.stack(np.meshgrid(*[axis] * distribution.dims, indexing="ij"), axis=-1)
    p = np.exp(distribution.log_density(points.reshape(-1, distribution.dims)))
    p = p * step**distribution.dims
    cells = p.reshape([BINS, fine // BINS] * distribution.dims)
    return cells.sum(axis=tuple(range(1, 2 * distribution.dims, 2))).reshape(-1)


def p_value(counts: np.ndarray, expected: np.ndarray) -> float:
    """Return the p-value of Pearson's χ²; cells with few expected points are merged."""
    few = expected < 10
    counts = np.append(counts[~few], counts[few].sum())
    expected = np.append(expected[~few], expected[few].sum())
    if expected[-1] < 10:
        counts, expected = counts[:-1], expected[:-1]
    chi2 = ((counts - expected) ** 2 / expected).sum()
    return float(stats.chi2.sf(chi2, len(counts) - 1))


@pytest.mark.parametrize(("distribution", "half"), CASES, ids=str)
def test_points_follow_the_density(distribution, half):
    """Counts of 100,000 points in 20 or 400 cells, and outside, are those of the density (χ²)."""
    points = distribution.sample(N, NOISE)
    edges = [np.linspace(-half, half, BINS + 1)] * distribution.dims
    counts = np.histogramdd(points, edges)[0].reshape(-1)
    mass = shares(distribution, half)
    counts = np.append(counts, N - counts.sum())
    expected = N * np.append(mass, max(0.0, 1 - mass.sum()))
    assert p_value(counts, expected) > 1e-3


@pytest.mark.parametrize("wrong", [Moons(sd=0.055), Moons(sd=0.045)])
def test_the_check_detects_a_wrong_width(wrong):
    """A change of the noise by a tenth is detected."""
    edges = [np.linspace(-2.1, 2.1, BINS + 1)] * 2
    counts = np.histogramdd(wrong.sample(N, NOISE), edges)[0].reshape(-1)
    mass = shares(Moons(), 2.1)
    assert p_value(np.append(counts, 0), N * np.append(mass, 0)) < 1e-9


@pytest.mark.parametrize(
    ("distribution", "frozen"),
    [
        (Gaussian(mean=(2.0,), sd=(3.0,)), stats.norm(2, 3)),
        (Uniform(low=(-3.0,), high=(5.0,)), stats.uniform(-3, 8)),
        (Mixture(means=((1.0,),), sds=(0.5,)), stats.norm(1, 0.5)),
        (KernelDensity(centers=np.array([[4.0]]), sd=0.5), stats.norm(4, 0.5)),
    ],
    ids=lambda some: type(some).__name__,
)
def test_points_on_a_line_pass_a_kolmogorov_smirnov_test(distribution, frozen):
    """Points follow scipy's distribution, where it has the same one."""
    points = distribution.sample(N, NOISE)[:, 0].astype(np.float64)
    assert stats.kstest(points, frozen.cdf).pvalue > 1e-3


@pytest.mark.parametrize("distribution", [case[0] for case in CASES], ids=str)
def test_first_points_do_not_depend_on_n(distribution):
    """A draw is a pure function of its random source, and a larger n only adds points."""
    many, modes = distribution.sample_with_modes(1000, NOISE)
    few, few_modes = distribution.sample_with_modes(7, NOISE)
    np.testing.assert_array_equal(many[:7], few)
    np.testing.assert_array_equal(modes[:7], few_modes)
    np.testing.assert_array_equal(many, distribution.sample(1000, NOISE))
    assert not np.array_equal(many, distribution.sample(1000, NOISE.fold_in("other")))
    assert (many.dtype, many.shape) == (np.float32, (1000, distribution.dims))
    assert distribution.sample(0, NOISE).shape == (0, distribution.dims)


@pytest.mark.parametrize("distribution", [case[0] for case in CASES], ids=str)
def test_points_have_a_density(distribution):
    """Rounding moves no point to where the density is 0."""
    points = distribution.sample(N, NOISE)
    log_p = distribution.log_density(points)
    assert np.isfinite(log_p).all()
    assert log_p.dtype == np.float64


def test_rounding_does_not_leave_the_box():
    """Points stay inside bounds that float32 cannot represent."""
    for low, high in [(0.1, 0.3), (1000.1, 1000.3), (-0.7, -0.1)]:
        box = Uniform(low=(low,), high=(high,))
        points = box.sample(N, NOISE).astype(np.float64)
        assert points.min() >= low
        assert points.max() <= high
        assert np.isfinite(box.log_density(points)).all()


@pytest.mark.parametrize("distribution", [Ring(), Grid(), Mixture(sds=(0.1, 0.2))], ids=str)
def test_modes_are_the_nearest_centers(distribution):
    """Points of mode k have the mean, standard deviation and weight of component k."""
    centers, sds, weights = distribution.components()
    points, modes = distribution.sample_with_modes(N, NOISE)
    assert modes.dtype == np.int64
    for mode in range(distribution.num_modes):
        mode_points = points[modes == mode].astype(np.float64)
        assert len(mode_points) == pytest.approx(N * weights[mode], rel=0.1)
        np.testing.assert_allclose(
            mode_points.mean(0), centers[mode], atol=5 * sds[mode] / len(mode_points) ** 0.5
        )
        np.testing.assert_allclose(mode_points.std(0), sds[mode], rtol=0.1)


def test_modes_of_curves():
    """Modes are the arms, moons and blades."""
    spiral = Spiral(arms=4, turns=0.2, inner=0.5, sd=0.01)
    points, arms = spiral.sample_with_modes(N, NOISE)
    angle = np.mod(np.arctan2(points[:, 1], points[:, 0]), 2 * math.pi)
    np.testing.assert_array_equal(arms, angle // (math.pi / 2))
    points, moons = Moons(sd=0.01).sample_with_modes(N, NOISE)
    assert (points[moons == 0, 1] > -0.1).all()
    assert (points[moons == 1, 1] < 0.6).all()
    points, blades = Pinwheel(twist=0.0, length=0.1, width=0.01).sample_with_modes(N, NOISE)
    turn = np.arctan2(points[:, 1], points[:, 0]) / (2 * math.pi) * 5
    np.testing.assert_array_equal(np.mod(np.rint(turn), 5), blades)


def test_one_component_has_one_mode():
    """A Gaussian, a uniform box and a kernel density estimate have one mode."""
    for distribution in (Gaussian(), Uniform(), KernelDensity(centers=SOME)):
        assert distribution.num_modes == 1
        assert not distribution.sample_with_modes(100, NOISE)[1].any()


def test_seed_and_n_do_not_change_the_distribution():
    """Samples depend on the random source that is passed, not on n and seed."""
    changed = replace(Ring(), n=5, seed=9)
    np.testing.assert_array_equal(changed.sample(50, NOISE), Ring().sample(50, NOISE))


def test_many_modes_are_equally_frequent():
    """A million modes are equally frequent, as 48 random bits choose among them."""
    modes = draw_modes(NOISE, N, np.full(1_000_000, 1e-6))
    assert stats.kstest((modes + 0.5) / 1e6, "uniform").pvalue > 1e-3
    assert len(np.unique(modes % 1000)) == 1000
    u = draw_uniform(NOISE, "u", N)
    assert 0 < u.min() < u.max() < 1
    assert len(np.unique(u)) == N
