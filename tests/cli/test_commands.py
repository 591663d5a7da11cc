"""What every command has in common: its words, its help, its mistakes in one sentence."""

from __future__ import annotations

import itertools
import json
import math
import re

import numpy as np
import pytest

import advnets
from advnets.cli.main import config_of, main


def test_presets_are_listed(said):
    """The whole output: a new preset is a line here."""
    listed = {
        "digits": "The 2014 pair, small, on scikit-learn's 8x8 digits; minutes, offline.",
        "points": "The 2014 pair, small, on points of a line or plane; a minute, offline.",
        "mlp": "Fully connected nets with batch norm, as in tutorials, on MNIST.",
        "mnist-relativistic": "The 2014 MNIST nets trained our way: pairs, slope penalties, Adam.",
        "paper-mnist": "The 2014 MNIST experiment, its authors' configuration; a weight average.",
        "paper-tfd": "The 2014 Toronto Face Database experiment, its two stages of training.",
        "paper-cifar": "The 2014 CIFAR-10 experiment, fully connected.",
        "paper-cifar-conv": "The 2014 CIFAR-10 experiment, convolutional D, deconvolutional G.",
        "dcgan": "DCGAN for images of your own (--data PATH), 64x64 unless --size.",
        "dcgan-faces": "DCGAN for faces of your own (--data PATH), 64x64, mirrored.",
        "dcgan-mnist": "DCGAN on MNIST.",
        "dcgan-mnist-conditional": "DCGAN on MNIST, told which digit: the paper's own net.",
        "dcgan-cifar": "DCGAN on CIFAR-10.",
        "dcgan-tutorial": "DCGAN as tutorials have it: half as wide, kernels of 4.",
        "conditional-mnist": "MNIST, told which digit: p(x | c) by fully connected nets.",
        "inference-mnist": "MNIST, and z from x: an encoder on G's side.",
        "latent-regression-mnist": "z from x for a trained G (--game.generator-run RUN).",
        "inpainting-mnist": "MNIST, any part of a digit given the rest.",
        "semi-supervised-mnist": "MNIST with 100 labels: D tells ten digits and generated.",
        "semi-supervised-mnist-large": "The same by a larger D and batches of 1,024; for a GPU.",
        "semi-supervised-mnist-2016": "By fully connected nets, nearly as published in 2016 (docs/guide.md).",
        "supervised-mnist": "semi-supervised-mnist's D by the 100 labels alone.",
        "mnist-ttur": "mlp's nets in turns, D at four times G's rate: good soonest.",
        "vae-mnist": "The variational autoencoder on MNIST, with paper-mnist's decoder.",
        "modern": "Your images (--data PATH), 64x64: pairs, slopes, schedules, no norms.",
        "modern-mnist": "MNIST by the same recipe.",
        "projection-mnist": "MNIST, told which digit: D is told at its last maps.",
        "modern-stacked": "Stacked MNIST, 1,000 modes, by the same; an hour and a half.",
        "modern-cifar": "CIFAR-10 by the same recipe, with residual nets; for a GPU.",
        "modern-residual": "The same with residual nets (--data PATH or cifar10); for a GPU.",
        "modern-ring": "The recipe on a ring of 8 modes, tuned to that fineness (docs/results).",
        "modern-grid": "The same on a grid of 25 modes.",
    }
    told = "".join(f"{name.ljust(23)}  {about}\n" for name, about in listed.items())
    assert said("presets") == (0, told, "")


