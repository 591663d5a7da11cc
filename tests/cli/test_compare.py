"""The complete output of `advnets compare`, from records written by the tests."""

from __future__ import annotations

import json
import re
import shlex
from functools import partial
from pathlib import Path

import pandas
import pytest
from PIL import Image

from advnets.cli.arguments import config_of
from advnets.cli.compare import read_history
from advnets.cli.sweep import record_text, run_record
from advnets.metrics.uncertainty import student_interval

NAN = pytest.approx(float("nan"), nan_ok=True)
RECORDS = Path(__file__).parents[2] / "results" / "records"

PROVENANCE = {
    "split": "test",
    "data": "mnist",
    "data_digest": "0123456789abcdef",
    "images": {"shape": [1, 28, 28], "crop": None, "background": None},
    "versions": {"advnets": "0.1"},
    "n_real": 10_000,
    "n_fake": 10_000,
    "keep_fraction": None,
    "class_proportions": None,
    "extractor": None,
    "extractor_sha256": None,
    "interval": {},
}
EXTRACTOR = {"extractor": "digits", "extractor_sha256": "0dba96d9d00d43fa"}


def write(path, training_seed, lr, parzen, frechet, **provenance):
    """Write a run with scores by two metrics of its generator and of real images."""
    path.mkdir()
    config = {"preset": "mlp", "seed": training_seed, "stages": [{"lr": lr}]}
    data = {"name": "mnist", "digest": "0123456789abcdef"}
    (path / "config.json").write_text(json.dumps({"format": 2, "config": config, "data": data}))
    shared = {"seed": 0, "step": 5000, **PROVENANCE}
    real = {"samples": "real training images", "weights": None}
    generator = {"samples": "generator", "weights": "ema"}
    parzen_fields = {"metric": "parzen", "grid": "paper", "sigma": 0.2, "n_valid": 1000, **shared}
    frechet_fields = {"metric": "frechet", **shared, **EXTRACTOR, **provenance}
    records = [
        {**parzen_fields, **generator, "mean": parzen},
        {**parzen_fields, **real, "mean": 242.5},
        {**frechet_fields, **generator, "value": frechet},
        {**frechet_fields, **real, "value": 0.0123, "n_fake": 9_000},
    ]
    (path / "scores.json").write_text(json.dumps(records))


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed, (slow, quick) in enumerate([(225.0, 250.5), (223.5, 249.0), (227.5, 252.25)]):
        write(tmp_path / f"slow-{seed}", seed, 0.1, slow, slow / 50)
        write(tmp_path / f"quick-{seed}", seed, 0.2, quick, quick / 1000)
    return ["slow-0", "slow-1", "slow-2", "quick-0", "quick-1", "quick-2"]


@pytest.fixture
def compared(run_command):
    return partial(run_command, "compare")


TABLE = """\
Means over seeds ± the 95 % interval of Student's t (standard deviation); ↓ lower is better, \
↑ higher is better

run                   weights  step   seeds    parzen, paper grid ↑                 frechet ↓
mlp, lr=0.1           ema      5,000  0, 1, 2     225.3 ± 5.0 (2.0)        4.51 ± 0.10 (0.04)
mlp, lr=0.2           ema      5,000  0, 1, 2     250.6 ± 4.0 (1.6)  0.2506 ± 0.0040 (0.0016)
real training images                                          242.5                   0.01230

Paired differences of rows by seed: the later row minus the earlier one
difference                 seeds    parzen, paper grid ↑               frechet ↓
mlp, lr=0.2 − mlp, lr=0.1  0, 1, 2     +25.2 ± 1.1 (0.4)  -4.256 ± 0.096 (0.039)

parzen, paper grid: Parzen log-likelihood; 10,000 samples and 10,000 real images; data mnist of \
1 x 28 x 28; digest 01234567…; test images; validation images 1,000; advnets 0.1
frechet: Fréchet distance; extractor digits; SHA-256 0dba96d9…; 10,000 samples and 10,000 real \
images; data mnist of 1 x 28 x 28; digest 01234567…; test images; advnets 0.1; \
9,000 real training images; comparable only with scores by the same extractor; \
published ones are by inception or dinov2
A Parzen log-likelihood above that of real images means smoother than the data, not better \
than the data (Theis et al. 2016).
"""
"""Intervals of scipy.stats.t: 5.0198, 4.0407, 1.0757 and 0.10040, 0.00404, 0.09638.

Standard deviations of numpy: 2.0207, 1.6266, 0.4330 and 0.04041, 0.00163, 0.03880.
"""


