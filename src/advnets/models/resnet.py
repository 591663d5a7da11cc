"""Residual generator and discriminator without normalization layers (R3GAN).

In place of normalization, every block begins as the identity, its initial weights are scaled by the
number of blocks, and D has gradient penalties. They take images of any size that
`upsampling_sizes` supports. Source: Huang et al. 2024, "The GAN is dead; long live the
GAN!", section 4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from advnets.errors import UsageError
from advnets.models.layers import (
    ACTIVATIONS,
    Activation,
    HeightWidth,
    LatentSampler,
    Prior,
    Shape,
    check_shape,
    one_hot,
    projection_logit,
    upsampling_sizes,
)
from advnets.protocols import Images, Latents, Logits
from advnets.rng import RNG

_leaky_relu = ACTIVATIONS["leaky_relu"]
_GAIN = math.sqrt(2 / (1 + 0.2**2))
"""The gain that preserves variance through a leaky ReLU (He et al. 2015, equation 15)."""


class Block(nn.Module):
    """A residual block x + C φ(B φ(A x)): 1x1 to more channels, grouped 3x3, 1x1 back.

    φ is a leaky ReLU. C is initialized with 0; A and B with variance 2 / inputs times
    total_blocks^(-1/2), where `total_blocks` is the depth of the model, so that the first update
    changes the output of a deep model as much as of a shallow one. Source: Zhang et al. 2019,
    "Fixup initialization", section 3; Xie et al. 2017 (groups).

    Raises:
        UsageError: the inner channels cannot be divided into groups of `group_size`.
    """

    def __init__(self, channels: int, expansion: int, group_size: int, total_blocks: int) -> None:
        super().__init__()
        inner = expansion * channels
        if inner % group_size and inner > group_size:
            raise UsageError(
                f"{expansion} x {channels} channels cannot be divided into groups of {group_size}; "
                "give base_channels and max_channels that are multiples of "
                f"{group_size // math.gcd(group_size, expansion)}"
            )
        groups = max(1, inner // group_size)
        self.widen: nn.Conv2d = nn.Conv2d(channels, inner, 1)
        self.mix: nn.Conv2d = nn.Conv2d(inner, inner, 3, padding=1, groups=groups)
        self.narrow: nn.Conv2d = nn.Conv2d(inner, channels, 1, bias=False)
        for layer in (self.widen, self.mix):
            init_weights(layer, _GAIN * total_blocks**-0.25)
        nn.init.zeros_(self.narrow.weight)
        self.activate: Activation = _leaky_relu

    def forward(
        self, x: Float[Tensor, "batch channels h w"]
    ) -> Float[Tensor, "batch channels h w"]:
        """Return x + C φ(B φ(A x))."""
        return x + self.narrow(self.activate(self.mix(self.activate(self.widen(x)))))


class ResidualGenerator(LatentSampler):
    """A residual generator: blocks on maps of each size, with upsampling between sizes.

    It maps (batch, latent) to (batch, channels, height, width). The largest maps have
    `base_channels` channels, which double whenever the size is halved, up to `max_channels`. With
    `classes` a latent ends in a one-hot class.

    Raises:
        UsageError: the size is not one of `upsampling_sizes`, or channels do not fit the groups.
    """

    def __init__(
        self,
        shape: Shape,
        latent_dim: int = 64,
        base_channels: int = 32,
        *,
        max_channels: int = 256,
        blocks: int = 1,
        expansion: int = 2,
        group_size: int = 16,
        prior: str = "normal",
        components: int = 1,
        component_shape: str = "normal",
        output: str = "tanh",
        classes: int = 0,
    ) -> None:
        super().__init__()
        self.shape: Shape = shape
        self.classes: int = classes
        self.latent_dim: int = latent_dim + classes
        base, strides = upsampling_sizes(shape)
        self.strides: Sequence[tuple[int, int]] = strides
        channels = _channels_by_level(base_channels, max_channels, len(self.strides) + 1)[::-1]
        self.first: nn.ConvTranspose2d = nn.ConvTranspose2d(self.latent_dim, channels[0], base)
        self.stages: nn.ModuleList = _block_stages(channels, blocks, expansion, group_size)
        self.between: nn.ModuleList = _channel_layers(channels)
        self.last: nn.Conv2d = nn.Conv2d(channels[-1], shape[0], 1)
        self.output_activation: Activation = ACTIVATIONS[output]
        nn.init.normal_(self.first.weight, 0.0, self.latent_dim**-0.5)
        nn.init.zeros_(self.first.bias)  # pyright: ignore[reportArgumentType]
        init_weights(self.last, 1.0)
        self.prior: Prior = Prior(prior, latent_dim, components, component_shape)

    def forward(
        self,
        z: Latents,
        rng: RNG | None = None,  # noqa: ARG002 - the model has no randomness
    ) -> Images:
        """Return G(z)."""
        check_shape("latents", z, self.latent_dim)
        h = self.stages[0](self.first(z[:, :, None, None]))
        for stride, between, stage in zip(
            self.strides, self.between, list(self.stages)[1:], strict=True
        ):
            # Change the channels before upsampling, when there are fewer pixels.
            h = stage(upsample(between(h), stride))
        return self.output_activation(self.last(_leaky_relu(h)).float())


class ResidualDiscriminator(nn.Module):
    """A residual discriminator: blocks on maps of each size, then one logit a(x).

    With `classes` it is a projection discriminator: a(x | y) = a(h) + v_y · Σ h of the last maps h
    (Miyato and Koyama 2018, equation 3), where v is initialized with 0.

    Raises:
        UsageError: the size is not one of `upsampling_sizes`, or channels do not fit the groups.
    """

    per_sample = True

    def __init__(
        self,
        shape: Shape,
        base_channels: int = 32,
        *,
        max_channels: int = 256,
        blocks: int = 1,
        expansion: int = 2,
        group_size: int = 16,
        classes: int = 0,
    ) -> None:
        super().__init__()
        self.shape: Shape = shape
        self.classes: int = classes
        base, strides = upsampling_sizes(shape)
        self.strides: tuple[HeightWidth, ...] = strides[::-1]
        channels = _channels_by_level(base_channels, max_channels, len(strides) + 1)
        self.first: nn.Conv2d = nn.Conv2d(shape[0], channels[0], 1)
        self.stages: nn.ModuleList = _block_stages(channels, blocks, expansion, group_size)
        self.between: nn.ModuleList = _channel_layers(channels)
        self.last: nn.Conv2d = nn.Conv2d(channels[-1], 1, base)
        self.directions: nn.Conv2d | None = (
            nn.Conv2d(classes, channels[-1], 1, bias=False) if classes else None
        )
        init_weights(self.first, 1.0)
        init_weights(self.last, 1.0)
        if self.directions is not None:
            nn.init.zeros_(self.directions.weight)

    def forward(
        self,
        x: Images,
        rng: RNG | None = None,  # noqa: ARG002 - the model has no randomness
        labels: Int[Tensor, " batch"] | None = None,
    ) -> Logits:
        """Return the logits a(x)."""
        one_hot_labels = one_hot(labels, self.classes, x)
        h = _leaky_relu(self.feature_maps(x)[-1])
        logits = self.last(h).flatten()
        if self.directions is None or one_hot_labels is None:
            return logits
        return logits + projection_logit(self.directions, one_hot_labels, h)

    def feature_maps(self, x: Images) -> list[Float[Tensor, "batch maps h w"]]:
        """Return the maps of every size, largest first; they do not depend on the class.

        Raises:
            UsageError: the images have another shape than the model was built for.
        """
        check_shape("images", x, *self.shape)
        maps = [self.stages[0](self.first(x))]
        for stride, between, stage in zip(
            self.strides, self.between, list(self.stages)[1:], strict=True
        ):
            maps.append(stage(between(downsample(maps[-1], stride))))
        return maps


def upsample(
    x: Float[Tensor, "batch c h w"], stride: HeightWidth
) -> Float[Tensor, "batch c h2 w2"]:
    """Upsample maps by `stride` with linear interpolation, filter [1, 2, 1] / 2 on each axis."""
    for axis, factor in zip((2, 3), stride, strict=True):
        if factor == 2:
            # Pad with the last row or column.
            size = x.shape[axis]
            after = torch.cat((x.narrow(axis, 1, size - 1), x.narrow(axis, size - 1, 1)), axis)
            x = torch.stack((x, 0.5 * (x + after)), axis + 1).flatten(axis, axis + 1)
    return x


def downsample(
    x: Float[Tensor, "batch c h w"], stride: HeightWidth
) -> Float[Tensor, "batch c h2 w2"]:
    """Downsample maps by `stride`: filter each axis by [1, 2, 1] / 4, keep every second pixel."""
    for axis, factor in zip((2, 3), stride, strict=True):
        if factor == 2:
            even, odd = x.unflatten(axis, (-1, 2)).unbind(axis + 1)
            edge, previous = even.narrow(axis, 0, 1), odd.narrow(axis, 0, odd.shape[axis] - 1)
            before = torch.cat((edge, previous), axis)
            x = 0.25 * (before + odd) + 0.5 * even
    return x


def init_weights(layer: nn.Conv2d, gain: float) -> None:
    """Draw weights from N(0, gain² / fan_in) and set biases to 0."""
    nn.init.normal_(layer.weight, 0.0, gain * layer.weight[0].numel() ** -0.5)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _channels_by_level(base_channels: int, max_channels: int, sizes: int) -> list[int]:
    """Return the number of channels of maps of each size, largest first."""
    return [min(base_channels << i, max(max_channels, base_channels)) for i in range(sizes)]


def _block_stages(
    channels: Sequence[int], blocks: int, expansion: int, group_size: int
) -> nn.ModuleList:
    """Return the blocks on maps of each size."""
    total = blocks * len(channels)
    return nn.ModuleList(
        nn.Sequential(*(Block(count, expansion, group_size, total) for _ in range(blocks)))
        for count in channels
    )


def _channel_layers(channels: Sequence[int]) -> nn.ModuleList:
    """Return the layers that change the number of channels from one size to the next."""
    layers = nn.ModuleList()
    for before, after in pairwise(channels):
        layer = nn.Conv2d(before, after, 1, bias=False)
        init_weights(layer, 1.0)
        layers.append(layer if before != after else nn.Identity())
    return layers
