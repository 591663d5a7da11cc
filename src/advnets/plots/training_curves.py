"""Training curves, plotted from the events of a run."""

from __future__ import annotations

import math
import textwrap
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

LOSS_PREFIX = "loss/"
_COMMON_KEYS = {"step", "kind", "epoch", "seconds", "cpu_seconds", "images_per_second"}
"""Keys of "log" events of every game."""
_MAX_MARKERS = 40
"""The number of points up to which each has a marker; a single point draws no line."""


@dataclass(frozen=True)
class MetricCurve:
    """The title, unit and value of the training curve of a metric."""

    title: str
    unit: str
    value: str
    """The key of the value in "evaluate" events."""


PARZEN_CURVE = MetricCurve("Log-likelihood", "Parzen window, nats", "mean")


@dataclass(frozen=True)
class CurveSpec:
    """The curves of a kind of discriminator output: keys of "log" events, labels and optimum."""

    title: str
    unit: str
    probabilities: Mapping[str, str]
    """Symbols of probabilities, each 1/2 at the optimum, by key."""
    labels: Sequence[str]
    """Labels of the probabilities' curves."""
    value: str
    """Key of the value V of the game."""
    formula: str
    """Formula of V."""
    value_optimum: float
    """V at the optimum."""
    value_optimum_text: tuple[str, str]
    """V at the optimum as a symbol, and in words for a screen reader."""
    optimum: str
    """Equations that hold at the optimum."""

    @property
    def symbols(self) -> dict[str, str]:
        """The symbols of the probabilities and of V, by key."""
        return {**self.probabilities, self.value: "V"}

    @property
    def alt_text(self) -> str:
        """A description of the curves for the alt attribute of the image."""
        names = " and ".join(self.probabilities.values())
        return (
            f"{names} with the line one half; {self.formula} with the line "
            f"{self.value_optimum_text[1]}"
        )


SINGLE_SAMPLES = CurveSpec(
    title="Output of D",
    unit="probability of real",
    probabilities={"d_real": "D(x)", "d_fake": "D(G(z))"},
    labels=("real, D(x)", "samples, D(G(z))"),
    value="value",
    formula="V(D, G)",
    value_optimum=-math.log(4),
    value_optimum_text=("−log 4", "minus log 4"),
    optimum="D(x) = D(G(z)) = 1/2 and V(D, G) = −log\N{NO-BREAK SPACE}4",
)
PAIRS = CurveSpec(
    title="Output of D for pairs",
    unit="probability of real",
    probabilities={"d_pair": "D(x, G(z))"},
    labels=("D(x, G(z))",),
    value="value_pair",
    formula="E log D(x, G(z))",
    value_optimum=-math.log(2),
    value_optimum_text=("−log 2", "minus log 2"),
    optimum="D(x, G(z)) = 1/2 and E log D(x, G(z)) = −log\N{NO-BREAK SPACE}2",
)


def curve_spec(logs: Sequence[Event]) -> CurveSpec | None:
    """Return the curves that the newest "log" events have; None for games with other metrics."""
    for event in reversed(logs):
        for spec in (SINGLE_SAMPLES, PAIRS):
            if spec.symbols.keys() & event.keys():
                return spec
    return None


def metric_names(log: Event) -> list[str]:
    """Return the names of a game's own metrics in a "log" event, without the losses."""
    return [name for name in log if name not in _COMMON_KEYS and not name.startswith(LOSS_PREFIX)]


def eval_metric(evaluations: Sequence[Event]) -> str:
    """Return the metric of the newest "evaluate" event."""
    return evaluations[-1].get("metric", "parzen")


def without_rolled_back(events: Sequence[Event]) -> list[Event]:
    """Return the events without those that a later roll-back has undone."""
    kept: list[Event] = []
    for event in events:
        if event.get("kind") == "rollback":
            step = event.get("step", 0)
            kept = [earlier for earlier in kept if earlier.get("step", 0) <= step]
        kept.append(event)
    return kept


@dataclass(frozen=True)
class _Series:
    """The finite values of a metric over training, and the number of values not finite."""

    x: list[float]
    y: list[float]
    num_not_finite: int

    @classmethod
    def from_events(cls, events: Sequence[Event], x: str, y: str) -> _Series:
        pairs = [(event[x], event[y]) for event in events if x in event and y in event]
        finite = [(float(a), float(b)) for a, b in pairs if _is_finite(a) and _is_finite(b)]
        return cls([a for a, _ in finite], [b for _, b in finite], len(pairs) - len(finite))


