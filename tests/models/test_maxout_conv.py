import pytest
import torch

from advnets import config
from advnets.errors import UsageError
from advnets.models.maxout_conv import DeconvGenerator, MaxoutConvDiscriminator
from advnets.rng import RNG

SHAPE = (3, 32, 32)
SMALL = config.DeconvGenerator(hidden_sizes=(20, 200))


def test_the_generator_makes_images_of_32_by_32():
    generator = DeconvGenerator(SHAPE, SMALL)
    assert generator(generator.latent(2, RNG(0))).shape == (2, *SHAPE)


def test_the_output_has_a_bias_for_each_pixel():
    generator = DeconvGenerator(SHAPE, SMALL)
    with torch.no_grad():
        generator.deconv.weight.zero_()
        generator.bias.copy_(torch.arange(3 * 32 * 32).reshape(SHAPE))
    z = generator.latent(1, RNG(0))
    assert torch.equal(generator(z)[0], generator.bias)


def test_data_of_another_size_are_refused():
    with pytest.raises(UsageError, match="makes images of 32 x 32, but the data have 28 x 28"):
        DeconvGenerator((1, 28, 28), SMALL)


def test_hidden_units_that_cannot_be_reshaped_are_refused():
    with pytest.raises(UsageError, match="150 units, which cannot be reshaped to maps of 10 x 10"):
        DeconvGenerator(SHAPE, config.DeconvGenerator(hidden_sizes=(20, 150)))


def test_dropout_is_applied_to_every_input_of_the_discriminator():
    """Five inputs (three convolutions, maxout, output) each draw a mask of their own."""
    masks = []

    class MaskRecorder(RNG):
        def dropout_mask(self, purpose, rows, *shape, keep_prob):
            masks.append((purpose, keep_prob))
            return super().dropout_mask(purpose, rows, *shape, keep_prob=keep_prob)

    discriminator = MaxoutConvDiscriminator(SHAPE, config.MaxoutConvDiscriminator())
    assert discriminator(torch.rand(2, *SHAPE), MaskRecorder(seed=0)).shape == (2,)
    assert [keep for _, keep in masks] == [0.8, 0.5, 0.5, 0.5, 0.5]
    assert len({purpose for purpose, _ in masks}) == 5


def test_lists_of_different_lengths_are_refused():
    with pytest.raises(
        UsageError, match="channels, kernel_sizes, paddings and pools have 3, 2, 3, 3"
    ):
        MaxoutConvDiscriminator(SHAPE, config.MaxoutConvDiscriminator(kernel_sizes=(8, 8)))
