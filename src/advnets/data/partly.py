"""Training pictures of which only a few are labelled."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from advnets.data.batches import Batches
from advnets.data.feed import Feed
from advnets.data.source import Part, Pictures
from advnets.errors import DataError
from advnets.types import Batch


class PartlyLabelled:
    """Batches without labels, each with a batch of labelled pictures beside it.

    Both are pure functions of the seed and the index; the few labelled pictures are gone through
    again and again, and are among the others too.
    """

    def __init__(self, train: Part, few: Pictures, feed: Feed, labelled: Feed) -> None:
        self._unlabelled = Batches(train, feed)
        # Noise of a batch is drawn by seed and index: the labelled ones' is another's.
        self._labelled = Batches(few, replace(labelled, seed=labelled.seed + _APART))

    def at(self, index: int) -> Batch:
        """The batch of that index, in the nets' range."""
        return Batch(self._unlabelled.at(index).pictures, beside=self._labelled.at(index))

    def epoch_at(self, index: int) -> float:
        """Passes over all pictures made before the batch of that index."""
        return self._unlabelled.epoch_at(index)


_APART = 1_000_003


def few_labelled(train: Part, labels: int, seed: int) -> Pictures:
    """So many pictures with their labels, as many of each class, drawn by a seed of their own.

    Raises:
        DataError: there are no labels, too few pictures of a class, or no equal number of each.
    """
    if train.labels is None:
        raise DataError(
            "pictures without labels came to a semi-supervised game; give a labelled set"
        )
    classes = int(train.labels.max()) + 1
    if labels % classes:
        raise DataError(
            f"{labels:,} labelled pictures were asked for of {classes} classes, as many of each; "
            f"ask for {classes * math.ceil(labels / classes):,}"
        )
    rng, chosen = np.random.default_rng(seed), list[np.ndarray]()
    for number in range(classes):
        of_class = np.flatnonzero(train.labels == number)
        if len(of_class) < labels // classes:
            raise DataError(
                f"{labels // classes:,} labelled pictures of each class were asked for, and class "
                f"{number} has {len(of_class):,}; ask for fewer"
            )
        chosen.append(rng.permutation(of_class)[: labels // classes])
    which = np.concatenate(chosen)
    return Pictures(np.asarray(train.read(which)), train.labels[which], train.white)
