"""The registry of models, which maps the class of a config to the function that builds it.

To add a model, write its config in `config/models.py`, its class in this package, and its builder
and one entry here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from advnets import config
from advnets.errors import UsageError
from advnets.models import dcgan, resnet
from advnets.models.classifiers import SemiSupervisedConvDiscriminator, SemiSupervisedDiscriminator
from advnets.models.conditional import ConditionalMLPDiscriminator, ConditionalMLPGenerator
from advnets.models.custom import build_custom_discriminator, build_custom_generator
from advnets.models.layers import Prior, Shape
from advnets.models.maxout_conv import DeconvGenerator, MaxoutConvDiscriminator
from advnets.models.mlp import MaxoutDiscriminator, MLPDiscriminator, MLPGenerator


def build_generator(
    spec: config.GeneratorConfig, shape: Shape, mean_image: Tensor | None, classes: int = 0
) -> nn.Module:
    """Return the generator that a config describes, with initial weights from torch's RNG.

    `mean_image` is the mean training image in the models' range. With `classes` the generator is
    class-conditional.

    Args:
        spec: the config, such as `advnets.config.DCGANGenerator()`.
        shape: channels, height and width of images.
        mean_image: mean training image, (channels, height, width), in the range of the networks, to
            which an output bias is set; None: no bias is set.
        classes: number of classes; 0: unconditional.

    Example:
        >>> config = advnets.config.DCGANGenerator()
        >>> G = advnets.models.build_generator(config, (3, 32, 32), mean_image=None)
        >>> G(torch.randn(2, 100)).shape
        torch.Size([2, 3, 32, 32])
    """
    return GENERATORS[type(spec)](spec, shape, mean_image, classes)


def build_discriminator(
    spec: config.DiscriminatorConfig, shape: Shape, classes: int = 0
) -> nn.Module:
    """Return the discriminator that a config describes, with initial weights from torch's RNG.

    With `classes` the discriminator is class-conditional.

    Args:
        spec: the config, such as `advnets.config.DCGANDiscriminator()`.
        shape: channels, height and width of images.
        classes: number of classes; 0: unconditional.

    Raises:
        UsageError: the config describes no discriminator, or one of another game.

    Example:
        >>> D = advnets.models.build_discriminator(advnets.config.DCGANDiscriminator(), (3, 32, 32))
        >>> D(torch.randn(2, 3, 32, 32)).shape
        torch.Size([2])
    """
    if type(spec) not in DISCRIMINATORS:
        raise UsageError(
            f"the game got {type(spec).__name__}, which does not fit it; "
            "use the discriminator of the game's preset"
        )
    return DISCRIMINATORS[type(spec)](spec, shape, classes)


def build_mlp_generator(
    spec: config.MLPGenerator, shape: Shape, mean_image: Tensor | None, classes: int
) -> nn.Module:
    """Return a fully connected generator."""
    net = MLPGenerator(shape, config.with_wider_latent(spec, classes), mean_image)
    return ConditionalMLPGenerator(net, build_prior(spec), classes) if classes else net


def build_deconv_generator(
    spec: config.DeconvGenerator, shape: Shape, _mean_image: Tensor | None, classes: int
) -> nn.Module:
    """Return the convolutional generator of 2014."""
    net = DeconvGenerator(shape, config.with_wider_latent(spec, classes))
    if not classes:
        return net
    return ConditionalMLPGenerator(net, Prior(spec.prior, spec.latent_dim), classes)


def build_convolutional_generator(
    spec: config.DCGANGenerator | config.ResidualGenerator,
    shape: Shape,
    _mean_image: Tensor | None,
    classes: int,
) -> nn.Module:
    """Return a DCGAN or residual generator."""
    is_dcgan = isinstance(spec, config.DCGANGenerator)
    model = dcgan.DCGANGenerator if is_dcgan else resnet.ResidualGenerator
    return model(shape, **vars(spec), classes=classes)


def build_prior(spec: config.MLPGenerator) -> Prior:
    """Return the prior of z of a generator that is wrapped by a conditional one."""
    return Prior(spec.prior, spec.latent_dim, spec.components, spec.component_shape)


def build_mlp_discriminator(
    spec: config.MaxoutDiscriminator | config.MLPDiscriminator, shape: Shape, classes: int
) -> nn.Module:
    """Return a fully connected discriminator, of maxout or other units."""
    inputs = concatenated_shape(shape, classes)
    maxout = isinstance(spec, config.MaxoutDiscriminator)
    net = MaxoutDiscriminator(inputs, spec) if maxout else MLPDiscriminator(inputs, spec)
    return ConditionalMLPDiscriminator(net, classes) if classes else net


def build_maxout_conv_discriminator(
    spec: config.MaxoutConvDiscriminator, shape: Shape, classes: int
) -> nn.Module:
    """Return the convolutional maxout discriminator of 2014, which cannot be conditional."""
    if classes:
        raise UsageError(
            "MaxoutConvDiscriminator does not take class labels, which a conditional game needs; "
            "use a fully connected or a DCGAN discriminator"
        )
    return MaxoutConvDiscriminator(shape, spec)


def build_convolutional_discriminator(
    spec: config.DCGANDiscriminator | config.ResidualDiscriminator, shape: Shape, classes: int
) -> nn.Module:
    """Return a DCGAN or residual discriminator."""
    is_dcgan = isinstance(spec, config.DCGANDiscriminator)
    model = dcgan.DCGANDiscriminator if is_dcgan else resnet.ResidualDiscriminator
    return model(shape, **vars(spec), classes=classes)


def concatenated_shape(shape: Shape, num_values: int) -> Shape:
    """Return the shape of flattened images with `num_values` more values; `shape` if it is 0."""
    channels, height, width = shape
    return (1, 1, channels * height * width + num_values) if num_values else shape


GENERATORS: dict[type[Any], Callable[[Any, Shape, Tensor | None, int], nn.Module]] = {
    config.MLPGenerator: build_mlp_generator,
    config.DeconvGenerator: build_deconv_generator,
    config.DCGANGenerator: build_convolutional_generator,
    config.ResidualGenerator: build_convolutional_generator,
    config.CustomGenerator: build_custom_generator,
}
"""The builder of each generator: called with its config, the image shape, the mean training image
and the number of classes (0: not conditional)."""

DISCRIMINATORS: dict[type[Any], Callable[[Any, Shape, int], nn.Module]] = {
    config.MaxoutDiscriminator: build_mlp_discriminator,
    config.MaxoutConvDiscriminator: build_maxout_conv_discriminator,
    config.MLPDiscriminator: build_mlp_discriminator,
    config.DCGANDiscriminator: build_convolutional_discriminator,
    config.ResidualDiscriminator: build_convolutional_discriminator,
    config.CustomDiscriminator: build_custom_discriminator,
}
"""The builder of each discriminator: called with its config, the image shape and the number of
classes (0: not conditional)."""

CLASSIFYING_DISCRIMINATORS: dict[type[Any], Callable[[Shape, Any, int], nn.Module]] = {
    config.SemiSupervisedDiscriminator: SemiSupervisedDiscriminator,
    config.SemiSupervisedConvDiscriminator: SemiSupervisedConvDiscriminator,
}
"""The discriminators of semi-supervised games: called with the image shape, the config and the
number of classes."""
