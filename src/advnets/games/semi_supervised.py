"""Semi-supervised learning: D tells classes, and learns from pictures without labels and from G."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from advnets import config
from advnets.errors import DataError
from advnets.games.augment import ArraySplit, augmented
from advnets.games.conditional import labels_of
from advnets.games.gan import generate
from advnets.games.rules import observe
from advnets.losses import (
    classification_loss,
    discriminator_loss,
    feature_matching_loss,
    mutual_information,
)
from advnets.protocols import Batch, Classifying, Phase, PhaseOutput, Players
from advnets.rng import RNG


class SemiSupervisedNets:
    """D of K classes and "generated"; G matches the mean of D's features.

        L_D = -E log p(y | x, real) - ½ E log D(x) - ½ E log(1 - D(G(z)))
        L_G = ‖E f(x) - E f(G(z))‖²

    D(x) = Σ exp l / (Σ exp l + 1), l the K class logits: "generated" is a class whose logit is 0.
    The first term is of the few labelled pictures, the others are of pictures without labels.
    Besides, the classes that D gives a picture seen plainly and through augmentations can be asked
    to have much mutual information: L_D - I(c; c').
    Source: Goodfellow et al. 2014, section 7, extension 4; Salimans et al. 2016, sections 3.1, 5.
    """

    def __init__(self, spec: config.SemiSupervisedGame) -> None:
        self.spec = spec

    def phases(self) -> tuple[Phase, ...]:
        """(both), or (discriminator, generator); supervised only, (discriminator)."""
        if not self.spec.unlabelled:
            return (Phase("discriminator", self.supervised),)
        if self.spec.updates == "simultaneous":
            return (Phase("both", self.both),)
        return (
            Phase("discriminator", self.discriminator),
            Phase("generator", self.generator, reads_data=False),
        )

    def supervised(self, players: Players, batch: Batch, noise: RNG) -> PhaseOutput:
        """D learns the classes of labelled pictures."""
        told, net = labelled(batch), cast(Classifying, players["discriminator"])
        (features,) = self.features(players, {"labelled": told.pictures}, noise)
        logits = net.class_logits(features, noise.stacked("labelled"))
        loss = classification_loss(logits, labels_of(told))
        return PhaseOutput({"discriminator": loss})

    def discriminator(self, players: Players, batch: Batch, noise: RNG) -> PhaseOutput:
        """D descends its loss on labelled, unlabelled and generated pictures."""
        with torch.no_grad():
            fake = self.samples(players, batch, noise)
        loss, _, observed = self.verdict(players, batch, fake, noise)
        return PhaseOutput({"discriminator": loss}, observed)

    def generator(self, players: Players, batch: Batch, noise: RNG) -> PhaseOutput:
        """G descends the distance between mean features of pictures and of samples."""
        parts = {"real": batch.pictures, "fake": self.samples(players, batch, noise)}
        of_real, of_fake = self.features(players, parts, noise)
        return PhaseOutput({"generator": feature_matching_loss(of_real.detach(), of_fake)})

    def both(self, players: Players, batch: Batch, noise: RNG) -> PhaseOutput:
        """Both losses from one pass of D, before either has moved."""
        fake = self.samples(players, batch, noise)
        loss, (of_real, of_fake), observed = self.verdict(players, batch, fake, noise)
        matched = feature_matching_loss(of_real.detach(), of_fake)
        return PhaseOutput({"discriminator": loss, "generator": matched}, observed)

    def samples(self, players: Players, batch: Batch, noise: RNG) -> ArraySplit:
        """What G shows in a step."""
        return generate(players, self.spec.generated_batch or len(batch.pictures), noise)

    def verdict(
        self, players: Players, batch: Batch, fake: ArraySplit, noise: RNG
    ) -> tuple[Float[Tensor, ""], tuple[Tensor, Tensor], dict[str, Tensor]]:
        """D's loss, the features of pictures and of samples, and what to observe."""
        net, told = cast(Classifying, players["discriminator"]), labelled(batch)
        parts = {"labelled": told.pictures, "real": batch.pictures, "fake": fake}
        of_told, of_real, of_fake = self.features(players, parts, noise)
        of_labelled, classes, of_generated = (
            net.class_logits(some, noise.stacked(name))
            for name, some in zip(parts, (of_told, of_real, of_fake), strict=True)
        )
        a_real, a_fake = classes.logsumexp(1), of_generated.logsumexp(1)
        supervised = classification_loss(of_labelled, labels_of(told))
        loss = supervised + discriminator_loss(a_real, a_fake)
        observed = observe(a_real, a_fake) | {"loss/labelled": supervised}
        if self.spec.consistency:
            plain = net.class_logits(net.hidden(batch.pictures))
            information = mutual_information(classes, plain)
            loss = loss - self.spec.consistency * information
            observed["information"] = information
        return loss, (of_real, of_fake), observed

    def features(
        self, players: Players, parts: Mapping[str, ArraySplit], noise: RNG
    ) -> Sequence[Float[Tensor, "part features"]]:
        """Features of D's last hidden layer, of all kinds of pictures in one pass."""
        kinds, always = self.spec.augmentations, torch.ones((), device=noise.device)
        shown = [
            augmented(some, kinds, always, noise.stacked(name)) for name, some in parts.items()
        ]
        sizes = [len(some) for some in shown]
        net = cast(Classifying, players["discriminator"])
        return net.hidden(torch.cat(shown), noise.stacked(*parts, sizes=sizes)).split(sizes)


def labelled(batch: Batch) -> Batch:
    """The labelled pictures beside a batch.

    Raises:
        DataError: there are none.
    """
    if batch.beside is None:
        raise DataError(
            "a batch without labelled pictures beside it came to a semi-supervised game"
        )
    return batch.beside
