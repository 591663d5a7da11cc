"""Minibatches for semi-supervised learning: few labeled images among many unlabeled ones."""

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
    """The infinite sequence of unlabeled batches, each with a batch of labeled images.

    Both are pure functions of seed and index. The labeled images are also among the unlabeled
    ones.
    """

    def __init__(
        self,
        train: Split,
        labeled_images: ArraySplit,
        transform: BatchTransform,
        labeled_transform: BatchTransform,
    ) -> None:
        self._unlabeled = Loader(train, transform)
        # Use another seed for the labeled images, so that their random draws differ.
        self._labeled = Loader(
            labeled_images,
            replace(labeled_transform, seed=labeled_transform.seed + _LABELED_SEED_OFFSET),
        )

    def batch_at(self, index: int) -> Batch:
        """Return the normalized batch of that index, counted from 0."""
        return Batch(self._unlabeled.batch_at(index).images, labeled=self._labeled.batch_at(index))

    def epoch_at(self, index: int) -> float:
        """Return the number of epochs over all images completed before that batch."""
        return self._unlabeled.epoch_at(index)


_LABELED_SEED_OFFSET = 1_000_003


def all_training_images(dataset: Dataset) -> Split:
    """Return the training images followed by the unlabeled images, without labels.

    Raises:
        UsageError: the source is a stream.
    """
    train = dataset.train
    if not isinstance(train, Split):
        raise UsageError(
            f"semi-supervised games need random access, but {dataset.name} is a stream; remove "
            "--stream"
        )
    return train if dataset.unlabeled is None else ConcatSplit(train, dataset.unlabeled)


@dataclass(frozen=True, eq=False)
class ConcatSplit:
    """The concatenation of two splits of equal image shape, without labels."""

    first: Split
    second: Split

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    @property
    def shape(self) -> Shape:
        """Return the shape of an image."""
        return self.first.shape

    @property
    def white_level(self) -> int:
        """Return the pixel value that corresponds to 1.0."""
        return self.first.white_level

    @property
    def labels(self) -> None:
        """Return None: not all images are labeled."""

    def read(self, index: Index) -> np.ndarray:
        """Return some of the images."""
        rows, n = np.arange(len(self))[index], len(self.first)
        images = np.empty((len(rows), *self.shape), np.uint8)
        images[rows < n] = self.first.read(rows[rows < n])
        images[rows >= n] = self.second.read(rows[rows >= n] - n)
        return images

    def gather_fn(self, device: torch.device) -> Gather:
        """Return the function that gathers images by index on a device."""
        gather_fns = self.first.gather_fn(device), self.second.gather_fn(device)
        n = len(self.first)

        def gather(rows: Int64[Tensor, " rows"], rng: RNG) -> Tensor:
            in_first = rows < n
            images = torch.empty((len(rows), *self.shape), dtype=torch.uint8, device=device)
            for gather_fn, mask, start in zip(
                gather_fns, (in_first, ~in_first), (0, n), strict=True
            ):
                if mask.any():
                    images[mask.to(device)] = gather_fn(rows[mask] - start, rng.fold_in(str(start)))
            return images

        return gather

    def digest(self) -> str:
        """Return the BLAKE2b digest of both splits' digests in hex."""
        text = f"{self.first.digest()}/{self.second.digest()}"
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def labeled_subset(train: Split, num_labels: int, seed: int) -> ArraySplit:
    """Draw `num_labels` labeled images, equally many of each class.

    Raises:
        DataError: there are no labels, a class has too few images, or `num_labels` is not a
            multiple of the number of classes.
    """
    if train.labels is None:
        raise DataError(
            "a semi-supervised game needs labeled images, but the data has no labels; use labeled "
            "data"
        )
    classes = int(train.labels.max()) + 1
    if num_labels % classes:
        raise DataError(
            f"the number of labeled images must be a multiple of the {classes} classes, got "
            f"{num_labels:,}; use {classes * math.ceil(num_labels / classes):,}"
        )
    # Draw the same number of images of each class.
    per_class = num_labels // classes
    rng, selected = np.random.default_rng(seed), list[np.ndarray]()
    for label in range(classes):
        of_class = np.flatnonzero(train.labels == label)
        if len(of_class) < per_class:
            raise DataError(
                f"class {label} must have at least {per_class:,} labeled images, got "
                f"{len(of_class):,}; use fewer labeled images"
            )
        selected.append(rng.permutation(of_class)[:per_class])
    rows = np.concatenate(selected)
    return ArraySplit(np.asarray(train.read(rows)), train.labels[rows], train.white_level)
