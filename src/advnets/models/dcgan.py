"""The deep convolutional pair of Radford et al. 2015, for images of any size doublings reach.

Its five rules: strides instead of pooling; batch norm, but not at G's output nor D's input; no
hidden fully connected layer; rectifiers in G and tanh at its output; leaky rectifiers in D. Each
has an option that breaks it, for the study of what it is good for.
"""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Literal, NamedTuple, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.nn.utils.parametrizations import spectral_norm as with_spectral_norm

from advnets.models.layers import (
    ACTIVATIONS,
    FullKernelConv2d,
    FullKernelConvTranspose2d,
    LatentSampler,
    Prior,
    Shape,
    check_shape,
    one_hot,
    projection_logit,
)
from advnets.models.resolution import Pair, upsampling_sizes
from advnets.rng import RNG

_GAIN_STD = 0.02
"""Standard deviation of the initial gains of batch norm."""

Resampling = Literal["strides", "pooling"]


class Layer(nn.Module):
    """A convolution, a norm and an activation; with classes, they are joined to what comes in."""

    def __init__(self, inner: nn.Module, norm: nn.Module, activation: str) -> None:
        super().__init__()
        self.net, self.norm, self.activate = inner, norm, ACTIVATIONS[activation]

    def forward(
        self,
        x: Float[Tensor, "batch inputs h w"],
        classes: Float[Tensor, "batch classes"] | None = None,
    ) -> Float[Tensor, "batch outputs h2 w2"]:
        """activation(norm(x W)); classes, one-hot, are constant maps beside those of x."""
        if classes is not None:
            maps = classes[:, :, None, None].expand(-1, -1, *x.shape[2:])
            x = torch.cat((x, maps.to(x.dtype)), 1)
        return self.activate(self.norm(self.net(x)))

    def fuse(self) -> None:
        """Fold batch norm, as it is in eval mode, into the convolution before it."""
        if not isinstance(self.net, nn.Conv2d | nn.ConvTranspose2d):
            return
        if isinstance(self.norm, nn.BatchNorm2d) and self.norm.running_mean is not None:
            up = isinstance(self.net, nn.ConvTranspose2d)
            self.net = fuse_conv_bn_eval(self.net, self.norm, transpose=up)  # pyright: ignore
            self.norm = nn.Identity()


class Generator(LatentSampler):
    """G(z): small maps, doubled by fractionally strided convolutions to images of `shape`.

    Maps (batch, latent) to (batch, channels, height, width), with tanh in [-1, 1]. The largest
    hidden maps have `width` channels, those of half their size twice as many. Weights begin
    N(0, .02), gains N(1, .02). With `classes`, a latent ends in its class, one-hot, which comes to
    every layer. Source: Radford et al. 2015, section 3; there `width` is 128.

    Raises:
        UsageError: no chain of doublings leads to the size.
    """

    def __init__(
        self,
        shape: Shape,
        latent_dim: int = 100,
        base_channels: int = 64,
        *,
        kernel_size: int = 5,
        prior: str = "symmetric",
        components: int = 1,
        component_shape: str = "normal",
        batch_norm: bool = True,
        resampling: Resampling = "strides",
        dense: tuple[int, ...] = (),
        activation: str = "relu",
        output: str = "tanh",
        init_std: float = 0.02,
        classes: int = 0,
    ) -> None:
        super().__init__()
        self.shape, self.classes = shape, classes
        self.latent_dim = latent_dim + classes
        base, strides = upsampling_sizes(shape)
        widths = [base_channels << i for i in reversed(range(len(strides)))]

        def layer(inner: nn.Module, outputs: int) -> Layer:
            return Layer(
                inner, nn.BatchNorm2d(outputs) if batch_norm else nn.Identity(), activation
            )

        bias = not batch_norm
        # A fully connected layer is a convolution of maps of one pixel.
        layers = [
            layer(FullKernelConv2d(before + classes, after, 1, bias=bias), after)
            for before, after in pairwise((latent_dim, *dense))
        ]
        before = (latent_dim, *dense)[-1] + classes
        first = FullKernelConvTranspose2d(before, widths[0], base, bias=bias)
        layers.append(layer(first, widths[0]))
        for (before, after), stride in zip(pairwise(widths), strides[:-1], strict=True):
            inner = _upsampling_layer(
                resampling, before + classes, after, kernel_size, stride, bias
            )
            layers.append(layer(inner, after))
        last = _upsampling_layer(
            resampling, widths[-1] + classes, shape[0], kernel_size, strides[-1], bias
        )
        self.layers = nn.ModuleList(layers)
        self.last = Layer(last, nn.Identity(), "linear")
        self.output_activation = ACTIVATIONS[output]
        init_weights(self, init_std)
        self.prior = Prior(prior, latent_dim, components, component_shape)

    def forward(
        self,
        z: Float[Tensor, "batch latent"],
        rng: RNG | None = None,  # noqa: ARG002 - there is none within
    ) -> Float[Tensor, "batch channels height width"]:
        """G(z)."""
        check_shape("latents", z, self.latent_dim)
        one_hot_labels = z[:, -self.classes :] if self.classes else None
        h = z[:, : self.latent_dim - self.classes, None, None]
        for layer in self.layers:
            h = layer(h, one_hot_labels)
        return self.output_activation(self.last(h, one_hot_labels).float())

    def fused(self) -> Generator:
        """The same function in eval mode, with batch norm folded into the convolutions."""
        net = copy.deepcopy(self).eval()
        for layer in net.layers:
            cast(Layer, layer).fuse()
        return net


