"""Training pictures of which only a few are labelled."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from advnets.data.batch_transform import BatchTransform
from advnets.data.dataset import ArraySplit, Gather, Part, Shape, Splits, Which
from advnets.data.loader import Batches
from advnets.errors import DataError, UsageError
from advnets.protocols import Batch
from advnets.rng import RNG


class PartlyLabelled:
    """Batches without labels, each with a batch of labelled pictures beside it.

    Both are pure functions of the seed and the index; the few labelled pictures are gone through
    again and again, and are among the others too.
    """

    def __init__(
        self, train: Part, few: ArraySplit, feed: BatchTransform, labelled: BatchTransform
    ) -> None:
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


def all_training(splits: Splits) -> Part:
    """Return the training pictures followed by those of the unlabeled part, without labels.

    Raises:
        UsageError: the source is a stream.
    """
    train = splits.train
    if not isinstance(train, Part):
        raise UsageError(
            f"{splits.name} is a stream, of which no few pictures can be labelled; leave --stream"
        )
    return train if splits.unlabeled is None else Concatenated(train, splits.unlabeled)


@dataclass(frozen=True, eq=False)
class Concatenated:
    """Two parts of equal shape as one without labels: the pictures of the first come first."""

    first: Part
    second: Part

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    @property
    def shape(self) -> Shape:
        """Return channels, height and width of a picture."""
        return self.first.shape

    @property
    def white(self) -> int:
        """Return the value that means 1.0."""
        return self.first.white

    @property
    def labels(self) -> None:
        """Return None: the second part has no labels."""

    def read(self, which: Which) -> np.ndarray:
        """Return some of the pictures."""
        numbers, n = np.arange(len(self))[which], len(self.first)
        read = np.empty((len(numbers), *self.shape), np.uint8)
        read[numbers < n] = self.first.read(numbers[numbers < n])
        read[numbers >= n] = self.second.read(numbers[numbers >= n] - n)
        return read

    def on(self, device: torch.device) -> Gather:
        """Return the way from numbers to pictures on a device."""
        parts, n = (self.first.on(device), self.second.on(device)), len(self.first)

        def gather(numbers: Int64[Tensor, " rows"], noise: RNG) -> Tensor:
            inside = numbers < n
            pictures = torch.empty((len(numbers), *self.shape), dtype=torch.uint8, device=device)
            for part, which, start in zip(parts, (inside, ~inside), (0, n), strict=True):
                if which.any():
                    pictures[which.to(device)] = part(
                        numbers[which] - start, noise.under(str(start))
                    )
            return pictures

        return gather

    def digest(self) -> str:
        """Return BLAKE2b, in hex, of both parts' digests."""
        text = f"{self.first.digest()}/{self.second.digest()}"
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def few_labelled(train: Part, labels: int, seed: int) -> ArraySplit:
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
    return ArraySplit(np.asarray(train.read(which)), train.labels[which], train.white)
