"""Generators of earlier runs, with which a latent regression game starts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import nn

from advnets import config
from advnets.data.spec import resolve_data_paths
from advnets.errors import UsageError
from advnets.experiment.trained_model import TrainedModel, load


def with_pretrained(run_config: config.Config) -> config.Config:
    """Return the config with the generator and normalization of the run that its game names.

    A game without a pretrained generator leaves the config as it is.

    Raises:
        UsageError: the game names no run, or one with a conditional or stacked generator.
    """
    stage = run_config.stage
    if not isinstance(stage.game, config.LatentRegressionGame):
        return run_config
    pretrained = _load_generator_run(stage.game).config
    if pretrained.stage.game.conditional or pretrained.stage.on_top_of_previous:
        raise UsageError(
            f"{stage.game.generator_run} has a class-conditional or a stacked generator; "
            "give a run with an unconditional one"
        )
    data = replace(run_config.data, normalize=pretrained.data.normalize)
    stage = replace(stage, generator=pretrained.stage.generator)
    return replace(run_config.with_stage(stage), data=data)


def with_absolute_paths(run_config: config.Config) -> config.Config:
    """Return the config with absolute paths of its data and of its generator's run."""
    stage = run_config.stage
    game = stage.game
    if isinstance(game, config.LatentRegressionGame) and game.generator_run is not None:
        game = replace(game, generator_run=str(Path(game.generator_run).absolute()))
        run_config = run_config.with_stage(replace(stage, game=game))
    return replace(run_config, data=resolve_data_paths(run_config.data))


def pretrained_generator(stage: config.Stage) -> nn.Module | None:
    """Return the trained generator that a stage uses; None if it trains its own."""
    game = stage.game
    if not isinstance(game, config.LatentRegressionGame):
        return None
    return _load_generator_run(game).generator


def _load_generator_run(game: config.LatentRegressionGame) -> TrainedModel:
    if game.generator_run is None:
        raise UsageError(
            "LatentRegressionGame needs a trained generator, and generator_run is not set; "
            "give --game.generator-run RUN"
        )
    return load(game.generator_run)
