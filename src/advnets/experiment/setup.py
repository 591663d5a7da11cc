"""Set up a stage: build its train state and resolve its config."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from advnets import config
from advnets._version import __version__
from advnets.config.serialize import to_json
from advnets.data.dataset import Split
from advnets.data.loader import (
    BatchTransform,
    SemiSupervisedLoader,
    all_training_images,
    labeled_subset,
    make_loader,
)
from advnets.data.prepared import DatasetInfo, PreparedData, mean_image
from advnets.data.spec import resolve_data_paths
from advnets.distributed import convert_batch_norm, rank, world_size
from advnets.errors import RunError, UsageError
from advnets.experiment.players import build_game, build_players
from advnets.experiment.stored_run import (
    StoredRun,
    parameter_count,
    players_of_run,
    run_and_step,
)
from advnets.experiment.trained_model import TrainedModel, load
from advnets.extractors.discriminator import tensors_digest
from advnets.games.custom import CheckedGame
from advnets.rng import RNG
from advnets.run_records import versions
from advnets.training import devices
from advnets.training.compile import capture_step, compile_step, record_cuda_graph
from advnets.training.optimizers import check_learning_rate, make_optimizer
from advnets.training.step import BatchStream, GradientFn, TrainState, compute_gradients


def make_train_state(
    run_config: config.Config,
    data: PreparedData,
    stage_index: int,
    device: torch.device,
    *,
    trust_code: bool = False,
) -> TrainState:
    """Build the train state of a stage: players, optimizers, loader and random numbers.

    Raises:
        RunError: the file of a custom game is not trusted or has changed.
    """
    stage = run_config.stages[stage_index]
    info = data.info
    nets = build_players(run_config, stage_index, info.shape, mean_image(data), len(info.classes))
    players = {
        name: devices.to_device(convert_batch_norm(net), device) for name, net in nets.items()
    }
    game = build_game(stage.game, trust_code=trust_code)
    models = [
        m for m in (stage.generator, stage.discriminator) if isinstance(m, config.CustomModel)
    ]
    if models and not isinstance(game, CheckedGame):
        game = CheckedGame(game, models[0].source)
    return TrainState(
        game=game,
        players=players,
        optimizers={
            name: make_optimizer(optimizer_config(stage, name), net.parameters())
            for name, net in players.items()
        },
        loader=stage_loader(run_config, data, stage_index, device),
        rng=RNG(run_config.seed, purpose=f"stage{stage_index}", rank=rank(), device=device),
        world_size=world_size(),
        schedule_steps=stage.schedule_steps or 0,
        precision=devices.PRECISIONS[run_config.runtime.precision],
        compute_gradients=gradient_function(run_config.runtime, stage),
    )


def optimizer_config(stage: config.Stage, player: str) -> config.OptimizerConfig:
    """Return the optimizer config of a player: D has its own, all others have the generator's."""
    d = player == "discriminator"
    return stage.discriminator_optimizer if d else stage.generator_optimizer


def stage_loader(
    run: config.Config, data: PreparedData, stage_index: int, device: torch.device
) -> BatchStream:
    """Return the loader of the batches of a stage."""
    game, dataset = run.stages[stage_index].game, data.dataset
    transform = BatchTransform(
        data.normalizer,
        run.batch_size,
        run.seed,
        device,
        hflip=run.data.hflip,
        rank=rank(),
        world_size=world_size(),
    )
    if not isinstance(game, config.SemiSupervisedGame):
        return make_loader(dataset.train, transform)
    all_images = all_training_images(dataset)
    labeled = labeled_subset(cast(Split, dataset.train), game.labels, game.label_seed)
    labeled_batch = game.labeled_batch or transform.batch_size
    labeled_transform = replace(transform, batch_size=labeled_batch)
    return SemiSupervisedLoader(all_images, labeled, transform, labeled_transform)


def gradient_function(runtime: config.Runtime, stage: config.Stage) -> GradientFn:
    """Return the function that computes the gradients: eager, compiled, or a CUDA graph.

    Raises:
        UsageError: both compile and cuda_graph are set, or the device, the game or a model does not
            support them.
    """
    if not (runtime.compile or runtime.cuda_graph):
        return compute_gradients
    if runtime.compile and runtime.cuda_graph:
        raise UsageError("compile and cuda_graph are both set; give one of them")
    game = stage.game
    for part in (game, stage.generator, stage.discriminator):
        if isinstance(part, config.CustomModel) or (part is game and not game.compilable):
            raise UsageError(
                f"compile or cuda_graph is set, but a {type(part).__name__} can only run eagerly; "
                "leave them out"
            )
    if isinstance(game, config.GANGame) and game.updates == "alternating" and game.reuse_fakes:
        raise UsageError(
            "compile and cuda_graph separate the phases of a step, and reuse_fakes shares images "
            "between them; turn reuse_fakes off, or leave compile and cuda_graph out"
        )
    if runtime.compile:
        return compile_step()
    if not runtime.device.startswith("cuda"):
        raise UsageError(f"cuda_graph is set on {runtime.device}; set device to cuda")
    return capture_step(record_cuda_graph)


