"""Algorithm 1: the effect of k, the update order, and D trained to completion."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
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
    Formula,
    SectionContent,
    SectionContext,
    Table,
    Text,
    escape_markup,
)
from advnets.paper.studies import inner_loop
from advnets.paper.toy import STAGE, Grid, Snapshot, copy_state, make_line_game, make_state
from advnets.plots.style import LIGHT, legend, new_figure, png, reference_line, style_axes
from advnets.protocols import Players
from advnets.rng import RNG
from advnets.training.step import TrainState, num_updates, train_step

if TYPE_CHECKING:
    from matplotlib.axes import Axes


SOURCE = "gaussian:mean=2,n=1000000"
GRID = Grid(-4.0, 8.0)
GAMES = {
    "k = 1": config.GANGame(k=1),
    "k = 2": config.GANGame(k=2),
    "k = 5": config.GANGame(k=5),
    "simultaneous": config.GANGame(updates="simultaneous"),
}
"""Update schemes; networks, optimizers, batches and initial weights are the same."""
NUM_LATENTS = 20_000
"""Number of latents from which each of the many p_g is computed."""
CONVERGED_JSD = 0.01
"""JSD in nats; a training has converged from the evaluation on after which it stays below."""
_STYLES = ("-", "--", "-.", ":")


@dataclass
class History:
    """The evaluations of one training on one-dimensional data."""

    iterations: list[int] = field(default_factory=list[int])
    samples_used: list[int] = field(default_factory=list[int])
    """Data points and samples used in updates, up to each evaluation."""
    jsd: list[float] = field(default_factory=list[float])
    """JSD(p_data, p_g) in nats."""
    error: list[float] = field(default_factory=list[float])
    """Mean |D - D*| under the mixture of p_data and p_g."""
    updates_per_iteration: int = 0
    """Updates of both players in an iteration."""
    seconds_per_iteration: float = 0.0
    """Seconds per iteration, without the evaluations."""

    @property
    def mean_error(self) -> float:
        """Mean of the error over all iterations; evaluations are denser at the beginning."""
        return float(
            np.trapezoid(self.error, self.iterations) / (self.iterations[-1] - self.iterations[0])
        )

    @property
    def converged_at(self) -> int | None:
        """Index of the evaluation from which the JSD stays low, or None."""
        above = [n for n, value in enumerate(self.jsd) if value > CONVERGED_JSD]
        first = above[-1] + 1 if above else 0
        return first if first < len(self.jsd) else None


def build(context: SectionContext) -> SectionContent:
    """Build the section: update schemes on a line and on digits, then D trained to completion."""
    iterations, batch_size = (600, 1000) if context.full else (250, 500)
    histories: dict[str, list[History]] = {}
    for name, game in GAMES.items():
        context.log(f"training the one-dimensional game, {name}")
        histories[name] = [
            train_line_game(game, iterations, batch_size, seed) for seed in context.all_seeds
        ]
    errors = {name: _mean(runs, lambda c: c.mean_error) for name, runs in histories.items()}
    final_jsd = {name: max(c.jsd[-1] for c in runs) for name, runs in histories.items()}
    decreasing = errors["k = 1"] > errors["k = 2"] > errors["k = 5"]
    order, inner = order_content(context), inner_loop.build(context)
    return SectionContent(
        blocks=(
            Text(
                "An iteration of Algorithm 1 updates $D$ $k$ times by ascent on $V$, on a batch "
                "of data and of samples, and then updates $G$ once by descent on its loss. The "
                "authors' code updates both at the same time, with gradients that are computed "
                "before either update. The four trainings below use the package's own "
                "`train_step` on the data of Figure 1, from the same initial weights, with a "
                f"batch size of {batch_size}. $D$ is not trained in advance."
            ),
            Formula(
                r"\nabla_{\theta_d} \frac{1}{m} \sum_{i=1}^m \left[ \log D(x^{(i)}) + "
                r"\log(1 - D(G(z^{(i)}))) \right]"
            ),
            _curves(context, histories),
            _table(histories),
            Text(_discussion(histories)),
            *order.blocks,
            *inner.blocks,
        ),
        checks=(
            Check(
                "more updates of $D$ bring it closer to $D^*$: mean $|D - D^*|$ over all "
                "iterations for k = 1, 2, 5",
                "decreasing",
                ", ".join(f"{errors[name]:.3f}" for name in ("k = 1", "k = 2", "k = 5")),
                decreasing,
            ),
            Check(
                "$p_g$ converges to $p_{data}$ with each of the four update schemes: JSD at the "
                "end",
                f"at most {CONVERGED_JSD} nats",
                ", ".join(f"{end:.4f}" for end in final_jsd.values()),
                max(final_jsd.values()) <= CONVERGED_JSD,
            ),
            *order.checks,
            *inner.checks,
        ),
    )


def train_line_game(
    game: config.GANGame, iterations: int, batch_size: int, seed: int = 0
) -> History:
    """Train one game on one-dimensional data and evaluate it during training."""
    line = make_line_game(SOURCE, GRID, replace(STAGE, game=game), seed=seed, batch_size=batch_size)
    history, evaluation_seconds = History(), 0.0
    # Evaluate at every second iteration of the first hundred, then at every tenth.
    evaluated = {1, *range(2, 100, 2), *range(100, iterations + 1, 10), iterations}
    samples_per_iteration, history.updates_per_iteration = iteration_cost(line.state, batch_size)
    start = time.perf_counter()

    def record(number: int, _: object) -> None:
        nonlocal evaluation_seconds
        if number not in evaluated:
            return
        at = time.perf_counter()
        snapshot = line.snapshot(points=NUM_LATENTS)
        history.iterations.append(number)
        history.samples_used.append(number * samples_per_iteration)
        history.jsd.append(snapshot.jsd)
        history.error.append(mean_absolute_error(snapshot))
        evaluation_seconds += time.perf_counter() - at

    line.train(iterations, record)
    history.seconds_per_iteration = (time.perf_counter() - start - evaluation_seconds) / iterations
    return history


def iteration_cost(state: TrainState, batch_size: int) -> tuple[int, int]:
    """Return the points that an iteration's updates use, and the number of those updates."""
    samples, updates = 0, 0
    for phase in state.game.phases():
        repeats = num_updates(phase, {})
        samples += repeats * batch_size * (2 if phase.reads_data else 1)
        updates += repeats * (2 if phase.name == "both" else 1)
    return samples, updates


