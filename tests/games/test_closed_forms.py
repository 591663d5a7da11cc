"""The extensions of section 7, each where the right answer is known in closed form."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from advnets import config
from advnets.games.encoders import ALI, VAE, LatentRegression, elbo_terms
from advnets.games.gan import ConditionalGAN
from advnets.games.inpainting import Inpainting
from advnets.games.semi_supervised import SemiSupervisedGAN
from advnets.models.classifiers import SemiSupervisedDiscriminator
from advnets.models.conditional import (
    ConditionalMLPDiscriminator,
    ConditionalMLPGenerator,
    InpaintingGenerator,
)
from advnets.models.layers import Prior
from advnets.models.mlp import MLPDiscriminator, MLPEncoder, MLPGenerator
from advnets.protocols import Batch
from advnets.rng import RNG
from advnets.training.ema import EMA
from advnets.training.optimizers import make_optimizer
from advnets.training.step import TrainState, train_step

W = torch.tensor([1.2, -0.5])
"""x = W z, or z W: the linear map of every model here."""
NUMBERS = config.MLPDiscriminator(hidden_sizes=(64, 64))
NOISE = RNG(11)


@dataclass
class RandomLoader:
    """A loader of minibatches that are drawn from a distribution, by their index."""

    draw: Any

    def batch_at(self, index):
        return self.draw(RNG(7, step=index))

    def epoch_at(self, index):
        return 0.0


class Linear(nn.Module):
    """G(z) = W z + b, whose samples are normal."""

    def __init__(self, latent_dim, numbers):
        super().__init__()
        self.latent_dim = latent_dim
        self.map = nn.Linear(latent_dim, numbers)

    def latent(self, n, rng):
        return rng.normal("latent", n, self.latent_dim)

    def forward(self, z, rng=None):
        return self.map(z)[:, None, None]


@pytest.fixture
def trained():
    """Train a game and return the players with the mean of their weights over the last third."""

    def train(game, players, draw, *, steps, lr=3e-3, beta1=0.0):
        spec = config.Adam(lr=lr, beta1=beta1, beta2=0.99)
        torch.manual_seed(0)
        table = TrainState(
            game=game,
            players=players,
            optimizers={
                name: make_optimizer(spec, net.parameters()) for name, net in players.items()
            },
            loader=RandomLoader(draw),
            rng=RNG(3),
        )
        averages = None
        for n in range(steps):
            train_step(table)
            if n == steps * 2 // 3:
                averages = {name: EMA(net, steps // 12, 1) for name, net in players.items()}
            for name, average in (averages or {}).items():
                average.update(players[name], n + 1)
        return {name: average.module for name, average in averages.items()}

    return train


def plane(x):
    """Reshape vectors to images of 1 x 1 x n pixels."""
    return Batch(x[:, None, None])


def small_d(numbers):
    return MLPDiscriminator((1, 1, numbers), NUMBERS)


def encoder(numbers, latent_dim, **options):
    torch.manual_seed(1)
    return MLPEncoder(
        (1, 1, numbers),
        config.MLPEncoder(hidden_sizes=(32,), activation="tanh", **options),
        latent_dim,
    )


def test_conditional_normals(trained):
    """p(x | y) = N(m_y, 1/4): each class has its own mean, and all have one standard deviation."""
    means = torch.tensor([-2.0, 0.5, 2.0])

    def draw(rng):
        labels = torch.arange(96) % 3
        x = means[labels] + 0.5 * rng.normal("x", 96)
        return Batch(x.reshape(-1, 1, 1, 1), labels)

    torch.manual_seed(0)
    players = {
        "generator": ConditionalMLPGenerator(Linear(4, 1), Prior("normal", 1), 3),
        "discriminator": ConditionalMLPDiscriminator(small_d(4), 3),
    }
    game = ConditionalGAN(config.ConditionalGame(relativistic=True, r1=0.2, r2=0.2))
    g = trained(game, players, draw, steps=1200)["generator"]
    labels = torch.arange(3000) % 3
    x = g(g.latent(3000, NOISE, labels)).flatten()
    for y, mean in enumerate(means):
        assert x[labels == y].mean().item() == pytest.approx(mean.item(), abs=0.15)
        assert x[labels == y].std().item() == pytest.approx(0.5, abs=0.15)


def assert_posterior(e, w, x, within):
    """Check mean and variances of z given x = w · z, with z ~ N(0, I)."""
    x = torch.tensor(x)[:, None]
    result = e(plane(x).images)
    mean, variance = x * w / w.square().sum(), 1 - w.square() / w.square().sum()
    torch.testing.assert_close(result.mean, mean, atol=within, rtol=0)
    variances = result.log_variance.exp()
    torch.testing.assert_close(variances, variance.expand_as(variances), atol=within, rtol=0)


def test_latent_regression_learns_the_posterior(trained):
    """G is fixed, x = w · z: E's means and variances are those of p(z | x)."""
    g = Linear(2, 1)
    with torch.no_grad():
        g.map.weight.copy_(W[None])
        g.map.bias.zero_()
    before = g.map.weight.clone()
    players = {"generator": g, "encoder": encoder(1, 2)}
    game = LatentRegression(config.LatentRegressionGame())
    e = trained(game, players, lambda n: plane(torch.zeros(200, 1)), steps=1500, beta1=0.9)
    assert torch.equal(g.map.weight, before)
    assert_posterior(e["encoder"], W, [-1.0, 0.0, 1.5], within=0.08)


