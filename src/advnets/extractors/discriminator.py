"""What a run's own discriminator sees."""

from __future__ import annotations

import hashlib
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

POOLED = 4
"""Height and width that D's maps are pooled to (Radford et al. 2015, section 5.1)."""


@runtime_checkable
class HasFeatureMaps(Protocol):
    """A discriminator whose convolutions can be looked at."""

    shape: Shape
    """Of what it judges."""

    def feature_maps(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> list[Float[Tensor, "batch maps h w"]]:
        """The maps of every convolution, largest first."""
        ...


@dataclass(frozen=True)
class DiscriminatorExtractor:
    """What a discriminator has learned to see without a label.

    Source: Radford et al. 2015, section 5.1: the maps of all convolutions, each pooled by its
    largest to 4 x 4, flattened and laid end to end.
    """

    name: str
    digest: str
    net: nn.Module
    normalizer: Normalizer

    def features(
        self, pixels: Float[Tensor, "n channels height width"]
    ) -> Float[Tensor, "n features"]:
        """One row for each image."""
        shape = cast(HasFeatureMaps, self.net).shape
        return extract_in_batches(self.name, self._pooled, check_pixels(self.name, pixels, shape))

    def _pooled(self, block: Tensor) -> Tensor:
        net, device = cast(HasFeatureMaps, self.net), next(self.net.parameters()).device
        maps = net.feature_maps(self.normalizer.from_unit_range(block).to(device))
        pooled = [F.adaptive_max_pool2d(m, [min(POOLED, s) for s in m.shape[2:]]) for m in maps]
        return torch.cat([p.flatten(1) for p in pooled], 1)


def discriminator_extractor(
    net: nn.Module, normalizer: Normalizer, channels: int
) -> DiscriminatorExtractor:
    """A run's discriminator as an extractor of images of so many channels, by its weights' hash.

    Raises:
        UsageError: it has no convolutions, is told classes, or judges several images at once.
    """
    if not isinstance(net, HasFeatureMaps) or getattr(net, "classes", 0):
        raise UsageError(
            "features of D were asked for, which a discriminator with convolutions and without "
            "labels has; give a run of a DCGAN preset"
        )
    seen = cast(HasFeatureMaps, net).shape[0]
    if seen != channels:
        raise UsageError(
            f"features of an image were asked for of a D that judges {seen // channels} at once; "
            "give a run that was trained without --game.pac"
        )
    return DiscriminatorExtractor("discriminator", weights_digest(net), net.eval(), normalizer)


def weights_digest(net: nn.Module) -> str:
    """SHA-256, in hex, of a net's weights and buffers, by their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(net.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()
