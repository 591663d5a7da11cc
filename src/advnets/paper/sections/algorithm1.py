"""Algorithm 1: what k does, and why D is not trained to completion in every round."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from advnets import config
from advnets.paper.blocks import (
    Check,
    FigureBlock,
    Formula,
    SectionContent,
    SectionContext,
    Table,
    Text,
)
from advnets.paper.studies import inner_loop, update_order
from advnets.plots.style import LIGHT, legend, new_figure, png, style_axes
from advnets.toy.line_game import NETS, Cells, Snapshot, make_line_game
from advnets.training.step import TrainState as Board
from advnets.training.step import num_updates

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SOURCE = "gaussian:mean=2,n=1000000"
CELLS = Cells(-4.0, 8.0)
RULES = {
    "k = 1": config.GANGame(k=1),
    "k = 2": config.GANGame(k=2),
    "k = 5": config.GANGame(k=5),
    "simultaneous": config.GANGame(updates="simultaneous"),
}
"""Ways to take turns. All else is the same: nets, optimizers, batches, initial weights."""
LATENTS = 20_000
"""Values of z that p_g is computed from at every look; there are hundreds."""
ARRIVED = 0.01
"""JSD in nats, under which p_g has arrived when it stays there."""
_STYLES = ("-", "--", "-.", ":")


@dataclass
class History:
    """One game on the line, as it was looked at."""

    rounds: list[int] = field(default_factory=list[int])
    samples: list[int] = field(default_factory=list[int])
    """Examples and samples that updates were made on, up to each look."""
    divergence: list[float] = field(default_factory=list[float])
    """JSD(p_data, p_g) in nats."""
    error: list[float] = field(default_factory=list[float])
    """Mean |D - D*| over what D is shown."""
    updates: int = 0
    """That both players made in a round."""
    seconds: float = 0.0
    """That a round took, without the looks."""

    @property
    def mean_error(self) -> float:
        """Mean over all rounds, as the looks are nearer to each other at the beginning."""
        return float(np.trapezoid(self.error, self.rounds) / (self.rounds[-1] - self.rounds[0]))

    @property
    def arrived(self) -> int | None:
        """Index of the look from which the divergence stays low, if it does."""
        above = [n for n, value in enumerate(self.divergence) if value > ARRIVED]
        first = above[-1] + 1 if above else 0
        return first if first < len(self.divergence) else None


def show(context: SectionContext) -> SectionContent:
    """Ways to take turns, on the line and on digits; then D to completion on 1,000 digits."""
    rounds, batch = (600, 1000) if context.full else (250, 500)
    courses: dict[str, list[History]] = {}
    for name, game in RULES.items():
        context.tell(f"the game on a line, {name}")
        courses[name] = [course(game, rounds, batch, seed) for seed in context.all_seeds]
    errors = {name: _mean(some, lambda c: c.mean_error) for name, some in courses.items()}
    ends = {name: max(c.divergence[-1] for c in some) for name, some in courses.items()}
    nearer = errors["k = 1"] > errors["k = 2"] > errors["k = 5"]
    ordered, completed = update_order.show(context), inner_loop.show(context)
    return SectionContent(
        blocks=(
            Text(
                "A round of Algorithm 1: $k$ times, $D$ ascends $V$ on a batch of data and of "
                "samples; then once, $G$ descends its loss. The authors' program moves both at "
                "once, on gradients that were taken before either has moved. All four games below "
                "are played by the package's own `play_round`, on the line of Figure 1 and from "
                f"the same weights, with batches of {batch}; but $D$ has no head start."
            ),
            Formula(
                r"\nabla_{\theta_d} \frac{1}{m} \sum_{i=1}^m \left[ \log D(x^{(i)}) + "
                r"\log(1 - D(G(z^{(i)}))) \right]"
            ),
            _curves(context, courses),
            _table(courses),
            Text(_in_words(courses)),
            *ordered.blocks,
            *completed.blocks,
        ),
        checks=(
            Check(
                "$D$ is nearer $D^*$, the more often it moves: mean $|D - D^*|$ over all rounds, "
                "k = 1, 2, 5",
                "each less than the one before",
                ", ".join(f"{errors[name]:.3f}" for name in ("k = 1", "k = 2", "k = 5")),
                nearer,
            ),
            Check(
                "$p_g$ comes to $p_{data}$ in each of the four ways",
                f"JSD at most {ARRIVED} nats at the end",
                ", ".join(f"{end:.4f}" for end in ends.values()),
                max(ends.values()) <= ARRIVED,
            ),
            *ordered.checks,
            *completed.checks,
        ),
    )


def course(game: config.GANGame, rounds: int, batch: int, seed: int = 0) -> History:
    """Play one game on the line, from the weights that the seed gives, and look on."""
    line = make_line_game(SOURCE, CELLS, replace(NETS, game=game), seed=seed, batch=batch)
    seen, looked_at, looking = History(), _looks(rounds), 0.0
    spent, seen.updates = cost(line.state, batch)
    began = time.perf_counter()

    def look(number: int) -> None:
        sight = line.snapshot(points=LATENTS)
        seen.rounds.append(number)
        seen.samples.append(number * spent)
        seen.divergence.append(sight.divergence)
        seen.error.append(mean_error(sight))

    def watch(number: int, _: object) -> None:
        nonlocal looking
        if number in looked_at:
            at = time.perf_counter()
            look(number)
            looking += time.perf_counter() - at

    line.train(rounds, watch)
    seen.seconds = (time.perf_counter() - began - looking) / rounds
    return seen


def cost(state: Board, batch: int) -> tuple[int, int]:
    """Examples and samples that a round's updates are made on, and how many updates there are."""
    samples, updates = 0, 0
    for phase in state.game.phases():
        times = num_updates(phase, {})
        samples += times * batch * (2 if phase.reads_data else 1)
        updates += times * (2 if phase.name == "both" else 1)
    return samples, updates


