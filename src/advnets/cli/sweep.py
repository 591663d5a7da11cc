"""`advnets sweep`: train a preset with several seeds, evaluate every run, keep a record of each."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Suppress, arg

from advnets.config import ValidatedConfig, check_min
from advnets.errors import UsageError

MAX_CURVE_POINTS = 200
"""The largest number of points of a training curve in a record."""


@dataclass(frozen=True)
class Sweep(ValidatedConfig):
    """Train a preset with several seeds, evaluate every run, and write a record of each.

    The preset and options of `advnets train` come after `--`, where {seed} stands for the seed. The
    run of a seed is OUT/NAME-SEED; a finished one is not trained again, a stopped one continues.
    """

    seeds: int = 10
    """Number of seeds."""
    first: int = 0
    """First seed; sweeps with different seeds can run in parallel."""
    metrics: tuple[str, ...] = ("parzen",)
    """Metrics to compute at the end of each run: values of `advnets evaluate --metrics`."""
    evaluate: str = ""
    """Further options of `advnets evaluate` as one argument, as in
    --evaluate="--num-samples 1000"."""
    name: str | None = None
    """Name of the runs and records; None: the name of the preset."""
    out: Annotated[Path, arg(metavar="DIR")] = Path("runs")
    """Directory of the runs."""
    records: Annotated[Path, arg(metavar="DIR")] = Path("records")
    """Directory of the records, NAME-SEED.json: the command, training time, scores and curve."""
    train: Suppress[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_min(self, 1, "seeds")
        check_min(self, 0, "first")

    def run(self, advnets: Callable[[Sequence[str]], int]) -> int:
        """Train and evaluate the seeds that have no record; return the exit status.

        `advnets` executes a command line and returns its exit status.
        """
        if not self.train or self.train[0].startswith("-"):
            raise UsageError(
                "no preset was given; give it after --, such as "
                "advnets sweep --seeds 5 -- digits --steps 2000"
            )
        name = self.name or self.train[0]
        self.records.mkdir(parents=True, exist_ok=True)
        for seed in range(self.first, self.first + self.seeds):
            file = self.records / f"{name}-{seed}.json"
            if file.exists():
                continue
            run = self.out / f"{name}-{seed}"

            # Train to the end, from wherever the run was stopped.
            options = [option.replace("{seed}", str(seed)) for option in self.train]
            command = ["train", *options, "--seed", str(seed)]
            resume = ["--resume"] if (run / "config.json").exists() else []
            if status := advnets([*command, "--out", str(run), *resume]):
                return status

            # Evaluate and write the record.
            metrics = ["--metrics", *self.metrics, *shlex.split(self.evaluate)]
            if status := advnets(["evaluate", str(run), *metrics]):
                return status
            record = run_record(run, seed, shlex.join(["advnets", *command]))
            file.write_text(record_text(record), "utf-8")
            print(file, flush=True)
        return 0


def run_record(path: Path, seed: int, command: str) -> dict[str, Any]:
    """Return the record of a run: command, training time, scores, and a thinned training curve."""
    from advnets.run_directory import RunDirectory

    run = RunDirectory(path)
    events = run.events()
    logs = [event for event in events if event["kind"] == "log"]
    evaluations = [event for event in events if event["kind"] == "evaluate"]
    curve = logs[:: -(-len(logs) // MAX_CURVE_POINTS)] if logs else []
    return {
        "command": command,
        "seed": seed,
        "seconds": round(sum(event["seconds"] for event in logs), 1),
        "cpu_seconds": round(sum(event["cpu_seconds"] for event in logs), 1),
        "scores": run.scores(),
        "training_eval": [_rounded(event) for event in evaluations],
        "curve": [_rounded(event) for event in curve],
    }


def record_text(record: Mapping[str, Any]) -> str:
    """Return a record as JSON with a line for each score and each point of the curve."""
    lists = [
        f'"{key}": [\n{_joined(map(_json, value))}\n]'
        if isinstance(value, list)
        else f'"{key}": {_json(value)}'
        for key, value in record.items()
    ]
    return f"{{\n{_joined(lists)}\n}}\n"


def _joined(parts: Iterable[str]) -> str:
    return ",\n".join(parts)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _rounded(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return an event with floats of five significant digits, without its kind."""
    return {
        key: float(f"{value:.5g}") if isinstance(value, float) else value
        for key, value in event.items()
        if key != "kind"
    }
