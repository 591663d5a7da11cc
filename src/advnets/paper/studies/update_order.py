"""Update order: D first, as in the paper's text, or both at once, as in its authors' code."""

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
    SectionContent,
    SectionContext,
    Table,
    Text,
    escape_markup,
)
from advnets.paper.toy import copy_state, make_state
from advnets.plots.style import LIGHT, new_figure, png, reference_line, style_axes
from advnets.protocols import Players
from advnets.rng import RNG
from advnets.training.step import TrainState, train_step

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIMULTANEOUS, ALTERNATING = "simultaneous", "alternating"
GAMES = {
    SIMULTANEOUS: config.GANGame(updates="simultaneous"),
    ALTERNATING: config.GANGame(updates="alternating"),
}
NUM_SAMPLES = 500
SATURATED_SLOPE = 0.0025
"""Derivative of the sigmoid (at most 1/4) below which an output pixel is saturated."""
START_MARGIN = 0.1
"""The |D(x) - 1/2| at which competition has started; before, only D's small weights grow."""


@dataclass(frozen=True)
class Size:
    """Networks, optimizers, data and training length at one scale."""

    stage: config.Stage
    data: config.Data
    iterations: int
    eval_every: int
    """Iterations between evaluations."""


@dataclass
class History:
    """The evaluations of one training."""

    iterations: list[int] = field(default_factory=list[int])
    values: dict[str, list[float]] = field(default_factory=dict[str, list[float]])

    def final(self, name: str) -> float:
        """Return the mean of a value over the last tenth of the evaluations."""
        values = self.values[name]
        return statistics.fmean(values[-max(1, len(values) // 10) :])

    def mean_after_start(self, name: str) -> float:
        """Return the mean of a value over the evaluations from which D(x) is away from 1/2."""
        started = [abs(value - 0.5) > START_MARGIN for value in self.values["D(x)"]]
        values = self.values[name][started.index(True) :] if any(started) else self.values[name]
        return statistics.fmean(values)


def build(context: SectionContext) -> SectionContent:
    """Train the MNIST experiment, or small digits at quick scale, in both update orders."""
    size = make_size(context)
    prepared = open_data(size.data)
    histories: dict[str, list[History]] = {}
    for name, game in GAMES.items():
        context.log(f"{prepared.info.name}, {name} updates")
        stage = replace(size.stage, game=game)
        histories[name] = [train_game(stage, size, prepared, seed) for seed in context.all_seeds]
    checks = (_order_check(histories),) if context.full else ()
    return SectionContent(
        tuple(_blocks(context, escape_markup(prepared.info.name), histories)), checks
    )


def make_size(context: SectionContext) -> Size:
    """Return the authors' networks, rates and schedules; at quick scale narrow ones on digits."""
    run = presets.get_preset("paper-mnist")
    if context.full:
        return Size(run.stage, context.data(run.data, context.sources.mnist), 2500, 50)
    small = replace(
        run.stage,
        generator=config.MLPGenerator(hidden_sizes=(256, 256)),
        discriminator=config.MaxoutDiscriminator(hidden_sizes=(64, 64), init_range=0.02),
    )
    return Size(small, config.Data(source="digits"), 800, 20)


def train_game(stage: config.Stage, size: Size, prepared: PreparedData, seed: int) -> History:
    """Train one game and evaluate it during training."""
    state, history = make_state(stage, size.data, prepared, seed), History()
    metrics: list[Mapping[str, torch.Tensor]] = []
    for number in range(1, size.iterations + 1):
        evaluated = number % size.eval_every == 0
        before = copy_state(state).players if evaluated else None
        metrics.append(train_step(state).metrics)
        if before is not None:
            history.iterations.append(number)
            for name, value in _evaluate(state, before, metrics):
                history.values.setdefault(name, []).append(value)
            metrics = []
    return history


def generator_gradient(
    generator: nn.Module, discriminator: nn.Module, rng: RNG, samples: int = NUM_SAMPLES
) -> tuple[float, float]:
    """Return mean D(G(z)), and the norm of the gradient of G's loss, with dropout."""
    players: Players = {"generator": generator, "discriminator": discriminator}
    logits = discriminator(generate(players, samples, rng), rng.split_streams("fake"))
    loss = GENERATOR_LOSSES["non-saturating"](logits)
    gradient = torch.autograd.grad(loss, tuple(generator.parameters()))
    return float(torch.sigmoid(logits.detach()).mean()), float(get_total_norm(gradient))


def _evaluate(
    state: TrainState, before: Players, metrics: Sequence[Mapping[str, torch.Tensor]]
) -> Iterator[tuple[str, float]]:
    """Yield the statistics of one evaluation.

    They are means since the last evaluation, statistics of samples, and D(G(z)) and G's gradient
    before and after D's last update.
    """
    for name, key in (("D(x)", "d_real"), ("D(G(z))", "d_fake")):
        yield name, float(torch.stack([step_metrics[key] for step_metrics in metrics]).mean())
    rng = state.rng.at_step(state.progress.step).fold_in("look")
    with torch.no_grad():
        samples = generate(state.players, NUM_SAMPLES, rng).flatten(1)
    yield "variety", float(samples.std(0).mean())
    yield "flat", float((samples * (1 - samples) < SATURATED_SLOPE).float().mean())
    generator, discriminator = before["generator"], before["discriminator"]
    for when, judge in (("before", discriminator), ("after", state.players["discriminator"])):
        fooled, norm = generator_gradient(generator, judge, rng)
        yield f"D(G(z)) {when}", fooled
        yield f"gradient {when}", norm


def _blocks(
    context: SectionContext, data: str, histories: Mapping[str, list[History]]
) -> Iterator[Block]:
    yield Text(
        "In the paper's text $D$ is updated first, and $G$ then learns from the updated $D$. In "
        "the authors' code both gradients are computed before either update. On one-dimensional "
        f"data both orders converge. Here is the game on `{data}`, "
        + (
            "with the authors' networks, rates and schedules, in both orders; everything else, "
            "including batches and initial weights, is the same."
            if context.full
            else "with narrow networks, in both orders. On small digits both behave alike; they "
            "differ with the networks and rates of the MNIST experiment, which `--full` trains."
        )
    )
    yield _curves(context, histories)
    yield _table(histories, context.all_seeds)
    yield Text(_discussion(histories))


def _discussion(histories: Mapping[str, list[History]]) -> str:
    """Return a paragraph about the means over evaluations and seeds."""

    def mean(order: str, name: str) -> float:
        return statistics.fmean(race.mean_after_start(name) for race in histories[order])

    fooled, corrected, norm_before, norm_after = (
        mean(SIMULTANEOUS, name)
        for name in ("D(G(z)) before", "D(G(z)) after", "gradient before", "gradient after")
    )
    ends = {
        order: ", ".join(f"{run.final('D(G(z))'):.3f}" for run in runs)
        for order, runs in histories.items()
    }
    return (
        "The two orders differ in one thing: whether $G$ is updated against $D$ before or after "
        "$D$'s own last update. The effect of that update, for the same samples and dropout "
        f"masks, averaged over simultaneous training: $D(G(z))$ changes from {fooled:.3f} to "
        f"{corrected:.3f}, and the norm of $G$'s gradient from {norm_before:.2f} to "
        f"{norm_after:.2f}. In alternating updates $D$ corrects, before $G$ is updated, what $G$ "
        f"could have used. At the end $D(G(z))$ is {ends[SIMULTANEOUS]} with simultaneous updates "
        f"and {ends[ALTERNATING]} with alternating ones."
    )


def _curves(context: SectionContext, histories: Mapping[str, list[History]]) -> Block:
    figure = new_figure(10.8, 3.6)
    verdict, variety, flat = figure.subplots(1, 3)
    style_axes(verdict, "D(x) above, D(G(z)) below", "mean probability of real", x="iterations")
    reference_line(verdict, 0.5, "equilibrium", LIGHT)
    style_axes(variety, "Diversity of samples", "standard deviation of a pixel", x="iterations")
    style_axes(flat, "Saturated pixels", "fraction", x="iterations")
    for axes, names in ((verdict, ("D(x)", "D(G(z))")), (variety, ("variety",)), (flat, ("flat",))):
        for name in names:
            _draw(axes, histories, name, named=name != "D(G(z))")
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False, fontsize=8, labelcolor=LIGHT.text)
    alt = "D(x) and D(G(z)), the diversity of samples and saturated pixels, in both update orders"
    caption = (
        "Each curve is a seed. Diversity: the standard deviation of a pixel over samples, mean "
        "over pixels. Saturated: the derivative of the output's sigmoid is below "
        f"{SATURATED_SLOPE}, a hundredth of its maximum."
    )
    return context.save_image("order.png", png(figure), alt, caption)


def _draw(axes: Axes, histories: Mapping[str, list[History]], name: str, *, named: bool) -> None:
    for (order, runs), color, style in zip(
        histories.items(), (LIGHT.score, LIGHT.fourth), ("-", "--"), strict=True
    ):
        for seed, history in enumerate(runs):
            label = order if named and not seed else None
            axes.plot(
                history.iterations, history.values[name], style, color=color, lw=1.2, label=label
            )


def _table(histories: Mapping[str, list[History]], seeds: range) -> Table:
    return Table(
        "Means over the last tenth of the evaluations.",
        ("order", "seed", "$D(x)$", "$D(G(z))$", "diversity", "saturated"),
        tuple(
            (
                order,
                f"{seed}",
                *(f"{history.final(name):.3f}" for name in ("D(x)", "D(G(z))", "variety")),
                f"{history.final('flat'):.0%}",
            )
            for order, runs in histories.items()
            for seed, history in zip(seeds, runs, strict=True)
        ),
    )


def _order_check(histories: Mapping[str, list[History]]) -> Check:
    """Return the check that compares both orders over all seeds."""
    together, in_turn = (
        [race.final("D(G(z))") for race in histories[order]]
        for order in (SIMULTANEOUS, ALTERNATING)
    )
    return Check(
        "on MNIST with the authors' configuration, $G$ keeps up with simultaneous updates and "
        "loses with alternating ones: final $D(G(z))$",
        "every seed higher with simultaneous updates than any seed with alternating ones",
        f"{', '.join(f'{v:.3f}' for v in together)} against "
        f"{', '.join(f'{v:.3f}' for v in in_turn)}",
        min(together) > max(in_turn),
    )