def resolve_config(run: config.Config, info: DatasetInfo, runtime: config.Runtime) -> config.Config:
    """Return the config with its runtime resolved and the length of every stage in steps."""
    _check_division(run)
    stages = tuple(_resolve_steps(run, stage, info) for stage in run.stages)
    return replace(run, runtime=runtime, stages=stages)


def _check_division(run: config.Config) -> None:
    """Check that each batch can be divided equally over the processes.

    Raises:
        UsageError: it cannot; the message has the nearest sizes.
    """
    processes = world_size()
    sizes = [("batch_size", run.batch_size, 1)]
    for game in (stage.game for stage in run.stages):
        if isinstance(game, config.GANGame):
            sizes.append(("batch_size", run.batch_size, game.pac))
        if isinstance(game, config.SemiSupervisedGame):
            sizes.append(("labeled_batch", game.labeled_batch, 1))
            sizes.append(("generated_batch", game.generated_batch, 1))
    for name, size, pac in sizes:
        unit = processes * pac
        if processes > 1 and size % unit:
            packs = f" and packs of {pac}" if pac > 1 else ""
            below, above = size // unit * unit, (size // unit + 1) * unit
            nearest = f"{below} or {above}" if below else str(above)
            raise UsageError(
                f"{name} is {size}, which cannot be divided equally over {processes} processes"
                f"{packs}; set {name} to {nearest}, or start another number of processes"
            )


def _resolve_steps(run: config.Config, stage: config.Stage, info: DatasetInfo) -> config.Stage:
    """Return a stage with its length in steps; schedules keep the length that they started with."""
    steps = _epochs_in_steps(run, stage, info) if stage.steps is None else stage.steps
    schedule_steps = stage.schedule_steps or max(1, round(stage.schedule_fraction * steps))
    check_learning_rate("generator", stage.generator_optimizer, steps)
    if not isinstance(stage.discriminator, config.NoDiscriminator):
        k = stage.game.k if isinstance(stage.game, config.GANGame) else 1
        check_learning_rate("discriminator", stage.discriminator_optimizer, steps * k)
    return replace(stage, steps=steps, schedule_steps=schedule_steps)


def _epochs_in_steps(run: config.Config, stage: config.Stage, info: DatasetInfo) -> int:
    if info.train is None:
        raise UsageError(f"{info.name} is streamed and has no known length in epochs; give --steps")
    epochs = cast(int, stage.epochs)  # a stage has epochs or steps
    train = info.train
    if isinstance(stage.game, config.SemiSupervisedGame):
        train += info.unlabeled
    return max(1, round(epochs * train / (stage.game.batches_per_step * run.batch_size)))


def run_record(
    run: config.Config, info: DatasetInfo, nets: dict[str, nn.Module], command: str
) -> dict[str, Any]:
    """Return the content of config.json."""
    return {
        "advnets": __version__,
        "command": command,
        "config": to_json(run),
        "data": to_json(info),
        "parameters": {name: parameter_count(net) for name, net in nets.items()},
        "versions": versions(),
        **({"processes": world_size()} if world_size() > 1 else {}),
    }


def with_pretrained_generator(
    run_config: config.Config, *, trust_code: bool = False
) -> config.Config:
    """Return the config with the generator and normalization of the run that its game names.

    A game without a pretrained generator leaves the config as it is.

    Raises:
        UsageError: the game names no run, or one with a conditional or stacked generator.
    """
    stage = run_config.stage
    if not isinstance(stage.game, config.LatentRegressionGame):
        return run_config
    pretrained = _load_generator_run(stage.game, trust_code=trust_code).config
    if pretrained.stage.game.conditional or pretrained.stage.on_top_of_previous:
        raise UsageError(
            f"{stage.game.generator_run} has a class-conditional or a stacked generator; "
            "give a run with an unconditional one"
        )
    data = replace(run_config.data, normalize=pretrained.data.normalize)
    stage = replace(stage, generator=pretrained.stage.generator)
    return replace(run_config.with_stage(stage), data=data)


def with_absolute_paths(run_config: config.Config) -> config.Config:
    """Return the config with absolute paths of its data and of the runs that it names."""
    stage = run_config.stage
    game = stage.game
    if isinstance(game, config.LatentRegressionGame) and game.generator_run is not None:
        game = replace(game, generator_run=str(Path(game.generator_run).absolute()))
        run_config = run_config.with_stage(replace(stage, game=game))
    if stage.init_from is not None:
        stage = replace(run_config.stage, init_from=str(Path(stage.init_from).absolute()))
        run_config = run_config.with_stage(stage)
    return replace(run_config, data=resolve_data_paths(run_config.data))


