"""Stacked MNIST: three MNIST digits as the channels of an image, with 1,000 modes.

Metz, Poole, Pfau and Sohl-Dickstein (2017), "Unrolled generative adversarial networks", section
3.3.1; sizes as in Lin, Khetan, Fanti and Oh (2018), "PacGAN", section 4.1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int32, Int64
from torch import Tensor

from advnets.config import check_min, check_values
from advnets.data.dataset import ArraySplit, Dataset, Gather, Index, Shape, Split
from advnets.data.datasets.mnist import open_mnist
from advnets.rng import RNG

_VALID, _TEST = 10_000, 26_000
_MAX_IMAGES = 10_000_000


@dataclass(frozen=True)
class StackedMNIST:
    """The options of stacked MNIST.

    Raises:
        UsageError: `n` is not between 1 and 10,000,000.
    """

    n: int = 128_000
    """The number of training images."""
    seed: int = 0
    """The random seed of the digits of all splits."""

    def __post_init__(self) -> None:
        check_min(self, 1, "n")
        check_values(self, f"at most {_MAX_IMAGES:,}", lambda number: number <= _MAX_IMAGES, "n")


class StackedSplit:
    """A split of images of shape (3, H, W), stacked from gray images on access.

    The red, green and blue channels of image k are the gray images indices[k, 0], indices[k, 1] and
    indices[k, 2]; its label is 100 r + 10 g + b, where r, g and b are their labels.
    """

    def __init__(self, gray: ArraySplit, indices: Int32[np.ndarray, "n 3"]) -> None:
        if gray.labels is None:
            raise ValueError("the gray images must have labels")
        self._gray, self.indices = gray, indices
        place_values = np.array([100, 10, 1])
        self._labels: Int64[np.ndarray, " n"] = gray.labels[indices] @ place_values

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def shape(self) -> Shape:
        """Return the shape of an image."""
        return (3, *self._gray.shape[1:])

    @property
    def white_level(self) -> int:
        """Return the pixel value that corresponds to 1.0."""
        return self._gray.white_level

    @property
    def labels(self) -> np.ndarray:
        """Return the modes (0 to 999) of all images as int64."""
        return self._labels

    def read(self, index: Index) -> np.ndarray:
        """Return some of the images, shape (rows, 3, H, W)."""
        return self._gray.images[self.indices[index], 0]

    def gather_fn(self, device: torch.device) -> Gather:
        """Return the function that gathers images by index on a device."""
        gather_gray, indices = self._gray.gather_fn(device), torch.from_numpy(self.indices)

        def gather(rows: Int64[Tensor, " rows"], rng: RNG) -> Tensor:
            gray_rows = indices.index_select(0, rows).long()
            return gather_gray(gray_rows.reshape(-1), rng).reshape(-1, *self.shape)

        return gather

    def digest(self) -> str:
        """Return the BLAKE2b digest of the gray images and the indices in hex."""
        digest = hashlib.blake2b(f"stacked/{self._gray.digest()}".encode(), digest_size=16)
        digest.update(np.ascontiguousarray(self.indices).data)
        return digest.hexdigest()


def open_stacked_mnist(options: StackedMNIST, folders: Sequence[Path]) -> Dataset:
    """Open stacked MNIST: n training, 10,000 validation and 26,000 test images.

    The digits of a split are drawn with replacement from the same split of MNIST; the first images
    do not depend on n.

    Raises:
        DataError: a file of MNIST is missing, damaged, or not the original.
    """
    digits = open_mnist(folders)
    train = stack(digits.train, options.n, options.seed, "train")
    valid = stack(digits.valid, _VALID, options.seed, "valid")
    test = stack(digits.test, _TEST, options.seed, "test")
    return Dataset(
        "stacked-mnist", train, valid, test, classes=tuple(f"{k:03}" for k in range(1000))
    )


def stack(gray: object, n: int, seed: int, purpose: str) -> Split:
    """Stack n triples of images, drawn with replacement by (seed, purpose)."""
    assert isinstance(gray, ArraySplit)  # the type of MNIST's splits
    # Compute exactly: uniform random numbers are multiples of 2^-24.
    uniform = RNG(seed, purpose="stacked").uniform(purpose, n, 3).numpy()
    indices = (uniform * 2**24).astype(np.int64) * len(gray) >> 24
    return StackedSplit(gray, indices.astype(np.int32))
