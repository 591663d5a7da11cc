"""`advnets visualize`, as it is typed."""

from __future__ import annotations

import json

import pytest
from PIL import Image

VIEWS = {
    "samples": ["--num-samples", "9"],
    "neighbors": ["--num-samples", "2", "--neighbors", "2"],
    "walk": ["--anchors", "3", "--steps", "3"],
    "slerp-grid": ["--size", "3"],
    "arithmetic": ["0,1,2 - 3"],
    "filters": ["--features", "2", "--top-k", "2"],
    "activations": ["--num-samples", "1"],
    "training": [],
}


@pytest.mark.parametrize("view", VIEWS)
def test_each_view_leaves_a_image_and_a_record_in_the_run(run, said, view):
    code, out, err = said("visualize", run.run.path, view, *VIEWS[view])
    file = run.run.path / "views" / f"{view}.png"
    assert (code, err) == (0, "")
    assert out == f"{file}\n{file.with_suffix('.json')}\n"
    with Image.open(file) as image:
        assert min(image.size) > 40
    record = json.loads(file.with_suffix(".json").read_text())
    assert (record["view"], record["step"], record["weights"]) == (view, 40, "last")


def test_it_goes_where_it_is_told_and_moves(run, said, tmp_path):
    out, movie = tmp_path / "w.png", tmp_path / "w.gif"
    walk = ["walk", "--anchors", 3, "--steps", 4, "--out", out, "--movie", movie]
    assert said("visualize", run.run.path, *walk) == (
        0,
        f"{out}\n{out.with_suffix('.json')}\n{movie}\n",
        "",
    )
    with Image.open(movie) as film:
        assert film.n_frames == 9


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (["samples", "--out", "x.jpg"], "x.jpg is to hold an image; give a name in .png"),
        (["samples", "--class", "3"], "without labels; leave it, or train a conditional run"),
        (["walk", "--anchors", "1"], "stops is 1; expected 2 or more"),
        (["arithmetic", "1 -"], "the sum '1 -' cannot be read"),
        (["window-drop", "--boxes", "none.json"], "none.json holds no boxes"),
        (["neighbors", "--neighbors", "0"], "0 neighbors were asked for among"),
        (
            ["samples", "--movie", "x.gif"],
            "samples does not move; --movie is for walk",
        ),
        (["walk", "--movie", "x.avi"], "x.avi ends in .avi; give a name in .gif or .mp4"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(run, said, asked, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = said("visualize", run.run.path, *asked)
    assert code != 0
    assert told in err
    assert err.startswith("advnets: ")
    assert len(err.splitlines()) == 1


def test_a_run_of_points_has_no_images(said, tmp_path):
    asked = ["train", "ring:n=1000", "--steps", 2, "--out", tmp_path / "run"]
    assert said(*asked)[0] == 0
    code, _, err = said("visualize", tmp_path / "run", "interpolation")
    assert code == 2
    assert "is of points, and views are of images" in err


def test_samples_of_a_class_at_the_command_line(conditional, said, tmp_path):
    out = tmp_path / "threes.png"
    code, told, _ = said(
        "sample", conditional.run.path, "--class", 3, "--num-samples", 4, "--out", out
    )
    assert (code, told) == (0, f"4 samples of step 40 (last weights): {out}\n")
    code, _, err = said("sample", conditional.run.path, "--class", "cat", "--out", out)
    assert code != 0
    assert "no class is called 'cat'" in err
