import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from advnets import config
from advnets.data.prepared import open_data
from advnets.errors import DataError, RunError, UsageError
from advnets.evaluation import context, modes, neighbors
from advnets.evaluation.comparison import ScoredRun, compare
from advnets.evaluation.context import EvaluationContext
from advnets.evaluation.registry import METRICS, record_intervals
from advnets.evaluation.spec import REAL
from advnets.experiment.train import train
from advnets.experiment.trained_model import load
from advnets.extractors.builtin import Pixels, load_classifier
from advnets.report.score_text import score_lines
from advnets.sampling.sampler import ComputeSettings, read_images, real_images


class Showing(nn.Module):
    """A generator that returns the given images in the order of z."""

    latent_dim = 1

    def __init__(self, images):
        super().__init__()
        self.shown = images

    def latent(self, n, rng):
        return rng.uniform("z", n, 1)

    def forward(self, z, rng=None):
        return self.shown[(z[:, 0] * len(self.shown)).long()]


def subject(data, images, extractor=None):
    drawing = ComputeSettings(torch.device("cpu"))
    players = {"generator": Showing(images)}
    return EvaluationContext(players, data, 0, 7, "last", drawing, extractor or Pixels())


def opened(source):
    scaling = "none" if source.startswith(("ring", "spiral", "uniform")) else "unit"
    return open_data(config.Data(source=source, normalize=scaling))


def row(records, name="generator"):
    (result,) = (record for record in records if record["samples"] == name)
    return result


@pytest.fixture(scope="module")
def digits():
    return opened("digits")


def test_only_memorization_detects_a_generator_of_training_images(digits):
    """All distances are those of real images."""
    copying = subject(digits, real_images(digits.dataset.train, 600, 1))
    for metric in ("mmd", "swd"):
        records = METRICS[metric].records(copying)
        real = row(records, "real training images")
        assert row(records)["value"] == pytest.approx(real["value"], rel=0.3)
        assert (real["n_real"], real["n_fake"], real["extractor"]) == (300, 1197, "pixels")
    records = METRICS["memorization"].records(copying)
    assert (
        row(records)["copy_fraction"] == row(records, "real training images")["copy_fraction"] == 1
    )
    assert row(records)["expected_copy_fraction"] < 0.02
    assert row(records)["p_value"] < 1e-20
    assert row(records)["n_train"] == 1197
    lines = score_lines(records)
    assert "100.00 % are copies of a training image, test images 0.00 % (z = " in lines
    assert "p < 1e-300)" in lines
    assert lines.endswith(
        "Real training images are copies of themselves: their row shows the largest copy fraction."
    )


@pytest.mark.parametrize(
    "metric",
    [
        *("parzen", "frechet", "mmd", "swd", "prdc", "two-sample-1nn", "memorization"),
        *("mixture", "kl-jsd"),
    ],
)
def test_records_have_all_settings_and_seeds_are_comparable(digits, metric):
    """Other samples and seeds share a column."""
    data = opened("ring:n=5000") if metric in ("mixture", "kl-jsd") else digits
    images = [real_images(data.dataset.train, 600, seed) for seed in (1, 2)]
    subjects = [
        replace(subject(data, samples), seed=n, num_samples=600) for n, samples in enumerate(images)
    ]
    runs = [
        ScoredRun(
            str(n),
            {"preset": "a", "seed": n},
            {"name": "a", "digest": ""},
            METRICS[metric].records(s),
        )
        for n, s in enumerate(subjects)
    ]
    for record in (record for run in runs for record in run.records):
        assert record["data_digest"] == data.dataset.digest_all_splits()
        assert record["images"]["shape"] == list(data.info.shape)
        assert record["versions"]["torch"] == torch.__version__
        assert {"advnets", "numpy"} <= set(record["versions"])
        assert (record["weights"] == "last") == (record["samples"] == "generator")
        assert {"n_real", "n_fake", "extractor", "extractor_sha256", "split", "step"} <= set(record)
    comparison = compare(runs)
    assert [row["seeds"] for row in comparison["rows"]] == [[0, 1]]
    assert all(len(cell["values"]) == 2 for cell in comparison["rows"][0]["cells"])
    assert [row["name"] for row in comparison["references"]] == ["real training images"]


