"""The R3GAN presets: their settings, and that they train on all kinds of data and models."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from advnets import config, presets
from advnets.data.prepared import open_data
from advnets.experiment import setup
from advnets.experiment.players import build_players
from advnets.experiment.train import train
from advnets.run_directory import RunDirectory
from advnets.training.checkpoint import read_checkpoint
from advnets.training.optimizers import beta2, learning_rate
from advnets.training.step import train_step

NAMES = [name for name in presets.PRESETS if name.startswith("modern")]
POINT_SETS = ("modern-ring", "modern-grid")
OWN_RATES = (*POINT_SETS, "modern-mnist", "modern-stacked")
"""Presets whose rates and penalties were tuned here (LOG.md, docs/results)."""
SHAPES = {"modern-mnist": (1, 28, 28), "modern-cifar": (3, 32, 32), "modern": (3, 64, 64)}


@pytest.mark.parametrize("name", NAMES)
def test_modern_presets_follow_the_r3gan_recipe(name):
    """A relativistic loss, decreasing R1 and R2, Adam's betas as published, and an EMA."""
    stage = presets.get_preset(name).stage
    assert stage.game.relativistic
    assert stage.game.r1 == stage.game.r2 >= 10 * stage.game.r1_final
    assert stage.game.r1_final == stage.game.r2_final > 0
    for spec in (stage.generator_optimizer, stage.discriminator_optimizer):
        assert spec.beta1 == 0
        assert (beta2(spec, 0.0), beta2(spec, 1.0)) == (0.9, 0.99)
    assert stage.ema_rampup > 0


@pytest.mark.parametrize("name", [name for name in NAMES if name not in OWN_RATES])
def test_image_presets_use_the_published_rates_and_penalties(name):
    stage = presets.get_preset(name).stage
    assert stage.game.r1 == pytest.approx(10 * stage.game.r1_final)
    for spec in (stage.generator_optimizer, stage.discriminator_optimizer):
        assert (learning_rate(spec, 0, 0.0), learning_rate(spec, 0, 1.0)) == (2e-4, 5e-5)


@pytest.mark.parametrize("name", POINT_SETS)
def test_on_points_only_the_generators_rate_decreases(name):
    """The EMA of a moving G is narrower than G itself."""
    stage = presets.get_preset(name).stage
    assert learning_rate(stage.generator_optimizer, 0, 1.0) == 1e-5
    assert learning_rate(stage.discriminator_optimizer, 0, 1.0) == 1e-3


@pytest.mark.parametrize("name", SHAPES)
def test_models_have_no_normalization_layers(name):
    run = presets.get_preset(name)
    for net in build_players(run, 0, SHAPES[name], torch.zeros(SHAPES[name])).values():
        assert not any("Norm" in type(module).__name__ for module in net.modules())
        assert any(isinstance(module, nn.Conv2d | nn.ConvTranspose2d) for module in net.modules())


POINTS = {
    "schedules": {},
    "hinge": {"objective": "hinge", "relativistic": False},
    "least-squares": {"objective": "least-squares", "relativistic": False},
    "wasserstein": {
        "objective": "wasserstein",
        "relativistic": False,
        "gp_weight": 10.0,
        "r1": 0.0,
        "r1_final": None,
    },
    "packs": {"pac": 5},
    "alternating": {"updates": "alternating", "k": 2},
}


@pytest.mark.parametrize("source", ["ring", "grid"])
@pytest.mark.parametrize("options", POINTS.values(), ids=POINTS)
def test_options_of_the_recipe_train_on_points(source, options, tmp_path, console):
    """With each option all tensors stay finite."""
    run = presets.get_preset(f"modern-{source}")
    nets = {
        "generator": replace(run.stage.generator, hidden_sizes=(16,), activations=("leaky_relu",)),
        "discriminator": config.MLPDiscriminator(hidden_sizes=(16,)),
    }
    game = replace(run.stage.game, **options)
    stage = replace(run.stage, **nets, game=game, steps=6)
    run = replace(run, data=replace(run.data, batch_size=50)).with_stage(stage)
    train(run, tmp_path / "run", [console])
    tensors = read_checkpoint(RunDirectory(tmp_path / "run").newest_checkpoint()).tensors
    assert all(torch.isfinite(t).all() for t in tensors.values())


@pytest.mark.parametrize(
    "discriminator",
    [
        config.ResidualDiscriminator(base_channels=4, group_size=4),
        config.DCGANDiscriminator(
            base_channels=4, kernel_size=4, batch_norm=False, spectral_norm=True
        ),
    ],
    ids=["residual", "spectral norm"],
)
@pytest.mark.parametrize("game", [config.GANGame, config.ConditionalGame])
def test_residual_and_spectral_norm_runs_resume_bit_exactly(
    discriminator, game, tiny, tmp_path, console
):
    adam = config.Adam(lr_final=5e-5, beta1=0.0, beta2=0.9, beta2_final=0.99)
    stage = config.Stage(
        generator=config.ResidualGenerator(latent_dim=4, base_channels=4, group_size=4),
        discriminator=discriminator,
        game=game(relativistic=True, r1=1.0, r1_final=0.1, augment_prob=0.5),
        generator_optimizer=adam,
        discriminator_optimizer=adam,
        steps=6,
        schedule_steps=6,
        ema_half_life=200,
        ema_rampup=0.5,
    )
    run = replace(tiny.with_stage(stage), data=replace(tiny.data, normalize="symmetric"))
    train(run, tmp_path / "whole", [console])
    train(run.with_stage(replace(stage, steps=3)), tmp_path / "cut", [console])
    train(run, tmp_path / "cut", [console], resume=True)
    uninterrupted, resumed = (
        read_checkpoint(RunDirectory(tmp_path / name).newest_checkpoint()).tensors
        for name in ("whole", "cut")
    )
    for name, tensor in uninterrupted.items():  # the shorter run has logged its means earlier
        assert name.startswith("sums/") or torch.equal(resumed[name], tensor), name


def test_each_player_has_its_own_learning_rate(tiny):
    """Another rate of D changes D's first update and not G's."""
    data, ends = open_data(tiny.data), []
    for rate in (1e-4, 4e-4):
        stage = replace(
            tiny.stage,
            game=config.GANGame(updates="simultaneous"),
            generator_optimizer=config.Adam(lr=1e-4),
            discriminator_optimizer=config.Adam(lr=rate),
        )
        run = setup.resolve_config(tiny.with_stage(stage), data.info, tiny.runtime)
        table = setup.make_train_state(run, data, 0, torch.device("cpu"))
        before = [p.clone() for p in table.players["discriminator"].parameters()]
        train_step(table)
        after = table.players["discriminator"].parameters()
        moved = [(b - a).abs().max().item() for a, b in zip(before, after, strict=True)]
        ends.append((max(moved), [p.clone() for p in table.players["generator"].parameters()]))
    assert ends[1][0] == pytest.approx(4 * ends[0][0], rel=1e-2)
    assert all(torch.equal(a, b) for a, b in zip(ends[0][1], ends[1][1], strict=True))
