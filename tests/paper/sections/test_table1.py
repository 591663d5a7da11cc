"""Tests of Table 1: the check of its scores, curves and features, and the faces by folds."""

import math
import statistics
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from scipy.special import logsumexp

from advnets.errors import UnknownNameError
from advnets.experiment.train import train
from advnets.experiment.trained_model import load
from advnets.paper import trainings
from advnets.paper.blocks import Sources, Table, Text
from advnets.paper.sections import table1
from advnets.paper.sections.table1 import features_table
from advnets.paper.studies import likelihoods
from advnets.paper.studies.likelihoods import BEST, LAST, ScoreRow, score_curve
from advnets.run_directory import RunDirectory
from advnets.sampling import sampler

N_SAMPLES = 600
"""Number of samples in these tests, for speed; the paper uses 10,000."""
PAPER = np.logspace(-1, 0, 10)
FINE = np.arange(10, 30) / 100


def write(path, *, unlabeled, size=(6, 5)):
    """Write a file in TFD's layout with 24 training, 12 validation and 14 test images per fold."""
    rng = np.random.default_rng(1)
    columns = []
    for _ in range(3):
        folds = np.repeat([1, 2, 3], [0 if unlabeled else 24, 12, 14])
        rng.shuffle(folds)
        columns.append(np.concatenate((np.zeros(24, int), folds)) if unlabeled else folds)
    columns = np.stack(columns, 1).astype(np.uint8)
    n = len(columns)
    # Bright above and dark below, so that nets have something to learn.
    light = np.linspace(200, 40, size[0])[:, None] + rng.normal(0, 25, (n, *size))
    arrays = {
        "images": light.clip(0, 255).astype(np.uint8),
        "labs_ex": rng.integers(1, 8, (n, 1)).astype(np.int16),
        "folds": columns,
    }
    savemat(path, arrays)
    return arrays


@pytest.fixture
def context(context, tmp_path, monkeypatch):
    """Return a context without data; two stages of four steps, and networks of 250 units."""
    monkeypatch.setattr(trainings, "QUICK_STEPS", 8)
    monkeypatch.setattr(trainings, "WIDTH_DIVISOR", 32)
    monkeypatch.setattr(table1, "QUICK_FOLDS", 3)
    monkeypatch.setattr(sampler, "NUM_SAMPLES", N_SAMPLES)
    monkeypatch.setattr(table1, "NUM_SAMPLES", N_SAMPLES)
    return replace(context, data_dir=str(tmp_path / "data"))


def on(context, source):
    return replace(context, sources=Sources(faces=str(source)))


def build_section(context):
    return table1.faces_content(context, table1.open_faces(context))


def tables(section):
    return [block for block in section.blocks if isinstance(block, Table)]


def words(section):
    return " ".join(block.text for block in section.blocks if isinstance(block, Text))


def trained_runs(context):
    return sorted(path.name for path in context.runs_dir.iterdir())


def rows_of(arrays, which):
    images = arrays["images"][which]
    return images.reshape(len(images), -1) / 255


def exact(points, centers, sigma):
    """Return the log density of each point under Gaussians on the centers, term by term in
    float64.
    """
    squares = ((points[:, None] - centers[None]) ** 2).sum(-1)
    mean = logsumexp(-squares / (2 * sigma**2), axis=1) - math.log(len(centers))
    return mean - points.shape[1] * math.log(sigma * math.sqrt(2 * math.pi))


def expected(arrays, fold, centers, grid):
    """Return the mean log-likelihood of a fold's test images, with σ selected by validation
    images.
    """
    column = arrays["folds"][:, fold - 1]
    valid, test = (rows_of(arrays, column == which) for which in (2, 3))
    sigma = max(grid, key=lambda sigma: exact(valid, centers, sigma).mean())
    return exact(test, centers, sigma).mean()


def samples_of(path):
    return load(path).sample(N_SAMPLES, seed=0).flatten(1).double().numpy()


def number(cell):
    return float(cell.split()[0])


def in_table(value):
    """Return an approximation with the precision of a cell with one decimal."""
    return pytest.approx(value, abs=0.051)


def standard_error(values):
    return statistics.stdev(values) / math.sqrt(len(values))


