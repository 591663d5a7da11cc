"""Evaluations by default: their metric and interval, and that they do not change the training."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from advnets import config, presets
from advnets.data.prepared import open_training_data
from advnets.errors import UsageError
from advnets.experiment import eval_interval, setup
from advnets.experiment.eval_interval import cheap_metric, resolve_intervals
from advnets.experiment.stored_run import meta_players
from advnets.experiment.train import train
from advnets.extractors import load_extractor
from advnets.run_directory import RunDirectory
from advnets.training import devices


def resolved(run):
    data = open_training_data(run.data)
    return setup.resolve_config(run, data.info, devices.resolve(run.runtime)), data


def with_steps(run, steps, **intervals):
    run = run.with_stage(replace(run.stage, epochs=None, steps=steps))
    return replace(run, intervals=replace(run.intervals, **intervals))


def evaluations(path):
    return [event for event in RunDirectory(path).events() if event["kind"] == "evaluate"]


@pytest.fixture
def frequent_evaluations(monkeypatch):
    """Evaluate small trainings too, every 20 steps and at any cost."""
    monkeypatch.setattr(eval_interval, "MIN_INTERVAL", 20)
    monkeypatch.setattr(eval_interval, "MAX_SHARE", 1e6)


def test_training_is_the_same_to_the_bit_with_and_without_evaluations(
    tiny, frequent_evaluations, tmp_path
):
    train(tiny, tmp_path / "with")
    train(with_steps(tiny, 60, eval_every=0), tmp_path / "without")
    assert [event["step"] for event in evaluations(tmp_path / "with")] == [20, 40, 60]
    assert evaluations(tmp_path / "without") == []
    first, second = (
        RunDirectory(tmp_path / name).newest_checkpoint().read_bytes()
        for name in ("with", "without")
    )
    assert first == second


def test_a_resumed_run_is_evaluated_and_selected_as_an_uninterrupted_one(
    tiny, frequent_evaluations, tmp_path
):
    run = with_steps(tiny, 60, keep_best="fid")
    train(run, tmp_path / "whole")
    train(with_steps(run, 30), tmp_path / "parts")
    train(run, tmp_path / "parts", resume=True)
    whole, parts = (evaluations(tmp_path / name) for name in ("whole", "parts"))
    assert [event for event in parts if event["step"] != 30] == whole  # the first part's last step
    best = [event["step"] for event in whole if event.get("best")]
    assert best[-1] in RunDirectory(tmp_path / "parts").checkpoints_by_step()


def test_evaluations_are_of_the_ema_with_as_many_samples_as_test_images(
    tiny, frequent_evaluations, tmp_path
):
    train(tiny, tmp_path / "run")
    for event in evaluations(tmp_path / "run"):
        assert (event["metric"], event["weights"]) == ("frechet", "ema")
        assert event["n_real"] == event["n_fake"] == 300  # the test digits


@pytest.mark.parametrize("preset", ["digits", "points"])
def test_a_short_training_is_not_evaluated(preset, tmp_path):
    run = presets.get_preset(preset)
    run, data = resolved(with_steps(run, eval_interval.MIN_INTERVAL - 1))
    assert resolve_intervals(run, data).eval_every == 0
    for name, value in (("keep_best", "fid"), ("patience", 3)):
        selecting = replace(run, intervals=replace(run.intervals, **{name: value}))
        with pytest.raises(UsageError, match=f"{name} is {value}, but a training of 499 steps on"):
            resolve_intervals(selecting, data)


@pytest.mark.parametrize(
    ("source", "metric"), [("ring", "mixture"), ("moons", "kl-jsd"), ("ring:sd=0.5", "kl-jsd")]
)
def test_points_have_the_metric_of_their_density(source, metric):
    run = presets.get_preset("points")
    run, data = resolved(replace(run, data=replace(run.data, source=source)))
    intervals = resolve_intervals(run, data)
    assert (intervals.eval_metric, intervals.eval_every) == (metric, 2000)
    # A value that other metrics have too is that of the metric that suits the data.
    kept = resolve_intervals(replace(run, intervals=config.Intervals(keep_best="kl")), data)
    assert kept.eval_metric == metric


@pytest.mark.parametrize(
    ("count", "size", "metric"), [(30, 4, ""), (200, 4, "frechet"), (200, 8, "mmd")]
)
def test_images_have_a_distance_that_their_number_allows(count, size, metric, tmp_path):
    """A test set has 20 of 200 images, more than 16 pixels and fewer than 64, and none of 30."""
    for i in range(count):
        Image.new("L", (size, size), i).save(tmp_path / f"{i}.png")
    data = config.Data(source=str(tmp_path), size=size, channels=1, batch_size=10)
    run, data = resolved(with_steps(replace(presets.get_preset("digits"), data=data), 10_000))
    assert cheap_metric(run, data) == metric
    assert bool(resolve_intervals(run, data).eval_every) == bool(metric)


def test_the_interval_follows_the_cost_and_nothing_else():
    """Evaluations are rarer for cheaper steps: those of a small batch, or on a GPU."""
    run, data = resolved(with_steps(presets.get_preset("digits"), 10**9))
    every = [resolve_intervals(run, data).eval_every for _ in range(2)]
    assert every == [500, 500]
    small = replace(run, data=replace(run.data, batch_size=1))
    cuda = replace(run, runtime=replace(run.runtime, device="cuda"))
    assert resolve_intervals(small, data).eval_every == 5000
    assert resolve_intervals(cuda, data).eval_every == 2000
    chosen = replace(run, intervals=replace(run.intervals, eval_every=7))
    assert resolve_intervals(chosen, data) == replace(chosen.intervals, eval_metric="parzen")


@pytest.mark.parametrize("name", ["digits", "dcgan"])
def test_the_operations_of_a_step_are_underestimated_or_nearly_right(name, tmp_path):
    """Torch counts those of samples drawn twice and of an update of D and of G, on device meta."""
    run = presets.get_preset(name)
    if name == "dcgan":
        for i in range(60):
            Image.new("RGB", (64, 64), (i, 0, 0)).save(tmp_path / f"{i}.png")
        run = replace(run, data=replace(run.data, source=str(tmp_path), batch_size=8))
    run, data = resolved(run)
    players = meta_players(run, 0, data.info)
    g, d = players["generator"], players["discriminator"]
    z = torch.empty(run.data.batch_size, g.latent_dim, device="meta")
    x = torch.empty(run.data.batch_size, *data.info.shape, device="meta")
    with FlopCounterMode(display=False) as counter:
        loss = (d(x) + d(g(z).detach())).sum()
        loss.backward()
        d(g(z)).sum().backward()
    estimate = eval_interval._step_cost(run, data)
    assert counter.get_total_flops() / 100 < estimate < 1.2 * counter.get_total_flops()


@pytest.mark.parametrize(
    ("name", "shape"),
    [("pixels", (1, 8, 8)), ("digits", (1, 28, 28)), ("cifar-jpeg", (3, 32, 32))],
)
def test_the_operations_of_an_extractor_are_those_that_torch_counts(name, shape):
    extractor, image = load_extractor(name), torch.rand(1, *shape)
    with FlopCounterMode(display=False) as counter:
        width = extractor.features(image).shape[1]
    assert eval_interval._extractor_cost(extractor, image) == (width, counter.get_total_flops())


def test_a_run_without_a_trained_generator_is_not_evaluated(tiny):
    run, data = resolved(with_steps(tiny, 10_000))
    game = config.LatentRegressionGame(generator_run="runs/x")
    assert cheap_metric(run, data) == "frechet"
    assert cheap_metric(run.with_stage(replace(run.stage, game=game)), data) == ""
