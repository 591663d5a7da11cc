from __future__ import annotations

import json
import math
import os
import pty
import re
import subprocess
import sys
import termios
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import advnets
from advnets import cli
from advnets.runs import RunDirectory

QUICK = [
    *("--steps", "30", "--threads", "1", "--precision", "float32"),
    *("--generator.hidden", "16", "16", "--discriminator.units", "8", "8"),
    *("--ticks.log", "10", "--ticks.samples", "30", "--ticks.checkpoint", "10"),
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "digits"
    assert cli.main(["train", "digits", "--out", str(run), *QUICK]) == 0
    return run


@pytest.fixture
def said(capsys):
    """Run a command; its exit status, and what it printed on either stream."""

    def run(*arguments):
        capsys.readouterr()
        try:
            code = cli.main([str(argument) for argument in arguments])
        except SystemExit as exit_:
            code = exit_.code or 0
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def test_presets_are_listed(said):
    """The whole output: a new preset is a line here."""
    listed = {
        "digits": "The 2014 pair, small, on scikit-learn's 8x8 digits; minutes, offline.",
        "points": "The 2014 pair, small, on points of a line or plane; a minute, offline.",
        "mlp": "Fully connected nets with batch norm, as in tutorials, on MNIST.",
        "tuned-mnist": "The 2014 MNIST nets trained our way: pairs, slope penalties, Adam.",
        "paper-mnist": "The 2014 MNIST experiment, the authors' configuration to the letter.",
        "paper-tfd": "The 2014 Toronto Face Database experiment, its two stages of training.",
        "paper-cifar": "The 2014 CIFAR-10 experiment, fully connected.",
        "paper-cifar-conv": "The 2014 CIFAR-10 experiment, convolutional D, deconvolutional G.",
        "dcgan": "DCGAN for pictures of your own (--data PATH), 64x64 unless --size.",
        "dcgan-faces": "DCGAN for faces of your own (--data PATH), 64x64, mirrored.",
        "dcgan-mnist": "DCGAN on MNIST.",
        "dcgan-mnist-conditional": "DCGAN on MNIST, told which digit: the paper's own net.",
        "dcgan-cifar": "DCGAN on CIFAR-10.",
        "dcgan-tutorial": "DCGAN as tutorials have it: half as wide, kernels of 4.",
        "conditional-mnist": "MNIST, told which digit: p(x | c) by fully connected nets.",
        "inference-mnist": "MNIST, and z from x: an encoder on G's side.",
        "inference-after": "z from x for a trained G (--game.begin-with RUN).",
        "completion-mnist": "MNIST, any part of a digit given the rest.",
        "semi-mnist": "MNIST with 100 labels: D tells ten digits and generated.",
        "semi-mnist-large": "The same by a larger D and batches of 1,024; for a GPU.",
        "semi-mnist-2016": "The same by fully connected nets, as published in 2016.",
        "supervised-mnist": "semi-mnist's D by the 100 labels alone.",
        "coordinated-mnist": "mlp's nets in turns, D at four times G's rate: good soonest.",
        "vae-mnist": "The variational autoencoder on MNIST, with paper-mnist's decoder.",
        "modern": "Your pictures (--data PATH), 64x64: pairs, slopes, schedules, no norms.",
        "modern-mnist": "MNIST by the same recipe.",
        "projection-mnist": "MNIST, told which digit: D is told at its last maps.",
        "modern-stacked": "Stacked MNIST, 1,000 modes, by the same; an hour of one thread.",
        "modern-cifar": "CIFAR-10 by the same recipe.",
        "modern-residual": "The same with residual nets (--data PATH or cifar10); for a GPU.",
        "modern-ring": "The recipe on a ring of 8 modes, with fully connected nets.",
        "modern-grid": "The same on a grid of 25 modes.",
    }
    told = "".join(f"{name.ljust(23)}  {about}\n" for name, about in listed.items())
    assert said("presets") == (0, told, "")


def test_the_version_is_the_packages(said):
    assert said("--version") == (0, f"advnets {advnets.__version__}\n", "")


def test_a_training_leaves_what_it_says(trained):
    run = RunDirectory(trained)
    record = run.read_config()
    assert record["config"]["runtime"] == {
        "device": "cpu",
        "precision": "float32",
        "threads": 1,
        "compile": False,
        "graph": False,
    }
    assert record["config"]["stages"][0]["steps"] == 30
    assert record["data"]["train"] == 1197
    assert set(record["parameters"]) == {"generator", "discriminator"}
    kinds = [event["kind"] for event in run.events()]
    assert kinds == ["start", "tick", "tick", "tick", "end"]
    tick = run.events()[1]
    assert 0 < tick["d_real"] < 1
    assert 0 < tick["d_fake"] < 1
    assert tick["value"] < 0
    assert [file.name for file in run.checkpoint_files()] == [
        "step-00000020.safetensors",
        "step-00000030.safetensors",
    ]
    for picture in (run.sample_file(30), trained / "curves.png"):
        with Image.open(picture) as image:
            assert image.width > 300
    assert "<html" in (trained / "report.html").read_text("utf-8")


def test_without_matplotlib_a_training_ends_well_and_prints_the_cure(said, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(
        sys,
        "meta_path",
        [Missing("matplotlib"), *sys.meta_path],
    )
    code, out, err = said("train", "digits", "--out", tmp_path / "run", *QUICK)
    assert code == 0
    assert "advnets: matplotlib is not installed; type: pip install 'advnets[report]'\n" in err
    assert "done in" in out
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "matplotlib is not installed" in page
    assert not (tmp_path / "run" / "curves.png").exists()


class Missing:
    """A finder that says of one library what Python says when it is not installed."""

    def __init__(self, library):
        self.library = library

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == self.library:
            raise ModuleNotFoundError(f"No module named {name!r}", name=self.library)


def test_off_a_terminal_a_tick_is_one_plain_line(said, tmp_path):
    code, out, err = said("train", "digits", "--out", tmp_path / "run", *QUICK)
    assert code == 0
    lines = err.splitlines()
    assert lines[0] == "training begins: 30 steps on cpu in float32"
    assert len(lines) == 4
    assert lines[1].startswith("step 10/30  epoch 0.8  D(x) 0.")
    assert "pictures/s" in lines[1]
    assert f"advnets evaluate {tmp_path / 'run'}" in out


def test_on_a_terminal_there_is_a_bar(tmp_path):
    """Under a real pseudo-terminal: pictures/s, time left, D(x) and D(G(z)) in one moving line."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 160))
    process = subprocess.Popen(
        [sys.executable, "-m", "advnets", "train", "digits", "--out", tmp_path / "run", *QUICK],
        stderr=slave,
        stdout=subprocess.PIPE,
    )
    process.communicate(timeout=100)
    os.close(slave)
    shown = os.read(master, 100_000).decode()
    os.close(master)
    assert process.returncode == 0
    assert "pictures" in shown
    assert "D(x) 0." in shown
    assert "D(G(z)) 0." in shown


def test_a_dry_run_writes_nothing_and_says_what_it_would_take(said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = said("train", "digits", "--dry-run", *QUICK)
    assert code == 0
    assert list(tmp_path.iterdir()) == []
    assert "  preset: digits" in out
    assert "stage 1: parameters: generator 1,888, discriminator 2,969" in out
    assert "stage 1: 30 steps of " in out
    assert "time: about " in out
    assert "memory: about " in out
    assert out.endswith("nothing was written\n")


@pytest.mark.parametrize("name", ["samples.png", "samples.npz", "folder"])
def test_samples_go_where_the_name_says(said, trained, tmp_path, name):
    out = tmp_path / name
    code, printed, err = said("sample", trained, "--num", 7, "--seed", 1, "--out", out)
    assert code == 0, err
    assert printed == f"7 samples of step 30 (average weights): {out}\n"
    if name == "samples.png":
        with Image.open(out) as image:
            assert image.mode == "L"
    elif name == "samples.npz":
        images = np.load(out)["images"]
        assert images.shape == (7, 8, 8, 1)
        assert images.dtype == np.uint8
    else:
        assert len(list(out.glob("*.png"))) == 7


def test_the_first_samples_of_a_seed_do_not_depend_on_how_many(said, trained, tmp_path):
    for count in (5, 600):
        assert said("sample", trained, "--num", count, "--out", tmp_path / f"{count}.npz")[0] == 0
    few, many = (np.load(tmp_path / f"{count}.npz")["images"] for count in (5, 600))
    assert np.array_equal(few, many[:5])
    assert not np.array_equal(many[500:505], few)


def test_the_share_that_d_judges_most_real_is_sampled(said, trained, tmp_path):
    out = tmp_path / "best.npz"
    code, printed, err = said("sample", trained, "--num", 7, "--keep", ".5", "--out", out)
    assert code == 0, err
    assert printed == f"7 samples of step 30 (average weights, best 0.5 by D): {out}\n"
    assert np.load(out)["images"].shape == (7, 8, 8, 1)
    code, _, err = said("sample", trained, "--keep", "2", "--out", out)
    assert (code, err) == (2, "advnets: keep is 2.0; it must be from 0.002 to 1\n")


def test_the_last_weights_are_others_than_the_average(said, trained, tmp_path):
    for weights in ("average", "last"):
        out = tmp_path / f"{weights}.npz"
        assert said("sample", trained, "--weights", weights, "--out", out)[0] == 0
    a, b = (np.load(tmp_path / f"{w}.npz")["images"] for w in ("average", "last"))
    assert not np.array_equal(a, b)


def test_evaluate_puts_the_real_row_beside_the_score(said, trained):
    code, out, err = said("evaluate", trained, "--json")
    assert code == 0, err
    records = json.loads(out)
    assert [(r["samples"], r["grid"]) for r in records] == [
        ("generator", "paper"),
        ("real training pictures", "paper"),
        ("generator", "fine"),
        ("real training pictures", "fine"),
    ]
    assert {r["n_test"] for r in records} == {300}
    assert RunDirectory(trained).scores() == records
    code, out, _ = said("evaluate", trained)
    assert code == 0
    assert "real training pictures" in out
    assert "Theis et al. 2016" in out
    assert len(RunDirectory(trained).scores()) == 4  # the same again replaces, not adds
    assert "Theis" in (trained / "report.html").read_text("utf-8")


def test_evaluate_compares_features_beside_the_real_row(said, trained):
    """Three metrics of features; pixels are what looks at these digits, and the row says so."""
    code, out, err = said("evaluate", trained, "--metrics", "frechet", "prdc", "neighbour")
    assert code == 0, err
    assert "pixels, 10,000 on 300" in out
    records = RunDirectory(trained).scores()
    by_row = {(r["metric"], r["samples"]): r for r in records if r["metric"] != "parzen"}
    assert len(by_row) == 6
    for (_, row), record in by_row.items():
        assert record["extractor"] == "pixels"
        assert record["extractor_sha256"] is None
        assert (record["weights"] is None) == (row == "real training pictures")
    # Hardly trained: real pictures are nearer to real pictures, in every measure.
    distance = {row: r["value"] for (metric, row), r in by_row.items() if metric == "frechet"}
    assert distance["real training pictures"] < distance["generator"]
    recall = {row: r["recall"] for (metric, row), r in by_row.items() if metric == "prdc"}
    assert recall["real training pictures"] > recall["generator"]
    told = {row: r["accuracy"] for (metric, row), r in by_row.items() if metric == "neighbour"}
    assert told["real training pictures"] < told["generator"] - 0.1
    report = (trained / "report.html").read_text("utf-8")
    assert "Features of samples against features of test pictures" in report
    assert "Fréchet distance" in report


def test_evaluate_tells_copies_and_two_more_distances(said, trained):
    code, out, err = said("evaluate", trained, "--metrics", "kernel", "sliced", "memorisation")
    assert code == 0, err
    lines = [line for line in out.splitlines() if line.startswith("generator")]
    for n, line in zip(("300 ", "300 ", "1,197, 300 tests"), lines, strict=True):
        assert f"pixels, 10,000 on {n}" in line
    assert "subsets of 300" in lines[0]
    assert "over 1,000 directions" in lines[1]
    assert "lie on a training picture" in lines[2]
    kept = {record["metric"] for record in RunDirectory(trained).scores()}
    assert {"kernel", "sliced", "memorisation"} <= kept
    report = (trained / "report.html").read_text("utf-8")
    assert "lie on a training picture" in report


def test_an_extractor_that_does_not_know_such_pictures_is_refused(said, trained):
    code, _, err = said("evaluate", trained, "--metrics", "frechet", "--extractor", "digits")
    assert code == 1
    assert err.startswith("advnets: pictures of shape (1, 8, 8) came; extractor 'digits' knows")


def test_a_fully_connected_d_is_no_extractor(said, trained):
    code, _, err = said("evaluate", trained, "--metrics", "frechet", "--extractor", "discriminator")
    assert code == 2
    assert err.startswith("advnets: features of D were asked for, which a discriminator with conv")


def test_a_run_can_be_scored_while_it_trains(said, trained):
    with RunDirectory(trained).held():
        assert said("evaluate", trained, "--seed", "4")[0] == 0
    assert {record["seed"] for record in RunDirectory(trained).scores()} == {0, 4}


def test_a_file_is_no_run_directory(said, tmp_path):
    (tmp_path / "file").touch()
    code, _, err = said("train", "digits", "--out", tmp_path / "file")
    assert code == 1
    assert err == (
        f"advnets: {tmp_path / 'file'} cannot be made a run directory (File exists); "
        "give another --out\n"
    )


def test_the_python_face_does_the_same(trained):
    loaded = advnets.load(trained)
    pictures = loaded.sample(3, seed=5)
    assert pictures.shape == (3, 1, 8, 8)
    assert pictures.min() >= 0
    assert pictures.max() <= 1
    assert loaded.step == 30


def test_training_from_python(tmp_path):
    run = advnets.train("digits", out=tmp_path / "run", steps=2, seed=3)
    assert run.config.seed == 3
    assert run.step == 2
    more = advnets.train(out=tmp_path / "run", steps=4, resume=True)
    assert more.step == 4
    assert more.config.seed == 3


def test_a_folder_of_pictures_in_place_of_the_preset(said, tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(60):
        size = rng.integers(20, 60, 2)
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    (folder / "broken.png").write_text("no picture")
    code, _, err = said("train", folder, "--out", tmp_path / "run", "--size", "12", *QUICK)
    assert code == 0, err
    assert "1 file was left out: broken.png (" in err
    record = RunDirectory(tmp_path / "run").read_config()
    assert record["config"]["data"]["source"] == str(folder)
    assert record["data"]["shape"] == [3, 12, 12]
    assert said("sample", tmp_path / "run", "--out", tmp_path / "s.png")[0] == 0


ERRORS = [
    (
        ("train", "digts"),
        "advnets: no preset, data set, file or folder is called 'digts'; "
        "did you mean digits or points?\n",
    ),
    (
        ("train", "digits", "--data", "mnits"),
        "did you mean mnist",
    ),
    (
        ("train", "digits", "--device", "abacus"),
        "advnets: device 'abacus' is none that torch knows; give auto, cpu, cuda, cuda:N or mps\n",
    ),
    (
        ("train", "--seed", "3", "paper-mnist"),
        "advnets: PRESET 'paper-mnist' came after a flag; it must come first: "
        "advnets train paper-mnist [--flags]\n",
    ),
    (
        ("train", "digits", "--generator.activations", "relu"),
        "advnets: activations has 1 values for 2 hidden layers; give one for each layer\n",
    ),
    (
        ("train", "digits", "--batch-size", "0"),
        "advnets: batch_size is 0; it must be at least 1\n",
    ),
    (
        ("train", "digits", "--steps", "-5"),
        "advnets: steps is -5; it must be at least 1\n",
    ),
    (
        ("train", "digits", "--game.k", "0"),
        "advnets: k is 0; it must be at least 1\n",
    ),
    (
        ("train", "digits", "--discriminator.keep-input", "0"),
        "advnets: keep_input is 0.0; it must be above 0 and at most 1\n",
    ),
    (
        ("train", "digits", "--ticks.log", "-1"),
        "advnets: log is -1; it must be at least 0\n",
    ),
]


@pytest.mark.parametrize(("arguments", "expected"), ERRORS, ids=lambda x: " ".join(x)[:60])
def test_a_mistake_is_one_sentence(said, tmp_path, monkeypatch, arguments, expected):
    monkeypatch.chdir(tmp_path)
    code, out, err = said(*arguments)
    assert code == 2
    assert out == ""
    assert expected in err
    assert "Traceback" not in err
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").rglob("config.json"))


def test_data_that_is_not_here_is_named_with_its_cure(said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = said("train", "paper-mnist", "--data-dir", tmp_path)
    assert code == 1
    assert err.startswith("advnets: no train-images-idx3-ubyte")
    assert err.endswith("to bring MNIST, type: advnets data fetch mnist\n")


def test_an_unknown_flag_is_told_its_nearest(said):
    code, _, err = said("train", "digits", "--game.objectve", "minimax")
    assert code == 2
    assert "--game.objective" in err


def test_a_begun_run_is_not_overwritten(said, trained):
    before = (trained / "config.json").read_bytes()
    code, _, err = said("train", "digits", "--out", trained)
    assert code == 1
    assert err == (
        f"advnets: {trained} holds a run already; add --resume to go on, or give another --out\n"
    )
    assert (trained / "config.json").read_bytes() == before


def test_another_config_on_resume_is_refused_by_field(said, trained):
    code, _, err = said(
        "train", "--resume", "--out", trained, "--seed", "9", "--generator-optimizer.lr", "1"
    )
    assert code == 1
    assert "was begun with another config (stored, asked): " in err
    assert "stages.0.generator_optimizer.lr: 0.001, 1.0" in err
    assert "seed: 0, 9" in err


def test_another_preset_on_resume_is_refused(said, trained):
    code, _, err = said("train", "paper-mnist", "--resume", "--out", trained)
    assert code == 2
    assert (
        err == f"advnets: {trained} was begun with preset digits, not paper-mnist; leave it out\n"
    )


def test_fewer_steps_than_were_played_are_refused(said, trained):
    before = (trained / "config.json").read_bytes()
    code, _, err = said("train", "--resume", "--out", trained, "--steps", "20")
    assert code == 2
    assert err == (
        f"advnets: {trained} has played 30 steps already and 20 were asked for; ask for more\n"
    )
    assert (trained / "config.json").read_bytes() == before


def test_nothing_to_resume(said, tmp_path):
    code, _, err = said("train", "--resume", "--out", tmp_path)
    assert code == 1
    assert "holds no run (no config.json)" in err


def test_a_truncated_checkpoint_is_named_and_the_one_before_serves(said, tmp_path):
    run = tmp_path / "run"
    assert said("train", "digits", "--out", run, *QUICK)[0] == 0
    whole = RunDirectory(run).newest_checkpoint()
    end = whole.read_bytes()
    whole.write_bytes(end[: len(end) // 2])
    code, _, err = said("train", "--resume", "--out", run)
    assert code == 1
    assert f"{whole} is truncated or no checkpoint" in err
    whole.unlink()
    assert said("train", "--resume", "--out", run)[0] == 0
    assert whole.read_bytes() == end


def test_changed_data_is_refused_on_resume(said, tmp_path):
    run = tmp_path / "run"
    assert said("train", "digits", "--out", run, *QUICK)[0] == 0
    record = json.loads((run / "config.json").read_text())
    record["data"]["digest"] = "0" * 32
    (run / "config.json").write_text(json.dumps(record))
    code, _, err = said("train", "--resume", "--out", run)
    assert code == 1
    assert "has changed since the run began (digits: digest 000000000000 then, " in err


def test_more_steps_go_on_from_where_a_run_ended(said, tmp_path):
    """And end with the bytes of a run that was as long from the start."""
    short, long = tmp_path / "short", tmp_path / "long"
    assert said("train", "digits", "--out", short, *QUICK)[0] == 0
    assert said("train", "--resume", "--out", short, "--steps", "50")[0] == 0
    assert said("train", "digits", "--out", long, *QUICK, "--steps", "50")[0] == 0
    ends = [RunDirectory(run).newest_checkpoint().read_bytes() for run in (short, long)]
    assert ends[0] == ends[1]


def test_more_epochs_are_counted_out_again(said, tmp_path):
    """1,197 pictures in batches of 100: two epochs are 24 steps, three are 36."""
    run, flags = tmp_path / "run", QUICK[2:]
    assert said("train", "digits", "--out", run, *flags, "--epochs", "2")[0] == 0
    assert said("train", "--resume", "--out", run, "--epochs", "3")[0] == 0
    events = RunDirectory(run).events()
    assert [e["step"] for e in events if e["kind"] == "end"] == [24, 36]


def test_what_is_not_finite_rolls_back_and_ends_with_advice(said, tmp_path):
    code, _, err = said(
        *("train", "digits", "--out", tmp_path / "run", *QUICK, "--generator-optimizer.lr", "1e38")
    )
    assert code == 1
    assert err.count("numbers that are not finite were met by step") == 3
    assert "returned to step 0, going on with other noise (try 2)" in err
    assert "begin a new run with a lower learning rate or smaller initial weights" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--num", "0", "--out", "x.png"), "0 samples were asked for; ask for at least 1"),
        (("--out", "x.jpg"), "x.jpg ends in .jpg; give a name in .png, .npz, or of a folder"),
    ],
)
def test_samples_that_cannot_be(said, trained, tmp_path, monkeypatch, arguments, expected):
    monkeypatch.chdir(tmp_path)
    code, _, err = said("sample", trained, *arguments)
    assert code == 2
    assert err == f"advnets: {expected}\n"


def test_an_unknown_metric_is_told_what_is_known(said, trained):
    code, _, err = said("evaluate", trained, "--metrics", "parzn")
    assert code == 2
    assert err == "advnets: no metric is called 'parzn'; did you mean parzen?\n"


def test_a_fault_of_ours_is_one_line_and_a_traceback_with_debug(said, monkeypatch):
    def fall(self):
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("advnets.commands.Presets.execute", fall)
    code, _, err = said("presets")
    assert code == 70
    assert err.startswith("advnets: unexpected ZeroDivisionError: oh; this is a fault of advnets")
    with pytest.raises(ZeroDivisionError):
        cli.main(["presets", "--debug"])


def test_every_flag_has_help_and_a_default(said, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = said("train", "paper-cifar-conv", "--help")
    assert code == 0
    flags = len(re.findall(r"^\W*--[a-z]", out, re.MULTILINE))
    assert flags > 40
    assert out.count("(default:") >= flags


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_shells_can_complete(said, shell):
    code, out, _ = said("--tyro-print-completion", shell)
    assert code == 0
    assert "advnets" in out
    assert "--generator.hidden" in out


def test_points_from_the_command_line(said, tmp_path, monkeypatch):
    """A distribution is checked, trained on, sampled from and scored by the same commands."""
    monkeypatch.chdir(tmp_path)
    code, out, _ = said("data", "check", "grid:side=3,n=2000")
    assert code == 0
    assert out.splitlines()[:2] == [
        "grid: points of a plane: 2,000 training, 10,000 validation, 10,000 test",
        "  modes       9",
    ]
    found = float(out.split("exact: ")[1].split()[0])
    assert found == pytest.approx(-math.log(9 * 2 * math.pi * math.e * 0.05**2), abs=0.03)
    code, out, _ = said("data", "check", "gaussian", "--json")
    facts = json.loads(out)
    assert facts["log_density_of_test"] == pytest.approx(-1.4189, abs=0.03)  # -log sqrt(2 pi e)
    code, out, err = said("train", "ring:n=1000", "--steps", "20")
    assert code == 0, err
    assert (tmp_path / "runs/ring/samples/step-00000020.png").exists()
    code, out, _ = said("sample", "runs/ring", "--num", "50", "--out", "points.npz")
    assert code == 0
    assert np.load("points.npz")["points"].shape == (50, 2)
    assert said("sample", "runs/ring", "--num", "50", "--out", "points.png")[0] == 0
    code, out, _ = said("evaluate", "runs/ring", "--metrics", "points")
    assert code == 0
    assert "8 of 8 modes, 9" in out
    assert said("evaluate", "runs/ring")[0] == 0
    code, _, err = said("sample", "runs/ring", "--out", "folder")
    assert (code, err) == (2, "advnets: folder is to hold points; give a name in .png or .npz\n")
    code, _, err = said("sample", "runs/ring", "--out", "a.png", "--columns", "3")
    assert (code, err.partition(";")[0]) == (
        2,
        "advnets: --columns is for a grid of pictures, but the run is of points",
    )
    code, _, err = said("train", "digits", "--data", "ring", "--out", "runs/no")
    assert (code, err) == (
        2,
        "advnets: the data is points, but scaling is unit; say --scaling none or standard, or "
        "begin with the preset points\n",
    )


def test_a_line_says_what_it_would_train():
    config = cli.config_of("advnets train modern-ring --steps 7 --seed 3")
    assert (config.preset, config.stage.steps, config.seed) == ("modern-ring", 7, 3)


def test_a_line_of_another_command_trains_nothing():
    with pytest.raises(advnets.errors.UsageError, match="give a command advnets train"):
        cli.config_of("advnets presets")
