import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.spatial.distance import cdist, jensenshannon
from scipy.special import softmax
from scipy.stats import chi, entropy

from advnets.data.synthetic.mixtures import Grid, Mixture, Ring
from advnets.errors import DataError, UsageError
from advnets.metrics.mixture import mixture_quality
from advnets.rng import RNG


def of(distribution):
    centers, deviations, _ = distribution.components()
    return torch.from_numpy(centers), float(deviations[0])


def draw(distribution, n: int) -> torch.Tensor:
    return torch.from_numpy(distribution.sample(n, RNG(1)))


@pytest.mark.parametrize("distribution", [Ring(), Grid(), Mixture(), Mixture(means=((0.0,),))])
def test_a_perfect_generator_has_the_best_values(distribution):
    """All modes; a fraction 1 - e^-4.5 in a plane, 0.9973 on a line; proportions and widths 1."""
    centers, deviation = of(distribution)
    n = 20_000 * len(centers)
    result = mixture_quality(draw(distribution, n), centers, deviation)
    assert (result.modes_found, result.modes, result.n) == (len(centers), len(centers), n)
    within = chi(distribution.dims).cdf(3)
    assert result.high_quality == pytest.approx(
        within, abs=4 * math.sqrt(within * (1 - within) / n)
    )
    assert result.proportions == pytest.approx([1] * len(centers), abs=0.04)
    assert result.relative_std == pytest.approx([1] * len(centers), abs=0.025)
    assert sum(result.proportions) == pytest.approx(len(centers))
    assert result.roundness == pytest.approx([1] * len(centers), abs=0.05)
    assert 0 <= result.jsd < result.kl < 16 * len(centers) / n + 1e-3


UNLIKE = Mixture(
    means=((0.0, 0.0), (4.0, 0.0), (0.0, 5.0)), sds=(1.0, 0.1, 0.5), weights=(5.0, 2.0, 1.0)
)


def test_modes_may_have_different_widths_and_weights():
    """A perfect generator has the best values; one with equal weights or widths does not."""
    centers, sds, weights = map(torch.tensor, UNLIKE.components())
    true = draw(UNLIKE, 80_000)
    result = mixture_quality(true, centers, sds, weights)
    assert result.modes_found == 3
    assert result.proportions == pytest.approx([1] * 3, abs=0.05)
    assert result.relative_std == pytest.approx([1] * 3, abs=0.03)
    assert result.high_quality == pytest.approx(1 - math.exp(-4.5), abs=0.002)
    assert result.jsd < result.kl < 0.002
    evenly = mixture_quality(true, centers, sds)
    assert evenly.proportions == pytest.approx([15 / 8, 6 / 8, 3 / 8], rel=0.05)
    assert evenly.kl == pytest.approx(entropy([5 / 8, 2 / 8, 1 / 8], [1 / 3] * 3), abs=0.01)
    # A point 2.9 σ from its mode belongs to it, however near another center it is.
    wide, tight = torch.tensor([[0.0, 0.0], [3.4, 0.0]]), torch.tensor([1.0, 0.1])
    lone = mixture_quality(torch.tensor([[2.9, 0.0]]), wide, tight)
    assert lone.proportions == (2.0, 0.0)


def test_standard_errors_equal_deviations_over_draws():
    """Over 200 draws of 2,000 samples of another mixture."""
    centers, sds, _ = map(torch.tensor, UNLIKE.components())
    results = []
    for seed in range(200):
        points = torch.from_numpy(UNLIKE.sample(2_000, RNG(seed)))
        results.append(mixture_quality(1.1 * points, centers, sds))
    for name in ("kl", "jsd"):
        values = [getattr(quality, name) for quality in results]
        errors = [getattr(quality, f"{name}_error") for quality in results]
        assert np.mean(errors) == pytest.approx(np.std(values, ddof=1), rel=0.15)


CLOSE = {
    "line": Mixture(means=((0.0,), (6.0,), (12.0,)), sds=(1.0,), weights=(3.0, 1.0, 2.0)),
    "ring": Ring(modes=6, radius=6.0, sd=1.0),
    "grid": Grid(side=3, spacing=6.0, sd=1.0),
    "unlike": Mixture(means=((0.0, 0.0), (4.5, 0.0)), sds=(1.0, 0.5), weights=(1.0, 4.0)),
}


