"""A run on one page that needs nothing but itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from advnets.errors import DataError, MissingExtraError, RunError
from advnets.files import shell_quote, write_atomically
from advnets.plots.image_grid import read_grid
from advnets.plots.training_curves import SCORES, curve_spec, metric_of, training_curves
from advnets.report.html import Html, data_uri, document, element, void
from advnets.report.scores import newest_real, score_section
from advnets.report.tables import left_out, origins, settings, size
from advnets.run_directory import RunDirectory

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Written:
    """A page, and what it had to go without."""

    path: Path
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Curves:
    """A training's curves on light ground and on dark, or why there are none."""

    light: bytes = b""
    dark: bytes = b""
    trouble: str | None = None


def write_report(run: Path) -> Written:
    """Write report.html of a run directory from its files, and curves.png where there are curves.

    One file without script or request: images are inside. What the run has not got yet (samples,
    scores, curves) is said to be missing, and how to get it.

    Raises:
        RunError: there is no run, or its config.json is broken.
        WriteError: a file cannot be written.
    """
    directory = RunDirectory.existing(run)
    record, events = directory.read_config(), directory.events()
    scores, trouble = _scores(directory)
    name = record.get("config", {}).get("preset", "run")
    curves = _drawn(events, scores)
    if light := curves.light if curves else b"":
        write_atomically(run / "curves.png", lambda part: part.write_bytes(light))
    sections = [
        element("p", summary(record, events), class_="lead"),
        _samples(directory),
        _curves(curves, events),
        trouble or score_section(scores, record.get("data", {}).get("name", "")),
        _go_on(run, finished=complete(events)),
        settings(record.get("config", {})),
        left_out(record, events),
        origins(record),
    ]
    page = document(
        title=f"{name} · advnets",
        heading=name,
        kicker=kicker(record, events),
        sections=sections,
        footer=f"Written by advnets from the files in {run.name}/.",
    )
    path = run / "report.html"
    write_atomically(path, lambda part: part.write_text(page, "utf-8"))
    return Written(path, (curves.trouble,) if curves and curves.trouble else ())


def _scores(directory: RunDirectory) -> tuple[list[dict[str, Any]], Html | None]:
    """The records, or a section that says why there are none."""
    try:
        return directory.scores(), None
    except RunError as error:
        words = element("p", str(error), class_="note")
        return [], element("section", element("h2", "Scores"), words)


def _samples(directory: RunDirectory) -> Html:
    """The newest grid that is a whole image."""
    heading = element("h2", "Samples")
    for path in sorted(directory.samples.glob(f"step-{'[0-9]' * 8}.png"), reverse=True):
        try:
            content, (width, height) = read_grid(path)
        except DataError:
            continue  # cut by a kill, no image or a bomb: the one before it will do
        step = int(path.stem.removeprefix("step-"))
        image = void(
            "img",
            src=data_uri(content),
            alt=f"Grid of images drawn by the generator after {step:,} steps",
            width=width,
            height=height,
            class_="samples",
        )
        words = f"Drawn by the generator after {step:,} steps, none picked out."
        return element("section", heading, element("figure", image, _caption(words)))
    return element("section", heading, element("p", "No grid of samples has been written yet."))


def _drawn(events: Sequence[Record], scores: Sequence[Record]) -> _Curves | None:
    """None where nothing has been observed yet."""
    if not any(event.get("kind") in ("log", "evaluate") for event in events):
        return None
    real = newest_real(scores)
    try:
        light, dark = (
            training_curves(events, real_data=real, dark=ground) for ground in (False, True)
        )
        return _Curves(light, dark)
    except MissingExtraError as error:
        return _Curves(trouble=str(error))


def _curves(curves: _Curves | None, events: Sequence[Record]) -> Html:
    heading = element("h2", "Curves")
    if curves is None:
        return element("section", heading, element("p", "Nothing has been observed yet."))
    if curves.trouble:
        return element("section", heading, element("p", curves.trouble, class_="note"))
    shown = curve_spec([event for event in events if event.get("kind") == "log"])
    alt = "Over the training: " + (shown.alternative if shown else "what is observed, and losses")
    if scored := [event for event in events if event.get("kind") == "evaluate"]:
        alt += f"; {SCORES[metric_of(scored)][0]}"
    ground = "screen and (prefers-color-scheme: dark)"
    image = element(
        "image",
        void("source", media=ground, srcset=data_uri(curves.dark)),
        void("img", src=data_uri(curves.light), alt=alt, class_="curves"),
    )
    words = "None of these says how good samples are."
    if shown:
        words = (
            "At the optimum of the game D cannot tell samples from data: "
            f"{shown.at_the_optimum}. On the way there both show who is ahead, not how good "
            "samples are."
        )
    return element("section", heading, element("figure", image, _caption(words)))


def _go_on(run: Path, *, finished: bool) -> Html:
    """Commands that take the run from here."""
    place = shell_quote(run)
    more = " --epochs N" if finished else ""
    steps = {
        "Draw 100 new samples": f"advnets sample {place} --out samples.png --num-samples 100",
        "Score them beside real images": f"advnets evaluate {place}",
        "Train longer, to N epochs in all" if finished else "Go on training": (
            f"advnets train --out {place} --resume{more}"
        ),
    }
    items = [
        part
        for words, command in steps.items()
        for part in (
            element("dt", words),
            element("dd", element("pre", element("code", command))),
        )
    ]
    return element("section", element("h2", "How to go on"), element("dl", *items))


def _caption(words: str) -> Html:
    return element("figcaption", words)


_ENDS = {
    "done": "The run is complete.",
    "stopped": "It was asked to stop there.",
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
    noun = "points" if data.get("white_level") == 1 else "images"  # whose white is 16 or 255
    images = f"{data['train']:,} {noun}" if data.get("train") else noun
    players = [
        f"{name} of {parameters[name]:,} parameters" if name in parameters else name
        for name in ("generator", "discriminator")
    ]
    shape = f" ({size(data['shape'])})" if "shape" in data else ""
    return (
        f"A {' and a '.join(players)} play against each other on {images} of "
        f"{data.get('name', 'unknown data')}{shape}."
    )


def _progress(events: Sequence[Record]) -> str:
    state = _state(events)
    step = next((event["step"] for event in reversed(events) if "step" in event), 0)
    if not step:
        return f"No step is on record yet. {state}"
    planned = [event["steps"] for event in events if "steps" in event]
    words = f"{step:,}{f' of {planned[-1]:,}' if planned and planned[-1] > step else ''} steps"
    ticks = [event for event in events if event.get("kind") == "log"]
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
