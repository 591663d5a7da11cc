"""Conditional adversarial nets: a game for each class, played by one G and one D."""

from __future__ import annotations

from typing import cast

from jaxtyping import Float, Int
from torch import Tensor

from advnets.errors import DataError
from advnets.games.gan import GAN
from advnets.protocols import Batch, ConditionalDiscriminator, ConditionalGenerator, Players
from advnets.rng import RNG


class ConditionalGAN(GAN):
    """min_G max_D E[log D(x | y)] + E[log(1 - D(G(z | y) | y))], y the label of x.

    Each sample is made for the label of a real image of the batch, so that labels are as frequent
    among samples as they are in the data. Source: Goodfellow et al. 2014, section 7, extension 1;
    Mirza and Osindero 2014, equation 2.
    """

    def samples(
        self, players: Players, batch: Batch, rng: RNG
    ) -> Float[Tensor, "batch channels h w"]:
        """G(z | y) for fresh z and the labels of the batch."""
        net = cast(ConditionalGenerator, players["generator"])
        return net(net.latent(len(batch.images), rng, labels_of(batch)), rng)

    def logits(
        self,
        players: Players,
        images: Float[Tensor, "stacked channels h w"],
        batch: Batch,
        rng: RNG,
    ) -> Float[Tensor, " stacked"]:
        """a(x | y), images one on top of the other having the labels of the batch each."""
        labels = labels_of(batch)
        net = cast(ConditionalDiscriminator, players["discriminator"])
        return net(images, rng, labels.repeat(len(images) // len(labels)))


def labels_of(batch: Batch) -> Int[Tensor, " batch"]:
    """The labels of a batch.

    Raises:
        DataError: it has none.
    """
    if batch.labels is None:
        raise DataError(
            "a batch without labels came to a game that is told them; give labeled images"
        )
    return batch.labels
