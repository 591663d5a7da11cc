"""All commands have help, examples, and errors about their arguments."""

import itertools
import json
import math
import re
import shlex

import numpy as np
import pytest

import advnets
from advnets.cli.arguments import config_of, parse, starting_point
from advnets.cli.commands import COMMANDS, Train
from advnets.cli.help import EXAMPLES, GROUPS, MAIN_OPTIONS
from advnets.cli.main import main
from advnets.visualize import view_classes


def test_presets_are_listed(run_command):
    """The whole output is compared: a new preset adds a line here."""
    listed = {
        "digits": "The GAN of 2014, small, on scikit-learn's 8x8 digits; minutes, offline.",
        "points": "The GAN of 2014, small, on points of a line or plane; a minute, offline.",
        "mlp": "Fully connected GAN with batch normalization, as in tutorials, on MNIST.",
        "mnist-relativistic": "The MNIST GAN of 2014 with a relativistic loss, R1, R2 and Adam.",
        "paper-mnist": "MNIST experiment of 2014 in the authors' configuration, with EMA.",
        "paper-tfd": "Toronto Face Database experiment of 2014, in two stages.",
        "paper-cifar": "CIFAR-10 experiment of 2014 with fully connected models.",
        "paper-cifar-conv": "CIFAR-10 experiment of 2014 with convolutional models.",
        "dcgan": "DCGAN on your own images (--data PATH), 64x64 unless --size is given.",
        "dcgan-faces": "DCGAN on your own images of faces (--data PATH), 64x64, with flips.",
        "dcgan-mnist": "DCGAN on MNIST.",
        "dcgan-mnist-conditional": "Class-conditional DCGAN on MNIST, with the paper's own models.",
        "dcgan-cifar": "DCGAN on CIFAR-10.",
        "dcgan-tutorial": "DCGAN as in tutorials (--data PATH): half the channels, 4x4 kernels.",
        "conditional-mnist": "Class-conditional fully connected GAN on MNIST.",
        "inference-mnist": "ALI on MNIST: an encoder is trained with the GAN.",
        "latent-regression-mnist": "An encoder for a trained generator (--game.generator-run RUN).",
        "inpainting-mnist": "Inpainting GAN on MNIST: generates any part of a digit from the rest.",
        "semi-supervised-mnist": "Semi-supervised classifier as D, on MNIST with 100 labels.",
        "semi-supervised-mnist-large": (
            "semi-supervised-mnist with a larger D and batches of 1,024; for a GPU."
        ),
        "semi-supervised-mnist-2016": "The fully connected models of Salimans et al. 2016.",
        "supervised-mnist": "Baseline of semi-supervised-mnist: its D on the 100 labels alone.",
        "mnist-ttur": "The models of mlp with D's learning rate four times G's (TTUR); fast.",
        "vae-mnist": "Variational autoencoder on MNIST, with the generator of paper-mnist.",
        "modern": "R3GAN recipe on your own images (--data PATH), 64x64 unless --size is given.",
        "modern-mnist": "R3GAN recipe on MNIST, with DCGAN models without normalization.",
        "projection-mnist": "Class-conditional R3GAN on MNIST, with a projection discriminator.",
        "modern-stacked": "R3GAN recipe on Stacked MNIST (1,000 modes); takes an hour and a half.",
        "modern-cifar": "R3GAN recipe on CIFAR-10, with residual models; for a GPU.",
        "modern-residual": "R3GAN recipe on your own images, with residual models; for a GPU.",
        "modern-ring": "R3GAN recipe on a ring of 8 modes, tuned to their width (docs/results).",
        "modern-grid": "R3GAN recipe on a grid of 25 modes, tuned to their width.",
    }
    expected = "".join(f"{name.ljust(27)}  {description}\n" for name, description in listed.items())
    assert run_command("presets") == (0, expected, "")


def test_version_is_that_of_the_package(run_command):
    assert run_command("--version") == (0, f"advnets {advnets.__version__}\n", "")


