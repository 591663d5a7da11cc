"""Section 6, the Helvetica scenario: G is trained too much without D, and its modes are counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from advnets.data.synthetic.mixtures import Ring
from advnets.paper.blocks import Check, FigureBlock, SectionContent, SectionContext, Table, Text
from advnets.plots.style import LIGHT, legend, new_figure, png, style_axes
from advnets.toy.ring_game import (
    EDGE,
    FULL,
    QUICK,
    RATIOS,
    SAMPLES,
    THERE,
    History,
    Points,
    Size,
    run_scenario,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def show(context: SectionContext) -> SectionContent:
    """The points as they collapse and come back, and how many modes there are on the way."""
    size = FULL if context.full else QUICK
    context.tell("the Helvetica scenario on a ring of 8 modes")
    seen = run_scenario(size, context.seed)
    before, after, end = seen.before, seen.after, seen.counts[-1]
    assert before is not None
    assert after is not None
    last = {ratio: counts[-1] for ratio, counts in seen.ratios.items()}
    return SectionContent(
        blocks=(
            Text(
                "$G$ must not be trained too much without updating $D$, the paper says, lest it "
                "collapse too many values of $z$ to the same value of $x$. A $D$ that stands still "
                "has some point that it takes for real most readily, and nothing tells a $G$ that "
                "plays alone to send its samples anywhere else: what keeps $p_g$ wide is only that "
                "$D$ moves too."
            ),
            Text(
                f"Data are 8 normal distributions on a circle. After {size.fair:,} fair rounds "
                f"$G$ plays alone for {size.alone:,} updates, its phase and no other; then the "
                f"game is fair again. A mode is counted if {THERE:.0%} of {SAMPLES:,} samples or "
                "more lie within 3 standard deviations of its center."
            ),
            _stills(context, seen),
            _curve(context, seen, size),
            _table(seen, size),
            Text(_in_words(seen)),
        ),
        checks=(
            Check("modes after the fair game", "8 of 8", f"{before.modes}", before.modes == 8),
            Check(
                f"modes after {size.alone:,} updates of $G$ alone",
                "half of them or fewer",
                f"{after.modes}",
                after.modes <= 4,
            ),
            Check(
                "$D$, which stands still, takes the samples for real more readily than before",
                "more",
                f"{before.verdict:.3f}, then {after.verdict:.3f}",
                after.verdict > before.verdict,
            ),
            Check(
                f"modes after {size.again:,} rounds of the fair game again",
                "7 of 8 or more",
                f"{end.modes}",
                end.modes >= 7,
            ),
            Check(
                f"{size.rationed:,} updates of $G$ with one of $D$ to each lose no mode",
                "8 of 8",
                f"{last[1].modes}",
                last[1].modes == 8,
            ),
        ),
    )


def _stills(context: SectionContext, seen: History) -> FigureBlock:
    columns = 4
    figure = new_figure(10.8, 5.9)
    places = figure.subplots(2, columns, squeeze=False).flatten()
    for axes, points in zip(places, seen.stills, strict=False):
        _draw(axes, points)
    for axes in places[len(seen.stills) :]:
        axes.axis("off")
    _key(figure, places[-1])
    alt = "Samples on a ring of 8 modes crowd into few of them while D stands still, and come back"
    caption = (
        "Samples (dots) over what $D$ says of the plane; circles are 3 standard deviations about "
        "the modes. While $D$ stands still, $G$ climbs to the nearest tops of $D(x)$, and stays."
    )
    return context.image("points.png", png(figure), alt, caption)


def _draw(axes: Axes, points: Points) -> None:
    style_axes(axes, points.title, "")
    axes.title.set_fontsize(9.5)
    axes.imshow(
        points.landscape,
        origin="lower",
        extent=(-EDGE, EDGE, -EDGE, EDGE),
        cmap="RdBu",
        vmin=0.0,
        vmax=1.0,
        alpha=0.55,
    )
    centers, sds, _ = Ring(sd=0.1).components()
    for (x, y), sd in zip(centers, sds, strict=True):
        t = np.linspace(0, 2 * np.pi, 60)
        axes.plot(x + 3 * sd * np.cos(t), y + 3 * sd * np.sin(t), color=LIGHT.text, lw=0.6)
    axes.plot(*points.x.T, ".", color=LIGHT.text, ms=1.6, alpha=0.35)
    axes.set_xlim(-EDGE, EDGE)
    axes.set_ylim(-EDGE, EDGE)
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])


def _key(figure: Figure, axes: Axes) -> None:
    """What the colors mean, in the last, empty place."""
    colors = figure.axes[0].images[0]
    bar = figure.colorbar(colors, cax=axes.inset_axes((0.05, 0.05, 0.1, 0.9)))
    bar.set_label("D(x), probability of real", color=LIGHT.text)
    bar.ax.tick_params(colors=LIGHT.text, labelsize=9)


def _curve(context: SectionContext, seen: History, size: Size) -> FigureBlock:
    figure = new_figure(8.4, 4.4)
    modes, fullest = figure.subplots(2, 1, sharex=True)
    x = [count.update for count in seen.counts]
    style_axes(modes, "Modes that G has", "of 8")
    modes.step(x, [count.modes for count in seen.counts], where="post", color=LIGHT.score, lw=1.6)
    modes.set_ylim(0, 8.6)
    style_axes(fullest, "What goes to the fullest mode", "share of samples", x="updates of G")
    share = [count.fullest for count in seen.counts]
    fullest.plot(x, share, color=LIGHT.fake, lw=1.6)
    fullest.axhline(1 / 8, color=LIGHT.rule, ls="--", lw=1.2)
    fullest.set_ylim(0, 1.05)
    for axes in (modes, fullest):
        label = "G alone" if axes is modes else None
        axes.axvspan(size.fair, size.fair + size.alone, color=LIGHT.rule, alpha=0.2, label=label)
    legend(modes)
    alt = "Modes fall while G plays alone and come back when D plays again"
    caption = "The same game, counted every ten updates; dashed, a mode's fair share, 1/8."
    return context.image("modes.png", png(figure), alt, caption)


def _in_words(seen: History) -> str:
    kept = [ratio for ratio in RATIOS if min(count.modes for count in seen.ratios[ratio]) == 8]
    until = (
        f"up to {max(kept)} updates of $G$ to one of $D$ no mode" if kept else "every ratio some"
    )
    return (
        f"With {until} was lost on the way. Few updates of $D$ go a long way here: where samples "
        "crowd, it lowers $D(x)$ at once, and $G$ moves on."
    )


def _table(seen: History, size: Size) -> Table:
    """All from the state after the fair game; the last row is the game of the images."""
    without = [c for c in seen.counts if size.fair < c.update <= size.fair + size.rationed]
    rows = {f"{ratio}:1": (size.rationed // ratio, seen.ratios[ratio]) for ratio in RATIOS}
    rows["G alone"] = (0, without)
    return Table(
        f"{size.rationed:,} updates of $G$ from the state after the fair game, $D$ moving less and "
        "less often: modes at the end, the fewest on the way, and the share of samples in the "
        "fullest at the end.",
        (
            "$G$ : $D$",
            "updates of $D$",
            "modes",
            "fewest on the way",
            "in the fullest",
        ),
        tuple(
            (
                name,
                f"{made:,}",
                f"{counts[-1].modes}",
                f"{min(count.modes for count in counts)}",
                f"{counts[-1].fullest:.0%}",
            )
            for name, (made, counts) in rows.items()
        ),
    )