def training_curves(
    events: Sequence[Event],
    *,
    metric_curve: MetricCurve | None = PARZEN_CURVE,
    real_data: float | None = None,
    dark: bool = False,
) -> bytes:
    """Plot the events of a run as a PNG file with two or three panels.

    The first panel shows D(x) and D(G(z)) with the line 1/2, the second V(D, G) with the line
    -log 4, its value at the optimum (Goodfellow et al. 2014, theorem 1); if D compares pairs, they
    show D(x, G(z)) and V with the line -log 2; for games with other metrics, these and the losses.
    With "evaluate" events the third panel shows their metric, as `metric_curve` describes it; for
    the Parzen log-likelihood with standard errors and with `real_data`, the log-likelihood of real
    images, as a line. Events that a roll-back has undone are omitted, and so are values that are
    not finite, whose number is written on the panel.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    events = without_rolled_back(events)
    logs = [event for event in events if event.get("kind") == "log"]
    evaluations = [event for event in events if event.get("kind") == "evaluate"]
    theme, x = (DARK if dark else LIGHT), _x_key([*logs, *evaluations])
    panels = 3 if evaluations and metric_curve else 2
    figure = new_figure(6.0, 2.0 * panels, theme)
    first, second, *third = figure.subplots(panels, sharex=True)

    # Plot D's output and V, or the game's own metrics and losses.
    spec = curve_spec(logs) if logs else SINGLE_SAMPLES
    if spec is None:
        _plot_metrics(first, second, logs, x, theme)
    else:
        _plot_discriminator(spec, first, second, logs, x, theme)

    # Plot the metric of evaluations during training.
    for axes in third:
        assert metric_curve is not None
        metric, key = eval_metric(evaluations), metric_curve.value
        style_axes(axes, metric_curve.title, metric_curve.unit, theme)
        if metric == "parzen" and real_data is not None and _is_finite(real_data):
            reference_line(axes, real_data, f"real data: {real_data:,.0f}", theme)
        for (label, color, style), events_of_weights in _by_weights(evaluations, theme):
            _plot_series(axes, _Series.from_events(events_of_weights, x, key), label, color, style)
            _plot_band(axes, events_of_weights, x, key, color)
        legend(axes, theme)

    figure.align_ylabels()
    last = third[-1] if third else second
    last.set_xlim(left=0)
    label = "epochs" if x == "epoch" else "steps"
    last.set_xlabel(label, color=theme.text)
    return png(figure)


@dataclass(frozen=True)
class RunCurve:
    """The curve of one run in a figure of several."""

    title: str
    """The title of its panel."""
    unit: str
    label: str
    events: Sequence[Event]
    value: str
    """The key of the value in the events."""
    images_per_step: int


def run_curves(curves: Sequence[RunCurve]) -> bytes:
    """Plot curves of several runs as a PNG file, with a panel for each title.

    The x axis is the number of real examples that D was shown. Curves with the same label have one
    color and line style, which no other label has, up to 32 labels. The legend is beside the
    panel, or below it for more than four labels or long ones.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    panels: dict[str, list[tuple[RunCurve, _Series]]] = {}
    most = 0.0
    for curve in curves:
        series = _Series.from_events(curve.events, "step", curve.value)
        panels.setdefault(curve.title, []).append((curve, series))
        most = max([most, *(step * curve.images_per_step for step in series.x)])
    scale, millions = (1e6, ", millions") if most >= 1e6 else (1.0, "")

    # Below a panel of many labels, or of long ones, there is room for the lines of its legend.
    labels = {
        title: list(dict.fromkeys(curve.label for curve, _ in in_panel))
        for title, in_panel in panels.items()
    }
    heights: list[float] = []
    for names in labels.values():
        heights.append(2.0)
        if not _fits_beside(names):
            lines = max(_wrap(name).count("\n") + 1 for name in names)
            heights.append(_LEGEND_LINE * lines * (len(names) // _legend_columns(names) + 1))
    figure = new_figure(5.6, sum(heights))
    every_axes = iter(figure.subplots(len(heights), squeeze=False, height_ratios=heights)[:, 0])
    for title, in_panel in panels.items():
        axes, unit, unlabeled = next(every_axes), in_panel[0][0].unit, {*labels[title]}
        style_axes(axes, title, unit, x=f"real examples shown{millions}")
        for curve, series in in_panel:
            x = [step * curve.images_per_step / scale for step in series.x]
            color, style = _curve_style(labels[title].index(curve.label))
            label = _wrap(curve.label) if curve.label in unlabeled else None
            unlabeled.discard(curve.label)
            axes.plot(x, series.y, style, color=color, marker="o", ms=2, lw=1.2, label=label)
        if unit == SINGLE_SAMPLES.unit:
            reference_line(axes, 0.5, "1/2: optimum")
        if _fits_beside(labels[title]):
            # A long title leaves no room beside it, and in the panel it would cover points.
            legend(axes, columns=1, corner="upper left")
            axes.get_legend().set_bbox_to_anchor((1.0, 1.0))
            continue
        below, (handles, texts) = next(every_axes), axes.get_legend_handles_labels()
        below.axis("off")
        columns = _legend_columns(labels[title])
        legend(below, columns=columns, corner="upper left", handles=handles, labels=texts)
    return png(figure)


_LEGEND_LINE = 0.19
"""The height of a line of a legend, in inches."""
_LEGEND_WIDTH, _WIDTH_BESIDE, _HANDLE_WIDTH = 66, 24, 7
"""The widths of a legend below and of a label beside a panel, and of a line in a legend, in
characters."""


def _fits_beside(labels: Sequence[str]) -> bool:
    """Return whether a legend fits beside its panel."""
    return len(labels) <= len(LIGHT.hues) and max(map(len, labels)) <= _WIDTH_BESIDE


def _legend_columns(labels: Sequence[str]) -> int:
    """Return the number of columns of a legend that fit below a panel."""
    return max(1, _LEGEND_WIDTH // (max(map(len, labels)) + _HANDLE_WIDTH))


def _wrap(label: str) -> str:
    """Return a label in lines that are no wider than the figure."""
    return "\n".join(textwrap.wrap(label, _LEGEND_WIDTH - _HANDLE_WIDTH))


def _curve_style(number: int) -> tuple[str, str]:
    """Return the color and line style of a label in a panel."""
    hues, styles = (*LIGHT.hues, *DARK.hues), ("-", "--", ":", "-.")
    return hues[number % len(hues)], styles[number // len(hues) % len(styles)]


def _plot_discriminator(
    spec: CurveSpec, first: Axes, second: Axes, logs: Sequence[Event], x: str, theme: Theme
) -> None:
    style_axes(first, spec.title, spec.unit, theme)
    reference_line(first, 0.5, "1/2: optimum", theme)
    styles = (theme.real, "-"), (theme.fake, "-.")
    for name, label, (color, style) in zip(spec.probabilities, spec.labels, styles, strict=False):
        _plot_series(first, _Series.from_events(logs, x, name), label, color, style)
    first.set_ylim(-0.03, 1.03)
    legend(first, theme)

    style_axes(second, "Value of the game", "V(D, G), nats", theme)
    reference_line(second, spec.value_optimum, f"{spec.value_optimum_text[0]}: optimum", theme)
    _plot_series(second, _Series.from_events(logs, x, spec.value), spec.formula, theme.real, "-")
    legend(second, theme)


def _plot_metrics(first: Axes, second: Axes, logs: Sequence[Event], x: str, theme: Theme) -> None:
    """Plot up to three metrics of a game in the first panel and its losses in the second."""
    metrics = metric_names(logs[-1]) if logs else []
    losses = sorted(name for name in logs[-1] if name.startswith(LOSS_PREFIX)) if logs else []
    styles = [(theme.real, "-"), (theme.fake, "-."), (theme.text, ":")]
    for axes, title, names in ((first, "Metrics", metrics), (second, "Losses", losses)):
        style_axes(axes, title, "mean of an interval", theme)
        for name, (color, style) in zip(names, styles, strict=False):
            _plot_series(
                axes,
                _Series.from_events(logs, x, name),
                name.removeprefix(LOSS_PREFIX),
                color,
                style,
            )
        if names:
            legend(axes, theme)


def _x_key(events: Sequence[Event]) -> str:
    """Return "epoch", or "step" if epochs are missing or begin again in a second stage."""
    in_order = sorted(events, key=lambda event: event.get("step", 0))
    epochs = [event["epoch"] for event in in_order if _is_finite(event.get("epoch"))]
    return "epoch" if len(epochs) == len(events) and epochs == sorted(epochs) else "step"


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _plot_series(axes: Axes, series: _Series, label: str, color: str, style: str) -> None:
    """Plot a series; write on the panel how many values are not finite, or that there are none."""
    marker = "o" if len(series.x) <= _MAX_MARKERS else None
    axes.plot(
        series.x, series.y, style, color=color, marker=marker, markersize=3, label=label, lw=1.6
    )
    if series.num_not_finite or not series.x:
        omitted = f"{series.num_not_finite:,} values of {label} are not finite"
        note = omitted if series.num_not_finite else f"no values of {label}"
        height = 0.04 + 0.1 * len(axes.texts)
        axes.text(0.99, height, note, transform=axes.transAxes, color=color, fontsize=8, ha="right")


def _by_weights(
    evaluations: Sequence[Event], theme: Theme
) -> Iterator[tuple[tuple[str, str, str], list[Event]]]:
    """Yield label, color and line style of the EMA and the last weights, and their events."""
    styles = {"ema": ("EMA weights", theme.score, "-"), "last": ("last weights", theme.fake, "-.")}
    for weights, style in styles.items():
        selected = [event for event in evaluations if event.get("weights", "last") == weights]
        if selected:
            yield style, selected


def _plot_band(axes: Axes, evaluations: Sequence[Event], x: str, key: str, color: str) -> None:
    """Shade the values plus and minus one standard error."""
    keys = x, key, "standard_error"
    complete = [e for e in evaluations if all(_is_finite(e.get(name)) for name in keys)]
    positions, means, errors = ([event[name] for event in complete] for name in keys)
    low = [mean - error for mean, error in zip(means, errors, strict=True)]
    high = [mean + error for mean, error in zip(means, errors, strict=True)]
    axes.fill_between(positions, low, high, color=color, alpha=0.2, linewidth=0)
