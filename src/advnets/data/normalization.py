"""Normalizers: maps from pixels to the value range of the networks, and back."""

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

_TARGET_NORM = 55.0
"""The norm of an image after contrast normalization, in pixel values of 0 to 255."""


@dataclass(frozen=True)
class Normalizer(ABC):
    """A map from pixels to the value range of the networks, and back.

    `white_level` is the pixel value that corresponds to 1.0. The fields are numbers that a run
    records, so that the normalizer can be rebuilt without the data.
    """

    kind: ClassVar[str]
    for_points: ClassVar[bool] = False
    white_level: float = 255.0

    @classmethod
    def fit(cls, images: Split | StreamingSplit) -> Normalizer:
        """Fit the normalizer to training images."""
        return cls(white_level=float(images.white_level))

    @abstractmethod
    def to_model(self, pixels: UInt8[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:
        """Normalize pixels of shape (batch, C, H, W)."""

    @abstractmethod
    def to_pixels(self, images: Float[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:
        """Map normalized images to pixel values in [0, 1]; values outside are clamped."""

    def from_unit_range(
        self, images: Float[Tensor, "batch *shape"]
    ) -> Float32[Tensor, "batch *shape"]:
        """Normalize images with values in [0, 1], rounded to pixel values first."""
        return self.to_model((images * self.white_level).round().to(torch.uint8))

    def from_floats(self, images: Float[Tensor, "batch *shape"]) -> Float32[Tensor, "batch *shape"]:
        """Normalize images with values in [0, 1], such as samples, without rounding if possible."""
        return self.from_unit_range(images)

    def statistics(self) -> dict[str, float]:
        """Return the numbers from which `normalizer_from_statistics` rebuilds the normalizer."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class UnitNormalizer(Normalizer):
    """The normalizer x / white_level, with range [0, 1]."""

    kind: ClassVar[str] = "unit"

    def to_model(self, pixels: UInt8[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:
        """Return x / white_level."""
        return pixels.to(torch.float32).div_(self.white_level)

    def from_floats(self, images: Float[Tensor, "batch *shape"]) -> Float32[Tensor, "batch *shape"]:
        """Return x."""
        return images.to(torch.float32)

    def to_pixels(self, images: Float[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:
        """Return the images, clamped to [0, 1]."""
        return images.to(torch.float32).clamp(0, 1)


@dataclass(frozen=True)
class SymmetricNormalizer(Normalizer):
    """The normalizer 2x / white_level - 1, with range [-1, 1]."""

    kind: ClassVar[str] = "symmetric"

    def to_model(self, pixels: UInt8[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:
        """Return 2x / white_level - 1."""
        return pixels.to(torch.float32).mul_(2).div_(self.white_level).sub_(1)

    def from_floats(self, images: Float[Tensor, "batch *shape"]) -> Float32[Tensor, "batch *shape"]:
        """Return 2x - 1."""
        return images.to(torch.float32).mul(2).sub_(1)

    def to_pixels(self, images: Float[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:
        """Return (x + 1) / 2, clamped to [0, 1]."""
        return images.to(torch.float32).add(1).div_(2).clamp_(0, 1)


@dataclass(frozen=True)
class ContrastNormalizer(Normalizer):
    """Global contrast normalization: each image minus its mean, scaled to norm 55.

    Mean and Euclidean norm are over all channels and pixels, as for the CIFAR-10 networks of
    Goodfellow et al. (2014). A constant image becomes 0. Normalization loses the mean and norm of
    an image; the inverse uses the average ones of the training images, for every image.
    """

    kind: ClassVar[str] = "contrast"
    mean_level: float = 0.0
    mean_norm: float = _TARGET_NORM

    @classmethod
    def fit(cls, images: Split | StreamingSplit) -> Normalizer:
        """Fit the average mean and norm of the images, in pixel values of 0 to 255."""
        n, count = math.prod(images.shape), 0
        level, norm = 0, 0.0
        for pixels in iterate_blocks(images):
            block = pixels.reshape(-1, n).astype(np.int64)
            count += len(block)
            sums, squares = block.sum(1), np.einsum("ij,ij->i", block, block)
            level += int(sums.sum())
            # Compute Σ(x - mean)² = (n Σx² - (Σx)²) / n, exact in integers up to the division.
            norm += float(np.sqrt((n * squares - sums**2) / n).sum())
        unit = 255.0 / images.white_level
        return cls(
            white_level=float(images.white_level),
            mean_level=unit * level / (n * count),
            mean_norm=unit * norm / count,
        )

    def to_model(self, pixels: UInt8[Tensor, "batch *shape"]) -> Float32[Tensor, "batch *shape"]:
        """Return 55 (x - mean x) / ‖x - mean x‖ for each image x."""
        flat = pixels.flatten(1)
        n = flat.shape[1]
        total = flat.sum(1, keepdim=True, dtype=torch.int64)
        # Add quotient and remainder separately: the mean of a constant image is then exact, so
        # that its rounding errors are not amplified to norm 55.
        mean = (total // n).to(torch.float32).add_((total % n).to(torch.float32).div_(n))
        centered = flat.to(torch.float32).sub_(mean)
        norm = centered.norm(dim=1, keepdim=True)
        norm = torch.where(norm < 1e-8, torch.ones_like(norm), norm)
        return centered.mul_(_TARGET_NORM / norm).reshape(pixels.shape)

    def to_pixels(self, images: Float[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:
        """Return (mean level + x · mean norm / 55) / 255, clamped to [0, 1]."""
        return (
            images.to(torch.float32)
            .mul(self.mean_norm / _TARGET_NORM / 255)
            .add_(self.mean_level / 255)
            .clamp_(0, 1)
        )


@dataclass(frozen=True)
class IdentityNormalizer(Normalizer):
    """The identity, for points."""

    kind: ClassVar[str] = "none"
    for_points: ClassVar[bool] = True
    white_level: float = 1.0

    def to_model(self, pixels: Float32[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:  # type: ignore[override]
        """Return x."""
        return pixels

    def from_unit_range(
        self, images: Float[Tensor, "batch *shape"]
    ) -> Float32[Tensor, "batch *shape"]:
        """Normalize points, which have any range and are not rounded."""
        return self.to_model(images.to(torch.float32))

    def to_pixels(self, images: Float[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:
        """Return x."""
        return images.to(torch.float32)


@dataclass(frozen=True)
class StandardNormalizer(IdentityNormalizer):
    """The normalizer (x - mean) / std, with one mean and std for all coordinates of points."""

    kind: ClassVar[str] = "standard"
    mean: float = 0.0
    std: float = 1.0

    @classmethod
    def fit(cls, images: Split | StreamingSplit) -> Normalizer:
        """Fit the mean and standard deviation of the coordinates of points."""
        count, total, squares = 0, 0.0, 0.0
        for points in iterate_blocks(images):
            block = points.astype(np.float64)
            count += block.size
            total += float(block.sum())
            squares += float(np.square(block).sum())
        mean = total / count
        # Divide by 1 if all coordinates are equal.
        std = math.sqrt(max(squares / count - mean**2, 0.0)) or 1.0
        return cls(white_level=float(images.white_level), mean=mean, std=std)

    def to_model(self, pixels: Float32[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:  # type: ignore[override]
        """Return (x - mean) / std."""
        return pixels.sub(self.mean).div_(self.std)

    def to_pixels(self, images: Float[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:
        """Return x · std + mean."""
        return images.to(torch.float32).mul(self.std).add_(self.mean)


_NORMALIZERS: dict[str, type[Normalizer]] = {
    normalizer.kind: normalizer
    for normalizer in (
        UnitNormalizer,
        SymmetricNormalizer,
        ContrastNormalizer,
        IdentityNormalizer,
        StandardNormalizer,
    )
}


def fit_normalizer(kind: str, images: Split | StreamingSplit) -> Normalizer:
    """Fit a normalizer of that kind to training images or points.

    Raises:
        UnknownNameError: there is no such kind.
        UsageError: the kind is one for points, but the data are images, or the reverse.
    """
    is_points = images.white_level == IdentityNormalizer.white_level
    if is_points != _normalizer_class(kind).for_points:
        data, kinds = (
            ("points", "none or standard")
            if is_points
            else ("images", "unit, symmetric or contrast")
        )
        raise UsageError(
            f"normalize is {kind!r}, which does not apply to {data}; set normalize to {kinds}"
            + (", or use the preset points" if is_points else "")
        )
    return _normalizer_class(kind).fit(images)


def normalizer_from_statistics(kind: str, statistics: Mapping[str, float]) -> Normalizer:
    """Rebuild a normalizer from the numbers that its `statistics()` returned.

    Raises:
        UnknownNameError: there is no such kind.
    """
    return _normalizer_class(kind)(**statistics)


def _normalizer_class(kind: str) -> type[Normalizer]:
    if kind not in _NORMALIZERS:
        raise UnknownNameError("normalization", kind, _NORMALIZERS)
    return _NORMALIZERS[kind]
