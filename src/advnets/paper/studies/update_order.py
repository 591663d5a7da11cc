"""Who moves when: D first, as the paper's text has it, or both at once, as its authors' program."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.utils import get_total_norm

from advnets import config, presets
from advnets.data.prepared import PreparedData, open_data
from advnets.games.gan import generate
from advnets.losses import GENERATOR_LOSSES
from advnets.paper.blocks import (
    Block,
    Check,
    FigureBlock,
    SectionContent,
    SectionContext,
    Table,
    Text,
    literal,
)
from advnets.plots.style import LIGHT, new_figure, png, reference_line, style_axes
from advnets.protocols import Players
from advnets.rng import RNG
from advnets.toy.stepping import copy_state, make_state
from advnets.training.step import TrainState as Board
from advnets.training.step import train_step

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TOGETHER, IN_TURN = "simultaneous", "alternating"
ORDERS = {
    TOGETHER: config.GANGame(updates="simultaneous"),
    IN_TURN: config.GANGame(updates="alternating"),
}
SAMPLES = 500
FLAT = 0.0025
"""Slope of the sigmoid, of at most 1/4, below which a pixel hardly moves any more."""
BEGUN = 0.1
"""How far from 1/2 D(x) is when the race has begun; before, D's small weights only grow."""


@dataclass(frozen=True)
class Size:
    """Nets and their optimizers, the data, and how long is played, at one scale."""

    stage: config.Stage
    data: config.Data
    rounds: int
    every: int
    """Rounds from one look to the next."""


