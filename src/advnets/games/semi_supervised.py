"""Semi-supervised classification: D has a logit for each class, and also learns without labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor

from advnets import config
from advnets.distributed import world_size
from advnets.errors import DataError
from advnets.games.augment import augment
from advnets.games.gan import generate, labels_of
from advnets.losses import (
    Metrics,
    classification_loss,
    discriminator_loss,
    feature_matching_loss,
    logit_metrics,
    mutual_information,
)
from advnets.protocols import (
    Batch,
    ClassifyingDiscriminator,
    Images,
    Phase,
    PhaseOutput,
    Players,
    Scalar,
)
from advnets.rng import RNG

_LABELED = "labelled"
"""Name of the random stream of labeled images."""


class DiscriminatorLoss(NamedTuple):
    """The loss of D, and other results of the same pass of D."""

    loss: Scalar
    real_features: Float[Tensor, "batch features"]
    fake_features: Float[Tensor, "samples features"]
    metrics: Metrics


class SemiSupervisedGAN:
    """A GAN whose D is a classifier of K classes and "generated"; G matches D's mean features.

        L_D = -E log p(y | x, real) - ½ E log D(x) - ½ E log(1 - D(G(z)))
        L_G = ‖E f(x) - E f(G(z))‖²

    D(x) = Σ exp l / (Σ exp l + 1), l the K class logits: "generated" is a class whose logit is 0.
    The first term is on the few labeled images, the others are on unlabeled ones.
    With `consistency` c, L_D - c I(c; c') also rewards mutual information between the classes of an
    unlabeled image with and without augmentation.
    Source: Goodfellow et al. 2014, section 7, extension 4; Salimans et al. 2016, sections 3.1, 5.
    """

    def __init__(self, spec: config.SemiSupervisedGame) -> None:
        self.spec = spec

    def phases(self) -> tuple[Phase, ...]:
        """Return (both) or (discriminator, generator); of a supervised baseline (discriminator)."""
        if not self.spec.unlabeled_loss:
            return (Phase("discriminator", self.supervised),)
        if self.spec.updates == "simultaneous":
            return (Phase("both", self.both),)
        return (
            Phase("discriminator", self.discriminator),
            Phase("generator", self.generator, reads_data=False),
        )

    def supervised(self, players: Players, batch: Batch, rng: RNG) -> PhaseOutput:
        """Return D's classification loss on labeled images."""
        net = cast(ClassifyingDiscriminator, players["discriminator"])
        labeled = labeled_batch(batch)
        (features,) = self.features(players, {_LABELED: labeled.images}, rng)
        logits = net.class_logits(features, rng.split_streams(_LABELED))
        return PhaseOutput({"discriminator": classification_loss(logits, labels_of(labeled))})

    def discriminator(self, players: Players, batch: Batch, rng: RNG) -> PhaseOutput:
        """Return D's loss on labeled, unlabeled and generated images."""
        with torch.no_grad():
            fake = self.samples(players, batch, rng)
        d_output = self.discriminator_loss(players, batch, fake, rng)
        return PhaseOutput({"discriminator": d_output.loss}, d_output.metrics)

    def generator(self, players: Players, batch: Batch, rng: RNG) -> PhaseOutput:
        """Return the squared distance between the mean features of images and samples."""
        images = {"real": batch.images, "fake": self.samples(players, batch, rng)}
        real, fake = self.features(players, images, rng)
        return PhaseOutput({"generator": feature_matching_loss(real.detach(), fake)})

    def both(self, players: Players, batch: Batch, rng: RNG) -> PhaseOutput:
        """Return both losses from one pass of G and one of D."""
        fake = self.samples(players, batch, rng)
        d_output = self.discriminator_loss(players, batch, fake, rng)
        matching = feature_matching_loss(d_output.real_features.detach(), d_output.fake_features)
        return PhaseOutput(
            {"discriminator": d_output.loss, "generator": matching}, d_output.metrics
        )

    def samples(self, players: Players, batch: Batch, rng: RNG) -> Images:
        """Return the samples of a step: `generated_batch`, or as many as the minibatch has."""
        n = self.spec.generated_batch // world_size() or len(batch.images)
        return generate(players, n, rng)

    def discriminator_loss(
        self, players: Players, batch: Batch, fake: Images, rng: RNG
    ) -> DiscriminatorLoss:
        """Return D's loss on labeled images, on the minibatch and on samples, in one pass of D."""
        # Compute features and class logits of labeled, unlabeled and generated images.
        net = cast(ClassifyingDiscriminator, players["discriminator"])
        labeled = labeled_batch(batch)
        images = {_LABELED: labeled.images, "real": batch.images, "fake": fake}
        features = self.features(players, images, rng)
        labeled_logits, class_logits, fake_logits = (
            net.class_logits(set_features, rng.split_streams(name))
            for name, set_features in zip(images, features, strict=True)
        )

        # Add the classification loss and the GAN loss, with a(x) = log Σ exp l.
        classification = classification_loss(labeled_logits, labels_of(labeled))
        a_real, a_fake = class_logits.logsumexp(1), fake_logits.logsumexp(1)
        loss = classification + discriminator_loss(a_real, a_fake)
        metrics = logit_metrics(a_real, a_fake) | {"loss/labeled": classification}

        # Subtract the mutual information of the classes with and without augmentation.
        if self.spec.consistency:
            unaugmented = net.class_logits(net.hidden(batch.images))
            information = mutual_information(class_logits, unaugmented)
            loss = loss - self.spec.consistency * information
            metrics["information"] = information
        return DiscriminatorLoss(loss, features[1], features[2], metrics)

    def features(
        self, players: Players, images: Mapping[str, Images], rng: RNG
    ) -> Sequence[Float[Tensor, "part features"]]:
        """Return features of D's last hidden layer, of several sets of images in one pass of D.

        Each set is augmented, and has the random stream of its name.
        """
        kinds = self.spec.augmentations
        augmented = [
            augment(set_images, kinds, 1.0, rng.split_streams(name))
            for name, set_images in images.items()
        ]
        sizes = [len(set_images) for set_images in augmented]
        net = cast(ClassifyingDiscriminator, players["discriminator"])
        return net.hidden(torch.cat(augmented), rng.split_streams(*images, sizes=sizes)).split(
            sizes
        )


def labeled_batch(batch: Batch) -> Batch:
    """Return the labeled images of a minibatch.

    Raises:
        DataError: the minibatch has no labeled images.
    """
    if batch.labeled is None:
        raise DataError(
            "a semi-supervised game got a minibatch without labeled images; use a "
            "SemiSupervisedLoader"
        )
    return batch.labeled
