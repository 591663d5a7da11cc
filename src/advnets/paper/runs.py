"""Trained runs that several parts look at."""

from __future__ import annotations

from dataclasses import replace

from advnets import config, presets
from advnets.experiment.trained import Trained
from advnets.paper.part import Setting

QUICK_EPOCHS = 200
"""Of the preset's 400: half a minute on one core."""


def scored_run(setting: Setting) -> Trained:
    """The run whose samples stand for G's: of the digits in quick scale, of MNIST in full.

    Raises:
        StoppedError: it was asked to stop on the way.
        DataError: MNIST is absent.
    """
    name, run = ("mnist-0", mnist(seed=0)) if setting.full else ("digits-quick", digits())
    return setting.trained(name, replace(run, data=replace(run.data, directory=setting.data_dir)))


def digits() -> config.Config:
    """The digits preset, stopped half-way."""
    run = presets.named("digits")
    return run.with_stage(replace(run.stage, epochs=QUICK_EPOCHS))


def mnist(seed: int) -> config.Config:
    """The 2014 experiment on MNIST, longer, averaged, and scored on the way."""
    run = presets.named("paper-mnist")
    stage = replace(run.stage, epochs=300, average_half_life=150_000)
    return replace(run.with_stage(stage), ticks=replace(run.ticks, evaluate=5000), seed=seed)
