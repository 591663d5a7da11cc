from dataclasses import replace

import pytest
import torch
from torch import nn

from advnets import config
from advnets.errors import UsageError
from advnets.games.gan import GAN, num_discriminator_updates
from advnets.losses import value_function
from advnets.protocols import Batch
from advnets.rng import RNG
from advnets.training.step import num_updates

NOISE = RNG(seed=0)


class Shift(nn.Module):
    """G(z) = z + g, one number an image."""

    latent_dim = 1

    def __init__(self, g):
        super().__init__()
        self.g = nn.Parameter(torch.tensor(g))

    def latent(self, n, rng):
        return rng.normal("latent", n, 1) * 0.1

    def forward(self, z, rng=None):
        return (z + self.g).reshape(-1, 1, 1, 1)


class Quadratic(nn.Module):
    """a(x) = b + w x - q x², concave in its weights as V is: D's own optimum is unique."""

    def __init__(self):
        super().__init__()
        self.weights = nn.Parameter(torch.tensor([0.0, 0.3, 0.1]))

    def forward(self, x, rng=None):
        x = x.flatten()
        b, w, q = self.weights
        return b + w * x - q * x**2


@pytest.fixture
def players():
    return {"generator": Shift(-1.0), "discriminator": Quadratic()}


BATCH = Batch(torch.linspace(0.5, 1.5, 64).reshape(-1, 1, 1, 1))


def value(players):
    g, d = players["generator"], players["discriminator"]
    fake = g(g.latent(64, NOISE.at_step(9)))
    return value_function(d(BATCH.images), d(fake)).item()


def updated(players, phase, player, rate):
    loss = phase.losses(players, BATCH, NOISE.at_step(9)).losses[player]
    parameters = list(players[player].parameters())
    gradients = torch.autograd.grad(loss, parameters)
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter -= rate * gradient
    return players


def test_an_update_of_d_increases_v(players):
    """On a quadratic toy, a small step of D raises V (Algorithm 1, line 4)."""
    before = value(players)
    phase = GAN(config.GANGame()).phases()[0]
    assert value(updated(players, phase, "discriminator", 0.01)) > before + 1e-5


@pytest.mark.parametrize("objective", ["minimax", "non-saturating"])
def test_an_update_of_g_decreases_v(players, objective):
    """On a quadratic toy, a small step of G lowers V, by either of its losses."""
    before = value(players)
    phase = GAN(config.GANGame(objective=objective)).phases()[1]
    assert value(updated(players, phase, "generator", 0.01)) < before - 1e-5


def test_the_quadratic_game_converges_to_its_equilibrium(players):
    """After training, G's shift is the mean of the data and D(x) is 1/2."""
    game = GAN(config.GANGame(k=5))
    for step in range(600):
        for phase in game.phases():
            name = phase.name
            for turn in range(phase.num_updates):
                rng = NOISE.at_step(step).fold_in(f"{name}/{turn}")
                loss = phase.losses(players, BATCH, rng).losses[name]
                parameters = list(players[name].parameters())
                with torch.no_grad():
                    for parameter, gradient in zip(
                        parameters, torch.autograd.grad(loss, parameters), strict=True
                    ):
                        parameter -= 0.3 * gradient
    assert players["generator"].g.item() == pytest.approx(1.0, abs=0.1)
    d_real = torch.sigmoid(players["discriminator"](BATCH.images)).mean().item()
    assert d_real == pytest.approx(0.5, abs=0.05)


def test_alternating_updates_are_k_of_d_and_one_of_g():
    discriminator, generator = GAN(config.GANGame(k=3)).phases()
    assert (discriminator.name, discriminator.num_updates, discriminator.reads_data) == (
        "discriminator",
        3,
        True,
    )
    assert (generator.name, generator.num_updates, generator.reads_data) == ("generator", 1, False)


