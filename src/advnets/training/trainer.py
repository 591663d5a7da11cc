"""The loop around Algorithm 1: ticks, checkpoints, roll-back, a clean stop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from advnets.config import Intervals
from advnets.errors import DivergedError
from advnets.run_directory import RunDirectory
from advnets.training.checkpoint import (
    Checkpoint,
    load_module,
    load_state,
    module_tensors,
    newest_usable_checkpoint,
    state_tensors,
    write_checkpoint,
)
from advnets.training.devices import Interruption
from advnets.training.ema import EMA
from advnets.training.final_state import (
    ADVICE,
    InitialWeights,
    Problem,
    all_finite,
    training_problem,
)
from advnets.training.step import Progress, TrainState, next_losses, train_step

MAX_ROLLBACKS = 3
"""Meetings with numbers that are not finite after which a run stops with advice."""
CHECKPOINTS_KEPT = 2


@runtime_checkable
class Callback(Protocol):
    """Somebody who looks on: a progress bar, a log, a notebook."""

    def on_event(self, event: Mapping[str, Any]) -> None:
        """Told of every event, after it is written."""
        ...

    def on_step(self, step: int) -> None:
        """Told of every step."""
        ...


@dataclass(frozen=True)
class Callbacks:
    """What the loop calls and knows nothing of."""

    callback: Callback
    save_samples: Callable[[nn.Module, int], None]
    """Given the generator to look at, and the step, at the samples' tick."""
    evaluate: Callable[[nn.Module], Mapping[str, Any]]
    """Given each generator that is kept, at the evaluation's tick; what it says is an event."""


@dataclass(frozen=True)
class Timer:
    """Runs from a moment and a batch on; what looking on takes is not counted."""

    batch: int = 0
    wall: float = field(default_factory=time.monotonic)
    processor: float = field(default_factory=time.process_time)

    def without(self, other: Timer) -> Timer:
        """The watch less what has passed on the other until now."""
        now = Timer()
        wall, processor = now.wall - other.wall, now.processor - other.processor
        return Timer(self.batch, self.wall + wall, self.processor + processor)


