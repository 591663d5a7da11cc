"""Callbacks are called for every part of a training, and an exception in one loses nothing."""

import math
from dataclasses import replace

import pytest
import torch

import advnets
from advnets.errors import CallbackError, RunWarning, UsageError
from advnets.experiment.train import train
from advnets.run_directory import RunDirectory
from advnets.training.callback import Callback
from advnets.training.checkpoint import read_checkpoint


class Recorder(Callback):
    """A callback that records its calls."""

    def __init__(self):
        self.calls = []

    def on_start(self, run, config, step):
        self.calls.append(("start", step, run.name, config.seed))

    def on_log(self, step, metrics):
        self.calls.append(("log", step, metrics["value"]))

    def on_samples(self, step, path):
        self.calls.append(("samples", step, path.name, path.exists()))

    def on_evaluate(self, step, scores):
        self.calls.append(("evaluate", step, scores["weights"], scores["mean"]))

    def on_checkpoint(self, step, path):
        self.calls.append(("checkpoint", step, path.name, path.exists()))

    def on_end(self, step, reason):
        self.calls.append(("end", step, reason))


class Raising(Callback):
    """A callback that raises at one step."""

    def __init__(self, step, *, required=True):
        self.step, self.required, self.later_calls = step, required, 0

    def on_step(self, step):
        if step == self.step:
            raise ValueError("no more paper")
        self.later_calls += step > self.step


def test_a_callback_is_called_for_logs_samples_scores_checkpoints_and_the_end(tiny, tmp_path):
    recorder = Recorder()
    train(
        replace(tiny, intervals=replace(tiny.intervals, eval_every=30)),
        tmp_path / "run",
        [recorder],
    )
    run = RunDirectory(tmp_path / "run")
    logs = [event for event in run.events() if event["kind"] == "log"]
    assert recorder.calls[0] == ("start", 0, "run", tiny.seed)
    assert [call for call in recorder.calls if call[0] == "log"] == [
        ("log", event["step"], event["value"]) for event in logs
    ]
    assert [call[1:] for call in recorder.calls if call[0] == "samples"] == [
        (30, "step-00000030.png", True),
        (60, "step-00000060.png", True),
    ]
    evaluations = [event for event in run.events() if event["kind"] == "evaluate"]
    assert {(event["step"], event["weights"]) for event in evaluations} == {
        *((30, "ema"), (60, "ema"), (30, "last"), (60, "last")),
    }
    assert [call for call in recorder.calls if call[0] == "evaluate"] == [
        ("evaluate", event["step"], event["weights"], event["mean"]) for event in evaluations
    ]
    steps = [call[1] for call in recorder.calls if call[0] == "checkpoint"]
    assert steps == [0, 20, 40, 60]
    assert all(call[3] for call in recorder.calls if call[0] == "checkpoint")
    assert recorder.calls[-1] == ("end", 60, "done")


def test_an_exception_in_a_callback_saves_the_training_and_resuming_is_bit_exact(tiny, tmp_path):
    train(tiny, tmp_path / "whole")
    with pytest.raises(
        CallbackError,
        match=r"Raising raised 'ValueError: no more paper' in on_step at step 33; .* is saved",
    ) as caught:
        train(tiny, tmp_path / "run", [Raising(33)])
    assert isinstance(caught.value.__cause__, ValueError)
    assert RunDirectory(tmp_path / "run").newest_checkpoint().stem == "step-00000033"
    train(tiny, tmp_path / "run", resume=True)
    whole, resumed = (
        read_checkpoint(RunDirectory(tmp_path / name).newest_checkpoint()).tensors
        for name in ("whole", "run")
    )
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_an_exception_before_the_first_step_leaves_the_name_free(tiny, tmp_path):
    class Refusing(Callback):
        def on_start(self, run, config, step):
            raise OSError

    with pytest.raises(CallbackError, match="Refusing raised 'OSError' in on_start at step 0"):
        train(tiny, tmp_path / "run", [Refusing()])
    assert not RunDirectory(tmp_path / "run").exists


def test_a_callback_that_is_not_required_is_dropped_after_its_first_exception(tiny, tmp_path):
    callback = Raising(5, required=False)
    with pytest.warns(RunWarning, match="in on_step at step 5; the training continues"):
        assert train(tiny, tmp_path / "run", [callback]).complete
    assert callback.later_calls == 0


def test_an_object_with_methods_of_callbacks_is_a_callback(tiny, tmp_path):
    class Ends:
        required = False

        def __init__(self):
            self.reason = None

        def on_end(self, step, reason):
            self.reason = reason
            raise ValueError("no more ink")

    ends = Ends()
    with pytest.warns(RunWarning, match="Ends raised 'ValueError: no more ink' in on_end"):
        advnets.train(tiny, out=tmp_path / "run", callbacks=[ends], progress=False)
    assert ends.reason == "done"


class Misspelled(Callback):
    def on_logg(self, step, metrics):
        pass


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (Misspelled(), r"no method of callbacks\[1\] is called 'on_logg'; did you mean on_log\?"),
        (Callback, r"callbacks\[1\] is the class Callback; give an instance of it"),
        (3, r"callbacks\[1\] is of type int; expected an advnets.Callback, an object with some"),
    ],
)
def test_what_is_never_called_is_refused(tiny, tmp_path, item, message):
    with pytest.raises(UsageError, match=message):
        advnets.train(tiny, out=tmp_path / "run", callbacks=[Callback(), item], progress=False)


def test_python_takes_callbacks_and_prints_nothing_without_progress(tiny, tmp_path, capsys):
    recorder = Recorder()
    advnets.train(tiny, out=tmp_path / "run", callbacks=[recorder], progress=False)
    assert recorder.calls[-1] == ("end", 60, "done")
    assert all(math.isfinite(call[2]) for call in recorder.calls if call[0] == "log")
    assert capsys.readouterr() == ("", "")
