"""Algorithm 1: the effect of k, the update order, and D trained to completion."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from advnets import config
from advnets.paper.blocks import Block, Check, Formula, SectionContent, SectionContext, Table, Text
from advnets.paper.studies import inner_loop, update_order
from advnets.paper.toy import STAGE, Grid, Snapshot, make_line_game
from advnets.plots.style import LIGHT, legend, new_figure, png, style_axes
from advnets.training.step import TrainState, num_updates

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
    order_content, inner_content = update_order.build(context), inner_loop.build(context)
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
            *order_content.blocks,
            *inner_content.blocks,
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
            *order_content.checks,
            *inner_content.checks,
        ),
    )


def train_line_game(
    game: config.GANGame, iterations: int, batch_size: int, seed: int = 0
) -> History:
    """Train one game on one-dimensional data and evaluate it during training."""
    line = make_line_game(SOURCE, GRID, replace(STAGE, game=game), seed=seed, batch_size=batch_size)
    history, paused = History(), 0.0
    # Evaluate at every second iteration of the first hundred, then at every tenth.
    evaluated = {1, *range(2, 100, 2), *range(100, iterations + 1, 10), iterations}
    samples_per_iteration, history.updates_per_iteration = iteration_cost(line.state, batch_size)
    start = time.perf_counter()

    def record(number: int, _: object) -> None:
        nonlocal paused
        if number not in evaluated:
            return
        at = time.perf_counter()
        snapshot = line.snapshot(points=NUM_LATENTS)
        history.iterations.append(number)
        history.samples_used.append(number * samples_per_iteration)
        history.jsd.append(snapshot.jsd)
        history.error.append(mean_absolute_error(snapshot))
        paused += time.perf_counter() - at

    line.train(iterations, record)
    history.seconds_per_iteration = (time.perf_counter() - start - paused) / iterations
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
    return context.save_image("turns.png", png(figure), alt, caption)


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
