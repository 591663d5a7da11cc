from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from advnets.training.final_state import InitialWeights, all_finite, training_problem

FINE = {"generator": torch.tensor(0.7)}


def player(*weights):
    net = nn.Module()
    net.w = nn.Parameter(torch.tensor(weights))
    return {"generator": net}


def test_a_changed_and_bounded_state_has_no_problem():
    initial = InitialWeights.from_players(player(0.1, 0.2))
    assert training_problem(initial, player(0.1, 0.3), FINE, 1e4) is None


@pytest.mark.parametrize("loss", [1.1e4, -1.1e4, math.inf, math.nan])
def test_a_loss_above_the_limit_or_not_finite_is_divergence(loss):
    initial = InitialWeights.from_players(player(0.1))
    problem = training_problem(initial, player(0.2), {"generator": torch.tensor(loss)}, 1e4)
    assert problem is not None
    assert problem.reason == "diverged"
    assert problem.detail.startswith("the loss of the generator is ")


@pytest.mark.parametrize(
    ("first", "last", "diverged"),
    [
        (0.1, 0.9e6, False),
        (0.1, 1.1e6, True),
        (0.1, -1.5e12, True),
        (0.1, math.nan, True),
        (3e7, 2e13, False),  # data in large units: the output bias begins at their mean
        (3e7, 4e13, True),
    ],
)
def test_weights_are_bounded_by_the_initial_ones(first, last, diverged):
    problem = training_problem(InitialWeights.from_players(player(first)), player(last), FINE, 1e4)
    assert (problem is not None) == diverged
    if problem is not None:
        assert problem.reason == "diverged"
        assert problem.detail.startswith("the largest weight of the generator is ")


def test_unchanged_weights_mean_that_training_had_no_effect():
    """For each player with a loss; a player without one is not trained."""
    initial = InitialWeights.from_players({**player(0.1), "encoder": player(0.2)["generator"]})
    still = {**player(0.1), "encoder": player(0.3)["generator"]}
    problem = training_problem(initial, still, FINE, 1e4)
    assert problem is not None
    assert problem.reason == "had no effect"
    assert problem.detail.startswith("no weight of the generator differs")
    moved = {**player(0.3), "encoder": player(0.2)["generator"]}
    assert training_problem(initial, moved, FINE, 1e4) is None
    both = training_problem(initial, moved, FINE | {"encoder": torch.tensor(0.1)}, 1e4)
    assert both is not None
    assert both.detail.startswith("no weight of the encoder differs")


def test_only_floating_point_tensors_are_checked():
    assert all_finite([torch.ones(2), torch.tensor(3)])
    assert all_finite([])
    assert not all_finite([torch.ones(2), torch.tensor([1.0, math.inf])])