def with_init_digest(run_config: config.Config, info: DatasetInfo) -> config.Config:
    """Return the config with the players that `init_from` initializes, and their digest.

    Raises:
        RunError: the other run cannot be read.
        UsageError: a player is missing in a run, or its weights have other shapes; or the other run
            was trained on images of another shape or normalization.
    """
    stage = run_config.stage
    if stage.init_from is None:
        return run_config
    source, weights = _stored_weights(stage.init_from)
    _check_same_images(stage.init_from, source, run_config.data, info)
    players = players_of_run(run_config, len(run_config.stages) - 1, info)
    names = stage.init_players or tuple(name for name in players if name in weights)
    stage = replace(stage, init_players=names, init_digest=None)
    digest = load_initial_weights(players, stage)
    return run_config.with_stage(replace(stage, init_digest=digest))


def _stored_weights(init_from: str) -> tuple[StoredRun, dict[str, dict[str, Tensor]]]:
    """Return a run and the weights of its players by name, those of the EMA for players with one.

    They are read without building the networks, which may be in a Python file.
    """
    path, step = Path(init_from), None
    if path.suffix == ".safetensors":
        path, step = run_and_step(path)
    stored = StoredRun.read(path)
    tensors = stored.checkpoint_of(step).checkpoint.tensors
    weights: dict[str, dict[str, Tensor]] = {}
    for kind in ("players", "ema"):
        found: dict[str, dict[str, Tensor]] = {}
        for key in sorted(tensors):
            prefix, _, rest = key.partition("/")
            player, _, name = rest.partition("/")
            if prefix == kind:
                found.setdefault(player, {})[name] = tensors[key]
        weights |= found
    return stored, weights


def _check_same_images(path: str, source: StoredRun, data: config.Data, info: DatasetInfo) -> None:
    """Refuse weights that were trained on images of another shape or normalization.

    Raises:
        UsageError: the shape or the normalization differs.
    """
    old, new = source.info.shape, info.shape
    other, kind = (
        "points" if option.normalize in ("none", "standard") else "images"
        for option in (source.config.data, data)
    )
    if other != kind:
        raise UsageError(
            f"init_from does not fit: the networks of {path} were trained on {other}, and those of "
            f"the new run are for {kind}; give a run on {kind}"
        )
    options = (
        ("channels" if kind == "images" else "dimensions", old[0], new[0]),
        ("size", f"{old[1]} x {old[2]}", f"{new[1]} x {new[2]}"),
        ("normalize", source.config.data.normalize, data.normalize),
    )
    for name, there, here in options:
        if there != here:
            raise UsageError(
                f"init_from does not fit: the networks of {path} were trained on {kind} with "
                f"{name} {there}, and those of the new run have {name} {here}; give data or "
                f"{name} that agree"
            )


def load_initial_weights(players: Mapping[str, nn.Module], stage: config.Stage) -> str:
    """Load the weights of `init_from` into the players of a stage; return their digest.

    Raises:
        RunError: the other run cannot be read, or has changed since this one started.
        UsageError: a player is missing in a run, or its weights have other names or shapes.
    """
    stored, digest = _stored_weights(cast(str, stage.init_from))[1], hashlib.blake2b(digest_size=16)
    for name in stage.init_players:
        # Check that both runs have the player.
        if name not in players:
            near = next((p for p in players if p.startswith(name.lower()[:1])), "")
            raise UsageError(
                f"init_players has {name!r}, but the players of the game are "
                f"{' and '.join(players)}; " + (f"did you mean {near}?" if near else "leave it out")
            )
        if name not in stored:
            raise UsageError(
                f"init_players has {name}, but {stage.init_from} has the players "
                f"{' and '.join(stored)}; leave it out"
            )

        # Check that its weights have the same names and shapes in both, and load them.
        weights, current = stored[name], players[name].state_dict()
        for key in {**current, **weights}:
            there, here = (
                f"the shape {tuple(tensors[key].shape)}" if key in tensors else "no such weight"
                for tensors in (weights, current)
            )
            if there != here:
                raise UsageError(
                    f"init_from does not fit: {key} of the {name} has {there} in "
                    f"{stage.init_from} and {here} in the new run; use networks of the same "
                    "sizes, or init_players without that player"
                )
        players[name].load_state_dict(weights)
        digest.update(tensors_digest(weights).encode())

    # Check that the weights are still those of the start.
    if stage.init_digest not in (None, digest.hexdigest()):
        raise RunError(
            f"the weights of {stage.init_from} have changed since this run was started from them; "
            "restore them, or start a new run"
        )
    return digest.hexdigest()


def pretrained_generator(stage: config.Stage) -> nn.Module | None:
    """Return the trained generator that a stage uses; None if it trains its own."""
    game = stage.game
    if not isinstance(game, config.LatentRegressionGame):
        return None
    return _load_generator_run(game).generator


def _load_generator_run(
    game: config.LatentRegressionGame, *, trust_code: bool = False
) -> TrainedModel:
    if game.generator_run is None:
        raise UsageError(
            "LatentRegressionGame needs a trained generator, and generator_run is not set; "
            "set generator_run to the directory of its run"
        )
    return load(game.generator_run, trust_code=trust_code)