def mean_error(sight: Snapshot) -> float:
    """E|D(x) - D*(x)| for x half from p_data and half from p_g."""
    weight = sight.p_data + sight.p_g
    gap = np.where(weight > 0, np.abs(sight.discriminator - sight.optimal), 0.0)
    return float((gap * weight).sum() / weight.sum())


def _looks(rounds: int) -> set[int]:
    """Every second round of the first hundred, then every tenth."""
    return {1, *range(2, 100, 2), *range(100, rounds + 1, 10), rounds}


def _mean(courses: Sequence[History], of: Callable[[History], float]) -> float:
    return sum(map(of, courses)) / len(courses)


def _curves(context: SectionContext, courses: Mapping[str, list[History]]) -> FigureBlock:
    figure = new_figure(9.6, 5.6)
    rows = figure.subplots(2, 2, sharey="row", squeeze=False)
    for column, over in enumerate(("rounds", "samples")):
        for row, (what, title, unit) in enumerate(
            (
                ("divergence", "Divergence of p_g from p_data", "JSD, nats"),
                ("error", "Distance of D from D*", "mean |D − D*|"),
            )
        ):
            x = "" if row == 0 else {"rounds": "rounds", "samples": "thousand samples spent"}[over]
            axes = rows[row][column]
            style_axes(axes, "" if column else title, "" if column else unit, x=x)
            _draw(axes, courses, over, what)
        rows[0][column].set_xscale("log")
        rows[1][column].set_xscale("log")
        rows[0][column].set_yscale("log")
        rows[0][column].set_ylim(1e-3, 1)  # so few z do not resolve less
        rows[1][column].set_ylim(bottom=0)
    legend(rows[0][1], columns=4)
    alt = "Divergence and D's error over rounds and over samples, for k = 1, 2, 5 and simultaneous"
    caption = (
        "The same games over rounds (left) and over what they cost (right): every update of $D$ is "
        "made on a batch of data and one of samples, every update of $G$ on one of samples; a "
        "simultaneous round shares its batch. Less than .001 nats is not shown."
    )
    return context.image("turns.png", png(figure), alt, caption)


def _draw(axes: Axes, courses: Mapping[str, list[History]], over: str, what: str) -> None:
    unit = 1000 if over == "samples" else 1
    for (name, some), color, style in zip(courses.items(), LIGHT.hues, _STYLES, strict=True):
        for seed, seen in enumerate(some):
            x = [value / unit for value in getattr(seen, over)]
            label = None if seed else name
            opacity = 0.35 if seed else 1.0
            y = getattr(seen, what)
            axes.plot(x, y, style, color=color, lw=1.4, alpha=opacity, label=label)


def _table(courses: Mapping[str, list[History]]) -> Table:
    rows: list[tuple[str, ...]] = []
    for name, some in courses.items():
        first = some[0]
        at = first.arrived
        arrived = ("never", "-") if at is None else (f"{first.rounds[at]}", _spent(first, at))
        rows.append(
            (
                name,
                f"{first.updates}",
                f"{_mean(some, lambda c: c.seconds) * 1000:.0f}",
                *arrived,
                f"{_mean(some, lambda c: c.mean_error):.3f}",
            )
        )
    return Table(
        "Updates and milliseconds are of a round. From the round of arrival on the divergence "
        f"stays under {ARRIVED} nats (first seed).",
        ("turns", "updates", "ms", "arrived at", "samples by then", "mean $|D - D^*|$"),
        tuple(rows),
    )


def _spent(seen: History, at: int) -> str:
    return f"{seen.samples[at]:,}"


def _in_words(courses: Mapping[str, list[History]]) -> str:
    """What the curves show, from the first seed's numbers."""
    firsts = {name: some[0] for name, some in courses.items()}
    swings = ", ".join(
        f"{name}: {sum(b > a for a, b in zip(c.divergence, c.divergence[1:], strict=False))} of "
        f"{len(c.divergence) - 1}"
        for name, c in firsts.items()
    )
    arrived = {name: c.arrived for name, c in firsts.items()}
    there = {name: firsts[name].samples[at] for name, at in arrived.items() if at is not None}
    least = (
        f" With this seed the cheapest way was {min(there, key=there.__getitem__)}."
        if there
        else ""
    )
    return (
        "Without a head start the way is no descent: $D$ is wrong at first, and leads $G$ astray. "
        f"From one look to the next the divergence rose as often as this: {swings}.{least} A large "
        "$k$ keeps $D$ near $D^*$, at a price in updates; which $k$ is cheapest hangs on the game."
    )