@pytest.mark.parametrize("unlabeled", [True, False])
def test_fold_scores_equal_an_independent_computation(context, tmp_path, unlabeled):
    """Folds that share unlabeled training images share a run; otherwise each has its own."""
    arrays = write(tmp_path / "faces.mat", unlabeled=unlabeled)
    context = on(context, tmp_path / "faces.mat")
    half = build_section(context)
    actual, comparison = tables(half)
    nets = [1, 1, 1] if unlabeled else [1, 2, 3]
    assert trained_runs(context) == [f"faces-{net}-quick" for net in sorted(set(nets))]

    by_grid = {"paper": [], "fine": []}
    for fold, net in zip((1, 2, 3), nets, strict=True):
        centers = samples_of(context.runs_dir / f"faces-{net}-quick")
        by_grid["paper"].append(expected(arrays, fold, centers, PAPER))
        by_grid["fine"].append(expected(arrays, fold, centers, FINE))
    last = [row for row in actual.rows[:6] if row[2].endswith("last")]
    assert [row[0] for row in last] == [
        f"{fold}, by `faces-{net}-quick`" for fold, net in zip((1, 2, 3), nets, strict=True)
    ]
    assert [number(row[3]) for row in last] == [in_table(value) for value in by_grid["paper"]]
    assert [number(row[4]) for row in last] == [in_table(value) for value in by_grid["fine"]]

    *_, of_best, of_last = actual.rows
    assert (of_best[:3], of_last[:3]) == (
        ("mean of 3", "last", "best by validation"),
        ("mean of 3", "last", "last"),
    )
    for cell, values in zip(of_last[3:], by_grid.values(), strict=True):
        mean, _, error = cell.split()
        assert float(mean) == in_table(statistics.mean(values))
        assert float(error) == in_table(standard_error(values))

    (real,) = comparison.rows
    assert real[0] == "24 real training images, mean of 3"
    for cell, grid in zip(real[1:], (PAPER, FINE), strict=True):
        scores = [
            expected(arrays, fold, rows_of(arrays, column == (0 if unlabeled else 1)), grid)
            for fold, column in enumerate(arrays["folds"].T, start=1)
        ]
        assert number(cell) == in_table(statistics.mean(scores))
        assert float(cell.split()[2]) == in_table(standard_error(scores))

    text = words(half)
    assert "here 12, and the test images are scored, here 14." in text
    assert f"scored with {'1 network' if unlabeled else '3 networks'}, trained on 24 images" in text
    assert "4 and 4 steps, 16.7 and 16.7 epochs (in the authors' files 50 and 22)" in text
    # No published score stands beside, as these are no faces of Toronto.
    assert "faces is not the Toronto Face Database" in text
    assert not any(
        "2057" in cell for table in (actual, comparison) for row in table.rows for cell in row
    )


def test_ten_thousand_samples_are_scored():
    assert table1.NUM_SAMPLES is sampler.NUM_SAMPLES
    assert sampler.NUM_SAMPLES == 10_000


def test_score_during_training_equals_that_of_a_shorter_training(context, tmp_path):
    arrays = write(tmp_path / "faces.mat", unlabeled=True)
    context = on(context, tmp_path / "faces.mat")
    build_section(context)
    run = trainings.faces_run(context)
    trained = load(context.runs_dir / run.name)
    shorter = run.config.with_stage(replace(run.config.stage, steps=2))
    train(shorter, tmp_path / "shorter", [context.callback])
    centers = samples_of(tmp_path / "shorter")
    for fold in (1, 2, 3):
        first, last = table1.training_scores(trained, fold)
        assert (first["step"], last["step"]) == (6, 8)
        assert first["mean"] == pytest.approx(expected(arrays, fold, centers, PAPER), abs=1e-3)


def test_first_stage_is_never_selected(context, tmp_path):
    """Its generator is a separate network, of which no samples are shown."""
    write(tmp_path / "faces.mat", unlabeled=True)
    context = on(context, tmp_path / "faces.mat")
    before = build_section(context)
    run = RunDirectory.existing(context.runs_dir / "faces-1-quick")
    changed = run.events_file.read_text().split("\n")
    index = next(i for i, line in enumerate(changed) if '"evaluate"' in line)
    assert '"step": 2,' in changed[index]
    changed[index] = changed[index].replace('"valid_mean": ', '"valid_mean": 1')
    run.events_file.write_text("\n".join(changed))
    assert build_section(context) == before


