"""Between pixels and the range in which the nets see them."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from advnets.data.dataset import Part, Stream, blocks
from advnets.errors import UnknownNameError, UsageError

_NORM = 55.0  # of a picture under contrast normalisation, in pixel values of 0 to 255


@dataclass(frozen=True)
class Scaling(ABC):
    """A map from pixels to the nets' range, and back.

    `white` is the pixel value that means 1.0. The facts (its fields) are plain numbers: with them a
    run rebuilds its scaling without data.
    """

    kind: ClassVar[str]
    of_points: ClassVar[bool] = False
    white: float = 255.0

    @classmethod
    def fit(cls, pictures: Part | Stream) -> Scaling:
        """The scaling for these training pictures."""
        return cls(white=float(pictures.white))

    @abstractmethod
    def to_model(self, pixels: UInt8[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:
        """Pixels, shape (batch, C, H, W), in the nets' range."""

    @abstractmethod
    def to_pixels(self, pictures: Float[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:
        """Pictures in the nets' range as shares of white, in [0, 1]; what lies outside is cut."""

    def from_shares(
        self, pictures: Float[Tensor, "batch *shape"]
    ) -> Float32[Tensor, "batch *shape"]:
        """Pictures as shares of white, in [0, 1], in the nets' range: as their pixels would be."""
        return self.to_model((pictures * self.white).round().to(torch.uint8))

    def facts(self) -> dict[str, float]:
        """What `scaling_from_facts` needs to build this scaling again."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class UnitScaling(Scaling):
    """x / white, in [0, 1]."""

    kind: ClassVar[str] = "unit"

    def to_model(self, pixels: UInt8[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:
        """Give x / white."""
        return pixels.to(torch.float32).div_(self.white)

    def to_pixels(self, pictures: Float[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:
        """The pictures, cut to [0, 1]."""
        return pictures.to(torch.float32).clamp(0, 1)


@dataclass(frozen=True)
class SymmetricScaling(Scaling):
    """2x / white - 1, in [-1, 1]."""

    kind: ClassVar[str] = "symmetric"

    def to_model(self, pixels: UInt8[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:
        """Give 2x / white - 1."""
        return pixels.to(torch.float32).mul_(2).div_(self.white).sub_(1)

    def to_pixels(self, pictures: Float[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:
        """(x + 1) / 2, cut to [0, 1]."""
        return pictures.to(torch.float32).add(1).div_(2).clamp_(0, 1)


@dataclass(frozen=True)
class ContrastScaling(Scaling):
    """Global contrast normalisation: each picture less its mean, brought to norm 55.

    Mean and Euclidean norm are over all channels and pixels, as in the CIFAR-10 nets of Goodfellow
    et al. (2014). A picture of one level becomes 0. Of a normalised picture its level and norm are
    lost, so the way back takes the training set's, the same for every picture.
    """

    kind: ClassVar[str] = "contrast"
    mean_level: float = 0.0
    mean_norm: float = _NORM

    @classmethod
    def fit(cls, pictures: Part | Stream) -> Scaling:
        """The scaling with the mean level and mean norm of these pictures, of 0 to 255."""
        n, count = math.prod(pictures.shape), 0
        level, norm = 0, 0.0
        for some in blocks(pictures):
            block = some.reshape(-1, n).astype(np.int64)
            count += len(block)
            sums, squares = block.sum(1), np.einsum("ij,ij->i", block, block)
            level += int(sums.sum())
            # Σ(x - mean)² = (n Σx² - (Σx)²) / n, exact in integers up to the division
            norm += float(np.sqrt((n * squares - sums**2) / n).sum())
        unit = 255.0 / pictures.white
        return cls(
            white=float(pictures.white),
            mean_level=unit * level / (n * count),
            mean_norm=unit * norm / count,
        )

    def to_model(self, pixels: UInt8[Tensor, "batch *shape"]) -> Float32[Tensor, "batch *shape"]:
        """55 (x - mean x) / ‖x - mean x‖ for each picture x."""
        flat = pixels.flatten(1)
        n = flat.shape[1]
        total = flat.sum(1, keepdim=True, dtype=torch.int64)
        # Whole part and rest apart: a picture of one level then has exactly that mean, and does
        # not become its own rounding errors brought to norm 55.
        mean = (total // n).to(torch.float32).add_((total % n).to(torch.float32).div_(n))
        centred = flat.to(torch.float32).sub_(mean)
        norm = centred.norm(dim=1, keepdim=True)
        norm = torch.where(norm < 1e-8, torch.ones_like(norm), norm)
        return centred.mul_(_NORM / norm).reshape(pixels.shape)

    def to_pixels(self, pictures: Float[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:
        """(mean level + x · mean norm / 55) / 255, cut to [0, 1]: the same map for all pictures."""
        return (
            pictures.to(torch.float32)
            .mul(self.mean_norm / _NORM / 255)
            .add_(self.mean_level / 255)
            .clamp_(0, 1)
        )


@dataclass(frozen=True)
class NoScaling(Scaling):
    """x as it is: for points, which have no range of their own."""

    kind: ClassVar[str] = "none"
    of_points: ClassVar[bool] = True
    white: float = 1.0

    def to_model(self, pixels: Float32[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:  # type: ignore[override]
        """Give x."""
        return pixels

    def to_pixels(self, pictures: Float[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:
        """Give x."""
        return pictures.to(torch.float32)


@dataclass(frozen=True)
class StandardScaling(NoScaling):
    """(x - mean) / deviation of the training points' numbers, of all axes together."""

    kind: ClassVar[str] = "standard"
    mean: float = 0.0
    deviation: float = 1.0

    @classmethod
    def fit(cls, pictures: Part | Stream) -> Scaling:
        """The scaling with the mean and the deviation of these points."""
        count, total, squares = 0, 0.0, 0.0
        for some in blocks(pictures):
            block = some.astype(np.float64)
            count += block.size
            total += float(block.sum())
            squares += float(np.square(block).sum())
        mean = total / count
        # Points that are all one have no deviation to divide by.
        deviation = math.sqrt(max(squares / count - mean**2, 0.0)) or 1.0
        return cls(white=float(pictures.white), mean=mean, deviation=deviation)

    def to_model(self, pixels: Float32[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:  # type: ignore[override]
        """Give (x - mean) / deviation."""
        return pixels.sub(self.mean).div_(self.deviation)

    def to_pixels(self, pictures: Float[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:
        """Give x deviation + mean."""
        return pictures.to(torch.float32).mul(self.deviation).add_(self.mean)


_KINDS: dict[str, type[Scaling]] = {
    scaling.kind: scaling
    for scaling in (UnitScaling, SymmetricScaling, ContrastScaling, NoScaling, StandardScaling)
}


def fit_scaling(kind: str, pictures: Part | Stream) -> Scaling:
    """The scaling of a kind for these training pictures, or points (none, standard).

    Raises:
        UnknownNameError: no scaling is called so.
        UsageError: pictures are to go without scaling, or points with one.
    """
    points = pictures.white == NoScaling.white
    if points != _named(kind).of_points:
        what, cure = (
            ("points", "none or standard")
            if points
            else ("pictures", "unit, symmetric or contrast")
        )
        raise UsageError(
            f"the data is {what}, but scaling is {kind}; say --scaling {cure}"
            + (", or begin with the preset points" if points else "")
        )
    return _named(kind).fit(pictures)


def scaling_from_facts(kind: str, facts: Mapping[str, float]) -> Scaling:
    """The scaling whose `facts()` these are.

    Raises:
        UnknownNameError: no scaling is called so.
    """
    return _named(kind)(**facts)


def _named(kind: str) -> type[Scaling]:
    if kind not in _KINDS:
        raise UnknownNameError("scaling", kind, _KINDS)
    return _KINDS[kind]
