"""The game on a line, small enough to be watched whole: p_data, p_g, D and D* as curves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor, nn

from advnets import config
from advnets.data.prepared import open_data
from advnets.data.synthetic.base import SyntheticDistribution
from advnets.theory import jensen_shannon, optimal_discriminator
from advnets.toy.stepping import make_state, train_player
from advnets.training.step import StepMetrics, TrainState, train_step

Curve = Float64[np.ndarray, " points"]

LATENTS = 500_000
"""Values of z, evenly by their probability, that p_g is computed from."""
SEEN = 0.01
"""Where p_data + p_g is less, D is shown too little to be held to anything."""

NETS = config.Stage(
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
"""Smooth nets, whose D* is smooth; k = 5, so that D stays near it while G moves."""

TO_COMPLETION = config.Adam(lr=2e-3, beta1=0.9, lr_decay=1.002, lr_min=4e-5)
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
class Snapshot:
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
class LineGame:
    """A game on a line, and the stretch that it is watched on."""

    state: TrainState
    distribution: SyntheticDistribution
    cells: Cells

    def train(
        self, rounds: int, callback: Callable[[int, StepMetrics], None] = lambda _n, _round: None
    ) -> None:
        """Play rounds of Algorithm 1, each handed to `watch` with its number, from 1."""
        for number in range(1, rounds + 1):
            callback(number, train_step(self.state))

    def snapshot(self, arrows: int = 25, points: int = LATENTS) -> Snapshot:
        """Look at the game as it stands; p_g is computed from so many values of z."""
        generator, discriminator = (self.state.players[n] for n in ("generator", "discriminator"))
        with torch.no_grad():
            x = generator(latents(points)).flatten().double().numpy()
            shown = latents(arrows)
            sent = generator(shown).flatten().tolist()
        counts, _ = np.histogram(x, self.cells.edges)
        return Snapshot(
            cells=self.cells,
            p_data=density(self.distribution, self.cells),
            p_g=counts / (points * self.cells.width),
            discriminator=torch.sigmoid(logits(discriminator, self.cells)).numpy(),
            arrows=tuple(zip(shown.flatten().tolist(), sent, strict=True)),
        )


def density(distribution: SyntheticDistribution, cells: Cells) -> Curve:
    """p(x) at the middles of the cells."""
    return np.exp(distribution.log_density(cells.middles[:, None]))


def masses(distribution: SyntheticDistribution, cells: Cells) -> Float64[Tensor, " points"]:
    """Probabilities of the cells, as the density at their middles has them; their sum is 1."""
    p = torch.from_numpy(density(distribution, cells))
    return p / p.sum()


@torch.no_grad()
def logits(discriminator: nn.Module, cells: Cells) -> Float64[Tensor, " points"]:
    """a(x) at the middles of the cells."""
    points = torch.from_numpy(cells.middles).float().view(-1, 1, 1, 1)
    return discriminator(points).double()


def make_line_game(
    source: str, cells: Cells, stage: config.Stage = NETS, *, seed: int = 0, batch: int = 1000
) -> LineGame:
    """Lay the table for a game on a line: `source` is a distribution of points by its name."""
    spec = config.Data(source=source, normalize="none", batch_size=batch)
    data = open_data(spec)
    state = make_state(stage, spec, data, seed)
    distribution = data.dataset.distribution
    assert isinstance(distribution, SyntheticDistribution)
    return LineGame(state, distribution, cells)


def latents(n: int) -> Tensor:
    """Quantiles of the standard normal prior, evenly by their probability: shape (n, 1)."""
    shares = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    return torch.special.ndtri(shares).float()[:, None]


def best_response(state: TrainState, updates: int, rule: config.Adam = TO_COMPLETION) -> None:
    """Train D against the G that stands, which does not move: the inner loop of Algorithm 1."""
    train_player(state, "discriminator", updates, rule=rule, purpose="best response")
