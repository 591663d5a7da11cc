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
    """A loader whose n-th minibatch is the number n."""

    def __init__(self):
        self.read = []

    def batch_at(self, index):
        self.read.append(index)
        return Batch(torch.full((2, 1, 1, 1), float(index)))

    def epoch_at(self, index):
        return index / 10


class Duel:
    """The bilinear game L_a = a b, L_b = -a b, in which the order of updates matters."""

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


def make_state(*phases, a=1.0, b=2.0, spec=None):
    spec = spec or config.SGD(lr=0.1, lr_decay=1.0, momentum=0.0, momentum_final=0.0)
    players = {"a": Weight(a), "b": Weight(b)}
    optimizers = {
        name: make_optimizer(spec, player.parameters()) for name, player in players.items()
    }
    return TrainState(Duel(*phases), players, optimizers, Numbers(), RNG(0))


def weights(state):
    return [player.w.item() for player in state.players.values()]


def test_gradients_of_one_phase_are_taken_before_any_update():
    """a = 1 - 0.1 x 2, b = 2 + 0.1 x 1: both from the state before the step."""
    state = make_state(Phase("both", losses("a", "b")))
    train_step(state)
    assert weights(state) == pytest.approx([0.8, 2.1])


def test_the_second_phase_uses_the_updated_first_player():
    """a = 1 - 0.1 x 2 = 0.8, then b = 2 + 0.1 x 0.8."""
    state = make_state(Phase("a", losses("a")), Phase("b", losses("b")))
    train_step(state)
    assert weights(state) == pytest.approx([0.8, 2.08])


def test_each_update_of_a_phase_reads_a_new_minibatch():
    state = make_state(
        Phase("a", losses("a"), num_updates=3), Phase("b", losses("b"), reads_data=False)
    )
    train_step(state)
    train_step(state)
    assert state.loader.read == [0, 1, 2, 2, 3, 4, 5, 5]
    assert state.progress.updates == {"a": 6, "b": 2}
    assert (state.progress.step, state.progress.batches_read) == (2, 6)


def test_the_number_of_updates_can_depend_on_the_last_metrics():
    """An adaptive k needs no change of Algorithm 1."""
    state = make_state(Phase("a", losses("a"), num_updates=lambda metrics: int(metrics["lead"])))
    state.last_metrics = {"lead": 4.0}
    train_step(state)
    assert state.progress.updates == {"a": 4}


def test_metrics_are_means_over_the_updates_of_a_phase():
    output = train_step(make_state(Phase("a", losses("a"), num_updates=3)))
    assert output.metrics["batch"].item() == 1.0  # of batches 0, 1 and 2


