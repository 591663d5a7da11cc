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

from advnets.data.dataset import Split, StreamingSplit, iterate_blocks
from advnets.errors import UnknownNameError, UsageError

_TARGET_NORM = 55.0  # of an image under contrast normalization, in pixel values of 0 to 255


@dataclass(frozen=True)
class Normalizer(ABC):
    """A map from pixels to the nets' range, and back.

    `white` is the pixel value that means 1.0. The facts (its fields) are plain numbers: with them a
    run rebuilds its scaling without data.
    """

    kind: ClassVar[str]
    for_points: ClassVar[bool] = False
    white_level: float = 255.0

    @classmethod
    def fit(cls, images: Split | StreamingSplit) -> Normalizer:
        """The scaling for these training images."""
        return cls(white_level=float(images.white_level))

    @abstractmethod
    def to_model(self, pixels: UInt8[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:
        """Pixels, shape (batch, C, H, W), in the nets' range."""

    @abstractmethod
    def to_pixels(self, images: Float[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:
        """Images in the nets' range as shares of white, in [0, 1]; what lies outside is cut."""

    def from_unit_range(
        self, images: Float[Tensor, "batch *shape"]
    ) -> Float32[Tensor, "batch *shape"]:
        """Images as shares of white, in [0, 1], in the nets' range: as their pixels would be."""
        return self.to_model((images * self.white_level).round().to(torch.uint8))

    def statistics(self) -> dict[str, float]:
        """What `scaling_from_facts` needs to build this scaling again."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class UnitNormalizer(Normalizer):
    """x / white, in [0, 1]."""

    kind: ClassVar[str] = "unit"

    def to_model(self, pixels: UInt8[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:
        """Give x / white."""
        return pixels.to(torch.float32).div_(self.white_level)

    def to_pixels(self, images: Float[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:
        """The images, cut to [0, 1]."""
        return images.to(torch.float32).clamp(0, 1)


@dataclass(frozen=True)
class SymmetricNormalizer(Normalizer):
    """2x / white - 1, in [-1, 1]."""

    kind: ClassVar[str] = "symmetric"

    def to_model(self, pixels: UInt8[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:
        """Give 2x / white - 1."""
        return pixels.to(torch.float32).mul_(2).div_(self.white_level).sub_(1)

    def to_pixels(self, images: Float[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:
        """(x + 1) / 2, cut to [0, 1]."""
        return images.to(torch.float32).add(1).div_(2).clamp_(0, 1)


@dataclass(frozen=True)
class ContrastNormalizer(Normalizer):
    """Global contrast normalization: each image less its mean, brought to norm 55.

    Mean and Euclidean norm are over all channels and pixels, as in the CIFAR-10 nets of Goodfellow
    et al. (2014). An image of one level becomes 0. Of a normalized image its level and norm are
    lost, so the way back takes the training set's, the same for every image.
    """

    kind: ClassVar[str] = "contrast"
    mean_level: float = 0.0
    mean_norm: float = _TARGET_NORM

    @classmethod
    def fit(cls, images: Split | StreamingSplit) -> Normalizer:
        """The scaling with the mean level and mean norm of these images, of 0 to 255."""
        n, count = math.prod(images.shape), 0
        level, norm = 0, 0.0
        for some in iterate_blocks(images):
            block = some.reshape(-1, n).astype(np.int64)
            count += len(block)
            sums, squares = block.sum(1), np.einsum("ij,ij->i", block, block)
            level += int(sums.sum())
            # Σ(x - mean)² = (n Σx² - (Σx)²) / n, exact in integers up to the division
            norm += float(np.sqrt((n * squares - sums**2) / n).sum())
        unit = 255.0 / images.white_level
        return cls(
            white_level=float(images.white_level),
            mean_level=unit * level / (n * count),
            mean_norm=unit * norm / count,
        )

    def to_model(self, pixels: UInt8[Tensor, "batch *shape"]) -> Float32[Tensor, "batch *shape"]:
        """55 (x - mean x) / ‖x - mean x‖ for each image x."""
        flat = pixels.flatten(1)
        n = flat.shape[1]
        total = flat.sum(1, keepdim=True, dtype=torch.int64)
        # Whole part and rest apart: an image of one level then has exactly that mean, and does
        # not become its own rounding errors brought to norm 55.
        mean = (total // n).to(torch.float32).add_((total % n).to(torch.float32).div_(n))
        centerd = flat.to(torch.float32).sub_(mean)
        norm = centerd.norm(dim=1, keepdim=True)
        norm = torch.where(norm < 1e-8, torch.ones_like(norm), norm)
        return centerd.mul_(_TARGET_NORM / norm).reshape(pixels.shape)

    def to_pixels(self, images: Float[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:
        """(mean level + x · mean norm / 55) / 255, cut to [0, 1]: the same map for all images."""
        return (
            images.to(torch.float32)
            .mul(self.mean_norm / _TARGET_NORM / 255)
            .add_(self.mean_level / 255)
            .clamp_(0, 1)
        )


@dataclass(frozen=True)
class IdentityNormalizer(Normalizer):
    """x as it is: for points, which have no range of their own."""

    kind: ClassVar[str] = "none"
    for_points: ClassVar[bool] = True
    white_level: float = 1.0

    def to_model(self, pixels: Float32[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:  # type: ignore[override]
        """Give x."""
        return pixels

    def to_pixels(self, images: Float[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:
        """Give x."""
        return images.to(torch.float32)


@dataclass(frozen=True)
class StandardNormalizer(IdentityNormalizer):
    """(x - mean) / deviation of the training points' numbers, of all axes together."""

    kind: ClassVar[str] = "standard"
    mean: float = 0.0
    std: float = 1.0

    @classmethod
    def fit(cls, images: Split | StreamingSplit) -> Normalizer:
        """The scaling with the mean and the deviation of these points."""
        count, total, squares = 0, 0.0, 0.0
        for some in iterate_blocks(images):
            block = some.astype(np.float64)
            count += block.size
            total += float(block.sum())
            squares += float(np.square(block).sum())
        mean = total / count
        # Points that are all one have no deviation to divide by.
        std = math.sqrt(max(squares / count - mean**2, 0.0)) or 1.0
        return cls(white_level=float(images.white_level), mean=mean, std=std)

    def to_model(self, pixels: Float32[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:  # type: ignore[override]
        """Give (x - mean) / deviation."""
        return pixels.sub(self.mean).div_(self.std)

    def to_pixels(self, images: Float[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:
        """Give x deviation + mean."""
        return images.to(torch.float32).mul(self.std).add_(self.mean)


_NORMALIZERS: dict[str, type[Normalizer]] = {
    scaling.kind: scaling
    for scaling in (
        UnitNormalizer,
        SymmetricNormalizer,
        ContrastNormalizer,
        IdentityNormalizer,
        StandardNormalizer,
    )
}


def fit_normalizer(kind: str, images: Split | StreamingSplit) -> Normalizer:
    """The scaling of a kind for these training images, or points (none, standard).

    Raises:
        UnknownNameError: no scaling is called so.
        UsageError: images are to go without scaling, or points with one.
    """
    points = images.white_level == IdentityNormalizer.white_level
    if points != _normalizer_class(kind).for_points:
        what, cure = (
            ("points", "none or standard") if points else ("images", "unit, symmetric or contrast")
        )
        raise UsageError(
            f"the data is {what}, but scaling is {kind}; say --normalize {cure}"
            + (", or begin with the preset points" if points else "")
        )
    return _normalizer_class(kind).fit(images)


def normalizer_from_statistics(kind: str, statistics: Mapping[str, float]) -> Normalizer:
    """The scaling whose `facts()` these are.

    Raises:
        UnknownNameError: no scaling is called so.
    """
    return _normalizer_class(kind)(**statistics)


def _normalizer_class(kind: str) -> type[Normalizer]:
    if kind not in _NORMALIZERS:
        raise UnknownNameError("normalization", kind, _NORMALIZERS)
    return _NORMALIZERS[kind]
