import json
from pathlib import Path
from typing import Any

import pytest
import torch

from advnets.plots.image_grid import grid, save_grid


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
            "num_skipped_files": 0,
            "digest": "0123456789abcdef" * 4,
            "white_level": 16,
            "normalization": {"white_level": 16.0},
        },
        "parameters": {"generator": 90688, "discriminator": 124289},
        "versions": {"python": "3.11.7", "torch": "2.13.0", "numpy": "2.4.6", "machine": "x86_64"},
    }


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
def started_run(tmp_path: Path, events: list[dict[str, Any]]) -> Path:
    """Return a run that has just started: a config and its first event."""
    run = tmp_path / "runs" / "digits"
    run.mkdir(parents=True)
    (run / "config.json").write_text(json.dumps(config_record()))
    (run / "events.jsonl").write_text(json.dumps(events[0]) + "\n")
    return run


@pytest.fixture
def finished(started_run: Path, events: list[dict[str, Any]]) -> Path:
    """Return a run with samples, events, scores and an end."""
    lines = "".join(json.dumps(event) + "\n" for event in events)
    (started_run / "events.jsonl").write_text(lines)
    (started_run / "scores.json").write_text(json.dumps(score_list()))
    for step in (2000, 12000):
        generator = torch.Generator().manual_seed(step)
        images = torch.rand(100, 1, 8, 8, generator=generator)
        save_grid(grid(images), started_run / "samples" / f"step-{step:08d}.png")
    return started_run
