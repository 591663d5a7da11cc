"""The two-player game of Goodfellow et al. 2014, with later objectives, penalties and labels."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from advnets import config
from advnets.errors import DataError
from advnets.games.augment import augment
from advnets.losses import (
    OBJECTIVES,
    Metrics,
    Objective,
    finite_difference_penalty,
    input_gradients,
    linearized_logits,
    pair_metrics,
    reinforce_loss,
    relativistic_logits,
    wgan_gradient_penalty,
    zero_centered_gradient_penalty,
)
from advnets.protocols import (
    Batch,
    ConditionalDiscriminator,
    ConditionalGenerator,
    Discriminator,
    Generator,
    Images,
    Logits,
    Phase,
    PhaseOutput,
    Players,
    Scalar,
    WeightedPrior,
    is_per_sample,
)
from advnets.rng import RNG
from advnets.schedules import Schedule

Packs = Float[Tensor, "packs pack_channels height width"]
"""Packs of one or more images, concatenated along the channels."""
PackLogits = Float[Tensor, " packs"]
"""Logits of packs."""
Rows = Int[Tensor, " images"]
"""Indices of rows of the minibatch."""


class DiscriminatorLoss(NamedTuple):
    """The loss of D, and other results of the same pass of D."""

    loss: Scalar
    """The objective with its penalties, which D minimizes."""
    fake_logits: PackLogits
    """Logits of the samples, through which G's loss can be differentiated."""
    metrics: Metrics


