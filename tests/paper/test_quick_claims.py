"""Tests that the quick scale's checks of trained networks pass for ten seeds."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from advnets.paper.sections import SECTIONS, density, table2, vae
from advnets.paper.sections.density import ClassFrequencies
from advnets.paper.sections.table2 import ChainSnapshot
from advnets.paper.studies import bad_start
from advnets.paper.toy import Grid, Snapshot

SEEDS = range(10)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_checks_of_trained_networks_pass_for_ten_seeds(context, seed):
    context = replace(context, seed=seed)
    for name in ("figure3", "table2", "vae", "density"):
        checks = SECTIONS[name].build(context).checks
        assert checks
        assert [check for check in checks if not check.passed] == [], name


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_checks_of_the_bad_start_pass_for_ten_seeds(context, seed):
    checks = bad_start.build(replace(context, seed=seed)).checks
    assert [check for check in checks if not check.passed] == []


def test_equal_losses_fail_the_checks_of_the_bad_start():
    """If one loss were used for both, gradients and trajectories would be equal."""
    cells = Grid(-1.0, 1.0, 3)
    start = Snapshot(cells, np.ones(3), np.ones(3), np.ones(3), ())
    jsd = [0.6931, *[0.4] * 20, *[0.01] * 60]
    grad_norms = {"minimax": 2.0, "non-saturating": 2.0}
    histories = {
        ("gradient descent", objective): bad_start.History(start, grad_norms, 0.001, jsd)
        for objective in bad_start.OBJECTIVES
    }
    assert outcomes(bad_start._checks(histories)) == [True, False, False, True]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    "name", [name for name in SECTIONS if name not in ("figure3", "table2", "vae", "density")]
)
def test_other_checks_pass_for_other_seeds(context, seed, name):
    context = replace(context, seed=seed, folder=context.folder / name)
    assert [check for check in SECTIONS[name].build(context).checks if not check.passed] == []


def make_chains(images, after, correlations=(0.55, 0.0)):
    """Return chains after 1 and after 1,000 steps."""
    return [
        ChainSnapshot(steps, 1e-5, rows, correlation)
        for steps, rows, correlation in zip((1, 1000), (images, after), correlations, strict=True)
    ]


def outcomes(checks):
    return [check.passed for check in checks]


def test_static_or_correlated_chains_fail_the_checks():
    """A chain that never changes stays far from the data and is fully correlated."""
    rng = torch.Generator().manual_seed(0)
    real = torch.rand(50, 16, generator=rng)
    noise, near_data = torch.rand(30, 16, generator=rng), real[:30] + 0.01
    assert outcomes(table2._quick_chain_checks(make_chains(noise, near_data), real)) == [True, True]
    assert outcomes(table2._quick_chain_checks(make_chains(noise, noise, (1.0, 1.0)), real)) == [
        False,
        False,
    ]
    assert outcomes(table2._quick_chain_checks(make_chains(near_data, noise), real)) == [
        False,
        True,
    ]


def test_an_uninformative_encoder_fails_the_reconstruction_check():
    """Without information the best reconstruction is the mean image."""
    images = torch.rand(20, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    errors = {"nearest": 0.01, "mean": 0.08, vae.VAE: 0.08}
    (uninformative,) = vae._reconstruction_checks(
        vae.Reconstructions(images, {}, errors), full=False
    )
    assert not uninformative.passed
    (informative,) = vae._reconstruction_checks(
        vae.Reconstructions(images, {}, {**errors, vae.VAE: 0.03}), full=False
    )
    assert informative.passed
    assert outcomes(
        vae._reconstruction_checks(vae.Reconstructions(images, {}, errors), full=True)
    ) == [False, False]


def make_frequencies(*p_g):
    """Return class frequencies of ten classes that are equally frequent in the data."""
    p = np.full(10, 0.1)
    q = np.array(p_g) / sum(p_g)
    return ClassFrequencies(p, q, accuracy=0.95, chance=0.04)


def test_missing_classes_fail_the_frequency_checks():
    even, uneven, half = (
        make_frequencies(*[1] * 10),
        make_frequencies(0, *[1] * 5, *[2] * 4),
        make_frequencies(*[1] * 5, *[0] * 5),
    )
    for frequencies, of_quick, of_full in (
        (even, [True] * 3, [True] * 3),
        (uneven, [True] * 3, [True, False, True]),
        (half, [True, False, False], [True, False, False]),
    ):
        assert outcomes(density._frequency_checks(frequencies, 2000, full=False)) == of_quick
        assert outcomes(density._frequency_checks(frequencies, 2000, full=True)) == of_full
