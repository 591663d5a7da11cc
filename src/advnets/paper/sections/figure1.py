"""Figure 1: p_data, p_g and D during training on one-dimensional data."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from advnets.paper.blocks import Block, Check, SectionContent, SectionContext, Text
from advnets.paper.toy import STAGE, Grid, Snapshot, best_response, make_line_game
from advnets.plots.style import LIGHT, legend, new_figure, png, style_axes
from advnets.training.step import StepMetrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SOURCE = "gaussian:mean=2,n=1000000"
"""p_data, a normal distribution with mean 2; a million points represent its tails well."""
GRID = Grid(-4.0, 8.0)
UPDATES_A, UPDATES_B, UPDATES_D = 8, 1000, 2000
"""Updates of D alone before panels (a), (b) and (d)."""
ITERATIONS_C = 12
"""Iterations of Algorithm 1 between panels (b) and (c)."""
FRAME_SPACING = 1.12
"""Growth factor of the iterations between frames; most changes happen at the beginning."""


@dataclass
class History:
    """Snapshots and metrics of one training."""

    snapshots: dict[str, Snapshot] = field(default_factory=dict[str, Snapshot])
    frames: list[tuple[str, Snapshot]] = field(default_factory=list[tuple[str, Snapshot]])
    metrics: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    """Values of each metric in every iteration."""


@cache
def train_line_game(seed: int = 0) -> History:
    """Train the game and record it; equation 1 and figure 1 share one training per seed."""
    line, history = make_line_game(SOURCE, GRID, seed=seed), History()
    best_response(line.state, UPDATES_A)
    history.snapshots["a"] = line.snapshot()
    best_response(line.state, UPDATES_B)
    history.snapshots["b"] = line.snapshot()
    history.frames = [
        ("D alone", history.snapshots["a"]),
        ("D at its optimum", history.snapshots["b"]),
    ]
    iterations = STAGE.steps or 0
    frame_iterations = _frame_iterations(iterations)

    def record(number: int, step_metrics: StepMetrics) -> None:
        for name, value in step_metrics.metrics.items():
            history.metrics.setdefault(name, []).append(float(value))
        if number == ITERATIONS_C:
            history.snapshots["c"] = line.snapshot()
        if number in frame_iterations:
            history.frames.append((f"iteration {number}", line.snapshot()))

    line.train(iterations, record)
    best_response(line.state, UPDATES_D)
    history.snapshots["d"] = line.snapshot()
    history.frames += [("end, D at its optimum", history.snapshots["d"])] * 4
    return history


def build(context: SectionContext) -> SectionContent:
    """Build the section: panels (a) to (d), and an animation."""
    context.log("training the one-dimensional game")
    history = train_line_game(context.seed)
    b, d = history.snapshots["b"], history.snapshots["d"]
    max_deviation = float(np.abs(b.discriminator - 0.5)[b.support].max())
    return SectionContent(
        blocks=(
            Text(
                "The data have the dotted density $p_{data}$. $G$ maps $z$ along the arrows; its "
                "density $p_g$, solid, is high where the arrows are dense. $D$, dashed, estimates "
                "the probability that $x$ is real. The thin curve is the optimal discriminator, "
                "$D^*(x) = p_{data}(x) / (p_{data}(x) + p_g(x))$."
            ),
            _stills(context, history),
            _animation(context, history),
            Text(
                "Both networks have two hidden layers of 64 tanh units and are trained by "
                "Algorithm 1 with k = 5 and Adam. $p_g$ is computed from 500,000 values of $z$, "
                "and $D^*$ from the two densities, never from $D$. The paper's sketch draws $z$ "
                "from a uniform distribution; here $z$ is normal. A uniform $z$ is bounded, so "
                "$G$ would need unbounded slopes at its ends to produce the tails of $p_g$, which "
                "are learned last."
            ),
        ),
        checks=(
            Check(
                "panel (b): $p_g$ differs from $p_{data}$",
                "JSD at least 0.2 nats",
                f"{b.jsd:.3f}",
                b.jsd >= 0.2,
            ),
            Check(
                "panel (b): maximum $|D - D^*|$ where $p_{data} + p_g > 0.01$",
                "at most 0.05",
                f"{b.max_error:.3f}",
                b.max_error <= 0.05,
            ),
            Check(
                "panel (b): $D$ is not constant: maximum $|D - 1/2|$",
                "at least 0.3",
                f"{max_deviation:.2f}",
                max_deviation >= 0.3,
            ),
            Check(
                "at the end $p_g = p_{data}$",
                "JSD at most 0.005 nats",
                f"{d.jsd:.5f}",
                d.jsd <= 0.005,
            ),
            Check(
                "at the end: maximum $|D - D^*|$ where $p_{data} + p_g > 0.01$",
                "at most 0.03",
                f"{d.max_error:.3f}",
                d.max_error <= 0.03,
            ),
        ),
    )


def _frame_iterations(iterations: int) -> set[int]:
    """Return the iterations of the animation's frames, spaced ever farther apart."""
    chosen, at = {iterations}, 1.0
    while at < iterations:
        chosen.add(round(at))
        at = max(at + 1, at * FRAME_SPACING)
    return chosen