def test_the_table_is_printed_as_expected(compared, runs):
    code, out, err = compared(*runs)
    assert (code, err) == (0, "")
    assert out == TABLE


def test_a_metric_can_be_selected_and_printed_as_json(compared, runs):
    code, out, _ = compared(*runs, "--metrics", "frechet", "--json")
    record = json.loads(out)
    assert code == 0
    assert [column["name"] for column in record["columns"]] == ["frechet"]
    assert record["columns"][0]["settings"]["extractor_sha256"] == "0dba96d9d00d43fa"
    assert record["rows"][1]["runs"] == ["quick-0", "quick-1", "quick-2"]


def test_a_published_name_is_said_to_be_a_metric(compared, runs):
    code, out, err = compared(*runs, "--metrics", "FID")
    assert (code, "frechet ↓" in out) == (0, True)
    assert err == "advnets: note: FID is the metric frechet\n"
    assert compared(*runs, "--metrics", "frechet")[2] == ""


def test_the_table_can_be_written(compared, runs, tmp_path):
    assert compared(*runs, "--out", "table.md") == (0, "table.md\n", "")
    lines = (tmp_path / "table.md").read_text("utf-8").splitlines()
    assert lines[2:5] == [
        "| run | weights | step | seeds | parzen, paper grid ↑ | frechet ↓ |",
        "|---|---|---|---|---:|---:|",
        "| mlp, lr=0.1 | ema | 5,000 | 0, 1, 2 | 225.3 ± 5.0 (2.0) | 4.51 ± 0.10 (0.04) |",
    ]
    assert lines[12].startswith("| mlp, lr=0.2 − mlp, lr=0.1 | 0, 1, 2 | +25.2 ± 1.1 (0.4) |")
    assert compared(*runs, "--out", "table.json")[0] == 0
    printed = compared(*runs, "--json")[1]
    assert json.loads((tmp_path / "table.json").read_text("utf-8")) == json.loads(printed)
    code, _, err = compared(*runs, "--out", "table.txt")
    assert (code, err) == (
        2,
        "advnets: table.txt has no format of a table; give a name that ends in .csv, .json, .md "
        "or .tex\n",
    )


def test_a_csv_table_has_all_digits(compared, runs, tmp_path):
    """They are those of the record; pandas reads it."""
    assert compared(*runs, "--out", "table.csv") == (0, "table.csv\n", "")
    table = pandas.read_csv(tmp_path / "table.csv", index_col="run")
    record = json.loads(compared(*runs, "--json")[1])
    for row in (*record["rows"], *record["references"]):
        for column, cell in zip(record["columns"], row["cells"], strict=True):
            keys = {"": "mean", " ± half width": "half_width", " std": "std"}
            for suffix, key in keys.items():
                value = table.loc[row["name"], column["name"] + suffix]
                assert value == (NAN if cell[key] is None else pytest.approx(cell[key]))
    assert table["seeds"].iloc[0] == "0 1 2"


