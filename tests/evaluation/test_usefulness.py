"""Usefulness of samples: the ridge classifier against scikit-learn, and records of a run."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from sklearn.linear_model import Ridge

import advnets
from advnets import config, presets
from advnets.errors import UsageError
from advnets.evaluation.context import EvaluationContext
from advnets.evaluation.spec import proportion_interval
from advnets.evaluation.usefulness import PENALTY, ridge_scores
from advnets.report.score_text import score_lines


def test_the_scores_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    x, labels = rng.normal(2, 3, (200, 5)), rng.integers(0, 3, 200)
    test = rng.normal(2, 3, (40, 5))
    alpha = PENALTY * x.var(0).mean() * len(x)
    expected = Ridge(alpha=alpha).fit(x, np.eye(3)[labels]).predict(test)
    found = ridge_scores(torch.tensor(x), torch.tensor(labels), 3, torch.tensor(test))
    assert found.numpy() == pytest.approx(expected, abs=1e-9)


@pytest.fixture
def model(tmp_path):
    """Return a conditional run on digits, hardly trained."""
    start = presets.get_preset("digits")
    start = start.with_stage(replace(start.stage, game=config.ConditionalGame(), steps=2))
    return advnets.train(start, out=tmp_path / "run", progress=False)


@pytest.fixture
def real_samples(model, monkeypatch):
    """Let the generator draw real training images of each class that was requested.

    Return the training images and the rows that were drawn.
    """
    train = model.open_data().dataset.train
    drawn = []

    def samples(_context, _n, labels):
        of_class = [list(np.flatnonzero(train.labels == label)) for label in range(10)]
        drawn[:] = [of_class[label].pop() for label in labels.tolist()]
        return torch.tensor(train.images[drawn] / train.white_level, dtype=torch.float32)

    monkeypatch.setattr(EvaluationContext, "samples", samples)
    return train, drawn


def test_an_untrained_generator_is_useless(model):
    records = {r["trained_on"]: r["accuracy"] for r in model.evaluate("usefulness")}
    assert records["samples"] < 0.5 < 0.8 < records["real"]


def test_the_accuracies_of_all_training_sets_are_those_of_scikit_learn(model, real_samples):
    """Ridge regression on pixels, tested on real test images that no set contains."""
    records = {r["trained_on"]: r for r in model.evaluate("usefulness", num_samples=600)}
    train, drawn = real_samples
    test = model.open_data().dataset.test
    chosen = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[:600].numpy()
    sets = {
        "samples": (train.images[drawn], train.labels[drawn]),
        "real": (train.images[chosen], train.labels[chosen]),
    }
    both, (images, labels) = zip(*sets.values(), strict=True), sets["real"]
    sets["real + samples"] = tuple(np.concatenate(parts[::-1]) for parts in both)
    mirrored = np.concatenate((images, images[:, :, :, ::-1]))
    sets["real + flips"] = mirrored, np.concatenate((labels, labels))
    assert [*records] == [*sets]
    accuracies = set()
    for trained_on, (images, labels) in sets.items():
        x = images.reshape(-1, 64) / train.white_level
        fit = Ridge(alpha=PENALTY * x.var(0).mean() * len(x)).fit(x, np.eye(10)[labels])
        correct = fit.predict(test.images.reshape(-1, 64) / test.white_level).argmax(1)
        correct = correct == test.labels
        record = records[trained_on]
        assert record["accuracy"] == pytest.approx(correct.mean())
        assert record["interval"]["accuracy"] == pytest.approx(wilson(correct))
        assert min(low for low, _ in record["class_intervals"]) >= 0
        for number in range(10):
            of_class = correct[test.labels == number]
            assert record["class_accuracy"][number] == pytest.approx(of_class.mean())
            assert record["class_intervals"][number] == pytest.approx(wilson(of_class))
        assert (record["n_train"], record["n_test"]) == (len(x), len(test))
        accuracies.add(record["accuracy"])
    assert len(accuracies) == 4
    assert records["samples"]["accuracy"] > 0.8


def test_the_accuracy_of_each_class_is_printed_with_its_interval():
    """The data has 10 test images; a class without images has no interval, and that of a class
    without hits begins at 0.
    """
    rule = proportion_interval("n")
    hits = [0, 7, None, 10]
    known = [None if h is None else {"accuracy": h / 10, "n": 10} for h in hits]
    record = {
        "metric": "usefulness",
        "samples": "generator",
        "weights": "ema",
        "extractor": "digits",
        "n_train": 40,
        "n_test": 30,
        "accuracy": 17 / 30,
        "interval": {"accuracy": [0.4, 0.7]},
        "class_accuracy": [c and c["accuracy"] for c in known],
        "class_intervals": [c and rule(c, "accuracy") for c in known],
    }
    text = score_lines([{**record, "trained_on": name} for name in ("samples", "real + flips")])
    heading, *lines = text[text.index("Accuracy by") :].splitlines()[:7]
    assert heading == "Accuracy by class and training set in % [95 % interval]"
    assert lines[0].split() == ["class", "samples", "real", "+", "flips"]
    assert lines[1].split() == ["all", *2 * ["56.7", "[40.0,", "70.0]"]]
    low, high = wilson(np.arange(10) < 7)
    cells = ["0.0 [0.0, 27.8]", f"70.0 [{100 * low:.1f}, {100 * high:.1f}]", "–"]
    for line, cell in zip(lines[2:], [*cells, "100.0 [72.2, 100.0]"], strict=True):
        assert line.split()[1:] == 2 * cell.split()


@pytest.mark.parametrize("n", [7, 10, 892])
def test_the_interval_of_no_hits_begins_at_zero(n):
    rule = proportion_interval("n")
    assert rule({"p": 0.0, "n": n}, "p")[0] == 0.0
    assert rule({"p": 1.0, "n": n}, "p")[1] == 1.0


def wilson(correct):
    """Return the 95 % interval of a proportion by scipy."""
    interval = binomtest(int(correct.sum()), len(correct)).proportion_ci(method="wilson")
    return [interval.low, interval.high]


def test_an_unconditional_run_is_refused(tmp_path):
    model = advnets.train("digits", steps=1, out=tmp_path / "run", progress=False)
    with pytest.raises(UsageError, match="usefulness needs class-conditional samples"):
        model.evaluate("usefulness")
