"""Curves of a training, drawn from its events."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from advnets.views.curve_specs import ONE_BY_ONE, Watched, watched
from advnets.views.style import DARK, LIGHT, Theme, dress, legend, level, png, sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Event = Mapping[str, Any]


SCORES = {
    "parzen": ("Log-likelihood", "Parzen window, nats", "mean"),
    "frechet": ("Fréchet distance", "to test pictures", "value"),
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
    and `real_data`, that of real pictures, as a line; or a Fréchet distance, a divergence of modes
    or of points, a share of points of high quality.
    Ticks undone by a roll-back are not drawn; values that are not finite are left out, and the
    panel says how many.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    events = without_undone(events)
    ticks = [event for event in events if event.get("kind") == "tick"]
    scores = [event for event in events if event.get("kind") == "evaluate"]
    ink, x = (DARK if dark else LIGHT), _axis([*ticks, *scores])
    panels = 3 if scores else 2
    figure = sheet(6.0, 2.0 * panels, ink)
    first, second, *third = figure.subplots(panels, sharex=True)

    shown = watched(ticks) if ticks else ONE_BY_ONE
    if shown is None:
        _observed(first, second, ticks, x, ink)
    else:
        _verdict(shown, first, second, ticks, x, ink)

    for axes in third:
        metric = metric_of(scores)
        title, unit, key = SCORES[metric]
        dress(axes, title, unit, ink)
        if metric == "parzen" and real_data is not None and _finite(real_data):
            level(axes, real_data, f"real data: {real_data:,.0f}", ink)
        for (label, colour, style), some in _by_weights(scores, ink):
            _curve(axes, _Series.of(some, x, key), label, colour, style)
            _band(axes, some, x, key, colour)
        legend(axes, ink)

    figure.align_ylabels()
    last = third[-1] if third else second
    last.set_xlim(left=0)
    label = "epochs: passes over the training pictures" if x == "epoch" else "steps"
    last.set_xlabel(label, color=ink.text)
    return png(figure)


def _verdict(
    shown: Watched, first: Axes, second: Axes, ticks: Sequence[Event], x: str, ink: Theme
) -> None:
    dress(first, shown.title, shown.unit, ink)
    level(first, 0.5, "1/2: cannot tell", ink)
    styles = (ink.real, "-"), (ink.fake, "-.")
    for name, label, (colour, style) in zip(shown.verdicts, shown.labels, styles, strict=False):
        _curve(first, _Series.of(ticks, x, name), label, colour, style)
    first.set_ylim(-0.03, 1.03)
    legend(first, ink)

    dress(second, "Value of the game", "V(D, G), nats", ink)
    level(second, shown.best, f"{shown.best_in_words[0]}: the optimum", ink)
    _curve(second, _Series.of(ticks, x, shown.value), shown.formula, ink.real, "-")
    legend(second, ink)


def _observed(first: Axes, second: Axes, ticks: Sequence[Event], x: str, ink: Theme) -> None:
    """What another game observes, and what its players lose."""
    names = observed_names(ticks[-1]) if ticks else []
    losses = sorted(name for name in ticks[-1] if name.startswith(LOSS)) if ticks else []
    styles = [(ink.real, "-"), (ink.fake, "-."), (ink.text, ":")]
    for axes, title, some in ((first, "Observed", names), (second, "Losses", losses)):
        dress(axes, title, "mean over a tick", ink)
        for name, (colour, style) in zip(some, styles, strict=False):
            _curve(axes, _Series.of(ticks, x, name), name.removeprefix(LOSS), colour, style)
        if some:
            legend(axes, ink)


LOSS = "loss/"
_OF_EVERY_TICK = {
    *("step", "kind", "epoch", "seconds", "processor_seconds", "pictures_per_second"),
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


def _curve(axes: Axes, series: _Series, label: str, colour: str, style: str) -> None:
    dots = "o" if len(series.x) <= _FEW else None
    axes.plot(
        series.x, series.y, style, color=colour, marker=dots, markersize=3, label=label, lw=1.6
    )
    if series.left_out or not series.x:
        left_out = f"{series.left_out:,} of {label} not finite: left out"
        note = left_out if series.left_out else f"no {label} yet"
        height = 0.04 + 0.1 * len(axes.texts)
        axes.text(
            0.99, height, note, transform=axes.transAxes, color=colour, fontsize=8, ha="right"
        )


def metric_of(scores: Sequence[Event]) -> str:
    """The metric of the scores on the way: that of the newest."""
    return scores[-1].get("metric", "parzen")


def _by_weights(
    scores: Sequence[Event], ink: Theme
) -> Iterator[tuple[tuple[str, str, str], list[Event]]]:
    """Label, colour and style of the scores of each kept generator, and these scores."""
    looks = {
        "average": ("weight average", ink.score, "-"),
        "last": ("last weights", ink.fake, "-."),
    }
    for weights, look in looks.items():
        some = [event for event in scores if event.get("weights", "last") == weights]
        if some:
            yield look, some


def _band(axes: Axes, scores: Sequence[Event], x: str, key: str, colour: str) -> None:
    keys = x, key, "standard_error"
    known = [event for event in scores if all(_finite(event.get(key)) for key in keys)]
    positions, means, errors = ([event[key] for event in known] for key in keys)
    low = [mean - error for mean, error in zip(means, errors, strict=True)]
    high = [mean + error for mean, error in zip(means, errors, strict=True)]
    axes.fill_between(positions, low, high, color=colour, alpha=0.2, linewidth=0)
