"""Views of encoders and of inpainting."""

import json
from dataclasses import replace

import pytest
import torch
from PIL import Image

from advnets import config
from advnets.cli.main import main
from advnets.data.prepared import open_data
from advnets.errors import UsageError
from advnets.experiment.train import train
from advnets.experiment.trained_model import load
from advnets.visualize.reconstructions import Inpainting, Reconstructions


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Return runs of a few steps on digits, one for each game."""
    from advnets import presets
    from advnets.cli.console import Console

    folder = tmp_path_factory.mktemp("runs")
    encoder = config.MLPEncoder(hidden_sizes=(16,))
    stages = {
        "elbo": config.Stage(
            config.MLPGenerator(4, "normal", (16,), ("relu",)),
            config.NoDiscriminator(),
            config.VAEGame(encoder),
        ),
        "point": config.Stage(
            config.MLPGenerator(4, "normal", (16,), ("relu",)),
            config.MLPDiscriminator(hidden_sizes=(16,)),
            config.ALIGame(replace(encoder, deterministic=True)),
        ),
        "inpainting": config.Stage(
            config.MLPGenerator(4, "normal", (16,), ("relu",)),
            config.MLPDiscriminator(hidden_sizes=(16,)),
            config.InpaintingGame(),
        ),
    }
    for name, stage in stages.items():
        run = replace(
            presets.get_preset("digits"),
            data=config.Data(source="digits", batch_size=20),
            stages=(replace(stage, steps=5),),
            runtime=config.Runtime(device="cpu", precision="float32", threads=1),
        )
        train(run, folder / name, [Console()])
    return {name: load(folder / name) for name in stages}


@pytest.mark.parametrize(
    ("run", "view"), [("elbo", "reconstructions"), ("inpainting", "inpainting")]
)
def test_each_view_writes_an_image_and_a_record(runs, run, view, capsys):
    path = runs[run].run.path
    assert main(["visualize", str(path), view, "--num-samples", "3"]) == 0
    file = path / "views" / f"{view}.png"
    assert capsys.readouterr().out == f"{file}\n{file.with_suffix('.json')}\n"
    with Image.open(file) as image:
        assert min(image.size) > 40
    assert json.loads(file.with_suffix(".json").read_text())["view"] == view


def test_reconstructions_are_of_the_first_test_images(runs):
    trained = runs["elbo"]
    figure = Reconstructions(num_samples=4, draws=2).render(trained)
    test = open_data(trained.config.data).dataset.test
    images = torch.from_numpy(test.images[:4]).float() / test.white_level
    reconstructed = trained.decode(trained.player("encoder")(images).mean)
    errors = (reconstructed - images).square().flatten(1).mean(1)
    assert figure.record["squared_errors"] == pytest.approx(errors.tolist(), abs=1e-4)
    repeated = Reconstructions(num_samples=4, draws=2).render(trained)
    assert figure.image.tobytes() == repeated.image.tobytes()


def test_a_deterministic_encoder_has_no_draws(runs):
    figure = Reconstructions(num_samples=2).render(runs["point"])
    assert figure.record["columns"] == ["test image", "mean"]


def test_inpaintings_differ_at_hidden_pixels(runs):
    figure = Inpainting(num_samples=2, draws=3).render(runs["inpainting"])
    assert set(figure.record["hidden_pixel_std"]) == {"lower", "left", "box", "pixels"}
    assert min(figure.record["hidden_pixel_std"].values()) > 0


def test_views_that_a_model_does_not_have_are_refused(runs):
    with pytest.raises(
        UsageError, match="has no encoder; the players of its game are generator and"
    ):
        Reconstructions().render(runs["inpainting"])
    with pytest.raises(UsageError, match="does not inpaint"):
        Inpainting().render(runs["elbo"])
    with pytest.raises(UsageError, match="num_samples is 0; expected 1 or more"):
        Reconstructions(num_samples=0).render(runs["elbo"])
    with pytest.raises(UsageError, match="draws is 0; expected 1 or more"):
        Inpainting(draws=0).render(runs["inpainting"])
