"""The rows of the bench: what is measured, against whom, and what counts as reached."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from advnets import config, presets
from advnets.bench import baselines, contenders
from advnets.bench.flops import forward, of_round
from advnets.metrics.parzen import PAPER_GRID


@dataclass(frozen=True)
class Goal:
    """What a row is to reach: a ratio to a rival, a share of a peak, or a time."""

    text: str
    ratio: float | None = None
    rival: str = ""
    share: float | None = None
    precision: str = "bfloat16"
    seconds: float | None = None


@dataclass(frozen=True)
class BenchCase:
    """One line of the table.

    `flops` gives the useful operations for each unit of work. A row with a `command` is of whole
    processes: the command line of ours, after `advnets`, and the work it does.
    """

    name: str
    about: str
    goals: tuple[Goal, ...]
    rivals: tuple[str, ...] = ()
    flops: Callable[[], float] | None = None
    command: tuple[str, ...] = ()
    until: str = ""
    """Text on whose appearance a whole process has done what is timed; "": its end."""
    needs: str = ""
    """The rival's library, which comes with the extra dev."""


def _round(preset: str) -> float:
    """Of one round of a preset, for each image."""
    peer = baselines.BASELINES[preset]()
    g = forward(peer.generator, torch.zeros(1, *peer.latent_shape))
    d = forward(peer.discriminator, torch.zeros(1, *baselines.SHAPES[preset]))
    game = presets.get_preset(preset).stage.game
    assert isinstance(game, config.GANGame)
    return of_round(game, g, d)


def _sample() -> float:
    peer = baselines.dcgan()
    return forward(peer.generator, torch.zeros(1, *peer.latent_shape)).total


def _parzen() -> float:
    """A product with each center, and for each σ a scaling, an exponential and a sum."""
    return contenders.DRAWN * (2.0 * 784 + 3 * len(PAPER_GRID))


CASES: dict[str, BenchCase] = {
    row.name: row
    for row in (
        BenchCase(
            "start",
            "first step of `advnets train digits`, from typing",
            (Goal("at most 5 s", seconds=5.0),),
            command=("train", "digits", "--steps", "1", "--sample-every", "0"),
            until="step 1/1",
        ),
        BenchCase(
            "mlp-epoch",
            "the tutorials' fully connected pair, batch 64: a process that trains one MNIST epoch",
            (Goal("5 x tutorial", ratio=5.0, rival="tutorial"),),
            ("tutorial",),
            lambda: _round("mlp"),
            command=("train", "mlp", "--epochs", "1"),
        ),
        BenchCase(
            "mlp",
            "the same pair, steps alone",
            (),
            ("tutorial", "resident"),
            lambda: _round("mlp"),
        ),
        BenchCase(
            "paper-mnist",
            "the 2014 MNIST pair, batch 100, its own SGD",
            (
                Goal("2.5 x resident", ratio=2.5, rival="resident"),
                Goal("35 % of the bfloat16 peak", share=0.35),
            ),
            ("resident", "tutorial"),
            lambda: _round("paper-mnist"),
        ),
        BenchCase(
            "dcgan-tutorial",
            "DCGAN 64x64, batch 64, nets as in PyTorch's own example",
            (Goal("3 x tutorial", ratio=3.0, rival="tutorial"),),
            ("tutorial", "resident"),
            lambda: _round("dcgan-tutorial"),
        ),
        BenchCase(
            "sampling",
            "10,000 images from DCGAN 64x64",
            (Goal("3 x plain", ratio=3.0, rival="plain"),),
            ("plain",),
            _sample,
        ),
        BenchCase(
            "parzen",
            "Parzen window, 10,000 x 10,000 x 784, ten σ",
            (Goal("50 % of the float32 peak", share=0.5, precision="float32"),),
            flops=_parzen,
        ),
        BenchCase(
            "prdc",
            "precision, recall, density, coverage: 10,000 x 10,000 features of 1,000 numbers",
            (Goal("5 x prdc", ratio=5.0, rival="prdc"),),
            ("prdc",),
            needs="prdc",
        ),
        BenchCase(
            "frechet",
            "Fréchet distance: 10,000 x 10,000 features of 2,048 numbers",
            (Goal("3 x torchmetrics", ratio=3.0, rival="torchmetrics"),),
            ("torchmetrics",),
            needs="torchmetrics",
        ),
    )
}
