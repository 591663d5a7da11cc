"""A generator that fills in the missing pixels of an image."""

from __future__ import annotations

import math
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from advnets.models.conditional import project
from advnets.models.layers import Prior, Shape
from advnets.rng import RNG


class InpaintingGenerator(nn.Module):
    """An inpainting generator: the known pixels of x, and G(z, known pixels, mask) elsewhere.

    A latent is the concatenation of z, the image (0 where unknown) and the mask; `net` maps it to a
    whole image. If nothing is known it is an ordinary generator. Source: Goodfellow et al. 2014,
    section 7, extension 3: one model of all conditionals p(x_S | x_not S).
    """

    def __init__(self, net: nn.Module, shape: Shape, prior: Prior) -> None:
        super().__init__()
        self.net, self.shape, self.prior = net, shape, prior
        self.latent_dim = prior.latent_dim + condition_size(shape)

    def sample_z(self, n: int, rng: RNG) -> Float[Tensor, "batch z"]:
        """Draw n points z from the prior, without known pixels."""
        return self.prior(n, rng)

    def latent(self, n: int, rng: RNG) -> Float[Tensor, "batch latent"]:
        """Draw n latents in which no pixel is known."""
        z = self.sample_z(n, rng)
        return torch.cat((z, z.new_zeros(n, condition_size(self.shape))), 1)

    def condition(
        self,
        z: Float[Tensor, "batch z"],
        images: Float[Tensor, "batch channels height width"],
        known: Float[Tensor, "batch 1 height width"],
    ) -> Float[Tensor, "batch latent"]:
        """Return latents from z, images and a mask that is 1 where a pixel is known, else 0."""
        return torch.cat((z, (images * known).flatten(1), known.flatten(1)), 1)

    def forward(
        self, z: Float[Tensor, "batch latent"], rng: RNG | None = None
    ) -> Float[Tensor, "batch channels height width"]:
        """Return the images with the unknown pixels filled in."""
        sizes = [self.prior.latent_dim, math.prod(self.shape), _area(self.shape)]
        _, image, mask = z.split(sizes, 1)
        known = mask.unflatten(1, (1, *self.shape[1:]))
        generated = cast(Tensor, self.net(z, rng))
        return image.unflatten(1, self.shape) + (1 - known) * generated

    def project(self) -> None:
        """Project the parameters onto their bounds; called after each update."""
        project(self.net)


def condition_size(shape: Shape) -> int:
    """Return how many numbers describe a partly known image: its pixels and its mask."""
    return math.prod(shape) + _area(shape)


def _area(shape: Shape) -> int:
    return shape[1] * shape[2]
