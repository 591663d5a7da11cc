"""Objectives by name: what each player minimizes, and what of D's logits is worth watching."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from advnets.losses import (
    critic_generator_loss,
    discriminator_loss,
    hinge_discriminator_loss,
    least_squares_discriminator_loss,
    least_squares_generator_loss,
    minimax_generator_loss,
    non_saturating_generator_loss,
    value_terms,
    wasserstein_discriminator_loss,
)

Observed = dict[str, Float[Tensor, ""]]


def logit_metrics(
    real_logits: Float[Tensor, " batch"], fake_logits: Float[Tensor, " samples"]
) -> Observed:
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


def pair_metrics(differences: Float[Tensor, " pairs"]) -> Observed:
    """Batch means of D(x, G(z)) = sigmoid(a(x) - a(G(z))) and of its logarithm, V of such a game.

    By the first D tells which of a pair is real; where it cannot they are 1/2 and -log 2. What a(x)
    is by itself, training does not say: any number may be added to all logits.
    """
    with torch.no_grad():
        return {
            "d_pair": torch.sigmoid(differences.float()).mean(),
            "value_pair": logsigmoid(differences.float()).mean(),
        }


def critic_metrics(
    real_logits: Float[Tensor, " batch"], fake_logits: Float[Tensor, " samples"]
) -> Observed:
    """Batch means of a(x) and a(G(z)), where no sigmoid makes a probability of them."""
    with torch.no_grad():
        return {"a(x)": real_logits.float().mean(), "a(G(z))": fake_logits.float().mean()}


@dataclass(frozen=True)
class Objective:
    """What D minimizes, of logits on images and on samples; what G does, of those on samples."""

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]
    metrics: Callable[[Tensor, Tensor], Observed] = logit_metrics


GENERATOR_LOSSES = {
    "minimax": minimax_generator_loss,
    "non-saturating": non_saturating_generator_loss,
}
"""Of the game of 2014, whose D is a classifier."""

OBJECTIVES = {
    **{name: Objective(discriminator_loss, loss) for name, loss in GENERATOR_LOSSES.items()},
    "hinge": Objective(hinge_discriminator_loss, critic_generator_loss, critic_metrics),
    "least-squares": Objective(
        least_squares_discriminator_loss, least_squares_generator_loss, critic_metrics
    ),
    "wasserstein": Objective(wasserstein_discriminator_loss, critic_generator_loss, critic_metrics),
}
