"""A game of any data laid out for a part, and played out of its usual turns."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from advnets import config
from advnets.experiment import setup
from advnets.experiment.setup import PreparedData
from advnets.protocols import Game, Phase
from advnets.training import devices
from advnets.training.optimizers import Optimizer, mover
from advnets.training.step import Progress, Table, play_round


def lay(stage: config.Stage, data: config.Data, opened: PreparedData, seed: int = 0) -> Table:
    """Lay the table for one stage on data that was opened, on one thread of the processor."""
    chosen = config.Runtime("cpu", "float32", threads=1)
    run = config.Config("staged", data, (stage,), runtime=chosen, seed=seed)
    return setup.table(run, opened, 0, devices.prepare(chosen))


def twin(table: Table) -> Table:
    """A table that stands where this one stands, to be played on without it."""
    players = {name: copy.deepcopy(net) for name, net in table.players.items()}
    movers: dict[str, Optimizer] = {}
    for name, old in table.movers.items():
        # Not a deep copy: a mover holds its player's own parameters, and would lose them.
        movers[name] = new = copy.copy(old)
        new.parameters = [parameter.detach() for parameter in players[name].parameters()]
        new.memory = copy.deepcopy(old.memory)
    return replace(table, players=players, movers=movers, position=copy.deepcopy(table.position))


@dataclass(frozen=True)
class Turns:
    """A game of which some phases alone are played, each as often in a round as is said here."""

    game: Game
    repeats: Mapping[str, int]
    """By the name of the phase."""

    def phases(self) -> tuple[Phase, ...]:
        """The named phases, in the game's own order."""
        return tuple(
            replace(phase, repeats=self.repeats[phase.name])
            for phase in self.game.phases()
            if phase.name in self.repeats
        )


def alone(
    table: Table,
    player: str,
    updates: int,
    watch: Callable[[int], None] = lambda _number: None,
    rule: config.OptimizerConfig | None = None,
    purpose: str | None = None,
) -> None:
    """Let one player of alternating play move while the other stands still.

    `watch` is called with the number of updates made, from 1. The player goes on with its optimizer
    or, given a rule, begins with a fresh one; the table's own position stays where it is. Its noise
    is drawn under the purpose, by default one of the player's own.
    """
    own = table.movers[player] if rule is None else mover(rule, table.players[player].parameters())
    moved = replace(
        table,
        game=Turns(table.game, {player: 1}),
        movers={player: own},
        noise=table.noise.under(f"{purpose or f'{player} alone'} {table.position.step}"),
        position=Progress(),
    )
    for number in range(1, updates + 1):
        play_round(moved)
        watch(number)
