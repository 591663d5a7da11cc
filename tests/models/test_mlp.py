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


def test_images_are_in_the_range_of_the_output_activation():
    generator = MLPGenerator(SHAPE, spec())
    images = generator(generator.latent(5, NOISE))
    assert images.shape == (5, *SHAPE)
    assert images.min() > 0
    assert images.max() < 1


@pytest.mark.parametrize("output", ["sigmoid", "tanh", "linear"])
def test_with_marginals_the_initial_output_is_the_mean_image(output):
    """With output weights of 0, G(z) is the mean training image for every z."""
    mean = torch.linspace(0.05, 0.95, 16).reshape(SHAPE)
    generator = MLPGenerator(
        SHAPE, spec(output=output, output_bias="marginals", output_init_range=0.0), mean
    )
    torch.testing.assert_close(generator(generator.latent(3, NOISE)), mean.expand(3, *SHAPE))


def test_the_bias_of_a_pixel_of_mean_0_is_clipped():
    generator = MLPGenerator(
        SHAPE, spec(output_bias="marginals", output_init_range=0.0), torch.zeros(SHAPE)
    )
    assert generator(generator.latent(1, NOISE)).flatten()[0].item() == pytest.approx(
        1e-7, rel=0.01
    )


def test_marginals_need_a_mean_image():
    with pytest.raises(UsageError, match="needs the mean training image; pass mean_image"):
        MLPGenerator(SHAPE, spec(output_bias="marginals"))


def test_every_hidden_layer_needs_an_activation():
    with pytest.raises(UsageError, match="activations has 1 values and hidden_sizes has 2"):
        MLPGenerator(SHAPE, spec(activations=("relu",)))


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("kind", ["dropout", "noise"])
def test_dropout_or_noise_in_any_layer_changes_the_output(layer, kind):
    """Dropout or noise in a single layer changes G(z) for the same z."""
    neutral, acting = (0.0, 0.5) if kind == "dropout" else (0.0, 1.0)
    values = tuple(acting if i == layer else neutral for i in range(3))
    generator = MLPGenerator(SHAPE, spec(output_init_range=1.0, init_range=1.0, **{kind: values}))
    z = generator.latent(4, NOISE)
    assert not torch.equal(generator(z, NOISE), generator(z))
    assert torch.equal(generator(z, NOISE), generator(z, NOISE))
    assert not torch.equal(generator(z, NOISE), generator(z, NOISE.at_step(1)))


def test_a_stacked_generator_composes_its_generators():
    top = MLPGenerator(SHAPE, spec())
    bottom = MLPGenerator((6, 1, 1), spec(latent_dim=3, output_bias=-2.0))
    stacked = StackedGenerator(bottom, top)
    z = stacked.latent(5, NOISE)
    assert z.shape == (5, 3)
    assert torch.equal(stacked(z), top(bottom(z).flatten(1)))


def test_masks_and_noise_of_a_stack_are_independent(monkeypatch):
    """Every mask and every noise is a separate draw, though all have the same shape."""
    draws = {"dropout_mask": [], "fast_normal": []}
    for kind, record in draws.items():
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
    for kind, result in draws.items():
        assert len(result) == 6, kind
        difference = torch.corrcoef(torch.stack(result).flatten(1).float()) - torch.eye(6)
        assert difference.abs().max().item() < 5 / 2000**0.5, kind


def test_projection_bounds_both_generators_of_a_stack():
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


def test_a_discriminator_returns_one_logit_per_image():
    discriminator = MaxoutDiscriminator(SHAPE, config.MaxoutDiscriminator(hidden_sizes=(8, 8)))
    assert discriminator(torch.rand(5, *SHAPE)).shape == (5,)


def test_fourier_features_are_appended_to_the_input():
    """√2 cos(k x + φ) with geometrically spaced |k|, of mean 0 and variance 1."""
    x = 100 * torch.randn(20_000, 2)
    torch.manual_seed(0)
    waves = FourierFeatures(2, 5, 1.0, 16.0)
    appended = waves(x)[:, 2:]
    assert torch.equal(waves(x)[:, :2], x)
    torch.testing.assert_close(waves.k.norm(dim=1), torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0]))
    torch.testing.assert_close(appended.mean(0), torch.zeros(5), atol=0.03, rtol=0)
    torch.testing.assert_close(appended.var(0), torch.ones(5), atol=0.03, rtol=0)
    angle = (x.double() @ waves.k.double().T + waves.phase.double()).numpy()
    np.testing.assert_allclose(appended, np.sqrt(2) * np.cos(angle), atol=2e-3)
    assert not list(waves.parameters())
    net = MLPDiscriminator(
        (2, 1, 1), config.MLPDiscriminator(hidden_sizes=(8,), fourier_features=4)
    )
    assert net(torch.rand(3, 2, 1, 1)).shape == (3,)
    with pytest.raises(UsageError, match=r"frequency_range is 0\.0; it must be more than 0"):
        config.MLPDiscriminator(frequency_range=(0.0, 1.0))


def test_dropout_changes_the_logits_at_every_layer():
    """Dropout in the input layer alone, or in later layers alone, changes the logits."""
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


def test_dropout_preserves_the_mean_logit_of_a_linear_discriminator():
    """The scale 1 / (1 - p) is right: the mean logit over masks is the logit without dropout."""
    spec_ = config.MaxoutDiscriminator(hidden_sizes=(), init_range=0.5)
    discriminator = MaxoutDiscriminator(SHAPE, spec_)
    x = torch.rand(1, *SHAPE).expand(20_000, *SHAPE)
    masked = discriminator(x, NOISE)
    error = masked.std().item() / 20_000**0.5
    assert masked.mean().item() == pytest.approx(discriminator(x[:1]).item(), abs=4 * error)


def test_the_mlp_discriminator_is_linear_layers_and_leaky_relu():
    actual = MLPDiscriminator((1, 4, 4), config.MLPDiscriminator(hidden_sizes=(8, 6)))
    plain = nn.Sequential(
        *(nn.Flatten(), nn.Linear(16, 8), nn.LeakyReLU(0.2)),
        *(nn.Linear(8, 6), nn.LeakyReLU(0.2), nn.Linear(6, 1)),
    )
    for own, reference in zip(actual.parameters(), plain.parameters(), strict=True):
        reference.data.copy_(own)
    x = torch.randn(3, 1, 4, 4)
    assert torch.equal(actual(x), plain(x).flatten())
