from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from advnets import config
from advnets.errors import UsageError
from advnets.models.mlp import (
    FourierFeatures,
    MaxoutDiscriminator,
    MLPDiscriminator,
    MLPGenerator,
    StackedGenerator,
)
from advnets.rng import RNG

SHAPE = (1, 4, 4)
NOISE = RNG(seed=1)


def spec(**changes):
    values = {
        "latent_dim": 6,
        "hidden_sizes": (10, 12),
        "activations": ("relu", "sigmoid"),
        "output_bias": 0.0,
    }
    return config.MLPGenerator(**(values | changes))


def test_a_generator_maps_z_to_images_in_the_range_of_its_output():
    generator = MLPGenerator(SHAPE, spec())
    images = generator(generator.latent(5, NOISE))
    assert images.shape == (5, *SHAPE)
    assert images.min() > 0
    assert images.max() < 1


@pytest.mark.parametrize("output", ["sigmoid", "tanh", "linear"])
def test_with_marginals_the_untrained_mean_is_the_data_mean(output):
    """With the last weights at zero, G(z) is the mean training image whatever z is."""
    mean = torch.linspace(0.05, 0.95, 16).reshape(SHAPE)
    generator = MLPGenerator(
        SHAPE, spec(output=output, output_bias="marginals", output_init_range=0.0), mean
    )
    torch.testing.assert_close(generator(generator.latent(3, NOISE)), mean.expand(3, *SHAPE))


def test_a_pixel_that_is_never_lit_begins_at_the_authors_clip():
    generator = MLPGenerator(
        SHAPE, spec(output_bias="marginals", output_init_range=0.0), torch.zeros(SHAPE)
    )
    assert generator(generator.latent(1, NOISE)).flatten()[0].item() == pytest.approx(
        1e-7, rel=0.01
    )


def test_marginals_that_were_not_given_are_asked_for():
    with pytest.raises(UsageError, match="needs the mean training image; pass mean_image"):
        MLPGenerator(SHAPE, spec(output_bias="marginals"))


def test_every_hidden_layer_needs_an_activation():
    with pytest.raises(UsageError, match="activations has 1 values and hidden_sizes has 2"):
        MLPGenerator(SHAPE, spec(activations=("relu",)))


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("kind", ["dropout", "noise"])
def test_any_layer_of_a_generator_can_be_disturbed(layer, kind):
    """Dropout or noise at one layer alone changes what G makes of the same z."""
    neutral, acting = (0.0, 0.5) if kind == "dropout" else (0.0, 1.0)
    values = tuple(acting if i == layer else neutral for i in range(3))
    generator = MLPGenerator(SHAPE, spec(output_init_range=1.0, init_range=1.0, **{kind: values}))
    z = generator.latent(4, NOISE)
    assert not torch.equal(generator(z, NOISE), generator(z))
    assert torch.equal(generator(z, NOISE), generator(z, NOISE))
    assert not torch.equal(generator(z, NOISE), generator(z, NOISE.at_step(1)))


def test_a_stacked_generator_is_its_parts_after_each_other():
    top = MLPGenerator(SHAPE, spec())
    bottom = MLPGenerator((6, 1, 1), spec(latent_dim=3, output_bias=-2.0))
    stacked = StackedGenerator(bottom, top)
    z = stacked.latent(5, NOISE)
    assert z.shape == (5, 3)
    assert torch.equal(stacked(z), top(bottom(z).flatten(1)))


def test_parts_of_a_stack_and_their_layers_are_disturbed_independently(monkeypatch):
    """Every mask and every noise is a draw of its own, though all are of one shape."""
    drawn = {"dropout_mask": [], "fast_normal": []}
    for kind, record in drawn.items():
        draw = getattr(RNG, kind)

        def recorded(rng, *shape, draw=draw, record=record, **options):
            record.append(draw(rng, *shape, **options))
            return record[-1]

        monkeypatch.setattr(RNG, kind, recorded)
    options = {
        "hidden_sizes": (40, 40),
        "dropout": (0.4,) * 3,
        "noise": (0.1,) * 3,
        "latent_dim": 40,
    }
    stacked = StackedGenerator(
        MLPGenerator((40, 1, 1), spec(**options)), MLPGenerator((1, 1, 2), spec(**options))
    )
    stacked(stacked.latent(50, NOISE), NOISE)
    for kind, found in drawn.items():
        assert len(found) == 6, kind
        apart = torch.corrcoef(torch.stack(found).flatten(1).float()) - torch.eye(6)
        assert apart.abs().max().item() < 5 / 2000**0.5, kind


