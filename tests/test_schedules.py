"""Schedules of learning rates, momentum, penalties and augmentation."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from advnets import config
from advnets.errors import UsageError
from advnets.games.gan import GAN
from advnets.protocols import Batch, Phase, PhaseOutput
from advnets.rng import RNG
from advnets.schedules import Schedule, cosine, geometric
from advnets.training.optimizers import (
    beta2,
    check_learning_rate,
    learning_rate,
    make_optimizer,
    momentum,
)
from advnets.training.step import Progress, TrainState, train_step


class Data:
    def batch_at(self, index):
        return Batch(torch.zeros(1, 1, 1, 1))

    def epoch_at(self, index):
        return 0.0


class OnePhase:
    def __init__(self, phase):
        self.phase = phase

    def phases(self):
        return (self.phase,)


def loss(players, batch, rng):
    return PhaseOutput({"a": players["a"].weight.sum()})


def train_state(phase, step=0, schedule_steps=0):
    """Return a state whose game is this phase, of one player "a"."""
    player = torch.nn.Linear(1, 1, bias=False)
    optimizers = {"a": make_optimizer(config.SGD(), player.parameters())}
    state = TrainState(
        OnePhase(phase), {"a": player}, optimizers, Data(), RNG(0), schedule_steps=schedule_steps
    )
    state.progress = Progress(step)
    return state


@pytest.mark.parametrize(
    ("progress", "expected"), [(0.0, 4.0), (1.0, 2.0), (0.5, 3.0), (1 / 3, 3.5), (2 / 3, 2.5)]
)
def test_the_cosine_schedule_is_half_way_at_half_of_the_time(progress, expected):
    """cos 60° is 1/2: at a third of the time it is a quarter of the way."""
    assert cosine(4.0, 2.0, progress) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("progress", "expected"), [(0.0, 8.0), (1 / 3, 4.0), (2 / 3, 2.0), (1.0, 1.0)]
)
def test_the_geometric_schedule_changes_by_a_constant_factor(progress, expected):
    assert geometric(8.0, 1.0, progress) == pytest.approx(expected)


def test_schedules_reach_both_ends_exactly():
    assert (geometric(1e-1, 1e-5, 0.0), geometric(1e-1, 1e-5, 1.0)) == (1e-1, 1e-5)
    assert (cosine(2e-4, 5e-5, 0.0), cosine(2e-4, 5e-5, 1.0)) == (2e-4, 5e-5)


@pytest.mark.parametrize("step", [0, 2, 8, 20])
def test_progress_reaches_1_after_the_scheduled_steps_and_stays(step):
    """Progress is the fraction of the steps that are complete, and at most 1."""
    state = train_state(Phase("a", loss), schedule_steps=8)
    state.progress.step = step
    assert state.schedule_progress == min(1.0, step / 8)
    assert train_state(Phase("a", loss), step=5).schedule_progress == 0.0


def test_the_values_of_a_phases_schedules_reach_its_losses():
    """As float32 scalars; a schedule of 8 steps is half way at step 4."""
    received = []

    def losses(players, batch, rng):
        received.append(batch.scheduled)
        return loss(players, batch, rng)

    schedules = {"r1": Schedule(4.0, 2.0), "p": Schedule(1.0, 0.01, "geometric")}
    train_step(train_state(Phase("a", losses, schedules=schedules), step=4, schedule_steps=8))
    (values,) = received
    assert {name: value.item() for name, value in values.items()} == pytest.approx(
        {"r1": 3.0, "p": 0.1}
    )
    assert {value.dtype for value in values.values()} == {torch.float32}


def test_without_a_final_value_a_setting_has_no_schedule():
    (phase,) = GAN(config.GANGame(updates="simultaneous", r1=0.3, r2=0.5, r2_final=0.1)).phases()
    assert phase.schedules == {"r2": Schedule(0.5, 0.1)}


SPEC = config.SGD(lr=0.1)


def test_the_learning_rate_has_a_floor():
    assert learning_rate(SPEC, 10**8) == 1e-6


@pytest.mark.parametrize(
    ("decay", "updates", "expected"),
    [(1.1, 7300, 0.1 / 1.1**7300), (1.1, 10**5, 0.0), (1e30, 10**12, 0.0), (1.0, 10**12, 0.1)],
)
def test_large_powers_of_the_decay_do_not_overflow(decay, updates, expected):
    """1.1^7500 exceeds the range of a float; the rate has decayed to 0 long before."""
    spec = config.SGD(lr=0.1, lr_decay=decay, lr_min=0.0)
    assert learning_rate(spec, updates) == pytest.approx(expected, rel=1e-9)
    assert learning_rate(replace(spec, lr_min=1e-6), updates) == max(1e-6, expected)


@pytest.mark.parametrize(
    ("spec", "updates", "refused"),
    [
        (config.SGD(lr=0.1, lr_decay=1.1, lr_min=0.0), 1000, True),
        (config.SGD(lr=0.1, lr_decay=1.1, lr_min=0.0), 100, False),
        (config.SGD(lr=0.1, lr_decay=1.1, lr_min=1e-6), 10**6, False),
        (config.Adam(lr=1e-3, lr_decay=1e30), 2, True),
        (config.SGD(lr=0.0, lr_decay=1.1, lr_min=0.0), 10**6, False),  # 0 is what was asked for
        (config.SGD(lr=0.0), 10**6, False),
        (config.Adam(lr=1e-3, lr_final=0.0), 10**6, False),
    ],
)
def test_a_learning_rate_that_decays_to_0_is_refused(spec, updates, refused):
    if not refused:
        check_learning_rate("generator", spec, updates)
        return
    with pytest.raises(UsageError, match=f"lr_decay is .* within {updates:,} updates"):
        check_learning_rate("generator", spec, updates)


@pytest.mark.parametrize(
    ("epoch", "expected"), [(0, 0.5), (249, 0.7), (1000, 0.7), (83, 0.5 + 0.2 / 3)]
)
def test_momentum_rises_from_the_first_epoch_to_the_250th(epoch, expected):
    assert momentum(SPEC, epoch) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("progress", "lr", "decay"), [(0.0, 2e-4, 0.9), (0.5, 1.25e-4, 0.945), (1.0, 5e-5, 0.99)]
)
def test_adams_settings_go_to_their_final_values_by_a_cosine(progress, lr, decay):
    spec = config.Adam(lr=2e-4, lr_final=5e-5, beta2=0.9, beta2_final=0.99)
    assert (learning_rate(spec, 1000, progress), beta2(spec, progress)) == pytest.approx(
        (lr, decay)
    )


def test_without_final_values_adams_settings_are_constant():
    spec = config.Adam(lr=2e-4, lr_decay=1.001)
    assert learning_rate(spec, 100, 0.7) == learning_rate(spec, 100) == 2e-4 / 1.001**100
    assert beta2(spec, 0.7) == 0.999


def test_a_momentum_that_saturates_in_the_first_epoch_is_the_final_one():
    spec = config.SGD(lr=0.1, momentum=0.5, momentum_final=0.7, momentum_epochs=1)
    assert [momentum(spec, epoch) for epoch in (0, 1, 9)] == [0.7] * 3
    soon = config.SGD(lr=0.1, momentum=0.5, momentum_final=0.7, momentum_epochs=2)
    assert [momentum(soon, epoch) for epoch in (0, 1, 9)] == [0.5, 0.7, 0.7]
