from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import advnets
from advnets import config, presets
from advnets.data.prepared import open_data
from advnets.experiment import setup
from advnets.protocols import Batch, Phase, PhaseOutput
from advnets.rng import RNG
from advnets.training.optimizers import make_optimizer
from advnets.training.step import TrainState, next_losses, train_step


class Weight(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([value]))
        self.projected = 0

    def project(self):
        self.projected += 1


class Numbers:
    """A stream whose n-th batch is the number n."""

    def __init__(self):
        self.read = []

    def batch_at(self, index):
        self.read.append(index)
        return Batch(torch.full((2, 1, 1, 1), float(index)))

    def epoch_at(self, index):
        return index / 10


class Duel:
    """L_a = a b, L_b = -a b: the bilinear game, whose simultaneous and alternating play differ."""

    def __init__(self, *phases):
        self._phases = phases

    def phases(self):
        return self._phases


def losses(*names):
    def take(players, batch, rng):
        product = (players["a"].w * players["b"].w).sum()
        signs = {"a": product, "b": -product}
        return PhaseOutput({name: signs[name] for name in names}, {"batch": batch.images.mean()})

    return take


def table(*phases, a=1.0, b=2.0, spec=None):
    spec = spec or config.SGD(lr=0.1, lr_decay=1.0, momentum=0.0, momentum_final=0.0)
    players = {"a": Weight(a), "b": Weight(b)}
    movers = {name: make_optimizer(spec, player.parameters()) for name, player in players.items()}
    return TrainState(Duel(*phases), players, movers, Numbers(), RNG(0))


def weights(table):
    return [player.w.item() for player in table.players.values()]


def test_in_one_phase_nobody_has_moved_when_a_gradient_is_taken():
    """a = 1 - .1 x 2, b = 2 + .1 x 1: both from where the round began."""
    played = table(Phase("both", losses("a", "b")))
    train_step(played)
    assert weights(played) == pytest.approx([0.8, 2.1])


def test_in_two_phases_the_second_player_answers_the_first():
    """a = 1 - .1 x 2 = .8, then b = 2 + .1 x .8."""
    played = table(Phase("a", losses("a")), Phase("b", losses("b")))
    train_step(played)
    assert weights(played) == pytest.approx([0.8, 2.08])


def test_a_phase_repeats_on_fresh_batches():
    played = table(
        Phase("a", losses("a"), num_updates=3), Phase("b", losses("b"), reads_data=False)
    )
    train_step(played)
    train_step(played)
    assert played.loader.read == [0, 1, 2, 2, 3, 4, 5, 5]
    assert played.progress.updates == {"a": 6, "b": 2}
    assert (played.progress.step, played.progress.batches_read) == (2, 6)


def test_how_often_may_depend_on_what_was_last_seen():
    """A learner of the lead can be played with no change to Algorithm 1."""
    played = table(Phase("a", losses("a"), num_updates=lambda seen: int(seen["lead"])))
    played.last_metrics = {"lead": 4.0}
    train_step(played)
    assert played.progress.updates == {"a": 4}


def test_what_repeats_see_is_averaged():
    shown = train_step(table(Phase("a", losses("a"), num_updates=3)))
    assert shown.metrics["batch"].item() == 1.0  # of batches 0, 1 and 2


