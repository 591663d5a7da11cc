"""Images that cover the frame and are cropped at random, anew each time they are drawn."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from advnets.data.dataset import Gather, Index, Shape, data_device, to_tensor
from advnets.rng import RNG


@dataclass(frozen=True, eq=False)
class RandomCropSplit:
    """A split of uncropped images, their values one after the other in `values`.

    `extents` has the offset in `values`, the height and the width of each image. For training a
    window of shape `shape` is cropped at random, anew each time; `read` crops the center.
    `known_digest` is the digest, if it has been computed before.
    """

    values: UInt8[np.ndarray, " values"]
    extents: Int64[np.ndarray, "n 3"]
    shape: Shape
    labels: Int64[np.ndarray, " n"] | None = None
    known_digest: str | None = field(default=None, repr=False)
    white_level: int = 255

    def __len__(self) -> int:
        return len(self.extents)

    def read(self, index: Index) -> UInt8[np.ndarray, "k channels height width"]:
        """Return some of the images, cropped at the center."""
        extents = self.extents[index]
        return self._crop(to_tensor(self.values), extents, self._max_offsets(extents) // 2).numpy()

    def gather_fn(self, device: torch.device) -> Gather:
        """Return a function that gathers images by index, each cropped at random."""
        values = to_tensor(self.values).to(data_device(self.values.nbytes, device))

        def gather(indices: Int64[Tensor, " rows"], rng: RNG) -> UInt8[Tensor, "rows c h w"]:
            extents = self.extents[indices.numpy()]
            fractions = rng.uniform("window", len(extents), 2).numpy()
            offsets = (fractions * (self._max_offsets(extents) + 1)).astype(np.int64)
            return self._crop(values, extents, offsets).to(device)

        return gather

    def digest(self) -> str:
        """Return a BLAKE2b digest of the shape, of each image, and of the labels."""
        if self.known_digest is not None:
            return self.known_digest
        digest = hashlib.blake2b(repr((self.shape, self.labels is None)).encode(), digest_size=16)
        for start, height, width in self.extents.tolist():
            digest.update(f"{height} {width}".encode())
            digest.update(self.values[start : start + self.shape[0] * height * width].data)
        if self.labels is not None:
            digest.update(self.labels.data)
        return digest.hexdigest()

    def _max_offsets(self, extents: Int64[np.ndarray, "rows 3"]) -> Int64[np.ndarray, "rows 2"]:
        """Return the largest offsets of a window, down and to the right, in pixels."""
        return extents[:, 1:] - np.array(self.shape[1:])

    def _crop(
        self,
        values: UInt8[Tensor, " values"],
        extents: Int64[np.ndarray, "rows 3"],
        offsets: Int64[np.ndarray, "rows 2"],
    ) -> UInt8[Tensor, "rows channels height width"]:
        """Return a window of each image at `offsets` pixels down and to the right."""
        channels, height, width = self.shape
        starts, heights, widths = extents[:, :, None, None].swapaxes(0, 1)
        tops, lefts = offsets[:, :, None, None].swapaxes(0, 1)
        rows = np.arange(channels)[:, None] * heights + np.arange(height) + tops
        # The rows of a window are apart, the values of a row are not: copy whole rows.
        starts_of_rows = torch.from_numpy((rows * widths + (starts + lefts)).reshape(-1))
        gathered = values.unfold(0, width, 1).index_select(0, starts_of_rows.to(values.device))
        return gathered.view(-1, *self.shape)
