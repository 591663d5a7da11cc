"""Noise priors against the distributions that they are to be."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from scipy import stats

from advnets import config
from advnets.errors import UsageError
from advnets.games.gan import GAN
from advnets.losses import reinforce_loss
from advnets.models.factory import build_generator
from advnets.models.layers import Prior, draw_latents
from advnets.models.mlp import MaxoutDiscriminator, MLPGenerator, StackedGenerator
from advnets.protocols import Batch
from advnets.rng import RNG
from advnets.training.step import compute_gradients

NOISE = RNG(seed=1)
SHAPE = (1, 8, 8)
SMALL = config.MLPGenerator(
    latent_dim=5, hidden_sizes=(7,), activations=("relu",), output_bias=0.0, components=3
)


@pytest.mark.parametrize("prior", ["uniform", "normal"])
def test_both_priors_of_2014_have_mean_0_and_variance_1(prior):
    z = draw_latents(prior, 2000, 100, NOISE)
    assert z.shape == (2000, 100)
    assert z.mean().item() == pytest.approx(0, abs=0.01)
    assert z.var().item() == pytest.approx(1, abs=0.02)
    bound = math.sqrt(3) if prior == "uniform" else math.inf
    assert z.abs().max().item() <= bound


def test_the_truncated_normal_is_scipys():
    """Its distribution, its variance as the docstring has it, and nothing beyond the cut."""
    z = draw_latents("truncated-normal", 2000, 50, NOISE).flatten()
    law = stats.truncnorm(-2, 2)
    assert stats.kstest(z.double().numpy(), law.cdf).pvalue > 1e-3
    assert law.var() == pytest.approx(0.774, abs=5e-4)
    assert z.abs().max().item() <= 2


def test_the_ends_of_the_uniform_numbers_are_within_the_cut(monkeypatch):
    """The least and the largest share that a draw can be, after rounding."""

    def ends(self, purpose, rows, *shape, low, high):
        return torch.tensor([[low, high]], dtype=torch.float32)

    monkeypatch.setattr(RNG, "uniform", ends)
    z = draw_latents("truncated-normal", 1, 2, NOISE)
    assert z.abs().max().item() <= 2
    torch.testing.assert_close(z, torch.tensor([[-2.0, 2.0]]), atol=1e-5, rtol=0)


def test_the_sphere_is_even_on_a_sphere():
    """Radius √d, variance 1, and of two numbers the law without a tail: (1 - r² / d)^(d/2 - 1)."""
    d = 32
    z = draw_latents("sphere", 20_000, d, NOISE)
    torch.testing.assert_close(z.norm(dim=1), torch.full((20_000,), math.sqrt(d)))
    assert z.mean().item() == pytest.approx(0, abs=0.01)
    assert z.var().item() == pytest.approx(1, abs=0.01)
    shares = (z[:, :2].square().sum(1) / d).double().numpy()
    assert stats.kstest(shares, stats.beta(1, d / 2 - 1).cdf).pvalue > 1e-3


def test_components_may_be_ellipsoids():
    prior = Prior("mixture", 3, components=1, component_shape="sphere")
    with torch.no_grad():
        prior.means.fill_(5)
        prior.log_stds.copy_(torch.tensor([[0.0, 1.0, -1.0]]))
        scaled = (prior(1000, NOISE) - 5) / prior.log_stds.exp()
    torch.testing.assert_close(scaled.norm(dim=1), torch.full((1000,), math.sqrt(3)))


@pytest.mark.parametrize(
    "kind", ["normal", "truncated-normal", "sphere", "mixture", "learned-mixture"]
)
def test_a_process_that_holds_some_rows_draws_what_all_rows_would_have_been(kind):
    prior = Prior(kind, 6, components=3)
    assert torch.equal(prior(10, NOISE)[4:], prior(6, replace(NOISE, first_row=4)))


def test_the_mixture_has_its_components_means_and_deviations():
    """Far apart, each is told by its mean; a third of the draws belongs to each."""
    prior = Prior("mixture", 2, components=3)
    means = torch.tensor([[0.0, 0.0], [50.0, 0.0], [0.0, 50.0]])
    deviations = torch.tensor([[1.0, 2.0], [0.5, 1.0], [3.0, 0.1]])
    with torch.no_grad():
        prior.means.copy_(means)
        prior.log_stds.copy_(deviations.log())
    z = prior(30_000, NOISE).detach()
    nearest = torch.cdist(z, means).argmin(1)
    for c in range(3):
        mine = z[nearest == c]
        assert len(mine) == pytest.approx(10_000, rel=0.04)
        torch.testing.assert_close(mine.mean(0), means[c], atol=0.1, rtol=0)
        torch.testing.assert_close(mine.std(0), deviations[c], atol=0, rtol=0.04)


def test_a_mixture_begins_with_variance_1():
    torch.manual_seed(0)
    z = Prior("mixture", 100, components=200)(4000, NOISE).detach()
    assert z.mean().item() == pytest.approx(0, abs=0.02)
    assert z.var().item() == pytest.approx(1, abs=0.03)


def test_gradients_of_the_mixture_are_those_of_the_reparametrization():
    """d/dμ of Σ z is how often a component was drawn, d/d log σ is z - μ."""
    prior = Prior("mixture", 4, components=2)
    z = prior(9, NOISE)
    mean, log_deviation = torch.autograd.grad(z.sum(), [*prior.parameters()])
    which = (NOISE.uniform("component", 9) * 2).long()
    for c in range(2):
        torch.testing.assert_close(mean[c], torch.full((4,), float((which == c).sum())))
        own = (z[which == c] - prior.means[c]).sum(0)
        torch.testing.assert_close(log_deviation[c], own.detach(), atol=1e-5, rtol=1e-5)


def test_a_mixture_leaves_the_other_initial_weights_as_they_are():
    nets = []
    for prior in ("uniform", "mixture"):
        torch.manual_seed(0)
        nets.append(MLPGenerator(SHAPE, replace(SMALL, prior=prior)).state_dict())
    plain, mixed = nets
    assert set(mixed) - set(plain) == {"prior.means", "prior.log_stds"}
    assert all(torch.equal(plain[name], mixed[name]) for name in plain)


def test_components_come_as_often_as_their_weights_say():
    """Shares of the draws are softmax w, and `log_probability` is that of each one's component."""
    prior = Prior("learned-mixture", 2, components=4)
    shares = torch.tensor([0.4, 0.3, 0.0, 0.3])
    with torch.no_grad():
        prior.means.copy_(torch.tensor([[0.0, 0.0], [50.0, 0.0], [0.0, 50.0], [50.0, 50.0]]))
        prior.weights.copy_(shares.log().clamp_min(-100) + 3)
    of = torch.cdist(prior(30_000, NOISE), prior.means).argmin(1)
    counts = torch.bincount(of, minlength=4) / 30_000
    torch.testing.assert_close(counts, shares, atol=0.01, rtol=0)
    torch.testing.assert_close(prior.log_probability(30_000, NOISE), shares.log()[of])


