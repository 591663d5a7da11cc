import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy, norm

from advnets.data.distribution import bin_counts
from advnets.data.synthetic.manifolds import Moons, Pinwheel, Spiral
from advnets.data.synthetic.mixtures import Gaussian
from advnets.errors import DataError, UsageError
from advnets.metrics.histogram_divergence import histogram_divergence
from advnets.rng import RNG


def test_divergences_equal_those_of_scipy():
    rng = np.random.default_rng(0)
    counts, masses = rng.integers(0, 50, 200), rng.dirichlet(np.ones(200))
    result = histogram_divergence(torch.from_numpy(counts), torch.from_numpy(masses))
    assert result.kl == pytest.approx(entropy(counts, masses), rel=1e-12)
    shares = counts / counts.sum()
    assert result.jsd == pytest.approx(jensenshannon(shares, masses) ** 2, rel=1e-12)
    assert (result.bins, result.n) == (200, counts.sum())


def test_samples_in_impossible_bins_have_infinite_kl():
    """Their JSD is at most log 2; bins that are empty in both are ignored."""
    result = histogram_divergence(torch.tensor([0, 5, 0]), torch.tensor([1.0, 0.0, 0.0]))
    assert (result.kl, result.bins) == (math.inf, 1)
    assert result.jsd == pytest.approx(math.log(2))
    assert result.kl_error is None


def wider_by(factor: float):
    """Return the KL divergence, over eight bins, of normal numbers `factor` times too wide."""
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
        (Gaussian(dims=2, rho=0.7), Gaussian(dims=2, rho=0.7, sd=(1.5,)), 2 * wider_by(1.5)),
        (Pinwheel(width=0.01), Pinwheel(width=0.015), wider_by(1.5)),
    ],
    ids=str,
)
def test_the_divergence_of_too_wide_samples_is_that_of_the_masses(distribution, wider, expected):
    """In closed form, with 200,000 points, up to the bias (bins - 1) / 2n and the error."""
    counts = bin_counts(distribution, wider.sample(200_000, RNG(2)))
    result = histogram_divergence(*map(torch.from_numpy, counts))
    assert result.kl == pytest.approx(expected, abs=result.bins / 4e5 + 4 * result.kl_error)
    assert expected > 0.05


def test_estimates_of_zero_divergence_have_the_documented_bias():
    """For samples of p_data, E KL is about (bins - 1) / 2n and E JSD (bins - 1) / 8n."""
    bins, n = 256, 20_000
    masses = torch.full((bins,), 1 / bins)
    rng = np.random.default_rng(0)
    draws = torch.from_numpy(rng.multinomial(n, np.full(bins, 1 / bins), 200))
    results = [histogram_divergence(counts, masses) for counts in draws]
    assert min(divergence.kl for divergence in results) > 0
    assert np.mean([divergence.kl for divergence in results]) == pytest.approx(
        (bins - 1) / (2 * n), rel=0.03
    )
    assert np.mean([divergence.jsd for divergence in results]) == pytest.approx(
        (bins - 1) / (8 * n), rel=0.03
    )


def test_a_missing_arm_of_two_has_a_divergence_of_log_2():
    two_arms, one_arm = Spiral(sd=0.005), Spiral(arms=1, sd=0.005)
    counts = bin_counts(two_arms, one_arm.sample(100_000, RNG(2)))
    result = histogram_divergence(*map(torch.from_numpy, counts))
    assert result.kl == pytest.approx(math.log(2), abs=0.005)
    m = (math.log(4 / 3) + 0.5 * math.log(2 / 3) + 0.5 * math.log(2)) / 2
    assert result.jsd == pytest.approx(m, abs=0.005)


def test_standard_errors_equal_deviations_over_draws():
    distribution, model = Moons(sd=0.1), Moons(sd=0.12)
    results = [
        histogram_divergence(
            *map(torch.from_numpy, bin_counts(distribution, model.sample(20_000, RNG(seed))))
        )
        for seed in range(200)
    ]
    for name in ("kl", "jsd"):
        values = [getattr(divergence, name) for divergence in results]
        errors = [getattr(divergence, f"{name}_error") for divergence in results]
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
def test_invalid_bins_are_refused(counts, masses, error, message):
    with pytest.raises(error, match=message):
        histogram_divergence(torch.tensor(counts), torch.tensor(masses))