ERRORS = [
    (
        ("train", "digts"),
        "advnets: no preset, dataset, file or folder is called 'digts'; did you mean digits?\n",
    ),
    (("train", "digits", "--data", "mnits"), "did you mean mnist"),
    (
        ("train", "digits", "--device", "abacus"),
        "advnets: torch has no device 'abacus'; give auto, cpu, cuda, cuda:N or mps\n",
    ),
    (
        ("train", "--seed", "3", "paper-mnist"),
        "advnets: PRESET 'paper-mnist' came after an option; it must come first: "
        "advnets train paper-mnist [options]\n",
    ),
    (
        ("train", "digits", "--generator.activations", "relu"),
        "advnets: --generator.activations has 1 values and --generator.hidden-sizes has 2; give "
        "one of each for every hidden layer\n",
    ),
    (
        ("train", "digits", "--batch-size", "0"),
        "advnets: --batch-size is 0; it must be at least 1\n",
    ),
    (("train", "digits", "--steps", "-5"), "advnets: --steps is -5; it must be at least 1\n"),
    (("train", "digits", "--game.k", "0"), "advnets: --game.k is 0; it must be at least 1\n"),
    (
        ("train", "digits", "--discriminator.dropout-input", "1"),
        "advnets: --discriminator.dropout-input is 1.0; it must be at least 0 and less than 1\n",
    ),
    (
        ("train", "digits", "--log-every", "-1"),
        "advnets: --log-every is -1; it must be at least 0\n",
    ),
    (("train", "digits", "--lr", "-1"), "advnets: --lr is -1.0; it must be at least 0\n"),
    (
        ("train", "digits", "--discriminator-optimizer.lr", "-1"),
        "advnets: --discriminator-optimizer.lr is -1.0; it must be at least 0\n",
    ),
    (
        ("train", "digits", "--game.pac", "3"),
        "advnets: --game.pac is 3 and does not divide --batch-size 100; set --batch-size to 102\n",
    ),
    (
        ("train", "digits", "--compile", "--cuda-graph", "--dry-run"),
        "advnets: --compile and --cuda-graph are both set; give one of them\n",
    ),
    (
        ("train", "ring:seed=-1"),  # not the option --seed
        "advnets: seed is -1; it must be at least 0\n",
    ),
    (
        ("train", "digits", "--size", "1", "--dry-run"),
        "advnets: --size applies to your own images, and digits is a dataset of fixed size; leave "
        "--size out\n",
    ),
    (
        ("train", "modern", "--data", "ring", "--crop=pad"),
        "advnets: --crop applies to your own images, and ring is a dataset of fixed size; leave "
        "--crop out\n",
    ),
    (
        ("train", "nosuchfolder/"),
        "advnets: no preset, dataset, file or folder is called 'nosuchfolder/'; `advnets presets` "
        "and `advnets data list` list the names\n",
    ),
    (
        ("train", "digits", "--data", "nosuchfolder/"),
        "advnets: no dataset, folder or file is called 'nosuchfolder/'; `advnets data list` lists "
        "the datasets\n",
    ),
    (("presets", "xyz"), "advnets: no preset is called 'xyz'; `advnets presets` lists them\n"),
]


@pytest.mark.parametrize(("arguments", "expected"), ERRORS, ids=lambda x: " ".join(x)[:60])
def test_a_usage_error_is_one_sentence(run_command, tmp_path, monkeypatch, arguments, expected):
    monkeypatch.chdir(tmp_path)
    code, out, err = run_command(*arguments)
    assert code == 2
    assert out == ""
    assert expected in err
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())