@dataclass
class History:
    """One game, as it was looked at: a value each look."""

    rounds: list[int] = field(default_factory=list[int])
    told: dict[str, list[float]] = field(default_factory=dict[str, list[float]])

    def end(self, name: str) -> float:
        """The mean over the last tenth of the looks."""
        values = self.told[name]
        return statistics.fmean(values[-max(1, len(values) // 10) :])

    def while_racing(self, name: str) -> float:
        """The mean over the looks from which D(x) is away from 1/2."""
        racing = [abs(value - 0.5) > BEGUN for value in self.told["D(x)"]]
        values = self.told[name][racing.index(True) :] if any(racing) else self.told[name]
        return statistics.fmean(values)


def show(context: SectionContext) -> SectionContent:
    """The MNIST experiment in both orders, or small digits at quick scale."""
    size = sized(context)
    opened = open_data(size.data)
    races: dict[str, list[History]] = {}
    for name, game in ORDERS.items():
        context.tell(f"{opened.info.name}, {name} updates")
        stage = replace(size.stage, game=game)
        races[name] = [race(stage, size, opened, seed) for seed in context.all_seeds]
    checks = (_held(races),) if context.full else ()
    return SectionContent(tuple(_blocks(context, literal(opened.info.name), races)), checks)


def sized(context: SectionContext) -> Size:
    """The authors' nets, rates and schedules; at quick scale narrow ones on 8x8 digits."""
    run = presets.get_preset("paper-mnist")
    if context.full:
        return Size(run.stage, context.data(run.data, context.sources.mnist), 2500, 50)
    narrow = replace(
        run.stage,
        generator=config.MLPGenerator(hidden_sizes=(256, 256)),
        discriminator=config.MaxoutDiscriminator(hidden_sizes=(64, 64), init_range=0.02),
    )
    return Size(narrow, config.Data(source="digits"), 800, 20)


def race(stage: config.Stage, size: Size, opened: PreparedData, seed: int) -> History:
    """Play one game, and look on."""
    state, seen = make_state(stage, size.data, opened, seed), History()
    observed: list[Mapping[str, torch.Tensor]] = []
    for number in range(1, size.rounds + 1):
        looked_at = number % size.every == 0
        before = copy_state(state).players if looked_at else None
        observed.append(train_step(state).metrics)
        if before is not None:
            seen.rounds.append(number)
            for name, value in _look(state, before, observed):
                seen.told.setdefault(name, []).append(value)
            observed = []
    return seen


def pull(
    generator: nn.Module, discriminator: nn.Module, rng: RNG, samples: int = SAMPLES
) -> tuple[float, float]:
    """Mean D(G(z)), and the norm of the gradient of G's loss in its parameters, with dropout."""
    players: Players = {"generator": generator, "discriminator": discriminator}
    logits = discriminator(generate(players, samples, rng), rng.split_streams("fake"))
    loss = GENERATOR_LOSSES["non-saturating"](logits)
    gradient = torch.autograd.grad(loss, tuple(generator.parameters()))
    return float(torch.sigmoid(logits.detach()).mean()), float(get_total_norm(gradient))


def _look(
    state: Board, before: Players, observed: Sequence[Mapping[str, torch.Tensor]]
) -> Iterator[tuple[str, float]]:
    """Means since the last look; the samples; what D's last update alone has done to G's pull."""
    for name, key in (("D(x)", "d_real"), ("D(G(z))", "d_fake")):
        yield name, float(torch.stack([one[key] for one in observed]).mean())
    rng = state.rng.at_step(state.progress.step).fold_in("look")
    with torch.no_grad():
        samples = generate(state.players, SAMPLES, rng).flatten(1)
    yield "variety", float(samples.std(0).mean())
    yield "flat", float((samples * (1 - samples) < FLAT).float().mean())
    generator, discriminator = before["generator"], before["discriminator"]
    for when, judge in (("before", discriminator), ("after", state.players["discriminator"])):
        fooled, norm = pull(generator, judge, rng)
        yield f"D(G(z)) {when}", fooled
        yield f"gradient {when}", norm


def _blocks(
    context: SectionContext, data: str, races: Mapping[str, list[History]]
) -> Iterator[Block]:
    yield Text(
        "In the paper's text $D$ moves first, and $G$ then learns from the $D$ that has just "
        "moved. In the authors' program both gradients are taken before either moves. On the line "
        f"both orders arrive. Here is the game on `{data}`, "
        + (
            "the authors' nets, rates and schedules, in both orders: all else, "
            "batches and initial weights too, is the same."
            if context.full
            else "with narrow nets, in both orders. On small digits they go on alike; it is with "
            "the nets and rates of the MNIST experiment, which `--full` plays, that they part."
        )
    )
    yield _curves(context, races)
    yield _table(races, context.all_seeds)
    yield Text(_in_words(races))


def _in_words(races: Mapping[str, list[History]]) -> str:
    """What the means over looks and seeds come to."""

    def mean(order: str, name: str) -> float:
        return statistics.fmean(race.while_racing(name) for race in races[order])

    fooled, mended, strong, weak = (
        mean(TOGETHER, name)
        for name in ("D(G(z)) before", "D(G(z)) after", "gradient before", "gradient after")
    )
    ends = {
        order: ", ".join(f"{race.end('D(G(z))'):.3f}" for race in some)
        for order, some in races.items()
    }
    return (
        "The two orders differ in one thing: whether $G$ sees $D$ before or after $D$'s own last "
        "update. What that update does, on the same samples and under the same masks, in the mean "
        f"over simultaneous play: $D(G(z))$ goes from {fooled:.3f} to {mended:.3f}, the norm of "
        f"$G$'s gradient from {strong:.2f} to {weak:.2f}. Where $D$ mends, before $G$ moves, what "
        "$G$ could have used, $G$ learns from what is left. At the end $D(G(z))$ stands at "
        f"{ends[TOGETHER]} played at once, and at {ends[IN_TURN]} played in turn."
    )


def _curves(context: SectionContext, races: Mapping[str, list[History]]) -> FigureBlock:
    figure = new_figure(10.8, 3.6)
    verdict, variety, flat = figure.subplots(1, 3)
    style_axes(verdict, "D(x) above, D(G(z)) below", "mean probability of real", x="rounds")
    reference_line(verdict, 0.5, "equilibrium", LIGHT)
    style_axes(variety, "Variety of samples", "deviation of a pixel", x="rounds")
    style_axes(flat, "Pixels that are stuck", "share", x="rounds")
    for axes, names in ((verdict, ("D(x)", "D(G(z))")), (variety, ("variety",)), (flat, ("flat",))):
        for name in names:
            _draw(axes, races, name, named=name != "D(G(z))")
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False, fontsize=8, labelcolor=LIGHT.text)
    alt = "D(x) and D(G(z)), the samples' variety and stuck pixels, in both orders of moves"
    caption = (
        "Each curve is a seed. Variety: the standard deviation of a pixel over samples, mean over "
        f"pixels. Stuck: the output's sigmoid has a slope below {FLAT}, a hundredth of its most."
    )
    return context.image("order.png", png(figure), alt, caption)


def _draw(axes: Axes, races: Mapping[str, list[History]], name: str, *, named: bool) -> None:
    for (order, some), color, style in zip(
        races.items(), (LIGHT.score, LIGHT.fourth), ("-", "--"), strict=True
    ):
        for seed, seen in enumerate(some):
            label = order if named and not seed else None
            axes.plot(seen.rounds, seen.told[name], style, color=color, lw=1.2, label=label)


def _table(races: Mapping[str, list[History]], seeds: range) -> Table:
    return Table(
        "At the end: means over the last tenth of the looks.",
        ("order", "seed", "$D(x)$", "$D(G(z))$", "variety", "stuck"),
        tuple(
            (
                order,
                f"{seed}",
                *(f"{seen.end(name):.3f}" for name in ("D(x)", "D(G(z))", "variety")),
                f"{seen.end('flat'):.0%}",
            )
            for order, some in races.items()
            for seed, seen in zip(seeds, some, strict=True)
        ),
    )


def _held(races: Mapping[str, list[History]]) -> Check:
    """The finding, as a claim over all seeds."""
    together, in_turn = (
        [race.end("D(G(z))") for race in races[order]] for order in (TOGETHER, IN_TURN)
    )
    return Check(
        "on MNIST, by the authors' configuration, $G$ holds on when both move at once and loses "
        "when $D$ moves first: $D(G(z))$ at the end",
        "in every seed more at once than in any seed in turn",
        f"{', '.join(f'{v:.3f}' for v in together)} against "
        f"{', '.join(f'{v:.3f}' for v in in_turn)}",
        min(together) > max(in_turn),
    )