def test_records_have_the_crop_of_image_folders_and_none_of_named_datasets(digits):
    data = config.Data(source="photos", crop="pad", background="black")
    stamped = replace(subject(digits, torch.zeros(1, 1, 8, 8)), data_config=data).provenance[
        "images"
    ]
    assert stamped == {"shape": [1, 8, 8], "crop": "pad", "background": "black"}
    stamped = subject(digits, torch.zeros(1, 1, 8, 8)).provenance["images"]
    assert stamped == {"shape": [1, 8, 8], "crop": None, "background": None}


def test_a_generator_of_test_images_is_not_memorizing(digits):
    held_out = torch.from_numpy(digits.dataset.valid.images).float() / 16
    result = row(METRICS["memorization"].records(subject(digits, held_out)))
    assert result["copy_fraction"] < 0.02
    assert result["p_value"] > 0.01


def test_memorization_uses_as_many_images_as_fit(digits, monkeypatch):
    """The record has their number."""
    monkeypatch.setattr(neighbors, "_MAX_NUMBERS", 500 * 64)
    copying = subject(digits, real_images(digits.dataset.train, 600, 1))
    result = row(METRICS["memorization"].records(copying))
    assert result["n_train"] == 500
    assert 0.2 < result["copy_fraction"] < 0.8


def test_points_are_scored_by_modes():
    data = opened("ring:n=5000")
    half = torch.from_numpy(data.dataset.train.images)
    half = half[half[:, 1, 0, 0] > 0.05]  # 3 of 8 modes are above the axis
    records = METRICS["mixture"].records(subject(data, half))
    few = [record for record in records if record["n"] == 2_500]  # as published
    result, real = row(few), row(few, "real training images")
    assert (result["modes_found"], result["modes"]) == (3, 8)
    assert real["modes_found"] == 8
    assert result["high_quality"] == pytest.approx(0.989, abs=0.01)
    assert sum(proportion > 0 for proportion in result["proportions"]) == 3
    assert result["relative_std"].count(None) == 5
    assert result["weights"] == "last"  # of the networks
    assert result["jsd"] > 0.2 > 0.01 > real["jsd"]
    many = [record for record in records if record not in few]
    assert row(many)["n"] == 100_000  # proportions and widths need more than 2,500
    assert row(many, "real training images")["n"] == len(data.dataset.train)
    assert [s for s in row(many)["relative_std"] if s] == pytest.approx([1, 1, 1], abs=0.1)
    json.dumps(records, allow_nan=False)
    assert "3 of 8 modes, 9" in score_lines(records)


def test_kl_jsd_of_points_with_known_density():
    """Half a spiral has a divergence of log 2, impossible points an infinite one."""
    data = opened("spiral:n=5000")
    train = data.dataset.train
    arm = torch.from_numpy(train.images[train.labels == 0])
    records = METRICS["kl-jsd"].records(subject(data, arm))
    result, real = row(records), row(records, "real training images")
    assert result["kl"] == pytest.approx(math.log(2), abs=0.06)
    assert real["kl"] == pytest.approx(255 / 2 / 5000, rel=0.25)
    assert 0 < real["jsd"] < 0.01 < result["jsd"] < math.log(2)
    assert (result["bins"], result["n"], real["n"]) == (256, 100_000, 5000)
    assert record_intervals(real)["kl"][0] < real["kl"] < record_intervals(real)["kl"][1]
    assert "KL 0.7" in score_lines(records)
    assert "nats over 256 bins" in score_lines(records)
    box = METRICS["kl-jsd"].records(
        subject(opened("uniform:n=500"), torch.full((20, 1, 1, 1), 3.0))
    )
    assert row(box)["kl"] is None
    assert row(box)["jsd"] == pytest.approx(math.log(2))
    assert "KL infinite, JSD 0.69 nats" in score_lines(box)
    json.dumps(box, allow_nan=False)


