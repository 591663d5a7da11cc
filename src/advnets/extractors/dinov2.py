"""The DINOv2 vision transformers, whose features FD-DINOv2 compares; the user has their weights."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from advnets.errors import DataError
from advnets.extractors.base import (
    check_color_pixels,
    extract_in_batches,
    file_digest,
    weights_path,
)

WEIGHTS_VARIABLE = "ADVNETS_DINOV2"
"""The environment variable with the path of the weights."""
WEIGHTS_FILE = "dinov2_vitl14_pretrain.pth"
"""The file of the weights of ViT-L/14 in the repository facebookresearch/dinov2."""
IMAGE_SIZE = 224
"""Height and width that images are resized to, in pixels."""

_PATCH_SIZE, _HEAD_DIM, _EPS = 14, 64, 1e-6
_OFFSET = 0.1
"""A constant that the original implementation adds to the size of an interpolated grid."""
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of red, green and blue in ImageNet, for values in [0, 1]."""
_BATCH_SIZE = 10
"""The number of images in a batch; larger batches are slower on a CPU."""
_NAMES = {(384, 12): "dinov2-vits14", (768, 12): "dinov2-vitb14", (1024, 24): "dinov2"}
"""Names in records by width and depth; "dinov2" is ViT-L/14, the network of FD-DINOv2."""

_HUGGING_FACE_NAMES = {
    r"^embeddings\.position_embeddings": "pos_embed",
    r"^embeddings\.patch_embeddings\.projection": "patch_embed.proj",
    r"^embeddings\.(cls|mask)_token": r"\1_token",
    r"^encoder\.layer\.(\d+)\.attention\.output\.dense": r"blocks.\1.attn.proj",
    r"^encoder\.layer\.(\d+)\.attention\.attention\.(query|key|value)": r"blocks.\1.attn.\2",
    r"^encoder\.layer\.(\d+)\.layer_scale(\d)\.lambda1": r"blocks.\1.ls\2.gamma",
    r"^encoder\.layer\.(\d+)": r"blocks.\1",
    r"^layernorm": "norm",
}
"""Patterns of the names of parameters in files for the library transformers, and the names here."""

Tokens = Float[Tensor, "batch tokens features"]