def test_adversarially_learned_inference_learns_the_posterior(trained):
    """x ~ N(0, ‖w‖²): G learns the distribution, and E the posterior under the w of G."""
    deviation = W.norm()
    players = {"generator": Linear(2, 1), "encoder": encoder(1, 2), "discriminator": small_d(3)}

    def draw(rng):
        return plane(deviation * rng.normal("x", 200, 1))

    result = trained(ALI(config.ALIGame()), players, draw, steps=3000, lr=1e-3)
    w = result["generator"].map.weight[0].detach()
    assert w.norm().item() == pytest.approx(deviation.item(), abs=0.2)
    assert_posterior(result["encoder"], w, [-1.0, 0.0, 1.0], within=0.25)


def test_inpainting_of_a_correlated_normal_learns_both_conditionals(trained):
    """Correlation 0.8: x_2 given x_1 is N(0.8 x_1, 0.36), and x_1 given x_2 likewise, by one G."""
    rho = 0.8

    def draw(rng):
        x = rng.normal("x", 200, 2)
        x = torch.stack((x[:, 0], rho * x[:, 0] + (1 - rho**2) ** 0.5 * x[:, 1]), 1)
        return plane(x)

    torch.manual_seed(0)
    shape = (1, 1, 2)
    # A bend, as without one the same share of z would be in all of them.
    inner = config.MLPGenerator(
        2 + 4, "normal", (64,), ("tanh",), "linear", init_range=0.4, output_bias=0.0
    )
    players = {
        "generator": InpaintingGenerator(MLPGenerator(shape, inner), shape, Prior("normal", 2)),
        "discriminator": small_d(4),
    }
    spec = config.InpaintingGame(masks=("halves",), relativistic=True, r1=0.1, r2=0.1)
    g = trained(Inpainting(spec), players, draw, steps=1500)["generator"]
    n = 4000
    for hidden in (0, 1):
        known = torch.ones(n, 1, 1, 2)
        known[..., hidden] = 0
        left_half = torch.linspace(-1.5, 1.5, n)
        image = torch.zeros(n, 1, 1, 2)
        image[..., 1 - hidden] = left_half[:, None, None]
        samples = g(g.condition(g.sample_z(n, NOISE), image, known)).detach()
        assert torch.equal(samples[..., 1 - hidden], image[..., 1 - hidden])  # what is known stays
        x = samples[:, 0, 0, hidden]
        slope = (x * left_half).mean() / left_half.square().mean()
        assert slope.item() == pytest.approx(rho, abs=0.15)
        assert (x - slope * left_half).std().item() == pytest.approx((1 - rho**2) ** 0.5, abs=0.15)