def test_modes_are_counted_by_a_classifier(real_data, monkeypatch):
    data = opened("mnist")
    monkeypatch.setitem(modes.MODE_CLASSIFIERS, "mnist", ("digits", 600))
    train = data.dataset.train
    threes = torch.from_numpy(train.images[np.flatnonzero(train.labels == 3)[:400]]).float() / 255
    records = METRICS["modes"].records(subject(data, threes))
    result, real = row(records), row(records, "real training images")
    assert result["modes_found"] < real["modes_found"] == real["modes"] == 10
    assert result["kl_uniform"] == pytest.approx(math.log(10), abs=0.1)
    assert result["kl_reference"] == pytest.approx(math.log(50_000 / 5_101), abs=0.1)
    assert 0 < real["kl_reference"] < 0.02
    assert (result["extractor"], result["split"], result["n"]) == ("digits", "train", 600)
    assert "10 of 10 modes, KL to uniform proportions 0.0" in score_lines(records)


def test_stacked_digits_are_classified_by_channel(real_data, monkeypatch):
    data = opened("stacked-mnist:n=2000")
    monkeypatch.setitem(modes.MODE_CLASSIFIERS, "stacked-mnist", ("digits", 150))
    images = torch.from_numpy(data.dataset.test.read(slice(100))).float() / 255
    indices = modes._mode_indices(load_classifier("digits"), images)
    assert (indices.numpy() == data.dataset.test.labels[:100]).mean() > 0.95
    records = METRICS["modes"].records(subject(data, images))
    assert row(records)["modes"] == 1000
    # 2,000 training images lack some modes of the samples: KL is infinite, stored as null.
    assert row(records)["kl_reference"] is None
    json.dumps(records, allow_nan=False)
    assert "to those of real images infinite nats" in score_lines(records)


def test_the_inception_score_of_digits_is_near_10_and_of_one_digit_near_1(real_data):
    data = opened("mnist")
    train = data.dataset.train
    threes = torch.from_numpy(train.images[np.flatnonzero(train.labels == 3)[:400]]).float() / 255
    records = METRICS["inception-score"].records(
        replace(subject(data, threes, load_classifier("digits")), num_samples=500)
    )
    assert row(records)["mean"] < 1.2
    assert 8.5 < row(records, "real training images")["mean"] < 10
    assert "over 10 splits" in score_lines(records)


@pytest.mark.parametrize(
    ("metric", "error", "message"),
    [
        (
            "modes",
            DataError,
            "the metric modes needs a classifier of the data's modes, and digits has none",
        ),
        ("mixture", DataError, "needs a mixture of normal distributions, and digits is not one"),
        ("kl-jsd", DataError, "needs points of a known density, and digits has images"),
        ("inception-score", UsageError, "needs a classifier, and the extractor pixels is not one"),
    ],
)
def test_metrics_of_other_data_are_refused(digits, metric, error, message):
    with pytest.raises(error, match=message):
        METRICS[metric].records(subject(digits, torch.zeros(1, 1, 8, 8)))


def test_distances_use_as_many_samples_as_real_images(digits):
    """More samples would be nearer; memorization compares with all training images."""
    copying = subject(digits, real_images(digits.dataset.train, 600, 1))
    for metric in ("frechet", "mmd", "swd", "prdc"):
        assert [record["n_fake"] for record in METRICS[metric].records(copying)] == [1197, 1197]
    assert row(METRICS["memorization"].records(copying))["n_samples"] == 10_000