@pytest.mark.parametrize("name", CLOSE)
def test_divergences_of_a_perfect_generator_of_adjacent_modes_are_chi_squared(name):
    """2n KL and 8n JSD have about modes · bins - 1 degrees of freedom.

    With modes 6 σ apart, one sample of 370 is beyond 3 σ of its mode toward another. Samples that
    count for several modes vary less, by up to an eighth here.
    """
    mixture = CLOSE[name]
    centers, sds, weights = map(torch.tensor, mixture.components())
    n, draws = 100_000, 20
    results = [
        mixture_quality(torch.from_numpy(mixture.sample(n, RNG(seed))), centers, sds, weights)
        for seed in range(draws)
    ]
    freedom = len(centers) * results[0].bins - 1
    error = math.sqrt(2 * freedom / draws)
    for chance in (
        [2 * n * quality.kl for quality in results],
        [8 * n * quality.jsd for quality in results],
    ):
        assert 0.875 * freedom - error < np.mean(chance) < freedom + 3 * error


def test_widths_are_relative_to_those_within_three_standard_deviations():
    """In a plane the variance of an axis within 3 σ is ∫ r²/2 f(r) dr / ∫ f(r) dr, f of chi."""
    f = chi(2).pdf
    true = quad(lambda r: r**2 / 2 * f(r), 0, 3)[0] / quad(f, 0, 3)[0]
    points = torch.tensor([[0.1, 0], [-0.1, 0], [0, 0.1], [0, -0.1]])
    spread = mixture_quality(points, torch.zeros(1, 2), 0.1).relative_std[0]
    assert spread == pytest.approx(math.sqrt(4 * 0.01 / 3 / 2 / (0.01 * true)))


def test_samples_near_a_mode_are_counted():
    """Compared with all distances, with some samples far from every mode."""
    rng = np.random.default_rng(0)
    samples = np.concatenate((draw(Grid(), 300).numpy(), rng.uniform(-5, 5, (100, 2))))
    centers, deviation = of(Grid())
    distance = cdist(samples, centers.numpy())
    mode, radius = distance.argmin(1), distance.min(1) / deviation
    good = radius <= 3
    counts = np.bincount(mode[good], minlength=25)
    result = mixture_quality(torch.from_numpy(samples), centers, deviation)
    assert result.modes_found == (counts > 0).sum()
    assert result.high_quality == pytest.approx(good.mean())
    assert result.proportions == pytest.approx(25 * counts / good.sum())
    # Each sample counts in a bin of each center, with the probability of that mode.
    likely = softmax(-((distance / deviation) ** 2) / 2, axis=1)
    right, up = np.moveaxis(samples[:, None] > centers.numpy(), 2, 0)
    corner = 4 * np.arange(25) + 2 * up + right
    shares = np.histogram2d(
        *(corner.ravel(), distance.ravel() / deviation),
        bins=(np.arange(101), (0, 1, 2, 3, np.inf)),
        weights=likely.ravel(),
    )[0].ravel()
    true = np.tile(np.diff(chi(2).cdf([0, 1, 2, 3, np.inf])), 100)
    assert result.kl == pytest.approx(entropy(shares, true))
    assert result.jsd == pytest.approx(jensenshannon(shares, true) ** 2)


def test_a_collapse_changes_every_value():
    """Half of the ring, each mode a point: 4 modes, all good, proportions 2 and 0, width 0."""
    centers, deviation = of(Ring())
    result = mixture_quality(centers[:4].repeat(10, 1), centers, deviation)
    assert (result.modes_found, result.high_quality) == (4, 1)
    assert result.proportions == (2, 2, 2, 2, 0, 0, 0, 0)
    assert result.relative_std == pytest.approx((0, 0, 0, 0, *[None] * 4))
    first = -math.expm1(-0.5)  # of a normal distribution in a plane within σ
    assert result.kl == pytest.approx(math.log(2 * 4 / first))  # a quarter of the innermost shell
    assert result.kl > result.jsd > 0


