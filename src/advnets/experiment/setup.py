"""From a config to a table that is laid: data, players, optimizers, batches and noise."""

from __future__ import annotations

import logging
import platform
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from advnets import config
from advnets._version import __version__
from advnets.config.serialize import to_json
from advnets.data import names
from advnets.data.batch_transform import BatchTransform
from advnets.data.dataset import Part, Splits, blocks, length
from advnets.data.image_folder.unsupported_files import by_kind
from advnets.data.loader import batches_of
from advnets.data.normalization import Scaling, fit_scaling, scaling_from_facts
from advnets.data.registry import open_source
from advnets.data.semi_supervised_loader import PartlyLabelled, all_training, few_labelled
from advnets.errors import DataError, RunError, UsageError
from advnets.experiment import build_players
from advnets.experiment.class_shares import ClassShares, Kind, class_index
from advnets.models.layers import Shape
from advnets.rng import RNG
from advnets.training import devices
from advnets.training.compile import captured, compiled, on_cuda
from advnets.training.memory import explained
from advnets.training.optimizers import mover
from advnets.training.schedules import check_learning_rate
from advnets.training.step import BatchStream, Table, Taking, take_turn


@dataclass(frozen=True)
class DatasetInfo:
    """What a run found out about its data: enough to rebuild the nets without it."""

    name: str
    shape: Shape
    train: int | None
    valid: int
    test: int
    broken: int
    digest: str
    white: int
    scaling: dict[str, float]
    classes: tuple[str, ...] = ()
    """Names of the labels, in their order; none where there are no labels."""
    class_counts: tuple[int, ...] = ()
    """Training images of each class."""
    unlabeled: int = 0
    unused: dict[str, int] = field(default_factory=dict[str, int])
    """Files that are no images advnets reads, counted by kind."""

    @classmethod
    def of(cls, splits: Splits, scaling: Scaling) -> DatasetInfo:
        """The facts of opened data."""
        sizes = [0 if split is None else len(split) for split in (splits.valid, splits.test)]
        images, others = by_kind(splits.unused)
        return cls(
            name=splits.name,
            shape=splits.shape,
            train=length(splits.train),
            valid=sizes[0],
            test=sizes[1],
            broken=len(splits.broken),
            digest=splits.digest(),
            white=splits.train.white,
            scaling=scaling.facts(),
            classes=splits.labelled(),
            class_counts=splits.class_counts(),
            unlabeled=0 if splits.unlabeled is None else len(splits.unlabeled),
            unused={**images, **others},
        )

    def class_index(self, name: str) -> int:
        """Return the index of the class of this name, in `classes`.

        Raises:
            UsageError: the data has no labels.
            UnknownNameError: it has no such class.
        """
        if not self.classes:
            raise UsageError(
                f"class {name} was asked for, but {self.name} has no labels; give labelled "
                "pictures, such as a folder with a folder for each class"
            )
        return class_index(name, self.classes)

    def class_shares(self, kind: Kind = "data") -> ClassShares:
        """Return the probabilities with which classes of conditional samples are drawn.

        Raises:
            UsageError: the run did not record how many training images each class has.
        """
        if self.classes and not self.class_counts:
            if kind == "equal":
                return ClassShares.of(kind, [1] * len(self.classes))
            raise UsageError(
                f"this run has not recorded how many images of {self.name} each class has; ask for "
                "equal class shares, or train it again"
            )
        return ClassShares.of(kind, self.class_counts)


@dataclass(frozen=True)
class PreparedData:
    """Pictures, the way into the nets' range and back, and the facts to remember."""

    splits: Splits
    scaling: Scaling
    facts: DatasetInfo


def open_data(spec: config.Data) -> PreparedData:
    """Open the data a config names.

    Raises:
        DataError: it is absent, broken, or wrong as a whole.
    """
    splits = open_source(spec)
    scaling = fit_scaling(spec.scaling, splits.train)
    return PreparedData(splits, scaling, DatasetInfo.of(splits, scaling))


def open_new_data(spec: config.Data) -> PreparedData:
    """Open the data that a run is to begin on; say where a name is taken in place of a path.

    Raises:
        DataError, UsageError: as for `open_data`.
    """
    if said := names.shadowed(spec.source) if names.is_named(spec.source) else None:
        logging.getLogger("advnets").warning("%s", said)
    return open_data(spec)


def open_data_of_run(path: Path, spec: config.Data, facts: DatasetInfo) -> PreparedData:
    """Open the data that the run in `path` was trained on, where `spec` says that it lies now.

    It goes by the name that it had then, wherever it lies.

    Raises:
        DataError: it is not there, or cannot be opened.
        RunError: it is other data, by its digest.
    """
    if not names.is_source(spec.source):
        raise DataError(
            f"the data of {path}, {spec.source}, is not there any more; give the path where it "
            "lies now with --data PATH"
        )
    try:
        opened = open_data(spec)
    except DataError as error:
        raise DataError(f"the data of {path} cannot be opened: {error}") from None
    if opened.facts.digest != facts.digest:
        raise RunError(
            f"the data of {path} has changed since the run began ({facts.name}: digest "
            f"{facts.digest[:12]} then, {opened.facts.digest[:12]} now, in {spec.source}); bring "
            "the old data back, or give the path where it lies now with --data PATH"
        )
    facts = replace(opened.facts, name=facts.name)
    return replace(opened, splits=replace(opened.splits, name=facts.name), facts=facts)


def rebuilt_scaling(spec: config.Data, facts: DatasetInfo) -> Scaling:
    """The scaling of a run, without its data."""
    return scaling_from_facts(spec.scaling, facts.scaling)


