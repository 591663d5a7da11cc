"""Which class samples are of."""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from advnets.data.dataset import Part, length
from advnets.errors import UsageError
from advnets.experiment.metrics import EXTRACTORS
from advnets.experiment.sampler import pictures as some_pictures
from advnets.experiment.trained_model import Trained
from advnets.extractors.classifiers import WEIGHTS, classifier
from advnets.metrics.distance import nearest

EXEMPLARS = 3
"""Samples that stand for a class (Radford et al. 2015, figure 7)."""
LOOKED_AT = 1000
"""Samples among which those of a class are sought."""
_KNOWN, _VOTES = 10_000, 5


def latents_of_class(
    trained: Trained, name: str, *, seed: int = 0
) -> Float[Tensor, "exemplars latent"]:
    """The z of the first three samples of a class: told to make it, or seen to be of it.

    Raises:
        UsageError: the data has no labels, or too few samples are of the class.
        UnknownNameError: it has no such class.
    """
    number = trained.facts.class_index(name)
    if trained.conditional:
        return trained.latents(EXEMPLARS, seed=seed, label_index=number)
    seen = classes_of(trained, trained.sample(LOOKED_AT, seed=seed))
    which = (seen == number).nonzero().flatten()[:EXEMPLARS]
    if len(which) < EXEMPLARS:
        raise UsageError(
            f"of the first {LOOKED_AT:,} samples of seed {seed} {len(which)} are of class {name}, "
            f"and {EXEMPLARS} are needed; give samples by their numbers"
        )
    return trained.latents(LOOKED_AT, seed=seed)[which]


def classes_of(
    trained: Trained, pictures: Float[Tensor, "n channels height width"]
) -> Int[Tensor, " n"]:
    """The class of each picture: by the package's classifier of this set, else by its neighbours.

    The neighbours are the five nearest of at most 10,000 labelled training pictures, by pixels.
    """
    known = EXTRACTORS.get(trained.facts.name)
    if known in WEIGHTS:
        return classifier(known).logits(pictures).argmax(1)
    train = cast(Part, trained.open_data().splits.train)
    count = min(_KNOWN, length(train) or 0)
    labels = torch.from_numpy(train.labels)[:count]
    _, which = nearest(
        pictures.flatten(1), some_pictures(train, slice(count)).flatten(1), min(_VOTES, count)
    )
    return labels[which].mode(1).values
