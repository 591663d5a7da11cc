"""`advnets sweep`: train a preset with several seeds and options, evaluate and compare the runs."""

from __future__ import annotations

import io
import itertools
import json
import math
import multiprocessing
import os
import re
import shlex
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, Suppress, UseAppendAction, arg

from advnets import presets
from advnets.config import Config, ValidatedConfig, check_sizes
from advnets.errors import RunError, StoppedBySignal, UsageError
from advnets.files import shell_quote, write_atomically
from advnets.output import TextStream, make_tolerant
from advnets.run_directory import RunDirectory

MAX_CURVE_POINTS = 200
"""The largest number of points of a training curve in a record."""
MAX_RUNS = 10_000
"""The largest number of runs of a sweep."""
DIVERGED = 3
"""The exit status of a training that ended in an unusable state; other runs continue."""
_POLL_S = 0.2
"""The interval, in seconds, between checks for a stop signal while processes train."""

CommandLine = Callable[[Sequence[str]], int]
"""A function that executes `advnets` with these arguments and returns the exit status."""


@dataclass(frozen=True)
class Sweep(ValidatedConfig):
    """Train a preset with several seeds and options, evaluate every run, and compare them.

    Options of `advnets train` for all runs follow `--`, where {seed} stands for the seed. Runs are
    stored as OUT/NAME-seedN. The same command continues an interrupted sweep: finished runs are not
    trained again, and a stopped one resumes bit-exactly.
    """

    preset: Annotated[Positional[str], arg(metavar="PRESET")]
    """Preset to train, path of your data, or FILE.py:NAME of a custom game."""
    seeds: Annotated[str, arg(metavar="N|FIRST-LAST|LIST")] = "10"
    """Seeds of the runs: a number of seeds, which start at 0, a range such as 0-4, or a list such
    as 0,3,7."""
    grid: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="OPTION=VALUE,...")] = ()
    """Option of `advnets train` and the values to try, such as game.r1=0.1,1,10; for a switch, true
    or false. If --grid is repeated, every combination of values is trained."""
    jobs: int = 1
    """Number of runs to train in parallel, in processes that share the CPU cores."""
    metrics: Annotated[tuple[str, ...], arg(metavar="METRIC ...")] = ("parzen",)
    """Metrics to compute after each training, as in `advnets evaluate --metrics`."""
    evaluate: Annotated[str, arg(metavar="OPTIONS")] = ""
    """Further options of `advnets evaluate` as one argument, as in
    --evaluate="--num-samples 1000"."""
    name: Annotated[str | None, arg(metavar="NAME")] = None
    """Name of the runs and records; None: the name of the preset or of your data."""
    out: Annotated[Path, arg(metavar="DIR")] = Path("runs")
    """Directory of the runs."""
    records: Annotated[Path, arg(metavar="DIR")] = Path("records")
    """Directory of the records, NAME-SEED.json: the command, training time, scores and curve."""
    train: Suppress[tuple[str, ...]] = ()
    """Options of `advnets train` for all runs, the words after `--`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, "jobs", max_size=MAX_RUNS)
        if not self.metrics:
            raise UsageError("--metrics has no value; give at least one metric, such as parzen")

    def run(
        self,
        execute: CommandLine,
        config_of: Callable[[list[str]], Config],
        check: Callable[[list[str], Config], None],
    ) -> int:
        """Train and evaluate the runs that have no record, compare all; return the exit status.

        Args:
            execute: executes commands of `advnets`.
            config_of: returns the config that arguments of `advnets train` specify.
            check: refuses arguments of `advnets evaluate` that do not fit the runs of a config.

        Raises:
            UsageError: an option cannot be used.
            RunError: a record is damaged, or of another command.
            StoppedBySignal: a signal stopped the processes.
        """
        # Check the options of every run and the records of earlier calls before any training.
        runs = _with_batch_sizes(self._runs(config_of), self.jobs)
        unfinished = [run for run in runs if not run.is_recorded()]
        by_networks: dict[object, SweepRun] = {}
        for run in unfinished:
            stage = run.config.stage
            by_networks[run.config.data, stage.game, stage.generator, stage.discriminator] = run
        for run in by_networks.values():
            check(run.evaluation, run.config)
        self.records.mkdir(parents=True, exist_ok=True)

        # Train, evaluate and record the unfinished runs.
        jobs = min(self.jobs, len(unfinished))
        train = _train_in_processes if jobs > 1 else _train_one_by_one
        statuses = train(unfinished, jobs, execute)
        if failed := [status for status in statuses.values() if status not in (0, DIVERGED)]:
            return failed[0]
        if diverged := [run.path for run, status in statuses.items() if status]:
            print(
                f"advnets: {len(diverged)} of {len(runs)} runs ended in an unusable state and are "
                f"not compared: {', '.join(map(shell_quote, diverged))}",
                file=sys.stderr,
            )

        # Compare the runs, or their records if a run directory is missing.
        scored = [run for run in runs if run.path not in diverged]
        exist = all(run.has_directory for run in scored)
        paths = [str(run.path if exist else run.record) for run in scored]
        options = ["--separate-columns", "--metrics", *self.metrics]
        status = execute(["compare", *paths, *options]) if len(paths) > 1 else 0
        return DIVERGED if diverged else status

    def _runs(self, config_of: Callable[[list[str]], Config]) -> list[SweepRun]:
        """Return the runs, one for each seed and combination of values of the grid.

        Raises:
            UsageError: an option cannot be used.
        """
        # Parse the options.
        for option in self.train:
            flag = option.partition("=")[0]
            if flag in ("--out", "--seed", "--resume", "--dry-run"):
                raise UsageError(f"{flag} is not an option of the runs of a sweep; leave it out")
        seeds, grid = parse_seeds(self.seeds), [parse_grid(text) for text in self.grid]
        if (number := len(seeds) * math.prod(map(len, grid))) > MAX_RUNS:
            raise UsageError(f"the sweep has {number:,} runs; give at most {MAX_RUNS:,}")

        # Add a run for each combination and seed.
        runs: list[SweepRun] = []
        name = self.name
        for point in itertools.product(*grid):
            for seed in seeds:
                shared = [option.replace("{seed}", str(seed)) for option in self.train]
                options = [*shared, *(word for value in point for word in value.options)]
                command = ["train", self.preset, *options, "--seed", str(seed)]
                config = config_of(command)
                name = name or presets.default_out(config, self.preset).name
                title = "-".join((name, *(value.name for value in point)))
                runs.append(
                    SweepRun(
                        path=self.out / f"{title}-seed{seed}",
                        record=self.records / f"{title}-{seed}.json",
                        seed=seed,
                        config=config,
                        command=tuple(command),
                        metrics=self.metrics,
                        evaluate=tuple(shlex.split(self.evaluate)),
                    )
                )
        return runs


@dataclass(frozen=True)
class GridValue:
    """A value of an option in a grid."""

    name: str
    """Its part of the run's name: OPTION=VALUE, with characters that file names allow."""
    options: tuple[str, ...]
    """The command-line arguments that set it."""


