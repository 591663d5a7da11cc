"""How a run went, in plain words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from advnets.views.report_tables import size

Record = Mapping[str, Any]

_ENDS = {
    "done": "The run is complete.",
    "asked to stop": "It was asked to stop there.",
    "diverged": "It has diverged.",
    "learned nothing": "It has learned nothing.",
}


def kicker(record: Record, events: Sequence[Record]) -> str:
    """Data, seed, device and day, on one line."""
    begun = next((event for event in events if event.get("kind") == "start"), {})
    day, device = begun.get("time"), begun.get("device")
    parts = [
        f"data: {record.get('data', {}).get('name', 'unknown')}",
        f"seed {record.get('config', {}).get('seed', 'unknown')}",
        f"on {device}" if device else "",
        datetime.fromtimestamp(day, UTC).strftime("begun %Y-%m-%d %H:%M UTC") if day else "",
    ]
    return " · ".join(filter(None, parts))


def summary(record: Record, events: Sequence[Record]) -> str:
    """One paragraph: who played, on what, how far, and how the game stands."""
    said = [_players(record), _progress(events), _exactness(record), _standing(events)]
    return " ".join(filter(None, said))


def _exactness(record: Record) -> str:
    """Return from which step on a run is not bit-exact; nothing where it is."""
    step: int | None = record.get("bit_exact_until_step")
    if step is None:
        return ""
    return (
        f"It was resumed on another device, precision or number of threads: from step {step:,} on, "
        "it is not bit-exact."
    )


def complete(events: Sequence[Record]) -> bool:
    """Whether the run went all the way."""
    return _state(events) == _ENDS["done"]


def _players(record: Record) -> str:
    data, parameters = record.get("data", {}), record.get("parameters", {})
    noun = "points" if data.get("white") == 1 else "pictures"  # whose white is 16 or 255
    pictures = f"{data['train']:,} {noun}" if data.get("train") else noun
    players = [
        f"{name} of {parameters[name]:,} parameters" if name in parameters else name
        for name in ("generator", "discriminator")
    ]
    shape = f" ({size(data['shape'])})" if "shape" in data else ""
    return (
        f"A {' and a '.join(players)} play against each other on {pictures} of "
        f"{data.get('name', 'unknown data')}{shape}."
    )


def _progress(events: Sequence[Record]) -> str:
    state = _state(events)
    step = next((event["step"] for event in reversed(events) if "step" in event), 0)
    if not step:
        return f"No step is on record yet. {state}"
    planned = [event["steps"] for event in events if "steps" in event]
    words = f"{step:,}{f' of {planned[-1]:,}' if planned and planned[-1] > step else ''} steps"
    ticks = [event for event in events if event.get("kind") == "tick"]
    epochs = [event["epoch"] for event in ticks if "epoch" in event]
    if epochs and epochs == sorted(epochs):  # else a second stage counts its own
        words += f" ({epochs[-1]:,.0f} epochs)"
    if seconds := sum(event.get("seconds", 0) for event in ticks):
        words += f" took {_duration(seconds)}"
    else:
        words += " were played"
    rollbacks = sum(event.get("kind") == "rollback" for event in events)
    met = f" Numbers that are not finite were met {_times(rollbacks)}, and undone."
    return f"{words}. {state}{met if rollbacks else ''}"


def _state(events: Sequence[Record]) -> str:
    kinds = {"start", "resume", "end"}
    last = next((event for event in reversed(events) if event.get("kind") in kinds), {})
    if last.get("kind") != "end":
        return "It has not ended: it is running, or was broken off."
    reason = str(last.get("reason", "no reason is on record"))
    return _ENDS.get(reason, f"It ended: {reason}.")


def _standing(events: Sequence[Record]) -> str:
    looks = [event for event in events if {"d_real", "d_fake"} <= event.keys() or "d_pair" in event]
    if not looks:
        return ""
    pair: float | None = looks[-1].get("d_pair")
    if pair is not None:
        if not math.isfinite(pair):
            return "At the last look D(x, G(z)) was not finite: the game has broken down."
        return (
            "At the last look D told real data from a sample beside it with probability "
            f"{pair:.2f}: {_apart(2 * pair - 1)}."
        )
    real, fake = (looks[-1][key] for key in ("d_real", "d_fake"))
    if not (math.isfinite(real) and math.isfinite(fake)):
        return "At the last look D(x) or D(G(z)) was not finite: the game has broken down."
    return (
        f"At the last look D took real data for real with probability {real:.2f} and samples "
        f"with {fake:.2f}: {_apart(real - fake)}."
    )


def _apart(lead: float) -> str:
    """What D's probability for what is real less that for what is not, from -1 to 1, comes to."""
    if lead < 0.1:
        return "D can hardly tell them apart"
    return "D is right more often than not" if lead < 0.8 else "D is right nearly every time"


def _times(n: int) -> str:
    return {1: "once", 2: "twice"}.get(n, f"{n} times")


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
