"""What every source of pictures is opened into."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, UInt8


@dataclass(frozen=True, eq=False)
class Pictures:
    """One split, resident in memory as bytes.

    `images` holds N pictures, shape (N, C, H, W), C-contiguous; `white` is the integer that means
    1.0: 255, and 16 for scikit-learn's digits. `labels` are the classes 0, 1, … of shape (N,).
    """

    images: UInt8[np.ndarray, "n channels height width"]
    labels: Int64[np.ndarray, " n"] | None = None
    white: int = 255

    def __len__(self) -> int:
        return len(self.images)

    def part(self, which: slice | np.ndarray) -> Pictures:
        """Some of the pictures: a view for a slice, a copy for a mask or numbers."""
        labels = None if self.labels is None else self.labels[which]
        return Pictures(self.images[which], labels, self.white)


@dataclass(frozen=True)
class Broken:
    """A file that was left out, and why."""

    name: str
    reason: str


@dataclass(frozen=True, eq=False)
class Splits:
    """A source of pictures, opened.

    `train` is never empty; `valid` and `test` are None where the source has none.
    """

    name: str
    train: Pictures
    valid: Pictures | None
    test: Pictures | None
    broken: tuple[Broken, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a picture."""
        _, channels, height, width = self.train.images.shape
        return channels, height, width

    def digest(self) -> str:
        """BLAKE2b, in hex, of the training pixels and labels and of the sizes of the splits.

        A resumed run compares it with the one it began with, to see that its data is the same.
        """
        sizes = [0 if split is None else len(split) for split in (self.valid, self.test)]
        heading = (self.train.images.shape, self.train.white, *sizes, self.train.labels is None)
        digest = hashlib.blake2b(repr(heading).encode(), digest_size=16)
        digest.update(np.ascontiguousarray(self.train.images).reshape(-1).data)
        if self.train.labels is not None:
            digest.update(np.ascontiguousarray(self.train.labels).data)
        return digest.hexdigest()


def hold_out_last(pictures: Pictures, held_out: int) -> tuple[Pictures, Pictures | None]:
    """The pictures but the last few, and the last few (None for 0): training and validation."""
    if not held_out:
        return pictures, None
    kept = len(pictures) - held_out
    return pictures.part(slice(kept)), pictures.part(slice(kept, None))
