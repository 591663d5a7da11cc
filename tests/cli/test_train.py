"""`advnets train`: its files, its output, and resuming from Python."""

import io
import os
import pty
import re
import subprocess
import sys
import termios

import numpy as np
import pytest
from PIL import Image

import advnets
from advnets.cli.console import Console
from advnets.run_directory import RunDirectory


def test_a_training_writes_the_files_of_a_run(trained):
    run = RunDirectory(trained)
    record = run.read_config()
    assert record["config"]["runtime"] == {
        "device": "cpu",
        "precision": "float32",
        "threads": 1,
        "compile": False,
        "cuda_graph": False,
    }
    assert record["config"]["stages"][0]["steps"] == 30
    assert record["data"]["train"] == 1197
    assert set(record["parameters"]) == {"generator", "discriminator"}
    kinds = [event["kind"] for event in run.events()]
    assert kinds == ["start", "log", "log", "log", "end"]
    log = run.events()[1]
    assert 0 < log["d_real"] < 1
    assert 0 < log["d_fake"] < 1
    assert log["value"] < 0
    assert [file.name for file in run.checkpoint_files()] == [
        "step-00000020.safetensors",
        "step-00000030.safetensors",
    ]
    for file in (run.sample_file(30), trained / "curves.png"):
        with Image.open(file) as image:
            assert image.width > 300
    assert "<html" in (trained / "report.html").read_text("utf-8")


@pytest.mark.usefixtures("with_curves")
def test_without_matplotlib_a_training_succeeds_and_names_the_extra(
    run_command, tmp_path, monkeypatch, quick
):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Missing("matplotlib"), *sys.meta_path])
    code, out, err = run_command("train", "digits", "--out", tmp_path / "run", *quick)
    assert code == 0
    assert (
        "advnets: matplotlib is not installed; install it with: pip install 'advnets[report]'\n"
        in err
    )
    assert "done in" in out
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "matplotlib is not installed" in page
    assert not (tmp_path / "run" / "curves.png").exists()


class Missing:
    """An import finder that fails for one library, as if it were not installed."""

    def __init__(self, library):
        self.library = library

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == self.library:
            raise ModuleNotFoundError(f"No module named {name!r}", name=self.library)


def test_without_a_terminal_each_log_is_one_plain_line(run_command, tmp_path, quick):
    code, out, err = run_command("train", "digits", "--out", tmp_path / "run", *quick)
    assert code == 0
    lines = err.splitlines()
    assert lines[0] == (
        f"training digits: 30 steps, on cpu in float32 with 1 thread, in {tmp_path / 'run'}"
    )
    assert lines[1] == (
        "data: digits, 1,197 training images of 1 x 8 x 8, 300 validation, 300 test"
    )
    assert lines[2].startswith("classes: 0 1")
    assert lines[3] == "parameters: generator 1,888, discriminator 2,969"
    assert len(lines) == 7
    assert lines[4].startswith("step 10/30  epoch 0.8  D(x) 0.")
    assert "images/s" in lines[4]
    assert out.endswith(
        "next: evaluate the generator (Parzen log-likelihood) and draw samples:\n"
        f"  advnets evaluate {tmp_path / 'run'} --metrics parzen\n"
        f"  advnets sample {tmp_path / 'run'} --num-samples 64 --seed 1 --out samples.png\n"
    )


def test_the_first_line_names_other_data_and_the_weights_that_it_starts_from(
    run_command, trained, tmp_path, quick
):
    """Not the data of the preset, nor weights that a resumed run had started from."""
    for i in range(30):
        Image.new("L", (8, 8), i).save(tmp_path / f"{i}.png")
    command = ("train", "digits", "--data", tmp_path, "--channels", "1", "--out", tmp_path / "run")
    code, _, err = run_command(*command, *quick, "--steps", "1")
    assert code == 0, err
    assert err.startswith(f"training the preset digits on {tmp_path.name}: 1 steps, on cpu")
    command = ("train", "digits", "--init-from", trained, "--out", tmp_path / "fine", *quick)
    code, _, err = run_command(*command)
    weights = f", from the weights of generator and discriminator of {trained}, on cpu"
    assert (code, err.startswith(f"training digits: 30 steps{weights}")) == (0, True), err
    code, _, err = run_command(*command, "--resume", "--steps", "31")
    assert (code, err.startswith("resuming digits: 31 steps, from step 30, on")) == (0, True), err


