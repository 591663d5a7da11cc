"""Console output of a training: a progress bar on a terminal or in a notebook, else lines."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from advnets.config.serialize import list_to_dict, to_json
from advnets.errors import by_interface, printable, printable_lines
from advnets.evaluation.registry import METRICS
from advnets.files import shell_quote
from advnets.output import TextStream, make_tolerant
from advnets.plots.training_curves import curve_spec, metric_names
from advnets.presets import PRESETS
from advnets.report.score_text import describe_result
from advnets.training.callback import Callback

if TYPE_CHECKING:
    from tqdm import tqdm

    from advnets.config import Config
    from advnets.experiment.dry_run import DryRunReport
    from advnets.experiment.train import TrainResult

FILES_SHOWN = 10
"""The largest number of skipped files that the console lists; events.jsonl has all."""

SECONDS_BEFORE_ESTIMATE, SHORTEST_ESTIMATE = 3.0, 10.0
"""Seconds of training before the remaining time is estimated, and the shortest one printed."""

CLASSES_SHOWN = 20
"""The largest number of classes whose counts are listed."""


class Console(Callback):
    """A training callback that prints events and progress.

    If the run could not use the directory `default_out`, its directory is printed at the start.
    """

    def __init__(
        self,
        stream: TextStream | None = None,
        default_out: Path | None = None,
    ) -> None:
        self.stream: TextStream = make_tolerant(stream or sys.stderr)
        self.images_per_step: int = 1
        self.default_out = default_out
        self.bar: tqdm[Any] | None = None
        self.steps: int = 0
        self.unit: str = "images"
        self._start_time, self._start_step = time.monotonic(), 0
        self._run, self._preset, self._init = "", "", ""
        self._has_preset_data = True
        self._first_step: tuple[int, float] | None = None
        self._is_time_known = False

    def on_start(self, run: Path, config: Config, step: int) -> None:
        """Store the names that the first line prints."""
        if self.default_out not in (None, run):
            self.line(f"advnets: {self.default_out} is taken; the run is {run}")
        self._run, self._preset, self._start_step = str(run), config.preset, step
        self.images_per_step = config.images_per_step
        preset = PRESETS.get(config.preset)
        self._has_preset_data = not preset or config.data.source == preset.config.data.source
        if (other := config.stage.init_from) and not step:
            players = " and ".join(config.stage.init_players)
            self._init = f", from the weights of {players} of {other}"

    def on_event(self, event: Mapping[str, Any]) -> None:
        """Print an event."""
        show = {
            "start": self._start,
            "resume": self._start,
            "log": self._log,
            "evaluate": self._evaluate,
            "rollback": self._rollback,
            "skipped_files": self._skipped_files,
        }.get(event["kind"])
        if show:
            show(event)

    def on_step(self, step: int) -> None:
        """Advance the progress bar; after a few seconds, print the expected time."""
        if not self._is_time_known:
            self._estimate_time(step)
        if self.bar is not None:
            self.bar.update((step - self._start_step) * self.images_per_step - self.bar.n)

    def _estimate_time(self, step: int) -> None:
        """Print the expected remaining time, once enough steps have been timed."""
        now = time.monotonic()
        if self._first_step is None:  # the first step is slower than the others
            self._first_step = step, now
            return
        first, since = self._first_step
        if now - since < SECONDS_BEFORE_ESTIMATE:
            return
        self._is_time_known = True
        rate = (step - first) / (now - since)
        seconds = (self.steps - step) / rate if rate > 0 else 0.0
        if seconds >= SHORTEST_ESTIMATE:
            self.line(f"expected time: {duration(seconds)} more, at {rate:,.1f} steps/s")

    def close(self) -> None:
        """Close the progress bar."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def line(self, text: str) -> None:
        """Print a line, above the progress bar if there is one."""
        text = printable(text)
        if self.bar is not None:
            self.bar.write(text, file=self.stream)
        else:
            print(text, file=self.stream, flush=True)

    def _start(self, event: Mapping[str, Any]) -> None:
        """Print what is trained, where and on which device; show a progress bar on a terminal."""
        # Print the first line.
        self.steps, self._start_time, self._start_step = (
            event["steps"],
            time.monotonic(),
            event["step"],
        )
        first = self._init if event["kind"] == "start" else f", from step {event['step']:,}"
        if "branched_from" in event:
            first = f", from step {event['step']:,} of {event['branched_from']}"
        action = "training" if event["kind"] == "start" else "resuming"
        name = self._preset
        if "data" in event and not self._has_preset_data:
            name = f"the preset {name} on {event['data']['name']}"
        threads = "1 thread" if event["threads"] == 1 else f"{event['threads']} threads"
        self.line(
            f"{action} {name}: {self.steps:,} steps{first}, on {event['device']} in "
            f"{event['precision']} with {threads}, in {self._run}"
        )
        if event["step"] == self.steps:
            more = by_interface("give more --steps or --epochs", "give more steps or epochs")
            self.line(f"nothing is left to train: all {self.steps:,} steps are done; {more}")
        if repeated := event.get("repeated"):
            result = "" if event.get("changed") else ", with the same result to the bit"
            self.line(
                f"the newest checkpoint is of step {event['step']:,}: the {repeated:,} steps after "
                f"it that were logged before are repeated{result}"
            )

        # Describe data, networks and evaluations.
        if "data" in event:
            self.unit = event["data"]["unit"]
            for text in data_lines(event["data"]):
                self.line(text)
            self.line(parameters_text(event["parameters"]))
        if evaluation := event.get("evaluation"):
            title = METRICS[evaluation["metric"]].title
            self.line(f"evaluated every {evaluation['every']:,} steps: {title}")
        for choice in event.get("choices", ()):
            self.line(choice)
        for name, (before, now) in event.get("changed", {}).items():
            self.line(
                f"{name} changed from {before} to {now}: the run is not bit-exact from step "
                f"{event['step']:,} on"
            )

        # Show a progress bar.
        bar, in_notebook = progress_bar()
        if self.stream.isatty() or in_notebook:
            self.bar = bar(
                total=(self.steps - self._start_step) * self.images_per_step,
                unit=f" {self.unit}",
                unit_scale=True,
                file=self.stream,
                dynamic_ncols=True,
            )

    def _log(self, event: Mapping[str, Any]) -> None:
        metrics = metrics_text(event)
        if self.bar is not None:
            self.bar.set_postfix_str(metrics, refresh=False)
            return
        steps_done = event["step"] - self._start_step
        seconds_left = (
            (time.monotonic() - self._start_time)
            / max(steps_done, 1)
            * (self.steps - event["step"])
        )
        rate = event.get("images_per_second")  # absent where a coarse clock has not advanced
        speed = "" if rate is None else f"{rate:,.0f} {self.unit}/s  "
        self.line(
            f"step {event['step']:,}/{self.steps:,}  epoch {event['epoch']:.1f}  {metrics}  "
            f"{speed}{duration(seconds_left)} left"
        )

    def _evaluate(self, event: Mapping[str, Any]) -> None:
        best = ", the best so far" if event.get("best") else ""
        weights = f"{event['weights']} weights{best}"
        self.line(f"step {event['step']:,}: {describe_result(event)} ({weights})")

    def _skipped_files(self, event: Mapping[str, Any]) -> None:
        files: dict[str, str] = event["files"]
        listed = [f"{name} ({reason})" for name, reason in list(files.items())[:FILES_SHOWN]]
        more = f" and {len(files) - len(listed):,} more" if len(files) > len(listed) else ""
        count = "1 file" if len(files) == 1 else f"{len(files):,} files"
        self.line(f"skipped {count}: {'; '.join(listed)}{more}")

    def _rollback(self, event: Mapping[str, Any]) -> None:
        self.line(
            f"NaN or infinite values at step {event['diverged_step']:,}: rolled back to step "
            f"{event['step']:,} and continuing with other noise (attempt {event['attempt'] + 1})"
        )
        if self.bar is not None:
            self.bar.n = (event["step"] - self._start_step) * self.images_per_step
            self.bar.refresh()