class GAN:
    """min_G max_D V(D, G), by Algorithm 1.

    Alternating updates, as in the paper's text: k phases in which D ascends V, then one in which G
    is updated, on fresh z or, as in many implementations, on the last samples of D's phase.
    Simultaneous updates, as in the authors' code: one phase, in which both gradients come from the
    same minibatch, samples and dropout masks before either player is updated.
    """

    def __init__(self, spec: config.GANGame) -> None:
        self.spec = spec
        self.objective: Objective = OBJECTIVES[spec.objective]
        self.has_gradient_penalty: bool = spec.has_gradient_penalty
        self.estimates_penalty: bool = spec.estimates_penalty
        self.schedules: dict[str, Schedule] = schedules(spec)

    def phases(self) -> tuple[Phase, ...]:
        """Return (both) for simultaneous updates, (discriminator, generator) for alternating."""
        spec = self.spec
        if spec.updates == "simultaneous":
            return (Phase("both", self.both, schedules=self.schedules),)
        k = (
            partial(num_discriminator_updates, spec.k, spec.adaptive_k_threshold)
            if spec.adaptive_k_threshold
            else spec.k
        )
        return (
            Phase("discriminator", self.discriminator, k, schedules=self.schedules),
            Phase("generator", self.generator, reads_data=False, schedules=self.schedules),
        )

    def discriminator(self, players: Players, batch: Batch, rng: RNG) -> PhaseOutput:
        """Return D's loss on a minibatch of data and as many samples."""
        reuse = self.spec.reuse_fakes
        with torch.set_grad_enabled(reuse):
            fake = self.samples(players, batch, rng)
        d_output = self.discriminator_loss(players, batch, fake.detach(), rng)
        carry = fake if reuse else None
        return PhaseOutput({"discriminator": d_output.loss}, d_output.metrics, carry=carry)

    def generator(self, players: Players, batch: Batch, rng: RNG) -> PhaseOutput:
        """Return G's loss on as many samples as the minibatch has images."""
        # Sample G(z), or reuse the samples of D's phase.
        fake = batch.carry
        if fake is None:
            fake = self.samples(players, batch, rng)
        # Compute D's logits of the samples; in a relativistic game, relative to those of the data.
        logits = self.augmented_logits(players, fake, batch, rng.split_streams("fake"))
        if self.spec.relativistic:
            real = self.augmented_logits(players, batch.images, batch, rng.split_streams("real"))
            _, logits = relativistic_logits(real, logits)
        return PhaseOutput({"generator": self.generator_loss(players, fake, logits, rng)})

    def both(self, players: Players, batch: Batch, rng: RNG) -> PhaseOutput:
        """Return both losses from one pass of G and one of D."""
        fake = self.samples(players, batch, rng)
        d_output = self.discriminator_loss(players, batch, fake, rng)
        generator_loss = self.generator_loss(players, fake, d_output.fake_logits, rng)
        losses = {"discriminator": d_output.loss, "generator": generator_loss}
        return PhaseOutput(losses, d_output.metrics)

    def generator_loss(
        self, players: Players, fake: Images, logits: PackLogits, rng: RNG
    ) -> Scalar:
        """Return G's objective, and the REINFORCE loss of the prior's mixture weights, if any."""
        loss = self.objective.generator(logits)
        prior = getattr(players["generator"], "prior", None)
        if not getattr(prior, "is_weighted", False):
            return loss
        log_p = cast(WeightedPrior, prior).log_probability(len(fake), rng)
        return loss + reinforce_loss(logits, log_p.unflatten(0, (-1, self.spec.pac)).sum(1))

    def discriminator_loss(
        self, players: Players, batch: Batch, fake: Images, rng: RNG
    ) -> DiscriminatorLoss:
        """Return D's loss on the minibatch and on samples, in one pass of D."""
        # Compute D's logits of real and generated images.
        packs = pack_channels(torch.cat((batch.images, fake)), self.spec.pac)
        if self.has_gradient_penalty and not (self.estimates_penalty or packs.requires_grad):
            packs.requires_grad_()
        streams = rng.split_streams("real", "fake")
        augmented = self.augment_packs(packs, batch, streams)
        if self.estimates_penalty:
            logits, squared_norms = self.logits_and_squared_norms(
                players, batch, packs.detach(), augmented, streams
            )
        else:
            logits, squared_norms = self.logits(players, augmented, batch, streams), None
        logits_for_g = logits

        # Compute the objective and its metrics.
        real_logits, fake_logits = self.split_logits(logits)
        loss = self.objective.discriminator(real_logits, fake_logits)
        metrics = self.metrics(real_logits, fake_logits)

        # Add the zero-centered gradient penalties R1 (real images) and R2 (samples). The gradients
        # are those in the images before augmentation.
        if self.has_gradient_penalty:
            if squared_norms is None:
                gradients = input_gradients(logits, packs)
                squared_norms = zero_centered_gradient_penalty(gradients)
                if fake.requires_grad and is_per_sample(players["discriminator"]):
                    logits_for_g = linearized_logits(logits, packs, gradients)
            real_norm, fake_norm = (part.mean() for part in squared_norms.chunk(2))
            r1 = batch.scheduled.get("r1", self.spec.r1)
            r2 = batch.scheduled.get("r2", self.spec.r2)
            loss = loss + 0.5 * (r1 * real_norm + r2 * fake_norm)
            metrics["grad_norm_sq/real"] = real_norm.detach()
            metrics["grad_norm_sq/fake"] = fake_norm.detach()

        # Add the WGAN-GP penalty on images interpolated between real and generated ones.
        if self.spec.gp_weight:
            penalty = self.interpolation_penalty(players, batch, packs.detach(), rng)
            loss = loss + self.spec.gp_weight * penalty
            metrics["gradient_penalty/interpolated"] = penalty.detach()
        return DiscriminatorLoss(loss, self.split_logits(logits_for_g)[1], metrics)

    def logits_and_squared_norms(
        self, players: Players, batch: Batch, packs: Packs, augmented: Packs, streams: RNG
    ) -> tuple[PackLogits, Float[Tensor, " estimates"]]:
        """Return D's logits of packs, and estimates of ‖∇_x a(x)‖² from finite differences.

        `packs` are real images followed by as many samples; the estimates are for every
        `penalty_every`-th of the former, then of the latter. `augmented` are the packs that D is
        given, and `streams` their random numbers.
        """
        # Add h or -h to each pixel of the chosen packs, and subtract it, for each direction.
        spec, n = self.spec, len(packs) // 2
        chosen = [first + row for first in (0, n) for row in range(0, n, spec.penalty_every)]
        all_rows = torch.arange(2 * n, device=packs.device)
        index = all_rows.unflatten(0, (2, n))[:, :: spec.penalty_every].flatten()
        shape = (spec.penalty_directions, *packs.shape[1:])
        rng = streams.take_rows(chosen, 2 * n)
        bits = rng.dropout_mask("penalty direction", len(chosen), *shape, keep_prob=0.5)
        change = spec.penalty_step * (2 * bits - 1)
        shifted = torch.stack((packs[index, None] + change, packs[index, None] - change))
        shifted = shifted.transpose(1, 2).flatten(0, 2)

        # Augment each as its pack. Compute all logits in one pass with the same dropout masks, as D
        # may change from pass to pass (spectral norm).
        chosen *= 2 * spec.penalty_directions
        images = [spec.pac * row + i for row in chosen for i in range(spec.pac)]
        shifted = self.augment_packs(shifted, batch, streams.take_rows(images, 2 * spec.pac * n))
        rows = torch.cat((all_rows, index.repeat(2 * spec.penalty_directions))) % n
        streams = streams.take_rows([*range(2 * n), *chosen], 2 * n)
        all_logits = self.logits(players, torch.cat((augmented, shifted)), batch, streams, rows)

        # Average the squared slopes of each pack over the directions.
        logits, shifted_logits = all_logits.split((2 * n, len(chosen)))
        forward, backward = shifted_logits.chunk(2)
        squared_norms = finite_difference_penalty(forward, backward, spec.penalty_step)
        return logits, squared_norms.unflatten(0, (spec.penalty_directions, -1)).mean(0)

    def interpolation_penalty(
        self, players: Players, batch: Batch, packs: Packs, rng: RNG
    ) -> Scalar:
        """Return E(‖∇a‖ - 1)² at random points between real images and samples.

        `packs` are the real images followed by as many samples.
        """
        real, fake = packs.chunk(2)
        weight = rng.uniform("between", len(real), 1, 1, 1)
        interpolated = (weight * real + (1 - weight) * fake).requires_grad_()
        stream = rng.split_streams("between")
        augmented = self.augment_packs(interpolated, batch, stream)
        logits = self.logits(players, augmented, batch, stream)
        return wgan_gradient_penalty(input_gradients(logits, interpolated)).mean()

    def samples(self, players: Players, batch: Batch, rng: RNG) -> Images:
        """Return G(z) for as many fresh z as the minibatch has images."""
        return generate(players, len(batch.images), rng)

    def logits(
        self,
        players: Players,
        images: Images,
        batch: Batch,  # noqa: ARG002 - used by subclasses whose D is conditional
        rng: RNG,
        rows: Rows | None = None,  # noqa: ARG002 - likewise
    ) -> Logits:
        """Return a(x) of images, whose labels or masks are those of these rows of the batch.

        Without `rows`, they are one or several concatenated sets, each as many as the batch.
        """
        return cast(Discriminator, players["discriminator"])(images, rng)

    def augmented_logits(
        self, players: Players, images: Images, batch: Batch, rng: RNG
    ) -> PackLogits:
        """Return D's logits of images after packing and augmentation."""
        packs = self.augment_packs(pack_channels(images, self.spec.pac), batch, rng)
        return self.logits(players, packs, batch, rng)

    def augment_packs(self, packs: Packs, batch: Batch, rng: RNG) -> Packs:
        """Augment each image of each pack with the current probability."""
        if not self.spec.augment_prob:
            return packs
        probability = batch.scheduled.get("augment_prob", 0.0)
        images = unpack_channels(packs, self.spec.pac)
        images = augment(images, self.spec.augmentations, probability, rng)
        return pack_channels(images, self.spec.pac)

    def split_logits(self, logits: Float[Tensor, " stacked"]) -> tuple[PackLogits, PackLogits]:
        """Split logits into those of real and generated images; relative ones if relativistic."""
        real_logits, fake_logits = logits.chunk(2)
        if self.spec.relativistic:
            return relativistic_logits(real_logits, fake_logits)
        return real_logits, fake_logits

    def metrics(self, real_logits: PackLogits, fake_logits: PackLogits) -> Metrics:
        """Return the metrics to log, computed from the output of `split_logits`."""
        if self.spec.relativistic:
            return pair_metrics(real_logits)
        return self.objective.metrics(real_logits, fake_logits)


