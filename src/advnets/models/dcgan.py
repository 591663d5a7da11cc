"""DCGAN (Radford et al. 2015), for images of any size that `upsampling_sizes` supports.

The paper gives five guidelines: strided convolutions instead of pooling; batch normalization,
except at G's output and D's input; no fully connected hidden layers; ReLU in G, with tanh at the
output; leaky ReLU in D. For ablations, options can disable each of them.
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
    Activation,
    FullKernelConv2d,
    FullKernelConvTranspose2d,
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

_GAIN_STD = 0.02
"""The standard deviation of the initial weights of batch normalization."""

_FEW_CHANNELS = 4
"""The largest number of channels for which a transposed convolution is the slower form."""

Resampling = Literal["strides", "pooling"]


class Layer(nn.Module):
    """A convolution, a normalization and an activation; class maps may be added to its input."""

    def __init__(self, conv: nn.Module, norm: nn.Module, activation: str) -> None:
        super().__init__()
        self.net: nn.Module = conv
        self.norm: nn.Module = norm
        self.activate: Activation = ACTIVATIONS[activation]

    def forward(
        self,
        x: Float[Tensor, "batch inputs h w"],
        classes: Float[Tensor, "batch classes"] | None = None,
    ) -> Float[Tensor, "batch outputs h2 w2"]:
        """Return activation(norm(conv(x))); one-hot `classes` are concatenated as constant maps."""
        if classes is not None:
            maps = classes[:, :, None, None].expand(-1, -1, *x.shape[2:])
            x = torch.cat((x, maps.to(x.dtype)), 1)
        return self.activate(self.norm(self.net(x)))

    def fuse(self) -> None:
        """Fuse batch normalization in eval mode into the convolution before it.

        A ReLU overwrites its input, which needs no gradient then.
        """
        if self.activate is ACTIVATIONS["relu"]:
            self.activate = torch.relu_
        if not isinstance(self.net, nn.Conv2d | nn.ConvTranspose2d):
            return
        if isinstance(self.norm, nn.BatchNorm2d) and self.norm.running_mean is not None:
            transpose = isinstance(self.net, nn.ConvTranspose2d)
            self.net = fuse_conv_bn_eval(self.net, self.norm, transpose=transpose)
            self.norm = nn.Identity()


class DCGANGenerator(LatentSampler):
    """The DCGAN generator: small maps, upsampled by transposed convolutions to images of `shape`.

    It maps (batch, latent) to (batch, channels, height, width), with tanh in [-1, 1]. The largest
    hidden maps have `base_channels` channels, which double whenever the size is halved. Initial
    weights are N(0, `init_std`), those of batch normalization N(1, 0.02). With `classes` a latent
    ends in a one-hot class, which is added to every layer's input. Source: Radford et al. 2015,
    section 3, where `base_channels` is 128.

    Raises:
        UsageError: the size is not one of `upsampling_sizes`.
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
        self.shape: Shape = shape
        self.classes: int = classes
        self.latent_dim: int = latent_dim + classes
        base, strides = upsampling_sizes(shape)
        channels = [base_channels << i for i in reversed(range(len(strides)))]

        bias = not batch_norm

        def layer(conv: nn.Module, outputs: int) -> Layer:
            norm = nn.BatchNorm2d(outputs) if batch_norm else nn.Identity()
            return Layer(conv, norm, activation)

        # Build the fully connected layers, which are convolutions of maps of one pixel.
        layers = [
            layer(FullKernelConv2d(before + classes, after, 1, bias=bias), after)
            for before, after in pairwise((latent_dim, *dense))
        ]

        # Build the maps of each size.
        before = (latent_dim, *dense)[-1] + classes
        first = FullKernelConvTranspose2d(before, channels[0], base, bias=bias)
        layers.append(layer(first, channels[0]))
        for (before, after), stride in zip(pairwise(channels), strides[:-1], strict=True):
            conv = _upsampling_layer(resampling, before + classes, after, kernel_size, stride, bias)
            layers.append(layer(conv, after))
        last = _upsampling_layer(
            resampling, channels[-1] + classes, shape[0], kernel_size, strides[-1], bias
        )
        self.layers: nn.ModuleList = nn.ModuleList(layers)

        # Build the output layer, initialize the weights, and build the prior.
        self.last: Layer = Layer(last, nn.Identity(), "linear")
        self.output_activation: Activation = ACTIVATIONS[output]
        init_weights(self, init_std)
        self.prior: Prior = Prior(prior, latent_dim, components, component_shape)

    def forward(
        self,
        z: Latents,
        rng: RNG | None = None,  # noqa: ARG002 - the model has no randomness
    ) -> Images:
        """Return G(z)."""
        check_shape("latents", z, self.latent_dim)
        one_hot_labels = z[:, -self.classes :] if self.classes else None
        h = z[:, : self.latent_dim - self.classes, None, None]
        for layer in self.layers:
            h = layer(h, one_hot_labels)
        return self.output_activation(self.last(h, one_hot_labels).float())

    def fused(self) -> DCGANGenerator:
        """Return a copy for inference without batch normalization, for latents without gradient.

        It is fused into the convolutions; the last one, whose few channels use little of the
        processor, is computed as one of stride 1 with a channel for each position in its stride.
        """
        net = copy.deepcopy(self).eval()
        for layer in net.layers:
            cast(Layer, layer).fuse()
        if isinstance(net.last.net, nn.ConvTranspose2d):
            net.last.net = _as_pixel_shuffle(net.last.net)
        return net


