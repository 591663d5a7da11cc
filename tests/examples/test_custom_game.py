"""A game from a file outside the package."""

from pathlib import Path

import pytest
import torch

import advnets
from advnets.errors import CustomCodeError
from advnets.experiment.trained_model import load

EXAMPLE = Path(__file__).parents[2] / "examples" / "custom_game.py"
QUICK = ("--steps", "6", "--threads", "1", "--log-every", "2")


def test_the_example_has_fewer_than_30_lines():
    assert len(EXAMPLE.read_text("utf-8").splitlines()) < 30


def test_the_example_trains_and_resumes_bit_exactly(run_command, tmp_path):
    place = f"{EXAMPLE}:game"
    assert run_command("train", place, "--out", tmp_path / "whole", *QUICK)[0] == 0
    log = next(e for e in load(tmp_path / "whole").run.events() if e["kind"] == "log")
    assert [name for name in log if name.startswith("a(")] == ["a(x)", "a(G(z))"]
    assert {"a(x)", "a(G(z))", "loss/discriminator", "loss/generator"} <= log.keys()
    cut = tmp_path / "cut"
    assert run_command("train", place, "--out", cut, "--steps", "3", "--threads", "1")[0] == 0
    assert run_command("train", place, "--resume", "--out", cut, *QUICK)[0] == 0
    for resumed in (e for e in load(cut).run.events() if e["kind"] == "log"):
        assert [name for name in resumed if name in log] == [*log]
    assert torch.equal(load(tmp_path / "whole").sample(3), load(cut).sample(3))


def test_the_objective_of_the_example_is_least_squares():
    """½ E(a - target)² of three logits, computed directly."""
    names = {}
    exec(EXAMPLE.read_text("utf-8"), names)
    loss = names["least_squares"](torch.tensor([1.0, 0.0, -2.0]), 1)
    assert loss.item() == pytest.approx((0 + 1 + 9) / 6)


def test_a_config_in_a_python_file_is_trained(run_command, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from dataclasses import replace\n"
        "from advnets import presets\n"
        "small = presets.get_preset('digits')\n"
        "small = replace(small.with_stage(replace(small.stage, steps=3)), preset='mine')\n"
    )
    assert run_command("train", f"{tmp_path / 'mine.py'}:small", "--out", tmp_path / "run")[0] == 0
    assert load(tmp_path / "run").step == 3


def test_a_changed_file_is_refused(run_command, tmp_path):
    file = tmp_path / "own.py"
    file.write_text(EXAMPLE.read_text("utf-8"))
    out = tmp_path / "run"
    assert run_command("train", f"{file}:game", "--out", out, *QUICK)[0] == 0
    file.write_text(file.read_text() + "# changed\n")
    for words in (("--trust-code",), (f"{file}:game",)):
        first = [word for word in words if word != "--trust-code"]
        rest = [word for word in words if word == "--trust-code"]
        code, _, err = run_command("train", *first, "--resume", "--out", out, "--steps", "8", *rest)
        assert code == 1
        assert "has changed since" in err
    assert len(load(out).sample(2)) == 2  # trained models do not need the file


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        (None, "none.py:game", "does not exist; give FILE.py:NAME"),
        ("x = 1\n", "own.py:game", "does not define 'game'; it defines x"),
        ("import nothing_of_that_name\n", "own.py:game", "failed (ModuleNotFoundError"),
        ("game = 3\n", "own.py:game", "own.py:game is 3, without phases(); give a game"),
        ("import sys\nsys.exit(7)\n", "own.py:game", "own.py failed (SystemExit: 7); correct it"),
        ("def game(): exit(7)\n", "own.py:game", "own.py:game raised SystemExit: 7; give a"),
        ("def game(spec): pass\n", "own.py:game", "cannot be called without arguments"),
    ],
)
def test_objects_that_are_not_games_are_refused(run_command, tmp_path, text, place, message):
    if text is not None:
        (tmp_path / "own.py").write_text(text)
    code, _, err = run_command("train", tmp_path / place, "--out", tmp_path / "run")
    assert code == 2
    *before, error = err.strip().splitlines()
    assert message in error
    assert all("running the code of" in line for line in before)


