"""From config to objects: the one place that knows which class a config stands for."""

from __future__ import annotations

import hashlib
import platform
from dataclasses import dataclass, replace
from functools import singledispatch
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from advnets import config
from advnets._version import __version__
from advnets.codec import to_json
from advnets.data.batches import Feed, batches_of
from advnets.data.open import open_source
from advnets.data.scaling import Scaling, fit_scaling, scaling_from_facts
from advnets.data.source import Splits, blocks, length
from advnets.errors import UnknownNameError, UsageError
from advnets.games.conditional import ConditionalNets
from advnets.games.plain import AdversarialNets
from advnets.nets import dcgan
from advnets.nets.conv2014 import DeconvGenerator, MaxoutConvDiscriminator
from advnets.nets.layers import Shape
from advnets.nets.mlp import MaxoutDiscriminator, MLPDiscriminator, MLPGenerator, Stacked
from advnets.noise import Noise
from advnets.training import runtime
from advnets.training.algorithm import Table, Taking, take_turn
from advnets.training.movers import mover
from advnets.training.turns import captured, compiled, on_cuda


@dataclass(frozen=True)
class DataFacts:
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

    @classmethod
    def of(cls, splits: Splits, scaling: Scaling) -> DataFacts:
        """The facts of opened data."""
        sizes = [0 if split is None else len(split) for split in (splits.valid, splits.test)]
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
        )

    def class_number(self, label: str | int) -> int:
        """The number of a class, given its name or number.

        Raises:
            UsageError: the data has no labels.
            UnknownNameError: it has no such class.
        """
        if not self.classes:
            raise UsageError(
                f"class {label} was asked for, but {self.name} has no labels; give labelled "
                "pictures, such as a folder with a folder for each class"
            )
        if str(label) in self.classes:
            return self.classes.index(str(label))
        if str(label) in map(str, range(len(self.classes))):
            return int(label)
        raise UnknownNameError("class", str(label), self.classes)


@dataclass(frozen=True)
class OpenedData:
    """Pictures, the way into the nets' range and back, and the facts to remember."""

    splits: Splits
    scaling: Scaling
    facts: DataFacts


def open_data(spec: config.Data) -> OpenedData:
    """Open the data a config names.

    Raises:
        DataError: it is absent, broken, or wrong as a whole.
    """
    splits = open_source(spec)
    scaling = fit_scaling(spec.scaling, splits.train)
    return OpenedData(splits, scaling, DataFacts.of(splits, scaling))


def rebuilt_scaling(spec: config.Data, facts: DataFacts) -> Scaling:
    """The scaling of a run, without its data."""
    return scaling_from_facts(spec.scaling, facts.scaling)


def mean_picture(opened: OpenedData) -> Float[Tensor, "channels height width"]:
    """The mean training picture in the nets' range."""
    total, count = torch.zeros(opened.facts.shape, dtype=torch.float64), 0
    for block in blocks(opened.splits.train):
        total += opened.scaling.to_model(torch.from_numpy(block)).sum(0, dtype=torch.float64)
        count += len(block)
    return (total / count).float()


GAMES = {config.Game: AdversarialNets, config.ConditionalGame: ConditionalNets}


@singledispatch
def generator_net(
    spec: config.GeneratorConfig, shape: Shape, marginals: Tensor | None, classes: int = 0
) -> nn.Module:
    """The generator that a config describes; with classes, it is told which to make."""
    raise NotImplementedError(f"no generator for {type(spec).__name__}")


@generator_net.register
def _(
    spec: config.MLPGenerator, shape: Shape, marginals: Tensor | None, classes: int = 0
) -> nn.Module:
    refuse_classes(classes)
    return MLPGenerator(shape, spec, marginals)


@generator_net.register
def _(
    spec: config.DeconvGenerator,
    shape: Shape,
    marginals: Tensor | None,  # noqa: ARG001
    classes: int = 0,
) -> nn.Module:
    refuse_classes(classes)
    return DeconvGenerator(shape, spec)


@generator_net.register
def _(
    spec: config.DCGANGenerator,
    shape: Shape,
    marginals: Tensor | None,  # noqa: ARG001
    classes: int = 0,
) -> nn.Module:
    return dcgan.Generator(shape, **vars(spec), classes=classes)


@singledispatch
def discriminator_net(
    spec: config.DiscriminatorConfig, shape: Shape, classes: int = 0
) -> nn.Module:
    """The discriminator that a config describes; with classes, it is told which it looks at."""
    raise NotImplementedError(f"no discriminator for {type(spec).__name__}")


@discriminator_net.register
def _(spec: config.MaxoutDiscriminator, shape: Shape, classes: int = 0) -> nn.Module:
    refuse_classes(classes)
    return MaxoutDiscriminator(shape, spec)


@discriminator_net.register
def _(spec: config.MaxoutConvDiscriminator, shape: Shape, classes: int = 0) -> nn.Module:
    refuse_classes(classes)
    return MaxoutConvDiscriminator(shape, spec)


@discriminator_net.register
def _(spec: config.MLPDiscriminator, shape: Shape, classes: int = 0) -> nn.Module:
    refuse_classes(classes)
    return MLPDiscriminator(shape, spec)


