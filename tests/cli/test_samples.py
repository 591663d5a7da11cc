"""`advnets sample` and `advnets evaluate` of a run."""

import json

import numpy as np
import pytest
from PIL import Image

import advnets
from advnets.evaluation.registry import METRICS
from advnets.run_directory import RunDirectory


@pytest.mark.parametrize("name", ["samples.png", "samples.npz", "folder"])
def test_the_suffix_of_the_output_selects_the_format(run_command, trained, tmp_path, name):
    out = tmp_path / name
    code, printed, err = run_command(
        "sample", trained, "--num-samples", 7, "--seed", 1, "--out", out
    )
    assert code == 0, err
    assert printed == f"7 samples of step 30 (ema weights): {out}\n"
    if name == "samples.png":
        with Image.open(out) as image:
            assert image.mode == "L"
    elif name == "samples.npz":
        images = np.load(out)["images"]
        assert images.shape == (7, 8, 8, 1)
        assert images.dtype == np.uint8
    else:
        assert len(list(out.glob("*.png"))) == 7


def test_the_first_samples_of_a_seed_do_not_depend_on_their_number(run_command, trained, tmp_path):
    for count in (5, 600):
        assert (
            run_command(
                "sample", trained, "--num-samples", count, "--out", tmp_path / f"{count}.npz"
            )[0]
            == 0
        )
    few, many = (np.load(tmp_path / f"{count}.npz")["images"] for count in (5, 600))
    assert np.array_equal(few, many[:5])
    assert not np.array_equal(many[500:505], few)


def test_keep_fraction_samples_those_that_d_scores_highest(run_command, trained, tmp_path):
    out = tmp_path / "best.npz"
    code, printed, err = run_command(
        "sample", trained, "--num-samples", 7, "--keep-fraction", ".5", "--out", out
    )
    assert code == 0, err
    assert printed == f"7 samples of step 30 (ema weights, best 0.5 by D): {out}\n"
    assert np.load(out)["images"].shape == (7, 8, 8, 1)
    code, _, err = run_command("sample", trained, "--keep-fraction", "2", "--out", out)
    assert (code, err) == (2, "advnets: --keep-fraction is 2.0; expected 0.002 to 1\n")


def test_last_weights_and_ema_give_different_samples(run_command, trained, tmp_path):
    for weights in ("ema", "last"):
        out = tmp_path / f"{weights}.npz"
        assert run_command("sample", trained, "--weights", weights, "--out", out)[0] == 0
    a, b = (np.load(tmp_path / f"{w}.npz")["images"] for w in ("ema", "last"))
    assert not np.array_equal(a, b)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--num-samples", "0", "--out", "x.png"), "the number of samples is 0; give at least 1"),
        (
            ("--out", "x.jpg"),
            "x.jpg ends in .jpg; give a name that ends in .png or .npz, or a folder",
        ),
    ],
)
def test_invalid_options_are_refused(
    run_command, trained, tmp_path, monkeypatch, arguments, expected
):
    monkeypatch.chdir(tmp_path)
    code, _, err = run_command("sample", trained, *arguments)
    assert code == 2
    assert err == f"advnets: {expected}\n"


def test_evaluate_prints_the_score_of_real_images_too(run_command, trained):
    code, out, err = run_command("evaluate", trained, "--json")
    assert code == 0, err
    records = json.loads(out)
    assert [(r["samples"], r["grid"]) for r in records] == [
        ("generator", "paper"),
        ("real training images", "paper"),
        ("generator", "fine"),
        ("real training images", "fine"),
    ]
    assert {r["n_test"] for r in records} == {300}
    assert RunDirectory(trained).scores() == records
    code, out, _ = run_command("evaluate", trained)
    assert code == 0
    assert "real training images" in out
    assert "Theis et al. 2016" in out
    assert len(RunDirectory(trained).scores()) == 4  # a repeated call replaces records
    assert "Theis" in (trained / "report.html").read_text("utf-8")


