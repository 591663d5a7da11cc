"""Train a classifier that metrics take features from, and write its weights into the package.

    python tools/classifiers.py digits
    python tools/classifiers.py cifar-jpeg --data cifar10-jpg.zip

It prints the accuracy on the test images and the SHA-256 that
`advnets.extractors.builtin` is to know.

The recipe `cifar-jpeg` is for CIFAR-10 as a zip of JPEG files by split and class, 32x32: images
encoded anew, which its facts say. It is no default for anything, least of all for the original
pixels.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from advnets.config import Runtime
from advnets.data.dataset import Split, StreamingSplit
from advnets.data.registry import open_dataset
from advnets.models.classifier import ConvClassifier
from advnets.run_records import versions
from advnets.sampling.sampler import read_images
from advnets.training.devices import PRECISIONS, resolve, setup_process, to_device

WEIGHTS = Path(__file__).parent.parent / "src" / "advnets" / "weights"
BATCH, SEED = 100, 0
RATE, DECAY = 3e-3, 1e-2


@dataclass(frozen=True)
class Recipe:
    """What a classifier is trained on, and how."""

    data: str | None
    """A set by its name; None: --data says where it lies."""
    epochs: int
    shift: int
    """Pixels that a batch is moved each way, at most."""
    mirror: bool = False
    pixels: str = "original"
    """What the facts say of them."""


RECIPES = {
    "digits": Recipe("mnist", epochs=12, shift=2),
    "cifar-jpeg": Recipe(
        None,
        epochs=16,
        shift=4,
        mirror=True,
        pixels="decoded from JPEG files, not the original ones",
    ),
}


def main() -> None:
    """Train, test, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("name", choices=RECIPES)
    parser.add_argument("--data", help="where the recipe cifar-jpeg finds its JPEG files")
    asked = parser.parse_args()
    name, recipe = asked.name, RECIPES[asked.name]
    splits = open_dataset(source(recipe, asked.data))
    began = time.monotonic()
    runtime = resolve(Runtime(device="cpu", threads=1))
    device = setup_process(runtime)
    torch.manual_seed(SEED)
    pixels, labels = tensors(splits.train)
    net = ConvClassifier(splits.shape, int(labels.max()) + 1)
    to_device(net, device)
    steps = recipe.epochs * (len(pixels) // BATCH)
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for epoch in range(recipe.epochs):
        net.train()
        for batch in torch.randperm(len(pixels))[: steps // recipe.epochs * BATCH].split(BATCH):
            with torch.autocast(
                device.type,
                PRECISIONS[runtime.precision],
                enabled=PRECISIONS[runtime.precision] != torch.float32,
            ):
                shown = mirrored(pixels[batch]) if recipe.mirror else pixels[batch]
                loss = F.cross_entropy(net(shifted(shown, recipe.shift)), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        assert splits.valid is not None
        print(
            f"epoch {epoch + 1}: validation accuracy {accuracy(net, splits.valid):.4f}", flush=True
        )
    assert splits.test is not None
    facts = {
        "shape": splits.shape,
        "classes": net.classes,
        "widths": net.widths,
        "trained_on": f"{len(pixels):,} training images of {splits.name}",
        "test_accuracy": accuracy(net, splits.test),
        "pixels": recipe.pixels,
        "command": command(name, asked.data),
        "epochs": recipe.epochs,
        "seed": SEED,
        "precision": runtime.precision,
        "seconds": round(time.monotonic() - began),
        "versions": versions(),
    }
    WEIGHTS.mkdir(exist_ok=True)
    path = WEIGHTS / f"{name}.safetensors"
    # safetensors holds rows, not channels last.
    rows = {key: tensor.contiguous() for key, tensor in net.state_dict().items()}
    save_file(rows, path, {"advnets": json.dumps(facts, sort_keys=True)})
    print(json.dumps(facts, indent=1))
    print(f"{path}: {path.stat().st_size:,} bytes, SHA-256 {digest(path)}")


def command(name: str, data: str | None) -> str:
    """What to type to have the same."""
    told = "" if data is None else f" --data {Path(data).name}"
    return f"python tools/classifiers.py {name}{told}"


def source(recipe: Recipe, data: str | None) -> str:
    """What the recipe is trained on."""
    if recipe.data is not None:
        return recipe.data
    if data is None or not is_jpegs(data):
        sys.exit("this recipe is for a zip of JPEG files; give --data cifar10-jpg.zip")
    return data


def is_jpegs(data: str) -> bool:
    """Whether a file is a zip of JPEG files alone."""
    if not zipfile.is_zipfile(data):
        return False
    with zipfile.ZipFile(data) as archive:
        return all(name.endswith((".jpg", "/")) for name in archive.namelist())


def tensors(part: Split | StreamingSplit) -> tuple[Tensor, Tensor]:
    """All images of a split, in [0, 1], and their classes."""
    assert isinstance(part, Split), "streams have no end"
    assert part.labels is not None
    return read_images(part, slice(None)), torch.from_numpy(part.labels)


def mirrored(pixels: Tensor) -> Tensor:
    """A batch, each image mirrored with probability 1/2."""
    turned = torch.rand(len(pixels), 1, 1, 1) < 0.5
    return torch.where(turned, pixels.flip(-1), pixels)


def shifted(pixels: Tensor, most: int) -> Tensor:
    """A batch moved by up to so many pixels each way, all by the same."""
    across, down = (int(torch.randint(-most, most + 1, ())) for _ in range(2))
    height, width = pixels.shape[2:]
    padded = F.pad(pixels, (most,) * 4)
    return padded[:, :, most + down :, most + across :][:, :, :height, :width]


@torch.no_grad()
def accuracy(net: ConvClassifier, part: Split) -> float:
    """Share of a split's images whose class is told."""
    net.eval()
    pixels, labels = tensors(part)
    told = torch.cat([net(block).argmax(1) for block in pixels.split(500)])
    return float((told == labels).double().mean())


def digest(path: Path) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    main()
