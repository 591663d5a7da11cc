"""A game from a file outside the package."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from advnets.experiment.trained_model import load

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_game.py"
QUICK = ("--steps", "6", "--threads", "1", "--log-every", "2")


def test_it_is_under_30_lines():
    assert len(EXAMPLE.read_text("utf-8").splitlines()) < 30


def test_it_trains_and_resumes_bit_exactly(said, tmp_path):
    place = f"{EXAMPLE}:game"
    assert said("train", place, "--out", tmp_path / "whole", *QUICK)[0] == 0
    tick = next(e for e in load(tmp_path / "whole").run.events() if e["kind"] == "log")
    assert {"a(x)", "a(G(z))", "loss/discriminator", "loss/generator"} <= tick.keys()
    cut = tmp_path / "cut"
    assert said("train", place, "--out", cut, "--steps", "3", "--threads", "1")[0] == 0
    assert said("train", place, "--resume", "--out", cut, *QUICK)[0] == 0
    assert torch.equal(load(tmp_path / "whole").sample(3), load(cut).sample(3))


def test_its_objective_is_least_squares():
    """½ E(a - target)² of three logits, by hand."""
    found = {}
    exec(EXAMPLE.read_text("utf-8"), found)
    loss = found["least_squares"](torch.tensor([1.0, 0.0, -2.0]), 1)
    assert loss.item() == pytest.approx((0 + 1 + 9) / 6)


def test_a_custom_config(said, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from dataclasses import replace\n"
        "from advnets import presets\n"
        "small = presets.get_preset('digits')\n"
        "small = replace(small.with_stage(replace(small.stage, steps=3)), preset='mine')\n"
    )
    assert said("train", f"{tmp_path / 'mine.py'}:small", "--out", tmp_path / "run")[0] == 0
    assert load(tmp_path / "run").step == 3


def test_a_changed_file_is_refused(said, tmp_path):
    own = tmp_path / "own.py"
    own.write_text(EXAMPLE.read_text("utf-8"))
    out = tmp_path / "run"
    assert said("train", f"{own}:game", "--out", out, *QUICK)[0] == 0
    own.write_text(own.read_text() + "# changed\n")
    for told in (("--trust-code",), (f"{own}:game",)):
        first = [word for word in told if word != "--trust-code"]
        rest = [word for word in told if word == "--trust-code"]
        code, _, err = said("train", *first, "--resume", "--out", out, "--steps", "8", *rest)
        assert code == 1
        assert "has changed since" in err
    assert len(load(out).sample(2)) == 2  # what was trained needs the file no more


@pytest.mark.parametrize(
    ("text", "place", "told"),
    [
        (None, "none.py:game", "does not exist; give FILE.py:NAME"),
        ("x = 1\n", "own.py:game", "does not define 'game'; it defines x"),
        ("import nothing_of_that_name\n", "own.py:game", "failed (ModuleNotFoundError"),
        ("game = 3\n", "own.py:game", "without phases(); give a game"),
        ("def game(spec): pass\n", "own.py:game", "cannot be called without arguments"),
    ],
)
def test_what_is_not_a_game_is_refused(said, tmp_path, text, place, told):
    if text is not None:
        (tmp_path / "own.py").write_text(text)
    code, _, err = said("train", tmp_path / place, "--out", tmp_path / "run")
    assert code == 2
    assert told in err
    assert len(err.strip().splitlines()) == 1
