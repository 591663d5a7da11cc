"""Means and intervals are those of other hands, and unlike numbers never share a column."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from advnets.errors import RunError, UnknownNameError, UsageError
from advnets.evaluation.comparison import columns, compare
from advnets.evaluation.registry import METRICS
from advnets.evaluation.score_files import ScoredRun, read_scored_run
from advnets.report.comparison import comparison_text

REAL = "real training images"


def record(value, metric="frechet", **stamps):
    """As evaluate leaves it."""
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


def only(found):
    (one,) = found
    return one


def test_every_metric_is_registered_by_its_name_with_values_to_compare():
    for name, spec in METRICS.items():
        assert spec.name == name and spec.values and spec.help and spec.title
        assert not {*spec.values} & {*spec.details, *spec.cases}


def test_seeds_are_a_row_with_scipys_interval():
    values = {0: 3.0, 1: 2.5, 2: 4.25}
    found = compare([run(seed, record(value)) for seed, value in values.items()])
    row = only(found["rows"])
    assert (row["name"], row["weights"], row["step"]) == ("dcgan", "last", 100)
    assert (row["seeds"], row["runs"][2]) == ([0, 1, 2], "runs/dcgan-2")
    cell = only(row["cells"])
    given = list(values.values())
    low, high = stats.t.interval(0.95, 2, np.mean(given), stats.sem(given))
    assert (cell["mean"], cell["values"]) == (pytest.approx(3.25), given)
    assert cell["half_width"] == pytest.approx((high - low) / 2)
    assert only(found["columns"])["name"] == "frechet"
    assert found["differences"] == found["references"] == []
    json.dumps(found, allow_nan=False)


def test_a_column_of_too_few_images_is_marked():
    """By the records of any run that are in it, and by no others."""
    few, other = record(1.0, few_images=True), record(1.0, "swd")
    found = compare([run(0, record(1.0), other), run(1, few, other)])
    marks = {column["name"]: column["few_images"] for column in found["columns"]}
    assert marks == {"frechet": True, "swd": False}


def test_a_difference_is_of_pairs():
    """Its interval is that of a paired t-test, far narrower than those of rows that vary alike."""
    one = {0: 10.0, 1: 20.0, 2: 30.0, 3: 40.0}
    other = {1: 19.0, 2: 28.5, 3: 39.5, 7: 1.0}
    runs = [run(seed, record(value)) for seed, value in one.items()]
    runs += [run(seed, record(value), preset="mlp") for seed, value in other.items()]
    found = compare(runs)
    difference = only(found["differences"])
    assert (difference["row"]["name"], difference["minus"]["name"]) == ("mlp", "dcgan")
    cell = only(difference["cells"])
    assert (cell["seeds"], cell["values"]) == ([1, 2, 3], [-1.0, -1.5, -0.5])
    paired = stats.ttest_rel([19.0, 28.5, 39.5], [20.0, 30.0, 40.0]).confidence_interval(0.95)
    assert cell["half_width"] == pytest.approx((paired.high - paired.low) / 2)
    assert cell["half_width"] < found["rows"][0]["cells"][0]["half_width"] / 10


def test_there_is_no_difference_of_one_shared_seed():
    runs = [run(0, record(1.0)), run(1, record(2.0)), run(0, record(3.0), preset="mlp")]
    assert compare(runs)["differences"] == []
    found = compare([*runs, run(1, record(5.0), preset="mlp")])
    assert only(only(found["differences"])["cells"])["values"] == [2.0, 3.0]
    # Shared seeds of training count only where samples of one seed are shared too.
    later = run(1, record(5.0, seed=4), preset="mlp")
    assert compare([*runs, later])["differences"] == []


def test_what_leaves_the_nets_as_they_are_makes_no_row():
    same = {"data": {"hflip": False, "directory": "here", "source": "mnist"}}
    moved = {"data": {"hflip": False, "directory": "there", "source": "mnist"}}
    other = {"data": {"hflip": True, "directory": "here", "source": "mnist"}}
    runs = [run(0, record(1.0), **same), run(1, record(1.0), **moved), run(2, record(1.0), **other)]
    names = [row["name"] for row in compare(runs)["rows"]]
    assert names == ["dcgan, --no-hflip", "dcgan, --hflip"]


def test_rows_are_named_by_options_of_train():
    """The length of schedules, which no option sets, names a row only where nothing else does."""
    stage = {"steps": 50, "schedule_steps": 50, "generator": {"hidden_sizes": [8, 8]}}
    longer = {"steps": 80, "schedule_steps": 80, "generator": {"hidden_sizes": [9, 9]}}

    def names(*stages):
        runs = [run(0, record(1.0), stages=one) for one in stages]
        return [row["name"] for row in compare(runs)["rows"]]

    assert names([stage], [longer]) == [
        "dcgan, --steps 50, --generator.hidden-sizes 8 8",
        "dcgan, --steps 80, --generator.hidden-sizes 9 9",
    ]
    assert names([stage], [stage | {"schedule_steps": 100}]) == [
        "dcgan, schedule steps 50",
        "dcgan, schedule steps 100",
    ]
    assert names([stage, stage], [stage, stage | {"steps": 80}]) == [
        "dcgan, --steps 50 of stage 2",
        "dcgan, --steps 80 of stage 2",
    ]


def test_a_row_of_many_differences_goes_by_its_first_run():
    runs = [run(0, record(1.0), a=1, b=2, c=3, d=4), run(1, record(1.0), a=2, b=3, c=4, d=5)]
    assert [row["name"] for row in compare(runs)["rows"]] == ["runs/dcgan-0", "runs/dcgan-1"]


def test_weights_steps_and_shares_kept_are_rows_of_their_own():
    average, kept = record(1.0, weights="ema"), record(5.0, keep_fraction=0.5)
    runs = [run(0, record(2.0), average), run(1, record(3.0), kept), run(2, record(4.0, step=9))]
    found = compare(runs)
    rows = {
        (row["weights"], row["step"], row["keep_fraction"]): row["seeds"] for row in found["rows"]
    }
    assert rows == {
        ("last", 100, None): [0, 1],
        ("ema", 100, None): [0],
        ("last", 100, 0.5): [1],
        ("last", 9, None): [2],
    }


def test_samples_of_several_seeds_are_one_value_of_a_run():
    found = compare([run(0, record(1.0), record(2.0, seed=1)), run(1, record(3.0))])
    assert only(only(found["rows"])["cells"])["values"] == [1.5, 3.0]


def test_real_images_stand_beside_and_are_taken_once():
    """Every run says the same of them, unless it drew others."""
    beside = {"samples": REAL, "weights": None, "n_fake": 50}
    runs = [
        run(seed, record(9.0), record(0.5, **beside), *more)
        for seed, more in ((0, []), (1, [record(0.7, seed=3, **beside)]))
    ]
    found = compare(runs)
    cell = only(only(found["references"])["cells"])
    assert (cell["seeds"], cell["values"], cell["n_fake"]) == ([0, 3], [0.5, 0.7], 50)
    assert len(found["rows"]) == 1


def test_nets_that_were_never_trained_are_a_row_of_their_own():
    """D's own features are what is scored: that their hashes differ is no reason not to compare."""

    def probed(seed, samples, weights, value):
        named = {"extractor": "discriminator", "extractor_sha256": f"{seed}{samples}" * 9}
        more = {"labels": 100, "accuracy": value, "std": 0.1 * seed, "costs": [seed]}
        return record(0.0, metric="probe", samples=samples, weights=weights, **named, **more)

    found = compare(
        [
            run(s, probed(s, "D", "last", 0.9), probed(s, "D, never trained", None, 0.5))
            for s in (0, 1)
        ]
    )
    assert [row["name"] for row in found["rows"]] == ["dcgan", "dcgan: D, never trained"]
    assert [only(row["cells"])["mean"] for row in found["rows"]] == [0.9, 0.5]
    assert only(found["columns"])["name"] == "probe, 100 labels"


