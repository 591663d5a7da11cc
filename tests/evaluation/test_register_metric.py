"""A metric that is defined outside the package appears everywhere after one registration."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

import advnets
from advnets.errors import CustomCodeError, UnknownNameError, UsageError
from advnets.evaluation.context import compare_features
from advnets.evaluation.registry import (
    METRICS,
    comparability,
    metrics_table,
    register_metric,
    resolve_metrics,
)
from advnets.evaluation.spec import MetricSpec, Value, normal_interval
from advnets.experiment.train import train
from advnets.experiment.trained_model import load
from advnets.extractors.registry import EXTRACTORS, classifier_advice
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
        lambda *_, metric_curve, **__: plotted.append(metric_curve) or b"png",
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


def scored(metric, extractor, fake=50_000, real=50_000, split="given", crop=None):
    images = {"shape": [3, 32, 64], "crop": crop, "background": None}
    counts = {"n_fake": fake, "n_real": real, "split": split}
    return {"metric": metric, "extractor": extractor, "images": images, **counts}


PUBLISHED = {
    ("frechet", "inception"): ("FID", 50_000, ""),
    ("mmd", "inception"): ("KID", 50_000, ""),
    ("frechet", "dinov2"): ("FD-DINOv2", 50_000, "the weights are the published ones and "),
    ("mmd", "dinov2"): ("KD-DINOv2", 50_000, "the weights are the published ones and "),
    ("prdc", "dinov2"): (
        "PRDC of Stein et al. 2023",
        10_000,
        "the weights are the published ones and ",
    ),
}
OWN_ONLY = "comparable only with scores by the same extractor; published ones are by "


@pytest.mark.parametrize(
    "extractor", [*EXTRACTORS, "dinov2-vits14", "net.onnx", "discriminator", "D of dcgan"]
)
@pytest.mark.parametrize("metric", ["frechet", "mmd", "prdc"])
def test_a_record_says_which_published_scores_it_compares_with(metric, extractor):
    """Only those by the same network, of as many samples, against training images."""
    if (metric, extractor) not in PUBLISHED:
        assert comparability(scored(metric, extractor)) == OWN_ONLY + (
            "dinov2" if metric == "prdc" else "inception or dinov2"
        )
        return
    name, count, condition = PUBLISHED[metric, extractor]
    assert comparability(scored(metric, extractor, count)) == (
        f"comparable with published {name} if {condition}the given images are the training images"
    )
    start = (
        "comparable only with scores of the same settings, as published ones are of "
        f"{count:,} samples against training images and this is of "
    )
    for record, actual in (
        (scored(metric, extractor, 600, 500), "600 against 500 given images"),
        (
            scored(metric, extractor, count, 10_000, "test"),
            f"{count:,} against 10,000 test images",
        ),
        (
            scored(metric, extractor, count, crop="center"),
            f"{count:,} against 50,000 given images resized to 32 x 64",
        ),
    ):
        assert comparability(record) == start + actual


def test_an_inception_score_needs_no_real_images():
    found = comparability(scored("inception-score", "inception", real=0, split=None))
    assert found == "comparable with published IS"
    found = comparability(scored("inception-score", "inception", 600, 0, None))
    assert found.endswith("published ones are of 50,000 samples and this is of 600")
    found = comparability(scored("inception-score", "imagenet", real=0, split=None))
    assert found == f"{OWN_ONLY}inception"


@pytest.mark.parametrize(
    "metric", sorted({*METRICS} - {"frechet", "mmd", "prdc", "inception-score"})
)
def test_other_metrics_say_nothing_about_published_scores(metric):
    assert comparability(scored(metric, "inception")) == ""


def test_every_printer_says_which_published_scores_compare(tiny, tmp_path, console, run_command):
    """`evaluate` and the report in lines below the table; records; `compare` in its notes."""
    by_both, by_one = f"{OWN_ONLY}inception or dinov2", f"{OWN_ONLY}dinov2"
    for seed in (0, 1):
        run = replace(tiny.with_stage(replace(tiny.stage, steps=1)), seed=seed)
        train(run, tmp_path / f"run-{seed}", [console])
        names = "FID,kid,precision,swd"
        options = ("--metrics", names, "--weights", "last")
        code, out, err = run_command("evaluate", tmp_path / f"run-{seed}", *options)
        assert (code, err) == (0, "")
        assert out.endswith(f"frechet, mmd by pixels: {by_both}\nprdc by pixels: {by_one}\n")
    records = json.loads((tmp_path / "run-0" / "scores.json").read_text("utf-8"))
    said = {record["metric"]: record["comparability"] for record in records}
    assert said == {"frechet": by_both, "mmd": by_both, "prdc": by_one, "swd": None}
    page = (tmp_path / "run-0" / "report.html").read_text("utf-8")
    assert f"<p>frechet, mmd by pixels: {by_both}</p>" in page
    code, out, err = run_command("compare", tmp_path / "run-0", tmp_path / "run-1")
    assert (code, err) == (0, "")
    lines = {line.split(":")[0]: line for line in out.splitlines() if ": " in line}
    assert lines["frechet"].endswith(f"; {by_both}")
    assert OWN_ONLY not in lines["swd"]


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


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("metric") / "run"
    advnets.train("digits", out=out, steps=2, progress=False)
    return out


def results(change):
    """Return a function that computes the records of `mine`, as `change` returns them."""

    def records(context):
        made = context.record("mine", "generator", n_real=5, n_fake=5, v=1.0)
        return change(made, context)

    return records


MINE = MetricSpec(
    name="mine",
    title="mine",
    help="nothing",
    records=results(lambda made, context: [made]),
    values={"v": Value("lower")},
    describe=lambda record: f"v {record['v']}",
)
MADE = "expected context.record(…) with v"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda made, context: None, "returned None, expected a list of records"),
        (lambda made, context: 3.0, "returned 3.0, expected a list of records"),
        (lambda made, context: [], "returned no record, expected a list of records"),
        (lambda made, context: [2], f"returned 2 as a record, {MADE}"),
        (lambda made, context: [{"v": 1.0}], f"returned a record without 'metric', {MADE}"),
        (lambda made, context: [made | {"metric": "swd"}],
         "returned a record of the metric 'swd', expected 'mine'"),
        (lambda made, context: [{k: made[k] for k in made if k != "v"}],
         f"returned a record without 'v', {MADE}"),
        (lambda made, context: [made | {"v": "a"}],
         "returned 'a' as v, expected a number or None"),
        (lambda made, context: [made | {"v": torch.tensor(1.0)}],
         "returned a tensor of shape () of float32 as v, expected a number or None"),
        (lambda made, context: [made | {"w": np.zeros(2)}],
         "returned an array of shape (2,) of float64 as w, expected a number, a string or a list"),
        (lambda made, context: exit(3), "failed (SystemExit: 3)"),
    ],
)  # fmt: skip
def test_a_custom_metric_that_returns_anything_but_its_records_is_named(small_run, change, message):
    """Nothing is stored, and the next evaluation by a correct one is not hindered."""
    with pytest.raises(CustomCodeError) as caught:
        load(small_run).evaluate([replace(MINE, records=results(change))])
    assert re.match(rf"the metric mine of {re.escape(__file__)}(, line \d+,)? ", str(caught.value))
    assert message in str(caught.value)
    assert str(caught.value).endswith("; correct it: the training is saved")
    assert not (small_run / "scores.json").exists()
    del METRICS["mine"]


def test_a_custom_metric_without_a_text_is_named(small_run):
    for field in ("describe", "describe_inputs"):
        spec = replace(MINE, **{field: lambda record: None})
        with pytest.raises(CustomCodeError, match=f"returned None from {field}, expected a str"):
            load(small_run).evaluate([spec])
    assert not (small_run / "scores.json").exists()
    del METRICS["mine"]


def check(spec, **changed):
    """Check a changed spec without the tests' checker of annotations."""
    copy = object.__new__(type(spec))
    vars(copy).update(vars(spec) | changed)
    copy.__post_init__()


def test_values_have_a_known_direction():
    with pytest.raises(UsageError, match="better is 'bigger'; expected 'lower', 'higher' or None"):
        check(Value("lower"), better="bigger")
    with pytest.raises(UsageError, match="metric mine has values 'v': 'lower'; expected a mapping"):
        check(MINE, values={"v": "lower"})