def schedules(spec: config.GANGame) -> dict[str, Schedule]:
    """Return the schedules of R1, R2 and the augmentation probability that change."""
    result = {
        name: Schedule(first, last, spec.penalty_schedule)
        for name, first, last in (("r1", spec.r1, spec.r1_final), ("r2", spec.r2, spec.r2_final))
        if last is not None
    }
    if spec.augment_prob:
        result["augment_prob"] = Schedule(0.0, spec.augment_prob)
    return result


def pack_channels(images: Images, pac: int) -> Packs:
    """Concatenate each `pac` images along the channels.

    Source: Lin et al. 2018, "PacGAN", section 2.
    """
    return images if pac == 1 else images.unflatten(0, (-1, pac)).flatten(1, 2)


def unpack_channels(packs: Packs, pac: int) -> Images:
    """Return the images of packs, in their order: the inverse of `pack_channels`."""
    return packs if pac == 1 else packs.unflatten(1, (pac, -1)).flatten(0, 1)


def num_discriminator_updates(k: int, threshold: float, last_metrics: Mapping[str, float]) -> int:
    """Return k while the logged mean of D(x) - D(G(z)) is below a threshold in [0, 1], else 1.

    Before the first log the mean counts as 0. Source: Goodfellow et al. 2014, section 7, extension
    5: better methods for coordinating G and D.
    """
    difference = last_metrics.get("d_real", 0.5) - last_metrics.get("d_fake", 0.5)
    return k if difference < threshold else 1