def mean_absolute_error(snapshot: Snapshot) -> float:
    """Return E|D(x) - D*(x)| for x drawn half from p_data and half from p_g."""
    weight = snapshot.p_data + snapshot.p_g
    gap = np.where(weight > 0, np.abs(snapshot.discriminator - snapshot.optimal), 0.0)
    return float((gap * weight).sum() / weight.sum())


def _mean(histories: Sequence[History], value: Callable[[History], float]) -> float:
    return sum(map(value, histories)) / len(histories)


def _curves(context: SectionContext, histories: Mapping[str, list[History]]) -> Block:
    figure = new_figure(9.6, 5.6)
    rows = figure.subplots(2, 2, sharey="row", squeeze=False)
    x_labels = {"iterations": "iterations", "samples_used": "samples used (thousands)"}
    for column, (x_name, x_label) in enumerate(x_labels.items()):
        jsd_labels, error_labels = ("JSD(p_data, p_g)", "nats"), ("Error of D", "mean |D − D*|")
        style_axes(rows[0][column], *(("", "") if column else jsd_labels))
        style_axes(rows[1][column], *(("", "") if column else error_labels), x=x_label)
        _draw(rows[0][column], histories, x_name, "jsd")
        _draw(rows[1][column], histories, x_name, "error")
        rows[0][column].set_xscale("log")
        rows[1][column].set_xscale("log")
        rows[0][column].set_yscale("log")
        rows[0][column].set_ylim(1e-3, 1)  # the number of latents does not resolve smaller values
        rows[1][column].set_ylim(bottom=0)
    legend(rows[0][1], columns=4)
    alt = (
        "JSD and the error of D over iterations and over samples, for k = 1, 2, 5 and simultaneous"
    )
    caption = (
        "The same trainings over iterations (left) and over the samples used (right). Every "
        "update of $D$ uses a batch of data and one of samples, every update of $G$ one of "
        "samples; a simultaneous iteration shares its batch. JSDs below 0.001 nats are not shown."
    )
    return context.save_image("updates.png", png(figure), alt, caption)