def parse_seeds(text: str) -> tuple[int, ...]:
    """Return the seeds that a number of seeds, a range or a list specifies.

    Raises:
        UsageError: it is none of these, or has no seed, a seed twice, or more than 10,000 seeds.
    """
    # Parse the text.
    if not re.fullmatch(r"\d{1,18}(-\d{1,18})?(,\d{1,18}(-\d{1,18})?)*", text, re.ASCII):
        raise UsageError(
            f"--seeds is {text!r}; give a number of seeds such as 5, a range such as 0-4, or a "
            "list such as 0,3,7"
        )
    if text.isdecimal():
        ranges = [range(int(text))]
    else:
        ends = [part.split("-") for part in text.split(",")]
        ranges = [range(int(first[0]), int(first[-1]) + 1) for first in ends]

    # Check the number of seeds before they are listed.
    if not all(ranges):
        raise UsageError(f"--seeds is {text!r}, which has no seed; give at least one")
    if sum(seeds.stop - seeds.start for seeds in ranges) > MAX_RUNS:
        raise UsageError(f"--seeds is {text!r}; give at most {MAX_RUNS:,} seeds")
    seeds = tuple(itertools.chain(*ranges))
    if len({*seeds}) < len(seeds):
        raise UsageError(f"--seeds is {text!r}, which has a seed twice; give each once")
    return seeds


