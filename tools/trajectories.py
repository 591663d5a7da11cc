"""Print hashes of short trainings: two versions of the code that print the same learn the same.

    python tools/trajectories.py --out hashes.json                 # on the version to compare with
    python tools/trajectories.py --against hashes.json             # on the version to check
    python tools/trajectories.py --only digits modern --against hashes.json

Every preset is trained for some twenty steps, small where its nets or data are large, and so are
variants of `digits` and `dcgan` that cover games, orders of updates, precisions, penalties,
augmentation and packing. Each run is stopped half-way and resumed, which must change nothing. A
hash is SHA-256 over the sorted hashes of all tensors of the last checkpoint (weights, averages,
optimizers), over a grid of samples, or over the sorted numbers of the scores of `evaluate`: no name
of a tensor, file or field counts, so that renaming changes no hash. The hashes depend on the
machine and on the version of torch; compare on one machine.

MNIST is read from ADVNETS_DATA; all other images are made here.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors import safe_open

from advnets.cli.main import main as advnets

STEPS, HALF = 20, 10
_SMALL_DCGAN = ("--generator.base-channels", "8", "--discriminator.base-channels", "8")
_TIMES = ("seconds", "time", "images_per_second", "images_per_second")


@dataclass(frozen=True)
class Case:
    """A training: `train`'s arguments, the folder of images made here, and what scores it."""

    name: str
    arguments: tuple[str, ...]
    images: str = ""
    metrics: tuple[str, ...] = ()
    scoring: tuple[str, ...] = ()
    """More arguments of `evaluate`."""


def _case(
    line: str, *, name: str = "", images: str = "", metrics: str = "", scoring: str = ""
) -> Case:
    arguments = tuple(line.split())
    chosen = tuple(metrics.split())
    return Case(name or arguments[0], arguments, images, chosen, tuple(scoring.split()))


_DIGITS = {
    "simultaneous": "--game.updates simultaneous",
    "simultaneous, reused fakes": "--game.updates simultaneous --game.reuse-fakes",
    "k 2": "--game.k 2",
    "minimax": "--game.objective minimax",
    "hinge": "--game.objective hinge",
    "least squares": "--game.objective least-squares",
    "wasserstein": "--game.objective wasserstein --game.gp-weight 10",
    "relativistic": (
        "--game.relativistic --game.r1 0.5 --game.r2 0.5 --game.r1-final 0.1 "
        "--game.penalty-schedule cosine"
    ),
    "pac 2": "--game.pac 2",
    "augmented": (
        "--game.augment-prob 0.5 "
        "--game.augmentations flip translate cutout erase color affine elastic"
    ),
    "bfloat16": "--precision bfloat16",
    "normal prior": "--generator.prior normal",
    "sphere prior": "--generator.prior sphere",
    "learning rates": (
        "--generator-optimizer.lr-decay 1.01 --discriminator-optimizer.lr-final 0.0001"
    ),
    "no EMA": "--ema-half-life 0",
}
"""Variants of the preset digits."""

CASES = (
    _case(
        "digits",
        metrics="parzen frechet prdc two-sample-1nn mmd swd memorization",
        scoring="--num-samples 300",
    ),
    *(_case(f"digits {flags}", name=f"digits {name}") for name, flags in _DIGITS.items()),
    _case("points", metrics="mixture kl-jsd"),
    _case("points --data mixture:means=0:1/2:3", name="points mixture", metrics="kl-jsd"),
    _case("mlp", metrics="frechet inception-score", scoring="--num-samples 300"),
    _case("mnist-relativistic --threads 1"),
    _case("paper-mnist", metrics="parzen", scoring="--num-samples 300"),
    _case("paper-tfd --size 48 --channels 1", images="gray48"),
    _case("paper-cifar --size 32 --channels 3", images="color32"),
    _case("paper-cifar-conv --size 32 --channels 3", images="color32"),
    _case("dcgan --size 32", images="color32", metrics="frechet prdc", scoring="--num-samples 300"),
    _case("dcgan --size 32 --crop random --hflip", name="dcgan random crops", images="color32"),
    _case("dcgan-faces --size 32", images="color32"),
    _case("dcgan-mnist"),
    _case(
        "dcgan-mnist-conditional",
        metrics="class-accuracy",
        scoring="--num-samples 2000 --class-proportions uniform",
    ),
    _case("dcgan-cifar --size 32", images="color32"),
    _case("dcgan-tutorial --size 32", images="color32"),
    _case(
        "conditional-mnist",
        metrics="class-accuracy",
        scoring="--num-samples 2000 --class-proportions uniform",
    ),
    _case("inference-mnist", metrics="reconstruction"),
    _case("inpainting-mnist", metrics="inpainting"),
    _case("semi-supervised-mnist", metrics="classification-error"),
    _case("semi-supervised-mnist-large --batch-size 64 --game.labeled-batch 32"),
    _case("semi-supervised-mnist-2016", metrics="classification-error"),
    _case("supervised-mnist", metrics="classification-error"),
    _case("mnist-ttur"),
    _case("vae-mnist", metrics="elbo reconstruction"),
    _case("modern --size 32", images="color32", metrics="frechet", scoring="--num-samples 300"),
    _case("modern-mnist", metrics="frechet", scoring="--num-samples 300"),
    _case(
        "projection-mnist",
        metrics="class-accuracy",
        scoring="--num-samples 2000 --class-proportions uniform",
    ),
    _case("modern-stacked", metrics="modes"),
    _case("modern-cifar --size 32 --batch-size 16", images="color32"),
    _case("modern-residual --size 32 --batch-size 16", images="color32"),
    _case("modern-ring", metrics="mixture"),
    _case("modern-grid", metrics="mixture"),
)


