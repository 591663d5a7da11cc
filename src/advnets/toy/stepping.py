"""A game of any data laid out for a part, and played out of its usual turns."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from advnets import config
from advnets.data.prepared import PreparedData
from advnets.experiment import setup
from advnets.protocols import Game, Phase
from advnets.training import devices
from advnets.training.optimizers import Optimizer, make_optimizer
from advnets.training.step import Progress, TrainState, train_step


def make_state(
    stage: config.Stage, data: config.Data, opened: PreparedData, seed: int = 0
) -> TrainState:
    """Lay the table for one stage on data that was opened, on one thread of the processor."""
    chosen = config.Runtime("cpu", "float32", threads=1)
    run = config.Config("staged", data, (stage,), runtime=chosen, seed=seed)
    return setup.make_train_state(run, opened, 0, devices.setup_process(chosen))


def copy_state(state: TrainState) -> TrainState:
    """A table that stands where this one stands, to be played on without it."""
    players = {name: copy.deepcopy(net) for name, net in state.players.items()}
    movers: dict[str, Optimizer] = {}
    for name, old in state.optimizers.items():
        # Not a deep copy: a mover holds its player's own parameters, and would lose them.
        movers[name] = new = copy.copy(old)
        new.parameters = [parameter.detach() for parameter in players[name].parameters()]
        new.state = copy.deepcopy(old.state)
    return replace(
        state, players=players, optimizers=movers, progress=copy.deepcopy(state.progress)
    )


@dataclass(frozen=True)
class FixedUpdates:
    """A game of which some phases alone are played, each as often in a round as is said here."""

    game: Game
    num_updates: Mapping[str, int]
    """By the name of the phase."""

    def phases(self) -> tuple[Phase, ...]:
        """The named phases, in the game's own order."""
        return tuple(
            replace(phase, num_updates=self.num_updates[phase.name])
            for phase in self.game.phases()
            if phase.name in self.num_updates
        )


def train_player(
    state: TrainState,
    player: str,
    updates: int,
    callback: Callable[[int], None] = lambda _number: None,
    rule: config.OptimizerConfig | None = None,
    purpose: str | None = None,
) -> None:
    """Let one player of alternating play move while the other stands still.

    `watch` is called with the number of updates made, from 1. The player goes on with its optimizer
    or, given a rule, begins with a fresh one; the table's own position stays where it is. Its noise
    is drawn under the purpose, by default one of the player's own.
    """
    own = (
        state.optimizers[player]
        if rule is None
        else make_optimizer(rule, state.players[player].parameters())
    )
    moved = replace(
        state,
        game=FixedUpdates(state.game, {player: 1}),
        optimizers={player: own},
        rng=state.rng.fold_in(f"{purpose or f'{player} alone'} {state.progress.step}"),
        progress=Progress(),
    )
    for number in range(1, updates + 1):
        train_step(moved)
        callback(number)
