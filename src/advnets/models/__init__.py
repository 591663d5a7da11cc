"""Generators, discriminators and encoders; their random numbers come from the `RNG` they get."""

from __future__ import annotations

from typing import TYPE_CHECKING

from advnets.lazy import set_attributes

if TYPE_CHECKING:
    from advnets.models.classifiers import (
        SemiSupervisedConvDiscriminator,
        SemiSupervisedDiscriminator,
    )
    from advnets.models.conditional import (
        ConditionalMLPDiscriminator,
        ConditionalMLPGenerator,
        InpaintingGenerator,
    )
    from advnets.models.dcgan import DCGANDiscriminator, DCGANGenerator
    from advnets.models.factory import build_discriminator, build_generator
    from advnets.models.maxout_conv import DeconvGenerator, MaxoutConvDiscriminator
    from advnets.models.mlp import MaxoutDiscriminator, MLPDiscriminator, MLPEncoder, MLPGenerator
    from advnets.models.resnet import ResidualDiscriminator, ResidualGenerator

__all__ = [
    "ConditionalMLPDiscriminator",
    "ConditionalMLPGenerator",
    "DCGANDiscriminator",
    "DCGANGenerator",
    "DeconvGenerator",
    "InpaintingGenerator",
    "MLPDiscriminator",
    "MLPEncoder",
    "MLPGenerator",
    "MaxoutConvDiscriminator",
    "MaxoutDiscriminator",
    "ResidualDiscriminator",
    "ResidualGenerator",
    "SemiSupervisedConvDiscriminator",
    "SemiSupervisedDiscriminator",
    "build_discriminator",
    "build_generator",
]

set_attributes(
    __name__,
    {
        "ConditionalMLPDiscriminator": "advnets.models.conditional",
        "ConditionalMLPGenerator": "advnets.models.conditional",
        "DeconvGenerator": "advnets.models.maxout_conv",
        "InpaintingGenerator": "advnets.models.conditional",
        "MLPDiscriminator": "advnets.models.mlp",
        "MLPEncoder": "advnets.models.mlp",
        "MLPGenerator": "advnets.models.mlp",
        "MaxoutConvDiscriminator": "advnets.models.maxout_conv",
        "MaxoutDiscriminator": "advnets.models.mlp",
        "SemiSupervisedConvDiscriminator": "advnets.models.classifiers",
        "SemiSupervisedDiscriminator": "advnets.models.classifiers",
        "build_discriminator": "advnets.models.factory",
        "build_generator": "advnets.models.factory",
        "DCGANDiscriminator": "advnets.models.dcgan",
        "DCGANGenerator": "advnets.models.dcgan",
        "ResidualDiscriminator": "advnets.models.resnet",
        "ResidualGenerator": "advnets.models.resnet",
    },
)
