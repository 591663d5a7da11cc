"""Algorithm 1: minibatch stochastic gradient training of adversarial nets. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.utils import get_total_norm

from advnets.noise import Noise
from advnets.training.movers import Mover
from advnets.training.runtime import products
from advnets.types import Batch, Game, Outcome, Phase, Players


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
class Position:
    """Where a game stands: all that resuming needs beside the players and their optimizers."""

    step: int = 0
    """Rounds played."""
    cursor: int = 0
    """Batches read."""
    updates: dict[str, int] = field(default_factory=dict[str, int])
    """Updates each player has made."""


@dataclass
class Table:
    """Everything on the table while a game is played."""

    game: Game
    players: Players
    movers: Mapping[str, Mover]
    batches: BatchStream
    noise: Noise
    precision: torch.dtype = torch.float32
    position: Position = field(default_factory=Position)
    last_observed: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True)
class Round:
    """What one round showed: scalars on the device, each the mean over its phase's repeats."""

    observed: Mapping[str, Float[Tensor, ""]]
    finite: Bool[Tensor, ""]


def play_round(table: Table) -> Round:
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
            outcome = play_turn(table, phase, noise.under(str(turn)), handed)
            handed = outcome.handed
            for name, value in (*outcome.observed.items(), *loss_names(outcome)):
                seen.setdefault(name, []).append(value.detach())
            finite.append(move(outcome.losses, table))
    position.step += 1
    means = {name: torch.stack(values).mean() for name, values in seen.items()}
    return Round(means, torch.stack(finite).all())


def repeats(phase: Phase, observed: Mapping[str, float]) -> int:
    """How often a phase is played in this round."""
    return phase.repeats if isinstance(phase.repeats, int) else phase.repeats(observed)


def play_turn(table: Table, phase: Phase, noise: Noise, handed: Tensor | None = None) -> Outcome:
    """The losses of one turn, on a batch of its own if the phase reads data."""
    position = table.position
    if phase.reads_data:
        position.cursor += 1
    batch = replace(table.batches.at(max(position.cursor - 1, 0)), handed=handed)
    with products(batch.pictures.device, table.precision):
        return phase.losses(table.players, batch, noise)


def loss_names(outcome: Outcome) -> list[tuple[str, Tensor]]:
    """Each player's loss under the name it is logged by."""
    return [(f"loss/{player}", loss) for player, loss in outcome.losses.items()]


def move(losses: Mapping[str, Float[Tensor, ""]], table: Table) -> Bool[Tensor, ""]:
    """Take every gradient, then move every player; say whether all was finite.

    If any number is not finite nobody moves: the movers learn it on the device, and the host need
    not look.
    """
    gradients = {name: gradient(loss, name, table, losses) for name, loss in losses.items()}
    norms = [get_total_norm(grads) for grads in gradients.values()]
    finite = torch.isfinite(torch.stack((*norms, *losses.values()))).all()
    for name, grads in gradients.items():
        update(table, name, grads, finite)
    return finite


def gradient(
    loss: Tensor, name: str, table: Table, losses: Mapping[str, Tensor]
) -> tuple[Tensor, ...]:
    """The gradient of a player's loss in that player's own parameters, and in no other's."""
    parameters = tuple(table.players[name].parameters())
    # Losses of one phase may share a graph; the last of them may free it.
    return torch.autograd.grad(loss, parameters, retain_graph=name != list(losses)[-1])


def update(
    table: Table, name: str, gradients: tuple[Tensor, ...], finite: Bool[Tensor, ""]
) -> None:
    """Move one player along its gradients, as its schedule has it."""
    position, player = table.position, table.players[name]
    made = position.updates.get(name, 0)
    epoch = int(table.batches.epoch_at(max(position.cursor - 1, 0)))
    table.movers[name].move(gradients, made, epoch, finite)
    if isinstance(player, Projected):
        player.project()
    position.updates[name] = made + 1