class DCGANDiscriminator(nn.Module):
    """The DCGAN discriminator: maps downsampled by strided convolutions, then one logit a(x).

    The first and the last layer have no batch normalization; the leaky ReLUs have slope 0.2. Real
    and generated images that are concatenated in one batch are normalized separately. With
    `classes` the one-hot class is added to every layer's input, or, with `projection`, only to the
    logit: a(x | y) = a(h) + v_y · Σ h of the last maps h (Miyato and Koyama 2018, equation 3). With
    `spectral_norm` the weights of every layer are divided by their largest singular value,
    estimated by one step of power iteration in each pass (Miyato et al. 2018, "Spectral
    normalization", algorithm 1). Source: Radford et al. 2015, section 3.

    Raises:
        UsageError: the size is not one of `upsampling_sizes`.
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
        self.shape: Shape = shape
        self.classes: int = classes
        self.batch_norm: bool = batch_norm
        self.per_sample: bool = not batch_norm
        projected_classes = classes if projection else 0
        classes -= projected_classes
        self.conditional = classes
        base, strides = upsampling_sizes(shape)
        channels = [shape[0], *(base_channels << i for i in range(len(strides)))]
        bias = not batch_norm

        def layer(conv: nn.Module, outputs: int) -> Layer:
            has_norm = batch_norm and bool(layers)
            return Layer(conv, nn.BatchNorm2d(outputs) if has_norm else nn.Identity(), activation)

        # Build the convolutions.
        layers: list[Layer] = []
        for (before, after), stride in zip(pairwise(channels), reversed(strides), strict=True):
            conv = _downsampling_layer(
                resampling, before + classes, after, kernel_size, stride, bias
            )
            layers.append(layer(conv, after))
        self.convolutions: int = len(layers)

        # Build the fully connected layers and the layer of the logit.
        size = base
        for before, after in pairwise((channels[-1], *dense)):
            layers.append(layer(FullKernelConv2d(before + classes, after, size, bias=bias), after))
            size = 1, 1
        last = FullKernelConv2d((channels[-1], *dense)[-1] + classes, 1, size, bias=bias)
        self.layers: nn.ModuleList = nn.ModuleList(layers)
        self.last: Layer = Layer(last, nn.Identity(), "linear")
        self.directions: nn.Conv2d | None = (
            nn.Conv2d(projected_classes, (channels[-1], *dense)[-1], 1, bias=False)
            if projected_classes
            else None
        )
        init_weights(self, init_std)

        # List the layers first, as spectral normalization adds modules to the model.
        if spectral_norm:
            for conv in [module for module in self.modules() if isinstance(module, nn.Conv2d)]:
                with_spectral_norm(conv)

    def forward(
        self, x: Images, rng: RNG | None = None, labels: Int[Tensor, " batch"] | None = None
    ) -> Logits:
        """Return the logits a(x); `rng` only gives the number of batches concatenated in x.

        Raises:
            UsageError: the images have another shape than the model was built for.
        """
        check_shape("images", x, *self.shape)
        batches = len(rng.streams) if rng is not None and self.batch_norm else 1
        one_hot_labels = one_hot(labels, self.classes, x)
        label_chunks = [None] * batches if one_hot_labels is None else one_hot_labels.chunk(batches)
        image_chunks = x.chunk(batches)
        return torch.cat(
            [self._logits(*pair) for pair in zip(image_chunks, label_chunks, strict=True)]
        )

    def feature_maps(self, x: Images) -> list[Float[Tensor, "batch maps h w"]]:
        """Return the maps of every convolution, largest first.

        Raises:
            UsageError: D adds the class to its layers, so that an image alone has no features; or
                the images have another shape than the model was built for.
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
            h = self._last_maps(x, None)
            return self.last(h).flatten() + projection_logit(self.directions, one_hot_labels, h)
        return self.last(self._last_maps(x, one_hot_labels), one_hot_labels).flatten()

    def _last_maps(self, x: Tensor, one_hot_labels: Tensor | None) -> Tensor:
        for layer in self.layers:
            x = layer(x, one_hot_labels)
        return x