def parse_grid(text: str) -> tuple[GridValue, ...]:
    """Return the values of an option in a grid, given as OPTION=VALUE,VALUE.

    Raises:
        UsageError: it has another form, or names an option that the sweep itself sets.
    """
    # Split the text into the option and its values.
    key, _, values = text.removeprefix("--").partition("=")
    if not re.fullmatch(r"[a-z][\w.-]*", key, re.ASCII) or not values:
        raise UsageError(
            f"--grid is {text!r}; give an option of `advnets train` and its values, such as "
            "game.r1=0.1,1,10"
        )
    key = key.replace("_", "-")
    if key in ("seed", "out", "resume", "dry-run"):
        raise UsageError(f"--grid has the option {key}, which the sweep sets; leave it out")

    # Write each value as command-line arguments, true and false as those of a switch.
    grid: dict[str, GridValue] = {}
    for value in values.split(","):
        name = f"{key}=" + re.sub(r"[^\w.+-]", "_", value)
        if name in grid:
            raise UsageError(f"--grid has {key}={value} twice; give each value once")
        group, _, switch = key.rpartition(".")
        prefix = f"--{group}." if group else "--"
        switches = {"true": f"{prefix}{switch}", "false": f"{prefix}no-{switch}"}
        words = [switches[value]] if value in switches else [f"--{key}", *shlex.split(value)]
        grid[name] = GridValue(name, tuple(words))
    return tuple(grid.values())


