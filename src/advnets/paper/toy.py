"""Toy games: training states of small games, updates of one player, and a game in one dimension."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor, nn

from advnets import config
from advnets.data.distribution import SyntheticDistribution
from advnets.data.prepared import PreparedData, open_data
from advnets.experiment import setup
from advnets.protocols import Game, Phase
from advnets.theory import jensen_shannon, optimal_discriminator
from advnets.training import devices
from advnets.training.optimizers import Optimizer, make_optimizer
from advnets.training.step import Progress, StepMetrics, TrainState, train_step


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


Curve = Float64[np.ndarray, " points"]

NUM_LATENTS = 500_000
"""Number of latents, at equal steps of probability, from which p_g is computed."""
MIN_DENSITY = 0.01
"""The p_data + p_g below which D is not compared with D*, because it sees too few points there."""

STAGE = config.Stage(
    generator=config.MLPGenerator(
        latent_dim=1,
        prior="normal",
        hidden_sizes=(64, 64),
        activations=("tanh", "tanh"),
        output="linear",
        init_range=0.1,
        output_init_range=5.0,
        output_bias=0.0,
    ),
    discriminator=config.MLPDiscriminator(hidden_sizes=(64, 64), activation="tanh"),
    game=config.GANGame(k=5),
    generator_optimizer=config.Adam(lr=5e-4, lr_decay=1.01, lr_min=2e-5),
    discriminator_optimizer=config.Adam(lr=2e-3, lr_decay=1.001, lr_min=4e-4),
    steps=600,
)
"""Smooth networks with a smooth D*; k = 5 keeps D near D* while G changes."""

BEST_RESPONSE_OPTIMIZER = config.Adam(lr=2e-3, beta1=0.9, lr_decay=1.002, lr_min=4e-5)
"""Optimizer that trains D against a fixed G: the inner loop of Algorithm 1 run to completion."""


@dataclass(frozen=True)
class Grid:
    """An interval of the real line divided into equal bins."""

    low: float
    high: float
    count: int = 400

    @property
    def edges(self) -> Float64[np.ndarray, " edges"]:
        """Edges of the bins."""
        return np.linspace(self.low, self.high, self.count + 1)

    @property
    def width(self) -> float:
        """Width of a bin."""
        return (self.high - self.low) / self.count

    @property
    def centers(self) -> Curve:
        """Centers of the bins."""
        return self.edges[:-1] + self.width / 2


@dataclass(frozen=True)
class Snapshot:
    """Densities and D at the bin centers, at one moment of the game."""

    grid: Grid
    p_data: Curve
    p_g: Curve
    discriminator: Curve
    arrows: tuple[tuple[float, float], ...]
    """Pairs (z, G(z)), with z at equal steps of probability."""

    @property
    def optimal(self) -> Curve:
        """The optimal discriminator, D*(x) = p_data(x) / (p_data(x) + p_g(x))."""
        optimal = optimal_discriminator(torch.from_numpy(self.p_data), torch.from_numpy(self.p_g))
        return optimal.numpy()

    @property
    def jsd(self) -> float:
        """JSD(p_data, p_g) in nats, computed from the bin probabilities."""
        p, q = (torch.from_numpy(p / p.sum()) for p in (self.p_data, self.p_g))
        return float(jensen_shannon(p, q))

    @property
    def support(self) -> np.ndarray:
        """Mask of the bins in which D is compared with D*: p_data + p_g > 0.01."""
        return self.p_data + self.p_g > MIN_DENSITY

    @property
    def max_error(self) -> float:
        """Maximum |D - D*| where p_data + p_g > 0.01."""
        return float(np.abs(self.discriminator - self.optimal)[self.support].max())


@dataclass(frozen=True)
class LineGame:
    """A one-dimensional game and the grid on which it is evaluated."""

    state: TrainState
    distribution: SyntheticDistribution
    grid: Grid

    def train(
        self,
        iterations: int,
        callback: Callable[[int, StepMetrics], None] = lambda _number, _metrics: None,
    ) -> None:
        """Run iterations of Algorithm 1.

        `callback` is called with the number of each iteration, from 1, and its metrics.
        """
        for number in range(1, iterations + 1):
            callback(number, train_step(self.state))

    def snapshot(self, arrows: int = 25, points: int = NUM_LATENTS) -> Snapshot:
        """Return the current densities and D, with p_g computed from `points` latents."""
        generator, discriminator = (self.state.players[n] for n in ("generator", "discriminator"))
        with torch.no_grad():
            x = generator(latent_quantiles(points)).flatten().double().numpy()
            z = latent_quantiles(arrows)
            outputs = generator(z).flatten().tolist()
        counts, _ = np.histogram(x, self.grid.edges)
        return Snapshot(
            grid=self.grid,
            p_data=density(self.distribution, self.grid),
            p_g=counts / (points * self.grid.width),
            discriminator=torch.sigmoid(discriminator_logits(discriminator, self.grid)).numpy(),
            arrows=tuple(zip(z.flatten().tolist(), outputs, strict=True)),
        )


def density(distribution: SyntheticDistribution, grid: Grid) -> Curve:
    """Return p(x) at the bin centers."""
    return np.exp(distribution.log_density(grid.centers[:, None]))


def bin_probabilities(
    distribution: SyntheticDistribution, grid: Grid
) -> Float64[Tensor, " points"]:
    """Return the bin probabilities: densities at the centers, normalized."""
    p = torch.from_numpy(density(distribution, grid))
    return p / p.sum()


@torch.no_grad()
def discriminator_logits(discriminator: nn.Module, grid: Grid) -> Float64[Tensor, " points"]:
    """Return D's logits at the bin centers."""
    points = torch.from_numpy(grid.centers).float().view(-1, 1, 1, 1)
    return discriminator(points).double()


def make_line_game(
    source: str, grid: Grid, stage: config.Stage = STAGE, *, seed: int = 0, batch_size: int = 1000
) -> LineGame:
    """Return the game on a one-dimensional distribution, given by its data source name."""
    data = config.Data(source=source, normalize="none", batch_size=batch_size)
    prepared = open_data(data)
    state = make_state(stage, data, prepared, seed)
    distribution = prepared.dataset.distribution
    assert isinstance(distribution, SyntheticDistribution)
    return LineGame(state, distribution, grid)


def latent_quantiles(n: int) -> Tensor:
    """Return n quantiles of the standard normal prior, of shape (n, 1).

    They are at equal steps of probability, (i + 1/2) / n.
    """
    probabilities = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    return torch.special.ndtri(probabilities).float()[:, None]


def best_response(
    state: TrainState, updates: int, optimizer: config.Adam = BEST_RESPONSE_OPTIMIZER
) -> None:
    """Train D against a fixed G: the inner loop of Algorithm 1."""
    train_player(state, "discriminator", updates, optimizer=optimizer, purpose="best response")
