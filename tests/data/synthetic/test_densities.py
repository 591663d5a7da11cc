"""Densities against the integral, against scipy, and against sums written out."""

import math

import numpy as np
import pytest
from scipy import integrate, stats

from advnets.data.distribution import SyntheticDistribution, log_sum_exp
from advnets.data.synthetic.kde import KernelDensity
from advnets.data.synthetic.manifolds import Moons, Pinwheel, Spiral
from advnets.data.synthetic.mixtures import Gaussian, Grid, Mixture, Ring, Uniform
from advnets.errors import UsageError

RNG = np.random.default_rng(0)
SOME = RNG.normal(size=(500, 2))

SMOOTH = [
    (Gaussian(mean=(0.5,), sd=(0.7,)), 8.0, 400),
    (Gaussian(dims=2, mean=(0.5, -1.0), sd=(0.7, 0.4), rho=-0.8), 6.0, 400),
    (Mixture(means=((-2.0,), (1.0,)), sds=(0.3, 1.0), weights=(3.0, 1.0)), 9.0, 400),
    (Mixture(means=((0.0, 1.0), (2.0, -1.0), (-1.0, 0.0)), sds=(0.3,)), 5.0, 400),
    (Ring(), 1.1, 400),
    (Ring(modes=3, radius=2.0, sd=0.5), 6.0, 300),
    (Grid(), 4.5, 500),
    (Grid(side=2, spacing=1.0, sd=0.2), 2.5, 300),
    (Pinwheel(), 3.5, 800),
    (Pinwheel(blades=2, length=0.5, width=0.3, twist=-2.0), 5.0, 800),
    (KernelDensity(centers=SOME[:, :1], sd=0.1), 6.0, 400),
    (KernelDensity(centers=SOME, sd=0.2), 6.0, 200),
]
WITH_JUMPS = [  # densities with jumps, for which a grid is less exact
    (Uniform(low=(-0.3,), high=(1.1,)), 1.5, 20_000),
    (Uniform(dims=2, low=(-0.3, 0.0), high=(1.1, 2.0)), 2.5, 1500),
    (Spiral(), 1.3, 1500),
    (Spiral(arms=3, turns=1.6, radius=2.0, inner=0.5, sd=0.05), 2.5, 1500),
    (Moons(), 2.5, 1500),
    (Moons(sd=0.2), 3.5, 1500),
]


def lattice(dims: int, half: float, count: int) -> tuple[np.ndarray, float]:
    """Return the centers of the cells of an interval or a square about 0, and a cell's size."""
    step = 2 * half / count
    axis = -half + step * (np.arange(count) + 0.5)
    points = np.stack(np.meshgrid(*[axis] * dims, indexing="ij"), axis=-1).reshape(-1, dims)
    return points, step**dims


def mass(distribution: SyntheticDistribution, half: float, count: int) -> float:
    points, cell = lattice(distribution.dims, half, count)
    return float(np.exp(distribution.log_density(points)).sum() * cell)


@pytest.mark.parametrize(
    ("distribution", "half", "count", "tolerance"),
    [*((*case, 1e-6) for case in SMOOTH), *((*case, 1e-3) for case in WITH_JUMPS)],
    ids=str,
)
def test_densities_integrate_to_1(distribution, half, count, tolerance):
    """The tolerance is larger for densities with jumps between the points of the grid."""
    assert mass(distribution, half, count) == pytest.approx(1, abs=tolerance)


@pytest.mark.parametrize(
    "spiral",
    [Spiral(arms=1, sd=0.3), Spiral(arms=2, turns=2.0, inner=0.0, sd=0.2), Spiral(arms=4, sd=0.5)],
    ids=str,
)
def test_spiral_integrates_to_1_about_its_center(spiral):
    """In polar coordinates 1/ρ cancels, and the integral is 1 within 10^-6."""
    rho = (np.arange(400) + 0.5) * (4.0 / 400)
    angle = (np.arange(1600) + 0.5) * (2 * math.pi / 1600)
    grid = np.stack(np.meshgrid(rho, angle, indexing="ij"), axis=-1).reshape(-1, 2)
    points = grid[:, :1] * np.stack([np.cos(grid[:, 1]), np.sin(grid[:, 1])], axis=1)
    p = np.exp(spiral.log_density(points)) * grid[:, 0]
    assert p.sum() * (4.0 / 400) * (2 * math.pi / 1600) == pytest.approx(1, abs=1e-6)


def test_gaussian_agrees_with_scipy():
    """N(mean, Σ) equals scipy's in one dimension, and in two with correlation."""
    points = RNG.normal(size=(200, 2)) * 3
    plane = Gaussian(dims=2, mean=(0.5, -1.0), sd=(0.7, 0.4), rho=-0.8)
    covariance = [[0.49, -0.8 * 0.28], [-0.8 * 0.28, 0.16]]
    expected = stats.multivariate_normal([0.5, -1.0], covariance).logpdf(points)
    np.testing.assert_allclose(plane.log_density(points), expected, rtol=1e-12)
    line = Gaussian(mean=(2.0,), sd=(3.0,))
    expected = stats.norm(2, 3).logpdf(points[:, 0])
    np.testing.assert_allclose(line.log_density(points[:, :1]), expected, rtol=1e-12)


