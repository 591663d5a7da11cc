"""A small convolutional classifier: what images are of, and the features that tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from advnets.models.layers import Shape


class ConvClassifier(nn.Module):
    """Groups of two 3x3 convolutions with batch norm and rectifiers, halved between; mean; linear.

    Maps pixels in [0, 1] of (batch, channels, height, width) to logits of (batch, classes). The
    features are the mean over positions of the last group's maps, `widths[-1]` numbers of at
    least 0.
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
        """What the last layer judges by."""
        h = pixels * 2 - 1
        for number, group in enumerate(self.groups):
            h = group(F.max_pool2d(h, 2) if number else h)
        return h.mean((2, 3))

    def forward(
        self, pixels: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch classes"]:
        """Logits; softmax of them is p(class | image)."""
        return cast(Tensor, self.last(self.features(pixels)))


def _layer(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    # The norm that follows takes any bias away.
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(outputs), nn.ReLU()
