"""Adversarial nets: the two-player game of Goodfellow et al. 2014."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from advnets import config
from advnets.games.augment import augment
from advnets.games.rules import OBJECTIVES, pair_metrics
from advnets.losses import (
    input_gradients,
    linearized_logits,
    reinforce_loss,
    relativistic_logits,
    wgan_gradient_penalty,
    zero_centered_gradient_penalty,
)
from advnets.protocols import (
    Batch,
    Discriminator,
    Generator,
    Phase,
    PhaseOutput,
    Players,
    WeightedPrior,
    is_per_sample,
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
        repeats = (
            partial(num_discriminator_updates, spec.k, spec.adaptive_k_threshold)
            if spec.adaptive_k_threshold
            else spec.k
        )
        return (
            Phase("discriminator", self.discriminator, repeats=repeats),
            Phase("generator", self.generator, reads_data=False),
        )

    def discriminator(self, players: Players, batch: Batch, rng: RNG) -> PhaseOutput:
        """D ascends V(D, G) on a batch of data and as many samples."""
        shared = self.spec.reuse_fakes == "shared"
        with torch.set_grad_enabled(shared):
            fake = self.samples(players, batch, rng)
        loss, _, observed = self.discriminator_loss(players, batch, fake.detach(), rng)
        return PhaseOutput({"discriminator": loss}, observed, carry=fake if shared else None)

    def generator(self, players: Players, batch: Batch, rng: RNG) -> PhaseOutput:
        """G descends its loss on as many samples as the batch has images."""
        fake = batch.carry
        if fake is None:
            fake = self.samples(players, batch, rng)
        logits = self.fake_logits(players, fake, batch, rng.split_streams("fake"))
        if self.spec.relativistic:
            real = self.fake_logits(players, batch.images, batch, rng.split_streams("real"))
            _, logits = relativistic_logits(real, logits)
        return PhaseOutput({"generator": self.generator_loss(players, fake, logits, rng)})

    def both(self, players: Players, batch: Batch, rng: RNG) -> PhaseOutput:
        """Both losses from one pass; neither player has moved when the other's is taken."""
        fake = self.samples(players, batch, rng)
        loss, fake_logits, observed = self.discriminator_loss(players, batch, fake, rng)
        of_fake = self.generator_loss(players, fake, fake_logits, rng)
        return PhaseOutput({"discriminator": loss, "generator": of_fake}, observed)

    def generator_loss(
        self,
        players: Players,
        fake: Float[Tensor, "batch channels h w"],
        logits: Float[Tensor, " packs"],
        rng: RNG,
    ) -> Float[Tensor, ""]:
        """The objective, and where the probabilities of z's components are learned, their loss."""
        loss = self.objective.generator(logits)
        prior = getattr(players["generator"], "prior", None)
        if not getattr(prior, "is_weighted", False):
            return loss
        chosen = cast(WeightedPrior, prior).log_probability(len(fake), rng)
        return loss + reinforce_loss(logits, chosen.unflatten(0, (-1, self.spec.pac)).sum(1))

    def samples(
        self, players: Players, batch: Batch, rng: RNG
    ) -> Float[Tensor, "batch channels h w"]:
        """G(z) for as many fresh z as the batch has images."""
        return generate(players, len(batch.images), rng)

    def logits(
        self,
        players: Players,
        images: Float[Tensor, "stacked channels h w"],
        batch: Batch,  # noqa: ARG002 - for games in which D is told more
        rng: RNG,
    ) -> Float[Tensor, " stacked"]:
        """a(x) of images as many as the batch has, or of several such on top of each other."""
        return cast(Discriminator, players["discriminator"])(images, rng)

    def fake_logits(
        self,
        players: Players,
        images: Float[Tensor, "stacked channels h w"],
        batch: Batch,
        rng: RNG,
    ) -> Float[Tensor, " packs"]:
        """The logits of images as D is shown them."""
        shown = self.augment(pack_channels(images, self.spec.pac), rng)
        return self.logits(players, shown, batch, rng)

    def augment(
        self, packs: Float[Tensor, "packs channels h w"], rng: RNG
    ) -> Float[Tensor, "packs channels h w"]:
        """Packs as D is shown them: each image augmented, as probably as it is by now."""
        if not self.spec.augment_prob:
            return packs
        probability = rng.ramp(0.0, self.spec.augment_prob)
        images = unpack_channels(packs, self.spec.pac)
        changed = augment(images, self.spec.augmentations, probability, rng)
        return pack_channels(changed, self.spec.pac)

    def discriminator_loss(
        self,
        players: Players,
        batch: Batch,
        fake: Float[Tensor, "batch channels h w"],
        rng: RNG,
    ) -> tuple[Float[Tensor, ""], Float[Tensor, " packs"], dict[str, Tensor]]:
        """D's loss with its penalties, G's logits of the fakes, what to observe; one pass of D."""
        packs = pack_channels(torch.cat((batch.images, fake)), self.spec.pac)
        if self.spec.has_gradient_penalty and not packs.requires_grad:
            packs.requires_grad_()
        both = rng.split_streams("real", "fake")
        logits = for_g = self.logits(players, self.augment(packs, both), batch, both)
        real_logits, fake_logits = self.split_logits(logits)
        loss = self.objective.discriminator(real_logits, fake_logits)
        observed = self.metrics(real_logits, fake_logits)
        if self.spec.has_gradient_penalty:
            # Of the images themselves: the slope goes through what D is shown them by.
            steepness = input_gradients(logits, packs)
            of_real, of_fake = (
                part.mean() for part in zero_centered_gradient_penalty(steepness).chunk(2)
            )
            r1, r2 = self.penalty_weights(rng)
            loss = loss + 0.5 * (r1 * of_real + r2 * of_fake)
            observed |= {"slope/real": of_real.detach(), "slope/fake": of_fake.detach()}
            if fake.requires_grad and is_per_sample(players["discriminator"]):
                for_g = linearized_logits(logits, packs, steepness)
        if self.spec.gp_weight:
            excess = self.interpolation_penalty(players, batch, packs.detach(), rng)
            loss = loss + self.spec.gp_weight * excess
            observed["slope/excess"] = excess.detach()
        return loss, self.split_logits(for_g)[1], observed

    def split_logits(
        self, logits: Float[Tensor, " stacked"]
    ) -> tuple[Float[Tensor, " packs"], Float[Tensor, " packs"]]:
        """What the objective is of, for images and for the samples stacked on them."""
        real_logits, fake_logits = logits.chunk(2)
        if self.spec.relativistic:
            return relativistic_logits(real_logits, fake_logits)
        return real_logits, fake_logits

    def metrics(
        self, real_logits: Float[Tensor, " packs"], fake_logits: Float[Tensor, " packs"]
    ) -> dict[str, Tensor]:
        """What is worth watching of logits as they are compared."""
        if self.spec.relativistic:
            return pair_metrics(real_logits)
        return self.objective.metrics(real_logits, fake_logits)

    def penalty_weights(self, rng: RNG) -> tuple[float | Float[Tensor, ""], ...]:
        """γ of either penalty at this step."""
        ways = (self.spec.r1, self.spec.r1_final), (self.spec.r2, self.spec.r2_final)
        return tuple(
            first if last is None else rng.ramp(first, last, self.spec.penalty_schedule)
            for first, last in ways
        )

    def interpolation_penalty(
        self,
        players: Players,
        batch: Batch,
        packs: Float[Tensor, "stacked channels h w"],
        rng: RNG,
    ) -> Float[Tensor, ""]:
        """E(‖∇a‖ - 1)² somewhere on the lines from images to the samples stacked on them."""
        real, fake = packs.chunk(2)
        share = rng.uniform("between", len(real), 1, 1, 1)
        between = (share * real + (1 - share) * fake).requires_grad_()
        source = rng.split_streams("between")
        logits = self.logits(players, self.augment(between, source), batch, source)
        return wgan_gradient_penalty(input_gradients(logits, between)).mean()


