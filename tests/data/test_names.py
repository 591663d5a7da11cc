from __future__ import annotations

from pathlib import Path

import pytest

from advnets import presets
from advnets.data import names
from advnets.data.registry import KINDS, NAMED
from advnets.data.synthetic.open import DISTRIBUTIONS


def test_names_are_those_that_open():
    """What is known without opening anything is what can be opened."""
    assert {*names.PICTURES, *names.POINTS} == set(NAMED)
    assert set(names.POINTS) == set(DISTRIBUTIONS)


def test_every_source_says_what_it_is():
    abouts = [source.about for source in (*NAMED.values(), *KINDS)]
    assert all(abouts)
    assert len(set(abouts)) == len(abouts)


@pytest.mark.parametrize(
    ("source", "fold", "expected"),
    [
        ("tfd", 1, "tfd"),
        ("tfd", 3, "tfd:fold=3"),
        ("tfd:fold=2", 1, "tfd"),
        ("tfd:fold=2", 3, "tfd:fold=3"),
        ("tfd:size=96", 1, "tfd:size=96"),
        ("tfd: fold = 4,size=96", 2, "tfd:size=96,fold=2"),
        (r"C:\faces.mat", 2, r"C:\faces.mat:fold=2"),
    ],
)
def test_another_fold_of_a_source(source, fold, expected):
    assert names.by_fold(source, fold) == expected


def test_a_path_keeps_what_looks_like_options(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a:fold=2").touch()
    assert names.by_fold("a:fold=2", 3) == "a:fold=2:fold=3"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mnist", True),
        ("ring:modes=3", True),
        ("hf:a/b", True),
        ("minst", False),
        ("", False),
        ("x" * 5000, False),
        ("~nobody-has-this-home/x", False),
    ],
)
def test_what_is_a_source(text, expected):
    assert names.is_source(text) is expected


def test_paths_are_sources(tmp_path):
    (tmp_path / "a.csv").touch()
    assert names.is_source(str(tmp_path))
    assert names.is_source(f"{tmp_path / 'a.csv'}:sd=0.1")


@pytest.mark.parametrize(
    ("source", "preset", "out"),
    [
        ("ring", "points", "points"),
        ("ring:modes=3,sd=0.1", "points", "ring"),
        ("moons", "points", "moons"),
        ("mnist", "digits", "mnist"),
        ("hf:owner/set:split=test", "digits", "set"),
    ],
)
def test_a_source_in_place_of_a_preset(source, preset, out):
    """Points begin with the preset for points, pictures with that for digits."""
    run = presets.starting_point(source)
    assert (run.preset, run.data.source) == (preset, source)
    assert presets.default_out(run) == Path("runs") / out


def test_a_table_of_points_in_place_of_a_preset(tmp_path):
    (tmp_path / "drawn by hand.csv").write_text("1,2\n")
    run = presets.starting_point(f"{tmp_path}/drawn by hand.csv:sd=0.5")
    assert run.preset == "points"
    assert presets.default_out(run) == Path("runs/drawn-by-hand")
