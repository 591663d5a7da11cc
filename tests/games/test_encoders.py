"""Games with an encoder: losses and logs equal their formulas."""

import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, Normal, kl_divergence

from advnets import config
from advnets.games.encoders import ALI, VAE, LatentRegression
from advnets.models.mlp import MLPDiscriminator, MLPEncoder, MLPGenerator
from advnets.protocols import Batch
from advnets.rng import RNG

NOISE = RNG(5)
SHAPE = (1, 2, 3)


@pytest.fixture
def players():
    torch.manual_seed(0)
    wide = {"init_range": 0.6, "output_init_range": 0.6, "output_bias": 0.0}
    spec = config.MLPGenerator(4, "normal", (8,), ("tanh",), **wide)
    return {
        "generator": MLPGenerator(SHAPE, spec),
        "encoder": MLPEncoder(SHAPE, config.MLPEncoder(hidden_sizes=(8,), activation="tanh"), 4),
    }


def images(n=7):
    return NOISE.uniform("x", n, *SHAPE)


def same_gradients(loss, expected, net):
    gradients = (
        torch.autograd.grad(gradient, [*net.parameters()], retain_graph=True)
        for gradient in (loss, expected)
    )
    for gradient, expected_gradient in zip(*gradients, strict=True):
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("likelihood", ["bernoulli", "normal"])
def test_the_loss_of_the_vae_is_the_negative_bound_per_pixel(players, likelihood):
    """Compared with torch.distributions; the logs are the bound and its two terms, in nats."""
    x, g = images(), players["generator"]
    spec = config.VAEGame(likelihood=likelihood, likelihood_std=0.3)
    outcome = VAE(spec).phases()[0].losses(players, Batch(x), NOISE)
    result = players["encoder"](x)
    q = Normal(result.mean, (result.log_variance / 2).exp())
    z = q.mean + q.stddev * NOISE.normal("posterior", 7, 4)
    p = Bernoulli(g(z), validate_args=False) if likelihood == "bernoulli" else Normal(g(z), 0.3)
    of_x = p.log_prob(x).sum((1, 2, 3)).mean()
    expected_kl = kl_divergence(q, Normal(torch.zeros(7, 4), torch.ones(7, 4))).sum(1).mean()
    metrics = {name: value.item() for name, value in outcome.metrics.items()}
    assert metrics == pytest.approx(
        {
            "elbo": (of_x - expected_kl).item(),
            "elbo/likelihood": of_x.item(),
            "elbo/divergence": expected_kl.item(),
        },
        rel=1e-4,
    )
    assert expected_kl.item() > 0.05
    for name in ("generator", "encoder"):
        loss = outcome.losses[name]
        assert loss.item() == pytest.approx(-(of_x - expected_kl).item() / 6, rel=1e-4)
        same_gradients(loss, (expected_kl - of_x) / 6, players[name])


@pytest.mark.parametrize("deterministic", [False, True])
def test_latent_regression_predicts_the_latents_of_samples(players, deterministic):
    """Its loss is -log q(z | G(z)) per dimension, or the squared error; G does not change."""
    g = players["generator"].train()
    spec = config.MLPEncoder(hidden_sizes=(8,), activation="tanh", deterministic=deterministic)
    players["encoder"] = e = MLPEncoder(SHAPE, spec, 4)
    (phase,) = LatentRegression(config.LatentRegressionGame()).phases()
    outcome = phase.losses(players, Batch(images()), NOISE)
    z = g.latent(7, NOISE)
    result = e(g(z).detach())
    missed = (result.mean - z).square().sum() / 28
    if deterministic:
        expected = missed
    else:
        q = Normal(result.mean, (result.log_variance / 2).exp())
        expected = -q.log_prob(z).sum() / 28
    assert set(outcome.losses) == {"encoder"}
    assert outcome.losses["encoder"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert outcome.metrics["z/mse"].item() == pytest.approx(missed.item(), rel=1e-5)
    same_gradients(outcome.losses["encoder"], expected, e)
    loss = phase.losses(players, Batch(images()), NOISE).losses["encoder"]
    none = torch.autograd.grad(loss, [*g.parameters()], allow_unused=True)
    assert none == (None,) * len(none)
    assert not g.training  # its batch statistics stay


def test_ali_classifies_inferred_and_generated_pairs(players):
    """(x, E(x)) is real for D and (G(z), z) generated; G and E have the opposite labels."""
    spec = config.MLPDiscriminator(hidden_sizes=(8,))
    players["discriminator"] = d = MLPDiscriminator((1, 1, 10), spec)
    with torch.no_grad():
        for parameter in d.parameters():
            parameter.add_(torch.randn_like(parameter))
    x, g, e = images(), players["generator"], players["encoder"]
    z = g.latent(7, NOISE)
    result = e(x)
    posterior_sample = result.mean + (result.log_variance / 2).exp() * NOISE.normal(
        "posterior", 7, 4
    )
    a_real = d(torch.cat((x.flatten(1), posterior_sample), 1)[:, None, None])
    a_fake = d(torch.cat((g(z).flatten(1), z), 1)[:, None, None])
    d_real, d_fake = a_real.double().sigmoid(), a_fake.double().sigmoid()
    first, second = ALI(config.ALIGame()).phases()
    assert (first.reads_data, second.reads_data) == (True, False)
    of_d = first.losses(players, Batch(x), NOISE)
    value = d_real.log().mean() + (1 - d_fake).log().mean()
    assert of_d.losses["discriminator"].item() == pytest.approx(-0.5 * value.item(), rel=1e-5)
    assert of_d.metrics["d_real"].item() == pytest.approx(d_real.mean().item(), rel=1e-5)
    assert of_d.metrics["d_fake"].item() == pytest.approx(d_fake.mean().item(), rel=1e-5)
    same_gradients(of_d.losses["discriminator"], -0.5 * value, d)
    others = [*g.parameters(), *e.parameters()]
    none = torch.autograd.grad(of_d.losses["discriminator"], others, allow_unused=True)
    assert none == (None,) * len(others)
    moved = second.losses(players, Batch(x), NOISE).losses
    expected = {"generator": -d_fake.log().mean(), "encoder": -(1 - d_real).log().mean()}
    assert set(moved) == set(expected)
    for name, loss in expected.items():
        assert moved[name].item() == pytest.approx(loss.item(), rel=1e-5)
        same_gradients(moved[name], loss, players[name])


def test_both_kinds_of_pairs_have_their_own_dropout_masks(players):
    """In both phases the rows of real and generated pairs use their own random streams."""
    masks = []

    class Masking(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones(1))

        def forward(self, x, rng=None):
            masks.append(rng.dropout_mask("m", len(x), 9, keep_prob=0.5))
            return x.sum((1, 2, 3)) * self.w

    players["discriminator"] = Masking()
    for phase in ALI(config.ALIGame()).phases():
        phase.losses(players, Batch(images()), NOISE)
    real, fake = masks[0].chunk(2)
    assert not torch.equal(real, fake)
    assert torch.equal(torch.cat((masks[2], masks[1])), masks[0])