def test_the_elbo_of_a_linear_normal_model_reaches_the_log_likelihood(trained):
    """x = w z + σ ε: G finds w, q(z | x) is the posterior, and the bound is log p(x) itself."""
    sigma, w = 0.5, W

    def draw(rng):
        return plane(rng.normal("z", 200, 1) * w + sigma * rng.normal("e", 200, 2))

    players = {"generator": Linear(1, 2), "encoder": encoder(2, 1)}
    spec = config.VAEGame(likelihood="normal", likelihood_std=sigma)
    result = trained(VAE(spec), players, draw, steps=1200, beta1=0.9)
    actual = result["generator"].map.weight[:, 0].detach()
    actual = actual * torch.sign(actual @ w)
    torch.testing.assert_close(actual, w, atol=0.1, rtol=0)
    x = draw(NOISE).images
    likelihood, divergence = elbo_terms(spec, result, x.repeat(50, 1, 1, 1), NOISE)
    covariance = torch.outer(w, w) + sigma**2 * torch.eye(2)
    exact = torch.distributions.MultivariateNormal(torch.zeros(2), covariance)
    elbo = (likelihood - divergence).mean().item()
    likelihood = exact.log_prob(x.flatten(1)).mean().item()
    assert likelihood - 0.05 < elbo < likelihood + 0.03
    q = result["encoder"](x)
    variance = sigma**2 / (w.square().sum() + sigma**2)
    torch.testing.assert_close(q.log_variance.exp().mean(), variance, atol=0.05, rtol=0)


def test_a_semi_supervised_d_learns_the_classes_and_the_density_ratio(trained):
    """p(y | x) of two normals, and a(x) = log p(x) / p_g(x), for a G that stays as it is."""
    g, half_distance, sigma = Linear(1, 1), 1.0, 0.7
    with torch.no_grad():
        g.map.weight.fill_(1.5)
        g.map.bias.zero_()

    def draw(rng):
        labels = torch.arange(200) % 2
        x = half_distance * (2.0 * labels - 1) + sigma * rng.normal("x", 200)
        few = half_distance * (2.0 * labels - 1) + sigma * rng.normal("labelled", 200)
        labeled = Batch(few.reshape(-1, 1, 1, 1), labels)
        return Batch(x.reshape(-1, 1, 1, 1), labeled=labeled)

    class DAlone(SemiSupervisedGAN):
        def phases(self):
            return super().phases()[:1]

    torch.manual_seed(2)
    spec = config.SemiSupervisedDiscriminator(
        hidden_sizes=(32, 32), noise_input=0.0, noise_hidden=0.0
    )
    d = SemiSupervisedDiscriminator((1, 1, 1), spec, 2)
    game = DAlone(config.SemiSupervisedGame())
    d = trained(game, {"generator": g, "discriminator": d}, draw, steps=1500)["discriminator"]
    x = torch.tensor([-1.5, -0.5, 0.0, 0.5, 1.5])
    images = x.reshape(-1, 1, 1, 1)
    normal = torch.distributions.Normal
    of_class = [normal(m, sigma).log_prob(x).exp() for m in (-half_distance, half_distance)]
    probability = d.class_logits(d.hidden(images)).softmax(1)[:, 1]
    torch.testing.assert_close(probability, of_class[1] / sum(of_class), atol=0.06, rtol=0)
    ratio = (sum(of_class) / 2).log() - normal(0.0, 1.5).log_prob(x)
    torch.testing.assert_close(d(images), ratio, atol=0.25, rtol=0)
