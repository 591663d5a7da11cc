"""Record features of other implementations of DINOv2, which tests compare `dinov2` with.

    pip install transformers
    python tools/dinov2.py CHECKOUT

CHECKOUT is a clone of the repository facebookresearch/dinov2. Small networks with random weights,
under the names of the published files, are applied to random images, prepared as by Stein et al.
2023. It writes tests/extractors/dinov2.json.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import warnings
import zlib
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

OUTPUT = Path(__file__).parent.parent / "tests" / "extractors" / "dinov2.json"
WIDTH, DEPTH, HEADS = 128, 2, 2


def random_weights(shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """Return weights that depend only on their names and shapes; each has an effect on features."""
    weights: dict[str, Tensor] = {}
    for name, shape in shapes.items():
        # Small tokens, so that the constant of the first layer norm has an effect too.
        scale = 0.01 if any(part in name for part in ("cls", "pos", "patch")) else 1.0
        fan_in = 1 if "pos" in name else int(np.prod(shape[1:]))
        values = np.random.RandomState(zlib.crc32(name.encode())).normal(size=shape)
        weights[name] = torch.tensor(scale * values / fan_in**0.5, dtype=torch.float32)
    return weights


def random_images() -> Tensor:
    """Return two color images of 50 x 70 pixels in [0, 1]."""
    pixels = np.random.RandomState(0).uniform(size=(2, 3, 50, 70))
    return torch.tensor(pixels, dtype=torch.float32)


def prepared_images() -> Tensor:
    """Return the images as Stein et al. pass them to a network.

    These are the transforms Resize, ToTensor and Normalize of torchvision, in Pillow and NumPy.
    """
    rows: list[np.ndarray] = []
    for image in random_images().numpy():
        rgb = np.round(image * 255).astype(np.uint8).transpose(1, 2, 0)
        resized = np.asarray(Image.fromarray(rgb).resize((224, 224), Image.Resampling.BICUBIC))
        normalized = (resized / 255 - np.array((0.485, 0.456, 0.406))) / (0.229, 0.224, 0.225)
        rows.append(normalized.transpose(2, 0, 1).astype(np.float32))
    return torch.tensor(np.stack(rows))


@torch.no_grad()
def original_features(checkout: Path) -> tuple[Mapping[str, Sequence[int]], Tensor]:
    """Return the shapes of weights and the features of the network of facebookresearch/dinov2."""
    sys.path.insert(0, str(checkout))
    module: Any = import_module("dinov2.models.vision_transformer")
    net = module.DinoVisionTransformer(
        img_size=518,
        patch_size=14,
        embed_dim=WIDTH,
        depth=DEPTH,
        num_heads=HEADS,
        init_values=1.0,
        block_chunks=0,
    )
    shapes = {name: list(tensor.shape) for name, tensor in net.state_dict().items()}
    net.load_state_dict(random_weights(shapes))
    return shapes, net.eval()(prepared_images())


@torch.no_grad()
def transformers_features() -> tuple[Mapping[str, Sequence[int]], Tensor]:
    """Return the shapes of stored weights and the features of Dinov2Model of transformers.

    Its grid is that of the images: it interpolates other grids without the offset of the original.
    """
    library: Any = import_module("transformers")
    config = library.Dinov2Config(
        hidden_size=WIDTH,
        num_hidden_layers=DEPTH,
        num_attention_heads=HEADS,
        image_size=224,
        patch_size=14,
    )
    with tempfile.TemporaryDirectory() as folder:
        library.Dinov2Model(config).save_pretrained(folder)
        file = Path(folder) / "model.safetensors"
        shapes = {name: list(tensor.shape) for name, tensor in load_file(file).items()}
        save_file(random_weights(shapes), file, {"format": "pt"})
        net = library.Dinov2Model.from_pretrained(folder)
    return shapes, net.eval()(prepared_images()).last_hidden_state[:, 0]


def main() -> None:
    """Write the features, with shapes of weights and versions."""
    checkout = Path(sys.argv[1])
    warnings.simplefilter("ignore")  # about faster libraries that are not installed
    commit = subprocess.run(
        ["git", "-C", checkout, "rev-parse", "HEAD"], check=True, capture_output=True, text=True
    ).stdout.strip()
    versions = {name: version(name) for name in ("torch", "pillow", "transformers")}
    record: dict[str, Any] = {"versions": {**versions, "facebookresearch/dinov2": commit}}
    for name, (shapes, features) in (
        ("facebookresearch/dinov2", original_features(checkout)),
        ("transformers", transformers_features()),
    ):
        record[name] = {"shapes": shapes, "features": features.double().round(decimals=5).tolist()}
    OUTPUT.write_text(json.dumps(record, separators=(",", ":")) + "\n", "utf-8")


if __name__ == "__main__":
    main()
