"""Class-conditional fully connected models (conditional GAN, Mirza and Osindero 2014)."""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from advnets.models.layers import LatentSampler, Prior, one_hot
from advnets.protocols import is_per_sample
from advnets.rng import RNG


class ConditionalMLPGenerator(LatentSampler):
    """A class-conditional generator G(z | y): `net` gets z with the one-hot class appended.

    Source: Goodfellow et al. 2014, section 7, extension 1; Mirza and Osindero 2014, figure 1.
    """

    def __init__(self, net: nn.Module, prior: Prior, classes: int) -> None:
        super().__init__()
        self.net, self.prior, self.classes = net, prior, classes
        self.latent_dim = prior.latent_dim + classes

    def forward(
        self, z: Float[Tensor, "batch latent"], rng: RNG | None = None
    ) -> Float[Tensor, "batch channels height width"]:
        """Return G(z | y); z ends in the one-hot class."""
        return cast(Tensor, self.net(z, rng))

    def project(self) -> None:
        """Project the parameters onto their bounds; called after each update."""
        project(self.net)


class ConditionalMLPDiscriminator(nn.Module):
    """A class-conditional discriminator: `net` gets the pixels with the one-hot class appended."""

    def __init__(self, net: nn.Module, classes: int) -> None:
        super().__init__()
        self.net, self.classes = net, classes
        self.per_sample = is_per_sample(net)

    def forward(
        self,
        x: Float[Tensor, "batch channels height width"],
        rng: RNG | None = None,
        labels: Int[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, " batch"]:
        """Return the logits a(x | y)."""
        one_hot_labels = cast(Tensor, one_hot(labels, self.classes, x))
        return cast(
            Tensor, self.net(torch.cat((x.flatten(1), one_hot_labels), 1)[:, None, None], rng)
        )

    def project(self) -> None:
        """Project the parameters onto their bounds; called after each update."""
        project(self.net)


def project(net: nn.Module) -> None:
    """Project a model's parameters onto their bounds, if it has any."""
    net_project = getattr(net, "project", None)
    if net_project is not None:
        net_project()
