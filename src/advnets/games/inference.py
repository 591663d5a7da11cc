"""Learned approximate inference: an encoder on G's side of the table."""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from advnets import config
from advnets.games.rules import observe
from advnets.losses import discriminator_loss, non_saturating_generator_loss
from advnets.protocols import Batch, Discriminator, Encoder, Generator, Phase, PhaseOutput, Players
from advnets.rng import RNG

Pairs = Float[Tensor, "batch 1 1 numbers"]


class ALI:
    """min_{G, E} max_D E[log D(x, E(x))] + E[log(1 - D(G(z), z))].

    D is shown pictures with z; at the solution the two joint distributions are one, so that E(x)
    is drawn from G's own posterior of z. G and E both move to make D's task hard, by the
    non-saturating losses. Source: Goodfellow et al. 2014, section 7, extension 2; Dumoulin et al.
    2017, "Adversarially learned inference", equation 2; Donahue et al. 2017 (E deterministic).
    """

    def __init__(self, spec: config.InferenceGame) -> None:
        self.spec = spec

    def phases(self) -> tuple[Phase, ...]:
        """(discriminator, generator with encoder)."""
        return (
            Phase("discriminator", self.discriminator),
            Phase("generator", self.generator, reads_data=False),
        )

    def discriminator(self, players: Players, batch: Batch, noise: RNG) -> PhaseOutput:
        """D ascends its value on pairs of both kinds."""
        with torch.no_grad():
            pairs = torch.cat((inferred(players, batch, noise), generated(players, batch, noise)))
        d = cast(Discriminator, players["discriminator"])
        of_real, of_fake = d(pairs, noise.stacked("real", "fake")).chunk(2)
        loss = discriminator_loss(of_real, of_fake)
        return PhaseOutput({"discriminator": loss}, observe(of_real, of_fake))

    def generator(self, players: Players, batch: Batch, noise: RNG) -> PhaseOutput:
        """G makes its pairs look inferred, E makes its pairs look generated."""
        d = cast(Discriminator, players["discriminator"])
        of_fake = d(generated(players, batch, noise), noise.stacked("fake"))
        of_real = d(inferred(players, batch, noise), noise.stacked("real"))
        return PhaseOutput(
            {
                "generator": non_saturating_generator_loss(of_fake),
                "encoder": non_saturating_generator_loss(-of_real),
            }
        )


def inferred(players: Players, batch: Batch, noise: RNG) -> Pairs:
    """(x, z ~ q(z | x))."""
    posterior = cast(Encoder, players["encoder"])(batch.pictures)
    return pairs(batch.pictures, posterior.draw(noise))


def generated(players: Players, batch: Batch, noise: RNG) -> Pairs:
    """(G(z), z)."""
    net = cast(Generator, players["generator"])
    z = net.latent(len(batch.pictures), noise)
    return pairs(net(z, noise), z)


def pairs(
    pictures: Float[Tensor, "batch channels height width"], z: Float[Tensor, "batch latent"]
) -> Pairs:
    """Pictures and their z, end to end, as D takes them."""
    return torch.cat((pictures.flatten(1), z.to(pictures)), 1)[:, None, None]
