"""Conditional GANs: G and D of images given their class label."""

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

    The samples have the labels of the real images in the minibatch, so that labels are equally
    frequent in both. Source: Goodfellow et al. 2014, section 7, extension 1;
    Mirza and Osindero 2014, equation 2.
    """

    def samples(
        self, players: Players, batch: Batch, rng: RNG
    ) -> Float[Tensor, "batch channels h w"]:
        """Return G(z | y) for fresh z and the labels of the minibatch."""
        net = cast(ConditionalGenerator, players["generator"])
        return net(net.latent(len(batch.images), rng, labels_of(batch)), rng)

    def logits(
        self,
        players: Players,
        images: Float[Tensor, "stacked channels h w"],
        batch: Batch,
        rng: RNG,
    ) -> Float[Tensor, " stacked"]:
        """Return a(x | y); each of several concatenated sets has the labels of the minibatch."""
        labels = labels_of(batch)
        net = cast(ConditionalDiscriminator, players["discriminator"])
        return net(images, rng, labels.repeat(len(images) // len(labels)))


def labels_of(batch: Batch) -> Int[Tensor, " batch"]:
    """Return the labels of a minibatch.

    Raises:
        DataError: it has none.
    """
    if batch.labels is None:
        raise DataError(
            "a conditional game got a minibatch without labels; train on labeled images"
        )
    return batch.labels