def _draw(axes: Axes, histories: Mapping[str, list[History]], x_name: str, y_name: str) -> None:
    unit = 1000 if x_name == "samples_used" else 1
    for (name, runs), color, style in zip(histories.items(), LIGHT.hues, _STYLES, strict=True):
        for seed, history in enumerate(runs):
            x = [value / unit for value in getattr(history, x_name)]
            label = None if seed else name
            opacity = 0.35 if seed else 1.0
            y = getattr(history, y_name)
            axes.plot(x, y, style, color=color, lw=1.4, alpha=opacity, label=label)


def _table(histories: Mapping[str, list[History]]) -> Table:
    rows: list[tuple[str, ...]] = []
    for name, runs in histories.items():
        first = runs[0]
        at = first.converged_at
        converged = "never", "-"
        if at is not None:
            converged = f"{first.iterations[at]}", f"{first.samples_used[at]:,}"
        rows.append(
            (
                name,
                f"{first.updates_per_iteration}",
                f"{_mean(runs, lambda c: c.seconds_per_iteration) * 1000:.0f}",
                *converged,
                f"{_mean(runs, lambda c: c.mean_error):.3f}",
            )
        )
    return Table(
        "Updates and milliseconds are per iteration. Convergence is the iteration from which the "
        f"JSD stays below {CONVERGED_JSD} nats (first seed).",
        ("scheme", "updates", "ms", "converged at", "samples used", "mean $|D - D^*|$"),
        tuple(rows),
    )


def _discussion(histories: Mapping[str, list[History]]) -> str:
    """Return a paragraph about the curves, from the first seed's numbers."""
    firsts = {name: runs[0] for name, runs in histories.items()}
    increases = ", ".join(
        f"{name}: {sum(b > a for a, b in zip(c.jsd, c.jsd[1:], strict=False))} of {len(c.jsd) - 1}"
        for name, c in firsts.items()
    )
    converged = {name: c.converged_at for name, c in firsts.items()}
    used = {name: firsts[name].samples_used[at] for name, at in converged.items() if at is not None}
    cheapest = (
        f" With this seed, {min(used, key=used.__getitem__)} needed the fewest samples."
        if used
        else ""
    )
    return (
        "Without training $D$ in advance the JSD does not fall monotonically: $D$ is wrong at "
        "first and misleads $G$. The number of evaluations at which the JSD was higher than at "
        f"the one before: {increases}.{cheapest} A large $k$ keeps $D$ close to $D^*$ at a higher "
        "cost per iteration; which $k$ is cheapest depends on the game."
    )


