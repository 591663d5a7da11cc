"""Images of one height or one width, of which every look cuts out another part."""

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
    """One split of images that cover the frame, their values one after the other in `values`.

    `places` has for each image where it begins, its height and its width. For training a window
    of the frame's size is cut out at random, anew each time; read as a split they are cut about
    their centers.
    """

    values: UInt8[np.ndarray, " values"]
    extents: Int64[np.ndarray, "n 3"]
    shape: Shape
    labels: Int64[np.ndarray, " n"] | None = None
    known: str | None = field(default=None, repr=False)
    white_level: int = 255

    def __len__(self) -> int:
        return len(self.extents)

    def read(self, index: Index) -> UInt8[np.ndarray, "k channels height width"]:
        """Some of the images, cut about their centers."""
        extents = self.extents[index]
        return self._crop(to_tensor(self.values), extents, self._max_offsets(extents) // 2).numpy()

    def gather_fn(self, device: torch.device) -> Gather:
        """Images by number, each cut at random."""
        values = to_tensor(self.values).to(data_device(self.values.nbytes, device))

        def gather(numbers: Int64[Tensor, " rows"], rng: RNG) -> UInt8[Tensor, "rows c h w"]:
            places = self.extents[numbers.numpy()]
            shares = rng.uniform("window", len(places), 2).numpy()
            corners = (shares * (self._max_offsets(places) + 1)).astype(np.int64)
            return self._crop(values, places, corners).to(device)

        return gather

    def digest(self) -> str:
        """BLAKE2b of the shape, of each image, and of the labels."""
        if self.known is not None:
            return self.known
        digest = hashlib.blake2b(repr((self.shape, self.labels is None)).encode(), digest_size=16)
        for start, height, width in self.extents.tolist():
            digest.update(f"{height} {width}".encode())
            digest.update(self.values[start : start + self.shape[0] * height * width].data)
        if self.labels is not None:
            digest.update(self.labels.data)
        return digest.hexdigest()

    def _max_offsets(self, extents: Int64[np.ndarray, "rows 3"]) -> Int64[np.ndarray, "rows 2"]:
        """How far a window may be moved down and to the right."""
        return extents[:, 1:] - np.array(self.shape[1:])

    def _crop(
        self,
        values: UInt8[Tensor, " values"],
        extents: Int64[np.ndarray, "rows 3"],
        offsets: Int64[np.ndarray, "rows 2"],
    ) -> UInt8[Tensor, "rows channels height width"]:
        """A window of each image, whose corner is `corners` down and to the right."""
        channels, height, width = self.shape
        starts, heights, widths = extents[:, :, None, None].swapaxes(0, 1)
        tops, lefts = offsets[:, :, None, None].swapaxes(0, 1)
        lines = np.arange(channels)[:, None] * heights + np.arange(height) + tops
        # The lines of a window lie apart, the values of a line do not: lines are copied whole.
        begins = torch.from_numpy((lines * widths + (starts + lefts)).reshape(-1))
        lines_of = values.unfold(0, width, 1).index_select(0, begins.to(values.device))
        return lines_of.view(-1, *self.shape)
