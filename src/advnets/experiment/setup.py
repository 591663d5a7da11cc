"""From a config to a table that is laid: data, players, optimizers, batches and noise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import torch
from torch import nn

from advnets import config
from advnets._version import __version__
from advnets.config.serialize import to_json
from advnets.data.dataset import Dataset, Split
from advnets.data.loader import BatchTransform, make_loader
from advnets.data.prepared import DatasetInfo, PreparedData, mean_image
from advnets.data.semi_supervised_loader import (
    SemiSupervisedLoader,
    all_training_images,
    labeled_subset,
)
from advnets.errors import UsageError
from advnets.experiment.players import build_game, build_players
from advnets.experiment.stored_run import parameter_count
from advnets.rng import RNG
from advnets.run_records import versions
from advnets.training import devices
from advnets.training.compile import captured, compiled, record_cuda_graph
from advnets.training.optimizers import check_learning_rate, make_optimizer
from advnets.training.step import BatchStream, StepFn, TrainState, compute_gradients


def make_train_state(
    run_config: config.Config,
    data: PreparedData,
    number: int,
    device: torch.device,
    *,
    trust_code: bool = False,
) -> TrainState:
    """Lay the table for one stage: players, optimizers, batches and noise.

    Raises:
        RunError: its game is a file's, whose code is not trusted or has changed.
    """
    stage = run_config.stages[number]
    facts = data.info
    nets = build_players(run_config, number, facts.shape, mean_image(data), len(facts.classes))
    seated = {name: devices.to_device(net, device) for name, net in nets.items()}
    seed = run_config.seed
    feed = BatchTransform(
        data.normalizer, run_config.data.batch_size, seed, device, hflip=run_config.data.hflip
    )
    return TrainState(
        game=build_game(stage.game, trust_code=trust_code),
        players=seated,
        optimizers={
            name: make_optimizer(optimizer_config(stage, name), net.parameters())
            for name, net in seated.items()
        },
        loader=_batches(stage.game, data.dataset, feed),
        rng=RNG(seed, purpose=f"stage{number}", device=device),
        schedule_steps=stage.schedule_steps or 0,
        precision=devices.PRECISIONS[run_config.runtime.precision],
        compute_gradients=step_function(run_config.runtime, stage.game),
    )


def optimizer_config(stage: config.Stage, player: str) -> config.OptimizerConfig:
    """D's own for D; all others are on G's side."""
    d = player == "discriminator"
    return stage.discriminator_optimizer if d else stage.generator_optimizer


def _batches(game: config.GameConfig, splits: Dataset, feed: BatchTransform) -> BatchStream:
    if not isinstance(game, config.SemiSupervisedGame):
        return make_loader(splits.train, feed)
    every = all_training_images(splits)
    few = labeled_subset(cast(Split, splits.train), game.labels, game.label_seed)
    labeled = replace(feed, batch_size=game.labeled_batch or feed.batch_size)
    return SemiSupervisedLoader(every, few, feed, labeled)


def step_function(chosen: config.Runtime, game: config.GameConfig) -> StepFn:
    """The way to take turns that a config asks for.

    Raises:
        UsageError: two ways at once, one that the device lacks, or one that the game does not bear.
    """
    if not (chosen.compile or chosen.cuda_graph):
        return compute_gradients
    if chosen.compile and chosen.cuda_graph:
        raise UsageError("compile and graph were both asked for; give one of them")
    if not game.compilable:
        raise UsageError(
            f"compile or graph was asked for a {type(game).__name__}, which is played as it is "
            "written; leave them out"
        )
    if isinstance(game, config.GANGame) and game.updates == "alternating" and game.reuse_fakes:
        raise UsageError(
            "compile and cuda_graph separate the phases of a step, and reuse_fakes shares images "
            "between them; give --game.no-reuse-fakes, or leave --compile and --cuda-graph out"
        )
    if chosen.compile:
        return compiled()
    if not chosen.device.startswith("cuda"):
        raise UsageError(f"graph was asked for on {chosen.device}; it needs --device cuda")
    return captured(record_cuda_graph)


def resolve_config(run: config.Config, facts: DatasetInfo, chosen: config.Runtime) -> config.Config:
    """The config with its runtime chosen and every stage's steps counted out."""
    stages = tuple(_counted(run, stage, facts) for stage in run.stages)
    return replace(run, runtime=chosen, stages=stages)


def _counted(run: config.Config, stage: config.Stage, facts: DatasetInfo) -> config.Stage:
    """A stage in rounds: what was counted as a run began stays, however long it is made."""
    steps = _steps(run, stage, facts) if stage.steps is None else stage.steps
    burn_in = stage.schedule_steps or max(1, round(stage.schedule_fraction * steps))
    check_learning_rate("generator", stage.generator_optimizer, steps)
    if not isinstance(stage.discriminator, config.NoDiscriminator):
        check_learning_rate("discriminator", stage.discriminator_optimizer, steps * _k(stage.game))
    return replace(stage, steps=steps, schedule_steps=burn_in)


def _k(game: config.GameConfig) -> int:
    """Return the most updates that D makes in a round."""
    return game.k if isinstance(game, config.GANGame) else 1


def _steps(run: config.Config, stage: config.Stage, facts: DatasetInfo) -> int:
    if facts.train is None:
        raise UsageError(
            f"{facts.name} is a stream of unknown length, so epochs cannot be counted; say --steps"
        )
    epochs = cast(int, stage.epochs)  # a stage without either is refused
    train = facts.train
    if isinstance(stage.game, config.SemiSupervisedGame):
        train += facts.unlabeled
    return max(1, round(epochs * train / (stage.game.batches_per_step * run.data.batch_size)))


def run_record(
    run: config.Config, facts: DatasetInfo, nets: dict[str, nn.Module], command: str
) -> dict[str, Any]:
    """What config.json says of a run."""
    return {
        "advnets": __version__,
        "command": command,
        "config": to_json(run),
        "data": to_json(facts),
        "parameters": {name: parameter_count(net) for name, net in nets.items()},
        "versions": versions(),
    }