def test_evaluate_computes_three_metrics_of_features(run_command, trained):
    """The extractor of these digits is `pixels`, and each row names it."""
    code, out, err = run_command(
        "evaluate", trained, "--metrics", "frechet", "prdc", "two-sample-1nn"
    )
    assert code == 0, err
    assert "pixels, 1,197 on 300" in out
    records = RunDirectory(trained).scores()
    by_row = {(r["metric"], r["samples"]): r for r in records if r["metric"] != "parzen"}
    assert len(by_row) == 6
    for (_, row), record in by_row.items():
        assert record["extractor"] == "pixels"
        assert record["extractor_sha256"] is None
        assert (record["weights"] is None) == (row == "real training images")
    # After a short training every metric is better for real images.
    distance = {row: r["value"] for (metric, row), r in by_row.items() if metric == "frechet"}
    assert distance["real training images"] < distance["generator"]
    recall = {row: r["recall"] for (metric, row), r in by_row.items() if metric == "prdc"}
    assert recall["real training images"] > recall["generator"]
    accuracies = {
        row: r["accuracy"] for (metric, row), r in by_row.items() if metric == "two-sample-1nn"
    }
    assert accuracies["real training images"] < accuracies["generator"] - 0.1
    report = (trained / "report.html").read_text("utf-8")
    assert "Scores of samples against test images" in report
    assert "Fréchet distance" in report


def test_evaluate_computes_memorization_and_two_more_distances(run_command, trained):
    code, out, err = run_command("evaluate", trained, "--metrics", "mmd", "swd", "memorization")
    assert code == 0, err
    lines = [line for line in out.splitlines() if line.startswith("generator")]
    counts = ("1,197 on 300 ", "1,197 on 300 ", "10,000 on 1,197 training images, 300 test images")
    for count, line in zip(counts, lines, strict=True):
        assert f"pixels, {count}" in line
    assert " subsets of 300" in lines[0]
    assert "over 1,000 directions" in lines[1]
    assert "are copies of a training image" in lines[2]
    metrics = {record["metric"] for record in RunDirectory(trained).scores()}
    assert {"mmd", "swd", "memorization"} <= metrics
    record = next(r for r in RunDirectory(trained).scores() if r["metric"] == "mmd")
    assert METRICS["mmd"].describe({**record, "subsets": 1}).endswith(" over 1 subset of 300")
    report = (trained / "report.html").read_text("utf-8")
    assert "are copies of a training image" in report


def test_an_extractor_for_other_images_is_refused(run_command, trained):
    code, _, err = run_command("evaluate", trained, "--metrics", "frechet", "--extractor", "digits")
    assert code == 1
    assert err.startswith(
        "advnets: extractor 'digits' expects images of shape (1, 28, 28), got (1, 8, 8)"
    )


def test_a_fully_connected_d_is_refused_as_extractor(run_command, trained):
    code, _, err = run_command(
        "evaluate", trained, "--metrics", "frechet", "--extractor", "discriminator"
    )
    assert code == 2
    assert err.startswith(
        "advnets: features of the discriminator need an unconditional convolutional D"
    )


def test_an_unknown_metric_is_refused_with_the_known_ones(run_command, trained):
    code, _, err = run_command("evaluate", trained, "--metrics", "parzn")
    assert code == 2
    assert err == "advnets: no metric is called 'parzn'; did you mean parzen?\n"


def test_a_run_can_be_evaluated_during_training(run_command, trained):
    with RunDirectory(trained).lock():
        assert run_command("evaluate", trained, "--seed", "4")[0] == 0
    assert {record["seed"] for record in RunDirectory(trained).scores()} == {0, 4}


def test_a_file_in_place_of_a_run_is_refused(run_command, tmp_path):
    (tmp_path / "file").touch()
    code, _, err = run_command("train", "digits", "--out", tmp_path / "file")
    assert code == 2
    assert err == (
        f"advnets: --out is {tmp_path / 'file'}, which is a file; give the name of a folder\n"
    )


def test_the_python_api_gives_the_same_results(trained):
    loaded = advnets.load(trained)
    images = loaded.sample(3, seed=5)
    assert images.shape == (3, 1, 8, 8)
    assert images.min() >= 0
    assert images.max() <= 1
    assert loaded.step == 30
