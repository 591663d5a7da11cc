"""Semi-supervised learning: D tells classes, and learns from images without labels and from G."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from advnets import config
from advnets.errors import DataError
from advnets.games.augment import Images, augment
from advnets.games.conditional import labels_of
from advnets.games.gan import generate
from advnets.losses import (
    classification_loss,
    discriminator_loss,
    feature_matching_loss,
    logit_metrics,
    mutual_information,
)
from advnets.protocols import Batch, ClassifyingDiscriminator, Phase, PhaseOutput, Players
from advnets.rng import RNG


class SemiSupervisedGAN:
    """D of K classes and "generated"; G matches the mean of D's features.

        L_D = -E log p(y | x, real) - ½ E log D(x) - ½ E log(1 - D(G(z)))
        L_G = ‖E f(x) - E f(G(z))‖²

    D(x) = Σ exp l / (Σ exp l + 1), l the K class logits: "generated" is a class whose logit is 0.
    The first term is of the few labeled images, the others are of images without labels.
    Besides, the classes that D gives an image seen plainly and through augmentations can be asked
    to have much mutual information: L_D - I(c; c').
    Source: Goodfellow et al. 2014, section 7, extension 4; Salimans et al. 2016, sections 3.1, 5.
    """

    def __init__(self, spec: config.SemiSupervisedGame) -> None:
        self.spec = spec

    def phases(self) -> tuple[Phase, ...]:
        """(both), or (discriminator, generator); supervised only, (discriminator)."""
        if not self.spec.unlabeled_loss:
            return (Phase("discriminator", self.supervised),)
        if self.spec.updates == "simultaneous":
            return (Phase("both", self.both),)
        return (
            Phase("discriminator", self.discriminator),
            Phase("generator", self.generator, reads_data=False),
        )

    def supervised(self, players: Players, batch: Batch, rng: RNG) -> PhaseOutput:
        """D learns the classes of labeled images."""
        told, net = labeled_batch(batch), cast(ClassifyingDiscriminator, players["discriminator"])
        (features,) = self.features(players, {"labeled": told.images}, rng)
        logits = net.class_logits(features, rng.split_streams("labelled"))
        loss = classification_loss(logits, labels_of(told))
        return PhaseOutput({"discriminator": loss})

    def discriminator(self, players: Players, batch: Batch, rng: RNG) -> PhaseOutput:
        """D descends its loss on labeled, unlabeled and generated images."""
        with torch.no_grad():
            fake = self.samples(players, batch, rng)
        loss, _, observed = self.discriminator_loss(players, batch, fake, rng)
        return PhaseOutput({"discriminator": loss}, observed)

    def generator(self, players: Players, batch: Batch, rng: RNG) -> PhaseOutput:
        """G descends the distance between mean features of images and of samples."""
        parts = {"real": batch.images, "fake": self.samples(players, batch, rng)}
        of_real, of_fake = self.features(players, parts, rng)
        return PhaseOutput({"generator": feature_matching_loss(of_real.detach(), of_fake)})

    def both(self, players: Players, batch: Batch, rng: RNG) -> PhaseOutput:
        """Both losses from one pass of D, before either has moved."""
        fake = self.samples(players, batch, rng)
        loss, (of_real, of_fake), observed = self.discriminator_loss(players, batch, fake, rng)
        matched = feature_matching_loss(of_real.detach(), of_fake)
        return PhaseOutput({"discriminator": loss, "generator": matched}, observed)

    def samples(self, players: Players, batch: Batch, rng: RNG) -> Images:
        """What G shows in a step."""
        return generate(players, self.spec.generated_batch or len(batch.images), rng)

    def discriminator_loss(
        self, players: Players, batch: Batch, fake: Images, rng: RNG
    ) -> tuple[Float[Tensor, ""], tuple[Tensor, Tensor], dict[str, Tensor]]:
        """D's loss, the features of images and of samples, and what to observe."""
        net, told = cast(ClassifyingDiscriminator, players["discriminator"]), labeled_batch(batch)
        parts = {"labeled": told.images, "real": batch.images, "fake": fake}
        of_told, of_real, of_fake = self.features(players, parts, rng)
        of_labeled, classes, of_generated = (
            net.class_logits(some, rng.split_streams(name))
            for name, some in zip(parts, (of_told, of_real, of_fake), strict=True)
        )
        a_real, a_fake = classes.logsumexp(1), of_generated.logsumexp(1)
        supervised = classification_loss(of_labeled, labels_of(told))
        loss = supervised + discriminator_loss(a_real, a_fake)
        observed = logit_metrics(a_real, a_fake) | {"loss/labeled": supervised}
        if self.spec.consistency:
            plain = net.class_logits(net.hidden(batch.images))
            information = mutual_information(classes, plain)
            loss = loss - self.spec.consistency * information
            observed["information"] = information
        return loss, (of_real, of_fake), observed

    def features(
        self, players: Players, parts: Mapping[str, Images], rng: RNG
    ) -> Sequence[Float[Tensor, "part features"]]:
        """Features of D's last hidden layer, of all kinds of images in one pass."""
        kinds, always = self.spec.augmentations, torch.ones((), device=rng.device)
        shown = [
            augment(some, kinds, always, rng.split_streams(name)) for name, some in parts.items()
        ]
        sizes = [len(some) for some in shown]
        net = cast(ClassifyingDiscriminator, players["discriminator"])
        return net.hidden(torch.cat(shown), rng.split_streams(*parts, sizes=sizes)).split(sizes)


def labeled_batch(batch: Batch) -> Batch:
    """The labeled images beside a batch.

    Raises:
        DataError: there are none.
    """
    if batch.labeled is None:
        raise DataError("a batch without labeled images beside it came to a semi-supervised game")
    return batch.labeled
