from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from advnets.plots.image_grid import grid, save_grid

Events = list[dict[str, Any]]


def config_record() -> dict[str, Any]:
    adam = {"kind": "Adam", "lr": 0.0005, "beta1": 0.5, "beta2": 0.999}
    return {
        "format": 2,
        "advnets": "0.1.0",
        "command": "advnets train digits --out runs/digits",
        "config": {
            "preset": "digits",
            "data": {
                "source": "digits",
                "directory": None,
                "size": 32,
                "channels": 3,
                "normalize": "unit",
                "batch_size": 100,
            },
            "stages": [
                {
                    "generator": {
                        "kind": "MLPGenerator",
                        "latent_dim": 32,
                        "prior": "uniform",
                        "hidden_sizes": [256, 256],
                        "activations": ["relu", "relu"],
                        "output": "sigmoid",
                        "output_sparse_init": None,
                        "batch_norm": False,
                        "dropout": [],
                    },
                    "discriminator": {
                        "kind": "MaxoutDiscriminator",
                        "hidden_sizes": [128, 128],
                        "pieces": 5,
                        "dropout_input": 0.2,
                    },
                    "game": {"objective": "non-saturating", "k": 1, "updates": "alternating"},
                    "generator_optimizer": adam,
                    "discriminator_optimizer": adam,
                    "epochs": 1000,
                    "steps": 12000,
                    "ema_half_life": 30000,
                    "on_top_of_previous": False,
                }
            ],
            "intervals": {
                "log_every": 500,
                "sample_every": 2000,
                "checkpoint_every": 2000,
                "eval_every": 2000,
            },
            "runtime": {"device": "cpu", "precision": "float32", "threads": 2},
            "seed": 0,
        },
        "data": {
            "name": "digits",
            "shape": [1, 8, 8],
            "train": 1197,
            "valid": 300,
            "test": 300,
            "skipped": 0,
            "digest": "0123456789abcdef" * 4,
            "white_level": 16,
            "normalization": {"white_level": 16.0},
        },
        "parameters": {"generator": 90688, "discriminator": 124289},
        "versions": {"python": "3.11.7", "torch": "2.13.0", "numpy": "2.4.6", "machine": "x86_64"},
    }


def event_list() -> Events:
    """What a training of 12,000 steps writes: D begins ahead, G catches up."""
    events: Events = [
        {"kind": "start", "time": 1.75e9, "step": 0, "steps": 12000, "device": "cpu"},
    ]
    for step in range(500, 12001, 500):
        lead = 0.45 * math.exp(-step / 4000) + 0.01 * math.sin(step)
        real, fake = 0.5 + lead, 0.5 - lead
        tick = {"d_real": real, "d_fake": fake, "value": math.log(real) + math.log(1 - fake)}
        time = {"seconds": 12.3, "images_per_second": 4100.0}
        epoch = step * 100 / 1197
        events.append({"kind": "log", "step": step, "epoch": epoch} | time | tick)
        if step % 2000 == 0:
            score = {"mean": 20 - 40 * math.exp(-step / 3000), "standard_error": 0.9, "sigma": 0.2}
            kind = {"kind": "evaluate", "metric": "parzen", "weights": "last"}
            events.append(kind | {"step": step, "epoch": epoch} | score)
    events.append({"kind": "end", "step": 12000, "reason": "done"})
    return events


def score_list() -> list[dict[str, Any]]:
    common = {"metric": "parzen", "split": "test", "seed": 0, "step": 12000, "sigma_on_edge": False}
    counts = {"n_samples": 10000, "n_valid": 300, "n_test": 300}
    rows = [
        ("generator", "ema", "paper", 0.2154, 19.25, 0.91),
        ("real training images", None, "paper", 0.1668, 23.5, 1.02),
        ("generator", "ema", "fine", 0.2, 25.75, 0.95),
        ("real training images", None, "fine", 0.18, 24.25, 0.99),
    ]
    keys = ("samples", "weights", "grid", "sigma", "mean", "standard_error")
    return [common | counts | dict(zip(keys, row, strict=True)) for row in rows]


@pytest.fixture
def events() -> Events:
    return event_list()


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """A run that has only begun: a config and its first event."""
    run = tmp_path / "runs" / "digits"
    run.mkdir(parents=True)
    (run / "config.json").write_text(json.dumps(config_record()))
    (run / "events.jsonl").write_text(json.dumps(event_list()[0]) + "\n")
    return run


@pytest.fixture
def finished(begun: Path) -> Path:
    """A run with samples, events, scores and an end."""
    lines = "".join(json.dumps(event) + "\n" for event in event_list())
    (begun / "events.jsonl").write_text(lines)
    (begun / "scores.json").write_text(json.dumps(score_list()))
    for step in (2000, 12000):
        generator = torch.Generator().manual_seed(step)
        images = torch.rand(100, 1, 8, 8, generator=generator)
        save_grid(grid(images), begun / "samples" / f"step-{step:08d}.png")
    return begun


class _Absent:
    """A finder that finds matplotlib nowhere."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] == "matplotlib":
            raise ModuleNotFoundError(f"No module named {name!r}", name="matplotlib")


@pytest.fixture
def without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python that has no matplotlib."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [_Absent(), *sys.meta_path])
