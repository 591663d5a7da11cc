"""Curves of a training, drawn from its events."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from advnets.plots.style import (
    DARK,
    LIGHT,
    Theme,
    legend,
    new_figure,
    png,
    reference_line,
    style_axes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Event = Mapping[str, Any]


SCORES = {
    "parzen": ("Log-likelihood", "Parzen window, nats", "mean"),
    "frechet": ("Fréchet distance", "to test images", "value"),
    "modes": ("KL of modes", "nats, to even shares", "kl_uniform"),
    "points": ("High quality", "share of points", "high_quality"),
    "divergence": ("KL to the density", "nats", "kl"),
}
"""Of each score on the way: its title, its unit and its number in the event."""
_FEW = 40  # points, up to which each gets a dot: a single one would show no line


@dataclass(frozen=True)
class _Series:
    """One observed value over the training, those that are not finite left out and counted."""

    x: list[float]
    y: list[float]
    left_out: int

    @classmethod
    def of(cls, events: Sequence[Event], x: str, y: str) -> _Series:
        seen = [(event[x], event[y]) for event in events if x in event and y in event]
        finite = [(float(a), float(b)) for a, b in seen if _finite(a) and _finite(b)]
        return cls([a for a, _ in finite], [b for _, b in finite], len(seen) - len(finite))


def training_curves(
    events: Sequence[Event], *, real_data: float | None = None, dark: bool = False
) -> bytes:
    """Draw what the events of a run say as a PNG of two or three panels over one axis.

    D(x) and D(G(z)) with the line 1/2, where D cannot tell; V(D, G) with the line -log 4, its value
    at the optimum (Goodfellow et al. 2014, theorem 1); where D judges pairs, D(x, G(z)) and V with
    the line -log 2; of a game that observes other things, these and its losses; and, where
    "evaluate" events are, the score on the way: the Parzen log-likelihood with its standard error
    and `real_data`, that of real images, as a line; or a Fréchet distance, a divergence of modes
    or of points, a share of points of high quality.
    Ticks undone by a roll-back are not drawn; values that are not finite are left out, and the
    panel says how many.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    events = without_undone(events)
    ticks = [event for event in events if event.get("kind") == "log"]
    scores = [event for event in events if event.get("kind") == "evaluate"]
    ink, x = (DARK if dark else LIGHT), _axis([*ticks, *scores])
    panels = 3 if scores else 2
    figure = new_figure(6.0, 2.0 * panels, ink)
    first, second, *third = figure.subplots(panels, sharex=True)

    shown = curve_spec(ticks) if ticks else ONE_BY_ONE
    if shown is None:
        _observed(first, second, ticks, x, ink)
    else:
        _verdict(shown, first, second, ticks, x, ink)

    for axes in third:
        metric = metric_of(scores)
        title, unit, key = SCORES[metric]
        style_axes(axes, title, unit, ink)
        if metric == "parzen" and real_data is not None and _finite(real_data):
            reference_line(axes, real_data, f"real data: {real_data:,.0f}", ink)
        for (label, color, style), some in _by_weights(scores, ink):
            _curve(axes, _Series.of(some, x, key), label, color, style)
            _band(axes, some, x, key, color)
        legend(axes, ink)

    figure.align_ylabels()
    last = third[-1] if third else second
    last.set_xlim(left=0)
    label = "epochs: passes over the training images" if x == "epoch" else "steps"
    last.set_xlabel(label, color=ink.text)
    return png(figure)


def _verdict(
    shown: CurveSpec, first: Axes, second: Axes, ticks: Sequence[Event], x: str, theme: Theme
) -> None:
    style_axes(first, shown.title, shown.unit, theme)
    reference_line(first, 0.5, "1/2: cannot tell", theme)
    styles = (theme.real, "-"), (theme.fake, "-.")
    for name, label, (color, style) in zip(shown.verdicts, shown.labels, styles, strict=False):
        _curve(first, _Series.of(ticks, x, name), label, color, style)
    first.set_ylim(-0.03, 1.03)
    legend(first, theme)

    style_axes(second, "Value of the game", "V(D, G), nats", theme)
    reference_line(second, shown.best, f"{shown.best_in_words[0]}: the optimum", theme)
    _curve(second, _Series.of(ticks, x, shown.value), shown.formula, theme.real, "-")
    legend(second, theme)


def _observed(first: Axes, second: Axes, ticks: Sequence[Event], x: str, theme: Theme) -> None:
    """What another game observes, and what its players lose."""
    names = observed_names(ticks[-1]) if ticks else []
    losses = sorted(name for name in ticks[-1] if name.startswith(LOSS)) if ticks else []
    styles = [(theme.real, "-"), (theme.fake, "-."), (theme.text, ":")]
    for axes, title, some in ((first, "Observed", names), (second, "Losses", losses)):
        style_axes(axes, title, "mean over a tick", theme)
        for name, (color, style) in zip(some, styles, strict=False):
            _curve(axes, _Series.of(ticks, x, name), name.removeprefix(LOSS), color, style)
        if some:
            legend(axes, theme)


