"""Fully connected nets that are told the class."""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from advnets.models.layers import LatentSampler, Prior, one_hot
from advnets.protocols import is_per_sample
from advnets.rng import RNG


class ConditionalMLPGenerator(LatentSampler):
    """G(z | y): the class, one-hot, stands at the end of the latent that `inner` is given.

    Source: Goodfellow et al. 2014, section 7, extension 1; Mirza and Osindero 2014, figure 1.
    """

    def __init__(self, inner: nn.Module, prior: Prior, classes: int) -> None:
        super().__init__()
        self.net, self.prior, self.classes = inner, prior, classes
        self.latent_dim = prior.latent_dim + classes

    def forward(
        self, z: Float[Tensor, "batch latent"], rng: RNG | None = None
    ) -> Float[Tensor, "batch channels height width"]:
        """G(z | y)."""
        return cast(Tensor, self.net(z, rng))

    def project(self) -> None:
        """Put the parameters back into their bounds after an update."""
        project(self.net)


class ConditionalMLPDiscriminator(nn.Module):
    """a(x | y): the class, one-hot, stands beside the pixels that `inner` is given."""

    def __init__(self, inner: nn.Module, classes: int) -> None:
        super().__init__()
        self.net, self.classes = inner, classes
        self.per_sample = is_per_sample(inner)

    def forward(
        self,
        x: Float[Tensor, "batch channels height width"],
        rng: RNG | None = None,
        labels: Int[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, " batch"]:
        """a(x | y)."""
        one_hot_labels = cast(Tensor, one_hot(labels, self.classes, x))
        return cast(
            Tensor, self.net(torch.cat((x.flatten(1), one_hot_labels), 1)[:, None, None], rng)
        )

    def project(self) -> None:
        """Put the parameters back into their bounds after an update."""
        project(self.net)


def project(net: nn.Module) -> None:
    """Put a net's parameters back into their bounds, where it has any."""
    bounded = getattr(net, "project", None)
    if bounded is not None:
        bounded()
