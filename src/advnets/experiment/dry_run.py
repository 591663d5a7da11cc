"""Estimates of the time and peak memory of a training, from a short one in a temporary folder."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from advnets import config
from advnets.data.spec import cached_dataset_folders
from advnets.experiment import setup
from advnets.experiment.memory_estimate import memory_advice
from advnets.experiment.session import Session, start_session
from advnets.experiment.stored_run import parameter_count
from advnets.experiment.train import data_summary, make_hooks, make_trainer
from advnets.games.custom import check_trusted
from advnets.models.custom import load_custom_models
from advnets.report.run_report import write_report
from advnets.run_directory import RunDirectory
from advnets.training import devices
from advnets.training.callback import Callback, CallbackList
from advnets.training.memory import explain_errors, memory_limit, peak_bytes
from advnets.training.trainer import Hooks, Trainer

WARMUP_STEPS = 3
TIMED_SECONDS = 3.0
_NEVER = 10**12
"""A number of steps that no training reaches."""
_PARTS = {
    "log_every": "log",
    "sample_every": "samples",
    "eval_every": "evaluate",
    "checkpoint_every": "checkpoint",
}
"""The timed parts of a training, by the option that is their interval."""


@dataclass(frozen=True)
class StageEstimate:
    """The size and the estimated time of one stage."""

    parameters: dict[str, int]
    steps: int
    seconds_per_step: float
    other_seconds: float
    """The estimated time of evaluations, samples, checkpoints and the setup, in seconds."""


@dataclass(frozen=True)
class DryRunReport:
    """The result of a dry run."""

    config: config.Config
    data: dict[str, Any]
    """The return value of `data_summary`."""
    stages: tuple[StageEstimate, ...]
    peak_bytes: int | None
    """The peak memory of this process, or of the GPU, in bytes; None: unknown on this system."""
    other_seconds: float
    """The estimated time of all that is not a step, in seconds, from the start of the process."""
    choices: tuple[str, ...] = ()
    """A sentence for each option that was "auto": the choice of trials, and the reason."""
    packed_folders: tuple[Path, ...] = ()
    """The cache folders that were written when the data was opened."""

    @property
    def seconds(self) -> float:
        """The estimated time of the command, in seconds."""
        steps = sum(stage.steps * stage.seconds_per_step for stage in self.stages)
        return steps + self.other_seconds


def dry_run(run_config: config.Config, *, trust_code: bool = False) -> DryRunReport:
    """Train each stage for some seconds in a temporary folder, and estimate the whole training.

    The short training draws samples, evaluates, saves and writes a report as the whole one does.
    Data that is opened for the first time is packed into the cache; nothing else remains.

    Raises:
        DataError: the data is missing or invalid.
        OutOfMemoryError: the training needs more memory than there is.
        RunError: the file of a custom game is not trusted (`trust_code`) or has changed.
        StoppedBySignal: a signal arrived.
    """
    imports = time.process_time()
    check_trusted(run_config, trust_code=trust_code)
    load_custom_models(run_config, trust_code=False)
    setup.with_pretrained_generator(run_config, trust_code=trust_code)  # loads the code of that run
    with tempfile.TemporaryDirectory(prefix="advnets-") as folder, devices.catch_stop_signals():
        run, before = RunDirectory(Path(folder) / "run"), cached_dataset_folders()
        run.path.mkdir()

        # Open the data and resolve the config; packing the data is no part of the training.
        start = time.monotonic()
        session = start_session(run, run_config, None)
        new = cached_dataset_folders() - before
        if new:
            start = time.monotonic()
            session = start_session(run, run_config, None)
        session.trust_code, resolved = trust_code, session.config
        device = devices.setup_process(resolved.runtime)
        opening = time.monotonic() - start

        # Train each stage, and write the report.
        stopwatch = _Stopwatch(device)
        hooks = make_hooks(run, session, device, CallbackList([stopwatch]))
        with (
            explain_errors(memory_advice(resolved)),
            memory_limit(device, resolved.runtime.threads),
        ):
            stages = tuple(
                _estimate_stage(run, session, number, hooks, stopwatch)
                for number in range(len(resolved.stages))
            )
        start = time.monotonic()
        write_report(run.path)
        reporting = time.monotonic() - start
    return DryRunReport(
        config=resolved,
        data=data_summary(session.data.dataset, resolved),
        stages=stages,
        peak_bytes=peak_bytes(device),
        other_seconds=imports + opening + reporting + sum(s.other_seconds for s in stages),
        choices=session.choices,
        packed_folders=tuple(sorted(folder for folder in new if folder.parent not in new)),
    )


class _Stopwatch(Callback):
    """A callback that ends a stage after some time, and times the parts of the training."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}
        """The time of the steps, and of one log, grid, evaluation and checkpoint, in seconds."""
        self._trainer: Trainer | None = None
        self._start = self._last = 0.0

    def start(self, trainer: Trainer) -> None:
        """End this stage after the next `TIMED_SECONDS`; forget what was timed before."""
        self.seconds, self._trainer = {}, trainer
        self._start = self._last = self._now()

    def on_step(self, step: int) -> None:  # noqa: ARG002
        """End the stage with this step if it is time."""
        if self._trainer is not None and time.monotonic() - self._start >= TIMED_SECONDS:
            self._trainer.steps = self._trainer.state.progress.step
            self._lap("steps")

    def on_event(self, event: Mapping[str, Any]) -> None:
        """Time a log or an evaluation."""
        self._lap(event["kind"])

    def on_samples(self, step: int, path: Path) -> None:  # noqa: ARG002
        """Time a grid of samples."""
        self._lap("samples")

    def on_checkpoint(self, step: int, path: Path) -> None:  # noqa: ARG002
        """Time a checkpoint."""
        self._lap("checkpoint")

    def _lap(self, part: str) -> None:
        """Add the time since the last lap to a part."""
        now = self._now()
        self.seconds[part] = self.seconds.get(part, 0.0) + now - self._last
        self._last = now

    def _now(self) -> float:
        """Return the time in seconds, after all work on the device is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.monotonic()


def _estimate_stage(
    run: RunDirectory, session: Session, number: int, hooks: Hooks, stopwatch: _Stopwatch
) -> StageEstimate:
    # Build the stage; its trainer logs, draws samples, evaluates and saves at the last step only.
    start, intervals = time.monotonic(), session.intervals
    state = setup.make_train_state(
        session.config, session.data, number, stopwatch.device, trust_code=session.trust_code
    )
    trainer = make_trainer(run, session, number, state, hooks, devices.StopRequest())
    every = {name: getattr(intervals, name) for name in _PARTS}
    trainer.intervals = replace(intervals, **{name: _NEVER for name, n in every.items() if n})

    # Time the first steps and parts, in which caches are filled, then more steps and the parts.
    trainer.steps = WARMUP_STEPS
    trainer.run()
    first_seconds = time.monotonic() - start
    trainer.steps = _NEVER
    stopwatch.start(trainer)
    trainer.run()

    # Count each part, of which the first steps had one.
    steps = session.config.stages[number].steps or 0
    seconds_per_step = stopwatch.seconds["steps"] / (trainer.steps - WARMUP_STEPS)
    later = sum(
        stopwatch.seconds.get(part, 0.0) * max(-(-steps // n) - 1, 0)
        for name, part in _PARTS.items()
        if (n := every[name])
    )
    counts = {name: parameter_count(net) for name, net in state.players.items()}
    other = max(first_seconds - WARMUP_STEPS * seconds_per_step, 0.0) + later
    return StageEstimate(counts, steps, seconds_per_step, other)