class Wide:
    """An extractor with more features than test images, or with constant ones."""

    name, digest = "wide", ""

    def __init__(self, width):
        self.width = width

    def features(self, pixels):
        if not self.width:
            return torch.ones(len(pixels), 4)
        return pixels.flatten(1).repeat(1, self.width // 64)


def test_records_mark_fewer_images_than_features(digits, recwarn):
    images = real_images(digits.dataset.train, 600, 1)
    records = METRICS["frechet"].records(subject(digits, images, Wide(320)))
    assert not recwarn.list
    assert all(record["few_images"] for record in records)
    assert "far too large: fewer images than features" in score_lines(records)
    assert not any(r["few_images"] for r in METRICS["frechet"].records(subject(digits, images)))


def test_an_unsuitable_extractor_is_refused(digits):
    images = real_images(digits.dataset.train, 600, 1)
    with pytest.raises(DataError, match="gives all 300 test images the same features"):
        METRICS["swd"].records(subject(digits, images, Wide(0)))


def test_too_few_images_for_neighbors_are_reported(digits, monkeypatch):
    monkeypatch.setattr(context, "read_images", lambda split, _rows: read_images(split, slice(5)))
    images = real_images(digits.dataset.train, 600, 1)
    with pytest.raises(
        DataError, match="digits has 5 images to compare, and the metric prdc needs more than 5"
    ):
        METRICS["prdc"].records(subject(digits, images))


def test_a_failed_metric_keeps_the_scores_of_the_others(tiny, tmp_path, console, monkeypatch):
    train(tiny.with_stage(replace(tiny.stage, steps=1)), tmp_path / "run", [console])
    trained = load(tmp_path / "run")
    monkeypatch.setattr(context, "read_images", lambda split, _rows: read_images(split, slice(5)))
    with pytest.raises(DataError, match="the metric prdc needs more than 5"):
        trained.evaluate(("swd", "prdc"))
    assert {record["metric"] for record in trained.run.scores()} == {"swd"}
    trained.run.scores_file.write_text("[{")
    with pytest.raises(RunError, match=r"scores.json cannot be read .*; move it away"):
        trained.evaluate(("swd",))


def test_the_requested_number_of_samples_is_scored(tiny, tmp_path, console):
    """At most as many as there are real images to compare with."""
    train(tiny.with_stage(replace(tiny.stage, steps=1)), tmp_path / "run", [console])
    trained = load(tmp_path / "run")
    counts = {
        n: [r["n_fake"] for r in trained.evaluate(("swd",), num_samples=n)] for n in (200, 5000)
    }
    assert counts == {200: [200, 200], 5000: [1197, 1197]}
    # Scores of different numbers are kept; of equal numbers, the newer one replaces the old one.
    trained.evaluate(("swd",), num_samples=200)
    saved = [(record["samples"], record["n_fake"]) for record in trained.run.scores()]
    assert saved == [("generator", 1197), (REAL, 1197), ("generator", 200), (REAL, 200)]


@pytest.mark.parametrize(
    ("metrics", "requested", "message"),
    [
        ((), {}, "no metric was given; give at least one"),
        (
            ("parzen",),
            {"extractor": "pixels"},
            "extractor is pixels, and no feature extractor is used by parzen",
        ),
        (
            ("mixture", "probe"),
            {"num_samples": 9},
            "num_samples is 9, and mixture, probe cannot use",
        ),
        (("swd",), {"num_samples": 0}, "num_samples is 0; expected 10 or more"),
        (("swd",), {"probe_labels": (5,)}, "probe_labels is 5, which only the metric probe uses"),
    ],
)
def test_options_without_effect_are_refused(tiny, tmp_path, console, metrics, requested, message):
    train(tiny.with_stage(replace(tiny.stage, steps=1)), tmp_path / "run", [console])
    with pytest.raises(UsageError, match=message):
        load(tmp_path / "run").evaluate(metrics, **requested)
