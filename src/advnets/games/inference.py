"""Adversarially learned inference: an encoder trained jointly with G against D."""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from advnets import config
from advnets.losses import discriminator_loss, logit_metrics, non_saturating_generator_loss
from advnets.protocols import Batch, Discriminator, Encoder, Generator, Phase, PhaseOutput, Players
from advnets.rng import RNG

Pairs = Float[Tensor, "batch 1 1 numbers"]
"""An image and a latent, concatenated."""


class ALI:
    """min_{G, E} max_D E[log D(x, E(x))] + E[log(1 - D(G(z), z))].

    D classifies pairs of an image and a latent. At the solution both joint distributions are equal,
    so that E samples the posterior of z under G. G and E minimize the non-saturating losses.
    Source: Goodfellow et al. 2014, section 7, extension 2; Dumoulin et al. 2017, "Adversarially
    learned inference", equation 2; Donahue et al. 2017 (E deterministic).
    """

    def __init__(self, spec: config.ALIGame) -> None:
        self.spec = spec

    def phases(self) -> tuple[Phase, ...]:
        """Return (discriminator, generator); the second updates the encoder too."""
        return (
            Phase("discriminator", self.discriminator),
            Phase("generator", self.generator, reads_data=False),
        )

    def discriminator(self, players: Players, batch: Batch, rng: RNG) -> PhaseOutput:
        """Return D's loss on inferred and generated pairs."""
        with torch.no_grad():
            stacked_pairs = torch.cat(
                (inferred_pairs(players, batch, rng), generated_pairs(players, batch, rng))
            )
        d = cast(Discriminator, players["discriminator"])
        real_logits, fake_logits = d(stacked_pairs, rng.split_streams("real", "fake")).chunk(2)
        loss = discriminator_loss(real_logits, fake_logits)
        return PhaseOutput({"discriminator": loss}, logit_metrics(real_logits, fake_logits))

    def generator(self, players: Players, batch: Batch, rng: RNG) -> PhaseOutput:
        """Return the losses of G and E, which have the targets of D swapped."""
        d = cast(Discriminator, players["discriminator"])
        fake_logits = d(generated_pairs(players, batch, rng), rng.split_streams("fake"))
        real_logits = d(inferred_pairs(players, batch, rng), rng.split_streams("real"))
        return PhaseOutput(
            {
                "generator": non_saturating_generator_loss(fake_logits),
                "encoder": non_saturating_generator_loss(-real_logits),
            }
        )


def inferred_pairs(players: Players, batch: Batch, rng: RNG) -> Pairs:
    """Return (x, z) with z ~ q(z | x)."""
    posterior = cast(Encoder, players["encoder"])(batch.images)
    return pairs(batch.images, posterior.draw(rng))


def generated_pairs(players: Players, batch: Batch, rng: RNG) -> Pairs:
    """Return (G(z), z) for fresh z."""
    net = cast(Generator, players["generator"])
    z = net.latent(len(batch.images), rng)
    return pairs(net(z, rng), z)


def pairs(
    images: Float[Tensor, "batch channels height width"], z: Float[Tensor, "batch latent"]
) -> Pairs:
    """Concatenate images and latents, as input of D."""
    return torch.cat((images.flatten(1), z.to(images)), 1)[:, None, None]
