"""Fully connected nets that are told the class."""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from advnets.models.latent_prior import LatentSampler, Prior
from advnets.models.layers import one_hot
from advnets.protocols import judges_one_by_one
from advnets.rng import RNG


class ToldGenerator(LatentSampler):
    """G(z | y): the class, one-hot, stands at the end of the latent that `inner` is given.

    Source: Goodfellow et al. 2014, section 7, extension 1; Mirza and Osindero 2014, figure 1.
    """

    def __init__(self, inner: nn.Module, prior: Prior, classes: int) -> None:
        super().__init__()
        self.inner, self.prior, self.classes = inner, prior, classes
        self.latent_dim = prior.latent_dim + classes

    def forward(
        self, z: Float[Tensor, "batch latent"], noise: RNG | None = None
    ) -> Float[Tensor, "batch channels height width"]:
        """G(z | y)."""
        return cast(Tensor, self.inner(z, noise))

    def project(self) -> None:
        """Put the parameters back into their bounds after an update."""
        project(self.inner)


class ToldDiscriminator(nn.Module):
    """a(x | y): the class, one-hot, stands beside the pixels that `inner` is given."""

    def __init__(self, inner: nn.Module, classes: int) -> None:
        super().__init__()
        self.inner, self.classes = inner, classes
        self.one_by_one = judges_one_by_one(inner)

    def forward(
        self,
        x: Float[Tensor, "batch channels height width"],
        noise: RNG | None = None,
        labels: Int[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, " batch"]:
        """a(x | y)."""
        told = cast(Tensor, one_hot(labels, self.classes, x))
        return cast(Tensor, self.inner(torch.cat((x.flatten(1), told), 1)[:, None, None], noise))

    def project(self) -> None:
        """Put the parameters back into their bounds after an update."""
        project(self.inner)


def project(net: nn.Module) -> None:
    """Put a net's parameters back into their bounds, where it has any."""
    bounded = getattr(net, "project", None)
    if bounded is not None:
        bounded()
