"""`advnets sweep` from start to end: records, resuming, grids, processes and refused options."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from advnets.cli.sweep import parse_grid, parse_seeds
from advnets.errors import UsageError
from advnets.run_directory import RunDirectory

RING = ["--steps", "4", "--threads", "1", "--log-every", "2"]


@pytest.fixture
def sweep(run_command, tmp_path):
    """Return a function that sweeps into a directory of the test, and returns status and output."""

    def run(preset, *arguments):
        places = ("--out", tmp_path / "runs", "--records", tmp_path / "records")
        return run_command("sweep", preset, *places, "--metrics", "mixture", *arguments)

    return run


def test_each_seed_has_a_record_and_is_trained_once(sweep, tmp_path, monkeypatch):
    arguments = ("modern-ring", "--seeds", "3-4", "--", *RING, "--batch-size", "{seed}0")
    code, out, _ = sweep(*arguments)
    assert code == 0
    files = sorted((tmp_path / "records").iterdir())
    assert [file.name for file in files] == ["modern-ring-3.json", "modern-ring-4.json"]
    for seed, file in zip((3, 4), files, strict=True):
        record = json.loads(file.read_text())
        options = f"{' '.join(RING)} --batch-size {seed}0 --seed {seed}"
        assert record["command"] == f"advnets train modern-ring {options}"
        assert [event["step"] for event in record["curve"]] == [2, 4]
        assert {score["metric"] for score in record["scores"]} == {"mixture"}
        assert record["scores"][0]["step"] == 4
    monkeypatch.setattr("advnets.cli.sweep.run_record", lambda *_: pytest.fail("trained again"))
    code, again, _ = sweep(*arguments)
    assert code == 0
    assert out.endswith(again)  # the comparison
    assert again.startswith("Means over seeds")


def test_every_combination_of_the_grid_is_a_row_of_the_comparison(sweep, tmp_path):
    """The values are those of the runs' configs; the comparison has a row for each combination."""
    grid = ("--grid", "game.r1=0.5,2", "--grid", "game.relativistic=true,false")
    code, out, _ = sweep("modern-ring", "--seeds", "9-9", *grid, "--", *RING)
    assert code == 0
    trained = {
        (game["r1"], game["relativistic"], config["seed"])
        for path in (tmp_path / "runs").iterdir()
        for config in [RunDirectory(path).read_config()["config"]]
        for game in [config["stages"][0]["game"]]
    }
    assert trained == {(r1, relativistic, 9) for r1 in (0.5, 2) for relativistic in (True, False)}
    assert (tmp_path / "runs" / "modern-ring-game.r1=0.5-game.relativistic=false-seed9").exists()
    table = out[out.index("Means over seeds") :].split("\n\n")[1].splitlines()
    assert [line.split("  ")[0] for line in table[1:]] == [
        *(
            f"modern-ring, game.relativistic={relativistic}, game.r1={r1}"
            for r1 in (0.5, 2.0)
            for relativistic in (True, False)
        ),
        "real training images",
    ]


