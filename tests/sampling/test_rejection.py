"""Discriminator rejection sampling keeps the samples that D scores highest."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from advnets import config
from advnets.data.class_proportions import ClassProportions
from advnets.data.normalization import IdentityNormalizer, UnitNormalizer
from advnets.errors import UsageError
from advnets.experiment.players import build_players
from advnets.experiment.train import train
from advnets.experiment.trained_model import load
from advnets.models.layers import append_class
from advnets.report.score_text import score_lines
from advnets.rng import RNG
from advnets.sampling.rejection import (
    DiscriminatorRejection,
    rejection_logits,
    sample_with_rejection,
    select_best,
)
from advnets.sampling.sampler import ComputeSettings

HERE = ComputeSettings(torch.device("cpu"))


class Identity(nn.Module):
    """G(z) = z, one number uniform in [0, 1); if conditional, the class is appended."""

    def __init__(self, classes=0):
        super().__init__()
        self.latent_dim, self.classes = 1 + classes, classes

    def latent(self, n, rng, labels=None):
        return append_class(rng.uniform("z", n, 1), self.classes, rng, labels)

    def forward(self, z, rng=None):
        return z[:, :, None, None]


class Taste(nn.Module):
    """a(x) increases with the number, and decreases for class 1."""

    def forward(self, x, rng=None, labels=None):
        number = x[:, 0, 0, 0]
        return number if labels is None else torch.where(labels == 1, -number, number)


def sample_rejected(n, keep, *, seed=0, classes=0, labels=None):
    game = config.ConditionalGame() if classes else config.GANGame()
    rejection = DiscriminatorRejection(keep, game, Taste(), classes)
    return sample_with_rejection(
        Identity(classes), IdentityNormalizer(), n, seed, HERE, rejection, labels
    )


def test_the_accepted_samples_are_the_upper_fraction():
    """A quarter of uniform numbers, selected by size: uniform in [3/4, 1]."""
    x = sample_rejected(5000, 0.25).flatten()
    assert x.min().item() == pytest.approx(0.75, abs=0.08)  # a quantile of each 500
    assert x.mean().item() == pytest.approx(0.875, abs=0.005)


def test_accepted_samples_keep_their_order_and_do_not_depend_on_n():
    everything, accepted = sample_rejected(500, 1.0).flatten(), sample_rejected(300, 0.6).flatten()
    places = [int((everything == x).nonzero()[0]) for x in accepted]
    assert places == sorted(places)
    assert set(accepted.tolist()) == set(everything.sort().values[200:].tolist())
    assert torch.equal(sample_rejected(700, 0.6)[:100], sample_rejected(100, 0.6))
    assert not torch.equal(sample_rejected(100, 0.6), sample_rejected(100, 0.6, seed=1))


def test_samples_are_selected_within_classes():
    """In class 1 D prefers smaller numbers; each sample has the requested class."""
    labels = torch.tensor([1, 0, 0]).repeat(200)
    x = sample_rejected(600, 0.5, classes=3, labels=labels)
    assert torch.equal(x[:, 1:, 0, 0].argmax(1), labels)
    number = x[:, 0, 0, 0]
    assert number[labels == 1].max().item() < 0.62
    assert number[labels == 0].min().item() > 0.38
    even = ClassProportions.from_counts("uniform", [1] * 3)
    classes = sample_rejected(6000, 0.5, classes=3, labels=even)[:, 1:, 0, 0].argmax(1)
    counts = torch.bincount(classes)
    assert counts.min().item() > 1850  # equally probable, whatever D prefers
    first = sample_rejected(9, 0.5, classes=3, labels=even)
    assert torch.equal(first, sample_rejected(900, 0.5, classes=3, labels=even)[:9])
    uneven = ClassProportions.from_counts("data", [80, 0, 20])
    classes = sample_rejected(6000, 0.5, classes=3, labels=uneven)[:, 1:, 0, 0].argmax(1)
    assert torch.bincount(classes, minlength=3).tolist() == pytest.approx([4800, 0, 1200], abs=120)


@pytest.mark.parametrize(("keep", "share"), [(0.4, 0.4), (0.5, 0.5), (0.003, 0.004)])
def test_the_fraction_is_the_same_in_each_class(keep, share):
    """For alternating classes: the mean of the upper fraction of uniform numbers is 1 - fraction /
    2."""
    rejection = DiscriminatorRejection(keep, config.ConditionalGame(), Taste(), 10)
    assert rejection.effective_fraction == share
    labels = torch.arange(10_000 if keep > 0.1 else 200) % 10
    x = sample_rejected(len(labels), keep, classes=10, labels=labels)[:, 0, 0, 0]
    means = torch.stack([x[labels == number].mean() for number in range(10) if number != 1])
    if keep > 0.1:
        assert means.tolist() == pytest.approx([1 - share / 2] * 9, abs=0.03)


def test_the_best_of_each_class_keep_their_order():
    logits = torch.tensor([0.0, 3.0, 1.0, 2.0, 5.0, 1.0])
    classes = torch.tensor([0, 0, 1, 0, 1, 1])
    assert select_best(logits, classes, torch.tensor([1, 0, 0])).tolist() == [4, 1, 3]
    assert select_best(logits, classes, torch.tensor([0, 1, 1])).tolist() == [
        1,
        2,
        4,
    ]  # the first of equals


@pytest.mark.parametrize("keep_fraction", [0.0, 0.001, 1.5, -1.0])
def test_an_invalid_fraction_is_refused(keep_fraction):
    with pytest.raises(UsageError, match=r"expected 0\.002 to 1"):
        sample_rejected(5, keep_fraction)


GAMES = {
    "conditional": (config.ConditionalGame(), {}),
    "completion": (config.InpaintingGame(), {}),
    "inference": (
        config.ALIGame(config.MLPEncoder(hidden_sizes=(4,))),
        {"discriminator": config.MLPDiscriminator(hidden_sizes=(4,))},
    ),
    "semi": (
        config.SemiSupervisedGame(labels=30),
        {"discriminator": config.SemiSupervisedDiscriminator(hidden_sizes=(4, 4))},
    ),
}


@pytest.mark.parametrize("name", GAMES)
def test_d_of_every_game_scores_samples_one_by_one(name, tiny):
    """A logit for each sample, which depends on this sample alone."""
    game, nets = GAMES[name]
    stage = replace(tiny.stage, game=game, **nets)
    run, shape = tiny.with_stage(stage), (1, 8, 8)
    players = build_players(run, 0, shape, torch.full(shape, 0.5), classes=10)
    g, d = (players[player].eval() for player in ("generator", "discriminator"))
    rejection = DiscriminatorRejection(0.2, game, d, 10 if game.conditional else 0)
    shares = ClassProportions.from_counts("data", [1] * 10) if game.conditional else None
    x = sample_with_rejection(g, UnitNormalizer(16.0), 7, 0, HERE, rejection, shares)
    assert x.shape == (7, *shape)
    z = g.latent(6, RNG(3))
    logits = rejection_logits(game, d, g(z), z, 10)
    separate = torch.cat(
        [rejection_logits(game, d, g(z)[i : i + 1], z[i : i + 1], 10) for i in range(6)]
    )
    assert logits.shape == (6,)
    torch.testing.assert_close(logits, separate, atol=1e-5, rtol=1e-4)


def test_scores_of_selected_samples_have_rows_of_their_own(tiny, tmp_path, console):
    train(tiny, tmp_path / "run", [console])
    trained = load(tmp_path / "run")
    d, samples = trained.discriminator, trained.sample(1000)
    chosen = trained.sample(400, keep_fraction=0.4)
    logits = d(samples).view(2, 500).sort(1, descending=True).values[:, :200]
    torch.testing.assert_close(d(chosen).view(2, 200).sort(1, descending=True).values, logits)
    assert torch.equal(trained.sample(7, keep_fraction=1.0), samples[:7])
    trained.evaluate(("frechet",))
    records = trained.evaluate(("frechet",), keep_fraction=0.4)
    assert [record["keep_fraction"] for record in records] == [0.4, None]
    stored = trained.run.scores()
    assert [(r["samples"], r["keep_fraction"]) for r in stored] == [
        ("generator", None),
        ("generator", 0.4),
        ("real training images", None),
    ]
    assert stored[0]["value"] != stored[1]["value"]
    assert "0.4 kept by D" in score_lines(records)
    page = trained.report().read_text("utf-8")
    assert "generator, EMA weights, the fraction 0.4 with the highest D(x)" in page


@pytest.mark.parametrize("metric", ["probe", "classification-error", "elbo"])
def test_metrics_that_use_no_samples_refuse_a_keep_fraction(metric, tiny, tmp_path, console):
    train(tiny.with_stage(replace(tiny.stage, steps=1)), tmp_path / "run", [console])
    with pytest.raises(UsageError, match=f"the metric {metric} uses no samples"):
        load(tmp_path / "run").evaluate((metric,), keep_fraction=0.5)


def test_games_without_a_discriminator_refuse_a_keep_fraction(tiny, tmp_path, console):
    stage = config.Stage(
        generator=config.MLPGenerator(4, "normal", (8,), ("relu",)),
        discriminator=config.NoDiscriminator(),
        game=config.VAEGame(config.MLPEncoder(hidden_sizes=(8,))),
        steps=1,
    )
    train(tiny.with_stage(stage), tmp_path / "run", [console])
    trained = load(tmp_path / "run")
    with pytest.raises(
        UsageError, match="has no discriminator; the players of its game are generator"
    ):
        trained.sample(3, keep_fraction=0.5)
    assert trained.sample(3).shape == (3, 1, 8, 8)
