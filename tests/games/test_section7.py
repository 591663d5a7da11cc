"""The extensions of section 7, each where the right answer is known in closed form."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from advnets import config
from advnets.data.partly import few_labelled
from advnets.errors import AdvnetsError, DataError, UsageError
from advnets.experiment import build
from advnets.experiment.completed import _nearest
from advnets.experiment.train import train
from advnets.experiment.trained import load
from advnets.games.augment import augmented
from advnets.games.completion import CompletionNets, masks
from advnets.games.conditional import ConditionalNets
from advnets.games.elbo import ElboNets, bound
from advnets.games.encoding import EncodingNets
from advnets.games.inference import InferenceNets
from advnets.games.semi import SemiSupervisedNets
from advnets.nets.completing import Completer
from advnets.nets.encoder import MLPEncoder
from advnets.nets.mlp import MLPDiscriminator, MLPGenerator
from advnets.nets.prior import Prior
from advnets.nets.semi import SemiSupervisedConvDiscriminator, SemiSupervisedDiscriminator
from advnets.nets.told import ToldDiscriminator, ToldGenerator
from advnets.noise import Noise
from advnets.objectives import mutual_information
from advnets.training.algorithm import Table, play_round
from advnets.training.ema import WeightAverage
from advnets.training.movers import mover
from advnets.types import Batch

W = torch.tensor([1.2, -0.5])
"""x = W z, or z W: the linear map of every model here."""
NUMBERS = config.MLPDiscriminator(units=(64, 64))
NOISE = Noise(11)


@dataclass
class Drawn:
    """An endless row of batches, each drawn by its index."""

    draw: Any

    def at(self, index):
        return self.draw(Noise(7, step=index))

    def epoch_at(self, index):
        return 0.0


class Linear(nn.Module):
    """G(z) = W z + b, without a bend: what it samples is normal."""

    def __init__(self, latent_dim, numbers):
        super().__init__()
        self.latent_dim = latent_dim
        self.map = nn.Linear(latent_dim, numbers)

    def latent(self, n, noise):
        return noise.normal("latent", n, self.latent_dim)

    def forward(self, z, noise=None):
        return self.map(z)[:, None, None]


@pytest.fixture
def settled():
    """Plays a game, and gives the weights' average over the last third of it."""

    def settle(game, players, draw, *, rounds, lr=3e-3, beta1=0.0):
        spec = config.Adam(lr=lr, beta1=beta1, beta2=0.99)
        torch.manual_seed(0)
        table = Table(
            game=game,
            players=players,
            movers={name: mover(spec, net.parameters()) for name, net in players.items()},
            batches=Drawn(draw),
            noise=Noise(3),
        )
        averages = None
        for n in range(rounds):
            play_round(table)
            if n == rounds * 2 // 3:
                averages = {
                    name: WeightAverage(net, rounds // 12, 1) for name, net in players.items()
                }
            for name, average in (averages or {}).items():
                average.update(players[name], n + 1)
        return {name: average.module for name, average in averages.items()}

    return settle


def plane(x):
    """Rows of numbers as the pictures that games are played on."""
    return Batch(x[:, None, None])


def small_d(numbers):
    return MLPDiscriminator((1, 1, numbers), NUMBERS)


def encoder(numbers, latent_dim, **options):
    torch.manual_seed(1)
    return MLPEncoder(
        (1, 1, numbers), config.MLPEncoder(hidden=(32,), activation="tanh", **options), latent_dim
    )


def test_conditional_normals(settled):
    """p(x | y) = N(m_y, 1/4): each class gets its own mean and the deviation that all share."""
    means = torch.tensor([-2.0, 0.5, 2.0])

    def draw(noise):
        labels = torch.arange(96) % 3
        x = means[labels] + 0.5 * noise.normal("x", 96)
        return Batch(x.reshape(-1, 1, 1, 1), labels)

    torch.manual_seed(0)
    players = {
        "generator": ToldGenerator(Linear(4, 1), Prior("normal", 1), 3),
        "discriminator": ToldDiscriminator(small_d(4), 3),
    }
    game = ConditionalNets(config.ConditionalGame(relativistic=True, r1=0.2, r2=0.2))
    g = settled(game, players, draw, rounds=1200)["generator"]
    labels = torch.arange(3000) % 3
    x = g(g.latent(3000, NOISE, labels)).flatten()
    for y, mean in enumerate(means):
        assert x[labels == y].mean().item() == pytest.approx(mean.item(), abs=0.15)
        assert x[labels == y].std().item() == pytest.approx(0.5, abs=0.15)


def posterior_of(w, x):
    """Of z given x = w · z, z ~ N(0, I): its mean, and the variance of each of its numbers."""
    return x * w / w.square().sum(), 1 - w.square() / w.square().sum()


def test_an_encoder_learned_afterwards_is_the_posterior(settled):
    """G is fixed, x = w · z: E's means and variances are those of p(z | x)."""
    g = Linear(2, 1)
    with torch.no_grad():
        g.map.weight.copy_(W[None])
        g.map.bias.zero_()
    before = g.map.weight.clone()
    players = {"generator": g, "encoder": encoder(1, 2)}
    game = EncodingNets(config.EncodingGame())
    e = settled(game, players, lambda n: plane(torch.zeros(200, 1)), rounds=1500, beta1=0.9)
    assert torch.equal(g.map.weight, before)
    x = torch.tensor([-1.0, 0.0, 1.5])[:, None]
    found = e["encoder"](plane(x).pictures)
    mean, variance = posterior_of(W, x)
    torch.testing.assert_close(found.mean, mean, atol=0.08, rtol=0)
    torch.testing.assert_close(found.log_variance.exp(), variance.expand(3, 2), atol=0.08, rtol=0)


def test_adversarially_learned_inference_is_the_posterior(settled):
    """x ~ N(0, ‖w‖²): G comes to make it, and E to be the posterior of the w that G has found."""
    deviation = W.norm()
    players = {
        "generator": Linear(2, 1),
        "encoder": encoder(1, 2),
        "discriminator": small_d(3),
    }

    def draw(noise):
        return plane(deviation * noise.normal("x", 200, 1))

    found = settled(InferenceNets(config.InferenceGame()), players, draw, rounds=3000, lr=1e-3)
    w = found["generator"].map.weight[0].detach()
    assert w.norm().item() == pytest.approx(deviation.item(), abs=0.2)
    x = torch.tensor([-1.0, 0.0, 1.0])[:, None]
    q = found["encoder"](plane(x).pictures)
    mean, variance = posterior_of(w, x)
    torch.testing.assert_close(q.mean, mean, atol=0.25, rtol=0)
    torch.testing.assert_close(q.log_variance.exp(), variance.expand(3, 2), atol=0.25, rtol=0)


def test_completions_of_a_correlated_normal(settled):
    """Correlation .8: x_2 given x_1 is N(.8 x_1, .36), and x_1 given x_2 alike, by one G."""
    rho = 0.8

    def draw(noise):
        x = noise.normal("x", 200, 2)
        x = torch.stack((x[:, 0], rho * x[:, 0] + (1 - rho**2) ** 0.5 * x[:, 1]), 1)
        return plane(x)

    torch.manual_seed(0)
    shape = (1, 1, 2)
    # A bend, as without one the same share of z would be in all of them.
    inner = config.MLPGenerator(
        2 + 4, "normal", (64,), ("tanh",), "linear", init_range=0.4, output_bias=0.0
    )
    players = {
        "generator": Completer(MLPGenerator(shape, inner), shape, Prior("normal", 2)),
        "discriminator": small_d(4),
    }
    spec = config.CompletionGame(masks=("halves",), relativistic=True, r1=0.1, r2=0.1)
    g = settled(CompletionNets(spec), players, draw, rounds=1500)["generator"]
    n = 4000
    for hidden in (0, 1):
        known = torch.ones(n, 1, 1, 2)
        known[..., hidden] = 0
        given = torch.linspace(-1.5, 1.5, n)
        whole = torch.zeros(n, 1, 1, 2)
        whole[..., 1 - hidden] = given[:, None, None]
        drawn = g(g.given(g.own_latent(n, NOISE), whole, known)).detach()
        assert torch.equal(drawn[..., 1 - hidden], whole[..., 1 - hidden])  # what is known stays
        x = drawn[:, 0, 0, hidden]
        slope = (x * given).mean() / given.square().mean()
        assert slope.item() == pytest.approx(rho, abs=0.15)
        assert (x - slope * given).std().item() == pytest.approx((1 - rho**2) ** 0.5, abs=0.15)


def test_the_elbo_of_a_linear_normal_model_is_its_likelihood(settled):
    """x = w z + σ ε: G finds w, q(z | x) is the posterior, and the bound is log p(x) itself."""
    sigma, w = 0.5, W

    def draw(noise):
        return plane(noise.normal("z", 200, 1) * w + sigma * noise.normal("e", 200, 2))

    players = {"generator": Linear(1, 2), "encoder": encoder(2, 1)}
    spec = config.ElboGame(likelihood="normal", deviation=sigma)
    found = settled(ElboNets(spec), players, draw, rounds=1200, beta1=0.9)
    mine = found["generator"].map.weight[:, 0].detach()
    mine = mine * torch.sign(mine @ w)
    torch.testing.assert_close(mine, w, atol=0.1, rtol=0)
    x = draw(NOISE).pictures
    told, divergence = bound(spec, found, x.repeat(50, 1, 1, 1), NOISE)
    covariance = torch.outer(w, w) + sigma**2 * torch.eye(2)
    exact = torch.distributions.MultivariateNormal(torch.zeros(2), covariance)
    elbo = (told - divergence).mean().item()
    likelihood = exact.log_prob(x.flatten(1)).mean().item()
    assert likelihood - 0.05 < elbo < likelihood + 0.03
    q = found["encoder"](x)
    variance = sigma**2 / (w.square().sum() + sigma**2)
    torch.testing.assert_close(q.log_variance.exp().mean(), variance, atol=0.05, rtol=0)


def test_d_of_classes_finds_the_classes_and_the_ratio_of_densities(settled):
    """p(y | x) of two normals, and a(x) = log p(x) / p_g(x), for a G that stays as it is."""
    g, apart, sigma = Linear(1, 1), 1.0, 0.7
    with torch.no_grad():
        g.map.weight.fill_(1.5)
        g.map.bias.zero_()

    def draw(noise):
        labels = torch.arange(200) % 2
        x = apart * (2.0 * labels - 1) + sigma * noise.normal("x", 200)
        few = apart * (2.0 * labels - 1) + sigma * noise.normal("labelled", 200)
        told = Batch(few.reshape(-1, 1, 1, 1), labels)
        return Batch(x.reshape(-1, 1, 1, 1), beside=told)

    class DAlone(SemiSupervisedNets):
        def phases(self):
            return super().phases()[:1]

    torch.manual_seed(2)
    spec = config.SemiSupervisedDiscriminator(units=(32, 32), noise_input=0.0, noise_hidden=0.0)
    d = SemiSupervisedDiscriminator((1, 1, 1), spec, 2)
    game = DAlone(config.SemiSupervisedGame())
    d = settled(game, {"generator": g, "discriminator": d}, draw, rounds=1500)["discriminator"]
    x = torch.tensor([-1.5, -0.5, 0.0, 0.5, 1.5])
    shown = x.reshape(-1, 1, 1, 1)
    normal = torch.distributions.Normal
    of_class = [normal(m, sigma).log_prob(x).exp() for m in (-apart, apart)]
    told = d.class_logits(d.hidden(shown)).softmax(1)[:, 1]
    torch.testing.assert_close(told, of_class[1] / sum(of_class), atol=0.06, rtol=0)
    ratio = (sum(of_class) / 2).log() - normal(0.0, 1.5).log_prob(x)
    torch.testing.assert_close(d(shown), ratio, atol=0.25, rtol=0)


def test_d_is_asked_for_the_same_class_through_augmentations():
    """The game's loss is that without consistency, less the weighted information of the classes."""

    class Square(Linear):
        def forward(self, z, noise=None):
            return self.map(z).reshape(-1, 1, 8, 8)

    x = NOISE.uniform("x", 12, 1, 8, 8)
    batch = Batch(x, beside=Batch(x[:6].repeat(2, 1, 1, 1), torch.arange(12) % 3))
    torch.manual_seed(0)
    spec = config.SemiSupervisedConvDiscriminator((8, 8), strides=(2, 2), norm="weight")
    players = {
        "generator": Square(4, 64),
        "discriminator": SemiSupervisedConvDiscriminator((1, 8, 8), spec, 3),
    }

    def outcome(**options):
        game = SemiSupervisedNets(config.SemiSupervisedGame(**options))
        return game.discriminator(players, batch, NOISE)

    shown = {"augmentations": ("translate", "affine")}
    unseen, seen, found = outcome(), outcome(**shown), outcome(**shown, consistency=2.0)
    unseen, seen, both = (some.losses["discriminator"] for some in (unseen, seen, found))
    assert not torch.isclose(unseen, seen)
    torch.testing.assert_close(both, seen - 2.0 * found.observed["information"])
    d = players["discriminator"]
    views = augmented(x, shown["augmentations"], torch.ones(()), NOISE.stacked("real"))
    classes = (d.class_logits(d.hidden(some)) for some in (views, x))
    torch.testing.assert_close(found.observed["information"], mutual_information(*classes))
    with pytest.raises(UsageError, match=r"say --game\.augmentations translate affine"):
        config.SemiSupervisedGame(consistency=1.0)
    with pytest.raises(UsageError, match="2 widths and 1 strides came"):
        config.SemiSupervisedConvDiscriminator(widths=(8, 8), strides=(2,))


def test_maps_are_normed_by_their_batch_or_made_by_normed_weights():
    """As PyTorch's own operations give it, written out."""
    x = NOISE.uniform("x", 6, 1, 8, 8)
    torch.manual_seed(0)
    for norm in ("batch", "weight"):
        spec = config.SemiSupervisedConvDiscriminator((4, 5), strides=(2, 1), norm=norm)
        d, h = SemiSupervisedConvDiscriminator((1, 8, 8), spec, 3), x
        for layer, stride, around in zip(d.layers, (2, 1), (2, 1), strict=True):
            if norm == "batch":
                conv, scale = layer
                h = F.conv2d(h, conv.weight, None, stride, around)
                h = F.batch_norm(h, None, None, scale.weight, scale.bias, training=True)
            else:
                length = layer.direction.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
                weight = layer.gain.reshape(-1, 1, 1, 1) * layer.direction / length
                h = F.conv2d(h, weight, layer.bias, stride, around)
            h = F.leaky_relu(h, 0.2)
        torch.testing.assert_close(d.hidden(x), h.flatten(1))


def test_at_once_or_in_turn_the_losses_are_the_same():
    """Before anybody has moved, one pass of D gives both players what two passes give them."""
    x = NOISE.uniform("x", 12, 1, 1, 6)
    batch = Batch(x, beside=Batch(x[:4], torch.arange(4) % 3))
    spec = config.SemiSupervisedDiscriminator(units=(8, 8))
    players = {
        "generator": Linear(4, 6),
        "discriminator": SemiSupervisedDiscriminator((1, 1, 6), spec, 3),
    }
    game = SemiSupervisedNets(config.SemiSupervisedGame(updates="simultaneous"))
    (phase,) = game.phases()
    both = phase.losses(players, batch, NOISE)
    in_turn = game.discriminator(players, batch, NOISE), game.generator(players, batch, NOISE)
    for player, outcome in zip(("discriminator", "generator"), in_turn, strict=True):
        torch.testing.assert_close(both.losses[player], outcome.losses[player])
    of_g = torch.autograd.grad(both.losses["generator"], players["generator"].map.weight)[0]
    alone = torch.autograd.grad(in_turn[1].losses["generator"], players["generator"].map.weight)[0]
    torch.testing.assert_close(of_g, alone)


def run_of(tiny, game, **stage):
    """The tiny run on 8x8 digits, playing another game."""
    return replace(tiny, stages=(replace(tiny.stage, game=game, **stage),))


SEMI = {"discriminator": config.SemiSupervisedDiscriminator(units=(32,)), "steps": 30}


def test_no_label_is_read_but_the_few(tiny):
    run = run_of(tiny, config.SemiSupervisedGame(labels=20, label_seed=5), **SEMI)
    data = build.open_data(run.data)
    table = build.table(run, data, 0, torch.device("cpu"))
    few = few_labelled(data.splits.train, 20, 5)
    assert few.labels.tolist() == sorted([*range(10)] * 2)
    told = {row.tobytes(): label for row, label in zip(few.images, few.labels, strict=True)}
    for index in range(40):
        batch = table.batches.at(index)
        assert batch.labels is None
        for row, label in zip(batch.beside.pictures, batch.beside.labels, strict=True):
            pixels = (row * few.white).round().numpy().astype(few.images.dtype)
            assert told[pixels.tobytes()] == label
    other = few_labelled(data.splits.train, 20, 6)
    assert not np.array_equal(other.images, few.images)


def test_labelled_pictures_come_in_batches_of_their_own_size(tiny):
    run = run_of(tiny, config.SemiSupervisedGame(labels=20, labelled_batch=7), **SEMI)
    table = build.table(run, build.open_data(run.data), 0, torch.device("cpu"))
    for index in range(3):
        batch = table.batches.at(index)
        assert len(batch.pictures) == run.data.batch_size
        assert len(batch.beside.pictures) == len(batch.beside.labels) == 7


@pytest.mark.parametrize("unlabelled", [False, True])
def test_the_error_of_d_on_test_pictures(tiny, tmp_path, quiet, unlabelled):
    game = config.SemiSupervisedGame(labels=20, unlabelled=unlabelled)
    train(run_of(tiny, game, **SEMI), tmp_path / "run", quiet)
    trained = load(tmp_path / "run")
    (record,) = trained.evaluate(("test-error",))
    test = build.open_data(trained.config.data).splits.test
    d = trained.discriminator
    shown = torch.from_numpy(test.images).float() / test.white
    wrong = d.class_logits(d.hidden(shown)).argmax(1) != torch.from_numpy(test.labels)
    assert record["error"] == pytest.approx(wrong.double().mean().item())
    assert record["wrong"] == wrong.sum()
    assert record["weights"] == "average"


def test_masks_hide_what_they_say():
    known = {kind: masks((kind,), 400, 12, 16, NOISE) for kind in ("pixels", "boxes", "halves")}
    assert all(set(some.unique().tolist()) <= {0.0, 1.0} for some in known.values())
    assert masks(("all",), 3, 12, 16, NOISE).sum() == 0
    halves = known["halves"].flatten(1).mean(1)
    assert halves.unique().tolist() == [0.5]
    assert len(known["halves"].flatten(1).unique(dim=0)) == 4
    shares = known["pixels"].flatten(1).mean(1)
    assert shares.min() < 0.1 < 0.9 < shares.max()
    for mask in known["boxes"][:50, 0]:
        hidden = mask == 0
        rows, columns = hidden.any(1), hidden.any(0)
        assert hidden.sum() == rows.sum() * columns.sum() > 0  # one whole box
        assert 3 <= rows.sum() <= 9
        assert 4 <= columns.sum() <= 12


def test_d_of_a_completion_sees_the_masks_that_g_was_given():
    seen = {}

    class G(Completer):
        def given(self, z, pictures, known):
            seen["g"] = known
            return super().given(z, pictures, known)

    class D(MLPDiscriminator):
        def forward(self, x, noise=None):
            seen["d"] = x[:, 1:]
            return super().forward(x, noise)

    players = {
        "generator": G(Linear(2 + 4, 2), (1, 1, 2), Prior("normal", 2)),
        "discriminator": D((1, 1, 4), NUMBERS),
    }

    class Shaped(Linear):
        def forward(self, z, noise=None):
            return self.map(z).reshape(-1, 1, 1, 2)

    players["generator"].inner = Shaped(6, 2)
    batch = Batch(NOISE.normal("x", 40, 1, 1, 2))
    for phase in CompletionNets(config.CompletionGame()).phases():
        phase.losses(players, batch, NOISE)
        assert torch.equal(seen["d"][-40:], seen["g"])


def test_what_cannot_be_played_is_said():
    with pytest.raises(UsageError, match="masks is empty; give at least one of pixels"):
        config.CompletionGame(masks=())
    with pytest.raises(UsageError, match="fakes are shared in a completion game"):
        config.CompletionGame(fakes="shared")
    with pytest.raises(UsageError, match="deviation is 0"):
        config.ElboGame(deviation=0.0)
    players = {
        "discriminator": SemiSupervisedDiscriminator(
            (1, 1, 2), config.SemiSupervisedDiscriminator(units=(4,)), 2
        ),
        "generator": MLPGenerator(
            (1, 1, 2), config.MLPGenerator(2, hidden=(), activations=(), output_bias=0.0)
        ),
    }
    for unlabelled in (True, False):
        nets = SemiSupervisedNets(config.SemiSupervisedGame(unlabelled=unlabelled))
        with pytest.raises(DataError, match="a batch without labelled pictures beside it"):
            nets.discriminator(players, Batch(torch.zeros(2, 1, 1, 2)), NOISE)


EXTENSIONS = {
    "conditional": (config.ConditionalGame(), {}),
    "inference": (
        config.InferenceGame(config.MLPEncoder(hidden=(16,), batch_norm=True)),
        {"discriminator": config.MLPDiscriminator(units=(16,))},
    ),
    "completion": (config.CompletionGame(), {}),
    "semi": (config.SemiSupervisedGame(labels=20), SEMI),
    **{
        f"semi, convolutional, {norm} norm": (
            config.SemiSupervisedGame(labels=20, augmentations=("affine",), consistency=1.0),
            {
                "discriminator": config.SemiSupervisedConvDiscriminator((8, 8), (2, 2), norm),
                "generator": config.MLPGenerator(8, hidden=(16,), activations=("relu",)),
            },
        )
        for norm in ("batch", "weight")
    },
    "elbo": (
        config.ElboGame(config.MLPEncoder(hidden=(16,))),
        {
            "discriminator": config.NoDiscriminator(),
            "generator": config.MLPGenerator(4, "normal", (16,), ("relu",)),
        },
    ),
}


@pytest.mark.parametrize("name", EXTENSIONS)
def test_it_resumes_to_the_bit(name, tiny, tmp_path, quiet):
    game, stage = EXTENSIONS[name]
    run = run_of(tiny, game, **{**stage, "steps": 14})
    train(run, tmp_path / "whole", quiet)
    train(run_of(tiny, game, **{**stage, "steps": 7}), tmp_path / "cut", quiet)
    train(run, tmp_path / "cut", quiet, resume=True)
    for whole, cut in zip(
        *(sorted((tmp_path / run / "checkpoints").glob("*14*")) for run in ("whole", "cut")),
        strict=True,
    ):
        assert whole.read_bytes() == cut.read_bytes()


def test_what_is_inferred_is_scored(tiny, tmp_path, quiet):
    game, stage = EXTENSIONS["inference"]
    train(run_of(tiny, game, **{**stage, "steps": 20}), tmp_path / "run", quiet)
    trained = load(tmp_path / "run")
    found = {r["samples"]: r for r in trained.evaluate(("reconstruction",))}
    splits = build.open_data(trained.config.data).splits
    shown, known = (
        torch.from_numpy(part.images).float() / part.white for part in (splits.test, splits.train)
    )
    back = trained.pictures(trained.player("encoder")(shown).mean)
    error = (back - shown).square().mean().item()
    assert found["generator"]["error"] == pytest.approx(error, rel=1e-5)
    flat = (shown - known.mean(0)).square().mean().item()
    assert found["mean training picture"]["error"] == pytest.approx(flat, rel=1e-5)
    rows = {(r["samples"], r["labels"]) for r in trained.evaluate(("probe",), labels=(20, 50))}
    assert rows == {(row, n) for row in ("E", "E, never trained", "pixels") for n in (20, 50)}
    with pytest.raises(UsageError, match="labels are 20 -1; give numbers of labels, or 0 for all"):
        trained.evaluate(("probe",), labels=(20, -1))


def test_the_bound_on_test_pictures(tiny, tmp_path, quiet):
    """The bound of many z is at least the ELBO; both are of the record's own pictures."""
    game, stage = EXTENSIONS["elbo"]
    train(run_of(tiny, game, **{**stage, "steps": 60}), tmp_path / "run", quiet)
    (record,) = load(tmp_path / "run").evaluate(("elbo",))
    assert record["elbo"] < record["bound_of_many"] < 0
    assert record["divergence"] >= 0


def test_completions_are_scored(tiny, tmp_path, quiet):
    game, stage = EXTENSIONS["completion"]
    train(run_of(tiny, game, **{**stage, "steps": 20}), tmp_path / "run", quiet)
    trained = load(tmp_path / "run")
    records = trained.evaluate(("completion",))
    kinds = {"upper half", "lower half", "left half", "right half", "box", "pixels"}
    assert {r["hidden"] for r in records} == kinds
    assert all(r["error"] > 0 for r in records)
    drawn = [r for r in records if r["samples"] == "generator"]
    assert all(r["diversity"] > 0 for r in drawn)
    assert trained.sample(3).shape == (3, 1, 8, 8)  # with nothing known it is a plain generator


def test_an_encoder_for_a_run_that_is_trained_already(tiny, tmp_path, quiet):
    train(tiny.with_stage(replace(tiny.stage, steps=5)), tmp_path / "first", quiet)
    game = config.EncodingGame(config.MLPEncoder(hidden=(16,)))
    with pytest.raises(UsageError, match=r"no run was named; say --game\.begin-with RUN"):
        train(run_of(tiny, game, steps=5), tmp_path / "none", quiet)
    game = replace(game, begin_with=str(tmp_path / "first"))
    stage = {"generator": config.MLPGenerator(), "discriminator": config.NoDiscriminator()}
    train(run_of(tiny, game, steps=5, **stage), tmp_path / "after", quiet)
    first, after = load(tmp_path / "first"), load(tmp_path / "after")
    assert torch.equal(first.sample(4), after.sample(4))
    with pytest.raises(UsageError, match="has no discriminator: its game is played by generator"):
        _ = after.discriminator


@pytest.mark.parametrize(
    ("game", "stage", "said"),
    [
        (EXTENSIONS["elbo"][0], {}, "say --generator.prior normal"),
        (
            replace(EXTENSIONS["elbo"][0], encoder=config.MLPEncoder(deterministic=True)),
            EXTENSIONS["elbo"][1],
            "a deterministic encoder came to the ELBO",
        ),
        (
            EXTENSIONS["inference"][0],
            {"discriminator": config.DCGANDiscriminator()},
            "a convolutional D came to an inference game",
        ),
        (
            EXTENSIONS["completion"][0],
            {"generator": config.DCGANGenerator()},
            "a convolutional G came to a completion game",
        ),
        (EXTENSIONS["semi"][0], {}, "MaxoutDiscriminator came to a semi-supervised game"),
        (config.SemiSupervisedGame(labels=25), SEMI, "ask for 30"),
        (config.SemiSupervisedGame(labels=9000), SEMI, "900 labelled pictures of each class"),
        (config.Game(), {"discriminator": config.NoDiscriminator()}, "was given NoDiscriminator"),
    ],
)
def test_nets_and_labels_that_a_game_cannot_have(game, stage, said, tiny, tmp_path, quiet):
    with pytest.raises(AdvnetsError, match=said):
        train(run_of(tiny, game, **stage), tmp_path / "run", quiet)


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("classes", "give a conditional run"),
        ("test-error", "give a semi-supervised run"),
        ("reconstruction", "give a run of inference-mnist"),
        ("completion", "give a run of completion-mnist"),
        ("elbo", "give a run of vae-mnist"),
    ],
)
def test_scores_that_a_run_cannot_have(metric, said, tiny, tmp_path, quiet):
    train(tiny.with_stage(replace(tiny.stage, steps=1)), tmp_path / "run", quiet)
    with pytest.raises(UsageError, match=said):
        load(tmp_path / "run").evaluate((metric,))


def test_the_nearest_picture_is_nearest_in_what_is_known():
    """Each picture has a mask of its own; by hand, picture by picture."""
    test, train = NOISE.uniform("tests", 40, 1, 6, 6), NOISE.uniform("train", 200, 1, 6, 6)
    known = NOISE.keep_mask("known", 40, 1, 6, 6, keep=0.5)
    apart = ((test[:, None] - train[None]) * known[:, None]).square().flatten(2).sum(2)
    assert torch.equal(_nearest(test, known, train), train[apart.argmin(1)])