@dataclass(frozen=True)
class SweepRun:
    """A run of a sweep: its command, metrics, run directory and record file."""

    path: Path
    record: Path
    seed: int
    config: Config
    command: tuple[str, ...]
    """Arguments of `advnets` that train it, without the run directory."""
    metrics: tuple[str, ...]
    evaluate: tuple[str, ...]
    """Further options of `advnets evaluate`."""

    @property
    def evaluation(self) -> list[str]:
        """Arguments of `advnets` that evaluate it."""
        return ["evaluate", str(self.path), "--metrics", *self.metrics, *self.evaluate]

    @property
    def title(self) -> str:
        """The name of the run without its seed."""
        return self.path.name.removesuffix(f"-seed{self.seed}")

    @property
    def started_batch_size(self) -> int | None:
        """The batch size of this run if it was started before, by its directory or its record."""
        from advnets.experiment.stored_run import StoredRun

        if self.has_directory:
            return StoredRun.read(self.path).config.batch_size
        text = self.record.read_text("utf-8") if self.record.is_file() else ""
        match = re.search(r"--batch-size (\d+)", text)
        return int(match[1]) if match else None

    def with_batch_size(self, size: int) -> SweepRun:
        """Return the run with this batch size."""
        config = replace(self.config, data=replace(self.config.data, batch_size=size))
        command = (*_without("--batch-size", self.command), "--batch-size", str(size))
        return replace(self, config=config, command=command)

    @property
    def has_directory(self) -> bool:
        """Whether its run directory exists."""
        return RunDirectory(self.path).exists

    def is_recorded(self) -> bool:
        """Return whether there is a record of this command with scores of all metrics.

        Raises:
            RunError: there is a record, but it is damaged or of another command.
        """
        from advnets.evaluation.registry import resolve_metrics
        from advnets.run_records import read_json

        metrics = resolve_metrics(self.metrics)
        if not self.record.exists():
            return False
        advice = "move it away, or give the sweep another --name"
        record: Any = read_json(self.record, advice)
        try:
            command: str = record["command"]
            scored = {score["metric"] for score in record["scores"]}
            same = _without("--threads", shlex.split(command)[1:]) == _without(
                "--threads", self.command
            )
        except (TypeError, KeyError, AttributeError, ValueError):
            raise RunError(f"{self.record} is not a record of a run; {advice}") from None
        if not same:
            raise RunError(f"{self.record} is a record of another command, {command!r}; {advice}")
        return scored.issuperset(metrics)

    def complete(self, execute: CommandLine, threads: int | None = None) -> int:
        """Train the remaining steps, evaluate, and write the record; return the exit status.

        `threads` is the number of threads of a new run whose command does not give it.
        """
        # Train to the end, from the newest checkpoint if there is one.
        resume = self.has_directory
        gives_threads = _without("--threads", self.command) != self.command
        options = ["--resume"] if resume else []
        if threads is not None and not resume and not gives_threads:
            options = ["--threads", str(threads)]
        if status := execute([*self.command, *options, "--out", str(self.path)]):
            return status

        # Evaluate and write the record.
        if status := execute(self.evaluation):
            return status
        command = self.command
        if not gives_threads:  # the result depends on the number of threads
            used = RunDirectory(self.path).read_config()["config"]["runtime"]["threads"]
            command = (*command, "--threads", str(used))
        record = record_text(run_record(self.path, self.seed, shlex.join(["advnets", *command])))
        write_atomically(self.record, lambda part: part.write_text(record, "utf-8"))
        print(self.record, flush=True)
        return 0


def _without(flag: str, command: Sequence[str]) -> tuple[str, ...]:
    """Return the words of a command without an option and its value."""
    kept = [
        word
        for before, word in zip(("", *command), command, strict=False)
        if flag not in (before, word) and not word.startswith(f"{flag}=")
    ]
    return tuple(kept)


def _with_batch_sizes(runs: Sequence[SweepRun], jobs: int) -> list[SweepRun]:
    """Return runs with a number in place of the batch size "auto", the same for all seeds.

    It is that of a run that was started before, or one with which all jobs fit into memory.
    """
    sizes: dict[str, int] = {}
    automatic = [run for run in runs if run.config.data.batch_size == "auto"]
    for run in automatic:
        if size := run.started_batch_size:
            sizes[run.title] = size
    for run in automatic:
        if run.title not in sizes:
            sizes[run.title] = _resolved_batch_size(run, min(jobs, len(runs)))
    return [run.with_batch_size(sizes[run.title]) if run in automatic else run for run in runs]