def test_epoch_is_selected_by_validation_images():
    def event(step, valid, test):
        return {"weights": "last", "epoch": step / 2, "valid_mean": valid, "mean": test}

    events = [event(1, 5.0, 1.0), event(2, 7.0, 2.0), event(3, 6.0, 9.0)]
    best, last = likelihoods.score_rows("faces", events, {"last": {"mean": 10.0}})
    assert (best.paper["mean"], best.choice, best.fine) == (2.0, "best by validation", None)
    assert (last.paper["mean"], last.choice, last.fine) == (9.0, "last", {"mean": 10.0})


def test_figure_2_shows_the_first_fold(context, tmp_path):
    write(tmp_path / "faces.mat", unlabeled=False)
    context = on(context, tmp_path / "faces.mat")
    large = trainings.large_configs(context)
    first = trainings.faces_run(context, 1)
    assert next(iter(large)) == first.name == "faces-1-quick"
    assert large["faces-1-quick"] == first.config
    assert first.config.data.source == str(tmp_path / "faces.mat")


def test_a_requested_fold_is_shown_and_scored(context, tmp_path, monkeypatch):
    write(tmp_path / "faces.mat", unlabeled=False)
    chosen = on(context, f"{tmp_path / 'faces.mat'}:fold=3")
    assert "faces-3-quick" in trainings.large_configs(chosen)
    faces = table1.open_faces(chosen)
    assert table1.folds_of(faces, full=True) == [3, 1, 2]
    monkeypatch.setattr(table1, "QUICK_FOLDS", 2)
    assert table1.folds_of(faces, full=False) == [3, 1]
    plain, first = (on(context, f"{tmp_path / 'faces.mat'}{suffix}") for suffix in ("", ":fold=1"))
    assert trainings.faces_run(plain, 3).config == trainings.faces_run(chosen).config
    assert trainings.faces_run(plain).config == trainings.faces_run(first).config


@pytest.mark.parametrize("by_path", [True, False])
def test_published_scores_are_shown_for_tfd(context, tmp_path, by_path):
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "TFD_48x48.mat"
    write(path, unlabeled=True, size=(48, 48))
    half = build_section(on(context, path if by_path else "tfd"))
    _, comparison = tables(half)
    assert [row[1] for row in comparison.rows[1:]] == [
        "1909 ± 66",
        "2110 ± 50",
        "1890 ± 29",
        "2057 ± 26",
    ]
    assert "Published scores are omitted" not in words(half)


def test_tfd_of_another_size_is_not_comparable(context, tmp_path):
    (tmp_path / "data").mkdir()
    write(tmp_path / "data" / "TFD_96x96.mat", unlabeled=True, size=(96, 96))
    faces = table1.open_faces(on(context, "tfd:size=96"))
    assert "96x96" in table1.tfd_mismatch("tfd:size=96", faces)


@pytest.fixture
def short(context, monkeypatch):
    """Return the context, with digits that are trained for a few steps."""
    real = trainings.digits_config

    def digits(seed):
        run = real(seed)
        return run.with_stage(replace(run.stage, steps=4))

    monkeypatch.setattr(trainings, "digits_config", digits)
    return context


def test_missing_tfd_leaves_the_digits_and_a_note(short, tmp_path):
    half = table1.build(short)
    assert [table.caption for table in tables(half)] == [
        "Scores on digits, preset `digits`",
        "Reference scores on digits",
        "1,197 samples against 300 test images, through `pixels`",
        "Table 1 of the paper",
    ]
    text = words(half)
    assert "the Toronto Face Database, TFD), is not shown: TFD_48x48.mat is missing from" in text
    assert "pass the path of your own file with `--faces`" in text
    assert half.missing_sources == ("faces",)
    assert trained_runs(short) == ["digits-0"]


def test_both_columns_are_in_one_section(short, tmp_path):
    write(tmp_path / "faces.mat", unlabeled=True)
    half = table1.build(on(short, tmp_path / "faces.mat"))
    assert [table.caption for table in tables(half)] == [
        "Scores on digits, preset `digits`",
        "Reference scores on digits",
        "1,197 samples against 300 test images, through `pixels`",
        "Table 1 of the paper",
        "Scores on faces by folds, preset `paper-tfd`",
        "Reference scores on faces",
    ]
    assert half.missing_sources == ()


def test_a_folder_has_no_folds(context, tmp_path):
    folder = tmp_path / "portraits"
    folder.mkdir()
    for i in range(3):
        Image.new("L", (8, 8), 10 * i).save(folder / f"{i}.png")
    context = on(context, folder)
    half = build_section(context)
    assert not tables(half)
    assert "portraits has no folds, so this column is omitted" in words(half)
    run = trainings.faces_run(context)
    assert (run.name, run.config.intervals.eval_every) == ("faces-quick", None)
    assert not context.runs_dir.exists()