def test_choices_that_d_finds_real_become_as_probable_as_in_the_data():
    """The exact gradient of -E a(c) in w, from many draws: p(c) (E a - a(c))."""
    prior, verdicts = Prior("learned-mixture", 1, components=3), torch.tensor([0.0, 1.0, 5.0])
    with torch.no_grad():
        prior.weights.copy_(torch.tensor([0.5, 0.0, -0.5]))
    n = 200_000
    probable = prior.weights.detach().softmax(0)
    with torch.no_grad():
        chosen = torch.cdist(prior.log_probability(n, NOISE)[:, None], probable.log()[:, None])
    loss = reinforce_loss(verdicts[chosen.argmin(1)], prior.log_probability(n, NOISE))
    (found,) = torch.autograd.grad(loss, prior.weights)
    expected = probable * (probable @ verdicts - verdicts)
    torch.testing.assert_close(found, expected, atol=0.01, rtol=0)


@pytest.mark.parametrize("updates", ["alternating", "simultaneous"])
@pytest.mark.parametrize("pack", [1, 2])
def test_a_game_learns_how_probable_components_should_be(updates, pack):
    """Three points of unlike shares, and a component at each: p comes to the shares."""
    shares = torch.tensor([0.6, 0.3, 0.1])
    points = torch.tensor([[0.0, 1.0], [1.0, 0.0], [-1.0, -1.0]])
    prior = Prior("learned-mixture", 2, components=3)
    with torch.no_grad():
        prior.means.copy_(points)
        prior.log_stds.fill_(-5)
    game = GAN(config.GANGame(updates=updates, pac=pack, relativistic=True))

    class Exact(torch.nn.Module):
        """log p_data - log p_g of each point, summed over a pack: what the best D would say."""

        def forward(self, x, rng=None):
            nearest = torch.cdist(x.reshape(len(x), -1, 2), points).argmin(2)
            a = shares.log() - prior.weights.detach().log_softmax(0)
            return a[nearest].sum(1) + 0 * x.sum((1, 2, 3))

    class Still(torch.nn.Module):
        """G(z) = z."""

        def __init__(self):
            super().__init__()
            self.prior = prior

        def latent(self, n, rng):
            return prior(n, rng)

        def forward(self, z, rng=None):
            return z.view(-1, 1, 1, 2)

    torch.manual_seed(0)
    phase, players = game.phases()[-1], {"generator": Still(), "discriminator": Exact()}
    for step in range(400):
        batch = Batch(points[torch.multinomial(shares, 256, replacement=True)].view(-1, 1, 1, 2))
        loss = phase.losses(players, batch, NOISE.at_step(step)).losses["generator"]
        (slope,) = torch.autograd.grad(loss, prior.weights)
        with torch.no_grad():
            prior.weights -= slope
    torch.testing.assert_close(prior.weights.detach().softmax(0), shares, atol=0.05, rtol=0)