def test_samples_far_from_all_modes_have_quality_0_and_finite_values():
    centers, deviation = of(Ring())
    result = mixture_quality(torch.full((50, 2), 100.0), centers, deviation)
    assert (result.modes_found, result.high_quality, result.proportions) == (0, 0, (0,) * 8)
    assert result.relative_std == (None,) * 8
    assert result.roundness == (None,) * 8
    assert result.kl == pytest.approx(math.log(8 * 4) + 4.5)  # in one bin of mass e^-4.5 / 8 / 4
    assert result.jsd < math.log(2)


def test_order_does_not_matter():
    centers, deviation = of(Grid())
    samples = draw(Grid(sd=0.1), 500)
    result, repeated = (mixture_quality(s, centers, deviation) for s in (samples, samples.flip(0)))
    assert (repeated.modes_found, repeated.high_quality, repeated.proportions) == (
        (result.modes_found, result.high_quality, result.proportions)
    )
    assert repeated.relative_std == pytest.approx(result.relative_std, rel=1e-12)
    assert (repeated.kl, repeated.jsd) == (result.kl, result.jsd)


def test_modes_that_overlap_are_refused():
    with pytest.raises(
        UsageError, match=r"two centers are 0\.5 apart and have standard deviations 0\.1 and"
    ):
        mixture_quality(torch.zeros(3, 1), torch.tensor([[0.0], [0.5], [2.0]]), 0.1)
    with pytest.raises(UsageError, match=r"as deviations of modes, got 1 \(0\)"):
        mixture_quality(torch.zeros(3, 1), torch.zeros(1, 1), 0.0)
    with pytest.raises(UsageError, match=r"as weights of modes, got 2 \(1, -1\)"):
        mixture_quality(torch.zeros(3, 1), 9 * torch.eye(2)[:, :1], 0.1, torch.tensor([1.0, -1.0]))


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (torch.zeros(0, 2), r"samples features have shape \(0, 2\)"),
        (torch.zeros(3, 1), "centers features have 2 columns and samples ones 1"),
        (torch.full((3, 2), math.nan), "samples features hold numbers that are not finite"),
    ],
)
def test_samples_that_are_not_points_are_refused(samples, message):
    with pytest.raises(DataError, match=message):
        mixture_quality(samples, *of(Ring()))


def test_modes_of_the_right_width_and_another_shape_are_detected():
    """All along one axis with the right radii, and ellipses of the right mean width."""
    centers, deviation = of(Ring())
    n = 4000
    radius = torch.from_numpy(chi(2).rvs(8 * n, random_state=0)) * deviation
    side = torch.randint(2, (8 * n,), generator=torch.Generator().manual_seed(0)) * 2 - 1
    mode_centers = centers.repeat_interleave(n, 0)
    lines = mode_centers + torch.stack((radius * side, torch.zeros(8 * n)), 1)
    result = mixture_quality(lines, centers, deviation)
    assert result.kl > 0.6  # log 2: half of the quarters are empty
    assert max(result.roundness) < 1e-6
    true = draw(Ring(), 8 * n).double()
    nearest = torch.cdist(true, centers).argmin(1)
    wide = torch.tensor([1.1, (2 - 1.1**2) ** 0.5], dtype=torch.float64)
    flat = centers[nearest] + (true - centers[nearest]) * wide
    result = mixture_quality(flat, centers, deviation)
    assert result.relative_std == pytest.approx([1] * 8, abs=0.04)
    # The cut at 3 σ first affects the longer axis.
    assert result.roundness == pytest.approx([float(wide[1] / wide[0])] * 8, abs=0.06)
    assert max(result.roundness) < 0.9


def test_centers_just_far_enough_apart_are_accepted():
    mixture_quality(torch.zeros(1, 1), torch.tensor([[0.0], [0.1 + 0.2]]), 0.05)


@pytest.mark.parametrize("deviation", [1e-7, 1e-9])
def test_modes_much_narrower_than_their_distances_are_resolved(deviation):
    centers, _ = of(Ring(modes=8, radius=2.0))
    which = torch.arange(20_000) % 8
    samples = centers[which] + deviation * RNG(1).normal("points", len(which), 2).double()
    result = mixture_quality(samples, centers, deviation)
    assert result.high_quality == pytest.approx(1 - math.exp(-4.5), abs=0.004)
    assert result.jsd < 0.01
