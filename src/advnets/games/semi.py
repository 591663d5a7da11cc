"""Semi-supervised learning: D tells classes, and learns from pictures without labels and from G."""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from advnets import config
from advnets.errors import DataError
from advnets.games.augment import augmented
from advnets.games.conditional import labels_of
from advnets.games.plain import generate
from advnets.games.rules import observe
from advnets.noise import Noise
from advnets.objectives import (
    classification_loss,
    consistency_loss,
    discriminator_loss,
    feature_matching_loss,
)
from advnets.types import Batch, Classifying, Outcome, Phase, Players


class SemiSupervisedNets:
    """D of K classes and "generated"; G matches the mean of D's features.

        L_D = -E log p(y | x, real) - ½ E log D(x) - ½ E log(1 - D(G(z)))
        L_G = ‖E f(x) - E f(G(z))‖²

    D(x) = Σ exp l / (Σ exp l + 1), l the K class logits: "generated" is a class whose logit is 0.
    The first term is of the few labelled pictures, the others are of pictures without labels.
    Through augmentations, D can be asked besides for the class that it is sure of without them.
    Source: Goodfellow et al. 2014, section 7, extension 4; Salimans et al. 2016, sections 3.1, 5.
    """

    def __init__(self, spec: config.SemiSupervisedGame) -> None:
        self.spec = spec

    def phases(self) -> tuple[Phase, ...]:
        """(discriminator, generator); supervised only, (discriminator)."""
        d = Phase("discriminator", self.discriminator)
        if not self.spec.unlabelled:
            return (d,)
        return d, Phase("generator", self.generator, reads_data=False)

    def discriminator(self, players: Players, batch: Batch, noise: Noise) -> Outcome:
        """D descends its loss on labelled, unlabelled and generated pictures, in one pass."""
        told, net = labelled(batch), cast(Classifying, players["discriminator"])
        if not self.spec.unlabelled:
            source = noise.stacked("labelled")
            logits = net.class_logits(net.hidden(self.shown(told.pictures, source), source))
            return Outcome({"discriminator": classification_loss(logits, labels_of(told))})
        with torch.no_grad():
            fake = generate(players, len(batch.pictures), noise)
        pictures = torch.cat((told.pictures, batch.pictures, fake))
        source = noise.stacked("labelled", "real", "fake")
        hidden = net.hidden(self.shown(pictures, source), source)
        of_labelled, of_real, of_fake = net.class_logits(hidden).chunk(3)
        supervised = classification_loss(of_labelled, labels_of(told))
        a_real, a_fake = of_real.logsumexp(1), of_fake.logsumexp(1)
        observed = observe(a_real, a_fake) | {"loss/labelled": supervised}
        loss = supervised + discriminator_loss(a_real, a_fake)
        if self.spec.consistency:
            with torch.no_grad():
                found = net.class_logits(net.hidden(batch.pictures))
            differs, sure = consistency_loss(of_real, found, self.spec.confidence)
            loss = loss + self.spec.consistency * differs
            observed |= {"loss/consistency": differs.detach(), "sure": sure}
        return Outcome({"discriminator": loss}, observed)

    def shown(
        self, pictures: Float[Tensor, "stacked channels h w"], noise: Noise
    ) -> Float[Tensor, "stacked channels h w"]:
        """Pictures as D is shown them."""
        always = torch.ones((), device=pictures.device)
        return augmented(pictures, self.spec.augmentations, always, noise)

    def generator(self, players: Players, batch: Batch, noise: Noise) -> Outcome:
        """G descends the distance between mean features of pictures and of samples."""
        net = cast(Classifying, players["discriminator"])
        fake = generate(players, len(batch.pictures), noise)
        with torch.no_grad():
            of_real = net.hidden(batch.pictures, noise.stacked("real"))
        of_fake = net.hidden(fake, noise.stacked("fake"))
        return Outcome({"generator": feature_matching_loss(of_real, of_fake)})


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