def test_the_version_is_the_packages(said):
    assert said("--version") == (0, f"advnets {advnets.__version__}\n", "")


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
        "advnets: torch knows no device 'abacus'; give auto, cpu, cuda, cuda:N or mps\n",
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
        ("train", "digits", "--discriminator.dropout-input", "1"),
        "advnets: dropout_input is 1.0; it must be at least 0 and less than 1\n",
    ),
    (
        ("train", "digits", "--log-every", "-1"),
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
    assert not list(tmp_path.iterdir())


def test_data_that_is_not_here_is_named_with_its_cure(said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = said("train", "paper-mnist", "--data-dir", tmp_path)
    assert code == 1
    assert err.startswith("advnets: no train-images-idx3-ubyte")
    cure = f"advnets data fetch mnist --data-dir {tmp_path}"
    assert err.endswith(f"to bring MNIST, type: {cure}\n")


def test_an_unknown_flag_is_told_its_nearest(said):
    code, _, err = said("train", "digits", "--game.objectve", "minimax")
    assert code == 2
    assert "--game.objective" in err


def test_a_fault_of_ours_is_one_line_and_a_traceback_with_debug(said, monkeypatch):
    def fall(self):
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("advnets.cli.commands.Presets.execute", fall)
    code, _, err = said("presets")
    assert code == 70
    assert err.startswith("advnets: unexpected ZeroDivisionError: oh; this is a fault of advnets")
    with pytest.raises(ZeroDivisionError):
        main(["presets", "--debug"])


def test_every_flag_has_help_and_a_default(said, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = said("train", "paper-cifar-conv", "--help")
    assert code == 0
    flags = len(re.findall(r"^\W*--[a-z]", out, re.MULTILINE))
    assert flags > 40
    assert out.count("(default:") >= flags


@pytest.mark.parametrize(
    "command",
    [
        ["train", "modern"],
        ["train", "semi-supervised-mnist"],
        ["train", "paper-mnist"],
        ["sample"],
        ["evaluate"],
        ["compare"],
        ["data", "audit"],
        ["paper"],
        ["bench"],
        *(
            ["visualize", view]
            for view in ("interpolation", "arithmetic", "neighbors", "window-dropout")
        ),
    ],
    ids=" ".join,
)
def test_help_breaks_lines_where_they_are_full(said, monkeypatch, command):
    """No line ends where the next word has room, but at the end of a sentence."""
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = said(*command, "--help")
    assert code == 0
    lines = [line.strip("│")[:78] for line in out.splitlines() if len(line) == 80]
    early, goes_on = [], 0
    for here, after in itertools.pairwise(lines):
        words = after.split()
        column = len(after) - len(after.lstrip())
        # Of one text: it begins in the same column, in a line of its own or beside its flag.
        if not words or column < 6 or not re.match(r"  \S", here[column - 2 :]):
            continue
        goes_on += 1
        room = len(here) - len(here.rstrip())
        if room > len(words[0]) + 2 and not here.rstrip().endswith((".", "?")):
            early.append((here.strip(), after.strip()))
    assert goes_on
    assert not early


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_shells_can_complete(said, shell):
    code, out, _ = said("--tyro-print-completion", shell)
    assert code == 0
    assert "advnets" in out
    assert "--generator.hidden-sizes" in out


def test_points_from_the_command_line(said, tmp_path, monkeypatch):
    """A distribution is checked, trained on, sampled from and scored by the same commands."""
    monkeypatch.chdir(tmp_path)
    code, out, _ = said("data", "audit", "grid:side=3,n=2000")
    assert code == 0
    assert out.splitlines()[:2] == [
        "grid: points of a plane: 2,000 training, 10,000 validation, 10,000 test",
        "  modes       9",
    ]
    found = float(out.split("exact: ")[1].split()[0])
    assert found == pytest.approx(-math.log(9 * 2 * math.pi * math.e * 0.05**2), abs=0.03)
    code, out, _ = said("data", "audit", "gaussian", "--json")
    facts = json.loads(out)
    assert facts["test_log_density"] == pytest.approx(-1.4189, abs=0.03)  # -log sqrt(2 pi e)
    code, out, err = said("train", "ring:n=1000", "--steps", "20")
    assert code == 0, err
    assert (tmp_path / "runs/ring/samples/step-00000020.png").exists()
    code, out, _ = said("sample", "runs/ring", "--num-samples", "50", "--out", "points.npz")
    assert code == 0
    assert np.load("points.npz")["points"].shape == (50, 2)
    assert said("sample", "runs/ring", "--num-samples", "50", "--out", "points.png")[0] == 0
    code, out, _ = said("evaluate", "runs/ring", "--metrics", "points")
    assert code == 0
    assert "8 of 8 modes, 9" in out
    assert said("evaluate", "runs/ring")[0] == 0
    code, _, err = said("sample", "runs/ring", "--out", "folder")
    assert (code, err) == (2, "advnets: folder is to hold points; give a name in .png or .npz\n")
    code, _, err = said("sample", "runs/ring", "--out", "a.png", "--columns", "3")
    assert (code, err.partition(";")[0]) == (
        2,
        "advnets: --columns is for a grid of images, but the run is of points",
    )
    code, _, err = said("train", "digits", "--data", "ring", "--out", "runs/no")
    assert (code, err) == (
        2,
        "advnets: the data is points, but scaling is unit; say --normalize none or standard, or "
        "begin with the preset points\n",
    )


def test_a_line_says_what_it_would_train():
    config = config_of("advnets train modern-ring --steps 7 --seed 3")
    assert (config.preset, config.stage.steps, config.seed) == ("modern-ring", 7, 3)


def test_a_line_of_another_command_trains_nothing():
    with pytest.raises(advnets.errors.UsageError, match="give a command advnets train"):
        config_of("advnets presets")


def test_epochs_count_though_the_preset_is_so_many_steps_long():
    """Unless steps are asked for too."""
    for epochs in (3, 100):  # what is the default elsewhere too
        stage = config_of(f"advnets train modern-ring --epochs {epochs}").stage
        assert (stage.epochs, stage.steps) == (epochs, None)
    stage = config_of("advnets train digits --steps 7").stage
    assert (stage.epochs, stage.steps) == (None, 7)
    with pytest.raises(advnets.errors.UsageError, match="epochs 3 and steps 7 came"):
        config_of("advnets train modern-ring --epochs 3 --steps 7")


def test_a_training_of_no_length_is_refused(said):
    code, _, err = said("train", "modern-ring", "--steps", "None", "--dry-run")
    assert code == 2
    assert err == "advnets: epochs and steps are both None; say how long: --epochs or --steps\n"


@pytest.mark.parametrize("preset", ["dcgan", "modern", "modern-residual"])
def test_a_preset_for_any_folder_is_as_long_for_a_small_one(preset):
    assert config_of(f"advnets train {preset} --data images").stage.steps == 10_000
