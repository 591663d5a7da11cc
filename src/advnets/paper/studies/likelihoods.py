"""What both halves of Table 1 share: the published scores, and how ours are chosen and laid out."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import nan
from typing import Any

import torch
from torch import Tensor

from advnets.data.dataset import Split, StreamingSplit, iterate_blocks
from advnets.errors import require
from advnets.paper.blocks import FigureBlock, SectionContext, Table
from advnets.plots.style import LIGHT, new_figure, png, reference_line, style_axes

Record = Mapping[str, Any]
"""A Parzen score: an event of the training, or a record of the evaluator."""

BEST, LAST = "best by validation", "last"
"""Which epoch is scored."""

FINE = "fine grid .10, .11 … .29"

PUBLISHED = (
    ("deep belief net (Bengio et al. 2013)", "138 ± 2", "1909 ± 66"),
    ("stacked contractive autoencoder (Bengio et al. 2013)", "121 ± 1.6", "2110 ± 50"),
    ("deep generative stochastic net (Bengio et al. 2014)", "214 ± 1.1", "1890 ± 29"),
    ("adversarial nets (Goodfellow et al. 2014)", "225 ± 2", "2057 ± 26"),
)
"""Table 1 of the paper: MNIST and TFD, in nats."""


@dataclass(frozen=True)
class Line:
    """A generator's score: of which weights, at which epoch; the last on the fine grid too."""

    name: str
    """The training, or the fold that it is scored on."""
    weights: str
    choice: str
    paper: Record
    fine: Record | None


def lines(name: str, events: Sequence[Record], fine: Mapping[str, Record]) -> list[Line]:
    """For each weights that have a fine score, the epoch that validation likes best, and the last.

    `events` are scores on the way, on the paper's grid.
    """
    found: list[Line] = []
    for weights, record in fine.items():
        some = [event for event in events if event["weights"] == weights]
        best = max(some, key=lambda event: event["valid_mean"])
        found.append(Line(name, weights, BEST, best, None))
        found.append(Line(name, weights, LAST, some[-1], record))
    return found


def ours(caption: str, scored: str, some: Sequence[Line]) -> Table:
    """A row for each line, and below them the means over trainings or folds of the same kind."""
    rows = [
        (
            line.name,
            line.weights,
            f"{round(line.paper['epoch'], 1):g}, {line.choice}",
            told(line.paper),
            "" if line.fine is None else told(line.fine),
        )
        for line in some
    ]
    kinds = dict.fromkeys((line.weights, line.choice) for line in some)
    for kind in kinds:
        alike = [line for line in some if (line.weights, line.choice) == kind]
        fine = [line.fine for line in alike if line.fine is not None]
        means = mean_of([line.paper for line in alike]), mean_of(fine) if fine else ""
        rows.append((f"mean of {len(alike)}", *kind, *means))
    return Table(caption, (scored, "weights", "epoch", "paper's grid", FINE), tuple(rows))


def beside(name: str, rows: Sequence[tuple[str, ...]]) -> Table:
    """The table of what a score is to be read beside."""
    caption = f"What stands beside a score on {name}"
    return Table(caption, ("samples", "paper's grid", "fine grid"), tuple(rows))


def told(score: Record) -> str:
    """A score with its standard error over test images, and the σ it is of."""
    text = f"{score['mean']:.1f} ± {score['standard_error']:.1f} (σ {score['sigma']:.3f})"
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def mean_of(scores: Sequence[Record]) -> str:
    """The mean of some scores and its standard error."""
    return with_error([score["mean"] for score in scores], "{:.1f}")


def with_error(values: Sequence[float], form: str) -> str:
    """The mean of some values and, of several, its standard error, s / √n; s² divides by n - 1."""
    mean = form.format(statistics.fmean(values))
    if len(values) == 1:
        return mean
    return f"{mean} ± {form.format(statistics.stdev(values) / math.sqrt(len(values)))}"


def k_means(train: Split | StreamingSplit, count: int) -> Tensor:
    """Centers of clusters of training images, after ten rounds of Lloyd's algorithm."""
    cluster: Any = require("sklearn.cluster", "paper")
    images = torch.cat([torch.from_numpy(some) for some in iterate_blocks(train)])
    rows = (images.flatten(1).float() / train.white_level).numpy()
    fitted = cluster.KMeans(
        n_clusters=min(count, len(rows)), init="random", n_init=1, max_iter=10, random_state=0
    ).fit(rows)
    return torch.from_numpy(fitted.cluster_centers_)


Event = Mapping[str, Any]

_STYLES = {"ema": "-", "last": ":"}


def processor_seconds(events: Sequence[Event]) -> float:
    """What a training has taken, of all threads and without looks; NaN where it was not noted."""
    return sum(event.get("processor_seconds", nan) for event in events if event["kind"] == "log")


def progress(events: Sequence[Event], weights: str) -> tuple[list[float], list[float]]:
    """Processor minutes of training, and the Parzen log-likelihoods found after them.

    The minutes are of all threads, and without the looks: what the same training would take on one
    core that does nothing else. Of a run that did not note them there is nothing.
    """
    ticks = [event for event in events if event["kind"] == "log"]
    if any("processor_seconds" not in tick for tick in ticks):
        return [], []
    taken = accumulate(tick["processor_seconds"] for tick in ticks)
    minutes = {event["step"]: seconds / 60 for event, seconds in zip(ticks, taken, strict=True)}
    scores = {
        event["step"]: event["mean"]
        for event in events
        if event["kind"] == "evaluate" and event["weights"] == weights and event["step"] in minutes
    }
    return [minutes[step] for step in scores], list(scores.values())


def curves(
    context: SectionContext, runs: Mapping[str, Sequence[Sequence[Event]]], real: float
) -> FigureBlock:
    """A curve for each seed's weights, in the color of its preset."""
    figure = new_figure(8.4, 3.8)
    axes = figure.subplots()
    style_axes(
        axes, "Parzen log-likelihood", "nats, paper's grid", x="processor minutes of training"
    )
    reference_line(axes, real, "real training images", LIGHT)
    for (preset, seeds), color in zip(runs.items(), LIGHT.hues, strict=False):
        for weights, style in _STYLES.items():
            label = f"{preset}, {weights}"
            for minutes, scores in (progress(events, weights) for events in seeds):
                if minutes:
                    axes.plot(minutes, scores, style, color=color, lw=1.3, label=label)
                    label = None
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8, labelcolor=LIGHT.text, ncols=2)
    alt = "Log-likelihood over processor minutes, of averaged and of last weights, by preset"
    caption = (
        "Each curve is a seed whose processor time was noted. A young average of weights that move "
        "fast is smooth, and scores above real digits; the table of features says what it lacks "
        "then."
    )
    return context.image("progress.png", png(figure), alt, caption)
