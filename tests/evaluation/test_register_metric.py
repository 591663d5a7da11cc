"""A metric that is defined outside the package appears everywhere after one registration."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from advnets.errors import UnknownNameError, UsageError
from advnets.evaluation.context import compare_features
from advnets.evaluation.registry import (
    METRICS,
    metrics_table,
    publication_notes,
    register_metric,
    resolve_metrics,
)
from advnets.evaluation.spec import MetricSpec, Value, normal_interval
from advnets.experiment.train import train
from advnets.extractors.registry import classifier_advice
from advnets.plots.training_curves import MetricCurve
from advnets.report import run_report
from advnets.report.run_report import write_report


def mean_gap_records(context):
    def score(test, features):
        gap = (test.mean(0) - features.mean(0)).norm()
        return {"gap": float(gap), "standard_error": 0.01}

    return compare_features(context, "mean-gap", score)


MEAN_GAP = MetricSpec(
    name="mean-gap",
    title="mean gap",
    help="distance between the means of features",
    records=mean_gap_records,
    values={"gap": Value("lower", normal_interval())},
    describe=lambda r: f"mean gap {r['gap']:.3f}",
    details=("standard_error",),
    uses_extractor=True,
    aliases=("mg",),
    curve=MetricCurve("Mean gap", "to test images", "gap"),
)


@pytest.fixture
def mean_gap():
    register_metric(MEAN_GAP)
    yield MEAN_GAP
    del METRICS["mean-gap"]


def test_a_registered_metric_is_known_to_every_command(
    mean_gap, tiny, tmp_path, console, run_command, monkeypatch
):
    # Training computes it.
    for seed in (0, 1):
        run = replace(
            tiny.with_stage(replace(tiny.stage, steps=2)),
            seed=seed,
            intervals=replace(tiny.intervals, eval_every=1, eval_metric="mg"),
        )
        train(run, tmp_path / f"run-{seed}", [console])

    # The help of `evaluate` and the table of the documentation list it.
    help_text = " ".join(run_command("evaluate", "--help")[1].replace("│", " ").split())
    assert "mean-gap* (mg): distance between the means of features." in help_text
    assert (
        "| `mean-gap` | `mg` | distance between the means of features | gap ↓ |" in metrics_table()
    )

    # `evaluate` computes and prints it; as JSON too.
    code, out, _ = run_command("evaluate", tmp_path / "run-0", "--metrics", "MG")
    assert code == 0
    assert "mean gap 0." in out or "mean gap 1." in out
    code, out, _ = run_command(
        "evaluate", tmp_path / "run-1", "--metrics", "mean-gap,swd", "--json"
    )
    records = json.loads(out)
    assert [r["metric"] for r in records] == ["mean-gap", "mean-gap", "swd", "swd"]
    assert records[0]["interval"]["gap"] == pytest.approx(
        [records[0]["gap"] - 0.0196, records[0]["gap"] + 0.0196], abs=1e-4
    )

    # `compare` has its column, with its direction.
    code, out, _ = run_command("compare", tmp_path / "run-0", tmp_path / "run-1", "--metrics", "mg")
    assert code == 0
    assert "mean-gap ↓" in out

    # The report describes it, and plots its curve.
    plotted = []
    monkeypatch.setattr(
        run_report,
        "training_curves",
        lambda *_, metric_curve, **__: plotted.append(metric_curve) or b"",
    )
    write_report(tmp_path / "run-0")
    page = (tmp_path / "run-0" / "report.html").read_text("utf-8")
    assert "mean gap " in page
    assert "; Mean gap" in page
    assert plotted[0] is mean_gap.curve


def test_names_of_registered_metrics_are_unique(mean_gap):
    for name, aliases in (("frechet", ()), ("other", ("fid",)), ("kid", ())):
        with pytest.raises(UsageError, match="which is a name of the metric"):
            register_metric(replace(mean_gap, name=name, aliases=aliases))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("fid", ("frechet",)),
        (
            "FID,kid, is,prdc,precision,Recall,1nn",
            ("frechet", "mmd", "inception-score", "prdc", "two-sample-1nn"),
        ),
        (("Parzen", "kl_jsd"), ("parzen", "kl-jsd")),
        ((), ()),
    ],
)
def test_metrics_are_found_by_published_names(names, expected):
    assert resolve_metrics(names) == expected


def test_a_mistyped_metric_gets_the_nearest_metric():
    with pytest.raises(UnknownNameError, match="metric is called 'frechte'; did you mean frechet"):
        resolve_metrics("parzen,frechte")
    with pytest.raises(UnknownNameError, match="metric is called 'fdi'; did you mean fid"):
        resolve_metrics("FDI")


def test_a_published_name_with_another_extractor_is_noted():
    """It names --extractor inception only for color images, which Inception is for."""

    def records(extractor, channels):
        images = {"shape": [channels, 32, 32]}
        return [{"metric": m, "extractor": extractor, "images": images} for m in ("frechet", "mmd")]

    (note,) = publication_notes("FID,prdc", records("cifar-jpeg", 3))
    assert note == (
        "note: FID as published uses Inception features (--extractor inception); this Fréchet "
        "distance uses the extractor cifar-jpeg"
    )
    (note,) = publication_notes("FID", records("digits", 1))
    assert note.startswith("note: FID as published uses Inception features of color images; this ")
    assert publication_notes("fid", records("inception", 3)) == []
    assert publication_notes("frechet", records("digits", 1)) == []


def test_evaluate_notes_how_fid_differs(tiny, tmp_path, console, run_command):
    train(tiny.with_stage(replace(tiny.stage, steps=1)), tmp_path / "run", [console])
    code, out, err = run_command("evaluate", tmp_path / "run", "--metrics", "FID")
    assert code == 0
    assert "Fréchet distance" in out
    assert err.startswith("advnets: note: FID as published uses Inception features")


def test_a_metric_that_the_run_cannot_have_is_refused_first(tiny, tmp_path, console, run_command):
    """Nothing is computed, and no note precedes the error; the advice suits 8 x 8 images."""
    train(tiny.with_stage(replace(tiny.stage, steps=1)), tmp_path / "run", [console])
    code, out, err = run_command("evaluate", tmp_path / "run", "--metrics", "fid", "is")
    assert (code, out) == (2, "")
    assert err == (
        "advnets: the metric inception-score needs a classifier, and the extractor pixels is not "
        "one; no classifier of this package is for images of 1 x 8 x 8: give the .safetensors file "
        "of one as --extractor, or another metric\n"
    )
    refused = ["mixture", "modes", "probe", "elbo", "inpainting", "reconstruction"]
    for metric in [*refused, "1nn-classifier", "class-accuracy", "classification-error"]:
        code, out, err = run_command("evaluate", tmp_path / "run", "--metrics", "fid", metric)
        assert (code in (1, 2), out, err.count("\n")) == (True, "", 1), metric
        assert "note:" not in err
    code, out, err = run_command(
        "evaluate", tmp_path / "run", "--metrics", "fid", "--extractor", "digits"
    )
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "expects images of shape (1, 28, 28), got (1, 8, 8)" in err
    assert not (tmp_path / "run" / "scores.json").exists()


@pytest.mark.parametrize(
    ("shape", "built_in", "advice"),
    [
        ((1, 28, 28), False, "add --extractor digits"),
        ((3, 32, 32), False, "add --extractor cifar-jpeg or imagenet or inception"),
        ((3, 32, 32), True, "add --extractor cifar-jpeg"),
        ((3, 64, 64), False, "add --extractor imagenet or inception"),
        ((3, 64, 64), True, "no classifier of this package is for images of 3 x 64 x 64"),
    ],
)
def test_advice_names_classifiers_of_images_of_that_size(shape, built_in, advice):
    result = classifier_advice(shape, built_in=built_in)
    assert result.startswith(advice)
    assert (result == advice) == advice.startswith("add")