SIMULTANEOUS, ALTERNATING = "simultaneous", "alternating"
UPDATE_ORDERS = {
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
class OrderHistory:
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


def order_content(context: SectionContext) -> SectionContent:
    """Train the MNIST experiment, or small digits at quick scale, in both update orders."""
    size = make_size(context)
    prepared = open_data(size.data)
    histories: dict[str, list[OrderHistory]] = {}
    for name, game in UPDATE_ORDERS.items():
        context.log(f"{prepared.info.name}, {name} updates")
        stage = replace(size.stage, game=game)
        histories[name] = [train_game(stage, size, prepared, seed) for seed in context.all_seeds]
    checks = (_order_check(histories),) if context.full else ()
    return SectionContent(
        tuple(_order_blocks(context, escape_markup(prepared.info.name), histories)), checks
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


def train_game(stage: config.Stage, size: Size, prepared: PreparedData, seed: int) -> OrderHistory:
    """Train one game and evaluate it during training."""
    state, history = make_state(stage, size.data, prepared, seed), OrderHistory()
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
    yield "diversity", float(samples.std(0).mean())
    yield "saturated", float((samples * (1 - samples) < SATURATED_SLOPE).float().mean())
    generator, discriminator = before["generator"], before["discriminator"]
    for when, net in (("before", discriminator), ("after", state.players["discriminator"])):
        probability, norm = generator_gradient(generator, net, rng)
        yield f"D(G(z)) {when}", probability
        yield f"gradient {when}", norm


def _order_blocks(
    context: SectionContext, data: str, histories: Mapping[str, list[OrderHistory]]
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
    yield _order_curves(context, histories)
    yield _order_table(histories, context.all_seeds)
    yield Text(_order_discussion(histories))


def _order_discussion(histories: Mapping[str, list[OrderHistory]]) -> str:
    """Return a paragraph about the means over evaluations and seeds."""

    def mean(order: str, name: str) -> float:
        return statistics.fmean(history.mean_after_start(name) for history in histories[order])

    fake_before, fake_after, norm_before, norm_after = (
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
        f"masks, averaged over simultaneous training: $D(G(z))$ changes from {fake_before:.3f} to "
        f"{fake_after:.3f}, and the norm of $G$'s gradient from {norm_before:.2f} to "
        f"{norm_after:.2f}. In alternating updates $D$ corrects, before $G$ is updated, what $G$ "
        f"could have used. At the end $D(G(z))$ is {ends[SIMULTANEOUS]} with simultaneous updates "
        f"and {ends[ALTERNATING]} with alternating ones."
    )


def _order_curves(context: SectionContext, histories: Mapping[str, list[OrderHistory]]) -> Block:
    figure = new_figure(10.8, 3.6)
    outputs, diversity, saturation = figure.subplots(1, 3)
    style_axes(outputs, "D(x) above, D(G(z)) below", "mean probability of real", x="iterations")
    reference_line(outputs, 0.5, "equilibrium", LIGHT)
    style_axes(diversity, "Diversity of samples", "standard deviation of a pixel", x="iterations")
    style_axes(saturation, "Saturated pixels", "fraction", x="iterations")
    for axes, names in (
        (outputs, ("D(x)", "D(G(z))")),
        (diversity, ("diversity",)),
        (saturation, ("saturated",)),
    ):
        for name in names:
            _draw_order(axes, histories, name, named=name != "D(G(z))")
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False, fontsize=8, labelcolor=LIGHT.text)
    alt = "D(x) and D(G(z)), the diversity of samples and saturated pixels, in both update orders"
    caption = (
        "Each curve is a seed. Diversity: the standard deviation of a pixel over samples, mean "
        "over pixels. Saturated: the derivative of the output's sigmoid is below "
        f"{SATURATED_SLOPE}, a hundredth of its maximum."
    )
    return context.save_image("order.png", png(figure), alt, caption)


def _draw_order(
    axes: Axes, histories: Mapping[str, list[OrderHistory]], name: str, *, named: bool
) -> None:
    for (order, runs), color, style in zip(
        histories.items(), (LIGHT.score, LIGHT.fourth), ("-", "--"), strict=True
    ):
        for seed, history in enumerate(runs):
            label = order if named and not seed else None
            axes.plot(
                history.iterations, history.values[name], style, color=color, lw=1.2, label=label
            )


def _order_table(histories: Mapping[str, list[OrderHistory]], seeds: range) -> Table:
    return Table(
        "Means over the last tenth of the evaluations.",
        ("order", "seed", "$D(x)$", "$D(G(z))$", "diversity", "saturated"),
        tuple(
            (
                order,
                f"{seed}",
                *(f"{history.final(name):.3f}" for name in ("D(x)", "D(G(z))", "diversity")),
                f"{history.final('saturated'):.0%}",
            )
            for order, runs in histories.items()
            for seed, history in zip(seeds, runs, strict=True)
        ),
    )


def _order_check(histories: Mapping[str, list[OrderHistory]]) -> Check:
    """Return the check that compares both orders over all seeds."""
    simultaneous, alternating = (
        [history.final("D(G(z))") for history in histories[order]]
        for order in (SIMULTANEOUS, ALTERNATING)
    )
    return Check(
        "on MNIST with the authors' configuration, $G$ keeps up with simultaneous updates and "
        "loses with alternating ones: final $D(G(z))$",
        "every seed higher with simultaneous updates than any seed with alternating ones",
        f"{', '.join(f'{v:.3f}' for v in simultaneous)} against "
        f"{', '.join(f'{v:.3f}' for v in alternating)}",
        min(simultaneous) > max(alternating),
    )