def test_a_batch_larger_than_the_data_is_reported(run_command, tmp_path, quick):
    arguments = ("digits", "--out", tmp_path / "run", *quick, "--steps", "1", "--batch-size")
    code, _, err = run_command("train", *arguments, "1198")
    assert code == 0
    assert (
        "warning: a batch of 1,198 contains the 1,197 training images more than once; use batches "
        "of at most 1,197\n"
    ) in err
    code, out, _ = run_command("train", *arguments, "1197", "--dry-run")
    assert (code, "more than once" in out) == (0, False)


def test_wrong_values_are_reported_before_the_run_directory_is(run_command, trained):
    """The values of a new run are checked first, also where the directory holds a run already."""
    for option, value, message in (
        ("--device", "abacus", "torch has no device 'abacus'"),
        ("--data", "mnits", "no dataset, folder or file is called 'mnits'"),
        ("--eval-metric", "parzn", "no metric of a training curve is called 'parzn'"),
        ("--cuda-graph", "--compile", "--compile and --cuda-graph are both set"),
    ):
        code, _, err = run_command("train", "digits", "--out", trained, option, value)
        assert (code, err.startswith(f"advnets: {message}")) == (2, True), err
    code, _, err = run_command("train", "digits", "--out", trained)
    assert (code, "already holds a run" in err) == (1, True)


def test_unknown_keywords_and_attributes_get_the_nearest_name(tmp_path):
    for call, message in (
        (lambda: advnets.train(num_steps=5), "no argument 'num_steps'; did you mean steps?"),
        (lambda: advnets.train(learning_rate=1), "'learning_rate'; did you mean lr?"),
        (lambda: advnets.load(tmp_path, weight="ema"), "load .*; did you mean weights?"),
    ):
        with pytest.raises(TypeError, match=message.replace("?", r"\?")):
            call()
    for module, name, nearest in (
        (advnets, "metric", "metrics"),
        (advnets.metrics, "fid", "frechet_distance"),
        (advnets.metrics, "frechet_distanc", "frechet_distance"),
        (advnets.data, "opn_dataset", "open_dataset"),
    ):
        with pytest.raises(
            AttributeError, match=rf"no attribute '{name}'; did you mean {nearest}\?"
        ):
            getattr(module, name)


def test_after_training_on_a_mixture_the_suggested_command_counts_modes(
    run_command, tmp_path, quick
):
    run = tmp_path / "run"
    code, out, err = run_command("train", "ring", "--out", run, *quick)
    assert code == 0
    assert "data: ring, 100,000 training points of 2 dimensions, 10,000 validation" in err
    assert " points/s" in err
    assert "images" not in err
    assert "next: evaluate the generator (mixture quality) and draw samples:\n" in out
    assert f"  advnets evaluate {run} --metrics mixture\n" in out


def test_a_relativistic_game_logs_d_of_pairs(run_command, tmp_path, quick):
    code, _, err = run_command(
        "train", "digits", "--out", tmp_path / "run", *quick, "--game.relativistic"
    )
    assert code == 0
    assert re.match(
        r"step 10/30  epoch 0\.8  D\(x, G\(z\)\) 0\.\d+  V -0\.\d+  ", err.splitlines()[4]
    )