@pytest.mark.parametrize(
    ("observed", "expected"),
    [
        ({}, 4),  # nothing was logged yet
        ({"d_real": 0.6, "d_fake": 0.5}, 4),
        ({"d_real": 0.7, "d_fake": 0.4}, 4),
        ({"d_real": 0.75, "d_fake": 0.25}, 1),
        ({"d_real": 0.2, "d_fake": 0.9}, 4),
        ({"d_real": 1.0, "d_fake": 0.0}, 1),
    ],
)
def test_d_has_k_updates_below_the_threshold_and_one_above(observed, expected):
    spec = config.GANGame(k=4, adaptive_k_threshold=0.5)
    discriminator, generator = GAN(spec).phases()
    assert (
        num_discriminator_updates(4, 0.5, observed)
        == num_updates(discriminator, observed)
        == expected
    )
    assert num_updates(generator, observed) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"adaptive_k_threshold": 0.3, "k": 1}, r"set updates to alternating and k to 2"),
        (
            {"adaptive_k_threshold": 0.3, "k": 2, "updates": "simultaneous"},
            "set updates to alternating",
        ),
        (
            {"adaptive_k_threshold": 0.3, "k": 2, "relativistic": True},
            "which a relativistic D does not have",
        ),
        (
            {"adaptive_k_threshold": 1.0, "k": 2},
            "adaptive_k_threshold is 1.0; it must be less than 1",
        ),
        (
            {"adaptive_k_threshold": -0.1, "k": 2},
            "adaptive_k_threshold is -0.1; it must be at least 0",
        ),
    ],
)
def test_an_adaptive_k_without_effect_is_refused(options, message):
    with pytest.raises(UsageError, match=message):
        config.GANGame(**options)


def test_simultaneous_updates_are_one_phase(players):
    (phase,) = GAN(config.GANGame(updates="simultaneous")).phases()
    outcome = phase.losses(players, BATCH, NOISE)
    assert set(outcome.losses) == {"discriminator", "generator"}


def test_simultaneous_gradients_come_from_the_same_samples(players):
    """Each equals the gradient of the alternating game at the same weights and random numbers."""
    (both,) = GAN(config.GANGame(updates="simultaneous")).phases()
    alternating = GAN(config.GANGame()).phases()
    for phase, name in zip(alternating, ("discriminator", "generator"), strict=True):
        parameters = list(players[name].parameters())
        joint = torch.autograd.grad(both.losses(players, BATCH, NOISE).losses[name], parameters)
        separate = torch.autograd.grad(phase.losses(players, BATCH, NOISE).losses[name], parameters)
        for a, b in zip(joint, separate, strict=True):
            torch.testing.assert_close(a, b)


def test_metrics_are_d_of_x_d_of_gz_and_v(players):
    outcome = GAN(config.GANGame()).phases()[0].losses(players, BATCH, NOISE)
    d = players["discriminator"]
    assert outcome.metrics["d_real"].item() == pytest.approx(
        torch.sigmoid(d(BATCH.images)).mean().item()
    )
    assert set(outcome.metrics) == {"d_real", "d_fake", "value", "value/real", "value/fake"}
    assert outcome.metrics["value"] == outcome.metrics["value/real"] + outcome.metrics["value/fake"]
    assert outcome.losses["discriminator"].item() == pytest.approx(
        -outcome.metrics["value"].item() / 2
    )


def test_the_loss_of_d_has_no_gradient_in_g(players):
    phase = GAN(config.GANGame()).phases()[0]
    loss = phase.losses(players, BATCH, NOISE).losses["discriminator"]
    (gradient,) = torch.autograd.grad(loss, [players["generator"].g], allow_unused=True)
    assert gradient is None


