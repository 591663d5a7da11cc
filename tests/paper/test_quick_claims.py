"""The claims of the quick scale that depend on a training hold for each of ten seeds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from advnets.paper.registry import SECTIONS
from advnets.paper.sections import density, table2, vae
from advnets.paper.studies import bad_start
from advnets.paper.studies.density_models import ClassFrequencies
from advnets.paper.studies.gibbs_chains import ChainSnapshot
from advnets.toy.line_game import Grid, Snapshot

SEEDS = range(10)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_the_claims_of_trained_nets_hold_with_any_seed(context, seed):
    context = replace(context, seed=seed)
    for name in ("figure3", "table2", "vae", "density"):
        checks = SECTIONS[name].build(context).checks
        assert checks
        assert [check for check in checks if not check.passed] == [], name


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_the_claims_of_the_bad_start_hold_with_any_seed(context, seed):
    checks = bad_start.build(replace(context, seed=seed)).checks
    assert [check for check in checks if not check.passed] == []


def test_objectives_that_are_one_fail_the_claims_of_the_bad_start():
    """As if one loss were played for both, whose first gradient and way are then the same."""
    cells = Grid(-1.0, 1.0, 3)
    start = Snapshot(cells, np.ones(3), np.ones(3), np.ones(3), ())
    way = [0.6931, *[0.4] * 20, *[0.01] * 60]
    pulls = {"minimax": 2.0, "non-saturating": 2.0}
    trials = {
        ("gradient descent", objective): bad_start.History(start, pulls, 0.001, way)
        for objective in bad_start.OBJECTIVES
    }
    assert holds(bad_start._checks(trials)) == [True, False, False, True]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    "name",
    [name for name in SECTIONS if name not in ("figure3", "table2", "vae", "density")],
)
def test_the_other_claims_hold_with_other_seeds(context, seed, name):
    context = replace(context, seed=seed, folder=context.folder / name)
    assert [check for check in SECTIONS[name].build(context).checks if not check.passed] == []


def stations(images, after, correlations=(0.55, 0.0)):
    """Chains after 1 and after 1,000 steps."""
    return [
        ChainSnapshot(steps, 1e-5, rows, correlation)
        for steps, rows, correlation in zip((1, 1000), (images, after), correlations, strict=True)
    ]


def holds(checks):
    return [check.passed for check in checks]


def test_chains_that_stand_still_or_do_not_forget_fail_the_claims():
    """A chain that is never run is as far from data as at its start, and resembles itself."""
    rng = torch.Generator().manual_seed(0)
    real = torch.rand(50, 16, generator=rng)
    noise, found = torch.rand(30, 16, generator=rng), real[:30] + 0.01
    assert holds(table2._quick_chain_checks(stations(noise, found), real)) == [True, True]
    assert holds(table2._quick_chain_checks(stations(noise, noise, (1.0, 1.0)), real)) == [
        False,
        False,
    ]
    assert holds(table2._quick_chain_checks(stations(found, noise), real)) == [False, True]


def test_an_encoder_that_says_nothing_fails_the_claim_of_reconstructions():
    """The best that G can make of no information is the mean image."""
    shown = torch.rand(20, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    errors = {"nearest": 0.01, "mean": 0.08, vae.VAE: 0.08}
    (blind,) = vae._reconstruction_checks(vae.Reconstructions(shown, {}, errors), full=False)
    assert not blind.passed
    (told,) = vae._reconstruction_checks(
        vae.Reconstructions(shown, {}, {**errors, vae.VAE: 0.03}), full=False
    )
    assert told.passed
    assert holds(vae._reconstruction_checks(vae.Reconstructions(shown, {}, errors), full=True)) == [
        False,
        False,
    ]


def shares(*p_g):
    """Class frequencies of ten classes that are equally frequent in the data."""
    p = np.full(10, 0.1)
    q = np.array(p_g) / sum(p_g)
    return ClassFrequencies(p, q, accuracy=0.95, chance=0.04)


def test_a_generator_of_half_the_classes_fails_the_claims_of_frequencies():
    even, uneven, half = (
        shares(*[1] * 10),
        shares(0, *[1] * 5, *[2] * 4),
        shares(*[1] * 5, *[0] * 5),
    )
    for found, of_quick, of_full in (
        (even, [True] * 3, [True] * 3),
        (uneven, [True] * 3, [True, False, True]),
        (half, [True, False, False], [True, False, False]),
    ):
        assert holds(density._frequency_checks(found, 2000, full=False)) == of_quick
        assert holds(density._frequency_checks(found, 2000, full=True)) == of_full