@dataclass
class Trainer:
    """One stage of a run, from wherever it stands to its last step."""

    state: TrainState
    directory: RunDirectory
    intervals: Intervals
    steps: int
    callbacks: Callbacks
    interruption: Interruption
    emas: Mapping[str, EMA] = field(default_factory=dict[str, EMA])
    """By player; each stands beside the training and changes nothing in it."""
    stage: int = 0
    steps_before: int = 0
    """Steps of the stages before this one: names and events count the whole run."""
    batch_size: int = 1
    loss_limit: float = math.inf
    """Absolute loss beyond which the last state counts as diverged."""
    identity: str = ""
    """What tells this run from others; its checkpoints carry it, and no other one is restored."""
    attempt: int = field(default=0, init=False)
    _initial: InitialWeights = field(init=False)
    _sums: dict[str, Tensor] = field(default_factory=dict[str, Tensor], init=False)
    _summed: int = field(default=0, init=False)
    _all_finite: Tensor | None = field(default=None, init=False)
    _since: Timer = field(default_factory=Timer, init=False)

    def __post_init__(self) -> None:
        self._initial = InitialWeights.of(self.state.players)

    @property
    def step(self) -> int:
        """Rounds played in the whole run."""
        return self.steps_before + self.state.progress.step

    @property
    def generators(self) -> dict[str, nn.Module]:
        """The generators that are kept, by what their weights are."""
        last = {"last": self.state.players["generator"]}
        averaged = self.emas.get("generator")
        return {"ema": averaged.module} | last if averaged else last

    @property
    def images_seen(self) -> nn.Module:
        """The generator that samples come from: the weight average where one is kept."""
        return next(iter(self.generators.values()))

    def run(self) -> bool:
        """Play until the last step or until asked to stop; say whether the stage is complete.

        Raises:
            DivergedError: numbers that are not finite were met for the third time.
            WriteError: a checkpoint could not be written; the one before stays valid.
        """
        position = self.state.progress
        if position.step == 0:
            self.save()  # so that there is a good state to return to from the first step on
        self._since = Timer(position.batches_read)
        while True:
            while self.state.progress.step < self.steps and not self.interruption:
                self._run()
            # Save the last state; if it is not finite, go on from the state that is restored.
            if not self._needs_saving():
                break
            if self._check(state=True):
                self.save()
                break
        return self.state.progress.step >= self.steps

    def problem(self) -> Problem | None:
        """Return why the state that the stage ended in is not usable; None: it is within bounds."""
        losses = next_losses(self.state)
        return training_problem(self._initial, self.state.players, losses, self.loss_limit)

    def _run(self) -> None:
        shown = train_step(self.state)
        for name, average in self.emas.items():
            average.update(self.state.players[name], self.state.progress.step)
        self._accumulate(shown.metrics, shown.finite)
        self.interruption.deferred = True  # from here on there is something to save
        self.callbacks.callback.on_step(self.step)
        due = self._due
        saving = due(self.intervals.checkpoint_every)
        looking_on = due(self.intervals.sample_every) or due(self.intervals.eval_every)
        if (due(self.intervals.log_every) or saving or looking_on) and not self._check(
            saving or looking_on
        ):
            return
        if due(self.intervals.log_every):
            self._log()
        looking = Timer()
        try:
            if due(self.intervals.sample_every):
                self.callbacks.save_samples(self.images_seen, self.step)
            if due(self.intervals.eval_every):
                self._evaluate()
        except DivergedError:  # finite weights, and samples that are not
            self._roll_back()
            return
        if saving:
            self.save()
        self._since = self._since.without(looking)

    def _evaluate(self) -> None:
        place = {"kind": "evaluate", "epoch": self._epoch}
        for weights, generator in self.generators.items():
            self._event({**place, "weights": weights, **self.callbacks.evaluate(generator)})

    @property
    def _epoch(self) -> float:
        return self.state.loader.epoch_at(self.state.progress.batches_read)

    def _due(self, every: int) -> bool:
        step = self.state.progress.step
        return every > 0 and (step % every == 0 or step == self.steps)

    def _needs_saving(self) -> bool:
        return not self.directory.checkpoint_file(self.step).exists()

    def _accumulate(self, metrics: Mapping[str, Tensor], finite: Tensor) -> None:
        """Add to sums that stay on the device until the tick."""
        for name, value in metrics.items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(value)) + value
        self._summed += 1
        self._all_finite = finite if self._all_finite is None else self._all_finite & finite

    def _check(self, state: bool) -> bool:
        """Return whether every step since the last check was finite; if not, restore a good state.

        `state` is whether the state itself is checked too, as before a save: an update of finite
        numbers can overflow.
        """
        steps_finite = self._all_finite is None or bool(self._all_finite)
        if steps_finite and (not state or all_finite(self._checkpoint())):
            return True
        self._roll_back()
        return False

    def _roll_back(self) -> None:
        """Restore the last good state, from which other noise leads on.

        Raises:
            DivergedError: it is the third time.
        """
        met, self.attempt = self.step, self.attempt + 1
        if self.attempt >= MAX_ROLLBACKS:
            raise DivergedError(
                f"numbers that are not finite were met by step {met} for the "
                f"{MAX_ROLLBACKS}rd time; the last good state is {self.directory.newest_checkpoint()}: "
                f"{ADVICE}"
            )
        attempt = self.attempt
        # The newest regular one first: a stop saves at any step, and must not change the training.
        regular = self._regular_checkpoints()
        files = [
            file for file in self.directory.checkpoint_files() if file not in regular
        ] + regular
        newest = newest_usable_checkpoint(
            files, self.identity, lambda facts: facts["stage"] == self.stage
        )
        for path in newest.unusable:
            self.directory.quarantine_checkpoint(path)
        self.restore(newest.checkpoint)
        # Other noise than last time, or the same steps would lead to the same end.
        self._retry(attempt)
        unusable = {path.name: why for path, why in newest.unusable.items()}
        left_out = {"files": unusable} if unusable else {}
        self._event({"kind": "rollback", "met": met, "attempt": attempt, **left_out})

    def _regular_checkpoints(self) -> list[Path]:
        """Return the stage's checkpoints that a run without a stop has as well, oldest first."""
        every = self.intervals.checkpoint_every or self.steps + 1
        files, before = self.directory.checkpoints_by_step(), self.steps_before
        return [file for n, file in files.items() if n >= before and (n - before) % every == 0]

    def _retry(self, attempt: int) -> None:
        self.attempt = attempt
        self.state.rng = self.state.rng.attempt(attempt)

    def _checkpoint(self) -> Iterator[Tensor]:
        for module in (*self.state.players.values(), *(a.module for a in self.emas.values())):
            yield from module.state_dict().values()

    def _log(self) -> None:
        now, since = Timer(self.state.progress.batches_read), self._since
        seconds = now.wall - since.wall
        images = (now.batch - since.batch) * self.batch_size
        means = {name: float(value) / self._summed for name, value in self._sums.items()}
        self._event(
            {
                "kind": "log",
                "epoch": self._epoch,
                "seconds": round(seconds, 3),
                # Of all threads: on a machine that is busy with other work, what it really took.
                "processor_seconds": round(now.processor - since.processor, 3),
                # Left out where a coarse clock has not advanced.
                **({"images_per_second": round(images / seconds, 1)} if seconds else {}),
                **means,
            }
        )
        self._since = now
        # A last step that is no multiple of the interval is logged too, and the means go on: a run
        # that is resumed for more steps observes what a longer one would have observed.
        if self.state.progress.step % self.intervals.log_every == 0:
            self.state.last_metrics = means
            self._clear()

    def _clear(self) -> None:
        self._sums, self._summed, self._all_finite = {}, 0, None

    def _event(self, event: Mapping[str, Any]) -> None:
        event = {"step": self.step, **event}
        self.directory.append_event(event)
        self.callbacks.callback.on_event(event)

    def save(self) -> Path:
        """Write a checkpoint of everything; keep the newest few.

        Raises:
            WriteError: it could not be written; the one before stays valid.
        """
        state, path = self.state, self.directory.checkpoint_file(self.step)
        tensors: dict[str, Tensor] = {}
        for name, player in state.players.items():
            tensors |= module_tensors(f"players/{name}", player)
        for name, mover in state.optimizers.items():
            tensors |= state_tensors(f"optimizers/{name}", mover.state)
        for name, average in self.emas.items():
            tensors |= module_tensors(f"ema/{name}", average.module)
        tensors |= {f"sums/{name}": value for name, value in self._sums.items()}
        facts = {
            "step": self.step,
            "stage": self.stage,
            "attempt": self.attempt,
            "position": vars(state.progress),
            "summed": self._summed,
            "last_observed": dict(state.last_metrics),
        }
        write_checkpoint(path, Checkpoint(tensors, facts, self.identity))
        self.directory.prune_checkpoints(CHECKPOINTS_KEPT, self._regular_checkpoints()[-1:])
        return path

    def restore(self, checkpoint: Checkpoint) -> None:
        """Return to the state of a checkpoint, to the bit.

        Raises:
            CheckpointError: it is of other nets or optimizers.
        """
        state, facts = self.state, checkpoint.facts
        for name, player in state.players.items():
            load_module(f"players/{name}", player, checkpoint.tensors)
        for name, mover in state.optimizers.items():
            load_state(f"optimizers/{name}", mover.state, checkpoint.tensors)
        for name, average in self.emas.items():
            load_module(f"ema/{name}", average.module, checkpoint.tensors)
        state.progress = Progress(**facts["position"])
        state.last_metrics = facts["last_observed"]
        self._retry(facts["attempt"])
        self._clear()
        start = "sums/"
        self._sums = {
            name.removeprefix(start): value.to(self.state.rng.device)
            for name, value in checkpoint.tensors.items()
            if name.startswith(start)
        }
        self._summed = facts["summed"]
        self._since = Timer(state.progress.batches_read)