@pytest.mark.parametrize("updates", ["alternating", "simultaneous"])
def test_r1_and_r2_are_gradient_penalties_on_real_and_generated_images(players, updates):
    """For a(x) = b + w x - q x² the gradient is w - 2 q x; its square enters D's loss times γ/2."""
    plain, penalized = (
        GAN(config.GANGame(updates=updates, r1=r1, r2=r2)).phases()[0]
        for r1, r2 in ((0.0, 0.0), (3.0, 5.0))
    )
    without = plain.losses(players, BATCH, NOISE)
    with_penalty = penalized.losses(players, BATCH, NOISE)
    g = players["generator"]
    x, fake = BATCH.images, g(g.latent(64, NOISE))
    _, w, q = players["discriminator"].weights
    of_real, of_fake = ((w - 2 * q * at).square().mean() for at in (x, fake))
    torch.testing.assert_close(
        with_penalty.losses["discriminator"] - without.losses["discriminator"],
        1.5 * of_real + 2.5 * of_fake,
    )
    assert with_penalty.metrics["grad_norm_sq/real"].item() == pytest.approx(of_real.item())
    assert with_penalty.metrics["grad_norm_sq/fake"].item() == pytest.approx(of_fake.item())
    parameters = list(players["discriminator"].parameters())
    gradients = [
        torch.autograd.grad(loss, parameters, retain_graph=True)[0]
        for loss in (
            with_penalty.losses["discriminator"] - without.losses["discriminator"],
            1.5 * of_real + 2.5 * of_fake,
        )
    ]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("updates", ["alternating", "simultaneous"])
def test_a_relativistic_game_classifies_pairs(players, updates):
    """Each image with the sample of its row, for both players; only D has penalties."""
    game = GAN(config.GANGame(updates=updates, relativistic=True, r1=3.0))
    outcomes = [phase.losses(players, BATCH, NOISE) for phase in game.phases()]
    first, last = outcomes[0], outcomes[-1]
    net, g = players["discriminator"], players["generator"]
    fake = g(g.latent(64, NOISE))
    difference = net(BATCH.images) - net(fake)
    softplus = torch.nn.functional.softplus
    _, w, q = net.weights
    slope = (w - 2 * q * BATCH.images).square().mean()
    torch.testing.assert_close(
        first.losses["discriminator"], softplus(-difference).mean() + 1.5 * slope
    )
    torch.testing.assert_close(last.losses["generator"], softplus(difference).mean())
    metrics = {name: value.item() for name, value in first.metrics.items()}
    assert metrics["d_pair"] == pytest.approx(torch.sigmoid(difference).mean().item())
    assert metrics["value_pair"] == pytest.approx(torch.sigmoid(difference).log().mean().item())
    # No probability of one image is observed: any number may be added to all logits.
    assert not {"d_real", "d_fake", "value"} & metrics.keys()
    gradients = [
        torch.autograd.grad(loss, [g.g], retain_graph=True)[0]
        for loss in (last.losses["generator"], softplus(difference).mean())
    ]
    torch.testing.assert_close(*gradients)


def test_penalties_do_not_change_the_loss_of_g(players):
    for updates, phase in (("alternating", 1), ("simultaneous", 0)):
        losses = [
            GAN(config.GANGame(updates=updates, r1=gamma, r2=gamma))
            .phases()[phase]
            .losses(players, BATCH, NOISE)
            .losses["generator"]
            for gamma in (0.0, 10.0)
        ]
        assert losses[0].item() == losses[1].item()


def test_reused_fakes_are_those_of_ds_phase(players):
    """G's loss is on these samples, though D was updated since, and has a gradient in G."""
    discriminator, generator = GAN(config.GANGame(reuse_fakes=True)).phases()
    of_d = discriminator.losses(players, BATCH, NOISE.fold_in("0"))
    assert torch.equal(
        of_d.carry, players["generator"](players["generator"].latent(64, NOISE.fold_in("0")))
    )
    gradients = torch.autograd.grad(
        of_d.losses["discriminator"], [players["generator"].g], allow_unused=True
    )
    assert gradients == (None,)
    with torch.no_grad():
        players["discriminator"].weights += 0.1
    loss = generator.losses(players, replace(BATCH, carry=of_d.carry), NOISE.fold_in("1"))
    logits = players["discriminator"](of_d.carry)
    torch.testing.assert_close(
        loss.losses["generator"], torch.nn.functional.softplus(-logits).mean()
    )
    (gradient,) = torch.autograd.grad(loss.losses["generator"], [players["generator"].g])
    assert gradient.item() != 0