def test_projection_bounds_both_parts_of_a_stack():
    wide = {"max_column_norm": 0.1, "init_range": 1.0}
    stacked = StackedGenerator(
        MLPGenerator((6, 1, 1), spec(latent_dim=3, **wide)), MLPGenerator(SHAPE, spec(**wide))
    )
    stacked.project()
    norms = [
        layer.weight.detach().norm(dim=1).max().item()
        for layer in stacked.modules()
        if isinstance(layer, torch.nn.Linear)
    ]
    assert len(norms) == 6
    assert max(norms) <= 0.1 + 1e-6


def test_a_discriminator_gives_one_logit_a_image():
    discriminator = MaxoutDiscriminator(SHAPE, config.MaxoutDiscriminator(hidden_sizes=(8, 8)))
    assert discriminator(torch.rand(5, *SHAPE)).shape == (5,)


def test_waves_stand_beside_the_input():
    """√2 cos(k x + φ), |k| by one factor from the least to the largest; mean 0, variance 1."""
    x = 100 * torch.randn(20_000, 2)
    torch.manual_seed(0)
    waves = FourierFeatures(2, 5, 1.0, 16.0)
    beside = waves(x)[:, 2:]
    assert torch.equal(waves(x)[:, :2], x)
    torch.testing.assert_close(waves.k.norm(dim=1), torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0]))
    torch.testing.assert_close(beside.mean(0), torch.zeros(5), atol=0.03, rtol=0)
    torch.testing.assert_close(beside.var(0), torch.ones(5), atol=0.03, rtol=0)
    angle = (x.double() @ waves.k.double().T + waves.phase.double()).numpy()
    np.testing.assert_allclose(beside, np.sqrt(2) * np.cos(angle), atol=2e-3)
    assert not list(waves.parameters())
    net = MLPDiscriminator(
        (2, 1, 1), config.MLPDiscriminator(hidden_sizes=(8,), fourier_features=4)
    )
    assert net(torch.rand(3, 2, 1, 1)).shape == (3,)
    with pytest.raises(UsageError, match=r"frequency_range is 0\.0; it must be more than 0"):
        config.MLPDiscriminator(frequency_range=(0.0, 1.0))


def test_dropout_acts_on_every_input_of_the_discriminator():
    """With all other inputs kept, each layer's own mask still changes the logits."""
    x = torch.rand(64, *SHAPE)
    for dropout_input, dropout_hidden in ((0.5, 0.0), (0.0, 0.5)):
        spec_ = config.MaxoutDiscriminator(
            hidden_sizes=(8, 8),
            init_range=0.5,
            dropout_input=dropout_input,
            dropout_hidden=dropout_hidden,
        )
        discriminator = MaxoutDiscriminator(SHAPE, spec_)
        assert not torch.equal(discriminator(x, NOISE), discriminator(x))


def test_dropout_leaves_the_mean_of_a_linear_discriminator():
    """1/keep is the right scale: the mean logit over masks is the logit without them."""
    spec_ = config.MaxoutDiscriminator(hidden_sizes=(), init_range=0.5)
    discriminator = MaxoutDiscriminator(SHAPE, spec_)
    x = torch.rand(1, *SHAPE).expand(20_000, *SHAPE)
    masked = discriminator(x, NOISE)
    error = masked.std().item() / 20_000**0.5
    assert masked.mean().item() == pytest.approx(discriminator(x[:1]).item(), abs=4 * error)


def test_the_tutorials_discriminator_is_linear_layers_and_leaky_rectifiers():
    ours = MLPDiscriminator((1, 4, 4), config.MLPDiscriminator(hidden_sizes=(8, 6)))
    plain = nn.Sequential(
        *(nn.Flatten(), nn.Linear(16, 8), nn.LeakyReLU(0.2)),
        *(nn.Linear(8, 6), nn.LeakyReLU(0.2), nn.Linear(6, 1)),
    )
    for mine, theirs in zip(ours.parameters(), plain.parameters(), strict=True):
        theirs.data.copy_(mine)
    x = torch.randn(3, 1, 4, 4)
    assert torch.equal(ours(x), plain(x).flatten())
