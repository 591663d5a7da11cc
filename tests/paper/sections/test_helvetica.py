"""Tests of mode counts, and of updates of single players."""

import numpy as np
import pytest
import torch

from advnets.data.synthetic.mixtures import Ring
from advnets.paper.sections.helvetica import (
    UPDATE_RATIOS,
    RingGame,
    Scale,
    count_per_mode,
    run_scenario,
)
from advnets.paper.toy import FixedUpdates, copy_state, train_player
from advnets.rng import RNG
from advnets.training.step import train_step


def weights(state, player):
    return [parameter.detach().clone() for parameter in state.players[player].parameters()]


def same(before, after):
    return all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_points_are_counted_in_the_mode_they_are_drawn_from():
    ring = Ring(sd=0.1)
    points, modes = ring.sample_with_modes(20_000, RNG(0))
    counts = count_per_mode(points.astype(np.float64), ring)
    # Within 3 sd of its center lies a point of the plane with probability 1 - exp(-9/2).
    expected = np.bincount(modes) * (1 - np.exp(-4.5))
    np.testing.assert_allclose(counts, expected, rtol=0.02)


def test_points_far_from_every_center_are_not_counted():
    assert count_per_mode(np.zeros((5, 2)), Ring(sd=0.1)).sum() == 0


@pytest.mark.parametrize("player", ["generator", "discriminator"])
def test_train_player_updates_only_that_player(player):
    state = RingGame.create(8, 0).state
    (opponent,) = set(state.players) - {player}
    updated, fixed, updates = weights(state, player), weights(state, opponent), []
    train_player(state, player, 3, updates.append)
    assert updates == [1, 2, 3]
    assert not same(updated, weights(state, player))
    assert same(fixed, weights(state, opponent))
    assert state.progress.step == 0


def test_fixed_updates_sets_the_number_of_updates():
    state = RingGame.create(8, 0).state
    state.game = FixedUpdates(state.game, {"discriminator": 1, "generator": 5})
    for _ in range(3):
        train_step(state)
    assert state.progress.updates == {"discriminator": 3, "generator": 15}


def test_a_copied_state_trains_as_the_original():
    """The update ratios start from a copy, which must be complete and independent."""
    state = RingGame.create(8, 0).state
    for _ in range(3):
        train_step(state)
    copied = copy_state(state)
    before = weights(state, "generator")
    for _ in range(3):
        train_step(copied)
    assert same(before, weights(state, "generator"))
    for _ in range(3):
        train_step(state)
    assert same(weights(copied, "generator"), weights(state, "generator"))


def test_scenario_counts_modes_every_tenth_update():
    history = run_scenario(Scale(8, 20, 20, 40, 100))
    assert [count.update for count in history.counts] == list(range(0, 90, 10))
    assert history.before == history.counts[2]
    assert history.after == history.counts[6]
    assert [len(history.ratios[ratio]) for ratio in UPDATE_RATIOS] == [5, 5, 5, 1]


@pytest.mark.slow
def test_g_alone_loses_modes_and_joint_training_recovers_them():
    history = run_scenario(Scale(64, 400, 800, 2000, 100), seed=1)
    assert history.before.modes == 8
    assert history.after.modes <= 4
    assert history.counts[-1].modes >= 7