def test_an_infinite_number_has_no_mean():
    """JSON has it as null."""
    modes = {"modes_found": 9, "kl_uniform": 0.1, "modes": 10}
    infinite, finite = (record(0.0, "modes", kl_reference=kl, **modes) for kl in (None, 2.0))
    runs = [run(0, infinite), run(1, finite)]
    cells = only(compare(runs)["rows"])["cells"]
    assert [cell["mean"] for cell in cells] == [9, 0.1, None]
    assert cells[2]["values"] == [None, 2.0]


def test_an_extractor_is_known_by_its_hash_and_not_by_its_files_name():
    runs = [run(0, record(1.0, extractor="a.onnx")), run(1, record(3.0, extractor="b.onnx"))]
    found = compare(runs)
    assert only(only(found["rows"])["cells"])["mean"] == 2
    assert only(found["columns"])["settings"]["extractor"] == "a.onnx"


@pytest.mark.parametrize(
    ("stamps", "told"),
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
def test_unlike_numbers_are_refused_or_stand_apart(stamps, told):
    runs = [run(0, record(1.0)), run(1, record(2.0)), run(0, record(5.0, **stamps), preset="mlp")]
    with pytest.raises(UsageError) as caught:
        compare(runs)
    assert str(caught.value) == (
        f"scores by frechet of runs/dcgan-0 and runs/mlp-0 differ in {told} and cannot be "
        "compared; evaluate all runs with the same settings, or add --separate-columns"
    )
    found = compare(runs, separate_columns=True)
    first, second = found["columns"]
    assert first["name"].startswith("frechet (")
    assert first["name"] != second["name"]
    cells = [[cell and cell["mean"] for cell in row["cells"]] for row in found["rows"]]
    assert cells == [[1.5, None], [None, 5.0]]
    assert found["differences"] == []


def test_columns_apart_are_named_by_what_differs():
    runs = [run(0, record(1.0)), run(1, record(2.0, extractor="net.onnx", n_fake=500))]
    assert [column.name for column in columns(runs, separate_columns=True)] == [
        "frechet (extractor digits, samples 10,000)",
        "frechet (extractor net.onnx, samples 500)",
    ]


def test_columns_of_a_metric_of_two_numbers_are_named_by_them():
    runs = [run(seed, record(0.0, "kl-jsd", kl=0.5, jsd=0.1)) for seed in (0, 1)]
    assert [column.name for column in columns(runs)] == ["kl-jsd kl", "kl-jsd jsd"]


def test_the_order_of_what_a_record_says_makes_no_column():
    said = {"versions": {"torch": "2", "advnets": "0.1"}, "images": {"shape": [1, 2, 2]}}
    one = record(1.0, **said)
    other = {key: one[key] for key in reversed(one)}
    found = compare([run(0, one), run(1, {**other, "value": 2.0})])
    assert only(only(found["rows"])["cells"])["values"] == [1.0, 2.0]
    assert len(found["columns"]) == 1


def test_of_a_run_that_was_scored_in_two_ways_the_one_that_all_have_is_compared():
    through = {"extractor": "pixels", "extractor_sha256": None}
    twice = run(0, record(2.0, **through), record(1.0))
    found = compare([twice, run(1, record(3.0))])
    assert only(only(found["rows"])["cells"])["values"] == [1.0, 3.0]
    both = compare([twice, run(1, record(3.0), record(5.0, **through))])
    assert [cell["values"] for cell in only(both["rows"])["cells"]] == [[2.0, 5.0], [1.0, 3.0]]
    third = run(2, record(9.0, extractor="net.onnx", extractor_sha256="e" * 64))
    with pytest.raises(UsageError, match=r"dcgan-0 differ in extractor \(pixels and digits\)"):
        compare([twice, third])


def test_what_was_found_beside_is_no_setting():
    """Parzen windows choose a σ each, and all compare; those on other grids are other columns."""
    parzen = {"valid_mean": 1.0, "standard_error": 1.0, "sigma_on_edge": False, "n_valid": 300}
    runs = [
        run(seed, *(record(0, "parzen", mean=1.0, grid=g, sigma=seed, **parzen) for g in grids))
        for seed, grids in ((0, ("paper", "fine")), (1, ("paper",)))
    ]
    found = compare(runs)
    assert [c["name"] for c in found["columns"]] == ["parzen, paper grid", "parzen, fine grid"]
    assert [cell["seeds"] for cell in only(found["rows"])["cells"]] == [[0, 1], [0]]


def test_what_cannot_be_compared_is_told():
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


def test_a_run_is_read_with_the_scores_of_its_newest_step(tmp_path):
    path = write(tmp_path / "a", [record(1.0, step=5), record(2.0), record(0, "swd")], seed=4)
    assert read_scored_run(path).seed == 4
    assert [r["metric"] for r in read_scored_run(path).records] == ["frechet", "swd"]
    assert [r["value"] for r in read_scored_run(path, ["frechet"]).records] == [2.0]


def test_scores_that_are_missing_are_told_with_their_cure(tmp_path):
    none, old = (
        write(tmp_path / "none", None),
        write(tmp_path / "old", [{"metric": "parzen", "samples": REAL}]),
    )
    some = write(tmp_path / "some", [record(1.0)])
    for path, metrics, message in (
        (none, [], f"{none} has no scores yet; type: advnets evaluate {none}"),
        (
            some,
            ["frechet", "prdc"],
            f"{some} has no scores of step 100 by prdc; type: advnets evaluate {some} --metrics "
            "frechet prdc",
        ),
        (
            old,
            [],
            f"the scores of {old} were written by an older advnets and lack their provenance; "
            f"type: advnets evaluate {old}",
        ),
    ):
        with pytest.raises(RunError) as caught:
            read_scored_run(path, metrics)
        assert str(caught.value) == message


@pytest.mark.parametrize(
    ("broken", "told"),
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
def test_a_record_that_is_none_is_refused(tmp_path, broken, told):
    path = write(tmp_path / "run", [{**record(1.0), **broken}])
    with pytest.raises(RunError, match=f"a record of frechet with {told}, which advnets does not"):
        read_scored_run(path)


@pytest.mark.parametrize("stamp", [key for key in record(1.0) if key not in ("metric", "samples")])
def test_a_record_without_a_stamp_is_no_record(tmp_path, stamp):
    lacking = {key: value for key, value in record(1.0).items() if key != stamp}
    path = write(tmp_path / "run", [lacking])
    with pytest.raises(RunError, match=r"older advnets|value 'missing'"):
        read_scored_run(path)


def test_differences_are_of_samples_of_the_same_seeds():
    """And where rows were sampled with others, the table says so."""
    first = [run(seed, record(1.0, seed=0), record(9.0, seed=7)) for seed in (0, 1)]
    second = [run(seed, record(3.0 + seed, seed=0), preset="other") for seed in (0, 1)]
    found = compare([*first, *second])
    (difference,) = found["differences"]
    assert difference["cells"][0]["values"] == [2.0, 3.0]
    assert [row["cells"][0]["sample_seeds"] for row in found["rows"]] == [[0, 7], [0]]
    assert "Samples were drawn with different seeds: dcgan: 0, 7; other: 0" in (
        comparison_text(found)
    )
    third = [run(seed, record(3.0, seed=5), preset="other") for seed in (0, 1)]
    assert compare([*second, *[replace_preset(some) for some in third]])["differences"] == []


def replace_preset(some):
    return replace(some, config={**some.config, "preset": "third"})


def test_real_images_beside_a_column_are_as_many_as_its_samples():
    """Whatever the order in which runs come."""
    runs = [
        run(0, record(2.0, n_fake=500), record(0.24, samples=REAL, n_fake=500)),
        run(0, record(1.0, n_fake=1000), record(0.19, samples=REAL, n_fake=1000), preset="other"),
    ]
    for some in (runs, runs[::-1]):
        found = compare(some, separate_columns=True)
        beside = {
            column["settings"]["n_fake"]: cell["mean"]
            for column, cell in zip(found["columns"], found["references"][0]["cells"], strict=True)
        }
        assert beside == {500: 0.24, 1000: 0.19}


def test_a_number_that_is_not_finite_has_no_mean():
    found = compare([run(seed, record(value)) for seed, value in ((0, math.nan), (1, 1.0))])
    assert only(found["rows"])["cells"][0]["mean"] is None