@discriminator_net.register
def _(spec: config.DCGANDiscriminator, shape: Shape, classes: int = 0) -> nn.Module:
    return dcgan.Discriminator(shape, **vars(spec), classes=classes)


def refuse_classes(classes: int) -> None:
    """Say that a net cannot be told the class.

    Raises:
        UsageError: it was asked to.
    """
    if classes:
        raise UsageError(
            "a conditional game was asked for of fully connected or 2014 nets, which take no "
            "labels; give DCGAN nets, as preset dcgan-mnist-conditional has them"
        )


def players(
    run: config.Config, stage: int, shape: Shape, marginals: Tensor, classes: int = 0
) -> dict[str, nn.Module]:
    """The players of a stage, with the initial weights that the run's seed gives.

    `marginals` is the mean training picture in the nets' range, `classes` how many labels the data
    have.

    Raises:
        UsageError: a conditional game has no labels, or nets that take none.
    """
    conditional = run.stages[stage].game.conditional
    told = classes if conditional else 0
    if conditional and not classes:
        raise UsageError(
            f"a conditional game was asked for on {run.data.source}, whose pictures have no "
            "labels; give a labelled set, or a folder with a folder for each class"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(initial_seed(run.seed, stage))
        return {
            "generator": stage_generator(run.stages[: stage + 1], shape, marginals, told),
            "discriminator": discriminator_net(run.stages[stage].discriminator, shape, told),
        }


def rebuilt_players(run: config.Config, stage: int, facts: DataFacts) -> dict[str, nn.Module]:
    """The same without the data: all but what the mean picture, here none, has put into G."""
    return players(run, stage, facts.shape, torch.zeros(facts.shape), len(facts.classes))


def stage_generator(
    stages: tuple[config.Stage, ...], shape: Shape, marginals: Tensor, classes: int = 0
) -> nn.Module:
    """The generator of the last of these stages, upon those of the stages before it."""
    *before, stage = stages
    if not stage.below_previous:
        return generator_net(stage.generator, shape, marginals, classes)
    top = cast(MLPGenerator | Stacked, stage_generator(tuple(before), shape, marginals))
    bottom = generator_net(stage.generator, (top.latent_dim, 1, 1), None)
    return Stacked(cast(MLPGenerator, bottom), top)


def initial_seed(seed: int, stage: int) -> int:
    """The seed of a stage's initial weights."""
    digest = hashlib.blake2b(f"{seed}/initial weights/{stage}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")


def table(run_config: config.Config, data: OpenedData, number: int, device: torch.device) -> Table:
    """Lay the table for one stage: players, optimizers, batches and noise."""
    stage = run_config.stages[number]
    facts = data.facts
    nets = players(run_config, number, facts.shape, mean_picture(data), len(facts.classes))
    seated = {name: runtime.seated(net, device) for name, net in nets.items()}
    specs = {
        "generator": stage.generator_optimizer,
        "discriminator": stage.discriminator_optimizer,
    }
    seed = run_config.seed
    feed = Feed(data.scaling, run_config.data.batch_size, seed, device, flip=run_config.data.flip)
    return Table(
        game=GAMES[type(stage.game)](stage.game),
        players=seated,
        movers={name: mover(spec, seated[name].parameters()) for name, spec in specs.items()},
        batches=batches_of(data.splits.train, feed),
        noise=Noise(seed, purpose=f"stage{number}", device=device),
        precision=runtime.PRECISIONS[run_config.runtime.precision],
        take_turn=taking(run_config.runtime, stage.game),
    )


def taking(chosen: config.Runtime, game: config.Game) -> Taking:
    """The way to take turns that a config asks for.

    Raises:
        UsageError: two ways at once, one that the device lacks, or one that the game does not bear.
    """
    if not (chosen.compile or chosen.graph):
        return take_turn
    if chosen.compile and chosen.graph:
        raise UsageError("compile and graph were both asked for; give one of them")
    if game.updates == "alternating" and game.fakes == "shared":
        raise UsageError(
            "fakes are shared between steps, which compile and graph take apart; say "
            "--game.fakes fresh, or leave them out"
        )
    if chosen.compile:
        return compiled()
    if not chosen.device.startswith("cuda"):
        raise UsageError(f"graph was asked for on {chosen.device}; it needs --device cuda")
    return captured(on_cuda)


def resolved(run: config.Config, facts: DataFacts, chosen: config.Runtime) -> config.Config:
    """The config with its runtime chosen and every stage's steps counted out."""
    stages = tuple(
        stage if stage.steps is not None else replace(stage, steps=_steps(run, stage, facts))
        for stage in run.stages
    )
    return replace(run, runtime=chosen, stages=stages)


def _steps(run: config.Config, stage: config.Stage, facts: DataFacts) -> int:
    if facts.train is None:
        raise UsageError(
            f"{facts.name} is a stream of unknown length, so epochs cannot be counted; say --steps"
        )
    return round(stage.epochs * facts.train / run.data.batch_size)


def record(
    run: config.Config, facts: DataFacts, nets: dict[str, nn.Module], command: str
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
