"""Training images of which only a few are labeled."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from advnets.data.dataset import ArraySplit, Dataset, Gather, Index, Shape, Split
from advnets.data.loader import BatchTransform, Loader
from advnets.errors import DataError, UsageError
from advnets.protocols import Batch
from advnets.rng import RNG


class SemiSupervisedLoader:
    """Batches without labels, each with a batch of labeled images beside it.

    Both are pure functions of the seed and the index; the few labeled images are gone through
    again and again, and are among the others too.
    """

    def __init__(
        self,
        train: Split,
        labeled_images: ArraySplit,
        transform: BatchTransform,
        labeled_transform: BatchTransform,
    ) -> None:
        self._unlabeled = Loader(train, transform)
        # Noise of a batch is drawn by seed and index: the labeled ones' is another's.
        self._labeled = Loader(
            labeled_images, replace(labeled_transform, seed=labeled_transform.seed + _APART)
        )

    def batch_at(self, index: int) -> Batch:
        """The batch of that index, in the nets' range."""
        return Batch(self._unlabeled.batch_at(index).images, labeled=self._labeled.batch_at(index))

    def epoch_at(self, index: int) -> float:
        """Passes over all images made before the batch of that index."""
        return self._unlabeled.epoch_at(index)


_APART = 1_000_003


def all_training_images(splits: Dataset) -> Split:
    """Return the training images followed by those of the unlabeled part, without labels.

    Raises:
        UsageError: the source is a stream.
    """
    train = splits.train
    if not isinstance(train, Split):
        raise UsageError(
            f"{splits.name} is a stream, of which no few images can be labeled; leave --stream"
        )
    return train if splits.unlabeled is None else ConcatSplit(train, splits.unlabeled)


@dataclass(frozen=True, eq=False)
class ConcatSplit:
    """Two parts of equal shape as one without labels: the images of the first come first."""

    first: Split
    second: Split

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    @property
    def shape(self) -> Shape:
        """Return channels, height and width of an image."""
        return self.first.shape

    @property
    def white_level(self) -> int:
        """Return the value that means 1.0."""
        return self.first.white_level

    @property
    def labels(self) -> None:
        """Return None: the second part has no labels."""

    def read(self, index: Index) -> np.ndarray:
        """Return some of the images."""
        numbers, n = np.arange(len(self))[index], len(self.first)
        read = np.empty((len(numbers), *self.shape), np.uint8)
        read[numbers < n] = self.first.read(numbers[numbers < n])
        read[numbers >= n] = self.second.read(numbers[numbers >= n] - n)
        return read

    def gather_fn(self, device: torch.device) -> Gather:
        """Return the way from numbers to images on a device."""
        parts, n = (self.first.gather_fn(device), self.second.gather_fn(device)), len(self.first)

        def gather(numbers: Int64[Tensor, " rows"], rng: RNG) -> Tensor:
            inside = numbers < n
            images = torch.empty((len(numbers), *self.shape), dtype=torch.uint8, device=device)
            for part, which, start in zip(parts, (inside, ~inside), (0, n), strict=True):
                if which.any():
                    images[which.to(device)] = part(numbers[which] - start, rng.fold_in(str(start)))
            return images

        return gather

    def digest(self) -> str:
        """Return BLAKE2b, in hex, of both parts' digests."""
        text = f"{self.first.digest()}/{self.second.digest()}"
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def labeled_subset(train: Split, num_labels: int, seed: int) -> ArraySplit:
    """So many images with their labels, as many of each class, drawn by a seed of their own.

    Raises:
        DataError: there are no labels, too few images of a class, or no equal number of each.
    """
    if train.labels is None:
        raise DataError("images without labels came to a semi-supervised game; give a labeled set")
    classes = int(train.labels.max()) + 1
    if num_labels % classes:
        raise DataError(
            f"{num_labels:,} labeled images were asked for of {classes} classes, as many of each; "
            f"ask for {classes * math.ceil(num_labels / classes):,}"
        )
    rng, chosen = np.random.default_rng(seed), list[np.ndarray]()
    for number in range(classes):
        of_class = np.flatnonzero(train.labels == number)
        if len(of_class) < num_labels // classes:
            raise DataError(
                f"{num_labels // classes:,} labeled images of each class were asked for, and class "
                f"{number} has {len(of_class):,}; ask for fewer"
            )
        chosen.append(rng.permutation(of_class)[: num_labels // classes])
    which = np.concatenate(chosen)
    return ArraySplit(np.asarray(train.read(which)), train.labels[which], train.white_level)