def test_runs_in_processes_share_the_threads_and_are_recorded(tmp_path):
    """The record has the number of threads, on which the result depends."""
    arguments = ["digits", "--seeds", "2", "--jobs", "2", "--metrics", "frechet"]
    arguments += ["--evaluate=--num-samples 100", "--", "--steps", "2"]
    code = "import sys; from advnets.cli.main import main; sys.exit(main())"
    process = subprocess.run(
        [sys.executable, "-c", code, "sweep", *arguments],
        cwd=tmp_path,
        env=os.environ | {"LOKY_MAX_CPU_COUNT": "2"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "digits-seed0: training digits: 2 steps" in process.stderr
    assert "digits-seed1: records/digits-1.json" in process.stdout
    assert "Means over seeds" in process.stdout
    record = json.loads((tmp_path / "records" / "digits-1.json").read_text())
    assert record["command"] == "advnets train digits --steps 2 --seed 1 --threads 1"


def test_a_metric_that_a_record_lacks_is_added(sweep, tmp_path):
    arguments = ("modern-ring", "--seeds", "1", "--", *RING)
    assert sweep(*arguments)[0] == 0
    assert sweep("modern-ring", "--metrics", "mixture", "kl-jsd", *arguments[1:])[0] == 0
    record = json.loads((tmp_path / "records" / "modern-ring-0.json").read_text())
    assert {score["metric"] for score in record["scores"]} == {"mixture", "kl-jsd"}


def test_a_diverged_run_does_not_stop_the_others(sweep, tmp_path):
    """It has no record, is named, and the exit status is that of a training that diverged."""
    grid = ("--grid", "lr=1e30,1e-3")
    code, out, err = sweep("modern-ring", "--seeds", "2", *grid, "--", *RING)
    assert code == 3
    names = [f"modern-ring-lr=1e30-seed{seed}" for seed in (0, 1)]
    runs = ", ".join(str(tmp_path / "runs" / name) for name in names)
    assert err.splitlines()[-1] == (
        f"advnets: 2 of 4 runs ended in an unusable state and are not compared: {runs}"
    )
    assert "Means over seeds" in out
    names = [f"modern-ring-lr=1e-3-{seed}.json" for seed in (0, 1)]
    assert sorted(path.name for path in (tmp_path / "records").iterdir()) == names


def test_scores_during_training_are_recorded_too(sweep, tmp_path):
    during = ("--eval-every", "2", "--eval-metric", "mixture")
    assert sweep("modern-ring", "--seeds", "1", "--", *RING, *during)[0] == 0
    record = json.loads((tmp_path / "records" / "modern-ring-0.json").read_text())
    evaluations = [event for event in record["training_eval"] if event["weights"] == "ema"]
    assert [event["step"] for event in evaluations] == [2, 4]
    assert evaluations[-1]["jsd"] == pytest.approx(record["scores"][1]["jsd"], rel=1e-4)


def test_a_failed_evaluation_ends_the_sweep_without_a_record(run_command, tmp_path):
    places = ("--out", tmp_path / "runs", "--records", tmp_path / "records", "--metrics", "fid")
    absent = f"--evaluate=--extractor {tmp_path / 'none.onnx'}"
    code, _, err = run_command("sweep", "digits", *places, absent, "--", "--steps", "1")
    assert code != 0
    assert "none.onnx" in err
    assert not list((tmp_path / "records").iterdir())
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["digits-seed0"]


@pytest.mark.parametrize(
    ("text", "seeds"), [("3", (0, 1, 2)), ("2-4", (2, 3, 4)), ("0,3,7", (0, 3, 7)), ("5-5", (5,))]
)
def test_seeds_are_a_number_a_range_or_a_list(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        *((text, "give a number of seeds such as 5, a") for text in ("", "a", "-1", "1-", "1.5")),
        *((text, "has no seed") for text in ("0", "4-0")),
        *((text, "at most 10,000 seeds") for text in ("10001", "0-999999999999")),
        ("1,0-2", "has a seed twice"),
    ],
)
def test_other_seeds_are_refused(text, reason):
    with pytest.raises(UsageError, match=reason):
        parse_seeds(text)


def test_a_value_of_a_grid_may_be_several_words():
    values = parse_grid("generator.hidden_sizes=16 16,8")
    flag = "--generator.hidden-sizes"
    assert [value.options for value in values] == [(flag, "16", "16"), (flag, "8")]
    assert values[0].name == "generator.hidden-sizes=16_16"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--grid", "lr"], "--grid is 'lr'; give an option of `advnets train` and its values"),
        (["--grid", "lr=1,1"], "--grid has lr=1 twice; give each value once"),
        (["--grid", "seed=1,2"], "--grid has the option seed, which the sweep sets"),
        (["--grid", "game.r5=1"], "advnets train has no option --game.r5; did you mean"),
        (["--grid", "game.r1=1,-1"], "--game.r1 is -1.0; it must be at least 0"),
        (["--seeds", "200", "--grid", f"lr={','.join(map(str, range(1, 100)))}"], "19,800 runs"),
        (["--", "--seed", "3"], "--seed is not an option of the runs of a sweep"),
        (["--steps", "3"], "--steps is an option of `advnets train`; give those of all runs after"),
        (["--jobs", "0"], "--jobs is 0; it must be at least 1"),
    ],
)
def test_a_usage_error_is_one_sentence_before_anything_is_trained(
    sweep, tmp_path, arguments, message
):
    code, _, err = sweep("modern-ring", *arguments)
    assert (code, err.count("\n")) == (2, 1)
    assert message in err
    assert not list(tmp_path.iterdir())


