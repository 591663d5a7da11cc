"""The same global batch on any number of processes gives the same training."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from advnets.presets import PRESETS

WORKER = Path(__file__).parent / "worker.py"
TOLERANCE = 1e-9
"""The largest difference of a number of the final state in float64."""

DIGITS = {"data": "digits", "size": 8, "channels": 1}
SMALL = {"generator.base_channels": 4, "discriminator.base_channels": 4}
CASES: dict[str, tuple[str, dict, int]] = {
    "MLP with dropout": ("digits", {}, 200),
    "simultaneous": ("digits", {"game.updates": "simultaneous"}, 200),
    "reused fakes": ("digits", {"game.reuse_fakes": True}, 200),
    "several steps of D": ("digits", {"game.k": 2}, 200),
    "R1 and R2": ("digits", {"game.r1": 0.5, "game.r2": 0.5, "game.relativistic": True}, 200),
    "WGAN-GP": ("digits", {"game.objective": "wasserstein", "game.gp_weight": 10.0}, 200),
    "packs": ("digits", {"batch_size": 48, "game.pac": 2}, 200),
    "augmentation": (
        "digits",
        {
            "game.augment_prob": 0.5,
            "game.augmentations": (
                *("flip", "translate", "cutout", "erase", "color", "affine", "elastic"),
            ),
        },
        200,
    ),
    "noise in layers": (
        "digits",
        {"generator.dropout": (0.1, 0.1, 0.1), "generator.noise": (0.1, 0.1, 0.1)},
        200,
    ),
    "learned mixture as prior": (
        "digits",
        {"generator.prior": "learned-mixture", "generator.components": 4},
        200,
    ),
    "synchronized batch normalization": ("dcgan", {**DIGITS, **SMALL}, 200),
    "batch normalization under R1": (
        "dcgan",
        {**DIGITS, **SMALL, "game.r1": 1.0, "game.updates": "simultaneous"},
        200,
    ),
    "flips": ("dcgan", {**DIGITS, **SMALL, "hflip": True}, 50),
    "conditional": ("conditional-mnist", DIGITS, 200),
    "inpainting": ("inpainting-mnist", DIGITS, 200),
    "inference": ("inference-mnist", DIGITS, 200),
    "semi-supervised": (
        "semi-supervised-mnist",
        {
            **DIGITS,
            "game.labels": 100,
            "game.labeled_batch": 12,
            "game.generated_batch": 36,
            "game.consistency": 0.1,
        },
        200,
    ),
    "variational autoencoder": ("vae-mnist", DIGITS, 200),
    # Chaotic: weights that one process changes by 1e-15 differ by 0.03 after 120 steps.
    "points": ("modern-ring", {}, 40),
}
"""Presets, their overrides and numbers of steps; the batch size is 24 where none is given."""
QUICK = ("synchronized batch normalization", "packs", "semi-supervised", "R1 and R2")


def trained(run_all, folder: Path, cases: dict, n: int, *flags: str) -> dict[str, torch.Tensor]:
    """Return the final tensors of cases that are trained in n processes."""
    given, out = folder / "cases.json", folder / f"{n}.safetensors"
    given.write_text(json.dumps(cases))
    run_all(n, WORKER, given, out, *flags, timeout=1200)
    return load_file(out)


def largest_differences(
    one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]
) -> dict[str, float]:
    """Return the largest difference of a number, for each case."""
    assert one.keys() == other.keys()
    differences: dict[str, float] = {}
    for key, tensor in one.items():
        case = key.partition(":")[0]
        difference = (tensor.double() - other[key].double()).abs()
        largest = float(difference.max()) if difference.numel() else 0.0
        differences[case] = max(differences.get(case, 0.0), largest)
    return differences


def with_batches(cases: dict, steps: int | None = None) -> dict:
    return {
        name: (preset, {"batch_size": 24, **overrides}, steps or n)
        for name, (preset, overrides, n) in cases.items()
    }


def test_two_processes_train_as_one(run_all, tmp_path):
    """With batch norm, packs, batches of several sizes, losses of means, and second order."""
    cases = with_batches({name: CASES[name] for name in QUICK}, steps=20)
    one, two = (trained(run_all, tmp_path, cases, n) for n in (1, 2))
    differences = largest_differences(one, two)
    assert max(differences.values()) < TOLERANCE, differences
    # The tensors are those of a training: it has moved the weights far beyond the tolerance.
    start = trained(run_all, tmp_path, with_batches(cases, steps=1), 1)
    assert min(largest_differences(start, one).values()) > 1e3 * TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 3, 4])
def test_every_game_is_the_same_on_several_processes(run_all, tmp_path, n):
    """After 200 steps in float64 nothing differs by more than 1e-9; float32 is printed."""
    cases = with_batches(CASES)
    differences = largest_differences(
        trained(run_all, tmp_path, cases, 1), trained(run_all, tmp_path, cases, n)
    )
    assert max(differences.values()) < TOLERANCE, differences
    if n == 2:
        single = largest_differences(
            trained(run_all, tmp_path, cases, 1, "--float32"),
            trained(run_all, tmp_path, cases, 2, "--float32"),
        )
        for name, difference in differences.items():
            print(f"{name}: float64 {difference:.1e}, float32 {single[name]:.1e}")


@pytest.mark.slow
@pytest.mark.skipif("ADVNETS_DATA" not in os.environ, reason="ADVNETS_DATA is not set")
def test_all_presets_train_on_two_processes(run_all, run_command, tmp_path):
    """Three steps of each preset, with its own nets and batches, on small images."""
    folder = tmp_path / "images"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(200):
        pixels = random.integers(0, 256, (48, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03}.png")
    pretrained = tmp_path / "pretrained"
    code, _, errors = run_command("train", "paper-mnist", "--steps", 1, "--out", pretrained)
    assert code == 0, errors
    cases = {}
    for name, preset in PRESETS.items():
        own: dict = {}
        if preset.config.data.source in ("", "tfd", "cifar10"):
            shape = (48, 1) if name == "paper-tfd" else (32, 3)
            own = {"data": str(folder), "size": shape[0], "channels": shape[1]}
        if name == "latent-regression-mnist":
            own["game.generator_run"] = str(pretrained)
        cases[name] = (name, own, 3)
    one, two = (trained(run_all, tmp_path, cases, n) for n in (1, 2))
    differences = largest_differences(one, two)
    assert differences.keys() == PRESETS.keys()
    assert max(differences.values()) < TOLERANCE, differences