def pack_channels(
    images: Float[Tensor, "n channels h w"], pac: int
) -> Float[Tensor, "packs channels2 h w"]:
    """Each few images as the channels of one. Source: Lin et al. 2018, "PacGAN", section 2."""
    return images if pac == 1 else images.unflatten(0, (-1, pac)).flatten(1, 2)


def unpack_channels(
    packs: Float[Tensor, "packs channels2 h w"], pac: int
) -> Float[Tensor, "n channels h w"]:
    """The images of packs, in their order."""
    return packs if pac == 1 else packs.unflatten(1, (pac, -1)).flatten(0, 1)


def num_discriminator_updates(k: int, lead: float, observed: Mapping[str, float]) -> int:
    """K while mean D(x) - D(G(z)), as last observed, is below the wanted lead in [0, 1], else 1.

    A D that nobody has looked at yet tells nothing apart. Source: Goodfellow et al. 2014, section
    7, extension 5: better ways to coordinate G and D.
    """
    return k if observed.get("d_real", 0.5) - observed.get("d_fake", 0.5) < lead else 1


def generate(players: Players, n: int, rng: RNG) -> Float[Tensor, "batch channels h w"]:
    """G(z) for n fresh z."""
    net = cast(Generator, players["generator"])
    return net(net.latent(n, rng), rng)
