"""Usefulness of samples: the ridge classifier against scikit-learn, and records of a run."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

import advnets
from advnets import config, presets
from advnets.errors import UsageError
from advnets.evaluation.usefulness import PENALTY, ridge_scores


def test_the_scores_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    x, labels = rng.normal(2, 3, (200, 5)), rng.integers(0, 3, 200)
    test = rng.normal(2, 3, (40, 5))
    alpha = PENALTY * x.var(0).mean() * len(x)
    expected = Ridge(alpha=alpha).fit(x, np.eye(3)[labels]).predict(test)
    found = ridge_scores(torch.tensor(x), torch.tensor(labels), 3, torch.tensor(test))
    assert found.numpy() == pytest.approx(expected, abs=1e-9)


def test_records_are_of_four_training_sets(tmp_path):
    """An untrained generator is useless; the record of real images agrees with scikit-learn."""
    start = presets.get_preset("digits")
    start = start.with_stage(replace(start.stage, game=config.ConditionalGame(), steps=2))
    model = advnets.train(start, out=tmp_path / "run", progress=False)
    records = {r["trained_on"]: r for r in model.evaluate("usefulness", num_samples=600)}
    assert [*records] == ["samples", "real", "real + samples", "real + flips"]
    assert records["samples"]["accuracy"] < 0.5 < 0.8 < records["real"]["accuracy"]
    dataset = model.open_data().dataset
    chosen = torch.randperm(len(dataset.train), generator=torch.Generator().manual_seed(0))[:600]
    (x, y), (test, test_y) = (
        (split.images[rows].reshape(-1, 64) / split.white_level, split.labels[rows])
        for split, rows in ((dataset.train, chosen.numpy()), (dataset.test, slice(None)))
    )
    fit = Ridge(alpha=PENALTY * x.var(0).mean() * 600).fit(x, np.eye(10)[y])
    predicted = fit.predict(test).argmax(1)
    record = records["real"]
    assert record["accuracy"] == pytest.approx((predicted == test_y).mean())
    for number, accuracy in enumerate(record["class_accuracy"]):
        assert accuracy == pytest.approx((predicted[test_y == number] == number).mean())
        low, high = record["class_intervals"][number]
        assert low < accuracy < high or accuracy in (0, 1)
    assert records["real + samples"]["n_train"] == records["real + flips"]["n_train"] == 1200


def test_an_unconditional_run_is_refused(tmp_path):
    model = advnets.train("digits", steps=1, out=tmp_path / "run", progress=False)
    with pytest.raises(UsageError, match="usefulness needs class-conditional samples"):
        model.evaluate("usefulness")