@pytest.mark.parametrize("spec", [config.SGD(), config.Adam()], ids=["sgd", "adam"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_step_that_is_not_finite_moves_nobody(spec, bad):
    """Nor does it enter the momentum; the round says so."""

    def poisoned(players, batch, rng):
        outcome = losses("a", "b")(players, batch, rng)
        return PhaseOutput({**outcome.losses, "b": outcome.losses["b"] * bad})

    played = table(Phase("both", losses("a", "b")), spec=spec)
    train_step(played)
    before = weights(played)
    states = [
        {name: tensors[0].clone() for name, tensors in each.state.items()}
        for each in played.optimizers.values()
    ]
    played.game = Duel(Phase("both", poisoned))
    assert not train_step(played).finite
    assert weights(played) == before
    for each, state in zip(played.optimizers.values(), states, strict=True):
        for name, tensors in each.state.items():
            assert torch.equal(tensors[0], state[name]), name


def test_movers_are_told_how_far_the_run_is():
    """A rate that falls to 0 over 4 rounds, by a cosine; k steps of a round are at one rate."""
    played = table(Phase("a", losses("a"), num_updates=2), spec=config.Adam(lr=0.1, lr_final=0.0))
    played.schedule_steps = 4
    told = []
    move = played.optimizers["a"].step
    played.optimizers["a"].step = lambda *given: (told.append(given[-1]), move(*given))
    for _ in range(6):
        train_step(played)
    assert told == [0, 0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75, 1, 1, 1, 1]
    before = weights(played)
    train_step(played)
    assert weights(played) == before


class ByThrees(Numbers):
    """Three batches are an epoch."""

    def epoch_at(self, index):
        return index / 3


def recorded(played, name, record):
    """Note what a player's optimizer is called with, before it is called."""
    move = played.optimizers[name].step
    played.optimizers[name].step = lambda *given: (record.append(given[1:3]), move(*given))


def test_optimizers_receive_their_updates_and_the_epoch_of_the_batch_just_read():
    """A repeats twice on batches of its own; b reads none and stands in the epoch of a's last."""
    of_a, of_b = [], []
    played = table(
        Phase("a", losses("a"), num_updates=2), Phase("b", losses("b"), reads_data=False)
    )
    played.loader = ByThrees()
    recorded(played, "a", of_a)
    recorded(played, "b", of_b)
    for _ in range(4):
        train_step(played)
    assert of_a == [(0, 0), (1, 0), (2, 0), (3, 1), (4, 1), (5, 1), (6, 2), (7, 2)]
    assert of_b == [(0, 0), (1, 1), (2, 1), (3, 2)]


def test_momentum_rises_with_epochs_and_the_rate_falls_with_updates():
    """The trajectory of L = a b under the schedules of 2014, written out by hand."""
    spec = config.SGD(
        lr=0.1, lr_decay=1.2, lr_min=0.04, momentum=0.5, momentum_final=0.9, momentum_epochs=3
    )
    played = table(Phase("a", losses("a")), b=2.0, spec=spec)
    played.loader = ByThrees()
    a, velocity = 1.0, 0.0
    for n in range(12):
        momentum = (0.5, 0.7, 0.9, 0.9)[n // 3]
        velocity = momentum * velocity - max(0.1 / 1.2**n, 0.04) * 2.0
        a += velocity
        train_step(played)
        assert played.players["a"].w.item() == pytest.approx(a, rel=1e-5)


def test_every_turn_of_every_phase_draws_noise_of_its_own():
    """Three turns of a, one of b, over two rounds: eight different draws, the same every time."""

    def drawing(record, name):
        def take(players, batch, rng):
            record.append(rng.normal("z", 4, 2))
            return losses(name)(players, batch, rng)

        return take

    both = []
    for drawn in ([], []):
        phases = Phase("a", drawing(drawn, "a"), num_updates=3), Phase("b", drawing(drawn, "b"))
        played = table(*phases)
        train_step(played)
        train_step(played)
        both.append(torch.stack(drawn))
    assert both[0].shape == (8, 4, 2)
    assert len(both[0].unique()) == 64
    assert torch.equal(*both)


@pytest.mark.parametrize("where", ["first phase", "second phase", "first turn", "last turn"])
def test_one_turn_that_is_not_finite_marks_the_whole_round(where):
    """The turn itself moves nobody; the others move, and the round still says so."""
    turns = []

    def bad_turn(players, batch, rng):
        turns.append(len(turns))
        outcome = losses("a")(players, batch, rng)
        bad = {"first phase": 0, "first turn": 0, "last turn": 2}.get(where)
        factor = float("nan") if turns[-1] == bad else 1.0
        return PhaseOutput({"a": outcome.losses["a"] * factor})

    def bad_end(players, batch, rng):
        outcome = losses("b")(players, batch, rng)
        factor = float("nan") if where == "second phase" else 1.0
        return PhaseOutput({"b": outcome.losses["b"] * factor})

    repeats = 3 if "turn" in where else 1
    played = table(Phase("a", bad_turn, num_updates=repeats), Phase("b", bad_end))
    assert not train_step(played).finite
    moved = {"first phase": (0, 1), "second phase": (1, 0)}.get(where, (2, 1))
    a = 1.0 - 0.1 * 2.0 * moved[0]
    assert weights(played) == pytest.approx([a, 2.0 + 0.1 * a * moved[1]])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_not_finite_moves_nobody_though_its_gradient_is_finite(bad):
    """L_b + c has the gradient of L_b, whatever c is."""

    def shifted(players, batch, rng):
        outcome = losses("a", "b")(players, batch, rng)
        return PhaseOutput({**outcome.losses, "b": outcome.losses["b"] + bad})

    played = table(Phase("both", shifted))
    assert not train_step(played).finite
    assert weights(played) == [1.0, 2.0]


def test_a_gradient_that_is_not_finite_moves_nobody_though_its_loss_is_finite():
    """√|x - a| at a = x is 0, and its slope is not finite."""

    def steep(players, batch, rng):
        outcome = losses("a")(players, batch, rng)
        return PhaseOutput({**outcome.losses, "b": (players["b"].w - 2.0).abs().sqrt().sum()})

    played = table(Phase("both", steep))
    assert not train_step(played).finite
    assert weights(played) == [1.0, 2.0]


def test_the_next_losses_are_those_of_the_next_round_and_change_nothing():
    """On the batch that was read last, with the next step's noise; buffers are put back."""

    def drawn(players, batch, rng):
        players["a"].passes += 1
        product = (players["a"].w * players["b"].w).sum()
        z = rng.normal("z", 1, 1).sum()
        return PhaseOutput({"a": product * batch.images.mean() + z}, carry=batch.images)

    def second(players, batch, rng):
        return PhaseOutput({"b": -players["b"].w.sum() * (1 + batch.carry.mean())})

    played = table(Phase("a", drawn), Phase("b", second, reads_data=False))
    played.players["a"].register_buffer("passes", torch.zeros(()))
    for _ in range(3):
        train_step(played)
    a, b = weights(played)
    position = replace(played.progress)
    found = next_losses(played)
    z = RNG(0).at_step(3).fold_in("a").fold_in("0").normal("z", 1, 1).item()
    assert found["a"].item() == pytest.approx(2 * a * b + z, rel=1e-5)  # batch 2 was the last
    assert found["b"].item() == pytest.approx(-3 * b, rel=1e-5)
    assert played.players["a"].passes.item() == 3
    assert (played.progress, weights(played)) == (position, [a, b])
    fresh = table(Phase("a", drawn))
    fresh.players["a"].register_buffer("passes", torch.zeros(()))
    next_losses(fresh)
    assert fresh.loader.read == [0]


def test_what_a_round_shows_holds_no_graph():
    """Sums of it are kept until the next tick: they would keep the memory of every step."""

    def watched(players, batch, rng):
        outcome = losses("a")(players, batch, rng)
        return PhaseOutput(outcome.losses, {"square": players["a"].w.square().sum()})

    shown = train_step(table(Phase("a", watched)))
    assert set(shown.metrics) == {"square", "loss/a"}
    assert not any(value.requires_grad for value in shown.metrics.values())


def test_a_bounded_player_is_projected_after_each_update():
    played = table(Phase("a", losses("a"), num_updates=2))
    train_step(played)
    assert played.players["a"].projected == 2
    assert played.players["b"].projected == 0


def test_under_bfloat16_losses_and_weights_stay_float32():
    layer = nn.Linear(4, 4)
    seen = []

    def take(players, batch, rng):
        out = players["a"](torch.ones(2, 4))
        seen.append(out.dtype)
        return PhaseOutput({"a": out.float().sum()})

    spec = config.SGD()
    played = TrainState(
        Duel(Phase("a", take)),
        {"a": layer},
        {"a": make_optimizer(spec, layer.parameters())},
        Numbers(),
        RNG(0),
        precision=torch.bfloat16,
    )
    train_step(played)
    assert seen == [torch.bfloat16]
    assert layer.weight.dtype == torch.float32


def test_what_a_phase_hands_on_reaches_the_next_and_not_the_next_round():
    given = []

    def first(players, batch, rng):
        given.append(batch.carry)
        outcome = losses("a")(players, batch, rng)
        return replace(outcome, carry=torch.full((2, 1, 1, 1), float(len(given))))

    def second(players, batch, rng):
        given.append(batch.carry)
        return losses("b")(players, batch, rng)

    played = table(Phase("a", first), Phase("b", second, reads_data=False))
    train_step(played)
    train_step(played)
    assert [None if h is None else h.mean().item() for h in given] == [None, 1, None, 3]


def test_one_step_of_digits_runs_through_at_most_ten_files():
    """A reader who follows a training step opens no more files of this package than that."""
    run = presets.get_preset("digits")
    data = open_data(run.data)
    run = setup.resolve_config(run, data.info, config.Runtime("cpu", "float32", 1))
    state = setup.make_train_state(run, data, 0, torch.device("cpu"))
    train_step(state)  # the first step fills caches
    package, files = str(Path(advnets.__file__).parent), set()

    def trace(frame, event, argument):
        if frame.f_code.co_filename.startswith(package):
            files.add(frame.f_code.co_filename)

    previous = sys.gettrace()
    sys.settrace(trace)
    try:
        train_step(state)
    finally:
        sys.settrace(previous)
    assert any(file.endswith("training/step.py") for file in files)
    assert len(files) <= 10, sorted(files)