def test_mixtures_agree_with_scipy():
    """The densities of ring, grid and mixture are sums of scipy's."""
    points = RNG.normal(size=(200, 2))
    angles = 2 * math.pi * np.arange(8) / 8
    ring = [(0.9 * math.cos(a), 0.9 * math.sin(a)) for a in angles]
    grid = [(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1)]
    hand = Mixture(means=((0.0, 1.0), (2.0, 3.0)), sds=(0.5, 2.0), weights=(1.0, 3.0))
    cases = [
        (Ring(radius=0.9, sd=0.2), ring, [0.2] * 8, [1 / 8] * 8),
        (Grid(side=3, spacing=1.0, sd=0.3), grid, [0.3] * 9, [1 / 9] * 9),
        (hand, hand.means, hand.sds, (0.25, 0.75)),
    ]
    for distribution, centers, sds, weights in cases:
        p = sum(
            weight * stats.multivariate_normal(center, sd**2).pdf(points)
            for center, sd, weight in zip(centers, sds, weights, strict=True)
        )
        np.testing.assert_allclose(distribution.log_density(points), np.log(p), rtol=1e-9)


def test_kernel_density_agrees_with_scipy():
    """The density equals scipy's kernel density estimate of the same width."""
    for centers in (SOME[:50, :1], SOME[:50]):
        points = RNG.normal(size=(100, centers.shape[1]))
        smoothed = KernelDensity(centers=centers, sd=0.3)
        kernels = [stats.multivariate_normal(center, 0.09).pdf(points) for center in centers]
        expected = np.log(np.mean(kernels, axis=0))
        np.testing.assert_allclose(smoothed.log_density(points), expected, rtol=1e-9)


def test_default_kernel_width():
    """The default is a twentieth of the root mean square distance to the mean."""
    assert KernelDensity(centers=np.array([[1.0], [3.0]])).sd == pytest.approx(0.05)
    corners = np.array([[0.0, 0.0], [0.0, 2.0], [2.0, 0.0], [2.0, 2.0]])
    assert KernelDensity(centers=corners).sd == pytest.approx(0.05 * math.sqrt(2))


def test_spiral_at_a_point_computed_by_hand():
    """At (0, ½), an arm passes at a quarter turn and, with negative s, at three quarters."""
    spiral = Spiral(arms=1, turns=1.0, radius=1.0, inner=0.1, sd=0.3)
    near, far = 0.1 + 0.9 / 4, 0.1 + 0.9 * 3 / 4
    p = (stats.norm(near, 0.3).pdf(0.5) + stats.norm(far, 0.3).pdf(-0.5)) / (2 * math.pi * 0.5)
    log_densities = spiral.log_density(np.array([[0.0, 0.5]]))
    np.testing.assert_allclose(log_densities, math.log(p), rtol=1e-12)


def test_spiral_density_ends_with_the_arm():
    """With three quarters of a turn, the last quadrant has nearly no density."""
    spiral = Spiral(arms=1, turns=0.75, inner=0.5, sd=0.01)
    inside = 0.5 + 0.5 * 0.125 / 0.75
    ray = math.sqrt(0.5)
    density = spiral.log_density(np.array([[ray * inside, ray * inside], [ray, -ray]]))
    expected = stats.norm(0, 0.01).logpdf(0) - math.log(1.5 * math.pi * inside)
    assert density[0] == pytest.approx(expected, rel=1e-12)
    assert density[1] < -1000


def test_moons_at_points_computed_by_hand():
    """The crest of the upper moon is at (0, 1), that of the lower one at (1, -½)."""
    moons = Moons(sd=0.05)
    top = math.log(0.5 / math.pi) + stats.norm(0, 0.05).logpdf(0)
    log_densities = moons.log_density(np.array([[0.0, 1.0], [1.0, -0.5]]))
    np.testing.assert_allclose(log_densities, [top, top], rtol=1e-9)
    below = stats.norm(1, 0.2).pdf(-0.5) / (2 * math.pi * 0.5)  # the upper moon, turned over
    arm_density = stats.norm(1, 0.2).pdf(math.sqrt(2)) / (2 * math.pi * math.sqrt(2))
    log_densities = Moons(sd=0.2).log_density(np.array([[0.0, -0.5]]))
    np.testing.assert_allclose(log_densities, math.log(below + arm_density), rtol=1e-12)


def test_centers_of_curves_have_a_finite_density():
    """At the center 1/ρ is that of sd / 10⁶: finite, and without a warning."""
    at = Spiral(inner=0.0, sd=0.5).log_density(np.array([[0.0, 0.0], [5e-7, 0.0]]))
    assert np.isfinite(at).all()
    assert at[0] == pytest.approx(at[1], rel=1e-5)
    assert np.isfinite(Moons().log_density(np.array([[0.0, 0.0], [1.0, 0.5]]))).all()


