"""Adversarial nets: the two-player game of Goodfellow et al. 2014."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from advnets import config
from advnets.noise import Noise
from advnets.objectives import (
    discriminator_loss,
    minimax_generator_loss,
    non_saturating_generator_loss,
    relative,
    squared_slopes,
    value_terms,
)
from advnets.types import Batch, Discriminator, Generator, Outcome, Phase, Players

GENERATOR_LOSSES = {
    "minimax": minimax_generator_loss,
    "non-saturating": non_saturating_generator_loss,
}


class AdversarialNets:
    """min_G max_D V(D, G), played by Algorithm 1.

    Alternating, as the paper's text: k phases in which D ascends V, one in which G moves, with
    fresh z, or with the samples D has seen last, as many implementations have it. Simultaneous, as
    the authors' files: one phase, in which both gradients come from the same batch, the same fakes
    and the same dropout masks before either player moves.
    """

    def __init__(self, spec: config.Game) -> None:
        self.spec = spec
        self.generator_loss = GENERATOR_LOSSES[spec.objective]

    def phases(self) -> tuple[Phase, ...]:
        """(both) or (discriminator x k, generator); with a lead wanted, x 1 where D has it."""
        spec = self.spec
        if spec.updates == "simultaneous":
            return (Phase("both", self.both),)
        repeats = partial(turns, spec.k, spec.lead) if spec.lead else spec.k
        return (
            Phase("discriminator", self.discriminator, repeats=repeats),
            Phase("generator", self.generator, reads_data=False),
        )

    def discriminator(self, players: Players, batch: Batch, noise: Noise) -> Outcome:
        """D ascends V(D, G) on a batch of data and as many samples."""
        shared = self.spec.fakes == "shared"
        with torch.set_grad_enabled(shared):
            fake = self.samples(players, batch, noise)
        loss, _, observed = self.verdict(players, batch, fake.detach(), noise)
        return Outcome({"discriminator": loss}, observed, handed=fake if shared else None)

    def generator(self, players: Players, batch: Batch, noise: Noise) -> Outcome:
        """G descends its loss on as many samples as the batch has pictures."""
        fake = batch.handed
        if fake is None:
            fake = self.samples(players, batch, noise)
        logits = self.logits(players, fake, batch, noise.stacked("fake"))
        if self.spec.relativistic:
            real = self.logits(players, batch.pictures, batch, noise.stacked("real"))
            _, logits = relative(real, logits)
        return Outcome({"generator": self.generator_loss(logits)})

    def both(self, players: Players, batch: Batch, noise: Noise) -> Outcome:
        """Both losses from one pass; neither player has moved when the other's is taken."""
        fake = self.samples(players, batch, noise)
        loss, fake_logits, observed = self.verdict(players, batch, fake, noise)
        losses = {"discriminator": loss, "generator": self.generator_loss(fake_logits)}
        return Outcome(losses, observed)

    def samples(
        self, players: Players, batch: Batch, noise: Noise
    ) -> Float[Tensor, "batch channels h w"]:
        """G(z) for as many fresh z as the batch has pictures."""
        return generate(players, len(batch.pictures), noise)

    def logits(
        self,
        players: Players,
        pictures: Float[Tensor, "stacked channels h w"],
        batch: Batch,  # noqa: ARG002 - for games in which D is told more
        noise: Noise,
    ) -> Float[Tensor, " stacked"]:
        """a(x) of pictures as many as the batch has, or of several such on top of each other."""
        return cast(Discriminator, players["discriminator"])(pictures, noise)

    def verdict(
        self,
        players: Players,
        batch: Batch,
        fake: Float[Tensor, "batch channels h w"],
        noise: Noise,
    ) -> tuple[Float[Tensor, ""], Float[Tensor, " batch"], dict[str, Tensor]]:
        """D's loss with its penalties, the fakes' logits, and what to observe; one pass of D."""
        pictures = torch.cat((batch.pictures, fake))
        penalised = self.spec.r1 > 0 or self.spec.r2 > 0
        if penalised and not pictures.requires_grad:
            pictures.requires_grad_()
        logits = self.logits(players, pictures, batch, noise.stacked("real", "fake"))
        real_logits, fake_logits = logits.chunk(2)
        if self.spec.relativistic:
            real_logits, fake_logits = relative(real_logits, fake_logits)
        loss = discriminator_loss(real_logits, fake_logits)
        observed = observe(real_logits, fake_logits)
        if penalised:
            of_real, of_fake = (part.mean() for part in squared_slopes(logits, pictures).chunk(2))
            loss = loss + 0.5 * (self.spec.r1 * of_real + self.spec.r2 * of_fake)
            observed |= {"slope/real": of_real.detach(), "slope/fake": of_fake.detach()}
        return loss, fake_logits, observed


def turns(k: int, lead: float, observed: Mapping[str, float]) -> int:
    """K while mean D(x) - D(G(z)), as last observed, is below the wanted lead in [0, 1], else 1.

    A D that nobody has looked at yet tells nothing apart. Source: Goodfellow et al. 2014, section
    7, extension 5: better ways to coordinate G and D.
    """
    return k if observed.get("d_real", 0.5) - observed.get("d_fake", 0.5) < lead else 1


def generate(players: Players, n: int, noise: Noise) -> Float[Tensor, "batch channels h w"]:
    """G(z) for n fresh z."""
    net = cast(Generator, players["generator"])
    return net(net.latent(n, noise), noise)


def observe(
    real_logits: Float[Tensor, " batch"], fake_logits: Float[Tensor, " batch"]
) -> dict[str, Float[Tensor, ""]]:
    """Batch means of D(x) and D(G(z)), V(D, G) and its two terms, with dropout as D is trained."""
    with torch.no_grad():
        of_real, of_fake = value_terms(real_logits, fake_logits)
        return {
            "d_real": torch.sigmoid(real_logits.float()).mean(),
            "d_fake": torch.sigmoid(fake_logits.float()).mean(),
            "value": of_real + of_fake,
            "value/real": of_real,
            "value/fake": of_fake,
        }
