"""A generator that another run has trained, taken up as it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import nn

from advnets import config
from advnets.data.spec import resolve_data_paths
from advnets.errors import UsageError
from advnets.experiment.trained_model import TrainedModel, load


def with_pretrained(run_config: config.Config) -> config.Config:
    """A config whose game begins with another run's generator, that generator's config in it.

    Raises:
        UsageError: no run is named, or one whose generator cannot be fixed alone.
    """
    stage = run_config.stage
    if not isinstance(stage.game, config.LatentRegressionGame):
        return run_config
    begun = _begun_with(stage.game).config
    if begun.stage.game.conditional or begun.stage.on_top_of_previous:
        raise UsageError(
            f"{stage.game.generator_run} has a generator that is told classes, or stands below "
            "another; give a run of one plain generator"
        )
    data = replace(run_config.data, normalize=begun.data.normalize)
    return replace(
        run_config.with_stage(replace(stage, generator=begun.stage.generator)), data=data
    )


def with_absolute_paths(run_config: config.Config) -> config.Config:
    """Return the config with paths that are found from any directory: of its data, and of a run."""
    stage = run_config.stage
    game = stage.game
    if isinstance(game, config.LatentRegressionGame) and game.generator_run is not None:
        game = replace(game, generator_run=str(Path(game.generator_run).absolute()))
        run_config = run_config.with_stage(replace(stage, game=game))
    return replace(run_config, data=resolve_data_paths(run_config.data))


def pretrained_generator(stage: config.Stage) -> nn.Module | None:
    """The generator that a stage begins with and leaves as it is; None where it trains its own."""
    game = stage.game
    return _begun_with(game).generator if isinstance(game, config.LatentRegressionGame) else None


def _begun_with(game: config.LatentRegressionGame) -> TrainedModel:
    if game.generator_run is None:
        raise UsageError(
            "the game learns to infer z of a generator that is trained already, and no run was "
            "named; say --game.generator-run RUN"
        )
    return load(game.generator_run)
