"""Runs used from any directory and with moved data, which are recognized by their digest."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import advnets
from advnets.errors import DataError, RunError
from advnets.run_directory import RunDirectory

GONE = "set its present location with --data PATH\n"


def draw(folder, seed=0, n=60):
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for number in range(n):
        pixels = rng.integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")


@pytest.fixture
def moved(run_command, tmp_path, monkeypatch, quick):
    """Train on a folder given by a relative path, then change the current directory."""
    home, away = tmp_path / "home", tmp_path / "away"
    draw(home / "photos")
    away.mkdir()
    monkeypatch.chdir(home)
    small = ("--size", "8", "--channels", "1", "--sample-every", "0")
    code, _, err = run_command("train", "photos", "--out", "runs/x", *quick, *small)
    assert code == 0, err
    monkeypatch.chdir(away)
    return home / "runs" / "x"


def uses(run):
    """Return each command that opens the data of a run."""
    return (
        ("evaluate", run),
        ("visualize", run, "neighbors", "--num-samples", 2),
        ("train", "--resume", "--out", run),
    )


def test_a_run_is_used_from_another_directory(run_command, moved):
    data = RunDirectory(moved).read_config()["config"]["data"]
    assert data["source"] == str(moved.parents[1] / "photos")
    for command in uses(moved):
        code, _, err = run_command(*command)
        assert code == 0, (command, err)


def test_moved_data_are_reported_and_accepted_at_their_new_path(run_command, moved, tmp_path):
    photos = moved.parents[1] / "photos"
    photos.rename(tmp_path / "elsewhere")
    for command in uses(moved):
        code, _, err = run_command(*command)
        assert (code, err) == (
            1,
            f"advnets: the data of {moved} is missing: no file or folder is called {photos}; "
            f"{GONE}",
        )
    with pytest.raises(DataError, match="is missing: no file or folder"):
        advnets.load(moved).evaluate()
    for command in uses(moved):
        code, _, err = run_command(*command, "--data", "../elsewhere")
        assert code == 0, (command, err)
    # Records are unchanged, and a resumed run has the new path.
    assert {r["data"] for r in RunDirectory(moved).scores()} == {"photos"}
    assert run_command("evaluate", moved)[0] == 0
    (tmp_path / "elsewhere").rename(photos)
    code, _, err = run_command("train", str(photos), "--resume", "--out", moved, "--steps", "40")
    assert code == 0, err
    assert advnets.load(moved, data=str(photos)).evaluate()


def test_other_data_are_refused_at_any_path(run_command, moved, tmp_path):
    draw(tmp_path / "others", seed=1)
    config = (moved / "config.json").read_bytes()
    for command in uses(moved):
        for source in (str(tmp_path / "others"), "digits"):
            code, _, err = run_command(*command, "--data", source)
            assert code == 1
            assert (
                f"the data of {moved} has changed since the run was started: {source} has the"
                in err
            )
            assert (
                "(photos); restore the old data, or set its present location with --data PATH"
                in err
            )
    photos = moved.parents[1] / "photos"
    shutil.rmtree(photos)
    shutil.copytree(tmp_path / "others", photos)
    for command in uses(moved):
        assert (
            f"the data of {moved} has changed since the run was started" in run_command(*command)[2]
        )
    with pytest.raises(RunError, match="has changed since the run was started"):
        advnets.load(moved).open_data()
    assert (moved / "config.json").read_bytes() == config


def test_a_moved_table_keeps_its_options(run_command, tmp_path, monkeypatch, quick):
    monkeypatch.chdir(tmp_path)
    Path("points.csv").write_text("0,0\n1,2\n3,1\n")
    assert run_command("train", "points.csv:sd=0.1", "--out", "run", *quick)[0] == 0
    source = RunDirectory(Path("run")).read_config()["config"]["data"]["source"]
    assert source == f"{tmp_path / 'points.csv'}:sd=0.1"
    Path("points.csv").rename("p.csv")
    code, _, err = run_command("evaluate", "run", "--metrics", "kl-jsd")
    assert (code, err) == (
        1,
        f"advnets: the data of run is missing: no file or folder is called {source}; {GONE}",
    )
    command = ("evaluate", "run", "--metrics", "kl-jsd", "--data")
    assert run_command(*command, "p.csv:sd=0.1")[0] == 0
    assert "has changed since the run was started" in run_command(*command, "p.csv:sd=0.2")[2]


def arrays():
    return np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)


def write_shards(path):
    datasets = pytest.importorskip("datasets")
    rows = {"image": [Image.fromarray(image) for image in arrays()]}
    features = datasets.Features(image=datasets.Image())
    table = datasets.Dataset.from_dict(rows, features=features)
    if path.name == "saved":
        return table.save_to_disk(str(path))
    path.mkdir()
    return table.to_parquet(str(path / "train.parquet"))


@pytest.mark.parametrize(
    ("name", "write", "options"),
    [
        ("a.npy", lambda path: np.save(path, arrays()), ()),
        ("a.npz", lambda path: np.savez(path, images=arrays()), ()),
        ("shards", write_shards, ("--size", "8")),
        ("shards", write_shards, ("--size", "8", "--stream")),
        ("saved", write_shards, ("--size", "8")),
    ],
)
def test_each_form_of_moved_data_is_recognized(
    run_command, tmp_path, monkeypatch, quick, name, write, options
):
    """From the command line and from Python, by relative paths in another directory."""
    monkeypatch.chdir(tmp_path)
    write(Path(name))
    code, _, err = run_command("train", name, "--out", "run", *quick, *options)
    assert code == 0, err
    away, run = tmp_path / "away", tmp_path / "run"
    away.mkdir()
    new = Path(name).rename(away / f"new-{name}").name
    monkeypatch.chdir(away)
    code, _, err = run_command("train", "--resume", "--out", run, "--steps", "40")
    assert (code, f"no file or folder is called {tmp_path / name}" in err) == (1, True)
    code, _, err = run_command("train", "--resume", "--out", run, "--steps", "40", "--data", new)
    assert code == 0, err
    assert RunDirectory(run).read_config()["config"]["data"]["source"] == str(away / new)
    Path(new).rename(f"newer-{name}")
    trained = advnets.train(
        resume=True, out=run, steps=50, data=f"newer-{name}", progress=False, sample_every=0
    )
    assert trained.step == 50
    Path(f"newer-{name}").rename(new)
    advnets.load(run, data=new).open_data()
    if new.startswith("new-a"):
        changed = arrays()
        changed[7, 0, 0] ^= 1
        np.save(new, changed) if name == "a.npy" else np.savez(new, images=changed)
        for steps in (50, 60):
            command = ("train", "--resume", "--out", run, "--steps", steps, "--data", new)
            code, _, err = run_command(*command)
            assert (code, err.count("\n"), "has changed since the run" in err) == (1, 1, True)
        with pytest.raises(RunError, match=r"set its present location with data=PATH$"):
            advnets.train(resume=True, out=run, steps=60, data=new, progress=False)


def test_one_replaced_image_of_a_folder_is_noticed(run_command, moved):
    photos = moved.parents[1] / "photos"
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(photos / "7.png")
    for command in uses(moved):
        code, _, err = run_command(*command)
        assert (code, err.count("\n"), "has changed since the run was started" in err) == (
            1,
            1,
            True,
        )


def test_named_data_are_found_in_a_folder_that_moved(
    run_command, tmp_path, monkeypatch, quick, real_data
):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(real_data / "mnist", tmp_path / "sets" / "mnist")
    code, _, err = run_command("train", "mnist", "--data-dir", "sets", "--out", "run", *quick)
    assert code == 0, err
    (tmp_path / "sets").rename(tmp_path / "moved")
    for command in uses("run"):
        few = ("--metrics", "swd", "--num-samples", "20") if command[0] == "evaluate" else ()
        code, _, err = run_command(*command, *few)
        assert (code, "set its directory with --data-dir DIR" in err) == (1, True)
        code, _, err = run_command(*command, *few, "--data-dir", "moved")
        assert code == 0, (command, err)
    config = RunDirectory(tmp_path / "run").read_config()["config"]
    assert config["data"]["directory"] == str(tmp_path / "moved")


def test_a_missing_named_dataset_of_a_run_is_reported_with_advice(
    run_command, trained, tmp_path, monkeypatch
):
    """A relative --data-dir is resolved from any directory."""
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    record = json.loads((run / "config.json").read_text())
    record["config"]["data"]["source"] = "mnist"
    (run / "config.json").write_text(json.dumps(record))
    monkeypatch.setenv("ADVNETS_DATA", str(tmp_path / "nowhere"))
    code, _, err = run_command("evaluate", run)
    assert code == 1
    assert err.startswith(f"advnets: the data of {run} cannot be opened: MNIST (train-images-idx3-")
    assert "download it with: advnets data fetch mnist" in err
    assert err.endswith("; if it was moved, set its directory with --data-dir DIR\n")
    with pytest.raises(DataError, match=r"if it was moved, set its directory with data_dir=DIR$"):
        advnets.load(run).open_data()


def test_a_relative_data_dir_is_stored_as_an_absolute_path(
    run_command, tmp_path, monkeypatch, quick
):
    monkeypatch.chdir(tmp_path)
    assert run_command("train", "digits", "--data-dir", "sets", "--out", "run", *quick)[0] == 0
    data = RunDirectory(Path("run")).read_config()["config"]["data"]
    assert (data["source"], data["directory"]) == ("digits", str(tmp_path / "sets"))


def test_the_generator_run_is_found_from_anywhere(
    run_command, trained, tmp_path, monkeypatch, quick
):
    monkeypatch.chdir(trained.parent)
    command = (
        "train",
        "latent-regression-mnist",
        "--data",
        "digits",
        "--game.generator-run",
        trained.name,
    )
    code, _, err = run_command(
        *command, "--out", tmp_path / "run", "--steps", "2", "--threads", "1"
    )
    assert code == 0, err
    monkeypatch.chdir(tmp_path)
    game = RunDirectory(tmp_path / "run").read_config()["config"]["stages"][0]["game"]
    assert game["generator_run"] == str(trained)
    assert run_command("train", "--resume", "--out", "run", "--steps", "3")[0] == 0


@pytest.mark.parametrize("name", ["run", "run/samples", "run/views"])
@pytest.mark.parametrize(
    "command",
    [
        ("train", "RUN"),
        ("train", "RUN", "--resume"),
        ("train", "RUN", "--dry-run"),
        ("train", "digits", "--data", "RUN"),
        ("data", "audit", "RUN"),
        ("data", "pack", "RUN", "pack"),
    ],
    ids=" ".join,
)
def test_a_run_given_as_data_is_refused(run_command, trained, tmp_path, monkeypatch, command, name):
    """The error has the command that resumes the run, and that command works."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, "run")
    (tmp_path / "run" / "views").mkdir(exist_ok=True)
    code, _, err = run_command(*(name if word == "RUN" else word for word in command))
    assert code == 2
    assert err == (
        f"advnets: {name} is a run directory, expected data: its images are figures; to "
        "continue the "
        f"run, use: advnets train --resume --out {err.split()[-1]}\n"
    )
    assert (tmp_path / err.split()[-1]).resolve() == tmp_path / "run"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    _, _, *arguments = err.partition("use: ")[2].split()
    assert run_command("train", *arguments)[0] == 0