@pytest.mark.parametrize("spec", [config.SGD(), config.Adam()], ids=["sgd", "adam"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_non_finite_numbers_update_no_player(spec, bad):
    """Nor do they enter optimizer states; the step reports them."""

    def poisoned(players, batch, rng):
        outcome = losses("a", "b")(players, batch, rng)
        return PhaseOutput({**outcome.losses, "b": outcome.losses["b"] * bad})

    state = make_state(Phase("both", losses("a", "b")), spec=spec)
    train_step(state)
    before = weights(state)
    states = [
        {name: tensors[0].clone() for name, tensors in each.state.items()}
        for each in state.optimizers.values()
    ]
    state.game = Duel(Phase("both", poisoned))
    assert not train_step(state).finite
    assert weights(state) == before
    for each, previous in zip(state.optimizers.values(), states, strict=True):
        for name, tensors in each.state.items():
            assert torch.equal(tensors[0], previous[name]), name


def test_optimizers_receive_the_progress_of_the_schedules():
    """A rate that falls to 0 over 4 steps by a cosine; all updates of a step have one rate."""
    state = make_state(
        Phase("a", losses("a"), num_updates=2), spec=config.Adam(lr=0.1, lr_final=0.0)
    )
    state.schedule_steps = 4
    progress = []
    step = state.optimizers["a"].step
    state.optimizers["a"].step = lambda *args: (progress.append(args[-1]), step(*args))
    for _ in range(6):
        train_step(state)
    assert progress == [0, 0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75, 1, 1, 1, 1]
    before = weights(state)
    train_step(state)
    assert weights(state) == before


class ByThrees(Numbers):
    """Three minibatches are an epoch."""

    def epoch_at(self, index):
        return index / 3


def recorded(state, name, record):
    """Record the arguments with which a player's optimizer is called."""
    move = state.optimizers[name].step
    state.optimizers[name].step = lambda *args: (record.append(args[1:3]), move(*args))


def test_optimizers_receive_their_updates_and_the_epoch_of_the_batch_just_read():
    """Player a has two updates on new minibatches; b reads none and is in the epoch of a's last."""
    of_a, of_b = [], []
    state = make_state(
        Phase("a", losses("a"), num_updates=2), Phase("b", losses("b"), reads_data=False)
    )
    state.loader = ByThrees()
    recorded(state, "a", of_a)
    recorded(state, "b", of_b)
    for _ in range(4):
        train_step(state)
    assert of_a == [(0, 0), (1, 0), (2, 0), (3, 1), (4, 1), (5, 1), (6, 2), (7, 2)]
    assert of_b == [(0, 0), (1, 1), (2, 1), (3, 2)]


def test_momentum_rises_with_epochs_and_the_rate_falls_with_updates():
    """The trajectory of L = a b under the schedules of 2014, written out by hand."""
    spec = config.SGD(
        lr=0.1, lr_decay=1.2, lr_min=0.04, momentum=0.5, momentum_final=0.9, momentum_epochs=3
    )
    state = make_state(Phase("a", losses("a")), b=2.0, spec=spec)
    state.loader = ByThrees()
    a, velocity = 1.0, 0.0
    for n in range(12):
        momentum = (0.5, 0.7, 0.9, 0.9)[n // 3]
        velocity = momentum * velocity - max(0.1 / 1.2**n, 0.04) * 2.0
        a += velocity
        train_step(state)
        assert state.players["a"].w.item() == pytest.approx(a, rel=1e-5)


def test_every_update_of_every_phase_has_its_own_random_numbers():
    """Three updates of a and one of b in two steps: eight different draws, reproducibly."""

    def drawing(record, name):
        def take(players, batch, rng):
            record.append(rng.normal("z", 4, 2))
            return losses(name)(players, batch, rng)

        return take

    both = []
    for numbers in ([], []):
        phases = Phase("a", drawing(numbers, "a"), num_updates=3), Phase("b", drawing(numbers, "b"))
        state = make_state(*phases)
        train_step(state)
        train_step(state)
        both.append(torch.stack(numbers))
    assert both[0].shape == (8, 4, 2)
    assert len(both[0].unique()) == 64
    assert torch.equal(*both)


@pytest.mark.parametrize("place", ["first phase", "second phase", "first update", "last update"])
def test_one_non_finite_update_marks_the_whole_step(place):
    """That update changes nothing; the others are made, and the step reports it."""
    calls = []

    def bad_update(players, batch, rng):
        calls.append(len(calls))
        outcome = losses("a")(players, batch, rng)
        bad = {"first phase": 0, "first update": 0, "last update": 2}.get(place)
        factor = float("nan") if calls[-1] == bad else 1.0
        return PhaseOutput({"a": outcome.losses["a"] * factor})

    def bad_end(players, batch, rng):
        outcome = losses("b")(players, batch, rng)
        factor = float("nan") if place == "second phase" else 1.0
        return PhaseOutput({"b": outcome.losses["b"] * factor})

    updates = 3 if "update" in place else 1
    state = make_state(Phase("a", bad_update, num_updates=updates), Phase("b", bad_end))
    assert not train_step(state).finite
    moved = {"first phase": (0, 1), "second phase": (1, 0)}.get(place, (2, 1))
    a = 1.0 - 0.1 * 2.0 * moved[0]
    assert weights(state) == pytest.approx([a, 2.0 + 0.1 * a * moved[1]])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_non_finite_loss_with_a_finite_gradient_updates_no_player(bad):
    """L_b + c has the gradient of L_b, whatever c is."""

    def shifted(players, batch, rng):
        outcome = losses("a", "b")(players, batch, rng)
        return PhaseOutput({**outcome.losses, "b": outcome.losses["b"] + bad})

    state = make_state(Phase("both", shifted))
    assert not train_step(state).finite
    assert weights(state) == [1.0, 2.0]


def test_a_non_finite_gradient_with_a_finite_loss_updates_no_player():
    """√|x - a| is 0 at a = x, and its derivative is not finite."""

    def steep(players, batch, rng):
        outcome = losses("a")(players, batch, rng)
        return PhaseOutput({**outcome.losses, "b": (players["b"].w - 2.0).abs().sqrt().sum()})

    state = make_state(Phase("both", steep))
    assert not train_step(state).finite
    assert weights(state) == [1.0, 2.0]


def test_next_losses_are_those_of_the_next_step_and_change_nothing():
    """They use the last minibatch and the next step's random numbers; buffers are restored."""

    def draw_losses(players, batch, rng):
        players["a"].passes += 1
        product = (players["a"].w * players["b"].w).sum()
        z = rng.normal("z", 1, 1).sum()
        return PhaseOutput({"a": product * batch.images.mean() + z}, carry=batch.images)

    def second(players, batch, rng):
        return PhaseOutput({"b": -players["b"].w.sum() * (1 + batch.carry.mean())})

    state = make_state(Phase("a", draw_losses), Phase("b", second, reads_data=False))
    state.players["a"].register_buffer("passes", torch.zeros(()))
    for _ in range(3):
        train_step(state)
    a, b = weights(state)
    position = replace(state.progress)
    result = next_losses(state)
    z = RNG(0).at_step(3).fold_in("a").fold_in("0").normal("z", 1, 1).item()
    assert result["a"].item() == pytest.approx(2 * a * b + z, rel=1e-5)  # batch 2 was the last
    assert result["b"].item() == pytest.approx(-3 * b, rel=1e-5)
    assert state.players["a"].passes.item() == 3
    assert (state.progress, weights(state)) == (position, [a, b])
    fresh = make_state(Phase("a", draw_losses))
    fresh.players["a"].register_buffer("passes", torch.zeros(()))
    next_losses(fresh)
    assert fresh.loader.read == [0]


def test_metrics_of_a_step_hold_no_graph():
    """Their sums are kept until the next log, and would keep the memory of every step."""

    def watched(players, batch, rng):
        outcome = losses("a")(players, batch, rng)
        return PhaseOutput(outcome.losses, {"square": players["a"].w.square().sum()})

    output = train_step(make_state(Phase("a", watched)))
    assert set(output.metrics) == {"square", "loss/a"}
    assert not any(value.requires_grad for value in output.metrics.values())


def test_a_projectable_player_is_projected_after_each_update():
    state = make_state(Phase("a", losses("a"), num_updates=2))
    train_step(state)
    assert state.players["a"].projected == 2
    assert state.players["b"].projected == 0


def test_under_bfloat16_losses_and_weights_stay_float32():
    layer = nn.Linear(4, 4)
    dtypes = []

    def take(players, batch, rng):
        out = players["a"](torch.ones(2, 4))
        dtypes.append(out.dtype)
        return PhaseOutput({"a": out.float().sum()})

    spec = config.SGD()
    state = TrainState(
        Duel(Phase("a", take)),
        {"a": layer},
        {"a": make_optimizer(spec, layer.parameters())},
        Numbers(),
        RNG(0),
        precision=torch.bfloat16,
    )
    train_step(state)
    assert dtypes == [torch.bfloat16]
    assert layer.weight.dtype == torch.float32


def test_carry_reaches_the_next_phase_and_not_the_next_step():
    received = []

    def first(players, batch, rng):
        received.append(batch.carry)
        outcome = losses("a")(players, batch, rng)
        return replace(outcome, carry=torch.full((2, 1, 1, 1), float(len(received))))

    def second(players, batch, rng):
        received.append(batch.carry)
        return losses("b")(players, batch, rng)

    state = make_state(Phase("a", first), Phase("b", second, reads_data=False))
    train_step(state)
    train_step(state)
    assert [None if h is None else h.mean().item() for h in received] == [None, 1, None, 3]


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
