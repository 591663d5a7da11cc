"""Latent priors compared with the distributions that they are documented to have."""

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
def test_the_priors_of_2014_have_mean_0_and_variance_1(prior):
    z = draw_latents(prior, 2000, 100, NOISE)
    assert z.shape == (2000, 100)
    assert z.mean().item() == pytest.approx(0, abs=0.01)
    assert z.var().item() == pytest.approx(1, abs=0.02)
    bound = math.sqrt(3) if prior == "uniform" else math.inf
    assert z.abs().max().item() <= bound


def test_the_truncated_normal_matches_scipy():
    """Its distribution, the variance of the docstring, and the bounds."""
    z = draw_latents("truncated-normal", 2000, 50, NOISE).flatten()
    law = stats.truncnorm(-2, 2)
    assert stats.kstest(z.double().numpy(), law.cdf).pvalue > 1e-3
    assert law.var() == pytest.approx(0.774, abs=5e-4)
    assert z.abs().max().item() <= 2


def test_extreme_uniform_numbers_stay_within_the_truncation(monkeypatch):
    """The smallest and the largest uniform number, after rounding."""

    def ends(self, purpose, rows, *shape, low, high):
        return torch.tensor([[low, high]], dtype=torch.float32)

    monkeypatch.setattr(RNG, "uniform", ends)
    z = draw_latents("truncated-normal", 1, 2, NOISE)
    assert z.abs().max().item() <= 2
    torch.testing.assert_close(z, torch.tensor([[-2.0, 2.0]]), atol=1e-5, rtol=0)


def test_the_sphere_prior_is_uniform_on_a_sphere():
    """Radius √d, variance 1, and the marginal of two coordinates, (1 - r² / d)^(d/2 - 1)."""
    d = 32
    z = draw_latents("sphere", 20_000, d, NOISE)
    torch.testing.assert_close(z.norm(dim=1), torch.full((20_000,), math.sqrt(d)))
    assert z.mean().item() == pytest.approx(0, abs=0.01)
    assert z.var().item() == pytest.approx(1, abs=0.01)
    shares = (z[:, :2].square().sum(1) / d).double().numpy()
    assert stats.kstest(shares, stats.beta(1, d / 2 - 1).cdf).pvalue > 1e-3


def test_sphere_components_lie_on_ellipsoids():
    prior = Prior("mixture", 3, components=1, component_shape="sphere")
    with torch.no_grad():
        prior.means.fill_(5)
        prior.log_stds.copy_(torch.tensor([[0.0, 1.0, -1.0]]))
        scaled = (prior(1000, NOISE) - 5) / prior.log_stds.exp()
    torch.testing.assert_close(scaled.norm(dim=1), torch.full((1000,), math.sqrt(3)))


@pytest.mark.parametrize(
    "kind", ["normal", "truncated-normal", "sphere", "mixture", "learned-mixture"]
)
def test_a_part_of_the_rows_is_drawn_as_within_the_whole_batch(kind):
    prior = Prior(kind, 6, components=3)
    assert torch.equal(prior(10, NOISE)[4:], prior(6, replace(NOISE, first_row=4)))


def test_the_mixture_has_the_means_and_stds_of_its_components():
    """Components are far apart, so that each draw has a nearest one; each has a third of them."""
    prior = Prior("mixture", 2, components=3)
    means = torch.tensor([[0.0, 0.0], [50.0, 0.0], [0.0, 50.0]])
    deviations = torch.tensor([[1.0, 2.0], [0.5, 1.0], [3.0, 0.1]])
    with torch.no_grad():
        prior.means.copy_(means)
        prior.log_stds.copy_(deviations.log())
    z = prior(30_000, NOISE).detach()
    nearest = torch.cdist(z, means).argmin(1)
    for c in range(3):
        actual = z[nearest == c]
        assert len(actual) == pytest.approx(10_000, rel=0.04)
        torch.testing.assert_close(actual.mean(0), means[c], atol=0.1, rtol=0)
        torch.testing.assert_close(actual.std(0), deviations[c], atol=0, rtol=0.04)


def test_the_initial_mixture_has_variance_1():
    torch.manual_seed(0)
    z = Prior("mixture", 100, components=200)(4000, NOISE).detach()
    assert z.mean().item() == pytest.approx(0, abs=0.02)
    assert z.var().item() == pytest.approx(1, abs=0.03)


def test_mixture_gradients_are_those_of_the_reparametrization():
    """d/dμ of Σ z is the number of draws of a component, d/d log σ is z - μ."""
    prior = Prior("mixture", 4, components=2)
    z = prior(9, NOISE)
    mean, log_deviation = torch.autograd.grad(z.sum(), [*prior.parameters()])
    which = (NOISE.uniform("component", 9) * 2).long()
    for c in range(2):
        torch.testing.assert_close(mean[c], torch.full((4,), float((which == c).sum())))
        deviations = (z[which == c] - prior.means[c]).sum(0)
        torch.testing.assert_close(log_deviation[c], deviations.detach(), atol=1e-5, rtol=1e-5)