def test_runs_inside_a_folder_of_images_are_skipped(run_command, tmp_path, monkeypatch, quick):
    """Repeated `advnets train .` uses the same images."""
    draw(tmp_path / "photos")
    monkeypatch.chdir(tmp_path / "photos")
    small = ("--size", "8", "--channels", "1")
    for out in ("runs/a", "runs/b"):
        code, _, err = run_command("train", ".", "--out", out, *quick, *small)
        assert code == 0, err
    assert (
        "runs/a is a run directory, whose images are plots and samples"
        in run_command("data", "audit", ".")[1]
    )
    digests = [RunDirectory(Path(f"runs/{n}")).read_config()["data"]["digest"] for n in "ab"]
    assert digests[0] == digests[1]
    code, _, err = run_command("train", "--resume", "--out", "runs/a", "--steps", "40")
    assert code == 0, err
    monkeypatch.chdir(tmp_path)
    code, _, err = run_command("train", "photos", "--out", "photos", *quick)
    assert (code, "is the directory of the data; give another --out for the run" in err) == (
        2,
        True,
    )
    assert not (tmp_path / "photos" / ".lock").exists()


def run_process(*arguments, cwd):
    command = [sys.executable, "-m", "advnets", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        (("train", "digits", "--steps", "1", "--out", "run"), "dataset"),
        (("train", "digits", "--dry-run"), "dataset"),
        (("train", "points", "--data", "ring", "--dry-run"), None),
        (("data", "audit", "digits"), "dataset"),
        (("data", "audit", "./digits"), None),
        (("data", "pack", "./digits", "pack"), None),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_a_folder_named_like_a_dataset_or_preset_is_reported(tmp_path, command, problem):
    draw(tmp_path / "digits", n=3)
    completed = run_process(*command, cwd=tmp_path)
    assert completed.returncode == 0, completed.stderr
    sentence = (
        f"digits is the {problem} of that name, and the folder ./digits is not used; to use it, "
        "set ./digits"
    )
    assert (sentence in completed.stderr) == (problem is not None), completed.stderr


def test_a_folder_named_like_a_preset_is_reported(tmp_path):
    draw(tmp_path / "mlp", n=3)
    completed = run_process("train", "mlp", "--data", "digits", "--dry-run", cwd=tmp_path)
    assert "mlp is the preset of that name, and the folder ./mlp is not used" in completed.stderr


def test_a_dry_run_reports_that_it_packs(run_command, tmp_path, cache):
    draw(tmp_path / "photos")
    command = ("train", tmp_path / "photos", "--size", "8", "--dry-run")
    code, out, _ = run_command(*command)
    (pack,) = (folder for folder in (cache / "packs").iterdir() if folder.is_dir())
    assert code == 0
    assert out.endswith(
        f"nothing was written but the data, packed into the cache for training: {pack}\n"
    )
    assert run_command(*command)[1].endswith("\nnothing was written\n")