def test_on_a_terminal_there_is_a_progress_bar(tmp_path, quick):
    """On a pseudo-terminal: images/s, time left, D(x) and D(G(z)) in one line that is updated."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 160))
    process = subprocess.Popen(
        [sys.executable, "-m", "advnets", "train", "digits", "--out", tmp_path / "run", *quick],
        stderr=slave,
        stdout=subprocess.PIPE,
    )
    process.communicate(timeout=100)
    os.close(slave)
    output = os.read(master, 100_000).decode()
    os.close(master)
    assert process.returncode == 0
    assert "images" in output
    assert "D(x) 0." in output
    assert "D(G(z)) 0." in output


def test_a_dry_run_writes_nothing_and_estimates_time_and_memory(
    run_command, tmp_path, monkeypatch, quick
):
    monkeypatch.chdir(tmp_path)
    code, out, _ = run_command("train", "digits", "--dry-run", *quick)
    assert code == 0
    assert list(tmp_path.iterdir()) == []
    time, memory, *rest = out.splitlines()
    assert re.match(
        r"time: about .+ s on cpu in float32: 30 steps at [\d.]+ steps/s, and .+ s for the start",
        time,
    )
    assert re.match(r"memory: about [\d,]+ MiB", memory)
    assert rest == [
        "data: digits, 1,197 training images of 1 x 8 x 8, 300 validation, 300 test",
        "parameters: generator 1,888, discriminator 2,969",
        "nothing was written",
    ]
    code, verbose, _ = run_command("train", "digits", "--dry-run", "--verbose", *quick)
    assert verbose.splitlines()[2:4] == rest[:2]
    assert "\nclasses: 0 119, " in verbose
    assert "\nconfig (resolved):\n  preset: digits\n" in verbose
    code, _, err = run_command("train", "digits", "--verbose", *quick)
    assert (code, err) == (
        2,
        "advnets: --verbose has an effect with --dry-run only; add it, or leave it out\n",
    )
    code, _, err = run_command("train", "digits", "--track", *quick)
    assert code == 2
    assert err == "advnets: --track has no value; give tensorboard, wandb, mlflow or trackio\n"


def test_the_expected_time_is_printed_once_it_is_measured(monkeypatch):
    """At 4 steps/s after a first step of 20 seconds: 988 steps are left after 3 seconds."""
    clock, stream = [0.0], io.StringIO()
    monkeypatch.setattr("advnets.cli.console.time.monotonic", lambda: clock[0])
    console = Console(stream=stream)
    console.steps = 1001
    for step in range(1, 50):
        clock[0] += 20.0 if step == 1 else 0.25
        console.on_step(step)
    assert stream.getvalue() == "expected time: 4 min 07 s more, at 4.0 steps/s\n"


def test_training_from_python(tmp_path):
    run = advnets.train("digits", out=tmp_path / "run", steps=2, seed=3)
    assert run.config.seed == 3
    assert run.step == 2
    more = advnets.train(out=tmp_path / "run", steps=4, resume=True)
    assert more.step == 4
    assert more.config.seed == 3
    # With its preset named, a run keeps its own config, whose length differs.
    repeated = advnets.train("digits", out=tmp_path / "run", resume=True)
    assert repeated.step == 4
    assert repeated.config.stage.epochs is None
    with pytest.raises(
        advnets.errors.UsageError, match="started with preset digits, not mlp; leave"
    ):
        advnets.train("mlp", out=tmp_path / "run", resume=True)
    with pytest.raises(advnets.errors.UsageError, match="epochs is 1 and steps is 5; give one"):
        advnets.train(out=tmp_path / "run", epochs=1, steps=5, resume=True)


def test_a_folder_of_images_can_replace_the_preset(run_command, tmp_path, quick):
    rng = np.random.default_rng(0)
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(60):
        size = rng.integers(20, 60, 2)
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    (folder / "broken.png").write_text("no image")
    code, _, err = run_command("train", folder, "--out", tmp_path / "run", "--size", "12", *quick)
    assert code == 0, err
    assert "skipped 1 file: broken.png (" in err
    record = RunDirectory(tmp_path / "run").read_config()
    assert record["config"]["data"]["source"] == str(folder)
    assert record["data"]["shape"] == [3, 12, 12]
    assert run_command("sample", tmp_path / "run", "--out", tmp_path / "s.png")[0] == 0


def test_nan_or_infinite_values_roll_back_and_end_with_advice(run_command, tmp_path, quick):
    code, _, err = run_command(
        *("train", "digits", "--out", tmp_path / "run", *quick, "--generator-optimizer.lr", "1e38")
    )
    assert code == 3  # the training diverged; the command did not fail
    assert err.count("NaN or infinite values at step") == 2
    assert err.count("non-finite numbers occurred by step") == 1
    assert "rolled back to step 0 and continuing with other noise (attempt 2)" in err
    assert "start a new run with a lower learning rate or smaller initial weights" in err
    assert "Traceback" not in err