class LayerScale(nn.Module):
    """A learned factor for each feature."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma: nn.Parameter = nn.Parameter(torch.empty(width))

    def forward(self, x: Tokens) -> Tokens:
        """Multiply each feature by its factor."""
        return x * self.gamma


class Attention(nn.Module):
    """Self-attention with heads of 64 features."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv: nn.Linear = nn.Linear(width, 3 * width)
        self.proj: nn.Linear = nn.Linear(width, width)

    def forward(self, x: Tokens) -> Tokens:
        """Project, for each token, the mean of all values weighted by softmax(q k / sqrt(64))."""
        heads = self.qkv(x).unflatten(-1, (3, -1, _HEAD_DIM)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1: nn.Linear = nn.Linear(width, 4 * width)
        self.fc2: nn.Linear = nn.Linear(4 * width, width)

    def forward(self, x: Tokens) -> Tokens:
        """Apply the layers to each token."""
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Self-attention and an MLP, each after layer norm, scaled, and added to its input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1: nn.LayerNorm = nn.LayerNorm(width, eps=_EPS)
        self.attn: Attention = Attention(width)
        self.ls1: LayerScale = LayerScale(width)
        self.norm2: nn.LayerNorm = nn.LayerNorm(width, eps=_EPS)
        self.mlp: MLP = MLP(width)
        self.ls2: LayerScale = LayerScale(width)

    def forward(self, x: Tokens) -> Tokens:
        """Apply the attention, then the MLP."""
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class PatchEmbedding(nn.Module):
    """A linear map of each patch of 14 x 14 pixels to a token."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj: nn.Conv2d = nn.Conv2d(3, width, _PATCH_SIZE, stride=_PATCH_SIZE)

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Tokens:
        """Return a token for each patch, row by row."""
        return self.proj(images).flatten(2).transpose(1, 2)


class VisionTransformer(nn.Module):
    """A vision transformer of DINOv2, with the names of parameters of its published weights.

    `width` is the number of features, a multiple of 64, `depth` the number of blocks, and
    `num_positions` 1 for the class token and 1 for each patch of a square grid.
    Sources: Dosovitskiy et al. 2021; Oquab et al. 2023, "DINOv2".
    """

    def __init__(self, width: int, depth: int, num_positions: int) -> None:
        super().__init__()
        self.cls_token: nn.Parameter = nn.Parameter(torch.empty(1, 1, width))
        # The mask token is in the published files, but only the training of DINOv2 uses it.
        self.mask_token: nn.Parameter = nn.Parameter(torch.empty(1, width))
        self.pos_embed: nn.Parameter = nn.Parameter(torch.empty(1, num_positions, width))
        self.patch_embed: PatchEmbedding = PatchEmbedding(width)
        self.blocks: nn.Sequential = nn.Sequential(*(Block(width) for _ in range(depth)))
        self.norm: nn.LayerNorm = nn.LayerNorm(width, eps=_EPS)

    def forward(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch features"]:
        """Return the class token after the last layer norm.

        `images` are normalized with the mean and standard deviation of ImageNet; their height and
        width are equal and a multiple of 14.
        """
        grid = images.shape[-1] // _PATCH_SIZE
        class_token = self.cls_token.expand(len(images), -1, -1)
        tokens = torch.cat((class_token, self.patch_embed(images)), 1)
        tokens = tokens + interpolate_positions(self.pos_embed, grid)
        return self.norm(self.blocks(tokens)[:, 0])


def interpolate_positions(
    table: Float[Tensor, "1 positions features"], grid: int
) -> Float[Tensor, "1 new_positions features"]:
    """Return the position embeddings of the class token and of grid x grid patches.

    `table` has those of the class token and of size x size patches; the embeddings of patches are
    interpolated by cubic convolution, scaled by (grid + 0.1) / size.
    """
    size = round((table.shape[1] - 1) ** 0.5)
    if size == grid:
        return table
    patches = table[:, 1:].unflatten(1, (size, size)).permute(0, 3, 1, 2)
    scale = (grid + _OFFSET) / size
    patches = F.interpolate(patches, scale_factor=(scale, scale), mode="bicubic")
    return torch.cat((table[:, :1], patches.flatten(2).transpose(1, 2)), 1)


@dataclass(frozen=True)
class DINOv2:
    """A feature extractor for grayscale or RGB images of any size: `net`, a DINOv2 transformer.

    As in Stein et al. 2023, images are rounded to bytes and resized to 224 x 224 by Pillow's
    bicubic filter, and the features are the class token after the last layer norm.
    """

    name: str
    digest: str
    net: VisionTransformer

    def features(
        self, pixels: Float[Tensor, "n channels height width"]
    ) -> Float[Tensor, "n features"]:
        """Return the class token, one row for each image.

        It has 384 features for ViT-S/14, 768 for B/14 and 1,024 for L/14.

        Args:
            pixels: images of 1 or 3 channels with pixels in [0, 1].

        Raises:
            DataError: the images have another number of channels or range, or features are not
                finite.
        """
        pixels = check_color_pixels(self.name, pixels)
        return extract_in_batches(
            self.name, lambda block: self.net(prepare_images(block)), pixels, max_batch=_BATCH_SIZE
        )


def prepare_images(
    pixels: Float[Tensor, "batch channels height width"],
) -> Float[Tensor, "batch 3 224 224"]:
    """Convert images in [0, 1] to the input of the network: RGB, 224 x 224, normalized."""
    pixels_rgb = pixels.expand(-1, 3, -1, -1)
    bytes_rgb = (pixels_rgb * 255).round().byte().permute(0, 2, 3, 1).numpy()
    size, resample = (IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC
    resized = [np.asarray(Image.fromarray(image).resize(size, resample)) for image in bytes_rgb]
    images = torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2) / 255
    return (images - torch.tensor(_MEAN).view(3, 1, 1)) / torch.tensor(_STD).view(3, 1, 1)


def load_dinov2() -> DINOv2:
    """Load DINOv2 ViT-S/14, B/14 or L/14 with weights from a local file; download nothing.

    The file is at the path in the environment variable ADVNETS_DINOV2, or else in torch's cache.

    Raises:
        DataError: there is no such file, or it does not contain the weights of such a network.
    """
    path = weights_path(
        WEIGHTS_VARIABLE, WEIGHTS_FILE, "DINOv2", "the repository facebookresearch/dinov2"
    )
    try:
        stored: Mapping[str, Tensor] = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
        net = network_of(stored)
        name = _NAMES[net.norm.weight.shape[0], len(net.blocks)]
    except (
        *(pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError, OSError),
        *(AttributeError, KeyError, TypeError, ValueError),
    ) as error:
        raise DataError(
            f"{path} has no weights of DINOv2 ViT-S/14, B/14 or L/14 without registers "
            f"({type(error).__name__}); give {WEIGHTS_FILE}, or model.safetensors of "
            "facebook/dinov2-large"
        ) from None
    return DINOv2(name, file_digest(path), net)


def network_of(stored: Mapping[str, Tensor]) -> VisionTransformer:
    """Build the network of stored weights; their names and shapes tell its depth and width.

    Raises:
        KeyError, ValueError, TypeError, AttributeError, RuntimeError: they are not the weights of
            such a network.
    """
    # Rename the parameters, and count the blocks.
    weights = {_local_name(name): tensor.float() for name, tensor in stored.items()}
    depth = 1 + max((int(name.split(".")[1]) for name in weights if "blocks." in name), default=0)

    # Concatenate query, key and value, which files for the library transformers separate.
    for block in range(depth):
        for kind in ("weight", "bias"):
            names = [f"blocks.{block}.attn.{part}.{kind}" for part in ("query", "key", "value")]
            if names[0] in weights:
                parts = [weights.pop(name) for name in names]
                weights[f"blocks.{block}.attn.qkv.{kind}"] = torch.cat(parts)

    # Build the network without initial weights, and assign the stored ones.
    _, num_positions, width = weights["pos_embed"].shape
    with torch.device("meta"):
        net = VisionTransformer(width, depth, num_positions)
    net.load_state_dict(weights, assign=True)
    return net.eval().requires_grad_(requires_grad=False)


def _local_name(stored: str) -> str:
    """Return the name in `VisionTransformer` of a parameter in a file."""
    for pattern, name in _HUGGING_FACE_NAMES.items():
        renamed, count = re.subn(pattern, name, stored)
        if count:
            return renamed
    return stored
