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
from advnets.training.devices import products
from advnets.training.optimizers import Optimizer


@runtime_checkable
class BatchStream(Protocol):
    """The training pictures as an endless, shuffled, random-access sequence of batches."""

    def at(self, index: int) -> Batch:
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
    cursor: int = 0
    """Batches read."""
    updates: dict[str, int] = field(default_factory=dict[str, int])
    """Updates each player has made."""


@dataclass(frozen=True)
class StepOutput:
    """What one turn of a phase came to, before anybody moves."""

    gradients: Mapping[str, tuple[Tensor, ...]]
    losses: Mapping[str, Float[Tensor, ""]]
    observed: Mapping[str, Float[Tensor, ""]]
    handed: Tensor | None = None


Taking = Callable[[Players, Phase, Batch, RNG, torch.dtype], StepOutput]
"""A way to take a turn: as it is written, compiled, or as a recorded graph."""


def take_turn(
    players: Players, phase: Phase, batch: Batch, noise: RNG, precision: torch.dtype
) -> StepOutput:
    """The losses of one turn, and each one's gradient in its own player's parameters alone."""
    with products(batch.pictures.device, precision):
        outcome = phase.losses(players, batch, noise)
    gradients: dict[str, tuple[Tensor, ...]] = {}
    for n, (name, loss) in enumerate(outcome.losses.items(), 1):
        parameters = tuple(players[name].parameters())
        # Losses of one phase may share a graph; the last of them may free it.
        shared = n < len(outcome.losses)
        gradients[name] = torch.autograd.grad(loss, parameters, retain_graph=shared)
    losses = {name: loss.detach() for name, loss in outcome.losses.items()}
    observed = {name: value.detach() for name, value in outcome.observed.items()}
    return StepOutput(gradients, losses, observed, outcome.handed)


@dataclass
class Table:
    """Everything on the table while a game is played."""

    game: Game
    players: Players
    movers: Mapping[str, Optimizer]
    batches: BatchStream
    noise: RNG
    precision: torch.dtype = torch.float32
    take_turn: Taking = take_turn
    position: Progress = field(default_factory=Progress)
    last_observed: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True)
class StepMetrics:
    """What one round showed: scalars on the device, each the mean over its phase's repeats."""

    observed: Mapping[str, Float[Tensor, ""]]
    finite: Bool[Tensor, ""]


def play_round(table: Table) -> StepMetrics:
    """Play every phase of the game once, each as often as it repeats.

    For the plain game: k times, sample a batch of data and of z and let D ascend V; then sample z
    and let G descend its loss. Source: Goodfellow et al. 2014, Algorithm 1.
    """
    position, handed = table.position, None
    seen: dict[str, list[Tensor]] = {}
    finite: list[Tensor] = []
    for phase in table.game.phases():
        noise = table.noise.at(position.step).under(phase.name)
        for turn in range(repeats(phase, table.last_observed)):
            batch = replace(next_batch(table, phase), handed=handed)
            taken = table.take_turn(
                table.players, phase, batch, noise.under(str(turn)), table.precision
            )
            handed = taken.handed
            for name, value in (*taken.observed.items(), *loss_names(taken)):
                seen.setdefault(name, []).append(value)
            finite.append(move(taken, table))
    position.step += 1
    means = {name: torch.stack(values).mean() for name, values in seen.items()}
    return StepMetrics(means, torch.stack(finite).all())


def next_losses(table: Table) -> dict[str, Float[Tensor, ""]]:
    """Return each player's loss in the first turns of the next round; nothing moves.

    The batch is the last one read, and buffers (batch-norm statistics) are put back.
    """
    position, handed = table.position, None
    buffers = [buffer for player in table.players.values() for buffer in player.buffers()]
    kept = [buffer.clone() for buffer in buffers]
    losses: dict[str, Tensor] = {}
    for phase in table.game.phases():
        noise = table.noise.at(position.step).under(phase.name).under("0")
        batch = replace(table.batches.at(max(position.cursor - 1, 0)), handed=handed)
        taken = table.take_turn(table.players, phase, batch, noise, table.precision)
        losses |= taken.losses
        handed = taken.handed
    for buffer, before in zip(buffers, kept, strict=True):
        buffer.copy_(before)
    return losses


def repeats(phase: Phase, observed: Mapping[str, float]) -> int:
    """How often a phase is played in this round."""
    return phase.repeats if isinstance(phase.repeats, int) else phase.repeats(observed)


def next_batch(table: Table, phase: Phase) -> Batch:
    """A batch of its own for a phase that reads data; for another, that of the phase before."""
    position = table.position
    if phase.reads_data:
        position.cursor += 1
    return table.batches.at(max(position.cursor - 1, 0))


def loss_names(taken: StepOutput) -> list[tuple[str, Tensor]]:
    """Each player's loss under the name it is logged by."""
    return [(f"loss/{player}", loss) for player, loss in taken.losses.items()]


def move(taken: StepOutput, table: Table) -> Bool[Tensor, ""]:
    """Move every player whose gradient was taken; say whether all was finite.

    If any number is not finite nobody moves: the movers learn it on the device, and the host need
    not look.
    """
    norms = [get_total_norm(gradients) for gradients in taken.gradients.values()]
    finite = torch.isfinite(torch.stack((*norms, *taken.losses.values()))).all()
    for name, gradients in taken.gradients.items():
        update(table, name, gradients, finite)
    return finite


def update(
    table: Table, name: str, gradients: tuple[Tensor, ...], finite: Bool[Tensor, ""]
) -> None:
    """Move one player along its gradients, as its schedule has it."""
    position, player = table.position, table.players[name]
    made = position.updates.get(name, 0)
    epoch = int(table.batches.epoch_at(max(position.cursor - 1, 0)))
    done = table.noise.at(position.step).done
    table.movers[name].move(gradients, made, epoch, finite, done)
    if isinstance(player, Projected):
        player.project()
    position.updates[name] = made + 1