def _stills(context: SectionContext, history: History) -> Block:
    titles = {
        "a": "(a) D after a few updates",
        "b": "(b) D at its optimum",
        "c": f"(c) {ITERATIONS_C} updates of G later",
        "d": "(d) end",
    }
    figure = new_figure(11.2, 4.0)
    rows = figure.subplots(2, len(titles), height_ratios=(3, 1), sharex=True, squeeze=False)
    for column, (name, title) in enumerate(titles.items()):
        _draw(rows[0][column], rows[1][column], history.snapshots[name], title)
        rows[0][column].set_ylabel("" if column else "probability, density")
    legend(rows[0][0], columns=4)
    rows[0][0].get_legend().set_bbox_to_anchor((0.0, 1.12))
    rows[0][0].get_legend().set_loc("lower left")
    alt = "Four panels: p_g moves onto p_data, and D from D* to one half"
    caption = (
        "Figure 1, reproduced. (a) $D$ after a few updates. (b) $G$ is fixed while $D$ is trained "
        "to its optimum $D^*$. (c) Following the gradient of $D$, $G$ has moved its samples to "
        "where $D$ rates them as real. (d) At the optimum $p_g = p_{data}$ and $D = 1/2$."
    )
    return context.save_image("stills.png", png(figure), alt, caption)


def _animation(context: SectionContext, history: History) -> Block:
    frames = [_frame(snapshot, title) for title, snapshot in history.frames]
    file = io.BytesIO()
    frames[0].save(
        file, format="GIF", save_all=True, append_images=frames[1:], duration=220, loop=0
    )
    alt = "Animation: p_g moves onto p_data while D flattens to one half"
    caption = (
        f"The same training in {len(frames)} frames, which are closer together where more changes."
    )
    return context.save_image("game.gif", file.getvalue(), alt, caption)


def _frame(snapshot: Snapshot, title: str) -> Image.Image:
    figure: Figure = new_figure(5.6, 4.0)
    upper, lower = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    _draw(upper, lower, snapshot, title)
    legend(upper, columns=4)
    with Image.open(io.BytesIO(png(figure))) as image:
        # One palette without dithering keeps uniform areas uniform and the file small.
        return image.convert("RGB").quantize(32, dither=Image.Dither.NONE)


def _draw(upper: Axes, lower: Axes, snapshot: Snapshot, title: str) -> None:
    x = snapshot.grid.centers
    style_axes(upper, title, "probability, density")
    curves: Sequence[tuple[str, np.ndarray, str, str, float]] = (
        ("data", snapshot.p_data, LIGHT.text, ":", 1.8),
        ("$p_g$", snapshot.p_g, LIGHT.score, "-", 1.8),
        ("D", snapshot.discriminator, LIGHT.real, "--", 1.8),
        ("D*", np.where(snapshot.support, snapshot.optimal, np.nan), LIGHT.fake, "-", 0.9),
    )
    for label, curve, color, style, width in curves:
        upper.plot(x, curve, style, color=color, lw=width, label=label)
    upper.set_ylim(-0.03, 1.05)
    lower.axis("off")
    for y, name in ((0, "z"), (1, "x")):
        lower.plot(x[[0, -1]], (y, y), color=LIGHT.text, lw=1)
        lower.text(x[0], y, f"{name} ", ha="right", va="center", color=LIGHT.text)
    for z, x_g in snapshot.arrows:
        lower.annotate(
            "", (x_g, 1), (z, 0), arrowprops={"arrowstyle": "->", "color": LIGHT.rule, "lw": 0.8}
        )
