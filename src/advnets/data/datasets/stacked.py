"""Stacked MNIST: three digits in the channels of an image, 1,000 modes in all.

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
_MOST = 10_000_000


@dataclass(frozen=True)
class StackedMNIST:
    """How many training images, and the seed that chooses the digits of all splits.

    Raises:
        UsageError: there are none, or more than 10,000,000.
    """

    n: int = 128_000
    seed: int = 0

    def __post_init__(self) -> None:
        check_min(self, 1, "n")
        check_values(self, f"at most {_MOST:,}", lambda number: number <= _MOST, "n")


class Stacked:
    """A split of stacked images, (3, H, W), put together from gray ones as they are asked for.

    Image k has the gray ones numbers[k, 0], numbers[k, 1] and numbers[k, 2] as its red, green and
    blue channel, and the label 100 r + 10 g + b of theirs.
    """

    def __init__(self, gray: ArraySplit, numbers: Int32[np.ndarray, "n 3"]) -> None:
        if gray.labels is None:
            raise ValueError("what is stacked needs labels")
        self._gray, self.numbers = gray, numbers
        hundreds = np.array([100, 10, 1])
        self._labels: Int64[np.ndarray, " n"] = gray.labels[numbers] @ hundreds

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def shape(self) -> Shape:
        """Of an image."""
        return (3, *self._gray.shape[1:])

    @property
    def white_level(self) -> int:
        """The value that means 1.0."""
        return self._gray.white_level

    @property
    def labels(self) -> np.ndarray:
        """The modes 0 to 999 of all images, int64."""
        return self._labels

    def read(self, index: Index) -> np.ndarray:
        """Some images, (rows, 3, H, W)."""
        return self._gray.images[self.numbers[index], 0]

    def gather_fn(self, device: torch.device) -> Gather:
        """Images by number, gathered where the gray ones lie."""
        gray, numbers = self._gray.gather_fn(device), torch.from_numpy(self.numbers)

        def gather(rows: Int64[Tensor, " rows"], rng: RNG) -> Tensor:
            chosen = numbers.index_select(0, rows).long()
            return gray(chosen.reshape(-1), rng).reshape(-1, *self.shape)

        return gather

    def digest(self) -> str:
        """BLAKE2b of the gray images and of the numbers."""
        digest = hashlib.blake2b(f"stacked/{self._gray.digest()}".encode(), digest_size=16)
        digest.update(np.ascontiguousarray(self.numbers).data)
        return digest.hexdigest()


def open_stacked_mnist(options: StackedMNIST, folders: Sequence[Path]) -> Dataset:
    """Open MNIST, stacked: n training images, 10,000 for validation, 26,000 for tests.

    Each split is of the digits of MNIST's own split, drawn with replacement; the first images of
    a seed do not depend on n.

    Raises:
        DataError: a file of MNIST is in none of the folders, is broken, or is not MNIST's.
    """
    digits = open_mnist(folders)
    train = stack(digits.train, options.n, options.seed, "train")
    valid = stack(digits.valid, _VALID, options.seed, "valid")
    test = stack(digits.test, _TEST, options.seed, "test")
    return Dataset(
        "stacked-mnist", train, valid, test, classes=tuple(f"{k:03}" for k in range(1000))
    )


def stack(gray: object, n: int, seed: int, purpose: str) -> Split:
    """Stack n images of triples drawn under (seed, purpose), with replacement."""
    assert isinstance(gray, ArraySplit)  # what open_mnist opens
    # Exact: uniform numbers are 24 bits over 2^24.
    drawn = RNG(seed, purpose="stacked").uniform(purpose, n, 3).numpy()
    numbers = (drawn * 2**24).astype(np.int64) * len(gray) >> 24
    return Stacked(gray, numbers.astype(np.int32))
