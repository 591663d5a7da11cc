"""Adversarial nets: the two-player game of Goodfellow et al. 2014."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from advnets import config
from advnets.games.augment import augmented
from advnets.games.rules import OBJECTIVES, observe_pairs
from advnets.losses import (
    choice_loss,
    excess_slopes,
    relative,
    slopes,
    squared_slopes,
    to_first_order,
)
from advnets.protocols import (
    Batch,
    Discriminator,
    Generator,
    Phase,
    PhaseOutput,
    Players,
    Weighted,
    judges_one_by_one,
)
from advnets.rng import RNG


class GAN:
    """min_G max_D V(D, G), played by Algorithm 1.

    Alternating, as the paper's text: k phases in which D ascends V, one in which G moves, with
    fresh z, or with the samples D has seen last, as many implementations have it. Simultaneous, as
    the authors' files: one phase, in which both gradients come from the same batch, the same fakes
    and the same dropout masks before either player moves.
    """

    def __init__(self, spec: config.Game) -> None:
        self.spec = spec
        self.objective = OBJECTIVES[spec.objective]

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

    def discriminator(self, players: Players, batch: Batch, noise: RNG) -> PhaseOutput:
        """D ascends V(D, G) on a batch of data and as many samples."""
        shared = self.spec.fakes == "shared"
        with torch.set_grad_enabled(shared):
            fake = self.samples(players, batch, noise)
        loss, _, observed = self.verdict(players, batch, fake.detach(), noise)
        return PhaseOutput({"discriminator": loss}, observed, handed=fake if shared else None)

    def generator(self, players: Players, batch: Batch, noise: RNG) -> PhaseOutput:
        """G descends its loss on as many samples as the batch has pictures."""
        fake = batch.handed
        if fake is None:
            fake = self.samples(players, batch, noise)
        logits = self.judged(players, fake, batch, noise.stacked("fake"))
        if self.spec.relativistic:
            real = self.judged(players, batch.pictures, batch, noise.stacked("real"))
            _, logits = relative(real, logits)
        return PhaseOutput({"generator": self.generators_loss(players, fake, logits, noise)})

    def both(self, players: Players, batch: Batch, noise: RNG) -> PhaseOutput:
        """Both losses from one pass; neither player has moved when the other's is taken."""
        fake = self.samples(players, batch, noise)
        loss, fake_logits, observed = self.verdict(players, batch, fake, noise)
        of_fake = self.generators_loss(players, fake, fake_logits, noise)
        return PhaseOutput({"discriminator": loss, "generator": of_fake}, observed)

    def generators_loss(
        self,
        players: Players,
        fake: Float[Tensor, "batch channels h w"],
        logits: Float[Tensor, " packs"],
        noise: RNG,
    ) -> Float[Tensor, ""]:
        """The objective, and where the probabilities of z's components are learned, their loss."""
        loss = self.objective.generator(logits)
        prior = getattr(players["generator"], "prior", None)
        if not getattr(prior, "weighted", False):
            return loss
        chosen = cast(Weighted, prior).log_probability(len(fake), noise)
        return loss + choice_loss(logits, chosen.unflatten(0, (-1, self.spec.pack)).sum(1))

    def samples(
        self, players: Players, batch: Batch, noise: RNG
    ) -> Float[Tensor, "batch channels h w"]:
        """G(z) for as many fresh z as the batch has pictures."""
        return generate(players, len(batch.pictures), noise)

    def logits(
        self,
        players: Players,
        pictures: Float[Tensor, "stacked channels h w"],
        batch: Batch,  # noqa: ARG002 - for games in which D is told more
        noise: RNG,
    ) -> Float[Tensor, " stacked"]:
        """a(x) of pictures as many as the batch has, or of several such on top of each other."""
        return cast(Discriminator, players["discriminator"])(pictures, noise)

    def judged(
        self,
        players: Players,
        pictures: Float[Tensor, "stacked channels h w"],
        batch: Batch,
        noise: RNG,
    ) -> Float[Tensor, " packs"]:
        """The logits of pictures as D is shown them."""
        shown = self.shown(packed(pictures, self.spec.pack), noise)
        return self.logits(players, shown, batch, noise)

    def shown(
        self, packs: Float[Tensor, "packs channels h w"], noise: RNG
    ) -> Float[Tensor, "packs channels h w"]:
        """Packs as D is shown them: each picture augmented, as probably as it is by now."""
        if not self.spec.augment:
            return packs
        probability = noise.ramp(0.0, self.spec.augment)
        pictures = unpacked(packs, self.spec.pack)
        changed = augmented(pictures, self.spec.augmentations, probability, noise)
        return packed(changed, self.spec.pack)

    def verdict(
        self,
        players: Players,
        batch: Batch,
        fake: Float[Tensor, "batch channels h w"],
        noise: RNG,
    ) -> tuple[Float[Tensor, ""], Float[Tensor, " packs"], dict[str, Tensor]]:
        """D's loss with its penalties, G's logits of the fakes, what to observe; one pass of D."""
        packs = packed(torch.cat((batch.pictures, fake)), self.spec.pack)
        if self.spec.penalised and not packs.requires_grad:
            packs.requires_grad_()
        both = noise.stacked("real", "fake")
        logits = for_g = self.logits(players, self.shown(packs, both), batch, both)
        real_logits, fake_logits = self.compared(logits)
        loss = self.objective.discriminator(real_logits, fake_logits)
        observed = self.observed(real_logits, fake_logits)
        if self.spec.penalised:
            # Of the pictures themselves: the slope goes through what D is shown them by.
            steepness = slopes(logits, packs)
            of_real, of_fake = (part.mean() for part in squared_slopes(steepness).chunk(2))
            r1, r2 = self.weights(noise)
            loss = loss + 0.5 * (r1 * of_real + r2 * of_fake)
            observed |= {"slope/real": of_real.detach(), "slope/fake": of_fake.detach()}
            if fake.requires_grad and judges_one_by_one(players["discriminator"]):
                for_g = to_first_order(logits, packs, steepness)
        if self.spec.gp:
            excess = self.excess(players, batch, packs.detach(), noise)
            loss = loss + self.spec.gp * excess
            observed["slope/excess"] = excess.detach()
        return loss, self.compared(for_g)[1], observed

    def compared(
        self, logits: Float[Tensor, " stacked"]
    ) -> tuple[Float[Tensor, " packs"], Float[Tensor, " packs"]]:
        """What the objective is of, for pictures and for the samples stacked on them."""
        real_logits, fake_logits = logits.chunk(2)
        if self.spec.relativistic:
            return relative(real_logits, fake_logits)
        return real_logits, fake_logits

    def observed(
        self, real_logits: Float[Tensor, " packs"], fake_logits: Float[Tensor, " packs"]
    ) -> dict[str, Tensor]:
        """What is worth watching of logits as they are compared."""
        if self.spec.relativistic:
            return observe_pairs(real_logits)
        return self.objective.observe(real_logits, fake_logits)

    def weights(self, noise: RNG) -> tuple[float | Float[Tensor, ""], ...]:
        """γ of either penalty at this step."""
        ways = (self.spec.r1, self.spec.end_r1), (self.spec.r2, self.spec.end_r2)
        return tuple(
            first if last is None else noise.ramp(first, last, self.spec.fall)
            for first, last in ways
        )

    def excess(
        self,
        players: Players,
        batch: Batch,
        packs: Float[Tensor, "stacked channels h w"],
        noise: RNG,
    ) -> Float[Tensor, ""]:
        """E(‖∇a‖ - 1)² somewhere on the lines from pictures to the samples stacked on them."""
        real, fake = packs.chunk(2)
        share = noise.uniform("between", len(real), 1, 1, 1)
        between = (share * real + (1 - share) * fake).requires_grad_()
        source = noise.stacked("between")
        logits = self.logits(players, self.shown(between, source), batch, source)
        return excess_slopes(slopes(logits, between)).mean()


