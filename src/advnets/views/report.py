"""A run on one page that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advnets.errors import DataError, MissingExtraError, RunError
from advnets.files import write_atomically
from advnets.run_directory import RunDirectory
from advnets.shell import shell_word
from advnets.views.curve_specs import watched
from advnets.views.html import Html, data_uri, document, element, void
from advnets.views.image_grid import read_grid
from advnets.views.report_scores import newest_real, score_section
from advnets.views.report_summary import complete, kicker, summary
from advnets.views.report_tables import left_out, origins, settings
from advnets.views.training_curves import SCORES, metric_of, training_curves

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

    One file without script or request: pictures are inside. What the run has not got yet (samples,
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
    """The newest grid that is a whole picture."""
    heading = element("h2", "Samples")
    for path in sorted(directory.samples.glob(f"step-{'[0-9]' * 8}.png"), reverse=True):
        try:
            content, (width, height) = read_grid(path)
        except DataError:
            continue  # cut by a kill, no image or a bomb: the one before it will do
        step = int(path.stem.removeprefix("step-"))
        picture = void(
            "img",
            src=data_uri(content),
            alt=f"Grid of pictures drawn by the generator after {step:,} steps",
            width=width,
            height=height,
            class_="samples",
        )
        words = f"Drawn by the generator after {step:,} steps, none picked out."
        return element("section", heading, element("figure", picture, _caption(words)))
    return element("section", heading, element("p", "No grid of samples has been written yet."))


def _drawn(events: Sequence[Record], scores: Sequence[Record]) -> _Curves | None:
    """None where nothing has been observed yet."""
    if not any(event.get("kind") in ("tick", "evaluate") for event in events):
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
    shown = watched([event for event in events if event.get("kind") == "tick"])
    alt = "Over the training: " + (shown.alternative if shown else "what is observed, and losses")
    if scored := [event for event in events if event.get("kind") == "evaluate"]:
        alt += f"; {SCORES[metric_of(scored)][0]}"
    ground = "screen and (prefers-color-scheme: dark)"
    picture = element(
        "picture",
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
    return element("section", heading, element("figure", picture, _caption(words)))


def _go_on(run: Path, *, finished: bool) -> Html:
    """Commands that take the run from here."""
    place = shell_word(run)
    more = " --epochs N" if finished else ""
    steps = {
        "Draw 100 new samples": f"advnets sample {place} --out samples.png --num 100",
        "Score them beside real pictures": f"advnets evaluate {place}",
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