def _resolved_batch_size(run: SweepRun, jobs: int) -> int:
    """Return the number that the batch size "auto" of a run stands for beside other jobs."""
    from advnets.experiment.session import resolve_session
    from advnets.training.devices import num_cores

    runtime = run.config.runtime
    threads = runtime.threads or max(num_cores() // jobs, 1)
    config = replace(run.config, runtime=replace(runtime, threads=threads))
    session = resolve_session(config, processes=jobs)
    print(*(f"{run.title}: {choice}" for choice in session.choices), sep="\n", file=sys.stderr)
    return session.config.batch_size


def _train_one_by_one(
    runs: Sequence[SweepRun], _jobs: int, execute: CommandLine
) -> dict[SweepRun, int]:
    """Complete runs one after another up to the first that fails; return their exit statuses."""
    statuses: dict[SweepRun, int] = {}
    for run in runs:
        statuses[run] = run.complete(execute)
        if statuses[run] not in (0, DIVERGED):
            break
    return statuses


def _train_in_processes(
    runs: Sequence[SweepRun], jobs: int, execute: CommandLine
) -> dict[SweepRun, int]:
    """Complete runs in parallel, in up to `jobs` processes; return their exit statuses.

    When one fails, or at a stop signal, the others save a checkpoint and stop.
    """
    from advnets.training.devices import catch_stop_signals, num_cores

    context = multiprocessing.get_context("spawn")
    threads = max(num_cores() // jobs, 1)
    waiting, statuses = list(reversed(runs)), dict[SweepRun, int]()
    active: dict[int, tuple[SweepRun, SpawnProcess]] = {}
    failed = False
    with catch_stop_signals() as stop:
        stop.deferred = True
        while waiting or active:
            # Start processes while there is room.
            while waiting and len(active) < jobs:
                run = waiting.pop()
                process = context.Process(target=_complete_run, args=(run, threads, execute))
                process.start()
                active[process.sentinel] = run, process

            # Collect the exit statuses of processes that have ended.
            for sentinel in wait(list(active), timeout=_POLL_S):
                assert isinstance(sentinel, int)
                run, process = active.pop(sentinel)
                process.join()
                code = process.exitcode or 0
                statuses[run] = code if code >= 0 else 128 - code  # ended by a signal
                if code < 0 and not failed:
                    print(
                        f"advnets: signal {-code} ended the training of {shell_quote(run.path)}; "
                        "repeat the command to resume",
                        file=sys.stderr,
                    )

            # Stop the other processes after a failure or at a stop signal.
            failed = bool(stop) or any(status not in (0, DIVERGED) for status in statuses.values())
            if failed:
                waiting.clear()
                for _, process in active.values():
                    process.terminate()
    if stop.signal is not None:
        raise StoppedBySignal(stop.signal, "; repeat the command to resume")
    return statuses


def _complete_run(run: SweepRun, threads: int, execute: CommandLine) -> None:
    """Complete a run in a separate process, whose output lines start with the run's name."""
    import torch

    threading.Thread(target=_end_with_parent, daemon=True).start()
    for name in ("stdout", "stderr"):
        stream = _PrefixedStream(getattr(sys, name), f"{run.path.name}: ")
        setattr(sys, name, make_tolerant(stream))
    torch.set_num_threads(threads)
    sys.exit(run.complete(execute, threads))


def _end_with_parent() -> None:
    """End this process when its parent has been killed; the repeated command resumes the run."""
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


class _PrefixedStream(io.TextIOBase):
    """A text stream whose lines begin with a prefix; a line is written once it is complete."""

    def __init__(self, stream: TextStream, prefix: str) -> None:
        self.stream, self.prefix, self.line = stream, prefix, ""

    def write(self, text: str) -> int:
        """Write the lines that the text completes; return its length."""
        *lines, self.line = f"{self.line}{text}".split("\n")
        self.stream.write("".join(f"{self.prefix}{line}\n" for line in lines))
        self.stream.flush()
        return len(text)


def run_record(path: Path, seed: int, command: str) -> dict[str, Any]:
    """Return the record of a run: command, training time, scores, and a thinned training curve."""
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
        "training_eval": [_round_floats(event) for event in evaluations],
        "curve": [_round_floats(event) for event in curve],
    }


def record_text(record: Mapping[str, Any]) -> str:
    """Return a record as JSON with a line for each score and each point of the curve."""
    lists = [
        f'"{key}": [\n{_join_lines(map(_json, value))}\n]'
        if isinstance(value, list)
        else f'"{key}": {_json(value)}'
        for key, value in record.items()
    ]
    return f"{{\n{_join_lines(lists)}\n}}\n"


def _join_lines(parts: Iterable[str]) -> str:
    return ",\n".join(parts)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _round_floats(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return an event with floats rounded to five significant digits, without its kind."""
    return {
        key: float(f"{value:.5g}") if isinstance(value, float) else value
        for key, value in event.items()
        if key != "kind"
    }
