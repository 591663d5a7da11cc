"""A run's own discriminator as feature extractor."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from advnets.data.normalization import Normalizer
from advnets.errors import UsageError
from advnets.extractors.base import check_pixels, extract_in_batches
from advnets.models.layers import Shape

POOLED_SIZE = 4
"""The height and width to which feature maps are pooled (Radford et al. 2015, section 5.1)."""


@runtime_checkable
class HasFeatureMaps(Protocol):
    """A convolutional discriminator that returns its feature maps."""

    shape: Shape
    """Channels, height and width of its input."""

    def feature_maps(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> list[Float[Tensor, "batch maps h w"]]:
        """Return the feature maps of every convolution, in order from the input."""
        ...


@dataclass(frozen=True)
class DiscriminatorExtractor:
    """The features of a discriminator, learned without labels.

    Feature maps of all convolutions, max-pooled to 4 x 4, flattened and concatenated.
    Source: Radford et al. 2015, section 5.1.
    """

    name: str
    digest: str
    net: nn.Module
    normalizer: Normalizer

    def features(
        self, pixels: Float[Tensor, "n channels height width"]
    ) -> Float[Tensor, "n features"]:
        """Return the pooled feature maps, one row for each image."""
        shape = cast(HasFeatureMaps, self.net).shape
        pixels = check_pixels(self.name, pixels, shape)
        return extract_in_batches(self.name, self._pooled_maps, pixels)

    def _pooled_maps(self, block: Tensor) -> Tensor:
        net, device = cast(HasFeatureMaps, self.net), next(self.net.parameters()).device
        maps = net.feature_maps(self.normalizer.from_unit_range(block).to(device))
        sizes = [[min(POOLED_SIZE, side) for side in m.shape[2:]] for m in maps]
        pooled = [F.adaptive_max_pool2d(m, size) for m, size in zip(maps, sizes, strict=True)]
        return torch.cat([m.flatten(1) for m in pooled], 1)


def discriminator_extractor(
    net: nn.Module, normalizer: Normalizer, channels: int
) -> DiscriminatorExtractor:
    """Return a run's discriminator as extractor, identified by the SHA-256 of its weights.

    Raises:
        UsageError: it is not convolutional, is class-conditional, or takes several images at once.
    """
    if not isinstance(net, HasFeatureMaps) or getattr(net, "classes", 0):
        raise UsageError(
            "features of the discriminator need an unconditional convolutional D, and this run has "
            "none; give a run of a DCGAN preset"
        )
    expected = cast(HasFeatureMaps, net).shape[0]
    if expected != channels:
        raise UsageError(
            f"features of the discriminator need a D of single images, and this one takes "
            f"{expected // channels} at once; give a run that was trained without --game.pac"
        )
    return DiscriminatorExtractor("discriminator", weights_digest(net), net.eval(), normalizer)


def weights_digest(net: nn.Module) -> str:
    """Return the SHA-256, in hexadecimal, of a network's weights and buffers, sorted by name."""
    return tensors_digest(net.state_dict())


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256, in hexadecimal, of tensors, sorted by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()
