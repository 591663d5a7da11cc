"""The command `advnets visualize`."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from advnets import visualize
from advnets.plots.image_grid import grid

VIEWS = {
    "samples": ["--num-samples", "9"],
    "neighbors": ["--num-samples", "2", "--neighbors", "2"],
    "interpolation": ["--anchors", "3", "--steps", "3"],
    "slerp-grid": ["--size", "3"],
    "arithmetic": ["0,1,2 - 3"],
    "guided-backprop": ["--features", "2", "--top-k", "2"],
    "activations": ["--num-samples", "1"],
    "timelapse": [],
}


@pytest.mark.parametrize("view", VIEWS)
def test_each_view_writes_an_image_and_a_record_into_the_run(run, run_command, view):
    code, out, err = run_command("visualize", run.run.path, view, *VIEWS[view])
    file = run.run.path / "views" / f"{view}.png"
    assert (code, err) == (0, "")
    assert out == f"{file}\n{file.with_suffix('.json')}\n"
    with Image.open(file) as image:
        assert min(image.size) > 40
    record = json.loads(file.with_suffix(".json").read_text())
    assert (record["view"], record["step"], record["weights"]) == (view, 40, "last")


def test_out_and_movie_name_the_files(run, run_command, tmp_path):
    out, movie = tmp_path / "w.png", tmp_path / "w.gif"
    view = ["interpolation", "--anchors", 3, "--steps", 4, "--out", out, "--movie", movie]
    assert run_command("visualize", run.run.path, *view) == (
        0,
        f"{out}\n{out.with_suffix('.json')}\n{movie}\n",
        "",
    )
    with Image.open(movie) as film:
        assert film.n_frames == 9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["samples", "--out", "x.jpg"],
            "x.jpg is not the name of a PNG file; give a name that ends in .png",
        ),
        (
            ["samples", "--class", "3"],
            "is not class-conditional; leave it out, or train a conditional",
        ),
        (["interpolation", "--anchors", "1"], "anchors is 1; expected 2 or more"),
        (["arithmetic", "1 -"], "the sum '1 -' cannot be parsed"),
        (["window-dropout", "--boxes", "none.json"], "none.json cannot be read as a list of boxes"),
        (["neighbors", "--neighbors", "0"], "neighbors is 0; expected 1 to"),
        (
            ["samples", "--movie", "x.gif"],
            "the view samples has no movie; give --movie with interpolation",
        ),
        (
            ["interpolation", "--movie", "x.avi"],
            "x.avi ends in .avi; give a name that ends in .gif or .mp4",
        ),
    ],
)
def test_invalid_options_are_refused_in_one_sentence(
    run, run_command, options, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    code, _, err = run_command("visualize", run.run.path, *options)
    assert code != 0
    assert message in err
    assert err.startswith("advnets: ")
    assert len(err.splitlines()) == 1


VIEW = '''
from dataclasses import dataclass

from advnets.plots.image_grid import grid
from advnets.visualize.figure import Figure, View, ViewData


@dataclass(frozen=True)
class MeanImage(View):
    """Show the mean of some samples."""

    num_samples: int = 5
    """Number of samples."""

    def compute(self, model):
        mean = model.sample(self.num_samples).mean(0, keepdim=True)
        return ViewData({"mean": mean}, {"brightness": float(mean.mean())})

    def draw(self, data):
        return Figure(grid(data.tensors["mean"]))
'''


def test_a_view_from_outside_becomes_a_subcommand(run, run_command, tmp_path, monkeypatch):
    """One module and one entry in the list: help, options, image and record follow."""
    (tmp_path / "outside.py").write_text(VIEW)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(visualize.VIEWS, "MeanImage", "outside")
    code, out, _ = run_command("visualize", run.run.path, "--help")
    assert (code, "mean-image" in out, "Show the mean of some samples." in out) == (0, True, True)
    code, out, _ = run_command("visualize", run.run.path, "mean-image", "--help")
    assert "--num-samples" in out
    assert run_command("visualize", run.run.path, "mean-image", "--num-samples", 3)[::2] == (0, "")
    file = run.run.path / "views" / "mean-image.png"
    assert np.array_equal(Image.open(file), grid(run.sample(3).mean(0, keepdim=True)))
    record = json.loads(file.with_suffix(".json").read_text())
    assert (record["view"], record["num_samples"]) == ("mean-image", 3)
    assert record["brightness"] == pytest.approx(float(run.sample(3).mean()), abs=1e-6)
    code, _, err = run_command("visualize", run.run.path, "mean-image", "--num-samples", 10**6)
    assert (code, err) == (2, "advnets: --num-samples is 1000000; it must be at most 100,000\n")


def test_the_views_are_names_of_the_package():
    """`dir` lists them without importing their modules."""
    script = (
        "import sys, advnets.visualize as v; print(*dir(v)); assert 'torch' not in sys.modules; "
        "print(v.SlerpGrid.__module__)"
    )
    completed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    names, module = completed.stdout.splitlines()
    assert names.split() == visualize.__all__
    assert module == "advnets.visualize.interpolation"
    assert {view.__name__ for view in visualize.view_classes().values()} < set(names.split())


def test_a_missing_argument_of_a_view_names_the_help_of_the_view(run, run_command):
    path = run.run.path
    assert run_command("visualize", path, "arithmetic") == (
        2,
        "",
        f"advnets: SUM is missing; see `advnets visualize {path} arithmetic --help`\n",
    )
    assert run_command("visualize", path, "arithmetic", "1,2", "-", "3")[2] == (
        f"advnets: advnets visualize {path} arithmetic takes no further argument, got '-'; put an "
        f"argument with blanks in quotes, or see `advnets visualize {path} arithmetic --help`\n"
    )
    assert run_command("visualize", path, "arithmetic", "1", "--radius", "x")[2] == (
        "advnets: --radius is 'x'; it must be a number\n"
    )


def test_a_run_of_points_has_no_images(run_command, tmp_path):
    arguments = ["train", "ring:n=1000", "--steps", 2, "--out", tmp_path / "run"]
    assert run_command(*arguments)[0] == 0
    code, _, err = run_command("visualize", tmp_path / "run", "interpolation")
    assert code == 2
    assert "is a model of points, and views require images" in err


def test_samples_of_a_class_at_the_command_line(conditional, run_command, tmp_path):
    out = tmp_path / "threes.png"
    code, printed, _ = run_command(
        "sample", conditional.run.path, "--class", 3, "--num-samples", 4, "--out", out
    )
    assert (code, printed) == (0, f"4 samples of step 40 (last weights): {out}\n")
    code, _, err = run_command("sample", conditional.run.path, "--class", "cat", "--out", out)
    assert code != 0
    assert "no class is called 'cat'" in err