def test_a_mixture_does_not_change_other_initial_weights():
    nets = []
    for prior in ("uniform", "mixture"):
        torch.manual_seed(0)
        nets.append(MLPGenerator(SHAPE, replace(SMALL, prior=prior)).state_dict())
    plain, mixed = nets
    assert set(mixed) - set(plain) == {"prior.means", "prior.log_stds"}
    assert all(torch.equal(plain[name], mixed[name]) for name in plain)


def test_component_frequencies_are_the_softmax_of_the_weights():
    """`log_probability` is the logarithm of the frequency of each draw's component."""
    prior = Prior("learned-mixture", 2, components=4)
    shares = torch.tensor([0.4, 0.3, 0.0, 0.3])
    with torch.no_grad():
        prior.means.copy_(torch.tensor([[0.0, 0.0], [50.0, 0.0], [0.0, 50.0], [50.0, 50.0]]))
        prior.weights.copy_(shares.log().clamp_min(-100) + 3)
    of = torch.cdist(prior(30_000, NOISE), prior.means).argmin(1)
    counts = torch.bincount(of, minlength=4) / 30_000
    torch.testing.assert_close(counts, shares, atol=0.01, rtol=0)
    torch.testing.assert_close(prior.log_probability(30_000, NOISE), shares.log()[of])


def test_the_reinforce_gradient_of_component_weights_is_unbiased():
    """Many draws give the exact gradient of -E a(c) in w, p(c) (E a - a(c))."""
    prior, verdicts = Prior("learned-mixture", 1, components=3), torch.tensor([0.0, 1.0, 5.0])
    with torch.no_grad():
        prior.weights.copy_(torch.tensor([0.5, 0.0, -0.5]))
    n = 200_000
    probable = prior.weights.detach().softmax(0)
    with torch.no_grad():
        chosen = torch.cdist(prior.log_probability(n, NOISE)[:, None], probable.log()[:, None])
    loss = reinforce_loss(verdicts[chosen.argmin(1)], prior.log_probability(n, NOISE))
    (result,) = torch.autograd.grad(loss, prior.weights)
    expected = probable * (probable @ verdicts - verdicts)
    torch.testing.assert_close(result, expected, atol=0.01, rtol=0)


@pytest.mark.parametrize("updates", ["alternating", "simultaneous"])
@pytest.mark.parametrize("pack", [1, 2])
def test_a_game_learns_the_component_probabilities_of_the_data(updates, pack):
    """Three points of different frequencies with a component at each: p becomes the frequencies."""
    shares = torch.tensor([0.6, 0.3, 0.1])
    points = torch.tensor([[0.0, 1.0], [1.0, 0.0], [-1.0, -1.0]])
    prior = Prior("learned-mixture", 2, components=3)
    with torch.no_grad():
        prior.means.copy_(points)
        prior.log_stds.fill_(-5)
    game = GAN(config.GANGame(updates=updates, pac=pack, relativistic=True))

    class Exact(torch.nn.Module):
        """The optimal D: log p_data - log p_g of each point, summed over a pack."""

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


def test_learned_mixtures_are_refused_where_no_game_trains_them():
    generator = config.MLPGenerator(prior="learned-mixture")
    for game, message in (
        (config.VAEGame(), "which VAEGame does not provide; set prior to mixture"),
        (config.GANGame(reuse_fakes=True), "and reuse_fakes draws none; leave reuse_fakes out, or"),
    ):
        with pytest.raises(UsageError, match=message):
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
def test_all_parameters_of_a_mixture_get_gradients(spec, prior, classes):
    """Conditional or not, every parameter has a gradient, and those of the mixture are not 0."""
    torch.manual_seed(0)
    g = build_generator(replace(spec, prior=prior), SHAPE, None, classes)
    d = MaxoutDiscriminator(SHAPE, config.MaxoutDiscriminator((4,), init_range=0.5))
    _, phase = GAN(config.GANGame()).phases()
    batch = Batch(torch.rand(64, *SHAPE))
    turn = compute_gradients(
        {"generator": g, "discriminator": d}, phase, batch, NOISE, torch.float32
    )
    names = [name for name, _ in g.named_parameters()]
    result = dict(zip(names, turn.gradients["generator"], strict=True))
    weights = ["prior.weights"] if prior == "learned-mixture" else []
    for name in ("prior.means", "prior.log_stds", *weights):
        assert result[name].abs().min() > 0


def test_a_stacked_generator_refuses_an_unused_learned_prior():
    top = MLPGenerator(SHAPE, replace(SMALL, prior="mixture"))
    bottom = MLPGenerator((5, 1, 1), SMALL)
    with pytest.raises(UsageError, match="give the earlier stage another prior"):
        StackedGenerator(bottom, top)
