"""Log-likelihood against what a training has taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from math import nan
from typing import Any

from advnets.paper.blocks import Picture, Setting
from advnets.views.style import LIGHT, dress, level, png, sheet

Event = Mapping[str, Any]

_STYLES = {"average": "-", "last": ":"}


def processor_seconds(events: Sequence[Event]) -> float:
    """What a training has taken, of all threads and without looks; NaN where it was not noted."""
    return sum(event.get("processor_seconds", nan) for event in events if event["kind"] == "tick")


def progress(events: Sequence[Event], weights: str) -> tuple[list[float], list[float]]:
    """Processor minutes of training, and the Parzen log-likelihoods found after them.

    The minutes are of all threads, and without the looks: what the same training would take on one
    core that does nothing else. Of a run that did not note them there is nothing.
    """
    ticks = [event for event in events if event["kind"] == "tick"]
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


def curves(setting: Setting, runs: Mapping[str, Sequence[Sequence[Event]]], real: float) -> Picture:
    """A curve for each seed's weights, in the colour of its preset."""
    figure = sheet(8.4, 3.8)
    axes = figure.subplots()
    dress(axes, "Parzen log-likelihood", "nats, paper's grid", x="processor minutes of training")
    level(axes, real, "real training pictures", LIGHT)
    for (preset, seeds), colour in zip(runs.items(), LIGHT.hues, strict=False):
        for weights, style in _STYLES.items():
            label = f"{preset}, {weights}"
            for minutes, scores in (progress(events, weights) for events in seeds):
                if minutes:
                    axes.plot(minutes, scores, style, color=colour, lw=1.3, label=label)
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
    return setting.picture("progress.png", png(figure), alt, caption)
