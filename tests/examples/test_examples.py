"""The examples of a custom callback, data in memory, a custom metric, and code that fails."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

import advnets
from advnets.errors import CustomCodeError
from advnets.evaluation import METRICS, register_metric
from advnets.plots.training_curves import MetricCurve
from advnets.run_directory import RunDirectory

EXAMPLES = Path(__file__).parents[2] / "examples"


def names_of(file: str) -> dict:
    names = {"__name__": file}
    exec((EXAMPLES / file).read_text("utf-8"), names)
    return names


@pytest.mark.parametrize("file", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_examples_have_fewer_than_40_lines(file):
    assert len((EXAMPLES / file).read_text("utf-8").splitlines()) < 40


def test_the_callback_finds_the_best_log(tmp_path):
    callback = names_of("custom_callback.py")["BestDiscrimination"]()
    options = {"steps": 6, "log_every": 2, "out": tmp_path / "run", "progress": False}
    model = advnets.train("digits", callbacks=[callback], **options)
    logs = [event for event in model.run.events() if event["kind"] == "log"]
    assert callback.best == max((e["d_real"] - e["d_fake"], e["step"]) for e in logs)


def test_the_data_train(tmp_path):
    images = names_of("custom_data.py")["crosses"](100)
    assert (images.reshape(100, -1) > 0).sum(1).tolist() == [31] * 100
    options = {"steps": 2, "batch_size": 20, "out": tmp_path / "run", "progress": False}
    assert advnets.train("digits", data=images, **options).sample(2).shape == (2, 1, 16, 16)


def test_the_metric_is_the_mean_pixel(tmp_path):
    options = {"steps": 2, "out": tmp_path / "run", "progress": False}
    model = advnets.train("digits", **options)
    for _ in range(2):  # again, as in a notebook
        spec = names_of("custom_metric.py")["brightness"]
        generated, real = advnets.evaluate(model, metrics=[spec], num_samples=200)
    test = model.open_data().dataset.test
    test_mean = test.images.mean() / test.white_level
    assert generated["mean"] == pytest.approx(float(model.sample(200).mean()), abs=1e-6)
    assert generated["error"] == pytest.approx(generated["mean"] - test_mean, abs=1e-6)
    assert abs(real["error"]) < 0.02
    del METRICS["brightness"]


def test_the_command_line_runs_the_file_of_a_metric_that_it_names(tmp_path, run_command):
    """It says so; the record then needs the file in `compare`, and no longer in the report."""
    options = {"steps": 2, "progress": False}
    runs = [tmp_path / "0", tmp_path / "1"]
    for seed, run in enumerate(runs):
        advnets.train("digits", out=run, seed=seed, **options)
    spec = f"{EXAMPLES / 'custom_metric.py'}:brightness"
    for run in runs:
        code, out, err = run_command("evaluate", run, "--metrics", "swd", spec, "--num-samples", 50)
        assert (code, "mean pixel 0." in out) == (0, True), err
    assert "sliced Wasserstein" in out
    code, out, err = run_command("compare", *runs, "--metrics", spec)
    assert (code, "brightness ↓" in out) == (0, True), out + err
    del METRICS["brightness"]
    code, out, err = run_command("compare", *runs, "--metrics", "swd")
    assert code == 0, err
    code, _, err = run_command("evaluate", runs[0], "--metrics", "brightness")
    assert (code, err.startswith("advnets: no metric is called 'brightness';")) == (2, True)
    for metric, message in (
        (spec.replace(":brightness", ":advnets"), "is a module; give the name of a MetricSpec"),
        (spec.replace(":brightness", ":other"), "does not define 'other'; it defines MetricSpec"),
        ("none.py:brightness", "none.py of the metric 'none.py:brightness' does not exist"),
    ):
        code, out, err = run_command("evaluate", runs[0], "--metrics", metric)
        assert (code, out, message in err, err.count("\n") <= 2) == (2, "", True, True), err


def test_a_failing_metric_is_named_with_its_file_and_the_training_is_saved(tmp_path, run_command):
    """In `evaluate` and in training, from the command line and from Python."""
    file = tmp_path / "broken.py"
    text = (EXAMPLES / "custom_metric.py").read_text("utf-8")
    file.write_text(text.replace("float(images.mean()),", "1 / 0,"), "utf-8")
    line = next(n for n, row in enumerate(file.read_text().splitlines(), 1) if "1 / 0" in row)
    options = {"steps": 4, "progress": False}
    advnets.train("digits", out=tmp_path / "run", **options)
    code, out, err = run_command("evaluate", tmp_path / "run", "--metrics", f"{file}:brightness")
    assert (code, out) == (1, "")
    assert err.splitlines()[-1] == (
        f"advnets: the metric brightness of {file}, line {line}, failed (ZeroDivisionError: "
        "division by zero); correct it: the training is saved"
    )

    # In training, the state after the step is saved, and the corrected metric continues it.
    spec = replace(METRICS["brightness"], curve=MetricCurve("Brightness", "error", "error"))
    register_metric(spec)
    during = {"eval_every": 2, "overrides": {"eval_metric": "brightness"}, "out": tmp_path / "in"}
    with pytest.raises(CustomCodeError) as caught:
        advnets.train("digits", **during, **options)
    assert str(caught.value) == (
        f"the metric brightness of {file}, line {line}, failed (ZeroDivisionError: division by "
        "zero) at step 2; the training is saved: correct it, and resume"
    )
    assert isinstance(caught.value.__cause__.__cause__, ZeroDivisionError)
    assert advnets.load(tmp_path / "in").step == 2
    names = names_of("custom_metric.py")
    register_metric(replace(spec, records=names["brightness_records"]))
    model = advnets.train(out=tmp_path / "in", resume=True, progress=False)
    assert model.step == 4
    whole = advnets.load(tmp_path / "run")
    assert torch.equal(model.sample(4, seed=1), whole.sample(4, seed=1))
    del METRICS["brightness"]


@pytest.mark.parametrize(
    ("file", "broken", "by"),
    [
        ("custom_game.py", ("loss = least_squares", "loss = fail() and least_squares"), "game"),
        ("custom_models.py", ("nn.Flatten()", "Fails(), nn.Flatten()"), "Discriminator"),
    ],
)
def test_a_failing_game_or_model_is_named_with_its_file(file, broken, by, tmp_path, run_command):
    """It fails in the eighth call, after two checkpoints."""
    path, run = tmp_path / file, tmp_path / "run"
    code = "import itertools\n_calls = itertools.count()\n"
    code += "def fail():\n    if next(_calls) >= 7:\n        raise ValueError('seven')\n"
    code += "    return True\n"
    code += "from torch import nn\nclass Fails(nn.Module):\n    def forward(self, x):\n"
    code += "        if self.training: fail()\n        return x\n"
    path.write_text((EXAMPLES / file).read_text("utf-8").replace(*broken) + code, "utf-8")
    options = ("--out", run, "--batch-size", "20", "--steps", "30", "--checkpoint-every", "2")
    command = ("digits", "--discriminator", f"{path}:{by}")
    command = (f"{path}:{by}", "--data", "digits") if by == "game" else command
    code, _, err = run_command("train", *command, *options)
    step = list(RunDirectory(run).checkpoints_by_step())[-1]
    assert (code, step > 0) == (1, True), err
    last = err.splitlines()[-1]
    assert last.startswith(f"advnets: {path}:{by} failed in line "), last
    assert last.endswith(
        f" (ValueError: seven); correct it: the training is saved up to step {step}"
    )


def test_the_view_of_readme_is_the_mean_image(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = advnets.train("digits", out="runs/mine", steps=2, progress=False)
    readme = (EXAMPLES.parent / "README.md").read_text("utf-8")
    (block,) = (b for b in readme.split("```python\n") if "class MeanImage" in b)
    names = {"__name__": __name__, "advnets": advnets}
    exec(block.partition("```")[0], names)
    mean = names["MeanImage"](num_samples=50).compute(model).tensors["mean"]
    assert torch.equal(mean, model.sample(50).mean(0))
    with Image.open("mean.png") as image:
        assert min(image.size) >= 8