def test_pinwheel_at_points_computed_by_hand():
    """Without twist it is a mixture of scipy's; with it, points of equal radius are rotated."""
    plain = Pinwheel(twist=0.0)
    points = RNG.normal(size=(200, 2))
    p = np.zeros(len(points))
    for k in range(5):
        cos, sin = math.cos(0.4 * math.pi * k), math.sin(0.4 * math.pi * k)
        turn = np.array([[cos, -sin], [sin, cos]])
        covariance = turn @ np.diag([0.3**2, 0.06**2]) @ turn.T
        p += stats.multivariate_normal(turn @ [1.0, 0.0], covariance).pdf(points) / 5
    np.testing.assert_allclose(np.exp(plain.log_density(points)), p, rtol=1e-7, atol=1e-300)
    on_circle = np.array([[1.0, 0.0], [math.cos(1.0), math.sin(1.0)]])
    np.testing.assert_allclose(
        Pinwheel(twist=7.0).log_density(on_circle), plain.log_density(on_circle), rtol=1e-9
    )
    farther, turned = np.array([[1.5, 0.0]]), np.array([[1.5 * math.cos(1), 1.5 * math.sin(1)]])
    np.testing.assert_allclose(
        Pinwheel(twist=2.0).log_density(turned), plain.log_density(farther), rtol=1e-9
    )


def test_uniform_is_constant_inside_and_0_outside():
    """1 / area in the box with its border, -inf outside, without a warning."""
    box = Uniform(dims=2, low=(0.0,), high=(2.0, 4.0))
    points = np.array([[0.0, 0.0], [2.0, 4.0], [1.0, 1.0], [2.1, 1.0], [1.0, -0.1]])
    expected = [-math.log(8)] * 3 + [-math.inf] * 2
    np.testing.assert_allclose(box.log_density(points), expected)


@pytest.mark.parametrize("distribution", [case[0] for case in SMOOTH + WITH_JUMPS], ids=str)
def test_far_points_and_no_points(distribution):
    """Far out log p is -inf and never NaN; NaN stays NaN."""
    far = [1e3, 1e38, 1e300, math.inf, -math.inf, math.nan]
    points = np.full((len(far), distribution.dims), 0.5)
    points[:, 0] = far
    log_densities = distribution.log_density(points)
    assert log_densities.dtype == np.float64
    assert (log_densities[:2] < -1e4).all()
    assert (log_densities[2:5] == -math.inf).all()
    assert math.isnan(log_densities[5])
    assert distribution.log_density(np.zeros((0, distribution.dims))).shape == (0,)


def test_far_tails_do_not_underflow():
    """The log of the sum is right a hundred deviations out, where the sum underflows."""
    log_densities = Mixture(means=((0.0,), (1.0,)), sds=(1.0,)).log_density(np.array([[101.0]]))
    exact = stats.norm(1, 1).logpdf(101.0) + math.log(0.5) + math.log1p(math.exp(-100.5))
    assert log_densities[0] == pytest.approx(exact, rel=1e-13)


def test_blocks_do_not_change_the_density():
    """The density of a point does not depend on the other points."""
    for distribution in (KernelDensity(centers=SOME), Spiral(arms=7, turns=3.0), Grid()):
        points = RNG.normal(size=(2000, 2))
        one_by_one = np.concatenate(
            [distribution.log_density(point[None]) for point in points[::97]]
        )
        np.testing.assert_allclose(distribution.log_density(points)[::97], one_by_one, rtol=1e-13)


def test_points_of_wrong_shape_are_refused():
    """Points must have the number of coordinates of the distribution."""
    for shape in [(3,), (3, 1), (3, 2, 1, 1)]:
        with pytest.raises(UsageError, match=r"points must have shape \(n, 2\), got \(3"):
            Ring().log_density(np.zeros(shape))


def test_narrow_modes_far_from_0_are_exact():
    """Differences do not cancel, where squares of coordinates would."""
    mixture = Mixture(means=((1e5, 1e5),), sds=(0.5,))
    log_densities = mixture.log_density(np.array([[1e5 + 0.25, 1e5 - 0.5]]))
    assert log_densities[0] == pytest.approx(-0.5 * 1.25 - math.log(2 * math.pi * 0.25), rel=1e-14)


def test_log_sum_exp_of_minus_infinity():
    """Rows of -inf give -inf without a warning."""
    terms = np.array([[-math.inf, -math.inf], [-math.inf, 0.0], [1000.0, 1000.0]])
    np.testing.assert_allclose(log_sum_exp(terms), [-math.inf, 0, 1000 + math.log(2)])


def test_quadrature_agrees_on_a_line():
    """scipy's quadrature gives the expected mean and integral."""
    mixture = Mixture(means=((-2.0,), (3.0,)), sds=(0.5, 1.0), weights=(1.0, 3.0))
    p = lambda x: math.exp(mixture.log_density(np.array([[x]]))[0])  # noqa: E731
    assert integrate.quad(p, -10, 15, points=[-2, 3])[0] == pytest.approx(1, abs=1e-9)
    mean = integrate.quad(lambda x: x * p(x), -10, 15, points=[-2, 3])[0]
    assert mean == pytest.approx(0.25 * -2 + 0.75 * 3, abs=1e-8)
