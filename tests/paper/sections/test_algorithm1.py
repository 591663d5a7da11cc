"""Tests of the update schemes in one dimension, both update orders, and D trained to completion."""

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
from advnets.paper.sections import algorithm1
from advnets.paper.sections.algorithm1 import (
    ALTERNATING,
    GAMES,
    GRID,
    SIMULTANEOUS,
    UPDATE_ORDERS,
    History,
    OrderHistory,
    Size,
    generator_gradient,
    iteration_cost,
    make_size,
    mean_absolute_error,
    train_game,
    train_line_game,
)
from advnets.paper.studies.inner_loop import (
    QUICK,
    ImageGenerator,
    measure,
    split_digits,
    train_to_completion,
)
from advnets.paper.toy import STAGE, Snapshot, make_line_game, make_state
from advnets.rng import RNG
from advnets.training.step import train_step


def test_iteration_cost_counts_the_points_of_its_updates():
    """Alternating: k (m data + m z) + m z points; simultaneous: m data + m z."""
    costs = {}
    for name, game in GAMES.items():
        state = make_line_game(
            "gaussian:n=1000", GRID, replace(STAGE, game=game), batch_size=10
        ).state
        costs[name] = iteration_cost(state, 10)
        train_step(state)
        assert sum(state.progress.updates.values()) == costs[name][1]
    assert costs == {"k = 1": (30, 2), "k = 2": (50, 3), "k = 5": (110, 6), "simultaneous": (20, 2)}


def test_mean_absolute_error_is_the_integral():
    """E|1/2 - D*| of N(0, 1) and N(2, 1) is half their total variation."""
    x = GRID.centers
    p, q = norm(0, 1).pdf(x), norm(2, 1).pdf(x)
    snapshot = Snapshot(GRID, p, q, np.full_like(x, 0.5), ())
    # E|1/2 - D*| = ∫ |p - q| / 4, and ∫ |p - q| = 2 (2 Φ(1) - 1)
    assert mean_absolute_error(snapshot) == pytest.approx((2 * norm.cdf(1) - 1) / 2, abs=1e-4)
    assert mean_absolute_error(replace(snapshot, discriminator=snapshot.optimal)) == 0


def test_training_is_reproducible_and_converges_where_jsd_stays_low():
    first, repeated = (train_line_game(config.GANGame(), 12, 50) for _ in range(2))
    assert first.jsd == repeated.jsd
    assert first.iterations == [1, 2, 4, 6, 8, 10, 12]
    assert first.samples_used[-1] == 12 * 150
    assert History(jsd=[0.5, 0.001, 0.02, 0.004]).converged_at == 3
    assert History(jsd=[0.5, 0.1]).converged_at is None
    assert History(iterations=[1, 2, 12], error=[1.0, 0.0, 0.0]).mean_error == pytest.approx(
        0.5 / 11
    )


def digits():
    data = config.Data(source="digits", batch_size=100)
    prepared = open_data(data)
    return data, prepared, split_digits(prepared.dataset, prepared.normalizer)


def test_digits_are_split_without_overlap():
    images = np.arange(2400, dtype=np.uint16).view(np.uint8).reshape(2400, 1, 1, 2)
    splits = Dataset("some", ArraySplit(images[:1500]), ArraySplit(images[1500:2000]), None)
    splits = replace(splits, test=ArraySplit(images[2000:]))
    result = split_digits(splits, UnitNormalizer())
    sizes = len(result.train), len(result.held_out), len(result.rest)
    assert sizes == (1000, 700, 700)
    pixels = torch.cat(
        (UnitNormalizer().to_model(torch.from_numpy(result.train.images)), result.held_out)
    )
    rows = {tuple(row) for row in torch.cat((pixels, result.rest)).flatten(1).tolist()}
    assert len(rows) == 2400
    assert np.array_equal(result.train.images, images[:1000])


def test_image_generator_returns_its_images_uniformly():
    images = torch.arange(4.0).view(4, 1, 1, 1)
    generator = ImageGenerator(images)
    z = generator.latent(8000, RNG(0))
    counts = torch.bincount(generator(z).flatten().long())
    assert len(counts) == 4
    assert (counts - 2000).abs().max() < 5 * math.sqrt(2000)


def test_completion_updates_only_d_which_overfits():
    """V exceeds -log 4, the maximum on new data, on training digits only."""
    data, prepared, splits_ = digits()
    no_dropout = replace(
        QUICK.discriminator, dropout_input=0.0, dropout_hidden=0.0, init_range=0.05
    )
    state = make_state(replace(QUICK.stage, discriminator=no_dropout), data, prepared)
    state = replace(state, players={**state.players, "generator": ImageGenerator(splits_.rest)})
    history = train_to_completion(state, splits_, 250)
    assert history.updates[0] == 0
    assert history.updates[-1] == 250
    assert history.values["V train"][0] == pytest.approx(-math.log(4), abs=0.01)
    assert history.final("V train") > -math.log(4) + 0.2
    assert history.final("V held_out") < -math.log(4)
    assert state.progress.step == 0


class MeanPixel(nn.Module):
    """Logits that are the mean pixel times one weight, and a sureness."""

    def __init__(self, logit):
        super().__init__()
        self.logit = logit

    def forward(self, x, rng=None):
        return x.flatten(1).mean(1) + self.logit


def test_gradients_of_g_match_the_formulas():
    """The derivatives are -D(G(z)) and D(G(z)) - 1 in a logit, through G(z) = b."""

    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(1))

        def forward(self, z, rng=None):
            return self.bias.expand(len(z))[:, None, None, None]

    data, prepared, _ = digits()
    state = make_state(QUICK.stage, data, prepared)
    state = replace(state, players={"discriminator": MeanPixel(-3.0), "generator": Constant()})
    zeros = torch.zeros(5, 1, 1, 1)
    result = measure(state, zeros, zeros, torch.zeros(5, 1))
    d = 1 / (1 + math.exp(3))
    assert result["minimax"] == pytest.approx(d, rel=1e-5)
    assert result["non-saturating"] == pytest.approx(1 - d, rel=1e-5)
    assert result["fake"] == pytest.approx(d, rel=1e-5)


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
    for name in ("diversity", "saturated", "D(G(z)) after"):
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
