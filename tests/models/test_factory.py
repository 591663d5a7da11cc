"""The registries of models and games, and what discriminators state about themselves."""

from dataclasses import dataclass, replace
from typing import get_args

import pytest
import torch
from torch import nn

from advnets import config
from advnets.experiment import players
from advnets.games.gan import GAN
from advnets.models import factory
from advnets.models.factory import build_discriminator
from advnets.models.mlp import MLPGenerator
from advnets.protocols import is_per_sample

SHAPE = (1, 8, 8)
MEAN = torch.full(SHAPE, 0.5)
DCGAN = config.DCGANDiscriminator(base_channels=4, batch_norm=False)
NETS = [
    (config.MaxoutDiscriminator((6, 6), 2), 0),
    (config.MaxoutDiscriminator((6, 6), 2), 3),
    (config.MaxoutConvDiscriminator(channels=(4, 4, 6), dense_units=5), 0),
    (config.MLPDiscriminator((6, 6), fourier_features=3), 0),
    (config.MLPDiscriminator((6, 6)), 3),
    (config.DCGANDiscriminator(base_channels=4), 0),
    (DCGAN, 0),
    (DCGAN, 3),
    (config.DCGANDiscriminator(base_channels=4, batch_norm=False, projection=True), 3),
    (config.DCGANDiscriminator(base_channels=4, batch_norm=False, spectral_norm=True), 0),
    (config.ResidualDiscriminator(base_channels=8), 0),
    (config.ResidualDiscriminator(base_channels=8), 3),
]


@pytest.mark.parametrize(("spec", "classes"), NETS, ids=lambda value: type(value).__name__)
def test_per_sample_states_whether_a_logit_depends_on_other_images(spec, classes):
    torch.manual_seed(0)
    net = build_discriminator(spec, (1, 28, 28), classes)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    x = torch.randn(6, 1, 28, 28, requires_grad=True)
    labels = (torch.arange(6) % classes,) if classes else ()
    (gradient,) = torch.autograd.grad(net(x, None, *labels)[0], x)
    assert gradient[0].any()
    assert bool(gradient[1:].any()) != is_per_sample(net)


def test_a_discriminator_without_per_sample_is_assumed_to_mix_images():
    assert not is_per_sample(torch.nn.Linear(2, 1))


def test_every_config_of_a_model_or_a_game_has_one_registry_entry():
    """The unions that make flags and read config.json are the keys of the registries."""
    assert set(factory.GENERATORS) == set(get_args(config.GeneratorConfig))
    discriminators = {
        *factory.DISCRIMINATORS,
        *factory.CLASSIFYING_DISCRIMINATORS,
        config.NoDiscriminator,
    }
    assert discriminators == set(get_args(config.DiscriminatorConfig))
    assert set(players.GAMES) == set(get_args(config.GameConfig))


@dataclass(frozen=True)
class LinearConfig(config.MLPGenerator):
    """A generator that is defined outside the package."""


@dataclass(frozen=True)
class OtherGame(config.GANGame):
    """A game that is defined outside the package."""


def test_one_entry_adds_a_model(monkeypatch, tiny):
    def build_linear(spec, shape, mean_image, classes):
        return MLPGenerator(shape, replace(spec, hidden_sizes=(), activations=()), mean_image)

    monkeypatch.setitem(factory.GENERATORS, LinearConfig, build_linear)
    run = tiny.with_stage(replace(tiny.stage, generator=LinearConfig(latent_dim=3)))
    built = players.build_players(run, 0, SHAPE, MEAN)
    layers = [m for m in built["generator"].modules() if isinstance(m, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in layers] == [(3, 64)]


def test_one_entry_adds_a_game_with_its_own_players(monkeypatch, tiny):
    def build_other_players(game, context):
        return {**players.build_gan_players(game, context), "critic": nn.Linear(2, 1)}

    entry = players.GameSpec(GAN, build_other_players)
    monkeypatch.setitem(players.GAMES, OtherGame, entry)
    run = tiny.with_stage(replace(tiny.stage, game=OtherGame()))
    assert set(players.build_players(run, 0, SHAPE, MEAN)) == {
        "generator",
        "discriminator",
        "critic",
    }
    assert isinstance(players.build_game(OtherGame()), GAN)
