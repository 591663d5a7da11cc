"""Whether real images reach G by any other way than D: D is frozen, and the batch exchanged."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from advnets import config, presets
from advnets.data.dataset import Split
from advnets.data.prepared import PreparedData
from advnets.experiment import setup
from advnets.experiment.players import build_players
from advnets.sampling.sampler import read_pixel_rows
from advnets.training.step import TrainState, apply_gradients, train_step

ROUNDS = 20
"""Played before D is frozen, so that it has a slope."""
BATCHES = 1000, 1001
"""The two batches that G's update is taken with; neither was seen before."""


@dataclass(frozen=True)
class Exchange:
    """What one batch in place of another changed."""

    play: str
    generator: int
    """Numbers of G that differ after its update."""
    of: int
    """Numbers that G has."""
    moved: int
    """Numbers of G that the update changed."""
    discriminator: int
    """Numbers that differ of the gradient that D, frozen, did not follow."""


def plays() -> dict[str, config.Stage]:
    """Ways to play, all with the non-saturating loss."""
    stage = presets.get_preset("digits").stage
    games = {
        "alternating, fresh fakes": config.GANGame(),
        "alternating, fakes that D has seen": config.GANGame(reuse_fakes=True),
        "simultaneous": config.GANGame(updates="simultaneous"),
    }
    return {name: replace(stage, game=game) for name, game in games.items()}


def exchange(play: str, stage: config.Stage, data: PreparedData) -> Exchange:
    """Update G twice from the same state, with D frozen and another batch of real images."""
    run = presets.get_preset("digits").with_stage(stage)
    (before, one, gradient), (_, other, another) = (_updated(run, data, at) for at in BATCHES)
    return Exchange(
        play,
        generator=_differing(one, other),
        of=sum(part.numel() for part in one),
        moved=_differing(before, one),
        discriminator=_differing(gradient, another),
    )


def begun_apart(data: PreparedData, bias: str | float) -> dict[str, Float[Tensor, "..."]]:
    """Initial parameters of G that differ between the halves of the training images.

    By name, each with its difference; `bias` is what the output bias begins at.
    """
    run = presets.get_preset("digits")
    net = replace(run.stage.generator, output_bias=bias)
    run = run.with_stage(replace(run.stage, generator=net))
    train, shape = cast(Split, data.dataset.train), data.info.shape
    half = len(train) // 2
    one, other = (
        build_players(run, 0, shape, read_pixel_rows(train, part).mean(0).view(shape))["generator"]
        for part in (slice(half), slice(half, None))
    )
    pairs = zip(one.named_parameters(), other.parameters(), strict=True)
    return {name: (a - b).detach() for (name, a), b in pairs if not torch.equal(a, b)}


def _updated(
    run: config.Config, data: PreparedData, number: int
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """G before and after its update on a batch, and D's gradient, which it does not follow."""
    state = setup.make_train_state(run, data, 0, torch.device("cpu"))
    for _ in range(ROUNDS):
        train_step(state)
    before, gradient = _generator(state), list[Tensor]()
    handed, rng = None, state.rng.at_step(ROUNDS)
    for phase in state.game.phases():
        batch = replace(state.loader.batch_at(number), carry=handed)
        taken = state.compute_gradients(
            state.players, phase, batch, rng.fold_in(phase.name), state.precision
        )
        handed = taken.carry
        gradient += taken.gradients.get("discriminator", ())
        if "generator" in taken.gradients:
            only_g = {"generator": taken.gradients["generator"]}
            apply_gradients(state, replace(taken, gradients=only_g))
    return before, _generator(state), gradient


def _generator(state: TrainState) -> list[Tensor]:
    return [p.detach().clone() for p in state.players["generator"].parameters()]


def _differing(one: Iterable[Tensor], other: Iterable[Tensor]) -> int:
    return sum(int((a != b).sum()) for a, b in zip(one, other, strict=True))