def generate(players: Players, n: int, rng: RNG) -> Images:
    """Return G(z) for n fresh z."""
    net = cast(Generator, players["generator"])
    return net(net.latent(n, rng), rng)


class ConditionalGAN(GAN):
    """min_G max_D E[log D(x | y)] + E[log(1 - D(G(z | y) | y))], y the label of x.

    The samples have the labels of the real images in the minibatch, so that labels are equally
    frequent in both. Source: Goodfellow et al. 2014, section 7, extension 1;
    Mirza and Osindero 2014, equation 2.
    """

    def samples(self, players: Players, batch: Batch, rng: RNG) -> Images:
        """Return G(z | y) for fresh z and the labels of the minibatch."""
        net = cast(ConditionalGenerator, players["generator"])
        return net(net.latent(len(batch.images), rng, labels_of(batch)), rng)

    def logits(
        self, players: Players, images: Images, batch: Batch, rng: RNG, rows: Rows | None = None
    ) -> Logits:
        """Return a(x | y), with the labels of these rows of the minibatch, or of each set of it."""
        labels = labels_of(batch)
        labels = labels.repeat(len(images) // len(labels)) if rows is None else labels[rows]
        net = cast(ConditionalDiscriminator, players["discriminator"])
        return net(images, rng, labels)


def labels_of(batch: Batch) -> Int[Tensor, " batch"]:
    """Return the labels of a minibatch.

    Raises:
        DataError: the minibatch has no labels.
    """
    if batch.labels is None:
        raise DataError(
            "a conditional game got a minibatch without labels; train on labeled images"
        )
    return batch.labels
