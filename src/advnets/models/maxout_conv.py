"""The convolutional pair of the 2014 CIFAR-10 experiment."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from advnets import config
from advnets.errors import UsageError
from advnets.models.layers import (
    ACTIVATIONS,
    InputNoise,
    Maxout,
    MaxoutConv,
    Shape,
    draw_prior,
    dropout,
    uniform_,
)
from advnets.models.mlp import HiddenLayers
from advnets.rng import RNG


class DeconvGenerator(nn.Module):
    """G(z): fully connected layers read as maps, then one deconvolution to `shape`.

    The output has a bias for each pixel and channel. Source: the authors' CIFAR-10 configuration.

    Raises:
        UsageError: maps that do not divide, or another size than the deconvolution reaches.
    """

    def __init__(self, shape: Shape, spec: config.DeconvGenerator) -> None:
        super().__init__()
        channels, height, width = shape
        reached = (spec.base_size - 1) * spec.stride + spec.kernel
        if (height, width) != (reached, reached):
            raise UsageError(
                f"images of {height} x {width} came to a deconvolution that reaches "
                f"{reached} x {reached}; change base, kernel or stride"
            )
        maps, remainder = divmod(spec.hidden_sizes[-1], spec.base_size**2)
        if remainder or not maps:
            raise UsageError(
                f"{spec.hidden_sizes[-1]} units cannot be read as maps of {spec.base_size} x {spec.base_size}; "
                f"make the last hidden size a multiple of {spec.base_size**2}"
            )
        self.spec, self.latent_dim = spec, spec.latent_dim
        self.maps = (maps, spec.base_size, spec.base_size)
        self.hidden = HiddenLayers(
            spec, InputNoise(spec.keep_prob, spec.noise, len(spec.hidden_sizes) + 1)
        )
        self.output_activation = ACTIVATIONS[spec.output]
        deconv = nn.ConvTranspose2d(maps, channels, spec.kernel, spec.stride, bias=False)
        self.deconv = uniform_(deconv, spec.init_range)
        self.bias = nn.Parameter(torch.zeros(shape))

    def latent(self, n: int, rng: RNG) -> Float[Tensor, "batch latent"]:
        """Draw n points of the noise prior p_z."""
        return draw_prior(self.spec.prior, n, self.latent_dim, rng)

    def forward(
        self, z: Float[Tensor, "batch latent"], rng: RNG | None = None
    ) -> Float[Tensor, "batch channels height width"]:
        """G(z); `noise` feeds dropout and noise inside the net, None leaves them out."""
        maps = self.hidden(z, rng).unflatten(1, self.maps)
        return self.output_activation(self.deconv(maps).float() + self.bias)


class MaxoutConvDiscriminator(nn.Module):
    """Logits a(x): maxout convolutions with pooling, a maxout layer; dropout on every input.

    Source: the authors' CIFAR-10 configuration.

    Raises:
        UsageError: lists of different lengths.
    """

    per_sample = True

    def __init__(self, shape: Shape, spec: config.MaxoutConvDiscriminator) -> None:
        super().__init__()
        self.spec = spec
        lists = (spec.channels, spec.kernels, spec.pads, spec.pools)
        if len({len(values) for values in lists}) != 1:
            raise UsageError(
                f"channels, kernels, pads and pools have {', '.join(str(len(v)) for v in lists)} "
                "values; give one of each for every convolution"
            )
        inputs = (shape[0], *spec.channels)
        self.convs = nn.ModuleList(
            MaxoutConv(
                before,
                after,
                kernel=kernel,
                pad=pad,
                pool=pool,
                pieces=spec.pieces,
                init_range=spec.init_range,
            )
            for before, after, kernel, pad, pool in zip(inputs, *lists, strict=False)
        )
        with torch.no_grad():  # the size that the poolings leave
            features = self._maps(torch.zeros(1, *shape), None).numel()
        self.dense = Maxout(features, spec.dense_units, spec.dense_pieces, spec.init_range)
        self.output = uniform_(nn.Linear(spec.dense_units, 1), spec.init_range)

    def forward(
        self, x: Float[Tensor, "batch channels height width"], rng: RNG | None = None
    ) -> Float[Tensor, " batch"]:
        """a(x); `noise` feeds dropout, None leaves it out."""
        keep = self.spec.keep_prob_hidden
        h = self.dense(dropout(self._maps(x, rng).flatten(1), keep, rng, "mask/dense"))
        return self.output(dropout(h, keep, rng, "mask/output")).squeeze(1)

    def _maps(self, x: Tensor, rng: RNG | None) -> Tensor:
        keep = self.spec.keep_prob_input
        for i, conv in enumerate(self.convs):
            x, keep = conv(dropout(x, keep, rng, f"mask{i}")), self.spec.keep_prob_hidden
        return x
