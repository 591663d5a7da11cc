import math
import os
import signal
import time
from dataclasses import replace

import pytest
import torch
from torch import nn

from advnets import config
from advnets.errors import DivergedError, StoppedBySignal
from advnets.protocols import Batch, Phase, PhaseOutput
from advnets.rng import RNG
from advnets.run_directory import RunDirectory
from advnets.training.callback import Callback, CallbackList
from advnets.training.checkpoint import read_checkpoint
from advnets.training.devices import StopRequest, catch_stop_signals
from advnets.training.ema import EMA
from advnets.training.optimizers import make_optimizer
from advnets.training.selection import Selection
from advnets.training.step import TrainState
from advnets.training.trainer import (
    Hooks,
    InitialWeights,
    Timer,
    Trainer,
    all_finite,
    training_problem,
)


class Player(nn.Module):
    """One weight, and a buffer that every pass changes, as batch norm's statistics do."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.ones(1))
        self.register_buffer("passes", torch.zeros(1))


class Batches:
    def batch_at(self, index):
        return Batch(torch.zeros(2, 1, 1, 1))

    def epoch_at(self, index):
        return float(index)


class Poisoned:
    """Loss w², not finite where `is_bad` is true of the RNG."""

    def __init__(self, is_bad):
        self.is_bad = is_bad

    def phases(self):
        return (Phase("generator", self.loss),)

    def loss(self, players, batch, rng):
        player = players["generator"]
        bad = self.is_bad(rng)
        with torch.no_grad():
            player.passes += float("nan") if bad else 1.0
        loss = (player.w**2).sum() + 0.01 * rng.normal("z", 1, 1).sum() * player.w.sum()
        return PhaseOutput(
            {"generator": loss * (float("nan") if bad else 1.0)}, {"w": player.w.sum()}
        )


class Recorder(Callback):
    def __init__(self):
        self.events = []

    def on_event(self, event):
        self.events.append(event)


def recorder(trainer):
    """Return the callback of a trainer."""
    return trainer.hooks.callbacks.callbacks[0]


def logs(trainer):
    return [event for event in recorder(trainer).events if event["kind"] == "log"]


def rollbacks(trainer):
    """Return the steps of roll-backs, and the steps at which they were found necessary."""
    events = recorder(trainer).events
    return [(e["step"], e["diverged_step"]) for e in events if e["kind"] == "rollback"]


def end(trainer):
    return trainer.directory.newest_checkpoint().read_bytes()


def restored(trainer):
    """Return a trainer with the state of the newest checkpoint of its directory."""
    trainer.restore(read_checkpoint(trainer.directory.newest_checkpoint()))
    return trainer


def has_finite_checkpoints(trainer):
    tensors = [read_checkpoint(file).tensors for file in trainer.directory.checkpoint_files()]
    return all(t.isfinite().all() for by_name in tensors for t in by_name.values())


def stopped_at(step, is_bad=lambda rng: False):
    """Return options of a trainer that a signal stops during a step."""
    interruption = StopRequest()

    def check(rng):
        if rng.step == step:
            interruption.signal = 15
        return is_bad(rng)

    return {"interruption": interruption, "is_bad": check}


def once_at(step):
    """Return a function of the RNG that is true at this step of the first attempt."""
    return lambda rng: rng.step == step and "#" not in rng.purpose


@pytest.fixture
def make(tmp_path):
    def trainer(is_bad=lambda rng: False, steps=20, interruption=None, name="run"):
        run = RunDirectory(tmp_path / name)
        run.path.mkdir(exist_ok=True)
        player, spec = Player(), config.SGD(lr=0.1)
        players = {"generator": player}
        optimizers = {"generator": make_optimizer(spec, player.parameters())}
        state = TrainState(
            Poisoned(is_bad), players, optimizers, Batches(), RNG(0, purpose="stage0")
        )
        hooks = Hooks(
            CallbackList([Recorder()]), lambda generator, step: None, lambda generator: {}
        )
        return Trainer(
            state=state,
            directory=run,
            intervals=config.Intervals(log_every=5, sample_every=0, checkpoint_every=5),
            steps=steps,
            hooks=hooks,
            stop_request=StopRequest() if interruption is None else interruption,
            emas={"generator": EMA(player, half_life=10, batch_size=2)},
        )

    return trainer


def test_a_training_logs_and_saves_at_its_intervals(make):
    trainer = make()
    assert trainer.run()
    kinds = [(event["kind"], event["step"]) for event in recorder(trainer).events]
    assert kinds == [("log", 5), ("log", 10), ("log", 15), ("log", 20)]
    assert trainer.directory.newest_checkpoint() == trainer.directory.checkpoint_file(20)


def test_logged_metrics_are_means_since_the_last_log(make):
    """Means of the weight before each step, over 5 steps each, from the first log on."""
    trainer, weights = make(), [1.0]
    weight = trainer.state.players["generator"].w
    recorder(trainer).on_step = lambda step: weights.append(weight.item())
    assert trainer.run()
    for n, log in enumerate(logs(trainer)):
        assert log["w"] == pytest.approx(sum(weights[5 * n : 5 * n + 5]) / 5, rel=1e-5)
        assert log["epoch"] == log["step"] == 5 * n + 5
    assert trainer.state.last_metrics["w"] == logs(trainer)[-1]["w"]


def test_the_newest_two_checkpoints_are_kept_and_the_last_regular_one(make):
    trainer = make()
    assert trainer.run()
    names = [file.name for file in trainer.directory.checkpoint_files()]
    assert names == ["step-00000015.safetensors", "step-00000020.safetensors"]
    for stop in (6, 7, 8):
        part = make(**stopped_at(stop), name="stopped")
        assert not (restored(part) if stop > 6 else part).run()
    steps = [int(file.stem[-8:]) for file in part.directory.checkpoint_files()]
    assert steps == [5, 8, 9]


SCORES = {2: 5.0, 4: 3.0, 6: 4.0, 8: 2.0, 10: 2.5, 12: 2.0, 14: 9.0}
"""Scores by step, 7 at the others: none is better than that of step 8, which 12 only equals."""


def selecting(trainer, scores=SCORES, **options):
    """Evaluate a trainer every second step, with these scores, and select the lowest."""

    def evaluate(_):
        return {"metric": "frechet", "value": scores.get(trainer.step, 7.0)}

    trainer.hooks = replace(trainer.hooks, evaluate=evaluate)
    trainer.intervals = replace(trainer.intervals, eval_every=2)
    trainer.selection = Selection("frechet", "value", "lower", **options)
    return trainer


def test_the_best_checkpoint_is_kept(make):
    """Besides the newest ones; it has the state of its step, which no interval saves."""
    trainer = selecting(make(), keep_best=True)
    assert trainer.run()
    assert list(trainer.directory.checkpoints_by_step()) == [8, 15, 20]
    events = recorder(trainer).events
    assert [e["step"] for e in events if e.get("best") and e["weights"] == "ema"] == [2, 4, 8]
    assert not any(e.get("best") for e in events if e.get("weights") == "last")
    stopped = make(steps=8, name="stopped")
    assert stopped.run()
    best, same = (
        read_checkpoint(t.directory.checkpoint_file(8)).tensors for t in (trainer, stopped)
    )
    weights = [name for name in same if name.startswith(("players/", "ema/"))]
    assert all(torch.equal(best[name], same[name]) for name in weights)


def test_as_many_checkpoints_are_kept_as_requested(make):
    for keep, kept in ((1, [20]), (3, [10, 15, 20]), ("all", [0, 5, 10, 15, 20])):
        trainer = make(name=f"run-{keep}")
        trainer.intervals = replace(trainer.intervals, keep_checkpoints=keep)
        assert trainer.run()
        assert list(trainer.directory.checkpoints_by_step()) == kept


def test_training_ends_early_at_the_same_step_wherever_it_was_interrupted(make):
    """Three evaluations after step 8 are not better: it ends at step 14, with the same bytes."""
    whole = selecting(make(), patience=3)
    assert whole.run()
    assert (whole.ends_early, whole.step) == (True, 14)
    assert str(whole.selection) == (
        "3 evaluations in a row have no better value of frechet than that of step 8"
    )
    for stop in (1, 7, 8, 9, 12):
        name = f"stopped-{stop}"
        assert not selecting(make(**stopped_at(stop), name=name), patience=3).run()
        resumed = restored(selecting(make(name=name), patience=3))
        resumed.directory.truncate_events(resumed.step)
        assert resumed.run()
        assert end(resumed) == end(whole)

    # A run that has ended early has nothing left to train, unless patience is longer.
    for patience, step in ((3, 14), (4, 16)):
        again = restored(selecting(make(), patience=patience))
        assert again.run()
        assert again.step == step


def test_after_a_roll_back_the_end_is_saved_where_a_better_state_was_before(make):
    """Step 12 is the best of the first attempt, and where the second one ends early."""
    trainer = make(once_at(13))
    seen = []

    def evaluate(_):
        seen.append(trainer.step)
        return {"metric": "frechet", "value": 0.0 if seen.count(12) == 1 else float(trainer.step)}

    selecting(trainer, keep_best=True, patience=5)
    trainer.hooks = replace(trainer.hooks, evaluate=evaluate)
    trainer.emas = {}
    assert trainer.run()
    assert trainer.ends_early
    assert trainer.step == 12
    checkpoint = read_checkpoint(trainer.directory.checkpoint_file(12))
    assert checkpoint.metadata["attempt"] == 1


def test_evaluation_does_not_count_as_training_time(make):
    """Each evaluation sleeps and computes; neither is in the seconds of the next log."""

    def look(_):
        deadline = time.process_time() + 0.2
        while time.process_time() < deadline:
            pass
        time.sleep(0.2)
        return {}

    trainer = make()
    trainer.hooks = replace(trainer.hooks, evaluate=look)
    trainer.intervals = replace(trainer.intervals, eval_every=5)
    trainer.run()
    assert len(logs(trainer)) == 4
    for log in logs(trainer):
        assert 0 < log["seconds"] < 0.2
        assert 0 < log["cpu_seconds"] < 0.2


def test_after_a_non_finite_step_training_continues_from_the_last_good_state(make):
    """Step 7 of the first attempt is bad: return to step 5, then other random numbers."""
    trainer = make(once_at(7))
    assert trainer.run()
    events = recorder(trainer).events
    (rollback,) = [event for event in events if event["kind"] == "rollback"]
    assert rollback == {"step": 5, "kind": "rollback", "diverged_step": 10, "attempt": 1}
    assert [event["step"] for event in events] == [5, 5, 10, 15, 20]
    player = trainer.state.players["generator"]
    assert torch.isfinite(player.w).all()
    assert player.passes.item() == 20  # the buffer is of 20 good steps, none counted twice
    assert torch.isfinite(trainer.emas["generator"].module.w).all()
    undisturbed = make(name="undisturbed")
    undisturbed.run()
    assert not torch.equal(undisturbed.state.players["generator"].w, player.w)


def test_the_third_roll_back_ends_the_run_with_advice_and_finite_checkpoints(make):
    trainer = make(lambda rng: rng.step == 12)
    with pytest.raises(DivergedError) as caught:
        trainer.run()
    assert has_finite_checkpoints(trainer)
    assert trainer.directory.newest_checkpoint() == trainer.directory.checkpoint_file(10)
    assert str(caught.value) == (
        "non-finite numbers occurred by step 15 for the 3rd time; the last good state is "
        f"{trainer.directory.checkpoint_file(10)}: start a new run with a lower learning rate or "
        "smaller initial weights"
    )
    assert len(rollbacks(trainer)) == 2


def test_a_request_to_stop_saves_the_current_state(make):
    trainer = make(**stopped_at(8))
    assert not trainer.run()
    assert trainer.directory.newest_checkpoint() == trainer.directory.checkpoint_file(9)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_after_the_first_step_waits_for_the_end_of_the_step(make, number):
    """A real signal: the step is finished and its state saved, and nothing is raised."""
    with catch_stop_signals() as interruption:
        trainer = make(interruption=interruption)
        recorder(trainer).on_step = lambda step: step == 1 and os.kill(os.getpid(), number)
        try:
            assert not trainer.run()
        except StoppedBySignal as stop:  # a KeyboardInterrupt would end the tests
            pytest.fail(str(stop))
    assert interruption.signal == number
    assert trainer.directory.newest_checkpoint() == trainer.directory.checkpoint_file(1)


def test_non_finite_numbers_in_the_last_step_are_rolled_back(make):
    """Without any check before: step 20 is repeated, and is the last one saved."""
    trainer = make(once_at(19))
    trainer.intervals = replace(trainer.intervals, log_every=0, checkpoint_every=0)
    assert trainer.run()
    kinds = [(event["kind"], event["step"]) for event in recorder(trainer).events]
    assert kinds == [("rollback", 0)]
    assert trainer.directory.newest_checkpoint() == trainer.directory.checkpoint_file(20)
    assert trainer.problem() is None


def test_non_finite_samples_are_rolled_back(make):
    """Drawing them raises DivergedError; no file is written."""
    trainer, calls = make(), []

    def look(_, step):
        calls.append(step)
        if len(calls) == 2:
            raise DivergedError("the generator makes numbers that are not finite")

    trainer.hooks = replace(trainer.hooks, save_samples=look)
    trainer.intervals = replace(trainer.intervals, sample_every=10)
    assert trainer.run()
    assert calls == [10, 20, 20]
    assert rollbacks(trainer) == [(15, 20)]


def test_an_update_that_overflows_never_reaches_a_checkpoint(make):
    """The gradient is finite, and so is the rate; their product is not."""
    trainer = make()

    class Steep:
        def phases(self):
            return (Phase("generator", self.loss),)

        def loss(self, players, batch, rng):
            overflows = once_at(9)(rng)
            w = players["generator"].w
            return PhaseOutput({"generator": (w * (1e38 if overflows else 1.0)).sum()})

    trainer.state.game = Steep()
    trainer.state.optimizers = {
        "generator": make_optimizer(config.SGD(lr=100.0), [trainer.state.players["generator"].w])
    }
    assert trainer.run()
    assert rollbacks(trainer) == [(5, 10)]
    assert has_finite_checkpoints(trainer)


def test_a_clock_that_does_not_advance_is_harmless(make, monkeypatch):
    """No images a second are logged, and the last state is saved."""
    monkeypatch.setattr(
        "advnets.training.trainer.Timer", lambda batch=0, *_: Timer(batch, 1.0, 1.0)
    )
    trainer = make()
    assert trainer.run()
    events = trainer.directory.events()
    assert [event["seconds"] for event in events] == [0.0] * 4
    assert not any("images_per_second" in event for event in events)
    assert trainer.directory.newest_checkpoint() == trainer.directory.checkpoint_file(20)


def test_a_last_step_between_logs_is_logged_and_changes_no_state(make):
    """A run of 18 steps resumed to 23 ends like one of 23 steps, with the same last metrics."""
    short = make(steps=18, name="short")
    assert short.run()
    assert [e["step"] for e in recorder(short).events] == [5, 10, 15, 18]
    longer, uninterrupted = restored(make(steps=23, name="short")), make(steps=23, name="whole")
    fifteenth, observed = recorder(short).events[2], longer.state.last_metrics
    assert observed == {name: fifteenth[name] for name in observed}
    for trainer in (longer, uninterrupted):
        assert trainer.run()
    assert end(longer) == end(uninterrupted)


def test_checking_the_final_state_does_not_change_it(make):
    trainer = make()
    trainer.run()
    before = {
        name: t.clone() for name, t in trainer.state.players["generator"].state_dict().items()
    }
    trainer.loss_limit = 1e-9
    problem = trainer.problem()
    assert problem is not None
    assert problem.reason == "diverged"
    assert "the loss of the generator is " in problem.detail
    after = trainer.state.players["generator"].state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_a_run_resumed_between_logs_equals_an_uninterrupted_one(make):
    """Also the means of the next log: the sums of metrics are part of the state."""
    uninterrupted = make(name="whole")
    uninterrupted.run()
    make(**stopped_at(7), name="cut").run()
    repeated = restored(make(name="cut"))
    assert repeated.run()
    assert end(repeated) == end(uninterrupted)
    means = [{e["step"]: e["w"] for e in logs(run)} for run in (uninterrupted, repeated)]
    assert means[1] == {step: w for step, w in means[0].items() if step > 8}


@pytest.mark.parametrize("stops", [[8], [11], [12], [16], [6], [5, 6], [1, 2, 3], [5, 6, 9, 17]])
def test_a_resumed_run_rolls_back_to_the_same_state(make, stops):
    """Stopped before or after the bad step, once or several times, it ends with the same bytes.

    The attempt is part of the state, and checkpoints of stops are not used for a roll-back.
    """
    uninterrupted = make(once_at(7), name="whole")
    assert uninterrupted.run()
    for n, stop in enumerate(stops):
        part = make(**stopped_at(stop, once_at(7)), name="cut")
        assert not (restored(part) if n else part).run()
    repeated = restored(make(once_at(7), name="cut"))
    assert repeated.run()
    assert end(repeated) == end(uninterrupted)
    assert repeated.attempt == 1


def test_a_non_finite_step_just_before_a_stop_is_not_saved(make):
    """Between two logs nothing was checked yet: the last save checks, and returns to step 5."""
    trainer = make(**stopped_at(7, once_at(7)))
    assert not trainer.run()
    assert trainer.directory.newest_checkpoint() == trainer.directory.checkpoint_file(5)
    assert has_finite_checkpoints(trainer)
    repeated, uninterrupted = restored(make(once_at(7))), make(once_at(7), name="whole")
    assert repeated.run()
    assert uninterrupted.run()
    assert end(repeated) == end(uninterrupted)


@pytest.mark.parametrize("log", [0, 4, 20])
def test_checkpoints_between_logs_are_checked_too(make, log):
    """Step 7 is bad: no checkpoint of step 10 is written, whatever the logging interval."""
    trainer = make(lambda rng: rng.step == 7)
    trainer.intervals = replace(trainer.intervals, log_every=log)
    with pytest.raises(DivergedError):
        trainer.run()
    assert trainer.directory.newest_checkpoint() == trainer.directory.checkpoint_file(5)
    assert has_finite_checkpoints(trainer)


@pytest.mark.parametrize("cut", [None, 3, 11])
def test_the_ema_is_that_of_the_weights_after_every_step_of_the_stage(make, cut):
    """An EMA with ramp-up, compared with one computed here; the stage is the second of a run."""

    def ramped(**options):
        trainer = make(**options)
        player = trainer.state.players["generator"]
        trainer.emas = {"generator": EMA(player, 10_000, 2, rampup=0.5)}
        trainer.steps_before = 40
        return trainer

    weights = []
    uninterrupted = ramped(name="whole")
    weight = uninterrupted.state.players["generator"].w
    recorder(uninterrupted).on_step = lambda step: weights.append(weight.item())
    assert uninterrupted.run()
    expected = 1.0
    for n, last in enumerate(weights, 1):
        decay = 0.5 ** (2 / (0.5 * 2 * n))  # the half-life: half of the images so far
        expected = decay * expected + (1 - decay) * last
    assert len(weights) == 20
    result = uninterrupted.emas["generator"].module.w.item()
    assert result == pytest.approx(expected, rel=1e-5)
    assert result != pytest.approx(weights[-1], rel=1e-4)
    if cut is None:
        return
    assert not ramped(**stopped_at(cut), name="cut").run()
    repeated = restored(ramped(name="cut"))
    assert repeated.run()
    assert repeated.emas["generator"].module.w.item() == result


FINE = {"generator": torch.tensor(0.7)}


def player(*weights):
    net = nn.Module()
    net.w = nn.Parameter(torch.tensor(weights))
    return {"generator": net}


def test_a_changed_and_bounded_state_has_no_problem():
    initial = InitialWeights.from_players(player(0.1, 0.2))
    assert training_problem(initial, player(0.1, 0.3), FINE, 1e4) is None


@pytest.mark.parametrize("loss", [1.1e4, -1.1e4, math.inf, math.nan])
def test_a_loss_above_the_limit_or_not_finite_is_divergence(loss):
    initial = InitialWeights.from_players(player(0.1))
    problem = training_problem(initial, player(0.2), {"generator": torch.tensor(loss)}, 1e4)
    assert problem is not None
    assert problem.reason == "diverged"
    assert problem.detail.startswith("the loss of the generator is ")


@pytest.mark.parametrize(
    ("first", "last", "diverged"),
    [
        (0.1, 0.9e6, False),
        (0.1, 1.1e6, True),
        (0.1, -1.5e12, True),
        (0.1, math.nan, True),
        (3e7, 2e13, False),  # data in large units: the output bias begins at their mean
        (3e7, 4e13, True),
    ],
)
def test_weights_are_bounded_by_the_initial_ones(first, last, diverged):
    problem = training_problem(InitialWeights.from_players(player(first)), player(last), FINE, 1e4)
    assert (problem is not None) == diverged
    if problem is not None:
        assert problem.reason == "diverged"
        assert problem.detail.startswith("the largest weight of the generator is ")


def test_unchanged_weights_mean_that_training_had_no_effect():
    """For each player with a loss; a player without one is not trained."""
    initial = InitialWeights.from_players({**player(0.1), "encoder": player(0.2)["generator"]})
    still = {**player(0.1), "encoder": player(0.3)["generator"]}
    problem = training_problem(initial, still, FINE, 1e4)
    assert problem is not None
    assert problem.reason == "had no effect"
    assert problem.detail.startswith("no weight of the generator differs")
    signs = InitialWeights.from_players(player(0.0))
    assert training_problem(signs, player(-0.0), FINE, 1e4) is not None  # -0 equals 0
    moved = {**player(0.3), "encoder": player(0.2)["generator"]}
    assert training_problem(initial, moved, FINE, 1e4) is None
    both = training_problem(initial, moved, FINE | {"encoder": torch.tensor(0.1)}, 1e4)
    assert both is not None
    assert both.detail.startswith("no weight of the encoder differs")


def test_only_floating_point_tensors_are_checked():
    assert all_finite([torch.ones(2), torch.tensor(3)])
    assert all_finite([])
    assert not all_finite([torch.ones(2), torch.tensor([1.0, math.inf])])
