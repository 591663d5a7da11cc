"""The game on a line, small enough to be watched whole: p_data, p_g, D and D* as curves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float64
from torch import nn

from advnets import config
from advnets.data.synthetic.base import Synthetic
from advnets.experiment import build
from advnets.theory import jensen_shannon, optimal_discriminator
from advnets.training import runtime
from advnets.training.algorithm import Position, Round, Table, play_round
from advnets.training.movers import mover
from advnets.types import Game, Phase

Curve = Float64[np.ndarray, " points"]

LATENTS = 500_000
"""Values of z, evenly by their probability, that p_g is computed from."""
SEEN = 0.01
"""Where p_data + p_g is less, D is shown too little to be held to anything."""

NETS = config.Stage(
    generator=config.MLPGenerator(
        latent_dim=1,
        prior="normal",
        hidden=(64, 64),
        activations=("tanh", "tanh"),
        output="linear",
        init_range=0.1,
        output_init_range=5.0,
        output_bias=0.0,
    ),
    discriminator=config.MLPDiscriminator(units=(64, 64), activation="tanh"),
    game=config.Game(k=5),
    generator_optimizer=config.Adam(lr=5e-4, lr_decay=1.01, min_lr=2e-5),
    discriminator_optimizer=config.Adam(lr=2e-3, lr_decay=1.001, min_lr=4e-4),
    steps=600,
)
"""Smooth nets, whose D* is smooth; k = 5, so that D stays near it while G moves."""

TO_COMPLETION = config.Adam(lr=2e-3, beta1=0.9, lr_decay=1.002, min_lr=4e-5)
"""How D is trained where G stands still: Algorithm 1's inner loop, run to its end."""


@dataclass(frozen=True)
class Cells:
    """A stretch of the line, cut into equal cells."""

    low: float
    high: float
    count: int = 400

    @property
    def edges(self) -> Float64[np.ndarray, " edges"]:
        """Borders of the cells."""
        return np.linspace(self.low, self.high, self.count + 1)

    @property
    def width(self) -> float:
        """Of a cell."""
        return (self.high - self.low) / self.count

    @property
    def middles(self) -> Curve:
        """Middles of the cells."""
        return self.edges[:-1] + self.width / 2


@dataclass(frozen=True)
class Sight:
    """What is seen of the game at one moment: densities and D at the middles of the cells."""

    cells: Cells
    p_data: Curve
    p_g: Curve
    discriminator: Curve
    arrows: tuple[tuple[float, float], ...]
    """Some z, evenly by their probability, and the x = G(z) that each is sent to."""

    @property
    def optimal(self) -> Curve:
        """D*(x) = p_data(x) / (p_data(x) + p_g(x))."""
        known = optimal_discriminator(torch.from_numpy(self.p_data), torch.from_numpy(self.p_g))
        return known.numpy()

    @property
    def divergence(self) -> float:
        """JSD(p_data, p_g) in nats, of the cells' probabilities."""
        p, q = (torch.from_numpy(p / p.sum()) for p in (self.p_data, self.p_g))
        return float(jensen_shannon(p, q))

    @property
    def seen(self) -> np.ndarray:
        """Where D is shown enough to be held to D*."""
        return self.p_data + self.p_g > SEEN

    @property
    def error(self) -> float:
        """The largest |D - D*| where p_data + p_g > .01."""
        return float(np.abs(self.discriminator - self.optimal)[self.seen].max())


@dataclass(frozen=True)
class Line:
    """A game on a line, and the stretch that it is watched on."""

    table: Table
    distribution: Synthetic
    cells: Cells

    def play(
        self, rounds: int, watch: Callable[[int, Round], None] = lambda _n, _round: None
    ) -> None:
        """Play rounds of Algorithm 1, each handed to `watch` with its number, from 1."""
        for number in range(1, rounds + 1):
            watch(number, play_round(self.table))

    def see(self, arrows: int = 25, count: int = LATENTS) -> Sight:
        """Look at the game as it stands, p_g by so many values of z."""
        generator, discriminator = (self.table.players[n] for n in ("generator", "discriminator"))
        middles = self.cells.middles
        z = latents(count)
        with torch.no_grad():
            x = generator(z).flatten().double().numpy()
            points = torch.from_numpy(middles).float().view(-1, 1, 1, 1)
            d = torch.sigmoid(discriminator(points).double()).numpy()
            shown = latents(arrows)
            sent = generator(shown).flatten().tolist()
        counts, _ = np.histogram(x, self.cells.edges)
        return Sight(
            cells=self.cells,
            p_data=np.exp(self.distribution.log_density(middles[:, None])),
            p_g=counts / (count * self.cells.width),
            discriminator=d,
            arrows=tuple(zip(shown.flatten().tolist(), sent, strict=True)),
        )


def laid(
    source: str, cells: Cells, stage: config.Stage = NETS, *, seed: int = 0, batch: int = 1000
) -> Line:
    """Lay the table for a game on a line: `source` is a distribution of points by its name."""
    run = config.Config(
        preset="line",
        data=config.Data(source=source, scaling="none", batch_size=batch),
        stages=(stage,),
        runtime=config.Runtime("cpu", "float32", threads=1),
        seed=seed,
    )
    data = build.open_data(run.data)
    run = build.resolved(run, data.facts, run.runtime)
    table = build.table(run, data, 0, runtime.prepare(run.runtime))
    distribution = data.splits.distribution
    assert isinstance(distribution, Synthetic)
    return Line(table, distribution, cells)


def latents(n: int) -> torch.Tensor:
    """Quantiles of the standard normal prior, evenly by their probability: shape (n, 1)."""
    shares = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    return torch.special.ndtri(shares).float()[:, None]


class DiscriminatorAlone:
    """A game of which D's phase alone is played: G stands still."""

    def __init__(self, game: Game) -> None:
        self.game = game

    def phases(self) -> tuple[Phase, ...]:
        """D's phase, once a round."""
        phases = self.game.phases()
        return tuple(replace(phase, repeats=1) for phase in phases if phase.name == "discriminator")


def best_response(table: Table, updates: int, rule: config.Adam = TO_COMPLETION) -> None:
    """Train D against the G that stands, which does not move: the inner loop of Algorithm 1."""
    discriminator: nn.Module = table.players["discriminator"]
    alone = replace(
        table,
        game=DiscriminatorAlone(table.game),
        movers={"discriminator": mover(rule, discriminator.parameters())},
        noise=table.noise.under(f"best response {table.position.step}"),
        position=Position(),
    )
    for _ in range(updates):
        play_round(alone)