def test_a_missing_path_is_reported_before_training(short, tmp_path):
    with pytest.raises(UnknownNameError, match=r"absent\.mat"):
        table1.build(on(short, tmp_path / "absent.mat"))
    assert not short.runs_dir.exists()


@pytest.mark.parametrize(("centers", "has_row"), [(20, True), (24, False)])
def test_k_means_needs_more_images_than_centers(context, tmp_path, monkeypatch, centers, has_row):
    """At full scale; if each image were a center, the row is omitted."""
    write(tmp_path / "faces.mat", unlabeled=True)
    context = on(context, tmp_path / "faces.mat")
    monkeypatch.setattr(table1, "NUM_SAMPLES", centers)
    monkeypatch.setattr(
        table1, "faces_run", lambda _, fold=None: trainings.faces_run(context, fold)
    )
    half = table1.faces_content(replace(context, full=True), table1.open_faces(context))
    names = [row[0] for row in tables(half)[1].rows]
    assert names[0] == f"{centers} real training images, mean of 3"
    assert names[1:] == [f"{centers} centers of k-means, mean of 3"] * has_row


def records(value: float) -> list[dict]:
    common = {"extractor": "digits", "n_real": 10_000, "n_fake": 10_000}
    results = []
    for row, shift in (("generator", 0.0), ("real training images", 100.0)):
        fields = {"samples": row, **common}
        x = value + shift
        results += [
            {"metric": "parzen", **fields, "mean": -1.0},
            {"metric": "frechet", **fields, "value": x},
            {"metric": "prdc", **fields, "precision": x, "recall": 2 * x, "coverage": 3 * x},
            {"metric": "two-sample-1nn", **fields, "accuracy": x / 2},
        ]
    return results


def test_feature_rows_are_means_over_seeds_then_real_images():
    table = features_table(
        {"last": [records(1.0), records(2.0), records(6.0)], "one": [records(4.0)]}
    )
    error = math.sqrt(7 / 3)  # of 1, 2, 6: s² = 7
    last, single, real = table.rows
    assert last[:3] == ("last", f"3.00 ± {error:.2f}", f"3.000 ± {error:.3f}")
    assert last[3:5] == (f"6.000 ± {2 * error:.3f}", f"9.000 ± {3 * error:.3f}")
    assert single == ("one", "4.00", "4.000", "8.000", "12.000", "2.000")
    assert real == ("real training images", "101.00", "101.000", "202.000", "303.000", "50.500")
    assert table.caption == "10,000 samples against 10,000 test images, through `digits`"


@pytest.mark.parametrize(("average", "holds"), [((222.0, 224.1), True), ((222.0, 223.9), False)])
def test_published_check_uses_last_epochs_of_ema_weights(average, holds):
    def line(weights, choice, mean):
        return ScoreRow("some", weights, choice, {"mean": mean}, None)

    scored = [line("ema", BEST, 300.0), line("last", LAST, 150.0)]
    scored += [line("ema", LAST, mean) for mean in average]
    check = table1._published_check(scored)
    assert check.passed == holds
    assert check.measured.endswith("(last weights: 150.0)")


def log_event(step, **time):
    return {"kind": "log", "step": step, **time}


def score(step, weights, mean):
    return {"kind": "evaluate", "step": step, "weights": weights, "mean": mean}


def test_score_curve_sums_cpu_minutes_before_each_score():
    events = [
        log_event(5, seconds=99.0, cpu_seconds=30.0),
        log_event(10, seconds=99.0, cpu_seconds=60.0),
        score(10, "ema", 2.0),
        score(10, "last", 1.0),
        {"kind": "resume", "step": 10},
        log_event(15, seconds=99.0, cpu_seconds=30.0),
        log_event(20, seconds=99.0, cpu_seconds=90.0),
        score(20, "ema", 4.0),
        score(20, "last", 3.0),
    ]
    assert score_curve(events, "ema") == ([1.5, 3.5], [2.0, 4.0])
    assert score_curve(events, "last") == ([1.5, 3.5], [1.0, 3.0])


def test_score_curve_is_empty_without_cpu_seconds():
    """Wall-clock time of a machine with other work is no substitute."""
    assert score_curve([log_event(5, seconds=120.0), score(5, "last", 1.0)], "last") == ([], [])
