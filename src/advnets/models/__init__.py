"""Generators, discriminators and encoders; their random numbers come from the `RNG` they get."""

from __future__ import annotations

from typing import TYPE_CHECKING

from advnets.lazy import lazy_attributes

if TYPE_CHECKING:
    from advnets.models import dcgan, resnet
    from advnets.models.classifiers import (
        SemiSupervisedConvDiscriminator,
        SemiSupervisedDiscriminator,
    )
    from advnets.models.conditional import (
        ConditionalMLPDiscriminator,
        ConditionalMLPGenerator,
        InpaintingGenerator,
    )
    from advnets.models.factory import build_discriminator, build_generator
    from advnets.models.maxout_conv import DeconvGenerator, MaxoutConvDiscriminator
    from advnets.models.mlp import MaxoutDiscriminator, MLPDiscriminator, MLPEncoder, MLPGenerator

__all__ = [
    "ConditionalMLPDiscriminator",
    "ConditionalMLPGenerator",
    "DeconvGenerator",
    "InpaintingGenerator",
    "MLPDiscriminator",
    "MLPEncoder",
    "MLPGenerator",
    "MaxoutConvDiscriminator",
    "MaxoutDiscriminator",
    "SemiSupervisedConvDiscriminator",
    "SemiSupervisedDiscriminator",
    "build_discriminator",
    "build_generator",
    "dcgan",
    "resnet",
]

__getattr__, __dir__ = lazy_attributes(
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
        "dcgan": "advnets.models.dcgan",
        "resnet": "advnets.models.resnet",
    },
)
