"""Train a preset with one seed after another, score every run, and keep a record of each.

    python tools/seeds.py runs results/records --seeds 10 --metrics points -- modern-ring

What follows -- is handed to `advnets train`, {seed} in it being the seed's number. The run of a
seed lies in OUT/NAME-SEED: one that has ended is not trained again, one that was stopped goes on.
Its record, RECORDS/NAME-SEED.json, holds the command, how long training took, its curve, scores on
the way (--eval-every) and those at the end. Two of these can work side by side on seeds of
their own (--first), one thread each.
"""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from advnets.cli.main import main as advnets
from advnets.run_directory import RunDirectory

POINTS = 200
"""Of a curve, at most."""


def play(out: Path, seed: int, options: Sequence[str]) -> str:
    """Train to the end, from wherever it was stopped; the command that does the same afresh."""
    told = [option.replace("{seed}", str(seed)) for option in options]
    asked = ["train", *told, "--seed", str(seed)]
    begun = ["--resume"] if RunDirectory(out).exists else []
    if code := advnets([*asked, "--out", str(out), *begun]):
        raise SystemExit(code)
    return shlex.join(["advnets", *asked])


def score(out: Path, metrics: Sequence[str], options: Sequence[str]) -> None:
    """Add the scores to the run's own."""
    if code := advnets(["evaluate", str(out), "--metrics", *metrics, *options]):
        raise SystemExit(code)


def record(out: Path, seed: int, command: str) -> dict[str, Any]:
    """All that is told of a run."""
    run = RunDirectory(out)
    ticks, looks = (
        [event for event in run.events() if event["kind"] == kind] for kind in ("log", "evaluate")
    )
    curve = ticks[:: -(-len(ticks) // POINTS)] if ticks else []
    return {
        "command": command,
        "seed": seed,
        "seconds": round(sum(tick["seconds"] for tick in ticks), 1),
        "processor_seconds": round(sum(tick["processor_seconds"] for tick in ticks), 1),
        "scores": run.scores(),
        "on_the_way": [_briefly(look) for look in looks],
        "curve": [_briefly(tick) for tick in curve],
    }


def files_of(records: Path, name: str) -> dict[int, Path]:
    """The record of every seed under this name."""
    found = {
        int(seed): path
        for path in records.glob(f"{name}-*.json")
        if (seed := path.stem.removeprefix(f"{name}-")).isdecimal()
    }
    if not found:
        raise SystemExit(f"{records} has no record of {name}; tools/seeds.py keeps them")
    return dict(sorted(found.items()))


def in_lines(told: dict[str, Any]) -> str:
    """JSON with a line for each score and for each tick of the curve."""
    lists = [
        f'"{key}": [\n{_joined(map(_json, some))}\n]'
        if isinstance(some, list)
        else f'"{key}": {_json(some)}'
        for key, some in told.items()
    ]
    return f"{{\n{_joined(lists)}\n}}\n"


def _joined(parts: Iterable[str]) -> str:
    return ",\n".join(parts)


def _json(some: Any) -> str:
    return json.dumps(some, ensure_ascii=False)


def _briefly(event: dict[str, Any]) -> dict[str, Any]:
    return {
        key: float(f"{value:.5g}") if isinstance(value, float) else value
        for key, value in event.items()
        if key != "kind"
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, score and record what is missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("records", type=Path)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--metrics", nargs="+", required=True)
    parser.add_argument("--evaluate", default="", help="further options of advnets evaluate")
    parser.add_argument("--name", help="of runs and records; else the preset's")
    parser.add_argument("train", nargs="+", help="a preset and options of advnets train, after --")
    asked = parser.parse_args(arguments)
    name = asked.name or asked.train[0]
    asked.records.mkdir(parents=True, exist_ok=True)
    for seed in range(asked.first, asked.first + asked.seeds):
        kept = asked.records / f"{name}-{seed}.json"
        if kept.exists():
            continue
        out = asked.out / f"{name}-{seed}"
        command = play(out, seed, asked.train)
        score(out, asked.metrics, shlex.split(asked.evaluate))
        kept.write_text(in_lines(record(out, seed, command)), "utf-8")


if __name__ == "__main__":
    main()