def test_weights_that_no_game_would_teach_are_refused():
    generator = config.MLPGenerator(prior="learned-mixture")
    for game, said in (
        (config.VAEGame(), "which VAEGame does not provide; give --generator.prior mixture"),
        (
            config.GANGame(reuse_fakes=True),
            "and reuse_fakes draws none; leave --game.reuse-fakes out, or",
        ),
    ):
        with pytest.raises(UsageError, match=said):
            config.Stage(generator=generator, game=game)
    one_pass = config.GANGame(
        updates="simultaneous", reuse_fakes=True
    )  # in which nothing is handed on
    config.Stage(generator=generator, game=one_pass)


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("prior", ["mixture", "learned-mixture"])
@pytest.mark.parametrize(
    "spec",
    [
        SMALL,
        config.DCGANGenerator(latent_dim=5, base_channels=2, components=3),
        config.ResidualGenerator(latent_dim=5, base_channels=2, components=3),
    ],
    ids=["mlp", "dcgan", "residual"],
)
def test_a_generators_loss_moves_every_part_of_a_mixture(spec, prior, classes):
    """Told classes or not: no parameter is left without a gradient, none of the mixture at 0."""
    torch.manual_seed(0)
    g = build_generator(replace(spec, prior=prior), SHAPE, None, classes)
    d = MaxoutDiscriminator(SHAPE, config.MaxoutDiscriminator((4,), init_range=0.5))
    _, phase = GAN(config.GANGame()).phases()
    batch = Batch(torch.rand(64, *SHAPE))
    turn = compute_gradients(
        {"generator": g, "discriminator": d}, phase, batch, NOISE, torch.float32
    )
    names = [name for name, _ in g.named_parameters()]
    found = dict(zip(names, turn.gradients["generator"], strict=True))
    weights = ["prior.weights"] if prior == "learned-mixture" else []
    for name in ("prior.means", "prior.log_stds", *weights):
        assert found[name].abs().min() > 0


def test_a_learned_prior_below_which_another_generator_stands_is_refused():
    top = MLPGenerator(SHAPE, replace(SMALL, prior="mixture"))
    bottom = MLPGenerator((5, 1, 1), SMALL)
    with pytest.raises(UsageError, match="give the earlier stage another prior"):
        StackedGenerator(bottom, top)
