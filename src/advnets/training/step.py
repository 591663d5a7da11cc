"""Algorithm 1: minibatch stochastic gradient training of adversarial nets. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.utils import get_total_norm

from advnets.protocols import Batch, Game, Phase, Players
from advnets.rng import RNG
from advnets.training.devices import autocast
from advnets.training.optimizers import Optimizer


@runtime_checkable
class BatchStream(Protocol):
    """The training images as an endless, shuffled, random-access sequence of batches."""

    def batch_at(self, index: int) -> Batch:
        """The index-th batch of the run."""
        ...

    def epoch_at(self, index: int) -> float:
        """Passes over the data that lie before the index-th batch."""
        ...


@runtime_checkable
class Projected(Protocol):
    """A player whose parameters live in a bounded set."""

    def project(self) -> None:
        """Put the parameters back into the set after an update."""
        ...


@dataclass
class Progress:
    """Where a game stands: all that resuming needs beside the players and their optimizers."""

    step: int = 0
    """Rounds played."""
    batches_read: int = 0
    """Batches read."""
    updates: dict[str, int] = field(default_factory=dict[str, int])
    """Updates each player has made."""


@dataclass(frozen=True)
class StepOutput:
    """What one turn of a phase came to, before anybody moves."""

    gradients: Mapping[str, tuple[Tensor, ...]]
    losses: Mapping[str, Float[Tensor, ""]]
    metrics: Mapping[str, Float[Tensor, ""]]
    carry: Tensor | None = None


StepFn = Callable[[Players, Phase, Batch, RNG, torch.dtype], StepOutput]
"""A way to take a turn: as it is written, compiled, or as a recorded graph."""


def compute_gradients(
    players: Players, phase: Phase, batch: Batch, rng: RNG, precision: torch.dtype
) -> StepOutput:
    """The losses of one turn, and each one's gradient in its own player's parameters alone."""
    with autocast(batch.images.device, precision):
        outcome = phase.losses(players, batch, rng)
    gradients: dict[str, tuple[Tensor, ...]] = {}
    for n, (name, loss) in enumerate(outcome.losses.items(), 1):
        parameters = tuple(players[name].parameters())
        # Losses of one phase may share a graph; the last of them may free it.
        shared = n < len(outcome.losses)
        gradients[name] = torch.autograd.grad(loss, parameters, retain_graph=shared)
    losses = {name: loss.detach() for name, loss in outcome.losses.items()}
    observed = {name: value.detach() for name, value in outcome.metrics.items()}
    return StepOutput(gradients, losses, observed, outcome.carry)


@dataclass
class TrainState:
    """Everything on the table while a game is played."""

    game: Game
    players: Players
    optimizers: Mapping[str, Optimizer]
    loader: BatchStream
    rng: RNG
    precision: torch.dtype = torch.float32
    compute_gradients: StepFn = compute_gradients
    progress: Progress = field(default_factory=Progress)
    last_metrics: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True)
class StepMetrics:
    """What one round showed: scalars on the device, each the mean over its phase's repeats."""

    metrics: Mapping[str, Float[Tensor, ""]]
    finite: Bool[Tensor, ""]


def train_step(state: TrainState) -> StepMetrics:
    """Play every phase of the game once, each as often as it repeats.

    For the plain game: k times, sample a batch of data and of z and let D ascend V; then sample z
    and let G descend its loss. Source: Goodfellow et al. 2014, Algorithm 1.
    """
    progress, carry = state.progress, None
    logged: dict[str, list[Tensor]] = {}
    finite: list[Tensor] = []
    for phase in state.game.phases():
        rng = state.rng.at_step(progress.step).fold_in(phase.name)
        for output in range(num_updates(phase, state.last_metrics)):
            batch = replace(next_batch(state, phase), carry=carry)
            output = state.compute_gradients(
                state.players, phase, batch, rng.fold_in(str(output)), state.precision
            )
            carry = output.carry
            for name, value in (*output.metrics.items(), *named_losses(output)):
                logged.setdefault(name, []).append(value)
            finite.append(apply_gradients(output, state))
    progress.step += 1
    means = {name: torch.stack(values).mean() for name, values in logged.items()}
    return StepMetrics(means, torch.stack(finite).all())


def next_losses(state: TrainState) -> dict[str, Float[Tensor, ""]]:
    """Return each player's loss in the first turns of the next round; nothing moves.

    The batch is the last one read, and buffers (batch-norm statistics) are put back.
    """
    progress, carry = state.progress, None
    buffers = [buffer for player in state.players.values() for buffer in player.buffers()]
    kept = [buffer.clone() for buffer in buffers]
    losses: dict[str, Tensor] = {}
    for phase in state.game.phases():
        rng = state.rng.at_step(progress.step).fold_in(phase.name).fold_in("0")
        batch = replace(state.loader.batch_at(max(progress.batches_read - 1, 0)), carry=carry)
        output = state.compute_gradients(state.players, phase, batch, rng, state.precision)
        losses |= output.losses
        carry = output.carry
    for buffer, before in zip(buffers, kept, strict=True):
        buffer.copy_(before)
    return losses


def num_updates(phase: Phase, observed: Mapping[str, float]) -> int:
    """How often a phase is played in this round."""
    return phase.repeats if isinstance(phase.repeats, int) else phase.repeats(observed)


def next_batch(state: TrainState, phase: Phase) -> Batch:
    """A batch of its own for a phase that reads data; for another, that of the phase before."""
    progress = state.progress
    if phase.reads_data:
        progress.batches_read += 1
    return state.loader.batch_at(max(progress.batches_read - 1, 0))


def named_losses(output: StepOutput) -> list[tuple[str, Tensor]]:
    """Each player's loss under the name it is logged by."""
    return [(f"loss/{player}", loss) for player, loss in output.losses.items()]


def apply_gradients(output: StepOutput, state: TrainState) -> Bool[Tensor, ""]:
    """Move every player whose gradient was taken; say whether all was finite.

    If any number is not finite nobody moves: the movers learn it on the device, and the host need
    not look.
    """
    norms = [get_total_norm(gradients) for gradients in output.gradients.values()]
    finite = torch.isfinite(torch.stack((*norms, *output.losses.values()))).all()
    for name, gradients in output.gradients.items():
        update(state, name, gradients, finite)
    return finite


def update(
    state: TrainState, name: str, gradients: tuple[Tensor, ...], finite: Bool[Tensor, ""]
) -> None:
    """Move one player along its gradients, as its schedule has it."""
    progress, player = state.progress, state.players[name]
    updates = progress.updates.get(name, 0)
    epoch = int(state.loader.epoch_at(max(progress.batches_read - 1, 0)))
    ramp_progress = state.rng.at_step(progress.step).progress
    state.optimizers[name].step(gradients, updates, epoch, finite, ramp_progress)
    if isinstance(player, Projected):
        player.project()
    progress.updates[name] = updates + 1