LOGITS = "self.logits(players, self.samples(players, batch, rng), batch, rng)"
UNCHECKED = """

class PhaseOutput(PhaseOutput):
    def __init__(self, losses, metrics={}):
        vars(self).update(losses=losses, metrics=metrics, carry=None)


"""
"""An output whose types the tests' checker of annotations does not see."""
OUTPUTS = {
    "None": "returned None, expected PhaseOutput",
    "{'generator': 1}": "returned an object of dict, expected PhaseOutput",
    "PhaseOutput(None)": "returned None as losses, expected a mapping of scalars",
    "PhaseOutput({})": "returned a loss of 'no player', expected one of generator or discriminator",
    f"PhaseOutput({{'nobody': {LOGITS}.mean()}})": (
        "returned a loss of 'nobody', expected one of generator or discriminator"
    ),
    f"PhaseOutput({{'generator': {LOGITS}}})": (
        "returned a tensor of shape (100,) of float32 as the loss 'generator', expected a tensor "
        "of shape () of floats"
    ),
    "PhaseOutput({'generator': 3.0})": (
        "returned 3.0 as the loss 'generator', expected a tensor of shape () of floats"
    ),
    f"PhaseOutput({{'generator': {LOGITS}.detach().mean()}})": (
        "returned a loss of the generator that does not depend on its weights, expected one with a "
        "gradient for each weight of the generator"
    ),
    f"PhaseOutput({{'generator': {LOGITS}.mean()}}, {{'a': 'text'}})": (
        "returned 'text' as the metric 'a', expected a tensor of shape () of floats"
    ),
    f"PhaseOutput({{'generator': {LOGITS}.mean()}}, {{'a': {LOGITS}}})": (
        "returned a tensor of shape (100,) of float32 as the metric 'a', expected a tensor of "
        "shape () of floats"
    ),
    "exit(7)": "raised SystemExit: 7",
}


@pytest.mark.parametrize(("value", "message"), OUTPUTS.items())
def test_a_phase_that_returns_anything_but_scalar_losses_is_named(tmp_path, value, message):
    text = EXAMPLE.read_text("utf-8").partition("    def generator")[0]
    text = text.replace("\n\n\n", UNCHECKED, 1)
    text += f"    def generator(self, players, batch, rng):\n        return {value}\n"
    file = tmp_path / "own.py"
    file.write_text(f"{text}game = LeastSquares(config.GANGame())\n", "utf-8")
    with pytest.raises(CustomCodeError) as caught:
        advnets.train(f"{file}:game", out=tmp_path / "run", steps=2, progress=False)
    assert str(caught.value) == (
        f"the phase generator of {file}:game {message}; correct it: the training had not begun"
    )
    assert not (tmp_path / "run").exists()


def test_a_loss_that_leaves_out_a_weight_is_named(tmp_path):
    """Only a gradient shows this: torch's own error names no weight."""
    file = tmp_path / "own.py"
    text = EXAMPLE.read_text("utf-8").replace(
        "least_squares(self.logits(players, fake, batch, rng), 1)",
        "next(players['generator'].parameters()).square().mean()",
    )
    file.write_text(text, "utf-8")
    with pytest.raises(
        CustomCodeError, match=r"a loss of the generator that does not depend on \w"
    ):
        advnets.train(f"{file}:game", out=tmp_path / "run", steps=2, progress=False)


def test_phases_that_are_none_are_named(tmp_path):
    file = tmp_path / "own.py"
    file.write_text("class Own:\n    def phases(self): return [3]\ngame = Own()\n", "utf-8")
    with pytest.raises(CustomCodeError, match=r"own.py:game returned 3, expected a tuple of Phase"):
        advnets.train(f"{file}:game", out=tmp_path / "run", steps=2, progress=False)
