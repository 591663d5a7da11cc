"""Parzen log-likelihoods of both parts of Table 1: published scores, selection and tables."""

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
from advnets.paper.blocks import Block, SectionContext, Table
from advnets.plots.style import LIGHT, new_figure, png, reference_line, style_axes

Record = Mapping[str, Any]
"""A Parzen score: a training event, or a record of the evaluation."""

BEST, LAST = "best by validation", "last"
"""The choices of the evaluated epoch."""

FINE_GRID = "fine grid 0.10, 0.11 … 0.29"

PUBLISHED = (
    ("deep belief net (Bengio et al. 2013)", "138 ± 2", "1909 ± 66"),
    ("stacked contractive autoencoder (Bengio et al. 2013)", "121 ± 1.6", "2110 ± 50"),
    ("deep generative stochastic net (Bengio et al. 2014)", "214 ± 1.1", "1890 ± 29"),
    ("adversarial nets (Goodfellow et al. 2014)", "225 ± 2", "2057 ± 26"),
)
"""Table 1 of the paper: model, MNIST and TFD, in nats."""


@dataclass(frozen=True)
class ScoreRow:
    """A generator's score for one kind of weights and one epoch."""

    name: str
    """Name of the run, or of the fold it is scored on."""
    weights: str
    choice: str
    paper: Record
    fine: Record | None
    """The score on the fine grid, for the last epoch only."""


def score_rows(name: str, events: Sequence[Record], fine: Mapping[str, Record]) -> list[ScoreRow]:
    """Return two rows for each kind of weights: the epoch best by validation, and the last.

    `events` are scores during training, on the paper's grid; `fine` has a final score for each kind
    of weights.
    """
    rows: list[ScoreRow] = []
    for weights, record in fine.items():
        weight_events = [event for event in events if event["weights"] == weights]
        best = max(weight_events, key=lambda event: event["valid_mean"])
        rows.append(ScoreRow(name, weights, BEST, best, None))
        rows.append(ScoreRow(name, weights, LAST, weight_events[-1], record))
    return rows


def scores_table(caption: str, first_column: str, scores: Sequence[ScoreRow]) -> Table:
    """Return a table with a row per score, then the means over runs or folds of the same kind."""
    rows = [
        (
            score.name,
            score.weights,
            f"{round(score.paper['epoch'], 1):g}, {score.choice}",
            format_score(score.paper),
            "" if score.fine is None else format_score(score.fine),
        )
        for score in scores
    ]
    kinds = dict.fromkeys((score.weights, score.choice) for score in scores)
    for kind in kinds:
        same_kind = [score for score in scores if (score.weights, score.choice) == kind]
        fine = [score.fine for score in same_kind if score.fine is not None]
        means = mean_score([score.paper for score in same_kind]), mean_score(fine) if fine else ""
        rows.append((f"mean of {len(same_kind)}", *kind, *means))
    return Table(
        caption, (first_column, "weights", "epoch", "paper's grid", FINE_GRID), tuple(rows)
    )


def reference_table(name: str, rows: Sequence[tuple[str, ...]]) -> Table:
    """Return the table of reference scores."""
    caption = f"Reference scores on {name}"
    return Table(caption, ("samples", "paper's grid", "fine grid"), tuple(rows))


def format_score(score: Record) -> str:
    """Format a score with its standard error over test images, and the selected σ."""
    text = f"{score['mean']:.1f} ± {score['standard_error']:.1f} (σ {score['sigma']:.3f})"
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def mean_score(scores: Sequence[Record]) -> str:
    """Format the mean of scores and its standard error."""
    return format_mean([score["mean"] for score in scores], "{:.1f}")


def format_mean(values: Sequence[float], form: str) -> str:
    """Format the mean of values and, for several, its standard error.

    The standard error is s / √n, where s² divides by n - 1.
    """
    mean = form.format(statistics.fmean(values))
    if len(values) == 1:
        return mean
    return f"{mean} ± {form.format(statistics.stdev(values) / math.sqrt(len(values)))}"


def k_means_centers(train: Split | StreamingSplit, count: int) -> Tensor:
    """Return k-means centers of training images, after ten iterations of Lloyd's algorithm."""
    cluster: Any = require("sklearn.cluster", "paper")
    images = torch.cat([torch.from_numpy(block) for block in iterate_blocks(train)])
    rows = (images.flatten(1).float() / train.white_level).numpy()
    fitted = cluster.KMeans(
        n_clusters=min(count, len(rows)), init="random", n_init=1, max_iter=10, random_state=0
    ).fit(rows)
    return torch.from_numpy(fitted.cluster_centers_)


Event = Mapping[str, Any]

_STYLES = {"ema": "-", "last": ":"}


def cpu_seconds(events: Sequence[Event]) -> float:
    """Return CPU seconds of a training on all threads, without evaluations; NaN if not recorded."""
    return sum(event.get("cpu_seconds", nan) for event in events if event["kind"] == "log")


def score_curve(events: Sequence[Event], weights: str) -> tuple[list[float], list[float]]:
    """Return CPU minutes of training, and the Parzen log-likelihoods at those times.

    The minutes are of all threads, without evaluations: the time of the same training on one
    otherwise idle core. They are empty for a run that did not record CPU time.
    """
    logs = [event for event in events if event["kind"] == "log"]
    if any("cpu_seconds" not in log for log in logs):
        return [], []
    taken = accumulate(log["cpu_seconds"] for log in logs)
    minutes = {event["step"]: seconds / 60 for event, seconds in zip(logs, taken, strict=True)}
    scores = {
        event["step"]: event["mean"]
        for event in events
        if event["kind"] == "evaluate" and event["weights"] == weights and event["step"] in minutes
    }
    return [minutes[step] for step in scores], list(scores.values())


def plot_score_curves(
    context: SectionContext, runs: Mapping[str, Sequence[Sequence[Event]]], real: float
) -> Block:
    """Plot a curve for each seed and kind of weights, colored by preset."""
    figure = new_figure(8.4, 3.8)
    axes = figure.subplots()
    style_axes(axes, "Parzen log-likelihood", "nats, paper's grid", x="CPU minutes of training")
    reference_line(axes, real, "real training images", LIGHT)
    for (preset, seeds), color in zip(runs.items(), LIGHT.hues, strict=False):
        for weights, style in _STYLES.items():
            label = f"{preset}, {weights}"
            for minutes, scores in (score_curve(events, weights) for events in seeds):
                if minutes:
                    axes.plot(minutes, scores, style, color=color, lw=1.3, label=label)
                    label = None
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8, labelcolor=LIGHT.text, ncols=2)
    alt = "Log-likelihood over CPU minutes, of EMA and of last weights, by preset"
    caption = (
        "Each curve is a seed with recorded CPU time. Early in training an EMA of quickly "
        "changing weights is smooth and scores above real digits; the table of features shows its "
        "defects."
    )
    return context.save_image("progress.png", png(figure), alt, caption)
