"""The training loop: Algorithm 1 with logging, checkpoints, roll-back and a clean stop."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from advnets.config import Intervals
from advnets.distributed import (
    all_succeed,
    broadcast_object,
    broadcast_tensors,
    is_main,
    shared_work,
)
from advnets.errors import STABILITY_ADVICE, CustomCodeError, DivergedError
from advnets.run_directory import RunDirectory
from advnets.training.callback import CallbackList
from advnets.training.checkpoint import (
    WEIGHTS_ONLY,
    Checkpoint,
    NewestCheckpoint,
    Owner,
    load_tensors,
    named_tensors,
    newest_usable_checkpoint,
    write_checkpoint,
)
from advnets.training.devices import StopRequest
from advnets.training.ema import EMA
from advnets.training.selection import Selection, best_step
from advnets.training.step import Progress, TrainState, next_losses, train_step

MAX_ROLLBACKS = 3
"""The number of steps with non-finite numbers at which a run stops."""
_SUMS = "metric_sums/"
"""Prefix of the sums of metrics in a checkpoint."""


@dataclass(frozen=True)
class Hooks:
    """The functions that the training loop calls at its intervals, and the callbacks."""

    callbacks: CallbackList
    save_samples: Callable[[nn.Module, int], None]
    """Save samples of a generator, at a step."""
    evaluate: Callable[[nn.Module], Mapping[str, Any]]
    """Return the scores of a generator, as fields of an event."""


@dataclass(frozen=True)
class Timer:
    """The start of a measurement: time, CPU time and the index of the next minibatch."""

    batch: int = 0
    wall: float = field(default_factory=time.monotonic)
    cpu: float = field(default_factory=time.process_time)

    def excluding(self, other: Timer) -> Timer:
        """Return a timer that excludes the time since the start of another."""
        now = Timer()
        wall, cpu = now.wall - other.wall, now.cpu - other.cpu
        return Timer(self.batch, self.wall + wall, self.cpu + cpu)


@dataclass
class Trainer:
    """The training of one stage of a run, from its current step to its last."""

    state: TrainState
    directory: RunDirectory
    intervals: Intervals
    steps: int
    """The last step of the stage."""
    hooks: Hooks
    stop_request: StopRequest
    selection: Selection | None = None
    """Selection of the best step, and early stopping; None: neither is requested."""
    emas: Mapping[str, EMA] = field(default_factory=dict[str, EMA])
    """EMA of each player's weights; they do not affect training."""
    evaluates_all: bool = True
    """Whether the last weights are evaluated as well where there is an EMA."""
    stage: int = 0
    steps_before: int = 0
    """Steps of the earlier stages: file names and events count the steps of the whole run."""
    batch_size: int = 1
    loss_limit: float = math.inf
    """Absolute loss above which the final state counts as diverged."""
    frozen: Collection[str] = ()
    """Players whose learning rate is 0."""
    identity: str = ""
    """Identity of the run. It is stored in checkpoints, and only those with it are restored."""
    attempt: int = field(default=0, init=False)
    """Number of roll-backs."""
    eval_seconds: float = field(default=0.0, init=False)
    """The time of evaluations, in seconds."""
    _initial_weights: InitialWeights = field(init=False)
    _sums: dict[str, Tensor] = field(default_factory=dict[str, Tensor], init=False)
    """Sums of the metrics since the last log."""
    _summed_steps: int = field(default=0, init=False)
    _all_finite: Tensor | None = field(default=None, init=False)
    """Whether every step since the last log was finite, on the device."""
    _last_log: Timer = field(default_factory=Timer, init=False)
    """The time of the last log."""
    _saved: tuple[int, int] | None = field(default=None, init=False)
    """The step and the attempt of the state that was saved or restored last."""
    _best_step: int | None = field(default=None, init=False)
    """The step of the checkpoint to keep as the best; None: there is none."""
    _all_stop: bool = field(default=False, init=False)
    """Whether a stop was requested in any of several processes, as all of them know."""

    def __post_init__(self) -> None:
        self._initial_weights = InitialWeights.from_players(self.state.players)
        self.state.stop_requested = lambda: self._stop_requested_here

    @property
    def step(self) -> int:
        """Completed steps of the whole run."""
        return self.steps_before + self.state.progress.step

    @property
    def generators(self) -> dict[str, nn.Module]:
        """The generators to evaluate, by their weights: "ema" where there is one, and "last"."""
        last = {"last": self.state.players["generator"]}
        ema = self.emas.get("generator")
        return {"ema": ema.module} | last if ema else last

    @property
    def sampled_generator(self) -> nn.Module:
        """The generator whose samples are saved: the EMA where there is one."""
        return next(iter(self.generators.values()))

    def run(self) -> bool:
        """Train until the last step or a request to stop; return whether the stage is complete.

        An exception of a callback is a request to stop. A stage that ends early is complete.

        Raises:
            DivergedError: non-finite numbers occurred for the third time.
            WriteError: a checkpoint could not be written; the previous one stays valid.
        """
        progress = self.state.progress
        self._reset_selection()
        if progress.step == 0:
            self.save()  # a state to roll back to
        self._last_log = Timer(progress.batches_read)
        while True:
            while self.state.progress.step < self.steps and not self._stop_requested:
                self._step()
            # Save the final state; if it is not finite, roll back and continue training.
            if self._saved == (self.step, self.attempt):
                break
            if self._check_finite(include_state=True):
                self.save()
                break
        return self.state.progress.step >= self.steps or self.ends_early

    @property
    def _stop_requested(self) -> bool:
        alone = self.state.world_size == 1
        return (self._stop_requested_here if alone else self._all_stop) or self.ends_early

    @property
    def _stop_requested_here(self) -> bool:
        return bool(self.stop_request) or self.hooks.callbacks.error is not None

    @property
    def ends_early(self) -> bool:
        """Whether the evaluations have not improved for long enough to end before the last step."""
        selection, step = self.selection, self.state.progress.step
        return selection is not None and selection.patience_exhausted and step < self.steps

    def _reset_selection(self) -> None:
        events, self._best_step = broadcast_object(self._recorded() if is_main() else ([], None))
        if self.selection is not None:
            self.selection.reset(events, next(iter(self.generators)), self.steps_before)

    def _recorded(self) -> tuple[list[dict[str, Any]], int | None]:
        """Return the events of the run, and the step of its best checkpoint."""
        events = self.directory.events()
        return events, best_step(events, self.directory.checkpoints_by_step())

    def problem(self) -> Problem | None:
        """Return why the final state of the stage is not usable, or None if it is."""
        losses = next_losses(self.state)
        return training_problem(
            self._initial_weights, self.state.players, losses, self.loss_limit, self.frozen
        )

    def _step(self) -> None:
        """Perform one step; then log, sample, evaluate and save where these are due."""
        # Update the players, the weight averages and the sums of metrics.
        output = train_step(self.state)
        for name, ema in self.emas.items():
            ema.update(self.state.players[name], self.state.progress.step)
        self._accumulate(output.metrics, output.finite)
        self.stop_request.deferred = True  # from the first step on there is a state to save
        self.hooks.callbacks.on_step(self.step)

        # Before anything is logged, saved or evaluated, check that all numbers were finite.
        due = self._due
        logging, saving = due(self.intervals.log_every), due(self.intervals.checkpoint_every)
        if output.stop is not None and (logging or output.stop.device.type == "cpu"):
            self._all_stop = bool(output.stop)  # on a GPU this waits for the step
        sampling, evaluating = due(self.intervals.sample_every), due(self.intervals.eval_every)
        uses_state = saving or sampling or evaluating
        if (logging or uses_state) and not self._check_finite(include_state=uses_state):
            return
        if logging:
            self._log()

        # Save samples and evaluate, without counting their time.
        start = Timer()
        try:
            if sampling:
                self.hooks.save_samples(self.sampled_generator, self.step)
                path = self.directory.sample_file(self.step)
                self.hooks.callbacks.on_samples(self.step, path)
            if evaluating:
                saving |= self._evaluate()
        except DivergedError:  # samples of finite weights can be non-finite
            self._roll_back()
            return
        if saving:
            self.save()
        self._last_log = self._last_log.excluding(start)

    def _evaluate(self) -> bool:
        """Write the scores of the generators as events; return whether to keep this checkpoint."""
        selection, keep, start = self.selection, False, Timer()
        for weights, generator in self.generators.items():
            if not (self.evaluates_all or generator is self.sampled_generator):
                continue
            event = {"kind": "evaluate", "step": self.step, "epoch": self._epoch}
            try:
                with all_succeed(), shared_work():
                    scores = self.hooks.evaluate(generator)
                scores = broadcast_object(scores)
            except CustomCodeError as error:  # a request to stop, as that of a callback
                self.hooks.callbacks.stop(error, self.step)
                break
            event |= {"weights": weights, **scores}
            # The generator that is sampled is the one to select by.
            if selection is not None and generator is self.sampled_generator:
                is_best = selection.update(event)
                if is_best and selection.keep_best:
                    event["best"], keep, self._best_step = selection.value, True, self.step
            self._record_event(event)
        self.eval_seconds += Timer().wall - start.wall
        return keep

    @property
    def _epoch(self) -> float:
        return self.state.loader.epoch_at(self.state.progress.batches_read)

    def _due(self, every: int | None) -> bool:
        step = self.state.progress.step
        return bool(every) and (step % every == 0 or step == self.steps)

    def _accumulate(self, metrics: Mapping[str, Tensor], finite: Tensor) -> None:
        """Add metrics to their sums, on the device."""
        sums = {
            name: self._sums.get(name, torch.zeros_like(value)) + value
            for name, value in metrics.items()
        }
        # In the order of the game's metrics, which a checkpoint does not keep.
        self._sums = {**sums, **{name: s for name, s in self._sums.items() if name not in sums}}
        self._summed_steps += 1
        self._all_finite = finite if self._all_finite is None else self._all_finite & finite

    def _check_finite(self, *, include_state: bool) -> bool:
        """Return whether all steps since the last check were finite; if not, roll back.

        With `include_state` the weights and buffers are checked too, as before a checkpoint: an
        update by finite numbers can overflow.
        """
        finite = self._all_finite is None or bool(self._all_finite)
        if finite and include_state:
            modules = (owner for owner in self._owners().values() if isinstance(owner, nn.Module))
            finite = all_finite(t for module in modules for t in module.state_dict().values())
        if finite:
            return True
        self._roll_back()
        return False

    def _roll_back(self) -> None:
        """Restore the newest usable checkpoint, and continue with other random numbers.

        Raises:
            DivergedError: this is the third divergence.
        """
        diverged_step, self.attempt = self.step, self.attempt + 1
        if self.attempt >= MAX_ROLLBACKS:
            newest = broadcast_object(self.directory.newest_checkpoint() if is_main() else None)
            raise DivergedError(
                f"non-finite numbers occurred by step {diverged_step} for the {MAX_ROLLBACKS}rd "
                f"time; the last good state is {newest}: {STABILITY_ADVICE}"
            )
        attempt = self.attempt
        with all_succeed():
            loaded = self._last_good_checkpoint() if is_main() else None
        newest = broadcast_object(loaded)
        assert newest is not None
        self.restore(newest.checkpoint)

        # Draw other random numbers, as the same ones would diverge again.
        self._set_attempt(attempt)
        unusable = {path.name: reason for path, reason in newest.unusable.items()}
        files_field = {"files": unusable} if unusable else {}
        self._record_event(
            {"kind": "rollback", "diverged_step": diverged_step, "attempt": attempt, **files_field}
        )
        self._reset_selection()

    def _last_good_checkpoint(self) -> NewestCheckpoint:
        """Return the newest usable checkpoint; set aside those that are not usable."""
        # Put the regular checkpoints last, as files are tried from last to first: a request to stop
        # saves at any step, and must not change the result of training.
        regular = self._regular_checkpoints()
        files = [
            file for file in self.directory.checkpoint_files() if file not in regular
        ] + regular
        newest = newest_usable_checkpoint(
            files,
            self.identity,
            lambda metadata: metadata["stage"] == self.stage and not metadata.get(WEIGHTS_ONLY),
        )
        for path in newest.unusable:
            self.directory.quarantine_checkpoint(path)
        return newest

    def _regular_checkpoints(self) -> list[Path]:
        """Return the checkpoints of the stage at multiples of the interval, oldest first."""
        every = self.intervals.checkpoint_every or self.steps + 1
        files, before = self.directory.checkpoints_by_step(), self.steps_before
        return [file for n, file in files.items() if n >= before and (n - before) % every == 0]

    def _set_attempt(self, attempt: int) -> None:
        self.attempt = attempt
        self.state.rng = self.state.rng.attempt(attempt)

    def _owners(self) -> dict[str, Owner]:
        """Return what a checkpoint stores, by the prefix of its tensors."""
        players, optimizers = self.state.players.items(), self.state.optimizers.items()
        return {
            **{f"players/{name}": player for name, player in players},
            **{f"optimizers/{name}": optimizer.state for name, optimizer in optimizers},
            **{f"ema/{name}": ema.module for name, ema in self.emas.items()},
        }

    def _log(self) -> None:
        """Write an event with the means of the metrics since the last log."""
        now, since = Timer(self.state.progress.batches_read), self._last_log
        seconds = now.wall - since.wall
        images = (now.batch - since.batch) * self.batch_size
        means = {name: float(value) / self._summed_steps for name, value in self._sums.items()}
        self._record_event(
            {
                "kind": "log",
                "epoch": self._epoch,
                "seconds": round(seconds, 3),
                # CPU time of all threads, which does not depend on other processes.
                "cpu_seconds": round(now.cpu - since.cpu, 3),
                # A coarse clock may not have advanced.
                **({"images_per_second": round(images / seconds, 1)} if seconds else {}),
                **means,
            }
        )
        self._last_log = now
        # The last step is logged even between two logs, but does not reset the means: a run that is
        # resumed for more steps then logs the same as a longer run.
        if self.state.progress.step % self.intervals.log_every == 0:
            self.state.last_metrics = means
            self._reset_sums()

    def _reset_sums(self) -> None:
        self._sums, self._summed_steps, self._all_finite = {}, 0, None

    def _record_event(self, event: Mapping[str, Any]) -> None:
        if not is_main():
            return
        event = {"step": self.step, **event}
        self.directory.append_event(event)
        self.hooks.callbacks.on_event(event)

    def save(self) -> None:
        """Write a checkpoint of the whole state; keep the newest few and the best.

        Raises:
            WriteError: it could not be written; the previous one stays valid.
        """
        state, path = self.state, self.directory.checkpoint_file(self.step)
        self._saved = self.step, self.attempt
        tensors: dict[str, Tensor] = {}
        for prefix, owner in self._owners().items():
            tensors |= named_tensors(prefix, owner)
        # Processors of different makes round differently: continue from the state that is saved.
        broadcast_tensors([*tensors.values()])
        if not is_main():
            return
        tensors |= {f"{_SUMS}{name}": value for name, value in self._sums.items()}
        metadata = {
            "step": self.step,
            "stage": self.stage,
            "attempt": self.attempt,
            "progress": vars(state.progress),
            "summed_steps": self._summed_steps,
            "last_metrics": dict(state.last_metrics),
        }
        write_checkpoint(path, Checkpoint(tensors, metadata, self.identity))
        best = self._best_step
        kept = [] if best is None else [self.directory.checkpoint_file(best)]
        kept += self._regular_checkpoints()[-1:]
        self.directory.prune_checkpoints(self.intervals.keep_checkpoints, kept)
        self.hooks.callbacks.on_checkpoint(self.step, path)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Restore the state of a checkpoint, to the bit.

        Raises:
            CheckpointError: it has other models or optimizers.
        """
        state, metadata = self.state, checkpoint.metadata
        for prefix, owner in self._owners().items():
            load_tensors(prefix, owner, checkpoint.tensors)
        state.progress = Progress(**metadata["progress"])
        state.last_metrics = metadata["last_metrics"]
        self._set_attempt(metadata["attempt"])
        self._reset_sums()
        self._sums = {
            name.removeprefix(_SUMS): value.to(self.state.rng.device)
            for name, value in checkpoint.tensors.items()
            if name.startswith(_SUMS)
        }
        self._summed_steps = metadata["summed_steps"]
        self._saved = self.step, self.attempt
        self._last_log = Timer(state.progress.batches_read)


WEIGHT_GROWTH = 1e6
"""The limit of the final absolute weights, as a multiple of the largest initial one (or 1)."""


@dataclass(frozen=True)
class Problem:
    """The reason why the final state of training is not usable."""

    reason: Literal["diverged", "had no effect"]
    detail: str
    """One clause that gives numbers, and what to do."""

    def __str__(self) -> str:
        return f"the training {self.reason}: {self.detail}"


@dataclass(frozen=True)
class InitialWeights:
    """A summary of the players' weights before the first step, to compare the final ones with."""

    digests: Mapping[str, bytes]
    """A digest of each player's weights."""
    largest: float
    """The largest absolute weight of all players."""

    @classmethod
    def from_players(cls, players: Mapping[str, nn.Module]) -> InitialWeights:
        """Return the summary of untrained players."""
        digests = {name: _digest(player.parameters()) for name, player in players.items()}
        return cls(digests, max(map(largest_weight, players.values()), default=0.0))


