"""Section 6, the Helvetica scenario: mode collapse when G is trained without updates of D."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from advnets.data.synthetic.mixtures import Ring
from advnets.paper.blocks import Check, FigureBlock, SectionContent, SectionContext, Table, Text
from advnets.plots.style import LIGHT, legend, new_figure, png, style_axes
from advnets.toy.ring_game import (
    FULL,
    MODE_THRESHOLD,
    NUM_SAMPLES,
    PLOT_EXTENT,
    QUICK,
    UPDATE_RATIOS,
    History,
    PlaneSnapshot,
    Scale,
    run_scenario,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def build(context: SectionContext) -> SectionContent:
    """Build the section: samples and mode counts while G collapses and recovers."""
    size = FULL if context.full else QUICK
    context.log("the Helvetica scenario on a ring of 8 modes")
    history = run_scenario(size, context.seed)
    before, after, end = history.before, history.after, history.counts[-1]
    assert before is not None
    assert after is not None
    last = {ratio: counts[-1] for ratio, counts in history.ratios.items()}
    return SectionContent(
        blocks=(
            Text(
                "The paper warns that $G$ must not be trained too much without updating $D$, or "
                "it collapses too many values of $z$ to the same value of $x$. A fixed $D$ has "
                "points that it rates as most likely real, and $G$ alone has no reason to place "
                "its samples anywhere else; only updates of $D$ keep $p_g$ diverse."
            ),
            Text(
                f"The data are 8 normal distributions on a circle. After {size.joint_iterations:,} "
                "iterations of joint training, $G$ alone is trained for "
                f"{size.generator_updates:,} updates; then both are trained again. A mode counts "
                f"as covered if at least {MODE_THRESHOLD:.0%} of {NUM_SAMPLES:,} samples are "
                "within 3 standard deviations of its center."
            ),
            _snapshots(context, history),
            _curve(context, history, size),
            _table(history, size),
            Text(_discussion(history)),
        ),
        checks=(
            Check("modes after joint training", "8 of 8", f"{before.modes}", before.modes == 8),
            Check(
                f"modes after {size.generator_updates:,} updates of $G$ alone",
                "at most 4",
                f"{after.modes}",
                after.modes <= 4,
            ),
            Check(
                "the fixed $D$ rates the samples as more real than before: mean $D(G(z))$",
                "increases",
                f"from {before.mean_probability:.3f} to {after.mean_probability:.3f}",
                after.mean_probability > before.mean_probability,
            ),
            Check(
                f"modes after {size.recovery_iterations:,} iterations of joint training again",
                "at least 7 of 8",
                f"{end.modes}",
                end.modes >= 7,
            ),
            Check(
                f"modes after {size.ratio_updates:,} updates of $G$ with one update of $D$ for "
                "each",
                "8 of 8",
                f"{last[1].modes}",
                last[1].modes == 8,
            ),
        ),
    )


def _snapshots(context: SectionContext, history: History) -> FigureBlock:
    columns = 4
    figure = new_figure(10.8, 5.9)
    panels = figure.subplots(2, columns, squeeze=False).flatten()
    for axes, points in zip(panels, history.snapshots, strict=False):
        _draw(axes, points)
    for axes in panels[len(history.snapshots) :]:
        axes.axis("off")
    _colorbar(figure, panels[-1])
    alt = "Samples on a ring of 8 modes collapse to few of them while D is fixed, and recover"
    caption = (
        "Samples (dots) over $D(x)$; circles are 3 standard deviations around the modes. While "
        "$D$ is fixed, $G$ moves its samples to the nearest maxima of $D(x)$."
    )
    return context.save_image("points.png", png(figure), alt, caption)


def _draw(axes: Axes, snapshot: PlaneSnapshot) -> None:
    style_axes(axes, snapshot.title, "")
    axes.title.set_fontsize(9.5)
    axes.imshow(
        snapshot.probability,
        origin="lower",
        extent=(-PLOT_EXTENT, PLOT_EXTENT, -PLOT_EXTENT, PLOT_EXTENT),
        cmap="RdBu",
        vmin=0.0,
        vmax=1.0,
        alpha=0.55,
    )
    centers, sds, _ = Ring(sd=0.1).components()
    for (x, y), sd in zip(centers, sds, strict=True):
        t = np.linspace(0, 2 * np.pi, 60)
        axes.plot(x + 3 * sd * np.cos(t), y + 3 * sd * np.sin(t), color=LIGHT.text, lw=0.6)
    axes.plot(*snapshot.samples.T, ".", color=LIGHT.text, ms=1.6, alpha=0.35)
    axes.set_xlim(-PLOT_EXTENT, PLOT_EXTENT)
    axes.set_ylim(-PLOT_EXTENT, PLOT_EXTENT)
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])


def _colorbar(figure: Figure, axes: Axes) -> None:
    """Draw the color scale of D into the last, empty panel."""
    colors = figure.axes[0].images[0]
    bar = figure.colorbar(colors, cax=axes.inset_axes((0.05, 0.05, 0.1, 0.9)))
    bar.set_label("D(x), probability of real", color=LIGHT.text)
    bar.ax.tick_params(colors=LIGHT.text, labelsize=9)


def _curve(context: SectionContext, history: History, size: Scale) -> FigureBlock:
    figure = new_figure(8.4, 4.4)
    modes, concentration = figure.subplots(2, 1, sharex=True)
    x = [count.update for count in history.counts]
    style_axes(modes, "Modes covered by G", "of 8")
    modes.step(
        x, [count.modes for count in history.counts], where="post", color=LIGHT.score, lw=1.6
    )
    modes.set_ylim(0, 8.6)
    style_axes(concentration, "Most populated mode", "fraction of samples", x="updates of G")
    fraction = [count.max_fraction for count in history.counts]
    concentration.plot(x, fraction, color=LIGHT.fake, lw=1.6)
    concentration.axhline(1 / 8, color=LIGHT.rule, ls="--", lw=1.2)
    concentration.set_ylim(0, 1.05)
    for axes in (modes, concentration):
        label = "G alone" if axes is modes else None
        axes.axvspan(
            size.joint_iterations,
            size.joint_iterations + size.generator_updates,
            color=LIGHT.rule,
            alpha=0.2,
            label=label,
        )
    legend(modes)
    alt = "The number of modes falls while G trains alone and recovers when D trains again"
    caption = (
        "The same training, evaluated every ten updates; dashed, the fraction of one mode "
        "in the data, 1/8."
    )
    return context.save_image("modes.png", png(figure), alt, caption)


def _discussion(history: History) -> str:
    stable = [
        ratio for ratio in UPDATE_RATIOS if min(count.modes for count in history.ratios[ratio]) == 8
    ]
    result = (
        f"up to {max(stable)} updates of $G$ for one of $D$, no mode"
        if stable
        else "every ratio, some mode"
    )
    return (
        f"With {result} was lost during training. Few updates of $D$ are enough here: where "
        "samples concentrate, one update lowers $D(x)$, and $G$ moves on."
    )


def _table(history: History, size: Scale) -> Table:
    """Return the table of update ratios; its last row is the run of the figures."""
    generator_only = [
        c
        for c in history.counts
        if size.joint_iterations < c.update <= size.joint_iterations + size.ratio_updates
    ]
    rows = {
        f"{ratio}:1": (size.ratio_updates // ratio, history.ratios[ratio])
        for ratio in UPDATE_RATIOS
    }
    rows["G alone"] = (0, generator_only)
    return Table(
        f"{size.ratio_updates:,} updates of $G$ from the state after joint training, with fewer "
        "and fewer updates of $D$: modes at the end, the minimum during training, and the "
        "fraction of samples in the most populated mode at the end.",
        (
            "$G$ : $D$",
            "updates of $D$",
            "modes",
            "minimum",
            "largest fraction",
        ),
        tuple(
            (
                name,
                f"{n_updates:,}",
                f"{counts[-1].modes}",
                f"{min(count.modes for count in counts)}",
                f"{counts[-1].max_fraction:.0%}",
            )
            for name, (n_updates, counts) in rows.items()
        ),
    )
