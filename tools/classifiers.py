"""Train a feature-extractor classifier, and write its weights into the package.

    python tools/classifiers.py digits
    python tools/classifiers.py cifar-jpeg --data cifar10-jpg.zip

It prints the test accuracy and the SHA-256 that `advnets.extractors.builtin` expects.

The recipe `cifar-jpeg` is for CIFAR-10 as a zip of 32x32 JPEG files by split and class. These
images were recompressed, which the stored metadata say, so this classifier is not a default
extractor, least of all for the original pixels.
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
from advnets.models.classifiers import ConvClassifier
from advnets.run_records import versions
from advnets.sampling.sampler import read_images
from advnets.training.devices import PRECISIONS, resolve, setup_process, to_device

WEIGHTS = Path(__file__).parent.parent / "src" / "advnets" / "weights"
BATCH, SEED = 100, 0
RATE, DECAY = 3e-3, 1e-2


@dataclass(frozen=True)
class Recipe:
    """The data and the training settings of a classifier."""

    data: str | None
    """Name of a dataset; None takes the path in --data."""
    epochs: int
    shift: int
    """Maximum random translation of a batch, in pixels."""
    mirror: bool = False
    """Whether to flip images horizontally with probability 1/2."""
    pixels: str = "original"
    """Description of the pixels in the stored metadata."""


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
    """Train, test and write a classifier."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("name", choices=RECIPES)
    parser.add_argument("--data", help="zip of JPEG files for the recipe cifar-jpeg")
    arguments = parser.parse_args()
    name, recipe = arguments.name, RECIPES[arguments.name]
    splits = open_dataset(source(recipe, arguments.data))
    start = time.monotonic()
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
                augmented = random_flip(pixels[batch]) if recipe.mirror else pixels[batch]
                loss = F.cross_entropy(net(random_shift(augmented, recipe.shift)), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        assert splits.valid is not None
        print(
            f"epoch {epoch + 1}: validation accuracy {accuracy(net, splits.valid):.4f}", flush=True
        )
    assert splits.test is not None
    metadata = {
        "shape": splits.shape,
        "classes": net.classes,
        "widths": net.widths,
        "trained_on": f"{len(pixels):,} training images of {splits.name}",
        "test_accuracy": accuracy(net, splits.test),
        "pixels": recipe.pixels,
        "command": command(name, arguments.data),
        "epochs": recipe.epochs,
        "seed": SEED,
        "precision": runtime.precision,
        "seconds": round(time.monotonic() - start),
        "versions": versions(),
    }
    WEIGHTS.mkdir(exist_ok=True)
    path = WEIGHTS / f"{name}.safetensors"
    # safetensors stores contiguous tensors, not channels-last ones.
    rows = {key: tensor.contiguous() for key, tensor in net.state_dict().items()}
    save_file(rows, path, {"advnets": json.dumps(metadata, sort_keys=True)})
    print(json.dumps(metadata, indent=1))
    print(f"{path}: {path.stat().st_size:,} bytes, SHA-256 {digest(path)}")


def command(name: str, data: str | None) -> str:
    """Return the command line that reproduces the classifier."""
    option = "" if data is None else f" --data {Path(data).name}"
    return f"python tools/classifiers.py {name}{option}"


def source(recipe: Recipe, data: str | None) -> str:
    """Return the data source of a recipe."""
    if recipe.data is not None:
        return recipe.data
    if data is None or not is_jpegs(data):
        sys.exit(
            "the recipe cifar-jpeg needs a zip of JPEG files; pass it with --data cifar10-jpg.zip"
        )
    return data


def is_jpegs(data: str) -> bool:
    """Return whether a file is a zip that contains only JPEG files."""
    if not zipfile.is_zipfile(data):
        return False
    with zipfile.ZipFile(data) as archive:
        return all(name.endswith((".jpg", "/")) for name in archive.namelist())


def tensors(split: Split | StreamingSplit) -> tuple[Tensor, Tensor]:
    """Return all images of a split, in [0, 1], and their classes."""
    assert isinstance(split, Split), "a streaming split has no length"
    assert split.labels is not None
    return read_images(split, slice(None)), torch.from_numpy(split.labels)


def random_flip(pixels: Tensor) -> Tensor:
    """Flip each image of a batch horizontally with probability 1/2."""
    flip = torch.rand(len(pixels), 1, 1, 1) < 0.5
    return torch.where(flip, pixels.flip(-1), pixels)


def random_shift(pixels: Tensor, max_shift: int) -> Tensor:
    """Translate a whole batch by a random number of pixels in each direction."""
    across, down = (int(torch.randint(-max_shift, max_shift + 1, ())) for _ in range(2))
    height, width = pixels.shape[2:]
    padded = F.pad(pixels, (max_shift,) * 4)
    return padded[:, :, max_shift + down :, max_shift + across :][:, :, :height, :width]


@torch.no_grad()
def accuracy(net: ConvClassifier, split: Split) -> float:
    """Return the fraction of a split's images that are classified correctly."""
    net.eval()
    pixels, labels = tensors(split)
    predicted = torch.cat([net(block).argmax(1) for block in pixels.split(500)])
    return float((predicted == labels).double().mean())


def digest(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    main()
