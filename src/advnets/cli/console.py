"""What a person sees of a training: a bar on a terminal, else one plain line a log interval."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tqdm import tqdm

from advnets.config.serialize import list_to_dict, to_json
from advnets.errors import printable, printable_lines
from advnets.files import shell_quote
from advnets.output import TextStream, make_tolerant
from advnets.plots.training_curves import curve_spec, observed_names
from advnets.report.score_text import describe_result

if TYPE_CHECKING:
    from advnets.experiment.dry_run import DryRunReport
    from advnets.experiment.train import TrainResult

FILES_SHOWN = 10
"""Broken files that are named one by one on the console; events.jsonl has them all."""

CLASSES_SHOWN = 20
"""Classes that are counted one by one."""


class Console:
    """Shows events and progress; a `training.loop.Watcher`."""

    def __init__(self, images_a_round: int = 1, stream: TextStream | None = None) -> None:
        self.stream = make_tolerant(stream or sys.stderr)
        self.images_a_round = images_a_round
        self.bar: tqdm[Any] | None = None
        self.steps = 0
        self._began, self._began_at = time.monotonic(), 0

    def on_event(self, event: Mapping[str, Any]) -> None:
        """Show an event."""
        show = {
            "start": self._opened,
            "resume": self._opened,
            "log": self._log,
            "evaluate": self._evaluated,
            "rollback": self._rolled_back,
            "skipped_files": self._skipped_files,
        }.get(event["kind"])
        if show:
            show(event)

    def on_step(self, step: int) -> None:
        """Move the bar."""
        if self.bar is not None:
            self.bar.update((step - self._began_at) * self.images_a_round - self.bar.n)

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def line(self, text: str) -> None:
        """Print a line, above the bar if there is one."""
        text = printable(text)
        if self.bar is not None:
            self.bar.write(text, file=self.stream)
        else:
            print(text, file=self.stream, flush=True)

    def _opened(self, event: Mapping[str, Any]) -> None:
        self.steps, self._began, self._began_at = event["steps"], time.monotonic(), event["step"]
        begins = "begins" if event["kind"] == "start" else f"goes on from step {event['step']:,}"
        self.line(
            f"training {begins}: {self.steps:,} steps on {event['device']} in {event['precision']}"
        )
        for text in data_lines(event["data"]) if "data" in event else ():
            self.line(text)
        for name, (before, now) in event.get("changed", {}).items():
            self.line(
                f"{name} is {now}, no longer {before}: from step {event['step']:,} on, the run is "
                "not bit-exact any more"
            )
        if self.stream.isatty():
            self.bar = tqdm(
                total=(self.steps - self._began_at) * self.images_a_round,
                unit=" images",
                unit_scale=True,
                file=self.stream,
                dynamic_ncols=True,
            )

    def _log(self, event: Mapping[str, Any]) -> None:
        watched = watched_values(event)
        if self.bar is not None:
            self.bar.set_postfix_str(watched, refresh=False)
            return
        done = event["step"] - self._began_at
        left = (time.monotonic() - self._began) / max(done, 1) * (self.steps - event["step"])
        rate = event.get("images_per_second")  # absent where a coarse clock has not advanced
        speed = "" if rate is None else f"{rate:,.0f} images/s  "
        self.line(
            f"step {event['step']:,}/{self.steps:,}  epoch {event['epoch']:.1f}  {watched}  "
            f"{speed}{duration(left)} left"
        )

    def _evaluated(self, event: Mapping[str, Any]) -> None:
        self.line(f"step {event['step']:,}: {describe_result(event)} ({event['weights']} weights)")

    def _skipped_files(self, event: Mapping[str, Any]) -> None:
        files: dict[str, str] = event["files"]
        shown = [f"{name} ({reason})" for name, reason in list(files.items())[:FILES_SHOWN]]
        more = f" and {len(files) - len(shown):,} more" if len(files) > len(shown) else ""
        what = "1 file was" if len(files) == 1 else f"{len(files):,} files were"
        self.line(f"{what} left out: {'; '.join(shown)}{more}")

    def _rolled_back(self, event: Mapping[str, Any]) -> None:
        self.line(
            f"numbers that are not finite were met by step {event['met']:,}: returned to step "
            f"{event['step']:,}, going on with other noise (try {event['attempt'] + 1})"
        )
        if self.bar is not None:
            self.bar.n = (event["step"] - self._began_at) * self.images_a_round
            self.bar.refresh()


def watched_values(event: Mapping[str, Any]) -> str:
    """D(x), D(G(z)) and V, or D(x, G(z)) of pairs and V; of other games what they observe."""
    shown = curve_spec([event])
    names = shown.symbols if shown else {name: name for name in observed_names(event)[:3]}
    shown = [f"{label} {event[name]:.3f}" for name, label in names.items() if name in event]
    return "  ".join(shown)


def duration(seconds: float) -> str:
    """A length of time as a person says it."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def ending(ending: TrainResult, seconds: float) -> str:
    """What a training says last: what it left, and what to type next."""
    run = ending.run
    files = [f"  {path}" for path in _left_behind(run)]
    if ending.signal is not None:
        name = signal.Signals(ending.signal).name
        return printable_lines(
            f"stopped by {name} at step {ending.step:,}; everything is saved. Go on with:\n"
            f"  advnets train --resume --out {shell_quote(run)}"
        )
    if ending.problem is not None:
        return "\n".join([f"ended after {duration(seconds)}:", *files])
    lines = [f"done in {duration(seconds)}:", *files]
    if ending.score:
        metric, found = _SCORES[ending.score]
        lines += [
            f"next, {found}, and samples:",
            f"  advnets evaluate {shell_quote(run)}{metric}",
        ]
    else:
        lines.append("next, samples (there are no test images to compare them with):")
    lines.append(f"  advnets sample {shell_quote(run)} --num-samples 64 --seed 1 --out samples.png")
    return printable_lines("\n".join(lines))


