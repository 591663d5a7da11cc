"""Section 6, the Helvetica scenario: mode collapse when G is trained without updates of D."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from advnets import config, presets
from advnets.data.prepared import open_data
from advnets.data.synthetic.mixtures import Ring
from advnets.paper.blocks import Block, Check, SectionContent, SectionContext, Table, Text
from advnets.paper.toy import FixedUpdates, copy_state, make_state, train_player
from advnets.plots.style import LIGHT, legend, new_figure, png, style_axes
from advnets.protocols import Generator
from advnets.training.step import TrainState, train_step

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


def _snapshots(context: SectionContext, history: History) -> Block:
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


def _curve(context: SectionContext, history: History, size: Scale) -> Block:
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
        ("$G$ : $D$", "updates of $D$", "modes", "minimum", "largest fraction"),
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


RING_DATA = config.Data(source="ring:modes=8,sd=0.1,n=20000", normalize="none", batch_size=200)
MODE_THRESHOLD = 0.01
"""Fraction of samples within 3 standard deviations of a mode for it to count as covered."""
NUM_SAMPLES = 2000
UPDATE_RATIOS = (1, 5, 20, 100)
"""Numbers of updates of G for each update of D."""
PLOT_EXTENT = 1.75
"""Half the side of the plotted square around the origin."""


@dataclass(frozen=True)
class Scale:
    """Network widths and training lengths at one scale."""

    hidden_size: int
    joint_iterations: int
    """Iterations of joint training before G trains alone."""
    recovery_iterations: int
    """Iterations of joint training after that."""
    generator_updates: int
    """Updates of G alone."""
    ratio_updates: int
    """Updates of G in the runs with fewer updates of D."""


QUICK, FULL = Scale(64, 400, 800, 2000, 1000), Scale(128, 400, 800, 4000, 4000)


@dataclass(frozen=True)
class PlaneSnapshot:
    """Samples, and D over the plane, at one moment."""

    title: str
    samples: Float64[np.ndarray, "n 2"]
    probability: Float64[np.ndarray, "side side"]


@dataclass(frozen=True)
class ModeCount:
    """Mode coverage of the samples at one moment."""

    update: int
    """Updates of G since the beginning."""
    modes: int
    max_fraction: float
    """Fraction of the samples within 3 standard deviations of the most populated mode."""
    mean_probability: float
    """Mean D(G(z))."""


@dataclass
class History:
    """The results of one scenario: joint training, G alone, joint training again."""

    counts: list[ModeCount] = field(default_factory=list[ModeCount])
    snapshots: list[PlaneSnapshot] = field(default_factory=list[PlaneSnapshot])
    before: ModeCount | None = None
    after: ModeCount | None = None
    ratios: dict[int, list[ModeCount]] = field(default_factory=dict[int, list[ModeCount]])
    """Mode counts of the runs with unequal updates, by updates of G per update of D."""


@dataclass(frozen=True)
class RingGame:
    """A two-dimensional game, the ring that its data are drawn from, and fixed latents."""

    state: TrainState
    ring: Ring
    z: Tensor

    @classmethod
    def create(cls, hidden_size: int, seed: int) -> RingGame:
        """Return the game of preset `points` with smaller networks."""
        stage = presets.get_preset("points").stage
        assert isinstance(stage.generator, config.MLPGenerator)
        assert isinstance(stage.discriminator, config.MaxoutDiscriminator)
        stage = replace(
            stage,
            generator=replace(stage.generator, hidden_sizes=(hidden_size, hidden_size)),
            discriminator=replace(stage.discriminator, hidden_sizes=(hidden_size, hidden_size)),
        )
        prepared = open_data(RING_DATA)
        state = make_state(stage, RING_DATA, prepared, seed)
        z = cast(Generator, state.players["generator"]).latent(
            NUM_SAMPLES, state.rng.fold_in("looks")
        )
        return cls(state, cast(Ring, prepared.dataset.distribution), z)

    def samples(self) -> Float64[np.ndarray, "n 2"]:
        """Return G(z) for the fixed latents."""
        with torch.no_grad():
            return self.state.players["generator"](self.z).flatten(1).double().numpy()

    def count_modes(self, update: int) -> ModeCount:
        """Return the mode coverage after `update` updates of G."""
        x = self.samples()
        fractions = count_per_mode(x, self.ring) / len(x)
        probability = float(self.discriminator_probability(torch.from_numpy(x)).mean())
        return ModeCount(
            update, int((fractions >= MODE_THRESHOLD).sum()), float(fractions.max()), probability
        )

    def discriminator_probability(self, x: Float[Tensor, "n 2"]) -> Float[Tensor, " n"]:
        """Return D(x)."""
        with torch.no_grad():
            points = x.float()[:, :, None, None]
            return torch.sigmoid(self.state.players["discriminator"](points)).double()

    def snapshot(self, title: str, side: int = 80) -> PlaneSnapshot:
        """Return the samples and D on a `side` x `side` grid."""
        line = torch.linspace(-PLOT_EXTENT, PLOT_EXTENT, side)
        y, x = torch.meshgrid(line, line, indexing="ij")
        d = self.discriminator_probability(torch.stack((x, y), -1).flatten(0, 1))
        return PlaneSnapshot(title, self.samples(), d.view(side, side).numpy())


def count_per_mode(x: Float64[np.ndarray, "n 2"], ring: Ring) -> Int64[np.ndarray, " modes"]:
    """Count the points within 3 standard deviations of each mode, each in its nearest mode only."""
    centers, sds, _ = ring.components()
    distances = np.linalg.norm(x[:, None] - centers, axis=2)
    nearest = distances.argmin(1)
    inside = distances.min(1) <= 3 * sds[nearest]
    return np.bincount(nearest[inside], minlength=len(centers)).astype(np.int64)


def run_scenario(scale: Scale, seed: int = 0) -> History:
    """Run joint training, G alone and joint training again, then every update ratio.

    The update ratios start from the state after the first joint training.
    """
    game, history = RingGame.create(scale.hidden_size, seed), History()
    state = game.state
    # Train both players jointly.
    for number in range(scale.joint_iterations + 1):
        if number:
            train_step(state)
        if number % 10 == 0:
            history.counts.append(game.count_modes(number))
    history.before = history.counts[-1]
    history.snapshots.append(game.snapshot("after joint training"))
    initial_state = copy_state(state)
    snapshot_updates = {
        scale.generator_updates // 20,
        scale.generator_updates // 4,
        scale.generator_updates,
    }

    def record(number: int) -> None:
        if number % 10 == 0:
            history.counts.append(game.count_modes(scale.joint_iterations + number))
        if number in snapshot_updates:
            history.snapshots.append(game.snapshot(f"G alone, {number:,} updates"))

    # Train G alone.
    train_player(state, "generator", scale.generator_updates, record)
    history.after = history.counts[-1]
    # Train both players again.
    snapshot_updates = {10, 50, scale.recovery_iterations}
    for number in range(1, scale.recovery_iterations + 1):
        train_step(state)
        if number % 10 == 0:
            history.counts.append(
                game.count_modes(scale.joint_iterations + scale.generator_updates + number)
            )
        if number in snapshot_updates:
            history.snapshots.append(game.snapshot(f"joint again, {number:,} iterations"))
    # Repeat from the state after joint training, with fewer updates of D.
    for ratio in UPDATE_RATIOS:
        history.ratios[ratio] = _train_with_ratio(
            replace(game, state=copy_state(initial_state)), ratio, scale.ratio_updates
        )
    return history


def _train_with_ratio(game: RingGame, ratio: int, updates: int) -> list[ModeCount]:
    """Continue training with `ratio` updates of G for each update of D."""
    state = game.state
    state.game = FixedUpdates(state.game, {"discriminator": 1, "generator": ratio})
    counts: list[ModeCount] = []
    for number in range(1, updates // ratio + 1):
        train_step(state)
        if number % max(1, 20 // ratio) == 0:
            counts.append(game.count_modes(number * ratio))
    return counts
