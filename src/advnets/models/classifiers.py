"""Classifiers: discriminators of semi-supervised games, and a feature extractor for metrics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from itertools import pairwise
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from advnets import config
from advnets.models.layers import Shape, add_noise
from advnets.protocols import Images, Logits
from advnets.rng import RNG

_FIRST_KERNEL_SIZE, _KERNEL_SIZE, _NEGATIVE_SLOPE = 5, 3, 0.2


class WeightNormLinear(nn.Module):
    """A weight-normalized linear layer x W / ‖W‖ g + b, with a norm and a gain for each unit.

    W is initialized from N(0, 0.05²), g with 1, b with 0. Source: Salimans and Kingma 2016, "Weight
    normalization", equation 2.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.direction: nn.Parameter = nn.Parameter(torch.randn(outputs, inputs).mul_(0.05))
        self.gain: nn.Parameter = nn.Parameter(torch.ones(outputs))
        self.bias: nn.Parameter = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Float[Tensor, "batch inputs"]) -> Float[Tensor, "batch outputs"]:
        """Return the outputs of the layer."""
        # Scale the units and not the weights, as there are fewer of them.
        return F.linear(x, self.direction) * (self.gain / self.direction.norm(dim=1)) + self.bias


class WeightNormConv2d(nn.Module):
    """A weight-normalized convolution, padded so that a stride of 1 keeps the size.

    Gains are initialized with √2, as a ReLU halves the second moment of its input.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.direction: nn.Parameter = nn.Parameter(
            torch.randn(outputs, inputs, kernel, kernel).mul_(0.05)
        )
        self.gain: nn.Parameter = nn.Parameter(torch.full((outputs,), math.sqrt(2.0)))
        self.bias: nn.Parameter = nn.Parameter(torch.zeros(outputs))
        self.stride: int = stride
        self.padding: int = kernel // 2

    def forward(
        self, x: Float[Tensor, "batch inputs height width"]
    ) -> Float[Tensor, "batch outputs height2 width2"]:
        """Return the output maps."""
        # Scale the weights and not the maps, as there are fewer of them.
        gain = self.gain / self.direction.flatten(1).norm(dim=1)
        weight = self.direction * gain[:, None, None, None]
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


class _ClassifyingDiscriminator(nn.Module):
    """A discriminator with logits l of K classes: D(x) = Σ exp l / (Σ exp l + 1).

    The class K + 1, "generated", has the constant logit 0, so that a(x) = log Σ exp l. Source:
    Salimans et al. 2016, "Improved techniques for training GANs", section 5.
    """

    last: WeightNormLinear

    def hidden(self, x: Images, rng: RNG | None = None) -> Float[Tensor, "batch features"]:
        """Return the features of the last hidden layer, before any noise."""
        raise NotImplementedError

    def class_logits(
        self,
        hidden: Float[Tensor, "batch features"],
        rng: RNG | None = None,  # noqa: ARG002 - for models that add noise to their features
    ) -> Float[Tensor, "batch classes"]:
        """Return the logits l; p(class | x, real) = softmax(l)."""
        return self.last(hidden).float()

    def forward(self, x: Images, rng: RNG | None = None) -> Logits:
        """Return a(x) = log Σ exp l."""
        return self.class_logits(self.hidden(x, rng), rng).logsumexp(1)


class SemiSupervisedDiscriminator(_ClassifyingDiscriminator):
    """A fully connected classifier; in training normal noise is added to every layer's input.

    The features that G matches are those of the last hidden layer before its noise, as in the
    published code.
    """

    def __init__(
        self, shape: Shape, spec: config.SemiSupervisedDiscriminator, classes: int
    ) -> None:
        super().__init__()
        self.spec = spec
        sizes = (math.prod(shape), *spec.hidden_sizes)
        self.layers: nn.ModuleList = nn.ModuleList(
            WeightNormLinear(*pair) for pair in pairwise(sizes)
        )
        self.last: WeightNormLinear = WeightNormLinear(sizes[-1], classes)

    def hidden(self, x: Images, rng: RNG | None = None) -> Float[Tensor, "batch features"]:
        """Return the features of the last hidden layer, before its noise."""
        h = add_noise(x.flatten(1), self.spec.noise_input, rng, "discriminator/noise0")
        for number, layer in enumerate(self.layers):
            h = F.relu(layer(self._with_noise(h, number, rng) if number else h))
        return h

    def class_logits(
        self, hidden: Float[Tensor, "batch features"], rng: RNG | None = None
    ) -> Float[Tensor, "batch classes"]:
        """Return the logits l of the features with noise; p(class | x, real) = softmax(l)."""
        return super().class_logits(self._with_noise(hidden, len(self.layers), rng))

    def _with_noise(self, h: Tensor, number: int, rng: RNG | None) -> Tensor:
        return add_noise(h, self.spec.noise_hidden, rng, f"discriminator/noise{number}")


class SemiSupervisedConvDiscriminator(_ClassifyingDiscriminator):
    """A convolutional classifier with 5x5 kernels, then 3x3; its features are the last maps."""

    def __init__(
        self, shape: Shape, spec: config.SemiSupervisedConvDiscriminator, classes: int
    ) -> None:
        super().__init__()
        kernels = (_FIRST_KERNEL_SIZE, *(_KERNEL_SIZE for _ in spec.channels[1:]))
        sizes = pairwise((shape[0], *spec.channels))
        layer = WeightNormConv2d if spec.norm == "weight" else _batch_norm_conv
        self.layers: nn.ModuleList = nn.ModuleList(
            layer(before, after, kernel, stride)
            for (before, after), kernel, stride in zip(sizes, kernels, spec.strides, strict=True)
        )
        height, width = (reduce(_ceil_div, spec.strides, side) for side in shape[1:])
        self.last: WeightNormLinear = WeightNormLinear(spec.channels[-1] * height * width, classes)

    def hidden(
        self,
        x: Images,
        rng: RNG | None = None,  # noqa: ARG002 - the model has no randomness
    ) -> Float[Tensor, "batch features"]:
        """Return the last maps, flattened."""
        for layer in self.layers:
            x = F.leaky_relu(layer(x), _NEGATIVE_SLOPE)
        return x.flatten(1)


def _batch_norm_conv(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Module:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


def _ceil_div(side: int, stride: int) -> int:
    return -(-side // stride)


class ConvClassifier(nn.Module):
    """A classifier of groups of two 3x3 convolutions, with max pooling between the groups.

    It maps pixels in [0, 1] of (batch, channels, height, width) to logits of (batch, classes). The
    features are the last group's maps averaged over positions: `widths[-1]` numbers, at least 0.
    """

    def __init__(self, shape: Shape, classes: int, widths: Sequence[int] = (32, 64, 128)) -> None:
        super().__init__()
        self.shape: Shape = shape
        self.classes: int = classes
        self.widths: tuple[int, ...] = tuple(widths)
        groups: list[nn.Module] = []
        inputs = shape[0]
        for width in widths:
            groups.append(nn.Sequential(*_layer(inputs, width), *_layer(width, width)))
            inputs = width
        self.groups: nn.ModuleList = nn.ModuleList(groups)
        self.last: nn.Linear = nn.Linear(inputs, classes)

    def features(self, pixels: Images) -> Float[Tensor, "batch features"]:
        """Return the features, which are the input of the last layer."""
        h = pixels * 2 - 1
        for number, group in enumerate(self.groups):
            h = group(F.max_pool2d(h, 2) if number else h)
        return h.mean((2, 3))

    def forward(self, pixels: Images) -> Float[Tensor, "batch classes"]:
        """Return class logits, whose softmax is p(class | image)."""
        return cast(Tensor, self.last(self.features(pixels)))


def _layer(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    # Omit the bias, which batch normalization would remove.
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(outputs), nn.ReLU()