def test_a_latex_table_is_for_booktabs(compared, runs, tmp_path):
    assert compared(*runs, "--out", "table.tex") == (0, "table.tex\n", "")
    lines = (tmp_path / "table.tex").read_text("utf-8").splitlines()
    begin = lines.index(r"\begin{tabular}{llllrr}")
    assert all(line.startswith("% ") or not line for line in lines[:begin])
    assert lines[begin + 1 : begin + 9] == [
        r"\toprule",
        r"run & weights & step & seeds & parzen, paper grid $\uparrow$ & frechet $\downarrow$ \\",
        r"\midrule",
        r"mlp, lr=0.1 & ema & 5,000 & 0, 1, 2 & 225.3 $\pm$ 5.0 (2.0) & "
        r"4.51 $\pm$ 0.10 (0.04) \\",
        r"mlp, lr=0.2 & ema & 5,000 & 0, 1, 2 & 250.6 $\pm$ 4.0 (1.6) & "
        r"0.2506 $\pm$ 0.0040 (0.0016) \\",
        r"real training images &  &  &  & 242.5 & 0.01230 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]
    assert lines.count(r"\toprule") == 2  # the paired differences
    assert r"$-$4.256 $\pm$ 0.096 (0.039) \\" in lines[-3]


def test_patterns_in_quotes_name_the_runs_that_match(compared, runs, tmp_path):
    """Other files and folders that match are left out, and so are the files of runs."""
    (tmp_path / "slow-notes").mkdir()
    (tmp_path / "slow.log").write_text("")
    assert compared("slow-*", "quick-[0-2]")[1] == TABLE
    assert compared("**/*")[1].count("0, 1, 2") == 3
    assert compared(tmp_path / "slow-*", "slow-0")[0] == 2  # the same run twice
    assert compared("none-*") == (
        2,
        "",
        "advnets: no run directory or record file matches 'none-*'; give a run directory, or a "
        "record file of `advnets sweep`\n",
    )
    code, out, _ = compared(RECORDS / "modern-ring-?.json", "--metrics", "mixture")
    assert (code, "0, 1, 2, 3, 4, 5, 6, 7, 8, 9" in out) == (0, True)


def test_scores_with_different_settings_are_refused_or_get_two_columns(compared, runs, tmp_path):
    write(tmp_path / "other", 3, 0.2, 250.0, 0.3, extractor="pixels", extractor_sha256=None)
    code, out, err = compared(*runs, "other")
    assert (code, out) == (2, "")
    assert err == (
        "advnets: scores by frechet of slow-0 and other differ in extractor (digits and "
        "pixels) and "
        "cannot be compared; evaluate all runs with the same settings, or add --separate-columns\n"
    )
    code, out, err = compared(*runs, "other", "--separate-columns")
    assert (code, err) == (0, "")
    head = next(line for line in out.splitlines() if line.startswith("run "))
    assert "frechet (extractor digits) ↓  frechet (extractor pixels) ↓" in head
    assert compared("slow-0", "other", "--metrics", "parzen")[0] == 0


def test_only_scores_that_all_runs_have_are_compared(compared, runs):
    """Runs with records by two extractors are compared by the extractor that all have."""
    for number, name in enumerate(runs[:2]):
        scores = Path(name) / "scores.json"
        records = json.loads(scores.read_text())
        pixels = {"extractor": "pixels", "extractor_sha256": None}
        records += [{**r, **pixels} for r in records if r["metric"] == "frechet"]
        scores.write_text(json.dumps(records))
        code, out, err = compared(*runs[:2], "--metrics", "frechet")
        assert (code, err) == (0, "")
        assert ("frechet (extractor pixels)" in out) == bool(number)  # only one run has it at first
        assert "frechet (extractor pixels)" in compared(*runs[:2], "--separate-columns")[1]


def test_different_sample_seeds_and_too_few_images_are_noted(compared, runs):
    write(Path("other"), 3, 0.1, 226.0, 4.4, seed=9, few_images=True)
    code, out, _ = compared(*runs[:2], "other", "--metrics", "frechet")
    assert code == 0
    assert "Samples were drawn with different seeds: mlp: 0, 9" in out
    assert "; far too large: fewer images than features" in out
    assert "far too large" not in compared(*runs[:2])[1]


def test_a_usage_error_is_one_sentence(compared, runs, tmp_path):
    assert compared("slow-0") == (
        2,
        "",
        "advnets: 1 run was given; give at least two to compare\n",
    )
    assert compared()[2] == "advnets: no runs were given; give at least two to compare\n"
    assert compared(*runs, "--metrics", "frechett")[2] == (
        "advnets: no metric is called 'frechett'; did you mean frechet?\n"
    )
    (tmp_path / "slow-1" / "scores.json").unlink()
    assert compared(*runs) == (
        1,
        "",
        "advnets: slow-1 has no scores yet; type: advnets evaluate slow-1\n",
    )


def test_a_run_given_twice_is_refused(compared, runs):
    """A pattern does not add a run that was given before it."""
    assert compared("slow-0", "slow-1", "slow-0") == (
        2,
        "",
        "advnets: slow-0 and slow-0 have the same config and the same seed (0); leave one of them "
        "out\n",
    )
    assert compared("slow-0", "slow-*") == compared("slow-0", "slow-1", "slow-2")


def quality(name, seed):
    """Return the fraction of high-quality samples among 2,500 points, from the record of a seed."""
    record = json.loads((RECORDS / f"{name}-{seed}.json").read_text())
    (quality,) = [
        score["high_quality"]
        for score in record["scores"]
        if (score["samples"], score["metric"], score["n"]) == ("generator", "mixture", 2500)
    ]
    return quality


def test_records_of_seeds_are_one_row_with_interval_and_paired_differences(run_command):
    files = [RECORDS / f"modern-ring-{seed}.json" for seed in range(10)]
    files += [RECORDS / f"points-ring-{seed}.json" for seed in range(3)]
    code, out, _ = run_command("compare", *files, "--metrics", "mixture", "--json")
    assert code == 0
    code, out, _ = run_command("compare", *files, "--metrics", "mixture")
    of_ten = student_interval([quality("modern-ring", seed) for seed in range(10)])
    less = [quality("points-ring", seed) - quality("modern-ring", seed) for seed in range(3)]
    assert f"{of_ten.mean:.4f} ± {of_ten.half_width:.4f}" in out
    assert f"{student_interval(less).mean:.4f} ± {student_interval(less).half_width:.4f}" in out


def test_training_curves_of_records_are_drawn_in_one_figure(run_command, tmp_path):
    """A panel of 5.6 x 2 inches for each preset and metric, at 200 dots per inch.

    Below that of ten seeds is a legend of three lines.
    """
    files = [RECORDS / f"modern-ring-{seed}.json" for seed in range(10)]
    files += [RECORDS / f"modern-stacked-{seed}.json" for seed in range(3)]
    figure = tmp_path / "x.png"
    assert run_command("compare", *files, "--curves", figure) == (0, f"{figure}\n", "")
    with Image.open(figure) as image:
        assert image.size == (1120, 914)
    for arguments, message in (
        ((files[0], "--curves", "x.jpg"), "x.jpg is not a PNG file; give a name that ends in .png"),
        ((files[0], "--curves", figure, "--json"), "--curves draws no scores; leave the other"),
    ):
        code, out, err = run_command("compare", *arguments)
        assert (code, out) == (2, "")
        assert err.startswith(f"advnets: {message}")
    (tmp_path / "a.json").write_text('{"command": "advnets train digits", "curve": 3}')
    assert run_command("compare", tmp_path / "a.json", "--curves", figure)[::2] == (
        1,
        f"advnets: {tmp_path / 'a.json'} is not a record of a run; give a run directory, or a "
        "record file of `advnets sweep`\n",
    )


def test_training_curves_of_a_run_are_those_of_its_record(run_command, tmp_path):
    """The record rounds them to five significant digits."""
    options = ["modern-ring", "--steps", 4, "--log-every", 2, "--threads", 1]
    command = ["train", *options, "--out", tmp_path / "run"]
    assert run_command(*command)[0] == 0
    line = shlex.join(["advnets", *map(str, command)])
    record = tmp_path / "record.json"
    record.write_text(record_text(run_record(tmp_path / "run", 0, line)))
    run, stored = (read_history(path, config_of) for path in (tmp_path / "run", record))
    assert [event["step"] for event in run.logs] == [2, 4]
    assert stored.config.images_per_step == run.config.images_per_step == 128
    values = [[event["d_pair"] for event in history.logs] for history in (run, stored)]
    assert values[1] == pytest.approx(values[0], rel=1e-4)


def test_records_that_are_not_comparable_are_refused(run_command, tmp_path):
    ring, grid = (RECORDS / f"points-{name}-0.json" for name in ("ring", "grid"))
    code, _, err = run_command("compare", ring, grid, "--metrics", "mixture")
    assert code == 2
    assert re.search(r"mixture.* differ in .*modes", err)
    code, _, err = run_command("compare", ring, grid, "--metrics", "frechet")
    assert code == 1
    assert "points-ring-0.json has no scores of frechet" in err
    (tmp_path / "a.json").write_text("{}")
    code, _, err = run_command("compare", ring, tmp_path / "a.json")
    assert code == 1
    assert "a.json is not a record of a run; give a run directory, or a record file" in err
