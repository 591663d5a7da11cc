"""The examples of a custom callback, data in memory and a custom metric."""

from __future__ import annotations

from pathlib import Path

import pytest

import advnets
from advnets.evaluation import METRICS

EXAMPLES = Path(__file__).parents[2] / "examples"


def names_of(file: str) -> dict:
    names = {"__name__": file}
    exec((EXAMPLES / file).read_text("utf-8"), names)
    return names


@pytest.mark.parametrize("file", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_examples_have_fewer_than_40_lines(file):
    assert len((EXAMPLES / file).read_text("utf-8").splitlines()) < 40


def test_the_callback_finds_the_best_log(tmp_path):
    callback = names_of("custom_callback.py")["BestDiscrimination"]()
    options = {"steps": 6, "log_every": 2, "out": tmp_path / "run", "progress": False}
    model = advnets.train("digits", callbacks=[callback], **options)
    logs = [event for event in model.run.events() if event["kind"] == "log"]
    assert callback.best == max((e["d_real"] - e["d_fake"], e["step"]) for e in logs)


def test_the_data_train(tmp_path):
    images = names_of("custom_data.py")["crosses"](100)
    assert (images.reshape(100, -1) > 0).sum(1).tolist() == [31] * 100
    options = {"steps": 2, "batch_size": 20, "out": tmp_path / "run", "progress": False}
    assert advnets.train("digits", data=images, **options).sample(2).shape == (2, 1, 16, 16)


def test_the_metric_is_the_mean_pixel(tmp_path):
    options = {"steps": 2, "out": tmp_path / "run", "progress": False}
    model = advnets.train("digits", **options)
    names_of("custom_metric.py")
    names_of("custom_metric.py")  # again, as in a notebook
    generated, real = model.evaluate("brightness", num_samples=200)
    test = model.open_data().dataset.test
    test_mean = test.images.mean() / test.white_level
    assert generated["mean"] == pytest.approx(float(model.sample(200).mean()), abs=1e-6)
    assert generated["error"] == pytest.approx(generated["mean"] - test_mean, abs=1e-6)
    assert abs(real["error"]) < 0.02
    del METRICS["brightness"]
