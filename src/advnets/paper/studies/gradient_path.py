"""A test that real images reach G through D only: D is frozen, and the real batch is swapped."""

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

WARMUP_ITERATIONS = 20
"""Iterations before D is frozen, so that D has a nonzero gradient."""
BATCHES = 1000, 1001
"""Indices of the two batches for G's update, neither of which was used before."""


@dataclass(frozen=True)
class BatchSwap:
    """The effect of replacing a batch of real images."""

    game: str
    generator_differs: int
    """Parameters of G that differ after its update."""
    generator_size: int
    """Number of parameters of G."""
    generator_moved: int
    """Parameters of G that the update changed."""
    discriminator_differs: int
    """Entries that differ in the unused gradient of the frozen D."""


def game_variants() -> dict[str, config.Stage]:
    """Return stages with different update schemes, all with the non-saturating loss."""
    stage = presets.get_preset("digits").stage
    games = {
        "alternating, fresh fakes": config.GANGame(),
        "alternating, shared fakes": config.GANGame(reuse_fakes=True),
        "simultaneous": config.GANGame(updates="simultaneous"),
    }
    return {name: replace(stage, game=game) for name, game in games.items()}


def swap_batch(game: str, stage: config.Stage, data: PreparedData) -> BatchSwap:
    """Update G twice from the same state, with D frozen and different batches of real images."""
    run = presets.get_preset("digits").with_stage(stage)
    (before, after, gradient), (_, other_after, other_gradient) = (
        _update_generator(run, data, at) for at in BATCHES
    )
    return BatchSwap(
        game,
        generator_differs=_count_differing(after, other_after),
        generator_size=sum(parameter.numel() for parameter in after),
        generator_moved=_count_differing(before, after),
        discriminator_differs=_count_differing(gradient, other_gradient),
    )


def initial_differences(data: PreparedData, bias: str | float) -> dict[str, Float[Tensor, "..."]]:
    """Return differences of G's initial parameters between halves of the training images.

    The parameters that differ are given by name; `bias` is the config's initial output bias.
    """
    run = presets.get_preset("digits")
    net = replace(run.stage.generator, output_bias=bias)
    run = run.with_stage(replace(run.stage, generator=net))
    train, shape = cast(Split, data.dataset.train), data.info.shape
    half = len(train) // 2
    first, second = (
        build_players(run, 0, shape, read_pixel_rows(train, half_slice).mean(0).view(shape))[
            "generator"
        ]
        for half_slice in (slice(half), slice(half, None))
    )
    pairs = zip(first.named_parameters(), second.parameters(), strict=True)
    return {name: (a - b).detach() for (name, a), b in pairs if not torch.equal(a, b)}


def _update_generator(
    run: config.Config, data: PreparedData, number: int
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Return G before and after its update on a batch, and D's unused gradient."""
    state = setup.make_train_state(run, data, 0, torch.device("cpu"))
    for _ in range(WARMUP_ITERATIONS):
        train_step(state)
    before, gradient = _generator_parameters(state), list[Tensor]()
    carry, rng = None, state.rng.at_step(WARMUP_ITERATIONS)
    for phase in state.game.phases():
        batch = replace(state.loader.batch_at(number), carry=carry)
        output = state.compute_gradients(
            state.players, phase, batch, rng.fold_in(phase.name), state.precision
        )
        carry = output.carry
        gradient += output.gradients.get("discriminator", ())
        if "generator" in output.gradients:
            only_g = {"generator": output.gradients["generator"]}
            apply_gradients(state, replace(output, gradients=only_g))
    return before, _generator_parameters(state), gradient


def _generator_parameters(state: TrainState) -> list[Tensor]:
    return [p.detach().clone() for p in state.players["generator"].parameters()]


def _count_differing(first: Iterable[Tensor], second: Iterable[Tensor]) -> int:
    return sum(int((a != b).sum()) for a, b in zip(first, second, strict=True))