_SCORES = {
    "parzen": ("", "the Parzen log-likelihood beside that of real images"),
    "points": (" --metrics points", "the modes, their shares and widths"),
    "divergence": (" --metrics divergence", "the KL and JS divergence from the density"),
}
"""Flags of `advnets evaluate` and what it finds, by the metric to look at first."""


def _left_behind(run: Path) -> list[Path]:
    grids = sorted((run / "samples").glob("step-*.png"))
    pages = [path for name in ("curves.png", "report.html") if (path := run / name).exists()]
    return [*grids[-1:], *pages]


def data_lines(data: Mapping[str, Any]) -> list[str]:
    """Say what a training learns from: splits, classes, and what is not used.

    `data` is what `experiment.data_summary` returns.
    """
    from advnets.data.image_folder.unsupported_files import describe_unsupported, format_counts

    count = "a stream of" if data["train"] is None else f"{data['train']:,}"
    shape = " x ".join(str(n) for n in data["shape"])
    first = f"data: {data['name']}, {count} training images of {shape}, "
    first += f"{data['valid']:,} validation, {data['test']:,} test"
    if data["unlabeled"]:
        used = "" if data["uses_unlabeled"] else " (not used by this game)"
        first += f", {data['unlabeled']:,} unlabeled{used}"
    lines, classes = [first], data["classes"]
    if len(classes) > CLASSES_SHOWN:
        least, most = min(classes.values()), max(classes.values())
        lines.append(f"classes: {len(classes):,}, of {least:,} to {most:,} training images")
    elif classes:
        lines.append(f"classes: {format_counts(classes, CLASSES_SHOWN)}")
    return [*lines, *describe_unsupported(data["unused"]), *data["notes"]]


def plan_text(plan: DryRunReport) -> str:
    """A dry run's findings as lines."""
    lines = ["config (resolved):", *_flat("  ", to_json(plan.config))]
    lines += data_lines(plan.data)
    for number, stage in enumerate(plan.stages):
        counts = ", ".join(f"{name} {count:,}" for name, count in stage.parameters.items())
        lines += [
            f"stage {number + 1}: parameters: {counts}",
            f"stage {number + 1}: {stage.steps:,} steps of {stage.seconds_per_step * 1e3:.1f} ms: "
            f"about {duration(stage.seconds)}",
        ]
    lines += [
        f"time: about {duration(plan.seconds)}, measured on a few steps",
        f"memory: {_megabytes(plan.peak_bytes)}",
        _written(plan.packed),
    ]
    return printable_lines("\n".join(lines))


def _written(packed: Sequence[Path]) -> str:
    if not packed:
        return "nothing was written"
    folders = ", ".join(map(str, packed))
    return (
        "nothing was written but the data, packed into the cache, where training finds them: "
        f"{folders}"
    )


def _megabytes(n: int | None) -> str:
    return "not known on this system" if n is None else f"about {n / 2**20:,.0f} MiB"


def _flat(indent: str, record: Mapping[str, Any]) -> list[str]:
    lines: list[str] = []
    for key, value in record.items():
        items = list_to_dict(value)
        if isinstance(items, dict):
            lines += [f"{indent}{key}:", *_flat(indent + "  ", cast(dict[str, Any], items))]
        else:
            lines += [f"{indent}{key}: {value}"]
    return lines