def packed(
    pictures: Float[Tensor, "n channels h w"], pack: int
) -> Float[Tensor, "packs channels2 h w"]:
    """Each few pictures as the channels of one. Source: Lin et al. 2018, "PacGAN", section 2."""
    return pictures if pack == 1 else pictures.unflatten(0, (-1, pack)).flatten(1, 2)


def unpacked(
    packs: Float[Tensor, "packs channels2 h w"], pack: int
) -> Float[Tensor, "n channels h w"]:
    """The pictures of packs, in their order."""
    return packs if pack == 1 else packs.unflatten(1, (pack, -1)).flatten(0, 1)


def turns(k: int, lead: float, observed: Mapping[str, float]) -> int:
    """K while mean D(x) - D(G(z)), as last observed, is below the wanted lead in [0, 1], else 1.

    A D that nobody has looked at yet tells nothing apart. Source: Goodfellow et al. 2014, section
    7, extension 5: better ways to coordinate G and D.
    """
    return k if observed.get("d_real", 0.5) - observed.get("d_fake", 0.5) < lead else 1


def generate(players: Players, n: int, noise: RNG) -> Float[Tensor, "batch channels h w"]:
    """G(z) for n fresh z."""
    net = cast(Generator, players["generator"])
    return net(net.latent(n, noise), noise)