def make_images(root: Path) -> None:
    """Write folders of images, one folder a class: `gray48` and `color32`."""
    for name, size, channels in (("gray48", 48, 1), ("color32", 32, 3)):
        random = np.random.default_rng(size)
        for number in range(300):
            shape = (size // 8, size // 8, channels)
            coarse = random.integers(0, 256, shape, dtype=np.uint8)
            coarse[..., 0] |= 128 * (number % 3 == 0)
            image = Image.fromarray(coarse[..., 0] if channels == 1 else coarse)
            place = root / name / "abc"[number % 3] / f"{number:03}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            image.resize((size, size), Image.Resampling.BICUBIC).save(place)


def hashes_of(case: Case, folder: Path, images: Path) -> dict[str, str]:
    """Train a case, stopped half-way and resumed, and return its hashes."""
    run = folder / "run"
    quiet = ("--log-every", "5", "--sample-every", "0", "--checkpoint-every", str(HALF))
    data = ("--data", str(images / case.images)) if case.images else ()
    small = _small(case)
    training = ("train", *case.arguments, *data, *small, *quiet, "--steps", str(STEPS))
    _run(*training, "--out", run)
    hashes = {"weights": _tensors(_last(run))}
    _run("sample", run, "--num-samples", 64, "--seed", 1, "--out", folder / "samples.npz")
    hashes["samples"] = _array(folder / "samples.npz")
    if case.metrics:
        _run("evaluate", run, "--metrics", *case.metrics, *case.scoring)
        hashes["scores"] = _numbers(json.loads((run / "scores.json").read_text("utf-8")))
    # Resume from the checkpoint half-way: the weights must be the same to the bit.
    last = _last(run)
    last.unlink()
    _run("train", "--resume", "--out", run)
    if _tensors(_last(run)) != hashes["weights"]:
        hashes["weights"] += " (differs after resuming)"
    return hashes


def _small(case: Case) -> tuple[str, ...]:
    threads = () if "--threads" in case.arguments else ("--threads", "1")
    narrow = case.arguments[0].startswith(("dcgan", "modern")) and case.name not in (
        *("modern-ring", "modern-grid", "modern-cifar", "modern-residual"),
    )
    return (*threads, *(_SMALL_DCGAN if narrow else ()))


def _run(*arguments: object) -> None:
    """Run a command of advnets in this process.

    Raises:
        RuntimeError: it failed; the message holds what it printed.
    """
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        code = advnets([str(argument) for argument in arguments])
    if code not in (0, 3):  # twenty steps at the rates of a long training may diverge
        raise RuntimeError(f"advnets {' '.join(map(str, arguments))}: {printed.getvalue()[-2000:]}")


def _last(run: Path) -> Path:
    """Return the last checkpoint of a run."""
    return max((run / "checkpoints").glob("*.safetensors"))


def _tensors(checkpoint: Path) -> str:
    with safe_open(checkpoint, "numpy") as file:
        tensors = [file.get_tensor(name) for name in file.keys()]  # noqa: SIM118
    return _sorted_hash(_array_hash(tensor) for tensor in tensors)


def _array(path: Path) -> str:
    with np.load(path) as arrays:
        return _sorted_hash(_array_hash(arrays[name]) for name in arrays.files)


def _array_hash(array: np.ndarray) -> str:
    digest = hashlib.sha256(f"{array.dtype} {array.shape}".encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _numbers(records: object) -> str:
    """Hash all numbers in records, except times."""
    numbers: list[str] = []

    def collect(value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                if key not in _TIMES:
                    collect(inner)
        elif isinstance(value, list):
            for inner in value:
                collect(inner)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            numbers.append(repr(float(value)))

    collect(records)
    return _sorted_hash(numbers)


def _sorted_hash(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(parts)).encode()).hexdigest()[:16]


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, print the hashes, and compare them where they are to be compared."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--only", nargs="+", metavar="CASE", help="the cases to train (default: all)"
    )
    parser.add_argument("--out", type=Path, help="write the hashes to this JSON file")
    parser.add_argument("--against", type=Path, help="compare with the hashes in this JSON file")
    options = parser.parse_args(arguments)
    expected = json.loads(options.against.read_text("utf-8")) if options.against else {}
    hashes: dict[str, dict[str, str]] = {}
    differing = 0
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        os.environ["ADVNETS_CACHE"] = str(root / "cache")
        make_images(root / "images")
        for case in CASES:
            if options.only and case.name not in options.only:
                continue
            start = time.monotonic()
            try:
                hashes[case.name] = hashes_of(case, root / "case", root / "images")
            except RuntimeError as error:
                hashes[case.name] = {"failed": str(error)}
            shutil.rmtree(root / "case", ignore_errors=True)
            same = not expected or expected.get(case.name) == hashes[case.name]
            differing += not same
            text = ", ".join(f"{key} {value}" for key, value in hashes[case.name].items())
            mark = "" if same else f"  DIFFERS from {expected.get(case.name)}"
            print(f"{case.name}: {text} ({time.monotonic() - start:.0f} s){mark}", flush=True)
            if options.out:
                options.out.write_text(json.dumps(hashes, indent=1) + "\n", "utf-8")
    print(f"{len(hashes)} cases, {differing} differ" if expected else f"{len(hashes)} cases")
    return 1 if differing or any("failed" in some for some in hashes.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
