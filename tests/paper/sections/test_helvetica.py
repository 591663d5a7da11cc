"""Modes are counted as they go, and who moves is who is meant to."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from advnets.data.synthetic.mixtures import Ring
from advnets.rng import RNG
from advnets.toy.ring_game import UPDATE_RATIOS, RingGame, Size, count_per_mode, run_scenario
from advnets.toy.stepping import FixedUpdates, copy_state, train_player
from advnets.training.step import train_step


def weights(table, player):
    return [parameter.detach().clone() for parameter in table.players[player].parameters()]


def same(before, after):
    return all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_points_are_counted_in_the_mode_they_were_drawn_from():
    ring = Ring(sd=0.1)
    points, modes = ring.sample_with_modes(20_000, RNG(0))
    counts = count_per_mode(points.astype(np.float64), ring)
    # Within 3 sd of its center lies a point of the plane with probability 1 - exp(-9/2).
    expected = np.bincount(modes) * (1 - np.exp(-4.5))
    np.testing.assert_allclose(counts, expected, rtol=0.02)


def test_what_is_far_from_every_center_is_of_no_mode():
    assert count_per_mode(np.zeros((5, 2)), Ring(sd=0.1)).sum() == 0


@pytest.mark.parametrize("player", ["generator", "discriminator"])
def test_one_player_moves_and_the_other_stands_still(player):
    table = RingGame.create(8, 0).state
    (other,) = set(table.players) - {player}
    mine, theirs, seen = weights(table, player), weights(table, other), []
    train_player(table, player, 3, seen.append)
    assert seen == [1, 2, 3]
    assert not same(mine, weights(table, player))
    assert same(theirs, weights(table, other))
    assert table.progress.step == 0


def test_turns_are_as_many_as_is_said():
    table = RingGame.create(8, 0).state
    table.game = FixedUpdates(table.game, {"discriminator": 1, "generator": 5})
    for _ in range(3):
        train_step(table)
    assert table.progress.updates == {"discriminator": 3, "generator": 15}


def test_a_copied_table_plays_on_as_the_first_would():
    """The ratios begin from a copy: it must share nothing, and lack nothing."""
    table = RingGame.create(8, 0).state
    for _ in range(3):
        train_step(table)
    other = copy_state(table)
    before = weights(table, "generator")
    for _ in range(3):
        train_step(other)
    assert same(before, weights(table, "generator"))
    for _ in range(3):
        train_step(table)
    assert same(weights(other, "generator"), weights(table, "generator"))


def test_a_story_counts_every_tenth_update():
    told = run_scenario(Size(8, 20, 20, 40, 100))
    assert [count.update for count in told.counts] == list(range(0, 90, 10))
    assert told.before == told.counts[2]
    assert told.after == told.counts[6]
    assert [len(told.ratios[ratio]) for ratio in UPDATE_RATIOS] == [5, 5, 5, 1]


@pytest.mark.slow
def test_g_alone_loses_modes_and_a_fair_game_brings_them_back():
    told = run_scenario(Size(64, 400, 800, 2000, 100), seed=1)
    assert told.before.modes == 8
    assert told.after.modes <= 4
    assert told.counts[-1].modes >= 7
