"""The game on a ring of modes in the plane: played fairly, then by G alone, then fairly again."""

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

RING = config.Data(source="ring:modes=8,sd=0.1,n=20000", normalize="none", batch_size=200)
THERE = 0.01
"""Share of the samples within 3 sd of a mode's center, from which on it is counted."""
SAMPLES = 2000
RATIOS = (1, 5, 20, 100)
"""Updates of G to one of D."""
EDGE = 1.75
"""Of the plane that is drawn, on each side of 0."""


@dataclass(frozen=True)
class Size:
    """Nets and lengths at one scale."""

    units: int
    fair: int
    """Rounds of the fair game before G plays alone."""
    again: int
    """The same after it."""
    alone: int
    """Updates that G makes alone."""
    rationed: int
    """Updates that G makes while D moves less and less often."""


QUICK, FULL = Size(64, 400, 800, 2000, 1000), Size(128, 400, 800, 4000, 4000)


@dataclass(frozen=True)
class Points:
    """Samples at one moment, and what D says of the plane."""

    title: str
    x: Float64[np.ndarray, "n 2"]
    landscape: Float64[np.ndarray, "side side"]


@dataclass(frozen=True)
class Count:
    """What the samples come to at one moment."""

    update: int
    """Of G, from the beginning."""
    modes: int
    fullest: float
    """Share of the samples within 3 sd of the fullest mode."""
    verdict: float
    """Mean D(G(z))."""


@dataclass
class History:
    """One game: fair, then G alone, then fair again."""

    counts: list[Count] = field(default_factory=list[Count])
    stills: list[Points] = field(default_factory=list[Points])
    before: Count | None = None
    after: Count | None = None
    ratios: dict[int, list[Count]] = field(default_factory=dict[int, list[Count]])
    """What came of as many updates of G, by how many there were to one of D."""


@dataclass(frozen=True)
class RingGame:
    """A game of points of the plane, and the centers of the modes that it is to learn."""

    state: TrainState
    ring: Ring
    z: Tensor

    @classmethod
    def create(cls, units: int, seed: int) -> RingGame:
        """The game of the points preset, with smaller nets."""
        stage = presets.get_preset("points").stage
        assert isinstance(stage.generator, config.MLPGenerator)
        assert isinstance(stage.discriminator, config.MaxoutDiscriminator)
        stage = replace(
            stage,
            generator=replace(stage.generator, hidden_sizes=(units, units)),
            discriminator=replace(stage.discriminator, hidden_sizes=(units, units)),
        )
        opened = open_data(RING)
        state = make_state(stage, RING, opened, seed)
        z = cast(Generator, state.players["generator"]).latent(SAMPLES, state.rng.fold_in("looks"))
        return cls(state, cast(Ring, opened.dataset.distribution), z)

    def samples(self) -> Float64[np.ndarray, "n 2"]:
        """G of the same z at every look."""
        with torch.no_grad():
            return self.state.players["generator"](self.z).flatten(1).double().numpy()

    def count(self, update: int) -> Count:
        """Count the modes that G has."""
        x = self.samples()
        shares = in_modes(x, self.ring) / len(x)
        verdict = float(self.verdict(torch.from_numpy(x)).mean())
        return Count(update, int((shares >= THERE).sum()), float(shares.max()), verdict)

    def verdict(self, x: Float[Tensor, "n 2"]) -> Float[Tensor, " n"]:
        """D(x)."""
        with torch.no_grad():
            points = x.float()[:, :, None, None]
            return torch.sigmoid(self.state.players["discriminator"](points)).double()

    def snapshot(self, title: str, side: int = 80) -> Points:
        """Samples over D's landscape."""
        line = torch.linspace(-EDGE, EDGE, side)
        y, x = torch.meshgrid(line, line, indexing="ij")
        d = self.verdict(torch.stack((x, y), -1).flatten(0, 1))
        return Points(title, self.samples(), d.view(side, side).numpy())


def in_modes(x: Float64[np.ndarray, "n 2"], ring: Ring) -> Int64[np.ndarray, " modes"]:
    """How many points lie within 3 sd of each mode's center, and of no other that is nearer."""
    centers, sds, _ = ring.components()
    distances = np.linalg.norm(x[:, None] - centers, axis=2)
    nearest = distances.argmin(1)
    within = distances.min(1) <= 3 * sds[nearest]
    return np.bincount(nearest[within], minlength=len(centers)).astype(np.int64)


def run_scenario(size: Size, seed: int = 0) -> History:
    """Play fairly, let G play alone, play fairly again; then the ratios, from the same state."""
    plane, seen = RingGame.create(size.units, seed), History()
    state = plane.state
    for number in range(size.fair + 1):
        if number:
            train_step(state)
        if number % 10 == 0:
            seen.counts.append(plane.count(number))
    seen.before = seen.counts[-1]
    seen.stills.append(plane.snapshot("after a fair game"))
    fair = copy_state(state)
    shown = {size.alone // 20, size.alone // 4, size.alone}

    def watch(number: int) -> None:
        if number % 10 == 0:
            seen.counts.append(plane.count(size.fair + number))
        if number in shown:
            seen.stills.append(plane.snapshot(f"G alone, {number:,} updates"))

    train_player(state, "generator", size.alone, watch)
    seen.after = seen.counts[-1]
    shown = {10, 50, size.again}
    for number in range(1, size.again + 1):
        train_step(state)
        if number % 10 == 0:
            seen.counts.append(plane.count(size.fair + size.alone + number))
        if number in shown:
            seen.stills.append(plane.snapshot(f"fair again, {number:,} rounds"))
    for ratio in RATIOS:
        seen.ratios[ratio] = _rationed(replace(plane, state=copy_state(fair)), ratio, size.rationed)
    return seen


def _rationed(plane: RingGame, ratio: int, updates: int) -> list[Count]:
    """Play on, with so many updates of G to one of D."""
    state = plane.state
    state.game = FixedUpdates(state.game, {"discriminator": 1, "generator": ratio})
    counts: list[Count] = []
    for number in range(1, updates // ratio + 1):
        train_step(state)
        if number % max(1, 20 // ratio) == 0:
            counts.append(plane.count(number * ratio))
    return counts
