from dataclasses import replace

import pytest
import torch

from advnets import config, presets
from advnets.cli.console import Console
from advnets.experiment.train import train
from advnets.experiment.trained_model import load
from advnets.plots.sample_files import save_images


def small(game):
    """Return a config of DCGAN on scikit-learn's digits for a few steps, which has every view."""
    stage = config.Stage(
        generator=config.DCGANGenerator(latent_dim=8, base_channels=8),
        discriminator=config.DCGANDiscriminator(base_channels=8),
        game=game,
        generator_optimizer=config.Adam(lr=2e-3),
        discriminator_optimizer=config.Adam(lr=2e-3),
        steps=40,
    )
    return replace(
        presets.get_preset("digits"),
        data=config.Data(source="digits", normalize="symmetric", batch_size=20),
        stages=(stage,),
        intervals=config.Intervals(log_every=20, sample_every=10, checkpoint_every=20),
        runtime=config.Runtime(device="cpu", precision="float32", threads=1),
    )


def trained(folder, game):
    train(small(game), folder / "run", [Console()])
    return load(folder / "run")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("plain"), config.GANGame())


@pytest.fixture
def residual(tmp_path):
    """Return a run of residual networks."""
    pair = {
        "generator": config.ResidualGenerator(latent_dim=8, base_channels=8, group_size=8),
        "discriminator": config.ResidualDiscriminator(base_channels=8, group_size=8),
    }
    run = small(config.GANGame())
    train(run.with_stage(replace(run.stage, **pair)), tmp_path / "run", [Console()])
    return load(tmp_path / "run")


@pytest.fixture(scope="module")
def larger(tmp_path_factory, monkeypatch_module):
    """Return a run on images of 16 x 16, whose networks have one more layer."""
    folder = tmp_path_factory.mktemp("larger")
    save_images([torch.rand(60, 1, 16, 16)], 60, folder / "images")
    run = small(config.GANGame())
    data = replace(run.data, source=str(folder / "images"), size=16, channels=1)
    stage = replace(run.stage, steps=4)
    monkeypatch_module.setenv("ADVNETS_CACHE", str(folder / "cache"))
    train(replace(run, data=data, stages=(stage,)), folder / "run", [Console()])
    return load(folder / "run")


@pytest.fixture(scope="module")
def conditional(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("conditional"), config.ConditionalGame())


@pytest.fixture
def packed(tmp_path):
    return trained(tmp_path, config.GANGame(pac=2))


@pytest.fixture(scope="module")
def monkeypatch_module():
    """Return a monkeypatch of module scope."""
    with pytest.MonkeyPatch.context() as patch:
        yield patch
