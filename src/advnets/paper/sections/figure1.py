"""Figure 1: p_data, p_g and D on a line, while the game is played."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from advnets.paper.blocks import Check, FigureBlock, SectionContent, SectionContext, Text
from advnets.plots.style import LIGHT, legend, new_figure, png, style_axes
from advnets.toy.line_game import NETS, Cells, LineGame, Snapshot, best_response, make_line_game
from advnets.training.step import StepMetrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SOURCE = "gaussian:mean=2,n=1000000"
"""p_data: the standard normal about 2; of a million points the tails are even."""
CELLS = Cells(-4.0, 8.0)
FIRST_LOOKS, TO_OPTIMUM, AT_THE_END = 8, 1000, 2000
"""Updates of D alone before stills (a), (b) and (d)."""
FLOWING = 12
"""Rounds between stills (b) and (c)."""
FRAME_EVERY = 1.12
"""Frames are taken at rounds that grow by this factor: most happens at the beginning."""


@dataclass
class History:
    """What was seen of one game on the line."""

    stills: dict[str, Snapshot] = field(default_factory=dict[str, Snapshot])
    frames: list[tuple[str, Snapshot]] = field(default_factory=list[tuple[str, Snapshot]])
    observed: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    """Values of each round, by name."""


@cache
def story(seed: int = 0) -> History:
    """Play the game and look on; the two parts that show it share one game."""
    line, told = make_line_game(SOURCE, CELLS, seed=seed), History()
    best_response(line.state, FIRST_LOOKS)
    told.stills["a"] = line.snapshot()
    best_response(line.state, TO_OPTIMUM)
    told.stills["b"] = line.snapshot()
    told.frames = [("D alone", told.stills["a"]), ("D alone, to its optimum", told.stills["b"])]
    rounds = NETS.steps or 0
    looked_at = _frame_rounds(rounds)

    def watch(number: int, shown: StepMetrics) -> None:
        for name, value in shown.metrics.items():
            told.observed.setdefault(name, []).append(float(value))
        if number == FLOWING:
            told.stills["c"] = line.snapshot()
        if number in looked_at:
            told.frames.append((f"round {number}", line.snapshot()))

    line.train(rounds, watch)
    told.stills["d"] = _at_rest(line)
    told.frames += [("the end, D to its optimum", told.stills["d"])] * 4
    return told


def show(context: SectionContext) -> SectionContent:
    """Stills (a) to (d), and the animation."""
    context.tell("the game on a line")
    told = story(context.seed)
    b, d = told.stills["b"], told.stills["d"]
    flat = float(np.abs(b.discriminator - 0.5)[b.seen].max())
    return SectionContent(
        blocks=(
            Text(
                "Data are drawn from the dotted density, $p_{data}$; $G$ sends $z$ along the "
                "arrows, crowding them where its density $p_g$, solid, is high. $D$, dashed, tells "
                "the two apart; thin, the best that any $D$ could do: "
                r"$D^*(x) = p_{data}(x) / (p_{data}(x) + p_g(x))$."
            ),
            _stills(context, told),
            _animation(context, told),
            Text(
                "Both nets have two hidden layers of 64 tanh units and are trained by Algorithm 1 "
                "as every preset is (k = 5, Adam); $p_g$ is computed from 500,000 values of $z$, "
                "and $D^*$ from the two densities, never from $D$. The paper's sketch draws $z$ "
                "from a uniform distribution; here it is normal. A uniform $z$ has ends, which "
                "$G$ must stretch without bound to give $p_g$ its tails, and it learns those last."
            ),
        ),
        checks=(
            Check(
                "still (b): $p_g$ is far from $p_{data}$",
                "JSD at least .2 nats",
                f"{b.divergence:.3f}",
                b.divergence >= 0.2,
            ),
            Check(
                "still (b): $D$ has become $D^*$ wherever $p_{data} + p_g > .01$",
                "within .05",
                f"{b.error:.3f}",
                b.error <= 0.05,
            ),
            Check(
                "still (b): $D$ is not flat", "a .3 from 1/2 somewhere", f"{flat:.2f}", flat >= 0.3
            ),
            Check(
                "at the end $p_g$ is $p_{data}$",
                "JSD at most .005 nats",
                f"{d.divergence:.5f}",
                d.divergence <= 0.005,
            ),
            Check(
                "at the end $D$ is $D^*$ wherever $p_{data} + p_g > .01$",
                "within .03",
                f"{d.error:.3f}",
                d.error <= 0.03,
            ),
        ),
    )


def _at_rest(line: LineGame) -> Snapshot:
    """How it looks when G has stopped and D has had the time to answer."""
    best_response(line.state, AT_THE_END)
    return line.snapshot()


def _frame_rounds(rounds: int) -> set[int]:
    """1, 2, 3 … and then rounds ever farther apart, to the last."""
    chosen, at = {rounds}, 1.0
    while at < rounds:
        chosen.add(round(at))
        at = max(at + 1, at * FRAME_EVERY)
    return chosen


def _stills(context: SectionContext, told: History) -> FigureBlock:
    titles = {
        "a": "(a) D begins",
        "b": "(b) D at its optimum",
        "c": f"(c) {FLOWING} updates of G later",
        "d": "(d) the end",
    }
    figure = new_figure(11.2, 4.0)
    rows = figure.subplots(2, len(titles), height_ratios=(3, 1), sharex=True, squeeze=False)
    for column, (name, title) in enumerate(titles.items()):
        _draw(rows[0][column], rows[1][column], told.stills[name], title)
        rows[0][column].set_ylabel("" if column else "probability, density")
    legend(rows[0][0], columns=4)
    rows[0][0].get_legend().set_bbox_to_anchor((0.0, 1.12))
    rows[0][0].get_legend().set_loc("lower left")
    alt = "Four stills: p_g moves onto p_data, and D from D* to one half"
    caption = (
        "Our Figure 1. (a) $D$ has made a few updates. (b) $G$ stands still while $D$ is trained "
        "to its optimum $D^*$. (c) Led by the slope of $D$, $G$ has flowed to where $D$ takes its "
        "samples for data. (d) Neither can improve: $p_g = p_{data}$ and $D = 1/2$."
    )
    return context.image("stills.png", png(figure), alt, caption)


def _animation(context: SectionContext, told: History) -> FigureBlock:
    frames = [_frame(sight, title) for title, sight in told.frames]
    file = io.BytesIO()
    frames[0].save(
        file, format="GIF", save_all=True, append_images=frames[1:], duration=220, loop=0
    )
    alt = "Animation: p_g flows onto p_data while D flattens to one half"
    caption = f"The same game in {len(frames)} frames, closer together where more happens."
    return context.image("game.gif", file.getvalue(), alt, caption)


def _frame(sight: Snapshot, title: str) -> Image.Image:
    figure: Figure = new_figure(5.6, 4.0)
    upper, lower = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    _draw(upper, lower, sight, title)
    legend(upper, columns=4)
    with Image.open(io.BytesIO(png(figure))) as image:
        # One palette without dithering keeps flat grounds flat, and the file small.
        return image.convert("RGB").quantize(32, dither=Image.Dither.NONE)


def _draw(upper: Axes, lower: Axes, sight: Snapshot, title: str) -> None:
    x = sight.cells.middles
    style_axes(upper, title, "probability, density")
    told: Sequence[tuple[str, np.ndarray, str, str, float]] = (
        ("data", sight.p_data, LIGHT.text, ":", 1.8),
        ("$p_g$", sight.p_g, LIGHT.score, "-", 1.8),
        ("D", sight.discriminator, LIGHT.real, "--", 1.8),
        ("D*", np.where(sight.seen, sight.optimal, np.nan), LIGHT.fake, "-", 0.9),
    )
    for label, curve, color, style, width in told:
        upper.plot(x, curve, style, color=color, lw=width, label=label)
    upper.set_ylim(-0.03, 1.05)
    lower.axis("off")
    for y, name in ((0, "z"), (1, "x")):
        lower.plot(x[[0, -1]], (y, y), color=LIGHT.text, lw=1)
        lower.text(x[0], y, f"{name} ", ha="right", va="center", color=LIGHT.text)
    for z, sent in sight.arrows:
        lower.annotate(
            "", (sent, 1), (z, 0), arrowprops={"arrowstyle": "->", "color": LIGHT.rule, "lw": 0.8}
        )
