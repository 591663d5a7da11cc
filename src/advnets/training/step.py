"""Algorithm 1 of Goodfellow et al. 2014: minibatch stochastic gradient training. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.utils import get_total_norm

from advnets.distributed import average
from advnets.protocols import Batch, Game, Phase, Players
from advnets.rng import RNG
from advnets.training.optimizers import Optimizer


@runtime_checkable
class BatchStream(Protocol):
    """An endless, shuffled sequence of minibatches of the training images, with random access."""

    def batch_at(self, index: int) -> Batch:
        """Return the minibatch of this index, counted from 0 over the whole training."""
        ...

    def epoch_at(self, index: int) -> float:
        """Return the passes over the data completed before the minibatch of this index."""
        ...


@runtime_checkable
class Projectable(Protocol):
    """A player whose parameters are confined to a bounded set."""

    def project(self) -> None:
        """Project the parameters onto the set, after an update."""
        ...


@dataclass
class Progress:
    """Counters of a training run: all the state besides the players and their optimizers."""

    step: int = 0
    """Completed steps, which are iterations of Algorithm 1."""
    batches_read: int = 0
    """Minibatches of data read so far."""
    updates: dict[str, int] = field(default_factory=dict[str, int])
    """Parameter updates of each player."""


@dataclass(frozen=True)
class StepOutput:
    """Gradients, losses and metrics of one pass of a phase, before any player is updated."""

    gradients: Mapping[str, tuple[Tensor, ...]]
    """The gradient of each player's loss, one tensor for each parameter."""
    losses: Mapping[str, Float[Tensor, ""]]
    metrics: Mapping[str, Float[Tensor, ""]]
    carry: Tensor | None = None
    """Samples with their autograd graph, for the next phase of the step."""


GradientFn = Callable[[Players, Phase, Batch, RNG, torch.dtype], StepOutput]
"""A function that computes what `compute_gradients` does, such as a compiled version of it."""


def compute_gradients(
    players: Players, phase: Phase, batch: Batch, rng: RNG, precision: torch.dtype
) -> StepOutput:
    """Return the losses of a phase, and the gradient of each in its own player's parameters.

    Matrix products and convolutions are computed in `precision`, all else in float32.
    """
    # Forward pass.
    with torch.autocast(batch.images.device.type, precision, enabled=precision != torch.float32):
        output = phase.losses(players, batch, rng)
    # Backward passes. Losses of one phase may share a graph, which the last pass frees.
    gradients: dict[str, tuple[Tensor, ...]] = {}
    for n, (name, loss) in enumerate(output.losses.items(), 1):
        parameters = tuple(players[name].parameters())
        retain_graph = n < len(output.losses)
        gradients[name] = torch.autograd.grad(loss, parameters, retain_graph=retain_graph)
    losses = {name: loss.detach() for name, loss in output.losses.items()}
    metrics = {name: value.detach() for name, value in output.metrics.items()}
    return StepOutput(gradients, losses, metrics, output.carry)


@dataclass
class TrainState:
    """A game in training: players, optimizers, data, random numbers and counters."""

    game: Game
    players: Players
    optimizers: Mapping[str, Optimizer]
    loader: BatchStream
    rng: RNG
    precision: torch.dtype = torch.float32
    schedule_steps: int = 0
    """Steps over which schedules go from their first to their last value. 0: they stay at the
    first."""
    compute_gradients: GradientFn = compute_gradients
    progress: Progress = field(default_factory=Progress)
    last_metrics: Mapping[str, float] = field(default_factory=dict[str, float])
    """Means of the metrics over the last logging interval; empty before the first log."""
    world_size: int = 1
    """The number of processes, each of which computes its own rows of every minibatch."""
    stop_requested: Callable[[], bool] = lambda: False
    """Whether a stop was requested in this process."""

    @property
    def schedule_progress(self) -> float:
        """The fraction of the scheduled steps that are complete, in [0, 1]."""
        return min(1.0, self.progress.step / self.schedule_steps) if self.schedule_steps else 0.0


@dataclass(frozen=True)
class StepMetrics:
    """Metrics of one step: scalars on the device, each the mean over the updates of its phase."""

    metrics: Mapping[str, Float[Tensor, ""]]
    finite: Bool[Tensor, ""]
    """Whether every loss and gradient of the step was finite."""
    stop: Bool[Tensor, ""] | None = None
    """Whether a stop was requested in any process before the last update; None: there is one
    process."""


