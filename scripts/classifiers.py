"""Train a classifier that metrics take features from, and write its weights into the package.

    python scripts/classifiers.py digits

It prints the accuracy on the test pictures and the SHA-256 that
`advnets.extractors.classifiers` is to know.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from advnets.config import Runtime
from advnets.data.open import open_source
from advnets.data.source import Part
from advnets.experiment.build import versions
from advnets.experiment.measure import pictures
from advnets.nets.classifier import ConvClassifier
from advnets.training.runtime import prepare, products

WEIGHTS = Path(__file__).parent.parent / "src" / "advnets" / "weights"
SOURCES = {"digits": "mnist"}
EPOCHS, BATCH, SEED, SHIFT = 12, 100, 0, 2
RATE, DECAY = 3e-3, 1e-2


def main() -> None:
    """Train, test, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("name", choices=SOURCES)
    name = parser.parse_args().name
    splits = open_source(SOURCES[name])
    began = time.monotonic()
    device = prepare(Runtime(device="cpu", precision="float32", threads=1))
    torch.manual_seed(SEED)
    pixels, labels = tensors(splits.train)
    net = ConvClassifier(splits.shape, int(labels.max()) + 1)
    steps = EPOCHS * (len(pixels) // BATCH)
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for epoch in range(EPOCHS):
        net.train()
        for batch in torch.randperm(len(pixels))[: steps // EPOCHS * BATCH].split(BATCH):
            with products(device, torch.bfloat16):
                loss = F.cross_entropy(net(shifted(pixels[batch])), labels[batch])
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
        "trained_on": f"{len(pixels):,} training pictures of {splits.name}",
        "test_accuracy": accuracy(net, splits.test),
        "command": f"python scripts/classifiers.py {name}",
        "epochs": EPOCHS,
        "seed": SEED,
        "seconds": round(time.monotonic() - began),
        "versions": versions(),
    }
    WEIGHTS.mkdir(exist_ok=True)
    path = WEIGHTS / f"{name}.safetensors"
    save_file(net.state_dict(), path, {"advnets": json.dumps(facts, sort_keys=True)})
    print(json.dumps(facts, indent=1))
    print(f"{path}: {path.stat().st_size:,} bytes, SHA-256 {digest(path)}")


def tensors(part: Part) -> tuple[Tensor, Tensor]:
    """All pictures of a split, in [0, 1], and their classes."""
    assert part.labels is not None
    return pictures(part, slice(None)), torch.from_numpy(part.labels)


def shifted(pixels: Tensor) -> Tensor:
    """A batch moved by up to two pixels each way, all by the same."""
    across, down = (int(torch.randint(-SHIFT, SHIFT + 1, ())) for _ in range(2))
    height, width = pixels.shape[2:]
    padded = F.pad(pixels, (SHIFT,) * 4)
    return padded[:, :, SHIFT + down :, SHIFT + across :][:, :, :height, :width]


@torch.no_grad()
def accuracy(net: ConvClassifier, part: Part) -> float:
    """Share of a split's pictures whose class is told."""
    net.eval()
    pixels, labels = tensors(part)
    told = torch.cat([net(block).argmax(1) for block in pixels.split(500)])
    return float((told == labels).double().mean())


def digest(path: Path) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    main()
