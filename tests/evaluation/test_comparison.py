"""Means and intervals equal those of SciPy, and incomparable scores never share a column."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from advnets.errors import RunError, UnknownNameError, UsageError
from advnets.evaluation.comparison import ScoredRun, columns, compare, read_scored_run
from advnets.evaluation.registry import METRICS
from advnets.report.comparison import (
    comparison_html,
    comparison_latex,
    comparison_markdown,
    comparison_text,
)

REAL = "real training images"


def record(value, metric="frechet", **stamps):
    """Return a record as `evaluate` saves it."""
    return {
        "metric": metric,
        "samples": "generator",
        "weights": "last",
        "split": "test",
        "seed": 0,
        "step": 100,
        "data": "mnist",
        "data_digest": "a" * 32,
        "images": {"shape": [1, 28, 28], "crop": None, "background": None},
        "versions": {"advnets": "0.1"},
        "extractor": "digits",
        "extractor_sha256": "d" * 64,
        "n_real": 10_000,
        "n_fake": 10_000,
        "keep_fraction": None,
        "class_proportions": None,
        "interval": {},
        "value": value,
        **stamps,
    }


def run(seed, *records, preset="dcgan", digest="a" * 32, **config):
    config = {"preset": preset, "seed": seed, "intervals": {"log_every": seed}, **config}
    data = {"name": "mnist", "digest": digest}
    return ScoredRun(f"runs/{preset}-{seed}", config, data, records)


def only(matches):
    (row,) = matches
    return row


def test_every_metric_has_values_to_compare():
    for name, spec in METRICS.items():
        assert spec.name == name and spec.values and spec.help and spec.title
        assert not {*spec.values} & {*spec.details, *spec.cases}


def test_seeds_are_one_row_with_the_interval_of_scipy():
    values = {0: 3.0, 1: 2.5, 2: 4.25}
    comparison = compare([run(seed, record(value)) for seed, value in values.items()])
    row = only(comparison["rows"])
    assert (row["name"], row["weights"], row["step"]) == ("dcgan", "last", 100)
    assert (row["seeds"], row["runs"][2]) == ([0, 1, 2], "runs/dcgan-2")
    cell = only(row["cells"])
    numbers = list(values.values())
    low, high = stats.t.interval(0.95, 2, np.mean(numbers), stats.sem(numbers))
    assert (cell["mean"], cell["values"]) == (pytest.approx(3.25), numbers)
    assert cell["half_width"] == pytest.approx((high - low) / 2)
    assert cell["std"] == pytest.approx(np.std(numbers, ddof=1))
    assert only(comparison["columns"])["name"] == "frechet"
    assert comparison["differences"] == comparison["references"] == []
    json.dumps(comparison, allow_nan=False)


def test_a_column_with_too_few_images_is_marked():
    """If any of its records is, and no other column."""
    few, sliced = record(1.0, few_images=True), record(1.0, "swd")
    comparison = compare([run(0, record(1.0), sliced), run(1, few, sliced)])
    marks = {column["name"]: column["few_images"] for column in comparison["columns"]}
    assert marks == {"frechet": True, "swd": False}


def test_differences_are_paired():
    """Their interval is that of a paired t-test, much narrower than those of the rows."""
    first = {0: 10.0, 1: 20.0, 2: 30.0, 3: 40.0}
    second = {1: 19.0, 2: 28.5, 3: 39.5, 7: 1.0}
    runs = [run(seed, record(value)) for seed, value in first.items()]
    runs += [run(seed, record(value), preset="mlp") for seed, value in second.items()]
    comparison = compare(runs)
    difference = only(comparison["differences"])
    assert (difference["row"]["name"], difference["minus"]["name"]) == ("mlp", "dcgan")
    cell = only(difference["cells"])
    assert (cell["seeds"], cell["values"]) == ([1, 2, 3], [-1.0, -1.5, -0.5])
    paired = stats.ttest_rel([19.0, 28.5, 39.5], [20.0, 30.0, 40.0]).confidence_interval(0.95)
    assert cell["half_width"] == pytest.approx((paired.high - paired.low) / 2)
    assert cell["half_width"] < comparison["rows"][0]["cells"][0]["half_width"] / 10


@pytest.mark.parametrize(
    ("write", "start"),
    [
        (comparison_text, "mlp − dcgan  0, 1, 2  -4"),
        (comparison_markdown, "| mlp − dcgan | 0, 1, 2 | -4"),
        (comparison_html, "<td>mlp − dcgan</td><td>0, 1, 2</td><td>-4"),
        (comparison_latex, "mlp $-$ dcgan & 0, 1, 2 & $-$4"),
    ],
)
def test_a_difference_has_the_sign_of_its_name(write, start):
    runs = [run(seed, record(seed + 5.0)) for seed in range(3)]
    runs += [run(seed, record(seed + 1.0), preset="mlp") for seed in range(3)]
    text = re.sub(r" {3,}", "  ", write(compare(runs)))
    assert start in text
    assert "the later row minus the earlier one" in text
    assert "+4" not in text


def test_fewer_than_three_seeds_have_no_interval():
    """The comparison says so, and has the standard deviation of two."""
    runs = [run(seed, record(value)) for seed, value in ((0, 1.0), (1, 3.0))]
    runs += [run(seed, record(5.0), preset="mlp") for seed in (0, 1, 2)]
    runs += [run(0, record(7.0), preset="one")]
    comparison = compare(runs)
    cells = [only(row["cells"]) for row in comparison["rows"]]
    assert [cell["half_width"] for cell in cells] == [None, 0.0, None]
    assert [cell["std"] for cell in cells] == [pytest.approx(2**0.5), 0.0, None]
    (difference,) = comparison["differences"]
    assert only(difference["cells"])["half_width"] is None
    text = comparison_text(comparison)
    assert "2.0 (1.4)" in text
    assert "No interval for fewer than 3 seeds: dcgan (2 seeds); one (1 seed)\n" in f"{text}\n"


def test_one_common_seed_gives_no_difference():
    runs = [run(0, record(1.0)), run(1, record(2.0)), run(0, record(3.0), preset="mlp")]
    assert compare(runs)["differences"] == []
    comparison = compare([*runs, run(1, record(5.0), preset="mlp")])
    assert only(only(comparison["differences"])["cells"])["values"] == [2.0, 3.0]
    # Common training seeds count only if sample seeds are equal, too.
    later = run(1, record(5.0, seed=4), preset="mlp")
    assert compare([*runs, later])["differences"] == []


def test_settings_that_do_not_affect_training_do_not_separate_rows():
    same = {"data": {"hflip": False, "directory": "here", "source": "mnist"}}
    moved = {"data": {"hflip": False, "directory": "there", "source": "mnist"}}
    flipped = {"data": {"hflip": True, "directory": "here", "source": "mnist"}}
    runs = [
        run(0, record(1.0), **same),
        run(1, record(1.0), **moved),
        run(2, record(1.0), **flipped),
    ]
    names = [row["name"] for row in compare(runs)["rows"]]
    assert names == ["dcgan, hflip=False", "dcgan, hflip=True"]


def test_rows_are_named_by_options_of_train():
    """The length of schedules, which no option sets, names a row only where nothing else does."""
    stage = {"steps": 50, "schedule_steps": 50, "generator": {"hidden_sizes": [8, 8]}}
    longer = {"steps": 80, "schedule_steps": 80, "generator": {"hidden_sizes": [9, 9]}}

    def names(*stages):
        runs = [run(0, record(1.0), stages=one) for one in stages]
        return [row["name"] for row in compare(runs)["rows"]]

    assert names([stage], [longer]) == [
        "dcgan, steps=50, generator.hidden_sizes=8 8",
        "dcgan, steps=80, generator.hidden_sizes=9 9",
    ]
    assert names([stage], [stage | {"schedule_steps": 100}]) == [
        "dcgan, schedule steps 50",
        "dcgan, schedule steps 100",
    ]
    assert names([stage, stage], [stage, stage | {"steps": 80}]) == [
        "dcgan, steps=50 of stage 2",
        "dcgan, steps=80 of stage 2",
    ]


def test_a_row_with_many_differences_is_named_by_its_first_run():
    runs = [run(0, record(1.0), a=1, b=2, c=3, d=4), run(1, record(1.0), a=2, b=3, c=4, d=5)]
    assert [row["name"] for row in compare(runs)["rows"]] == ["runs/dcgan-0", "runs/dcgan-1"]


def test_weights_steps_and_keep_fractions_have_their_own_rows():
    average, rejected = record(1.0, weights="ema"), record(5.0, keep_fraction=0.5)
    runs = [
        run(0, record(2.0), average),
        run(1, record(3.0), rejected),
        run(2, record(4.0, step=9)),
    ]
    comparison = compare(runs)
    rows = {
        (row["weights"], row["step"], row["keep_fraction"]): row["seeds"]
        for row in comparison["rows"]
    }
    assert rows == {
        ("last", 100, None): [0, 1],
        ("ema", 100, None): [0],
        ("last", 100, 0.5): [1],
        ("last", 9, None): [2],
    }


def test_sample_seeds_are_averaged_within_a_run():
    comparison = compare([run(0, record(1.0), record(2.0, seed=1)), run(1, record(3.0))])
    assert only(only(comparison["rows"])["cells"])["values"] == [1.5, 3.0]


def test_real_images_are_one_row():
    """Runs that scored the same real images share it."""
    real = {"samples": REAL, "weights": None, "n_fake": 50}
    runs = [
        run(seed, record(9.0), record(0.5, **real), *more)
        for seed, more in ((0, []), (1, [record(0.7, seed=3, **real)]))
    ]
    comparison = compare(runs)
    cell = only(only(comparison["references"])["cells"])
    assert (cell["seeds"], cell["values"], cell["n_fake"]) == ([0, 3], [0.5, 0.7], 50)
    assert len(comparison["rows"]) == 1


def test_untrained_networks_have_their_own_row():
    """Scores on features of D itself are compared although the hashes of D differ."""

    def probed(seed, samples, weights, value):
        named = {"extractor": "discriminator", "extractor_sha256": f"{seed}{samples}" * 9}
        more = {"labels": 100, "accuracy": value, "std": 0.1 * seed, "costs": [seed]}
        return record(0.0, metric="probe", samples=samples, weights=weights, **named, **more)

    comparison = compare(
        [
            run(s, probed(s, "D", "last", 0.9), probed(s, "D, never trained", None, 0.5))
            for s in (0, 1)
        ]
    )
    assert [row["name"] for row in comparison["rows"]] == ["dcgan", "dcgan: D, never trained"]
    assert [only(row["cells"])["mean"] for row in comparison["rows"]] == [0.9, 0.5]
    assert only(comparison["columns"])["name"] == "probe, 100 labels"


def test_an_infinite_value_has_no_mean():
    """JSON stores it as null."""
    modes = {"modes_found": 9, "kl_uniform": 0.1, "modes": 10}
    infinite, finite = (record(0.0, "modes", kl_reference=kl, **modes) for kl in (None, 2.0))
    runs = [run(0, infinite), run(1, finite)]
    cells = only(compare(runs)["rows"])["cells"]
    assert [cell["mean"] for cell in cells] == [9, 0.1, None]
    assert cells[2]["values"] == [None, 2.0]


@pytest.mark.parametrize(
    ("name", "digest"), [("extractor", "extractor_sha256"), ("data", "data_digest")]
)
def test_extractors_and_data_are_identified_by_hash_not_name(name, digest):
    runs = [run(0, record(1.0, **{name: "a"})), run(1, record(3.0, **{name: "b"}))]
    comparison = compare(runs)
    assert only(only(comparison["rows"])["cells"])["mean"] == 2
    assert only(comparison["columns"])["settings"][name] == "a"
    runs[1] = run(1, record(3.0, **{name: "b", digest: "c" * 32}))
    with pytest.raises(UsageError, match=rf"{name} \(a and b\)"):
        compare(runs)


@pytest.mark.parametrize(
    ("stamps", "message"),
    [
        ({"extractor": "pixels", "extractor_sha256": None}, "extractor (digits and pixels)"),
        ({"extractor_sha256": "e" * 64}, "SHA-256 of the extractor (dddddddd… and eeeeeeee…)"),
        ({"n_real": 5_000}, "real images (10,000 and 5,000)"),
        ({"n_fake": 500, "split": "train"}, "split (test and train), samples (10,000 and 500)"),
        ({"n_fake": 500}, "samples (10,000 and 500)"),
        ({"data_digest": "b" * 32}, "digest of the data (aaaaaaaa… and bbbbbbbb…)"),
        (
            {"images": {"shape": [3, 32, 32], "crop": "pad", "background": "white"}},
            "images (1x28x28 and 3x32x32 pad white)",
        ),
        ({"versions": {"advnets": "0.2"}}, "advnets (0.1 and 0.2)"),
        ({"subsets": 100}, "subsets (none and 100)"),
        ({"what_nobody_knows": 1.5}, "what nobody knows (none and 1.5)"),
    ],
)
def test_scores_with_different_settings_are_refused_or_separated(stamps, message):
    runs = [run(0, record(1.0)), run(1, record(2.0)), run(0, record(5.0, **stamps), preset="mlp")]
    with pytest.raises(UsageError) as caught:
        compare(runs)
    assert str(caught.value) == (
        f"scores by frechet of runs/dcgan-0 and runs/mlp-0 differ in {message} and cannot be "
        "compared; evaluate all runs with the same settings, or add --separate-columns"
    )
    comparison = compare(runs, separate_columns=True)
    first, second = comparison["columns"]
    assert first["name"].startswith("frechet (")
    assert first["name"] != second["name"]
    cells = [[cell and cell["mean"] for cell in row["cells"]] for row in comparison["rows"]]
    assert cells == [[1.5, None], [None, 5.0]]
    assert comparison["differences"] == []


def test_separate_columns_are_named_by_their_differences():
    runs = [run(0, record(1.0)), run(1, record(2.0, extractor="net.onnx", n_fake=500))]
    assert [column.name for column in columns(runs, separate_columns=True)] == [
        "frechet (extractor digits, samples 10,000)",
        "frechet (extractor net.onnx, samples 500)",
    ]


def test_columns_of_a_metric_with_two_values_are_named_by_them():
    runs = [run(seed, record(0.0, "kl-jsd", kl=0.5, jsd=0.1)) for seed in (0, 1)]
    assert [column.name for column in columns(runs)] == ["kl-jsd kl", "kl-jsd jsd"]


def test_the_order_of_fields_does_not_separate_columns():
    shared = {"versions": {"torch": "2", "advnets": "0.1"}, "images": {"shape": [1, 2, 2]}}
    original = record(1.0, **shared)
    reordered = {key: original[key] for key in reversed(original)}
    comparison = compare([run(0, original), run(1, {**reordered, "value": 2.0})])
    assert only(only(comparison["rows"])["cells"])["values"] == [1.0, 2.0]
    assert len(comparison["columns"]) == 1


def test_of_two_settings_of_a_run_the_one_that_all_runs_have_is_compared():
    through = {"extractor": "pixels", "extractor_sha256": None}
    twice = run(0, record(2.0, **through), record(1.0))
    comparison = compare([twice, run(1, record(3.0))])
    assert only(only(comparison["rows"])["cells"])["values"] == [1.0, 3.0]
    both = compare([twice, run(1, record(3.0), record(5.0, **through))])
    assert [cell["values"] for cell in only(both["rows"])["cells"]] == [[2.0, 5.0], [1.0, 3.0]]
    third = run(2, record(9.0, extractor="net.onnx", extractor_sha256="e" * 64))
    with pytest.raises(UsageError, match=r"dcgan-0 differ in extractor \(pixels and digits\)"):
        compare([twice, third])


def test_results_in_a_record_are_not_settings():
    """Parzen windows with different σ are compared; those with different grids are not."""
    parzen = {"valid_mean": 1.0, "standard_error": 1.0, "sigma_on_edge": False, "n_valid": 300}
    runs = [
        run(seed, *(record(0, "parzen", mean=1.0, grid=g, sigma=seed, **parzen) for g in grids))
        for seed, grids in ((0, ("paper", "fine")), (1, ("paper",)))
    ]
    comparison = compare(runs)
    assert [c["name"] for c in comparison["columns"]] == ["parzen, paper grid", "parzen, fine grid"]
    assert [cell["seeds"] for cell in only(comparison["rows"])["cells"]] == [[0, 1], [0]]


def test_runs_that_cannot_be_compared_are_refused():
    with pytest.raises(UsageError, match="1 run was given; give at least two to compare"):
        compare([run(0, record(1.0))])
    with pytest.raises(
        UsageError, match=r"runs/dcgan-0 and runs/dcgan-0 have the same config and the same seed"
    ):
        compare([run(0, record(1.0)), run(0, record(1.0))])
    with pytest.raises(
        UnknownNameError, match="no metric is called 'frechett'; did you mean frechet"
    ):
        compare([run(0, record(1.0)), run(1, record(1.0))], metrics=["frechett"])


def write(path, records, seed=0):
    path.mkdir()
    config = {"preset": "dcgan", "seed": seed}
    data = {"name": "mnist", "digest": "a" * 32}
    (path / "config.json").write_text(json.dumps({"format": 2, "config": config, "data": data}))
    if records is not None:
        (path / "scores.json").write_text(json.dumps(records))
    return path


def test_scores_of_the_newest_step_are_used(tmp_path):
    path = write(tmp_path / "a", [record(1.0, step=5), record(2.0), record(0, "swd")], seed=4)
    assert read_scored_run(path).seed == 4
    assert [r["metric"] for r in read_scored_run(path).records] == ["frechet", "swd"]
    assert [r["value"] for r in read_scored_run(path, ["frechet"]).records] == [2.0]


def test_missing_scores_are_reported_with_the_call(tmp_path):
    none, old = (
        write(tmp_path / "none", None),
        write(tmp_path / "old", [{"metric": "parzen", "samples": REAL}]),
    )
    file = write(tmp_path / "some", [record(1.0)])
    for path, metrics, message in (
        (none, [], f"{none} has no scores yet; call advnets.evaluate('{none}')"),
        (
            file,
            ["frechet", "prdc"],
            f"{file} has no scores of step 100 by prdc; call advnets.evaluate('{file}', "
            "['frechet', 'prdc'])",
        ),
        (
            old,
            [],
            f"the scores of {old} were written by an older advnets and lack their provenance; "
            f"call advnets.evaluate('{old}')",
        ),
    ):
        with pytest.raises(RunError) as caught:
            read_scored_run(path, metrics)
        assert str(caught.value) == message


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"seed": "0"}, "seed '0'"),
        ({"step": 1.5}, "step 1.5"),
        ({"n_real": None}, "n_real None"),
        ({"value": "small"}, "value 'small'"),
        ({"images": {}}, "images {}"),
        ({"versions": [1]}, r"versions \[1\]"),
        ({"interval": None}, "interval None"),
    ],
)
def test_an_invalid_record_is_refused(tmp_path, broken, message):
    path = write(tmp_path / "run", [{**record(1.0), **broken}])
    with pytest.raises(
        RunError, match=f"a record of frechet with {message}, which advnets does not"
    ):
        read_scored_run(path)


@pytest.mark.parametrize("stamp", [key for key in record(1.0) if key not in ("metric", "samples")])
def test_a_record_without_provenance_is_refused(tmp_path, stamp):
    lacking = {key: value for key, value in record(1.0).items() if key != stamp}
    path = write(tmp_path / "run", [lacking])
    with pytest.raises(RunError, match=r"older advnets|value 'missing'"):
        read_scored_run(path)


def test_differences_require_equal_sample_seeds():
    """A note names rows that were sampled with other seeds."""
    first = [run(seed, record(1.0, seed=0), record(9.0, seed=7)) for seed in (0, 1)]
    second = [run(seed, record(3.0 + seed, seed=0), preset="other") for seed in (0, 1)]
    comparison = compare([*first, *second])
    (difference,) = comparison["differences"]
    assert difference["cells"][0]["values"] == [2.0, 3.0]
    assert [row["cells"][0]["sample_seeds"] for row in comparison["rows"]] == [[0, 7], [0]]
    assert "Samples were drawn with different seeds: dcgan: 0, 7; other: 0" in (
        comparison_text(comparison)
    )
    third = [run(seed, record(3.0, seed=5), preset="other") for seed in (0, 1)]
    assert (
        compare([*second, *[replace_preset(replaced) for replaced in third]])["differences"] == []
    )


def replace_preset(original):
    return replace(original, config={**original.config, "preset": "third"})


def test_real_images_of_a_column_are_as_many_as_its_samples():
    """In any order of runs."""
    runs = [
        run(0, record(2.0, n_fake=500), record(0.24, samples=REAL, n_fake=500)),
        run(0, record(1.0, n_fake=1000), record(0.19, samples=REAL, n_fake=1000), preset="other"),
    ]
    for order in (runs, runs[::-1]):
        comparison = compare(order, separate_columns=True)
        column_values = {
            column["settings"]["n_fake"]: cell["mean"]
            for column, cell in zip(
                comparison["columns"], comparison["references"][0]["cells"], strict=True
            )
        }
        assert column_values == {500: 0.24, 1000: 0.19}


def test_a_value_that_is_not_finite_has_no_mean():
    comparison = compare([run(seed, record(value)) for seed, value in ((0, math.nan), (1, 1.0))])
    assert only(comparison["rows"])["cells"][0]["mean"] is None
