"""Training states for small games, and updates of one player or in other ratios."""

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
    stage: config.Stage, data: config.Data, prepared: PreparedData, seed: int = 0
) -> TrainState:
    """Return the training state of one stage on prepared data, on one CPU thread in float32."""
    runtime = config.Runtime("cpu", "float32", threads=1)
    run = config.Config("staged", data, (stage,), runtime=runtime, seed=seed)
    return setup.make_train_state(run, prepared, 0, devices.setup_process(runtime))


def copy_state(state: TrainState) -> TrainState:
    """Return an independent copy of a training state."""
    players = {name: copy.deepcopy(net) for name, net in state.players.items()}
    optimizers: dict[str, Optimizer] = {}
    for name, old in state.optimizers.items():
        # A deep copy would detach the optimizer from its player's parameters.
        optimizers[name] = new = copy.copy(old)
        new.parameters = [parameter.detach() for parameter in players[name].parameters()]
        new.state = copy.deepcopy(old.state)
    return replace(
        state, players=players, optimizers=optimizers, progress=copy.deepcopy(state.progress)
    )


@dataclass(frozen=True)
class FixedUpdates:
    """A game restricted to some phases, each with a fixed number of updates per iteration."""

    game: Game
    num_updates: Mapping[str, int]
    """Number of updates by phase name."""

    def phases(self) -> tuple[Phase, ...]:
        """Return the selected phases in the game's own order."""
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
    optimizer: config.OptimizerConfig | None = None,
    purpose: str | None = None,
) -> None:
    """Update one player of an alternating game while the others stay fixed.

    `callback` is called with the number of updates made so far, from 1. The player keeps its own
    optimizer, or uses a new one if an optimizer config is given. The step count of the state does
    not change. Random numbers are drawn under `purpose`, by default one of the player's own.
    """
    player_optimizer = (
        state.optimizers[player]
        if optimizer is None
        else make_optimizer(optimizer, state.players[player].parameters())
    )
    player_state = replace(
        state,
        game=FixedUpdates(state.game, {player: 1}),
        optimizers={player: player_optimizer},
        rng=state.rng.fold_in(f"{purpose or f'{player} alone'} {state.progress.step}"),
        progress=Progress(),
    )
    for number in range(1, updates + 1):
        train_step(player_state)
        callback(number)