def test_a_sweep_needs_a_preset(run_command):
    code, _, err = run_command("sweep", "--seeds", "1")
    assert (code, err) == (2, "advnets: PRESET is missing; see `advnets sweep --help`\n")


def test_a_record_of_another_command_is_not_taken_for_this_one(sweep, tmp_path):
    assert sweep("modern-ring", "--seeds", "1", "--", *RING)[0] == 0
    code, _, err = sweep("modern-ring", "--seeds", "1", "--", "--steps", "8")
    record = tmp_path / "records" / "modern-ring-0.json"
    assert code == 1
    assert err.startswith(f"advnets: {record} is a record of another command, 'advnets train mo")
    record.write_text("[]")
    code, _, err = sweep("modern-ring", "--seeds", "1", "--", *RING)
    assert (code, "is not a record of a run; move it away, or give the sweep" in err) == (1, True)


@pytest.mark.parametrize(
    ("preset", "arguments", "message"),
    [
        ("digits", ("--metrics", "parzen", "modes"), "the metric modes needs a classifier of the"),
        ("digits", ("--metrics", "probe"), "need an unconditional convolutional D"),
        ("digits", ("--metrics", "is"), "the metric inception-score needs a classifier, and the"),
        ("ring", ("--metrics", "elbo"), "the metric elbo needs a variational autoencoder"),
        ("digits", ("--metrics", "fid", "--evaluate=--extractor digits"), "expects images of shap"),
        ("digits", ("--metrics", "parzen", "--evaluate=--extractor pixels"), "no feature extracto"),
        ("digits", ("--metrics", "fid", "--evaluate=--num-samples 3"), "num-samples is 3; expecte"),
        ("digits", ("--metrics", "none.py:m"), "the file none.py of the metric 'none.py:m' does"),
    ],
)
def test_a_metric_that_does_not_fit_is_refused_before_any_training(
    preset, arguments, message, run_command, tmp_path
):
    """It is the error that `evaluate` of a trained run has."""
    places = ("--out", tmp_path / "runs", "--records", tmp_path / "records")
    command = ("sweep", preset, "--seeds", "2", *places, *arguments, "--", "--steps", "1")
    code, out, err = run_command(*command)
    assert (code in (1, 2), out, err.count("\n")) == (True, "", 1), err
    assert message in err
    assert not (tmp_path / "runs").exists()
    run = tmp_path / "run"
    run_command("train", preset, "--out", run, "--steps", "1")
    options = [word for a in arguments for word in a.removeprefix("--evaluate=").split()]
    assert run_command("evaluate", run, *options)[::2] == (code, err)


def test_a_metric_of_every_grid_point_is_checked(run_command, tmp_path):
    places = ("--out", tmp_path / "runs", "--records", tmp_path / "records")
    command = ("sweep", "points", "--seeds", "1", *places, "--metrics", "mixture")
    code, _, err = run_command(*command, "--grid", "data=ring,spiral", "--", "--steps", "1")
    assert (code, "spiral is not one" in err) == (1, True), err
    assert not (tmp_path / "runs").exists()
