"""A game on a ring of modes: joint training, then G alone, then joint training again."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from advnets import config, presets
from advnets.data.prepared import open_data
from advnets.data.synthetic.mixtures import Ring
from advnets.protocols import Generator
from advnets.toy.stepping import FixedUpdates, copy_state, make_state, train_player
from advnets.training.step import TrainState, train_step

RING_DATA = config.Data(source="ring:modes=8,sd=0.1,n=20000", normalize="none", batch_size=200)
MODE_THRESHOLD = 0.01
"""Fraction of samples within 3 standard deviations of a mode for it to count as covered."""
NUM_SAMPLES = 2000
UPDATE_RATIOS = (1, 5, 20, 100)
"""Numbers of updates of G for each update of D."""
PLOT_EXTENT = 1.75
"""Half the side of the plotted square around the origin."""


@dataclass(frozen=True)
class Scale:
    """Network widths and training lengths at one scale."""

    hidden_size: int
    joint_iterations: int
    """Iterations of joint training before G trains alone."""
    recovery_iterations: int
    """Iterations of joint training after that."""
    generator_updates: int
    """Updates of G alone."""
    ratio_updates: int
    """Updates of G in the runs with fewer updates of D."""


QUICK, FULL = Scale(64, 400, 800, 2000, 1000), Scale(128, 400, 800, 4000, 4000)


@dataclass(frozen=True)
class PlaneSnapshot:
    """Samples, and D over the plane, at one moment."""

    title: str
    samples: Float64[np.ndarray, "n 2"]
    probability: Float64[np.ndarray, "side side"]


@dataclass(frozen=True)
class ModeCount:
    """Mode coverage of the samples at one moment."""

    update: int
    """Updates of G since the beginning."""
    modes: int
    max_fraction: float
    """Fraction of the samples within 3 standard deviations of the most populated mode."""
    mean_probability: float
    """Mean D(G(z))."""


@dataclass
class History:
    """The results of one scenario: joint training, G alone, joint training again."""

    counts: list[ModeCount] = field(default_factory=list[ModeCount])
    snapshots: list[PlaneSnapshot] = field(default_factory=list[PlaneSnapshot])
    before: ModeCount | None = None
    after: ModeCount | None = None
    ratios: dict[int, list[ModeCount]] = field(default_factory=dict[int, list[ModeCount]])
    """Mode counts of the runs with unequal updates, by updates of G per update of D."""


@dataclass(frozen=True)
class RingGame:
    """A two-dimensional game, the ring that its data are drawn from, and fixed latents."""

    state: TrainState
    ring: Ring
    z: Tensor

    @classmethod
    def create(cls, hidden_size: int, seed: int) -> RingGame:
        """Return the game of preset `points` with smaller networks."""
        stage = presets.get_preset("points").stage
        assert isinstance(stage.generator, config.MLPGenerator)
        assert isinstance(stage.discriminator, config.MaxoutDiscriminator)
        stage = replace(
            stage,
            generator=replace(stage.generator, hidden_sizes=(hidden_size, hidden_size)),
            discriminator=replace(stage.discriminator, hidden_sizes=(hidden_size, hidden_size)),
        )
        prepared = open_data(RING_DATA)
        state = make_state(stage, RING_DATA, prepared, seed)
        z = cast(Generator, state.players["generator"]).latent(
            NUM_SAMPLES, state.rng.fold_in("looks")
        )
        return cls(state, cast(Ring, prepared.dataset.distribution), z)

    def samples(self) -> Float64[np.ndarray, "n 2"]:
        """Return G(z) for the fixed latents."""
        with torch.no_grad():
            return self.state.players["generator"](self.z).flatten(1).double().numpy()

    def count_modes(self, update: int) -> ModeCount:
        """Return the mode coverage after `update` updates of G."""
        x = self.samples()
        fractions = count_per_mode(x, self.ring) / len(x)
        probability = float(self.discriminator_probability(torch.from_numpy(x)).mean())
        return ModeCount(
            update, int((fractions >= MODE_THRESHOLD).sum()), float(fractions.max()), probability
        )

    def discriminator_probability(self, x: Float[Tensor, "n 2"]) -> Float[Tensor, " n"]:
        """Return D(x)."""
        with torch.no_grad():
            points = x.float()[:, :, None, None]
            return torch.sigmoid(self.state.players["discriminator"](points)).double()

    def snapshot(self, title: str, side: int = 80) -> PlaneSnapshot:
        """Return the samples and D on a `side` x `side` grid."""
        line = torch.linspace(-PLOT_EXTENT, PLOT_EXTENT, side)
        y, x = torch.meshgrid(line, line, indexing="ij")
        d = self.discriminator_probability(torch.stack((x, y), -1).flatten(0, 1))
        return PlaneSnapshot(title, self.samples(), d.view(side, side).numpy())


def count_per_mode(x: Float64[np.ndarray, "n 2"], ring: Ring) -> Int64[np.ndarray, " modes"]:
    """Count the points within 3 standard deviations of each mode, each in its nearest mode only."""
    centers, sds, _ = ring.components()
    distances = np.linalg.norm(x[:, None] - centers, axis=2)
    nearest = distances.argmin(1)
    inside = distances.min(1) <= 3 * sds[nearest]
    return np.bincount(nearest[inside], minlength=len(centers)).astype(np.int64)


def run_scenario(scale: Scale, seed: int = 0) -> History:
    """Run joint training, G alone and joint training again, then every update ratio.

    The update ratios start from the state after the first joint training.
    """
    game, history = RingGame.create(scale.hidden_size, seed), History()
    state = game.state
    # Train both players jointly.
    for number in range(scale.joint_iterations + 1):
        if number:
            train_step(state)
        if number % 10 == 0:
            history.counts.append(game.count_modes(number))
    history.before = history.counts[-1]
    history.snapshots.append(game.snapshot("after joint training"))
    initial_state = copy_state(state)
    snapshot_updates = {
        scale.generator_updates // 20,
        scale.generator_updates // 4,
        scale.generator_updates,
    }

    def record(number: int) -> None:
        if number % 10 == 0:
            history.counts.append(game.count_modes(scale.joint_iterations + number))
        if number in snapshot_updates:
            history.snapshots.append(game.snapshot(f"G alone, {number:,} updates"))

    # Train G alone.
    train_player(state, "generator", scale.generator_updates, record)
    history.after = history.counts[-1]
    # Train both players again.
    snapshot_updates = {10, 50, scale.recovery_iterations}
    for number in range(1, scale.recovery_iterations + 1):
        train_step(state)
        if number % 10 == 0:
            history.counts.append(
                game.count_modes(scale.joint_iterations + scale.generator_updates + number)
            )
        if number in snapshot_updates:
            history.snapshots.append(game.snapshot(f"joint again, {number:,} iterations"))
    # Repeat from the state after joint training, with fewer updates of D.
    for ratio in UPDATE_RATIOS:
        history.ratios[ratio] = _train_with_ratio(
            replace(game, state=copy_state(initial_state)), ratio, scale.ratio_updates
        )
    return history


def _train_with_ratio(game: RingGame, ratio: int, updates: int) -> list[ModeCount]:
    """Continue training with `ratio` updates of G for each update of D."""
    state = game.state
    state.game = FixedUpdates(state.game, {"discriminator": 1, "generator": ratio})
    counts: list[ModeCount] = []
    for number in range(1, updates // ratio + 1):
        train_step(state)
        if number % max(1, 20 // ratio) == 0:
            counts.append(game.count_modes(number * ratio))
    return counts
