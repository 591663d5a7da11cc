"""Tests of the statistics of both update orders, and of the check."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from advnets import config
from advnets.data.prepared import open_data
from advnets.paper.sections import algorithm1
from advnets.paper.sections.algorithm1 import (
    ALTERNATING,
    SIMULTANEOUS,
    UPDATE_ORDERS,
    OrderHistory,
    Size,
    generator_gradient,
    make_size,
    train_game,
)
from advnets.rng import RNG


class Constant(nn.Module):
    """A generator with G(z) = w."""

    latent_dim = 1

    def __init__(self, w: float) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(w))

    def latent(self, n, rng):
        return rng.uniform("z", n, 1)

    def forward(self, z, rng=None):
        return self.w.expand(len(z), 1, 1, 1)


class Line(nn.Module):
    """A discriminator with the logit a(x) = s x."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, x, rng=None):
        return self.slope * x.flatten()


def test_generator_gradient_equals_the_closed_form():
    """-log σ(s w) has the derivative s (σ(s w) - 1) in w."""
    fooled, norm = generator_gradient(Constant(2.0), Line(-1.5), RNG(0), samples=7)
    assert fooled == pytest.approx(1 / (1 + math.exp(3)))
    assert norm == pytest.approx(1.5 * (1 - fooled))


@pytest.fixture
def small(context) -> tuple[Size, object]:
    size = make_size(context)
    stage = replace(
        size.stage,
        generator=config.MLPGenerator(latent_dim=4, hidden_sizes=(8, 8)),
        discriminator=config.MaxoutDiscriminator(hidden_sizes=(8, 8), init_range=0.2),
    )
    return replace(size, stage=stage, iterations=8, eval_every=4), open_data(size.data)


@pytest.mark.parametrize("name", list(UPDATE_ORDERS))
def test_before_and_after_differ_only_by_the_update_of_d(small, name):
    """They are equal if D has a learning rate of 0."""
    size, prepared = small
    stage = replace(size.stage, game=UPDATE_ORDERS[name])
    updated = train_game(stage, size, prepared, seed=0).values
    no_update = replace(stage, discriminator_optimizer=config.SGD(lr=0.0, lr_min=0.0))
    fixed = train_game(no_update, size, prepared, seed=0).values
    for quantity in ("D(G(z))", "gradient"):
        assert fixed[f"{quantity} before"] == fixed[f"{quantity} after"]
        assert all(
            a != b
            for a, b in zip(
                updated[f"{quantity} before"], updated[f"{quantity} after"], strict=True
            )
        )


def test_evaluation_does_not_change_training(small):
    """Training with an evaluation per iteration equals training with one at the end."""
    size, prepared = small
    frequent, once = (
        train_game(size.stage, replace(size, eval_every=every), prepared, seed=0)
        for every in (1, 8)
    )
    assert frequent.iterations == list(range(1, 9))
    assert once.iterations == [8]
    for name in ("variety", "flat", "D(G(z)) after"):
        assert frequent.values[name][-1] == once.values[name][-1]
    mean = sum(frequent.values["D(x)"]) / 8
    assert once.values["D(x)"][0] == pytest.approx(mean)


def test_means_after_the_start_and_at_the_end():
    history = OrderHistory(
        list(range(20)), {"D(x)": [0.5] * 10 + [0.9] * 10, "v": list(map(float, range(20)))}
    )
    assert history.mean_after_start("v") == 14.5  # 10 … 19
    assert history.final("v") == 18.5  # the last two of twenty
    assert OrderHistory([1], {"D(x)": [0.5], "v": [3.0]}).mean_after_start("v") == 3.0


def test_order_check_compares_all_seeds():
    def histories(simultaneous, alternating):
        return {
            name: [OrderHistory([1], {"D(G(z))": [value]}) for value in values]
            for name, values in ((SIMULTANEOUS, simultaneous), (ALTERNATING, alternating))
        }

    assert algorithm1._order_check(histories([0.05, 0.09], [0.01, 0.04])).passed
    assert not algorithm1._order_check(histories([0.05, 0.03], [0.01, 0.04])).passed


def test_full_scale_is_the_authors_configuration(context):
    from advnets import presets

    size = make_size(replace(context, full=True))
    assert size.stage == presets.get_preset("paper-mnist").stage
    assert size.data.source == "mnist"
