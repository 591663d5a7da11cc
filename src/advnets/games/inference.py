"""Learned approximate inference: an encoder on G's side of the table."""

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


class ALI:
    """min_{G, E} max_D E[log D(x, E(x))] + E[log(1 - D(G(z), z))].

    D is shown images with z; at the solution the two joint distributions are one, so that E(x)
    is drawn from G's own posterior of z. G and E both move to make D's task hard, by the
    non-saturating losses. Source: Goodfellow et al. 2014, section 7, extension 2; Dumoulin et al.
    2017, "Adversarially learned inference", equation 2; Donahue et al. 2017 (E deterministic).
    """

    def __init__(self, spec: config.ALIGame) -> None:
        self.spec = spec

    def phases(self) -> tuple[Phase, ...]:
        """(discriminator, generator with encoder)."""
        return (
            Phase("discriminator", self.discriminator),
            Phase("generator", self.generator, reads_data=False),
        )

    def discriminator(self, players: Players, batch: Batch, rng: RNG) -> PhaseOutput:
        """D ascends its value on pairs of both kinds."""
        with torch.no_grad():
            pairs = torch.cat(
                (inferred_pairs(players, batch, rng), generated_pairs(players, batch, rng))
            )
        d = cast(Discriminator, players["discriminator"])
        of_real, of_fake = d(pairs, rng.split_streams("real", "fake")).chunk(2)
        loss = discriminator_loss(of_real, of_fake)
        return PhaseOutput({"discriminator": loss}, logit_metrics(of_real, of_fake))

    def generator(self, players: Players, batch: Batch, rng: RNG) -> PhaseOutput:
        """G makes its pairs look inferred, E makes its pairs look generated."""
        d = cast(Discriminator, players["discriminator"])
        of_fake = d(generated_pairs(players, batch, rng), rng.split_streams("fake"))
        of_real = d(inferred_pairs(players, batch, rng), rng.split_streams("real"))
        return PhaseOutput(
            {
                "generator": non_saturating_generator_loss(of_fake),
                "encoder": non_saturating_generator_loss(-of_real),
            }
        )


def inferred_pairs(players: Players, batch: Batch, rng: RNG) -> Pairs:
    """(x, z ~ q(z | x))."""
    posterior = cast(Encoder, players["encoder"])(batch.images)
    return pairs(batch.images, posterior.draw(rng))


def generated_pairs(players: Players, batch: Batch, rng: RNG) -> Pairs:
    """(G(z), z)."""
    net = cast(Generator, players["generator"])
    z = net.latent(len(batch.images), rng)
    return pairs(net(z, rng), z)


def pairs(
    images: Float[Tensor, "batch channels height width"], z: Float[Tensor, "batch latent"]
) -> Pairs:
    """Images and their z, end to end, as D takes them."""
    return torch.cat((images.flatten(1), z.to(images)), 1)[:, None, None]