def init_weights(net: nn.Module, std: float) -> None:
    """Draw initial weights from N(0, std), and those of batch normalization from N(1, 0.02)."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, 0.0, std)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, _GAIN_STD)


def _upsampling_layer(
    resampling: Resampling, inputs: int, outputs: int, kernel: int, stride: HeightWidth, bias: bool
) -> nn.Module:
    """Return a layer that upsamples by `stride`: a transposed convolution, or repeated pixels."""
    if resampling == "pooling":
        conv = nn.Conv2d(inputs, outputs, _odd(kernel), padding="same", bias=bias)
        return nn.Sequential(nn.Upsample(scale_factor=stride), conv)
    vertical, horizontal = (_kernel_along_axis(kernel, s) for s in stride)
    return nn.ConvTranspose2d(
        inputs,
        outputs,
        (vertical.kernel, horizontal.kernel),
        stride,
        (vertical.padding, horizontal.padding),
        (vertical.output_padding, horizontal.output_padding),
        bias=bias,
    )


def _downsampling_layer(
    resampling: Resampling, inputs: int, outputs: int, kernel: int, stride: HeightWidth, bias: bool
) -> nn.Module:
    """Return a layer that downsamples by `stride`: a strided convolution, or max pooling."""
    if resampling == "pooling":
        conv = nn.Conv2d(inputs, outputs, _odd(kernel), padding="same", bias=bias)
        return nn.Sequential(conv, nn.MaxPool2d(stride))
    vertical, horizontal = (_kernel_along_axis(kernel, s) for s in stride)
    return nn.Conv2d(
        inputs,
        outputs,
        (vertical.kernel, horizontal.kernel),
        stride,
        (vertical.padding, horizontal.padding),
        bias=bias,
    )


def _as_pixel_shuffle(layer: nn.ConvTranspose2d) -> nn.Module:
    """Return the same map as a convolution of 3 x 3 pixels and a pixel shuffle.

    With stride s, padding p and kernel w, output s i + a is the sum of x_(i + o) w_(a + p - s o)
    over o = -1, 0, 1. A layer with more channels, for which this is slower, another stride than 2,
    or a kernel that needs more than 3 x 3 is returned unchanged.
    """
    kernels, strides = layer.kernel_size, layer.stride
    paddings = cast(tuple[int, ...], layer.padding)
    taps = [[a + p - 2 * o for a in range(2) for o in (-1, 0, 1)] for p in paddings]
    fits = all({*range(k)} <= {*along} for k, along in zip(kernels, taps, strict=True))
    if layer.out_channels > _FEW_CHANNELS or strides != (2, 2) or not fits:
        return layer
    # Select the tap of each position and offset; those outside the kernel are 0.
    rows, columns = (
        torch.tensor([tap if 0 <= tap < k else k for tap in along]).view(2, 3)
        for along, k in zip(taps, kernels, strict=True)
    )
    weight = nn.functional.pad(layer.weight.detach(), (0, 1, 0, 1))
    weight = weight[:, :, rows[:, :, None, None], columns].permute(1, 2, 4, 0, 3, 5).flatten(0, 2)
    conv = nn.Conv2d(layer.in_channels, len(weight), 3, padding=1, bias=layer.bias is not None)
    conv.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last))
    if layer.bias is not None:
        conv.bias = nn.Parameter(layer.bias.detach().repeat_interleave(4))
    return nn.Sequential(conv, nn.PixelShuffle(2))


class _KernelAlongAxis(NamedTuple):
    """A kernel size along one axis and the padding that scales the size by exactly the stride."""

    kernel: int
    padding: int
    output_padding: int
    """The `output_padding` of a transposed convolution."""


def _kernel_along_axis(kernel: int, stride: int) -> _KernelAlongAxis:
    # With stride 1 only an odd kernel keeps the size.
    kernel = kernel if stride > 1 else _odd(kernel)
    return _KernelAlongAxis(kernel, (kernel - 1) // 2, (stride - 1) * (kernel % 2))


def _odd(kernel: int) -> int:
    return kernel - 1 + kernel % 2
