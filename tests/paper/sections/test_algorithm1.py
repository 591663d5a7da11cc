"""Ways to take turns on the line, and D trained to completion."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import nn

from advnets import config
from advnets.data.dataset import ArraySplit, Dataset
from advnets.data.normalization import UnitNormalizer
from advnets.data.prepared import open_data
from advnets.paper.sections.algorithm1 import (
    GAMES,
    GRID,
    History,
    iteration_cost,
    mean_absolute_error,
    train_line_game,
)
from advnets.paper.studies.inner_loop import (
    QUICK,
    ImageGenerator,
    measure,
    split_digits,
    train_to_completion,
)
from advnets.rng import RNG
from advnets.toy.line_game import STAGE, Snapshot, make_line_game
from advnets.toy.stepping import make_state
from advnets.training.step import train_step


def test_a_round_costs_what_is_drawn_for_it():
    """k (m data + m z) + m z when they alternate; m data + m z when both move at once."""
    costs = {}
    for name, game in GAMES.items():
        table = make_line_game(
            "gaussian:n=1000", GRID, replace(STAGE, game=game), batch_size=10
        ).state
        costs[name] = iteration_cost(table, 10)
        train_step(table)
        assert sum(table.progress.updates.values()) == costs[name][1]
    assert costs == {
        "k = 1": (30, 2),
        "k = 2": (50, 3),
        "k = 5": (110, 6),
        "simultaneous": (20, 2),
    }


def test_the_mean_error_is_an_integral():
    """Of |1/2 - D*|, with N(0, 1) and N(2, 1): half their total variation."""
    x = GRID.centers
    p, q = norm(0, 1).pdf(x), norm(2, 1).pdf(x)
    seen = Snapshot(GRID, p, q, np.full_like(x, 0.5), ())
    # E|1/2 - D*| = ∫ |p - q| / 4, and ∫ |p - q| = 2 (2 Φ(1) - 1)
    assert mean_absolute_error(seen) == pytest.approx((2 * norm.cdf(1) - 1) / 2, abs=1e-4)
    assert mean_absolute_error(replace(seen, discriminator=seen.optimal)) == 0


def test_a_course_is_repeatable_and_arrives_where_it_stays_low():
    first, again = (train_line_game(config.GANGame(), 12, 50) for _ in range(2))
    assert first.jsd == again.jsd
    assert first.iterations == [1, 2, 4, 6, 8, 10, 12]
    assert first.samples_used[-1] == 12 * 150
    assert History(jsd=[0.5, 0.001, 0.02, 0.004]).converged_at == 3
    assert History(jsd=[0.5, 0.1]).converged_at is None
    assert History(iterations=[1, 2, 12], error=[1.0, 0.0, 0.0]).mean_error == pytest.approx(
        0.5 / 11
    )


def digits():
    spec = config.Data(source="digits", batch_size=100)
    opened = open_data(spec)
    return spec, opened, split_digits(opened.dataset, opened.normalizer)


def test_digits_are_shared_out_without_overlap():
    images = np.arange(2400, dtype=np.uint16).view(np.uint8).reshape(2400, 1, 1, 2)
    splits = Dataset("some", ArraySplit(images[:1500]), ArraySplit(images[1500:2000]), None)
    splits = replace(splits, test=ArraySplit(images[2000:]))
    found = split_digits(splits, UnitNormalizer())
    sizes = len(found.train), len(found.held_out), len(found.rest)
    assert sizes == (1000, 700, 700)
    pixels = torch.cat(
        (UnitNormalizer().to_model(torch.from_numpy(found.train.images)), found.held_out)
    )
    rows = {tuple(row) for row in torch.cat((pixels, found.rest)).flatten(1).tolist()}
    assert len(rows) == 2400
    assert np.array_equal(found.train.images, images[:1000])


def test_a_generator_at_its_goal_gives_the_images_evenly():
    images = torch.arange(4.0).view(4, 1, 1, 1)
    generator = ImageGenerator(images)
    z = generator.latent(8000, RNG(0))
    counts = torch.bincount(generator(z).flatten().long())
    assert len(counts) == 4
    assert (counts - 2000).abs().max() < 5 * math.sqrt(2000)


def test_completion_trains_d_alone_and_overfits():
    """More than any D can have on its own digits, less on held-out ones: V = -log 4 at most."""
    spec, opened, parts = digits()
    bare = replace(QUICK.discriminator, dropout_input=0.0, dropout_hidden=0.0, init_range=0.05)
    table = make_state(replace(QUICK.stage, discriminator=bare), spec, opened)
    table = replace(table, players={**table.players, "generator": ImageGenerator(parts.rest)})
    inner = train_to_completion(table, parts, 250)
    assert inner.updates[0] == 0
    assert inner.updates[-1] == 250
    assert inner.values["V train"][0] == pytest.approx(-math.log(4), abs=0.01)
    assert inner.final("V train") > -math.log(4) + 0.2
    assert inner.final("V held_out") < -math.log(4)
    assert table.progress.step == 0


class Sure(nn.Module):
    """Logits that are the mean pixel times one weight, and a sureness."""

    def __init__(self, logit):
        super().__init__()
        self.logit = logit

    def forward(self, x, rng=None):
        return x.flatten(1).mean(1) + self.logit


def test_gradients_of_g_are_those_of_the_formulas():
    """-D(G(z)) and D(G(z)) - 1 in a logit, through G(z) = b."""

    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(1))

        def forward(self, z, rng=None):
            return self.bias.expand(len(z))[:, None, None, None]

    spec, opened, _ = digits()
    table = make_state(QUICK.stage, spec, opened)
    table = replace(table, players={"discriminator": Sure(-3.0), "generator": Constant()})
    some = torch.zeros(5, 1, 1, 1)
    found = measure(table, some, some, torch.zeros(5, 1))
    d = 1 / (1 + math.exp(3))
    assert found["minimax"] == pytest.approx(d, rel=1e-5)
    assert found["non-saturating"] == pytest.approx(1 - d, rel=1e-5)
    assert found["fake"] == pytest.approx(d, rel=1e-5)