class Discriminator(nn.Module):
    """Logits a(x): maps halved by strided convolutions down to the smallest, then one number.

    Batch norm is left out in the first and the last layer; leaky rectifiers of slope .2. Batches
    that come stacked are passed one by one, so that each has its own batch statistics. With
    `projection`, classes do not come to every layer but meet the last maps h alone:
    a(x | y) = a(h) + v_y · Σ h (Miyato and Koyama 2018, equation 3), v drawn as other weights are.
    With `spectral_norm`, weights W of every layer are divided by their largest singular value,
    found by one step of power iteration a pass (Miyato et al. 2018, "Spectral normalization",
    algorithm 1).
    Source and what it raises as for the generator.
    """

    def __init__(
        self,
        shape: Shape,
        base_channels: int = 64,
        *,
        kernel_size: int = 5,
        batch_norm: bool = True,
        resampling: Resampling = "strides",
        dense: tuple[int, ...] = (),
        activation: str = "leaky_relu",
        init_std: float = 0.02,
        classes: int = 0,
        projection: bool = False,
        spectral_norm: bool = False,
    ) -> None:
        super().__init__()
        self.shape, self.classes, self.batch_norm = shape, classes, batch_norm
        self.per_sample = not batch_norm
        meet = classes if projection else 0
        classes -= meet
        self.conditional = classes
        base, strides = upsampling_sizes(shape)
        widths = [shape[0], *(base_channels << i for i in range(len(strides)))]
        bias = not batch_norm

        def layer(inner: nn.Module, outputs: int) -> Layer:
            normed = batch_norm and bool(layers)
            return Layer(inner, nn.BatchNorm2d(outputs) if normed else nn.Identity(), activation)

        layers: list[Layer] = []
        for (before, after), stride in zip(pairwise(widths), reversed(strides), strict=True):
            inner = _downsampling_layer(
                resampling, before + classes, after, kernel_size, stride, bias
            )
            layers.append(layer(inner, after))
        self.convolutions = len(layers)
        size = base
        for before, after in pairwise((widths[-1], *dense)):
            layers.append(layer(FullKernelConv2d(before + classes, after, size, bias=bias), after))
            size = 1, 1
        last = FullKernelConv2d((widths[-1], *dense)[-1] + classes, 1, size, bias=bias)
        self.layers = nn.ModuleList(layers)
        self.last = Layer(last, nn.Identity(), "linear")
        self.directions = nn.Conv2d(meet, (widths[-1], *dense)[-1], 1, bias=False) if meet else None
        init_weights(self, init_std)
        if spectral_norm:
            for conv in [module for module in self.modules() if isinstance(module, nn.Conv2d)]:
                with_spectral_norm(conv)

    def forward(
        self,
        x: Float[Tensor, "batch channels height width"],
        rng: RNG | None = None,
        labels: Int[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, " batch"]:
        """a(x); of `noise`, only how many batches are stacked is looked at.

        Raises:
            UsageError: images have another shape than the net was built for.
        """
        check_shape("images", x, *self.shape)
        parts = len(rng.streams) if rng is not None and self.batch_norm else 1
        one_hot_labels = one_hot(labels, self.classes, x)
        tolds = one_hot_labels.chunk(parts) if one_hot_labels is not None else [None] * parts
        return torch.cat([self._logits(*part) for part in zip(x.chunk(parts), tolds, strict=True)])

    def feature_maps(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> list[Float[Tensor, "batch maps h w"]]:
        """The maps of every convolution, largest first.

        Raises:
            UsageError: D is conditional; its features are of an image and a class. Or images
                have another shape than the net was built for.
        """
        check_shape("images", x, *self.shape)
        one_hot_labels = one_hot(None, self.conditional, x)
        maps: list[Tensor] = []
        for layer in list(self.layers)[: self.convolutions]:
            x = layer(x, one_hot_labels)
            maps.append(x)
        return maps

    def _logits(self, x: Tensor, one_hot_labels: Tensor | None) -> Tensor:
        if self.directions is not None and one_hot_labels is not None:
            h = self._through(x, None)
            return self.last(h).flatten() + projection_logit(self.directions, one_hot_labels, h)
        return self.last(self._through(x, one_hot_labels), one_hot_labels).flatten()

    def _through(self, x: Tensor, one_hot_labels: Tensor | None) -> Tensor:
        for layer in self.layers:
            x = layer(x, one_hot_labels)
        return x


def init_weights(net: nn.Module, std: float) -> None:
    """Draw the initial weights, normal about 0, and gains, normal about 1."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, 0.0, std)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, _GAIN_STD)


def _upsampling_layer(
    resampling: Resampling, inputs: int, outputs: int, kernel: int, stride: Pair, bias: bool
) -> nn.Module:
    """Maps made larger by the stride: by a fractionally strided convolution, or by repetition."""
    if resampling == "pooling":
        same = nn.Conv2d(inputs, outputs, _odd(kernel), padding="same", bias=bias)
        return nn.Sequential(nn.Upsample(scale_factor=stride), same)
    high, wide = (_kernel_along_axis(kernel, s) for s in stride)
    return nn.ConvTranspose2d(
        inputs,
        outputs,
        (high.kernel, wide.kernel),
        stride,
        (high.padding, wide.padding),
        (high.output_padding, wide.output_padding),
        bias=bias,
    )


def _downsampling_layer(
    resampling: Resampling, inputs: int, outputs: int, kernel: int, stride: Pair, bias: bool
) -> nn.Module:
    """Maps made smaller by the stride: by a strided convolution, or by the largest of each."""
    if resampling == "pooling":
        same = nn.Conv2d(inputs, outputs, _odd(kernel), padding="same", bias=bias)
        return nn.Sequential(same, nn.MaxPool2d(stride))
    high, wide = (_kernel_along_axis(kernel, s) for s in stride)
    return nn.Conv2d(
        inputs,
        outputs,
        (high.kernel, wide.kernel),
        stride,
        (high.padding, wide.padding),
        bias=bias,
    )


class _KernelAlongAxis(NamedTuple):
    """A kernel along one side, so padded that a size is multiplied or divided by the stride."""

    kernel: int
    padding: int
    output_padding: int
    """Pixels that a fractionally strided convolution would fall short."""


def _kernel_along_axis(kernel: int, stride: int) -> _KernelAlongAxis:
    # Where nothing is strided only an odd kernel keeps the size.
    kernel = kernel if stride > 1 else _odd(kernel)
    return _KernelAlongAxis(kernel, (kernel - 1) // 2, (stride - 1) * (kernel % 2))


def _odd(kernel: int) -> int:
    return kernel - 1 + kernel % 2
