"""What is inferred and what is completed, looked at."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from PIL import Image

from advnets import cli, config
from advnets.errors import UsageError
from advnets.experiment import setup
from advnets.experiment.train import train
from advnets.experiment.trained_model import load
from advnets.visualize.inpainting import completions
from advnets.visualize.reconstructions import reconstructions


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A few steps of a game each, on 8x8 digits."""
    from advnets import presets
    from advnets.console import Console

    folder = tmp_path_factory.mktemp("runs")
    encoder = config.MLPEncoder(hidden=(16,))
    stages = {
        "elbo": config.Stage(
            config.MLPGenerator(4, "normal", (16,), ("relu",)),
            config.NoDiscriminator(),
            config.ElboGame(encoder),
        ),
        "point": config.Stage(
            config.MLPGenerator(4, "normal", (16,), ("relu",)),
            config.MLPDiscriminator(units=(16,)),
            config.InferenceGame(replace(encoder, deterministic=True)),
        ),
        "completion": config.Stage(
            config.MLPGenerator(4, "normal", (16,), ("relu",)),
            config.MLPDiscriminator(units=(16,)),
            config.CompletionGame(),
        ),
    }
    for name, stage in stages.items():
        run = replace(
            presets.named("digits"),
            data=config.Data(source="digits", batch_size=20),
            stages=(replace(stage, steps=5),),
            runtime=config.Runtime(device="cpu", precision="float32", threads=1),
        )
        train(run, folder / name, Console())
    return {name: load(folder / name) for name in stages}


@pytest.mark.parametrize(
    ("run", "view"), [("elbo", "reconstructions"), ("completion", "completions")]
)
def test_each_leaves_a_picture_and_a_record(runs, run, view, capsys):
    path = runs[run].run.path
    assert cli.main(["view", str(path), view, "--num", "3"]) == 0
    picture = path / "views" / f"{view}.png"
    assert capsys.readouterr().out == f"{picture}\n{picture.with_suffix('.json')}\n"
    with Image.open(picture) as image:
        assert min(image.size) > 40
    assert json.loads(picture.with_suffix(".json").read_text())["view"] == view


def test_reconstructions_are_of_the_first_test_pictures(runs):
    trained = runs["elbo"]
    look = reconstructions(trained, num=4, draws=2)
    test = setup.open_data(trained.config.data).splits.test
    shown = torch.from_numpy(test.images[:4]).float() / test.white
    back = trained.pictures(trained.player("encoder")(shown).mean)
    errors = (back - shown).square().flatten(1).mean(1)
    assert look.record["squared_errors"] == pytest.approx(errors.tolist(), abs=1e-4)
    again = reconstructions(trained, num=4, draws=2)
    assert look.picture.tobytes() == again.picture.tobytes()


def test_an_encoder_without_spread_draws_nothing(runs):
    look = reconstructions(runs["point"], num=2)
    assert look.record["columns_are"] == ["test picture", "of the mean of z"]


def test_completions_differ_where_pixels_are_hidden(runs):
    look = completions(runs["completion"], num=2, draws=3)
    assert set(look.record["mean_deviation_of_hidden_pixels"]) == {"lower", "left", "box", "pixels"}
    assert min(look.record["mean_deviation_of_hidden_pixels"].values()) > 0


def test_what_a_run_cannot_show_is_said(runs):
    with pytest.raises(UsageError, match="has no encoder: its game is played by generator and"):
        reconstructions(runs["completion"])
    with pytest.raises(UsageError, match="has a G that fills in nothing"):
        completions(runs["elbo"])
    with pytest.raises(UsageError, match="0 pictures were asked for"):
        reconstructions(runs["elbo"], num=0)
    with pytest.raises(UsageError, match="no picture to complete was asked for"):
        completions(runs["completion"], draws=0)
