from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy, norm

from advnets.data.synthetic.base import bin_counts
from advnets.data.synthetic.gaussian import Gaussian
from advnets.data.synthetic.manifolds import Moons, Pinwheel, Spiral
from advnets.errors import DataError, UsageError
from advnets.metrics.histogram_divergence import histogram_divergence
from advnets.rng import RNG


def test_divergences_are_scipys():
    rng = np.random.default_rng(0)
    counts, masses = rng.integers(0, 50, 200), rng.dirichlet(np.ones(200))
    found = histogram_divergence(torch.from_numpy(counts), torch.from_numpy(masses))
    assert found.kl == pytest.approx(entropy(counts, masses), rel=1e-12)
    shares = counts / counts.sum()
    assert found.jsd == pytest.approx(jensenshannon(shares, masses) ** 2, rel=1e-12)
    assert (found.bins, found.n) == (200, counts.sum())


def test_samples_where_nothing_can_be_are_infinitely_far_by_kl():
    """And by Jensen-Shannon no farther than log 2; a bin that neither has is none."""
    found = histogram_divergence(torch.tensor([0, 5, 0]), torch.tensor([1.0, 0.0, 0.0]))
    assert (found.kl, found.bins) == (math.inf, 1)
    assert found.jsd == pytest.approx(math.log(2))
    assert found.kl_error is None


def wider_by(factor: float):
    """KL of normal numbers that are `factor` times too wide, in eight cells at -3 … 3."""
    edges = norm.cdf(np.arange(-3, 4) / factor)
    shares = np.diff([0, *edges, 1])
    true = np.diff([0, *norm.cdf(np.arange(-3, 4)), 1])
    return entropy(shares, true)


@pytest.mark.parametrize(
    ("distribution", "wider", "expected"),
    [
        (Spiral(sd=0.005), Spiral(sd=0.0075), wider_by(1.5)),
        (Moons(sd=0.01), Moons(sd=0.015), wider_by(1.5)),
        (Gaussian(), Gaussian(sd=(1.5,)), wider_by(1.5)),
        (
            Gaussian(dims=2, rho=0.7),
            Gaussian(dims=2, rho=0.7, sd=(1.5,)),
            2 * wider_by(1.5),
        ),
        (Pinwheel(width=0.01), Pinwheel(width=0.015), wider_by(1.5)),
    ],
    ids=str,
)
def test_what_is_too_wide_is_as_far_as_its_masses_say(distribution, wider, expected):
    """In closed form, over 200,000 points: the bins' own (bins - 1) / 2n and their error aside."""
    counts = bin_counts(distribution, wider.sample(200_000, RNG(2)))
    found = histogram_divergence(*map(torch.from_numpy, counts))
    assert found.kl == pytest.approx(expected, abs=found.bins / 4e5 + 4 * found.kl_error)
    assert expected > 0.05


def test_estimates_of_no_divergence_are_above_it_by_the_bias_that_is_documented():
    """Samples of p_data itself: E KL is about (bins - 1) / 2n, E JSD (bins - 1) / 8n, not 0."""
    bins, n = 256, 20_000
    masses = torch.full((bins,), 1 / bins)
    rng = np.random.default_rng(0)
    draws = torch.from_numpy(rng.multinomial(n, np.full(bins, 1 / bins), 200))
    found = [histogram_divergence(counts, masses) for counts in draws]
    assert min(one.kl for one in found) > 0
    assert np.mean([one.kl for one in found]) == pytest.approx((bins - 1) / (2 * n), rel=0.03)
    assert np.mean([one.jsd for one in found]) == pytest.approx((bins - 1) / (8 * n), rel=0.03)


def test_what_lacks_an_arm_is_log_2_away():
    both, one = Spiral(sd=0.005), Spiral(arms=1, sd=0.005)
    counts = bin_counts(both, one.sample(100_000, RNG(2)))
    found = histogram_divergence(*map(torch.from_numpy, counts))
    assert found.kl == pytest.approx(math.log(2), abs=0.005)
    m = (math.log(4 / 3) + 0.5 * math.log(2 / 3) + 0.5 * math.log(2)) / 2
    assert found.jsd == pytest.approx(m, abs=0.005)


def test_divergences_are_known_as_well_as_their_errors_say():
    distribution, other = Moons(sd=0.1), Moons(sd=0.12)
    found = [
        histogram_divergence(
            *map(torch.from_numpy, bin_counts(distribution, other.sample(20_000, RNG(seed))))
        )
        for seed in range(200)
    ]
    for name in ("kl", "jsd"):
        values = [getattr(one, name) for one in found]
        errors = [getattr(one, f"{name}_error") for one in found]
        assert np.mean(errors) == pytest.approx(np.std(values, ddof=1), rel=0.15)


@pytest.mark.parametrize(
    ("counts", "masses", "error", "message"),
    [
        ([1, 2], [0.5, 0.2, 0.3], UsageError, "2 counts and 3 masses; give one for each bin"),
        ([1, 2], [0.5, 0.2], UsageError, r"sum to 0\.7; give the probability of each bin"),
        ([1, 2], [1.5, -0.5], UsageError, r"masses of bins are -0\.5 and more"),
        ([0, 0], [0.5, 0.5], DataError, "0 samples came"),
        ([3, -1], [0.5, 0.5], DataError, "in bins of -1 and more; count some"),
    ],
)
def test_what_are_no_bins_is_refused(counts, masses, error, message):
    with pytest.raises(error, match=message):
        histogram_divergence(torch.tensor(counts), torch.tensor(masses))