def progress_bar() -> tuple[type[tqdm[Any]], bool]:
    """Return tqdm's class for this environment, and whether it is the notebook class.

    In a notebook without ipywidgets it is the terminal class.
    """
    if "IPython" not in sys.modules:  # the notebook class imports all of ipywidgets
        from tqdm import tqdm

        return tqdm, False
    from tqdm.auto import tqdm as bar
    from tqdm.notebook import tqdm_notebook

    return bar, issubclass(bar, tqdm_notebook)


def metrics_text(event: Mapping[str, Any]) -> str:
    """Return D(x), D(G(z)) and V of a log event, or the first metrics of a game without them."""
    curve = curve_spec([event])
    labels = curve.symbols if curve else {name: name for name in metric_names(event)[:3]}
    return "  ".join(
        f"{label} {event[name]:.3f}" for name, label in labels.items() if name in event
    )


def duration(seconds: float) -> str:
    """Return a length of time as text, in seconds, minutes or hours."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def result_text(result: TrainResult, seconds: float) -> str:
    """Return the last lines of a training: its files, and the commands to run next."""
    run = result.run
    files = [f"  {path}" for path in _output_files(run)]
    trust = " --trust-code" if result.trust_to_load else ""
    if result.signal is not None:
        trust = " --trust-code" if result.trust_to_resume else ""
        name = signal.Signals(result.signal).name
        return printable_lines(
            f"stopped by {name} at step {result.step:,}; everything is saved. Resume with:\n"
            f"  advnets train --resume --out {shell_quote(run)}{trust}"
        )
    if result.problem is not None:
        return "\n".join([f"ended after {duration(seconds)}:", *files])
    lines = [f"done in {duration(seconds)}:", *files]
    if result.ended_early:
        lines.insert(0, f"ended early at step {result.step:,}: {result.ended_early}")
    if result.best_step is not None:
        lines.append(f"the best checkpoint is of step {result.best_step:,} (--step best)")
    if result.eval_seconds and seconds > 0:
        share = 100 * result.eval_seconds / seconds
        lines.append(f"evaluations took {share:.1f} % of the time (--eval-every 0: none)")
    if metric := result.default_metric:
        lines += [
            f"next: evaluate the generator ({METRICS[metric].title}) and draw samples:",
            f"  advnets evaluate {shell_quote(run)} --metrics {metric}{trust}",
        ]
    else:
        lines.append("next: draw samples (there are no test images to evaluate on):")
    sample = f"  advnets sample {shell_quote(run)} --num-samples 64 --seed 1 --out samples.png"
    lines.append(f"{sample}{trust}")
    return printable_lines("\n".join(lines))


def _output_files(run: Path) -> list[Path]:
    grids = sorted((run / "samples").glob("step-*.png"))
    pages = [path for name in ("curves.png", "report.html") if (path := run / name).exists()]
    return [*grids[-1:], *pages]


def data_lines(data: Mapping[str, Any]) -> list[str]:
    """Return lines that describe a dataset: splits, classes, and unused files.

    `data` is what `experiment.train.data_summary` returns.
    """
    from advnets.data.image_folder.files import describe_unsupported, format_counts

    count = "streamed" if data["train"] is None else f"{data['train']:,}"
    unit, shape = data["unit"], shape_text(data["shape"], points=data["unit"] == "points")
    first = f"data: {data['name']}, {count} training {unit} of {shape}, "
    first += f"{data['valid']:,} validation, {data['test']:,} test"
    if data["unlabeled"]:
        unused = "" if data["uses_unlabeled"] else " (not used by this game)"
        first += f", {data['unlabeled']:,} unlabeled{unused}"
    lines, classes = [first], data["classes"]
    if len(classes) > CLASSES_SHOWN:
        fewest, most = min(classes.values()), max(classes.values())
        lines.append(f"classes: {len(classes):,}, of {fewest:,} to {most:,} training {unit}")
    elif classes:
        lines.append(f"classes: {format_counts(classes, CLASSES_SHOWN)}")
    return [*lines, *describe_unsupported(data["unsupported_files"]), *data["notes"]]


def parameters_text(parameters: Mapping[str, int]) -> str:
    """Return the line of the networks and their numbers of parameters."""
    counts = (f"{name} {count:,}" for name, count in parameters.items())
    return f"parameters: {', '.join(counts)}"


def shape_text(shape: Sequence[int], *, points: bool) -> str:
    """Return the shape of images as channels x height x width, of points as their dimensions."""
    if not points:
        return " x ".join(map(str, shape))
    return "1 dimension" if shape[0] == 1 else f"{shape[0]} dimensions"


def dry_run_text(report: DryRunReport, *, verbose: bool = False) -> str:
    """Return the report of a dry run: five lines, warnings, and with `verbose` the config."""
    # Time and memory come first.
    speeds = [
        f"{stage.steps:,} steps at {1 / stage.seconds_per_step:.1f} steps/s"
        for stage in report.stages
    ]
    runtime = report.config.runtime
    lines = [
        f"time: about {duration(report.seconds)} on {runtime.device} in {runtime.precision}: "
        f"{' and '.join(speeds)}, and {duration(report.other_seconds)} for the start, samples, "
        "evaluations, checkpoints and the report; estimated from a short training"
    ]
    if report.peak_bytes is None:
        lines.append("memory: unknown on this system")
    else:
        lines.append(f"memory: about {report.peak_bytes / 2**20:,.0f} MiB")
    lines += report.choices

    # Then what is trained.
    data, *details = data_lines(report.data)
    *_, last = report.stages
    lines += [data, parameters_text(last.parameters)]
    lines += details if verbose else report.data["notes"]
    written = "nothing was written"
    if report.packed_folders:
        folders = ", ".join(map(str, report.packed_folders))
        written += f" but the data, packed into the cache for training: {folders}"
    lines.append(written)
    if verbose:
        lines += ["config (resolved):", *_flat("  ", to_json(report.config))]
    return printable_lines("\n".join(lines))


def _flat(indent: str, record: Mapping[str, Any]) -> list[str]:
    lines: list[str] = []
    for key, value in record.items():
        items = list_to_dict(value)
        if isinstance(items, dict):
            lines += [f"{indent}{key}:", *_flat(indent + "  ", cast(dict[str, Any], items))]
        else:
            lines += [f"{indent}{key}: {value}"]
    return lines