def train_step(state: TrainState) -> StepMetrics:
    """Perform one iteration of Algorithm 1, in place, and return its metrics.

    In the standard game: k times, sample minibatches of data and of z and update D by ascending
    V(D, G); then sample z and update G by descending its loss.
    Source: Goodfellow et al. 2014, Algorithm 1.
    """
    carry: Tensor | None = None
    logged: dict[str, list[Tensor]] = {}
    finite: list[Tensor] = []
    stop: Tensor | None = None
    for phase in state.game.phases():
        rng = state.rng.at_step(state.progress.step).fold_in(phase.name)
        for i in range(num_updates(phase, state.last_metrics)):
            # Sample a minibatch. A phase that reads no data reuses that of the phase before.
            if phase.reads_data:
                state.progress.batches_read += 1
            batch = last_batch(state, phase, carry)
            # Compute the losses of the phase, and the gradient of each in its own player.
            output = state.compute_gradients(
                state.players, phase, batch, rng.fold_in(str(i)), state.precision
            )
            carry = output.carry
            # Average over the processes, each of which has its own rows of the minibatch.
            if state.world_size > 1:
                output, stop = average_output(output, stop_requested=state.stop_requested())
            # Update these players, or none of them if a number is not finite.
            finite.append(apply_gradients(state, output))
            # Collect the metrics, which stay on the device.
            losses = {f"loss/{player}": loss for player, loss in output.losses.items()}
            for name, value in (*output.metrics.items(), *losses.items()):
                logged.setdefault(name, []).append(value)
    state.progress.step += 1
    means = {name: torch.stack(values).mean() for name, values in logged.items()}
    return StepMetrics(means, torch.stack(finite).all(), stop)


def average_output(
    output: StepOutput, *, stop_requested: bool
) -> tuple[StepOutput, Bool[Tensor, ""]]:
    """Return the means of gradients, losses and metrics over all processes, by one all-reduce.

    Also return whether a stop is requested in any process, so that all stop at the same step.
    """
    gradients = [tensor for player in output.gradients.values() for tensor in player]
    losses, metrics = list(output.losses.values()), list(output.metrics.values())
    flag = losses[0].new_tensor(float(stop_requested))
    means = iter(average([*gradients, *losses, *metrics, flag]))
    averaged = StepOutput(
        {name: tuple(next(means) for _ in tensors) for name, tensors in output.gradients.items()},
        {name: next(means) for name in output.losses},
        {name: next(means) for name in output.metrics},
        output.carry,
    )
    return averaged, next(means) > 0


def num_updates(phase: Phase, last_metrics: Mapping[str, float]) -> int:
    """Return the number of updates of a phase in this step."""
    updates = phase.num_updates
    return updates if isinstance(updates, int) else updates(last_metrics)


def last_batch(state: TrainState, phase: Phase, carry: Tensor | None) -> Batch:
    """Return the minibatch read last, or the first one before any is read, as a phase gets it."""
    batch = state.loader.batch_at(max(state.progress.batches_read - 1, 0))
    scheduled = {
        name: torch.tensor(schedule.at(state.schedule_progress), dtype=torch.float32).to(
            state.rng.device
        )
        for name, schedule in phase.schedules.items()
    }
    return replace(batch, carry=carry, scheduled=scheduled)


def apply_gradients(state: TrainState, output: StepOutput) -> Bool[Tensor, ""]:
    """Update every player that has a gradient; return whether all numbers were finite.

    If a loss or gradient is not finite, no player and no optimizer state changes. The optimizers
    read this from the device, so that the host need not wait for it.
    """
    # Check all losses and gradients.
    norms = [get_total_norm(gradients) for gradients in output.gradients.values()]
    finite = torch.isfinite(torch.stack((*norms, *output.losses.values()))).all()
    # Update each player with its own learning rate and momentum.
    progress = state.progress
    epoch = int(state.loader.epoch_at(max(progress.batches_read - 1, 0)))
    for name, gradients in output.gradients.items():
        updates, player = progress.updates.get(name, 0), state.players[name]
        state.optimizers[name].step(gradients, updates, epoch, finite, state.schedule_progress)
        if isinstance(player, Projectable):
            player.project()
        progress.updates[name] = updates + 1
    return finite


def next_losses(state: TrainState) -> dict[str, Float[Tensor, ""]]:
    """Return each player's loss at the start of the next step, without updating anything.

    The minibatch is the one read last; buffers (batch-norm statistics) are restored.
    """
    carry: Tensor | None = None
    buffers = [buffer for player in state.players.values() for buffer in player.buffers()]
    saved = [buffer.clone() for buffer in buffers]
    losses: dict[str, Tensor] = {}
    for phase in state.game.phases():
        rng = state.rng.at_step(state.progress.step).fold_in(phase.name).fold_in("0")
        batch = last_batch(state, phase, carry)
        output = state.compute_gradients(state.players, phase, batch, rng, state.precision)
        losses |= dict(zip(output.losses, average([*output.losses.values()]), strict=True))
        carry = output.carry
    for buffer, value in zip(buffers, saved, strict=True):
        buffer.copy_(value)
    return losses
