"""The convolutional models of the 2014 CIFAR-10 experiment."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from advnets import config
from advnets.errors import UsageError
from advnets.models.layers import (
    ACTIVATIONS,
    Activation,
    InputNoise,
    LatentSampler,
    Maxout,
    MaxoutConv,
    Prior,
    Shape,
    dropout,
    uniform_,
)
from advnets.models.mlp import HiddenLayers
from advnets.protocols import Images, Latents, Logits
from advnets.rng import RNG


class DeconvGenerator(LatentSampler):
    """A generator of fully connected layers and one transposed convolution to `shape`.

    The output has a bias for each pixel and channel. Source: the authors' CIFAR-10 configuration.

    Raises:
        UsageError: the last hidden layer cannot be reshaped to maps, or `shape` has another size
            than the transposed convolution's output.
    """

    def __init__(self, shape: Shape, spec: config.DeconvGenerator) -> None:
        super().__init__()
        channels, height, width = shape
        output_size = (spec.base_size - 1) * spec.stride + spec.kernel_size
        if (height, width) != (output_size, output_size):
            raise UsageError(
                f"the generator makes images of {output_size} x {output_size}, but the data have "
                f"{height} x {width}; change base_size, kernel_size or stride"
            )
        maps, remainder = divmod(spec.hidden_sizes[-1], spec.base_size**2)
        if remainder or not maps:
            raise UsageError(
                f"the last hidden layer has {spec.hidden_sizes[-1]} units, which cannot be "
                f"reshaped to maps of {spec.base_size} x {spec.base_size}; give a multiple of "
                f"{spec.base_size**2}"
            )
        self.spec: config.DeconvGenerator = spec
        self.latent_dim: int = spec.latent_dim
        self.maps: tuple[int, int, int] = (maps, spec.base_size, spec.base_size)
        self.hidden: HiddenLayers = HiddenLayers(
            spec, InputNoise(spec.dropout, spec.noise, len(spec.hidden_sizes) + 1)
        )
        self.output_activation: Activation = ACTIVATIONS[spec.output]
        deconv = nn.ConvTranspose2d(maps, channels, spec.kernel_size, spec.stride, bias=False)
        self.deconv: nn.ConvTranspose2d = uniform_(deconv, spec.init_range)
        self.bias: nn.Parameter = nn.Parameter(torch.zeros(shape))
        self.prior: Prior = Prior(spec.prior, spec.latent_dim)

    def forward(self, z: Latents, rng: RNG | None = None) -> Images:
        """Return G(z); `rng` draws dropout and noise, without it both are left out."""
        maps = self.hidden(z, rng).unflatten(1, self.maps)
        return self.output_activation(self.deconv(maps).float() + self.bias)


class MaxoutConvDiscriminator(nn.Module):
    """A discriminator of maxout convolutions with pooling and a maxout layer, all with dropout.

    Source: the authors' CIFAR-10 configuration.

    Raises:
        UsageError: the config has lists of different lengths.
    """

    per_sample = True

    def __init__(self, shape: Shape, spec: config.MaxoutConvDiscriminator) -> None:
        super().__init__()
        self.spec = spec
        lists = (spec.channels, spec.kernel_sizes, spec.paddings, spec.pools)
        if len({len(values) for values in lists}) != 1:
            lengths = ", ".join(str(len(values)) for values in lists)
            raise UsageError(
                f"channels, kernel_sizes, paddings and pools have {lengths} values; "
                "give one of each for every convolution"
            )
        inputs = (shape[0], *spec.channels)
        self.convs: nn.ModuleList = nn.ModuleList(
            MaxoutConv(
                before,
                after,
                kernel_size=kernel,
                padding=pad,
                pool=pool,
                pieces=spec.pieces,
                init_range=spec.init_range,
            )
            for before, after, kernel, pad, pool in zip(inputs, *lists, strict=False)
        )
        with torch.no_grad():  # compute the size of the last maps
            features = self._maps(torch.zeros(1, *shape), None).numel()
        self.dense: Maxout = Maxout(features, spec.dense_units, spec.dense_pieces, spec.init_range)
        self.output: nn.Linear = uniform_(nn.Linear(spec.dense_units, 1), spec.init_range)

    def forward(self, x: Images, rng: RNG | None = None) -> Logits:
        """Return the logits a(x); `rng` draws dropout masks, without it there is no dropout."""
        p = self.spec.dropout_hidden
        h = self.dense(dropout(self._maps(x, rng).flatten(1), p, rng, "mask/dense"))
        return self.output(dropout(h, p, rng, "mask/output")).squeeze(1)

    def _maps(self, x: Tensor, rng: RNG | None) -> Tensor:
        p = self.spec.dropout_input
        for i, conv in enumerate(self.convs):
            x, p = conv(dropout(x, p, rng, f"mask{i}")), self.spec.dropout_hidden
        return x
