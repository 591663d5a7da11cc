"""Models of images given a class (Mirza and Osindero 2014) or given some of their pixels."""

from __future__ import annotations

import math
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from advnets.models.layers import LatentSampler, Prior, Shape, one_hot
from advnets.protocols import Images, Latents, Logits, is_per_sample
from advnets.rng import RNG


class Projected:
    """The base of models that wrap a model `net` and delegate `project` to it."""

    net: nn.Module

    def project(self) -> None:
        """Project the parameters onto their bounds, if there are any; called after each update."""
        project = getattr(self.net, "project", None)
        if project is not None:
            project()


class ConditionalMLPGenerator(Projected, LatentSampler):
    """A class-conditional generator G(z | y): `net` gets z with the one-hot class appended.

    Source: Goodfellow et al. 2014, section 7, extension 1; Mirza and Osindero 2014, figure 1.
    """

    def __init__(self, net: nn.Module, prior: Prior, classes: int) -> None:
        super().__init__()
        self.net: nn.Module = net
        self.prior: Prior = prior
        self.classes: int = classes
        self.latent_dim: int = prior.latent_dim + classes

    def forward(self, z: Latents, rng: RNG | None = None) -> Images:
        """Return G(z | y); z ends in the one-hot class."""
        return cast(Tensor, self.net(z, rng))


class ConditionalMLPDiscriminator(Projected, nn.Module):
    """A class-conditional discriminator: `net` gets the pixels with the one-hot class appended."""

    def __init__(self, net: nn.Module, classes: int) -> None:
        super().__init__()
        self.net: nn.Module = net
        self.classes: int = classes
        self.per_sample: bool = is_per_sample(net)

    def forward(
        self, x: Images, rng: RNG | None = None, labels: Int[Tensor, " batch"] | None = None
    ) -> Logits:
        """Return the logits a(x | y)."""
        one_hot_labels = cast(Tensor, one_hot(labels, self.classes, x))
        return cast(
            Tensor, self.net(torch.cat((x.flatten(1), one_hot_labels), 1)[:, None, None], rng)
        )


class InpaintingGenerator(Projected, nn.Module):
    """An inpainting generator: the known pixels of x, and G(z, known pixels, mask) elsewhere.

    A latent is the concatenation of z, the image (0 where unknown) and the mask; `net` maps it to a
    whole image. If nothing is known it is an ordinary generator. Source: Goodfellow et al. 2014,
    section 7, extension 3: one model of all conditionals p(x_S | x_not S).
    """

    def __init__(self, net: nn.Module, shape: Shape, prior: Prior) -> None:
        super().__init__()
        self.net: nn.Module = net
        self.shape: Shape = shape
        self.prior: Prior = prior
        self.latent_dim: int = prior.latent_dim + condition_size(shape)

    def sample_z(self, n: int, rng: RNG) -> Float[Tensor, "batch z"]:
        """Draw n points z from the prior, without known pixels."""
        return self.prior(n, rng)

    def latent(self, n: int, rng: RNG) -> Latents:
        """Draw n latents in which no pixel is known."""
        z = self.sample_z(n, rng)
        return torch.cat((z, z.new_zeros(n, condition_size(self.shape))), 1)

    def condition(
        self,
        z: Float[Tensor, "batch z"],
        images: Images,
        known: Float[Tensor, "batch 1 height width"],
    ) -> Latents:
        """Return latents from z, images and a mask that is 1 where a pixel is known, else 0."""
        return torch.cat((z, (images * known).flatten(1), known.flatten(1)), 1)

    def forward(self, z: Latents, rng: RNG | None = None) -> Images:
        """Return the images with the unknown pixels filled in."""
        sizes = [self.prior.latent_dim, math.prod(self.shape), _area(self.shape)]
        _, image, mask = z.split(sizes, 1)
        known = mask.unflatten(1, (1, *self.shape[1:]))
        generated = cast(Tensor, self.net(z, rng))
        return image.unflatten(1, self.shape) + (1 - known) * generated


def condition_size(shape: Shape) -> int:
    """Return how many numbers describe a partly known image: its pixels and its mask."""
    return math.prod(shape) + _area(shape)


def _area(shape: Shape) -> int:
    return shape[1] * shape[2]
