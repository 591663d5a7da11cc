"""From the config of a net to the net: the one place that knows which class it stands for."""

from __future__ import annotations

from functools import singledispatch

from torch import Tensor, nn

from advnets import config
from advnets.errors import UsageError
from advnets.models import dcgan, resnet
from advnets.models.conditional import ConditionalMLPDiscriminator, ConditionalMLPGenerator
from advnets.models.layers import Prior, Shape
from advnets.models.maxout_conv import DeconvGenerator, MaxoutConvDiscriminator
from advnets.models.mlp import MaxoutDiscriminator, MLPDiscriminator, MLPGenerator


@singledispatch
def build_generator(
    spec: config.GeneratorConfig, shape: Shape, marginals: Tensor | None, classes: int = 0
) -> nn.Module:
    """The generator that a config describes; with classes, it is told which to make.

    `marginals` is the mean training image in the nets' range.
    """
    raise NotImplementedError(f"no generator for {type(spec).__name__}")


@build_generator.register
def _(
    spec: config.MLPGenerator, shape: Shape, marginals: Tensor | None, classes: int = 0
) -> nn.Module:
    inner = MLPGenerator(shape, config.with_wider_latent(spec, classes), marginals)
    return ConditionalMLPGenerator(inner, build_prior(spec), classes) if classes else inner


@build_generator.register
def _(
    spec: config.DeconvGenerator,
    shape: Shape,
    marginals: Tensor | None,  # noqa: ARG001
    classes: int = 0,
) -> nn.Module:
    inner = DeconvGenerator(shape, config.with_wider_latent(spec, classes))
    return (
        ConditionalMLPGenerator(inner, Prior(spec.prior, spec.latent_dim), classes)
        if classes
        else inner
    )


@build_generator.register
def _(
    spec: config.DCGANGenerator,
    shape: Shape,
    marginals: Tensor | None,  # noqa: ARG001
    classes: int = 0,
) -> nn.Module:
    return dcgan.Generator(shape, **vars(spec), classes=classes)


@build_generator.register
def _(
    spec: config.ResidualGenerator,
    shape: Shape,
    marginals: Tensor | None,  # noqa: ARG001
    classes: int = 0,
) -> nn.Module:
    return resnet.Generator(shape, **vars(spec), classes=classes)


def build_prior(spec: config.MLPGenerator) -> Prior:
    """The prior of z alone, for a generator that is given more beside it."""
    return Prior(spec.prior, spec.latent_dim, spec.components, spec.component_shape)


@singledispatch
def build_discriminator(
    spec: config.DiscriminatorConfig,
    shape: Shape,  # noqa: ARG001
    classes: int = 0,  # noqa: ARG001
) -> nn.Module:
    """The discriminator that a config describes; with classes, it is told which it looks at.

    Raises:
        UsageError: the game has a discriminator and the config none, or another game's.
    """
    raise UsageError(
        f"the game was given {type(spec).__name__}, which it cannot be played with; "
        "give the discriminator that its preset has"
    )


@build_discriminator.register
def _(spec: config.MaxoutDiscriminator, shape: Shape, classes: int = 0) -> nn.Module:
    inner = MaxoutDiscriminator(concatenated_shape(shape, classes), spec)
    return ConditionalMLPDiscriminator(inner, classes) if classes else inner


@build_discriminator.register
def _(spec: config.MaxoutConvDiscriminator, shape: Shape, classes: int = 0) -> nn.Module:
    if classes:
        raise UsageError(
            "a conditional game was asked for of the convolutional D of 2014, which takes no "
            "labels; give a fully connected or a DCGAN discriminator"
        )
    return MaxoutConvDiscriminator(shape, spec)


@build_discriminator.register
def _(spec: config.MLPDiscriminator, shape: Shape, classes: int = 0) -> nn.Module:
    inner = MLPDiscriminator(concatenated_shape(shape, classes), spec)
    return ConditionalMLPDiscriminator(inner, classes) if classes else inner


@build_discriminator.register
def _(spec: config.DCGANDiscriminator, shape: Shape, classes: int = 0) -> nn.Module:
    return dcgan.Discriminator(shape, **vars(spec), classes=classes)


@build_discriminator.register
def _(spec: config.ResidualDiscriminator, shape: Shape, classes: int = 0) -> nn.Module:
    return resnet.Discriminator(shape, **vars(spec), classes=classes)


def concatenated_shape(shape: Shape, numbers: int) -> Shape:
    """The shape of images with so many numbers beside their pixels, as one row; of 0 as it is."""
    channels, height, width = shape
    return (1, 1, channels * height * width + numbers) if numbers else shape