def training_problem(
    initial: InitialWeights,
    players: Mapping[str, nn.Module],
    losses: Mapping[str, Tensor],
    loss_limit: float,
    frozen: Collection[str] = (),
) -> Problem | None:
    """Return why the final state of training is not usable, or None if it is.

    `losses` are the players' losses in the final state, one scalar each; an absolute value above
    `loss_limit` counts as diverged. `frozen` players have the learning rate 0 and may be unchanged.
    """
    # Check that losses are bounded.
    for name, loss in losses.items():
        value = float(loss)
        if not abs(value) <= loss_limit:  # also true for NaN
            return _diverged(f"the loss of the {name}", value, loss_limit)
    # Check that weights are bounded.
    limit = WEIGHT_GROWTH * max(1.0, initial.largest)
    for name, player in players.items():
        largest = largest_weight(player)
        if not largest <= limit:
            return _diverged(f"the largest weight of the {name}", largest, limit)
    # Check that each player was changed; one without a loss is not trained.
    unchanged = [
        name
        for name in losses
        if name not in frozen and _digest(players[name].parameters()) == initial.digests[name]
    ]
    if unchanged:
        return Problem(
            "had no effect",
            f"no weight of the {' and of the '.join(sorted(unchanged))} differs from its initial "
            "value; start a new run with higher learning rates",
        )
    return None


def _diverged(quantity: str, value: float, limit: float) -> Problem:
    return Problem(
        "diverged", f"{quantity} is {value:.3g}, and the limit is {limit:,.0f}; {STABILITY_ADVICE}"
    )


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Return whether every floating-point number in these tensors is finite."""
    checks = [tensor.isfinite().all() for tensor in tensors if tensor.is_floating_point()]
    return not checks or bool(torch.stack(checks).all())


def largest_weight(player: nn.Module) -> float:
    """Return the largest absolute parameter: NaN if any is NaN, 0 without parameters."""
    largest = [
        parameter.detach().abs().max() for parameter in player.parameters() if parameter.numel()
    ]
    return float(torch.stack(largest).max()) if largest else 0.0


def _digest(parameters: Iterable[Tensor]) -> bytes:
    """Return a digest of the values of parameters, in which -0 is 0."""
    digest = hashlib.blake2b(digest_size=16)
    for parameter in parameters:
        flat = parameter.detach().cpu().contiguous().reshape(-1)
        digest.update((flat + 0).view(torch.uint8).numpy().data)
    return digest.digest()
