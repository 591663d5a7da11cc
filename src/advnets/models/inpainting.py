"""A generator of what is missing from an image."""

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
    """x where x is known, and G(z, x known, what is known) elsewhere.

    A latent is z, the known image (0 where it is not) and the mask, end to end; `inner` maps it
    to a whole image. With nothing known it is a plain generator. Source: Goodfellow et al. 2014,
    section 7, extension 3: all conditionals p(x_S | x_not S) by one family that shares parameters.
    """

    def __init__(self, inner: nn.Module, shape: Shape, prior: Prior) -> None:
        super().__init__()
        self.net, self.shape, self.prior = inner, shape, prior
        self.latent_dim = prior.latent_dim + condition_size(shape)

    def sample_z(self, n: int, rng: RNG) -> Float[Tensor, "batch own"]:
        """Draw n points of the noise prior p_z, without what is known."""
        return self.prior(n, rng)

    def latent(self, n: int, rng: RNG) -> Float[Tensor, "batch latent"]:
        """Draw n points of the noise prior p_z, and know nothing."""
        z = self.sample_z(n, rng)
        return torch.cat((z, z.new_zeros(n, condition_size(self.shape))), 1)

    def condition(
        self,
        z: Float[Tensor, "batch own"],
        images: Float[Tensor, "batch channels height width"],
        known: Float[Tensor, "batch 1 height width"],
    ) -> Float[Tensor, "batch latent"]:
        """The latents of completions of these images, of which `known` is 1 where one is."""
        return torch.cat((z, (images * known).flatten(1), known.flatten(1)), 1)

    def forward(
        self, z: Float[Tensor, "batch latent"], rng: RNG | None = None
    ) -> Float[Tensor, "batch channels height width"]:
        """The completed image."""
        sizes = [self.prior.latent_dim, math.prod(self.shape), _area(self.shape)]
        _, image, mask = z.split(sizes, 1)
        known = mask.unflatten(1, (1, *self.shape[1:]))
        drawn = cast(Tensor, self.net(z, rng))
        return image.unflatten(1, self.shape) + (1 - known) * drawn

    def project(self) -> None:
        """Put the parameters back into their bounds after an update."""
        project(self.net)


def condition_size(shape: Shape) -> int:
    """Numbers that say what is known of an image."""
    return math.prod(shape) + _area(shape)


def _area(shape: Shape) -> int:
    return shape[1] * shape[2]
