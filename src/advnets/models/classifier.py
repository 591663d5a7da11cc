"""A small convolutional classifier that serves as a feature extractor for metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from advnets.models.layers import Shape


class ConvClassifier(nn.Module):
    """A classifier of groups of two 3x3 convolutions, with max pooling between the groups.

    It maps pixels in [0, 1] of (batch, channels, height, width) to logits of (batch, classes). The
    features are the last group's maps averaged over positions: `widths[-1]` numbers, at least 0.
    """

    def __init__(self, shape: Shape, classes: int, widths: Sequence[int] = (32, 64, 128)) -> None:
        super().__init__()
        self.shape, self.classes, self.widths = shape, classes, tuple(widths)
        groups: list[nn.Module] = []
        inputs = shape[0]
        for width in widths:
            groups.append(nn.Sequential(*_layer(inputs, width), *_layer(width, width)))
            inputs = width
        self.groups = nn.ModuleList(groups)
        self.last = nn.Linear(inputs, classes)

    def features(
        self, pixels: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch features"]:
        """Return the features, which are the input of the last layer."""
        h = pixels * 2 - 1
        for number, group in enumerate(self.groups):
            h = group(F.max_pool2d(h, 2) if number else h)
        return h.mean((2, 3))

    def forward(
        self, pixels: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch classes"]:
        """Return class logits, whose softmax is p(class | image)."""
        return cast(Tensor, self.last(self.features(pixels)))


def _layer(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    # Omit the bias, which batch normalization would remove.
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(outputs), nn.ReLU()
