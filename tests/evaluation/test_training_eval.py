from __future__ import annotations

from dataclasses import replace

import pytest
from PIL import Image

from advnets import config, presets
from advnets.data.prepared import open_data
from advnets.errors import DataError, UsageError
from advnets.evaluation.modes import default_metric
from advnets.experiment.train import train
from advnets.experiment.trained_model import load
from advnets.run_directory import RunDirectory


def test_a_parzen_score_during_training_is_an_event(tiny, tmp_path, console):
    run = tiny.with_stage(replace(tiny.stage, steps=4, ema_half_life=100))
    train(replace(run, intervals=replace(run.intervals, eval_every=4)), tmp_path / "run", [console])
    events = [e for e in RunDirectory(tmp_path / "run").events() if e["kind"] == "evaluate"]
    assert [event["weights"] for event in events] == ["ema", "last"]
    for event in events:
        assert event["step"] == 4
        assert event["metric"] == "parzen"
        # σ is chosen on validation digits.
        assert event["valid_mean"] == pytest.approx(event["mean"], rel=0.2)


def test_a_score_during_training_equals_that_of_evaluate(tiny, tmp_path, console):
    run = tiny.with_stage(replace(tiny.stage, steps=4, ema_half_life=100))
    run = replace(run, intervals=replace(run.intervals, eval_every=2, eval_metric="frechet"))
    train(run, tmp_path / "run", [console])
    events = [e for e in RunDirectory(tmp_path / "run").events() if e["kind"] == "evaluate"]
    assert [(e["step"], e["weights"]) for e in events] == [
        *((2, "ema"), (2, "last")),
        *((4, "ema"), (4, "last")),
    ]
    result = load(tmp_path / "run").evaluate(("frechet",))
    assert events[2]["value"] == next(r["value"] for r in result if r["samples"] == "generator")
    assert events[2]["extractor"] == "pixels"


@pytest.mark.parametrize(
    ("source", "score", "bins"), [("ring:n=500", "mixture", 16), ("moons:n=500", "kl-jsd", 256)]
)
def test_points_are_scored_during_training_with_100000_samples(
    source, score, bins, tmp_path, console
):
    run = presets.get_preset("points")
    run = replace(
        run.with_stage(replace(run.stage, steps=2)),
        data=replace(run.data, source=source, batch_size=50),
        intervals=config.Intervals(eval_every=2, eval_metric=score),
    )
    assert train(run, tmp_path / "run", [console]).default_metric == score  # the suggested metric
    events = [e for e in RunDirectory(tmp_path / "run").events() if e["kind"] == "evaluate"]
    assert [event["weights"] for event in events] == ["ema", "last"]
    assert all((event["bins"], event["n"]) == (bins, 100_000) for event in events)


@pytest.mark.parametrize(
    ("source", "score", "error", "message"),
    [
        (
            "digits",
            "modes",
            DataError,
            "needs a classifier of the data's modes, and digits has none",
        ),
        ("digits", "kl-jsd", DataError, "needs points of a known density, and digits has images"),
        (
            "spiral",
            "mixture",
            DataError,
            "needs a mixture of normal distributions, and spiral is not one",
        ),
        (
            "ring:sd=0.5",
            "mixture",
            UsageError,
            "their modes overlap; .* or the metric kl-jsd",
        ),
    ],
)
def test_a_metric_that_the_data_cannot_have_is_refused_before_training(
    source, score, error, message, tiny, tmp_path, console
):
    run = tiny if source == "digits" else presets.get_preset("points")
    run = replace(
        run,
        data=replace(run.data, source=source),
        intervals=replace(run.intervals, eval_every=2, eval_metric=score),
    )
    with pytest.raises(error, match=message):
        train(run, tmp_path / "run", [console])
    assert not RunDirectory(tmp_path / "run").exists


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("digits", "parzen"),
        ("grid", "mixture"),
        ("mixture:means=-2/3", "mixture"),
        ("ring:sd=0.5", "kl-jsd"),  # whose modes overlap
        ("pinwheel", "kl-jsd"),
    ],
)
def test_the_suggested_metric_suits_the_data(source, expected):
    scaling = "unit" if source == "digits" else "none"
    data = open_data(config.Data(source=source, normalize=scaling))
    assert default_metric(data) == expected


def test_no_metric_is_suggested_without_held_out_images(tmp_path):
    """All of thirty images are for training."""
    for i in range(30):
        Image.new("L", (8, 8), i).save(tmp_path / f"{i}.png")
    data = open_data(config.Data(source=str(tmp_path), size=8, channels=1))
    assert default_metric(data) == ""