def mean_picture(opened: PreparedData) -> Float[Tensor, "channels height width"]:
    """The mean training picture in the nets' range."""
    total, count = torch.zeros(opened.facts.shape, dtype=torch.float64), 0
    for block in blocks(opened.splits.train):
        total += opened.scaling.to_model(torch.from_numpy(block)).sum(0, dtype=torch.float64)
        count += len(block)
    return (total / count).float()


def rebuilt_players(run: config.Config, stage: int, facts: DatasetInfo) -> dict[str, nn.Module]:
    """The players of a stage without the data: all but what the mean picture puts into G."""
    return build_players.players(
        run, stage, facts.shape, torch.zeros(facts.shape), len(facts.classes)
    )


def players_without_memory(
    run: config.Config, stage: int, facts: DatasetInfo
) -> dict[str, nn.Module]:
    """The players of a stage as shapes alone, on torch's device "meta".

    Raises:
        OutOfMemoryError: a tensor would have more numbers than can be counted.
    """
    with explained("make the nets smaller"), torch.device("meta"):
        return rebuilt_players(run, stage, facts)


def table(
    run_config: config.Config,
    data: PreparedData,
    number: int,
    device: torch.device,
    *,
    trust_code: bool = False,
) -> Table:
    """Lay the table for one stage: players, optimizers, batches and noise.

    Raises:
        RunError: its game is a file's, whose code is not trusted or has changed.
    """
    stage = run_config.stages[number]
    facts = data.facts
    nets = build_players.players(
        run_config, number, facts.shape, mean_picture(data), len(facts.classes)
    )
    seated = {name: devices.seated(net, device) for name, net in nets.items()}
    seed = run_config.seed
    feed = BatchTransform(
        data.scaling, run_config.data.batch_size, seed, device, flip=run_config.data.flip
    )
    return Table(
        game=build_players.game_of(stage.game, trust_code=trust_code),
        players=seated,
        movers={
            name: mover(optimizer_of(stage, name), net.parameters()) for name, net in seated.items()
        },
        batches=_batches(stage.game, data.splits, feed),
        noise=RNG(seed, purpose=f"stage{number}", device=device, over=stage.burn_in_steps or 0),
        precision=devices.PRECISIONS[run_config.runtime.precision],
        take_turn=taking(run_config.runtime, stage.game),
    )


def optimizer_of(stage: config.Stage, player: str) -> config.OptimizerConfig:
    """D's own for D; all others are on G's side."""
    d = player == "discriminator"
    return stage.discriminator_optimizer if d else stage.generator_optimizer


def _batches(game: config.GameConfig, splits: Splits, feed: BatchTransform) -> BatchStream:
    if not isinstance(game, config.SemiSupervisedGame):
        return batches_of(splits.train, feed)
    every = all_training(splits)
    few = few_labelled(cast(Part, splits.train), game.labels, game.label_seed)
    labelled = replace(feed, batch_size=game.labelled_batch or feed.batch_size)
    return PartlyLabelled(every, few, feed, labelled)


def taking(chosen: config.Runtime, game: config.GameConfig) -> Taking:
    """The way to take turns that a config asks for.

    Raises:
        UsageError: two ways at once, one that the device lacks, or one that the game does not bear.
    """
    if not (chosen.compile or chosen.graph):
        return take_turn
    if chosen.compile and chosen.graph:
        raise UsageError("compile and graph were both asked for; give one of them")
    if not game.prepared:
        raise UsageError(
            f"compile or graph was asked for a {type(game).__name__}, which is played as it is "
            "written; leave them out"
        )
    if isinstance(game, config.Game) and (game.updates, game.fakes) == ("alternating", "shared"):
        raise UsageError(
            "fakes are shared between steps, which compile and graph take apart; say "
            "--game.fakes fresh, or leave them out"
        )
    if chosen.compile:
        return compiled()
    if not chosen.device.startswith("cuda"):
        raise UsageError(f"graph was asked for on {chosen.device}; it needs --device cuda")
    return captured(on_cuda)


def resolved(run: config.Config, facts: DatasetInfo, chosen: config.Runtime) -> config.Config:
    """The config with its runtime chosen and every stage's steps counted out."""
    stages = tuple(_counted(run, stage, facts) for stage in run.stages)
    return replace(run, runtime=chosen, stages=stages)


def _counted(run: config.Config, stage: config.Stage, facts: DatasetInfo) -> config.Stage:
    """A stage in rounds: what was counted as a run began stays, however long it is made."""
    steps = _steps(run, stage, facts) if stage.steps is None else stage.steps
    burn_in = stage.burn_in_steps or max(1, round(stage.burn_in * steps))
    check_learning_rate("generator", stage.generator_optimizer, steps)
    if not isinstance(stage.discriminator, config.NoDiscriminator):
        check_learning_rate("discriminator", stage.discriminator_optimizer, steps * _k(stage.game))
    return replace(stage, steps=steps, burn_in_steps=burn_in)


def _k(game: config.GameConfig) -> int:
    """Return the most updates that D makes in a round."""
    return game.k if isinstance(game, config.Game) else 1


def _steps(run: config.Config, stage: config.Stage, facts: DatasetInfo) -> int:
    if facts.train is None:
        raise UsageError(
            f"{facts.name} is a stream of unknown length, so epochs cannot be counted; say --steps"
        )
    epochs = cast(int, stage.epochs)  # a stage without either is refused
    train = facts.train
    if isinstance(stage.game, config.SemiSupervisedGame):
        train += facts.unlabeled
    return max(1, round(epochs * train / (stage.game.batches * run.data.batch_size)))


def record(
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


def versions() -> dict[str, str]:
    """Of everything that a number may depend on."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "machine": platform.machine(),
    }


def parameter_count(net: nn.Module) -> int:
    """Numbers that training moves."""
    return sum(parameter.numel() for parameter in net.parameters())