def test_missing_data_is_named_with_the_command_that_downloads_it(
    run_command, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    code, _, err = run_command("train", "paper-mnist", "--data-dir", tmp_path)
    assert code == 1
    assert err.startswith("advnets: MNIST (train-images-idx3-ubyte, ")
    command = f"advnets data fetch mnist --data-dir {tmp_path}"
    assert err.endswith(f"download it with: {command}\n")


TYPOS = [
    (("trian", "digits"), "no command is called 'trian'; did you mean train?"),
    (("--verson",), "no option is called '--verson'; did you mean --version?"),
    (
        ("train", "photos"),  # not points
        "no preset, dataset, file or folder is called 'photos'; `advnets presets` and `advnets "
        "data list` list the names",
    ),
    (("train", "mlpp"), "no preset, dataset, file or folder is called 'mlpp'; did you mean mlp?"),
    (
        ("train", "digits", "--game.objectve", "minimax"),
        "advnets train has no option --game.objectve; did you mean --game.objective?",
    ),
    (
        ("train", "digits", "--batch_sise=3"),
        "advnets train has no option --batch_sise; did you mean --batch-size?",
    ),
    (
        ("train", "digits", "--hidden-sizes", "3"),
        "advnets train has no option --hidden-sizes; did you mean --generator.hidden-sizes or "
        "--discriminator.hidden-sizes?",
    ),
    (
        ("train", "digits", "--quux"),
        "advnets train has no option --quux; `advnets train --help-all` lists the options",
    ),
    (
        ("sample", "run", "--num-sample", "3"),
        "advnets sample has no option --num-sample; did you mean --num-samples?",
    ),
    (
        ("train", "digits", "--crop", "cnter"),
        "--crop is 'cnter'; it must be one of center, pad, random",
    ),
    *(
        (("train", "digits", typed, "3"), f"train has no option {typed}; did you mean {flag}?")
        for typed, flag in {
            "--learning-rate": "--lr",
            "--learning_rate": "--lr",
            "--epoch": "--epochs",
            "--batch": "--batch-size",
            "--iterations": "--steps",
            "--nz": "--generator.latent-dim",
            "--ema": "--ema-half-life or --ema-rampup",
            "--loss": "--game.objective",
        }.items()
    ),
    *(
        (
            ("train", "digits", "--game.objective", typed),
            f"--game.objective is {typed!r}; it must be one of non-saturating, minimax, hinge, "
            f"least-squares, wasserstein; did you mean {objective}?",
        )
        for typed, objective in {
            "wgan": "wasserstein",
            "lsgan": "least-squares",
            "hinge-gan": "hinge",
        }.items()
    ),
    (("train", "digits", "--steps", "abc"), "--steps is 'abc'; it must be an integer"),
    (("train", "digits", "--help", "gaem"), "no group of options is called 'gaem'; did you mean"),
    (("data", "audt"), "no subcommand of advnets data is called 'audt'; did you mean audit?"),
    (("data",), "advnets data needs a subcommand; give one of fetch, list, audit, pack"),
    (("visualize", "run", "neighbours"), "'neighbours'; did you mean neighbors?"),
    (
        ("visualize", "run", "xyz"),
        "no view is called 'xyz'; known: activations, arithmetic, guided-backprop, inpainting, "
        "interpolation, neighbors, reconstructions, samples, slerp-grid, timelapse, window-dropout"
        "\n",
    ),
    (("data", "xyz"), "advnets data is called 'xyz'; known: audit, fetch, list, pack\n"),
    (("data", "fetch", "digits"), "digits needs no download; give it to --data as it is"),
    (("evaluate",), "RUN is missing; see `advnets evaluate --help`"),
    (("evaluate", "run", "other"), "advnets evaluate takes no further argument, got 'other'"),
    (("sample", "run", "--num", "3"), "sample has no option --num; did you mean --num-samples?"),
    (
        ("paper", "--full", "--cifar", "xyz"),  # before any training
        "no dataset, folder or file is called 'xyz'; `advnets data list` lists the datasets",
    ),
    (("data", "audit", "digits", "--white-level", "-3"), "--white-level is -3.0; it must be posi"),
    (("presets", "-s", "3"), "presets has no option -s; `advnets presets --help` lists them"),
    (("evaluate", "run", "--step", "x"), "--step is 'x'; it must be an integer or best"),
    (("sweep", "digits", "--metrics"), "--metrics has no value; give at least one metric"),
    (("train", "x.yaml"), "x.yaml does not exist; give a file of options, or a preset"),
    (("sample", "run", "--out"), "--out has no value; give one after it"),
]


@pytest.mark.parametrize(("arguments", "expected"), TYPOS, ids=lambda x: " ".join(x)[:60])
def test_a_typo_is_answered_with_the_nearest_name_of_its_kind(run_command, arguments, expected):
    code, out, err = run_command(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("advnets: ")
    assert expected in err
    assert len(err.splitlines()) == 1


def test_lr_sets_the_learning_rate_of_both_players(run_command):
    stage = config_of("advnets train digits --lr 0.01").stage
    assert (stage.generator_optimizer.lr, stage.discriminator_optimizer.lr) == (0.01, 0.01)
    code, _, err = run_command("train", "digits", "--lr", "1", "--generator-optimizer.lr=2")
    assert (code, err) == (
        2,
        "advnets: --lr and --generator-optimizer.lr were both given; give --lr alone, or one per "
        "player\n",
    )


def test_an_internal_error_is_one_line_and_a_traceback_with_debug(run_command, monkeypatch):
    def fall(self):
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("advnets.cli.commands.Presets.execute", fall)
    code, _, err = run_command("presets")
    assert code == 70
    assert err.startswith("advnets: unexpected ZeroDivisionError: oh; this is a bug of advnets")
    with pytest.raises(ZeroDivisionError):
        main(["presets", "--debug"])


def test_help_of_train_is_one_page(run_command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for preset in ([], ["semi-supervised-mnist"], ["paper-mnist"]):
        code, out, _ = run_command("train", *preset, "--help")
        assert code == 0
        assert len(out.splitlines()) <= 60
        assert max(map(len, out.splitlines())) <= 80
        for flag in (*MAIN_OPTIONS, "--help-all"):
            assert flag in out
        for group in GROUPS:
            assert re.search(rf"^  {group} ", out, re.MULTILINE)


def test_every_option_of_train_is_in_one_group_of_help(run_command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    full_help = run_command("train", "paper-cifar-conv", "--help-all")[1]
    flags = re.findall(r"^  --([\w.-]+)", full_help, re.MULTILINE)
    grouped = [
        flag
        for group in GROUPS
        for flag in re.findall(
            r"^  --([\w.-]+)",
            run_command("train", "paper-cifar-conv", "--help", group)[1],
            re.MULTILINE,
        )
    ]
    shared_flags = ["out", "lr", "seed", "resume", "dry-run", "track", "trust-code"]
    shared_flags += ["branch", "step", "verbose"]
    assert sorted([*grouped, *shared_flags]) == sorted(flags)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_examples_of_help_are_commands(run_command, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    code, out, _ = run_command(command, "--help")
    assert code == 0
    assert "examples:" in out
    for example in EXAMPLES[command]:
        assert example in out
        arguments = shlex.split(re.split(r"  +", example)[0])[1:]
        if "--help" not in arguments and "--resume" not in arguments:
            head = arguments[: arguments.index("--")] if "--" in arguments else arguments
            parse(head, Train.defaults(*starting_point(arguments)))


def test_the_help_of_advnets_lists_every_command(run_command):
    code, out, _ = run_command("--help")
    assert code == 0
    assert run_command() == (2, out, "")
    assert set(COMMANDS) <= set(re.findall(r"^  (\w+) ", out, re.MULTILINE))
    assert len(out.splitlines()) <= 60


def test_a_preset_is_described_with_the_commands_that_print_its_options(run_command):
    assert run_command("presets", "dcgan-mnist") == (
        0,
        "DCGAN on MNIST.\n"
        "all options:  advnets train dcgan-mnist --help-all\n"
        "all values:   advnets train dcgan-mnist --dry-run --verbose\n",
        "",
    )


def test_the_usage_lines_of_help_show_what_may_be_left_out_or_repeated(run_command):
    for command, arguments in {
        "compare": "RUN RUN [RUN ...]",
        "train": "[PRESET | DATA | FILE | FILE.py:NAME]",
        "presets": "[PRESET]",
        "bench": "[CASE ...]",
    }.items():
        out = run_command(command, "--help-all" if command == "train" else "--help")[1]
        assert arguments in out.splitlines()[0]


def test_every_flag_has_help_and_a_default(run_command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = run_command("train", "paper-cifar-conv", "--help-all")
    assert code == 0
    assert "(default: none)" in run_command("train", "dcgan", "--help", "generator")[1]
    assert not re.search(r"^ *\[?\.\.\.\]*$", out, re.MULTILINE)  # lists of values are whole
    blocks = re.split(r"^  (?=-)", out.partition("examples:")[0], flags=re.MULTILINE)[2:]
    assert len(blocks) > 40
    for block in blocks:  # a switch that is off, a default, or what none stands for
        head, text = block.split("\n", 1)
        assert " " not in head or re.search(r"\(default:\s+\S|\b[Nn]one:", text), block


HELP = [
    *(("train", preset, "--help-all") for preset in ("dcgan", "paper-mnist", "points")),
    *(("train", preset, "--help") for preset in ("dcgan", "digits")),
    ("train", "semi-supervised-mnist", "--help", "game"),
    *((command, "--help") for command in COMMANDS if command != "train"),
    *(("data", command, "--help") for command in ("fetch", "audit", "pack")),
    *(("visualize", "RUN", view, "--help") for view in ("arithmetic", "window-dropout")),
]


@pytest.mark.parametrize("command", HELP, ids=" ".join)
def test_a_page_of_help_fills_its_lines_and_repeats_no_default(run_command, monkeypatch, command):
    """A line ends early only at the end of a sentence."""
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = run_command(*command)
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    assert not re.search(r"default: (None|''|\))|Default: (None|''|none)", out)
    assert not re.search(r"[Nn]one: (?:(?!\n  -)[^(])*\(default: none\)", out)
    assert not re.search(r"\{[^}]*\n\s*\n[^}]*\}", out)  # no blank line among choices
    if "usage" in out:
        assert out.startswith(f"usage: advnets {command[0]} ")
    early = []
    for line, next_line in itertools.pairwise(out.partition("examples:")[0].splitlines()):
        # Lines of one text begin in the same column.
        if re.match(r" {8}\S", line) and re.match(r" {8}\S", next_line):
            word = next_line.split()[0]
            if len(line) + 1 + len(word) <= 79 and not line.endswith((".", "?")):
                early.append((line.strip(), next_line.strip()))
    assert not early


def test_a_subcommand_and_a_view_have_examples_of_their_own(run_command):
    for name, view in view_classes().items():
        for options in view.examples:
            line = f"visualize RUN {name} {options}"
            parse(shlex.split(line), Train.defaults(*starting_point([])))
    assert run_command("visualize", "RUN", "interpolation", "--help")[1].endswith(
        "examples:\n  advnets visualize runs/mlp interpolation\n"
        "  advnets visualize runs/mlp interpolation --anchors 5 --movie walk.gif\n"
    )
    assert run_command("data", "audit", "--help")[1].endswith(
        "examples:\n  advnets data audit photos\n"
        "  advnets data audit photos --near-duplicates --json\n"
    )


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_shells_can_complete(run_command, shell):
    code, out, _ = run_command("--tyro-print-completion", shell)
    assert code == 0
    assert "advnets" in out
    assert "--generator.hidden-sizes" in out


def test_points_from_the_command_line(run_command, tmp_path, monkeypatch):
    """The same commands audit a distribution, train on it, sample and evaluate."""
    monkeypatch.chdir(tmp_path)
    code, out, _ = run_command("data", "audit", "grid:side=3,n=2000")
    assert code == 0
    assert out.splitlines()[:2] == [
        "grid: points in a plane: 2,000 training, 10,000 validation, 10,000 test",
        "  modes               9",
    ]
    log_density = float(out.split("density of test points: ")[1].split()[0])
    assert log_density == pytest.approx(-math.log(9 * 2 * math.pi * math.e * 0.05**2), abs=0.03)
    code, out, _ = run_command("data", "audit", "gaussian", "--json")
    facts = json.loads(out)
    assert facts["test_log_density"] == pytest.approx(-1.4189, abs=0.03)  # -log sqrt(2 pi e)
    code, out, err = run_command("train", "ring:n=1000", "--steps", "20")
    assert code == 0, err
    assert (tmp_path / "runs/ring/samples/step-00000020.png").exists()
    code, out, _ = run_command("sample", "runs/ring", "--num-samples", "50", "--out", "points.npz")
    assert code == 0
    assert np.load("points.npz")["points"].shape == (50, 2)
    assert run_command("sample", "runs/ring", "--num-samples", "50", "--out", "points.png")[0] == 0
    code, out, _ = run_command("evaluate", "runs/ring", "--metrics", "mixture")
    assert code == 0
    assert "8 of 8 modes, 9" in out
    assert run_command("evaluate", "runs/ring")[0] == 0
    code, _, err = run_command("sample", "runs/ring", "--out", "folder")
    assert (code, err) == (
        2,
        "advnets: folder is not a file for points; give a name that ends in .png or .npz\n",
    )
    code, _, err = run_command("sample", "runs/ring", "--out", "a.png", "--columns", "3")
    assert (code, err.partition(";")[0]) == (
        2,
        "advnets: --columns applies to a grid of images, but the run is a model of points",
    )
    code, _, err = run_command("train", "digits", "--data", "ring", "--out", "runs/no")
    assert (code, err) == (
        2,
        "advnets: --normalize is 'unit', which does not apply to points; set --normalize to none "
        "or standard, or use the preset points\n",
    )


def test_a_command_line_gives_the_config_that_it_trains():
    config = config_of("advnets train modern-ring --steps 7 --seed 3")
    assert (config.preset, config.stage.steps, config.seed) == ("modern-ring", 7, 3)


def test_the_command_line_of_another_command_is_refused():
    with pytest.raises(advnets.errors.UsageError, match="give a command line of advnets train"):
        config_of("advnets presets")


def test_epochs_replace_the_steps_of_a_preset():
    """Epochs and steps together are refused."""
    for epochs in (3, 100):  # the default of the other commands
        stage = config_of(f"advnets train modern-ring --epochs {epochs}").stage
        assert (stage.epochs, stage.steps) == (epochs, None)
    stage = config_of("advnets train digits --steps 7").stage
    assert (stage.epochs, stage.steps) == (None, 7)
    with pytest.raises(advnets.errors.UsageError, match="epochs is 3 and steps is 7; give one"):
        config_of("advnets train modern-ring --epochs 3 --steps 7")


def test_a_training_without_length_is_refused(run_command):
    code, _, err = run_command("train", "modern-ring", "--steps", "None", "--dry-run")
    assert code == 2
    assert err == "advnets: --epochs and --steps are both None; give one of them\n"


@pytest.mark.parametrize("preset", ["dcgan", "modern", "modern-residual"])
def test_a_preset_in_steps_does_not_depend_on_the_size_of_a_folder(preset):
    assert config_of(f"advnets train {preset} --data images").stage.steps == 10_000