LOSS = "loss/"
_OF_EVERY_TICK = {
    *("step", "kind", "epoch", "seconds", "processor_seconds", "images_per_second"),
}


def observed_names(tick: Event) -> list[str]:
    """What a game observes beside its losses, as a tick has it."""
    return [name for name in tick if name not in _OF_EVERY_TICK and not name.startswith(LOSS)]


def without_undone(events: Sequence[Event]) -> list[Event]:
    """The events less those that a later roll-back undid."""
    kept: list[Event] = []
    for event in events:
        if event.get("kind") == "rollback":
            back_to = event.get("step", 0)
            kept = [old for old in kept if old.get("step", 0) <= back_to]
        kept.append(event)
    return kept


def _axis(events: Sequence[Event]) -> str:
    """Epochs, unless some are missing or, as where a second stage begins, they start again."""
    in_order = sorted(events, key=lambda event: event.get("step", 0))
    epochs = [event["epoch"] for event in in_order if _finite(event.get("epoch"))]
    return "epoch" if len(epochs) == len(events) and epochs == sorted(epochs) else "step"


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _curve(axes: Axes, series: _Series, label: str, color: str, style: str) -> None:
    dots = "o" if len(series.x) <= _FEW else None
    axes.plot(
        series.x, series.y, style, color=color, marker=dots, markersize=3, label=label, lw=1.6
    )
    if series.left_out or not series.x:
        left_out = f"{series.left_out:,} of {label} not finite: left out"
        note = left_out if series.left_out else f"no {label} yet"
        height = 0.04 + 0.1 * len(axes.texts)
        axes.text(0.99, height, note, transform=axes.transAxes, color=color, fontsize=8, ha="right")


def metric_of(scores: Sequence[Event]) -> str:
    """The metric of the scores on the way: that of the newest."""
    return scores[-1].get("metric", "parzen")


def _by_weights(
    scores: Sequence[Event], theme: Theme
) -> Iterator[tuple[tuple[str, str, str], list[Event]]]:
    """Label, color and style of the scores of each kept generator, and these scores."""
    looks = {
        "ema": ("weight average", theme.score, "-"),
        "last": ("last weights", theme.fake, "-."),
    }
    for weights, look in looks.items():
        some = [event for event in scores if event.get("weights", "last") == weights]
        if some:
            yield look, some


def _band(axes: Axes, scores: Sequence[Event], x: str, key: str, color: str) -> None:
    keys = x, key, "standard_error"
    known = [event for event in scores if all(_finite(event.get(key)) for key in keys)]
    positions, means, errors = ([event[key] for event in known] for key in keys)
    low = [mean - error for mean, error in zip(means, errors, strict=True)]
    high = [mean + error for mean, error in zip(means, errors, strict=True)]
    axes.fill_between(positions, low, high, color=color, alpha=0.2, linewidth=0)


@dataclass(frozen=True)
class CurveSpec:
    """By which names ticks have it, how it is written, and what it is at the optimum."""

    title: str
    unit: str
    verdicts: Mapping[str, str]
    """Name in a tick to symbol: probabilities, each 1/2 at the optimum."""
    labels: Sequence[str]
    """Of their curves."""
    value: str
    """V's name in a tick …"""
    formula: str
    """… and what it is."""
    best: float
    best_in_words: tuple[str, str]
    """The same, short, and for a reader who hears the page."""
    at_the_optimum: str

    @property
    def symbols(self) -> dict[str, str]:
        """Name in a tick to symbol, of the verdicts and of V."""
        return {**self.verdicts, self.value: "V"}

    @property
    def alternative(self) -> str:
        """The curves in words."""
        what = " and ".join(self.verdicts.values())
        return (
            f"{what} with the line one half; {self.formula} with the line {self.best_in_words[1]}"
        )


ONE_BY_ONE = CurveSpec(
    title="Verdict of D",
    unit="probability of real",
    verdicts={"d_real": "D(x)", "d_fake": "D(G(z))"},
    labels=("real, D(x)", "samples, D(G(z))"),
    value="value",
    formula="V(D, G)",
    best=-math.log(4),
    best_in_words=("−log 4", "minus log 4"),
    at_the_optimum="D(x) = D(G(z)) = 1/2 and V(D, G) = −log\N{NO-BREAK SPACE}4",
)
PAIRS = CurveSpec(
    title="Verdict of D on pairs",
    unit="probability of real",
    verdicts={"d_pair": "D(x, G(z))"},
    labels=("D(x, G(z))",),
    value="value_pair",
    formula="E log D(x, G(z))",
    best=-math.log(2),
    best_in_words=("−log 2", "minus log 2"),
    at_the_optimum="D(x, G(z)) = 1/2, whose logarithm is −log\N{NO-BREAK SPACE}2",
)


def curve_spec(ticks: Sequence[Mapping[str, Any]]) -> CurveSpec | None:
    """Which of these ticks show, the newest first; None of a game that observes other things."""
    for tick in reversed(ticks):
        for some in (ONE_BY_ONE, PAIRS):
            if some.symbols.keys() & tick.keys():
                return some
    return None
