from __future__ import annotations

import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

from advnets import config
from advnets.data.prepared import mean_image, open_data
from advnets.errors import ConfigDiffersError, RunError, StoppedBySignal, UsageError
from advnets.evaluation.context import EvaluationContext
from advnets.evaluation.distances import parzen_records
from advnets.experiment.players import build_players
from advnets.experiment.stored_run import players_of_run
from advnets.experiment.train import train
from advnets.experiment.trained_model import load
from advnets.extractors.builtin import Pixels
from advnets.run_directory import RunDirectory
from advnets.sampling.sampler import ComputeSettings, draw_samples
from advnets.training.callback import Callback
from advnets.training.checkpoint import read_checkpoint


@pytest.fixture
def two_stages(tiny):
    """Return two stages of ten steps, as for TFD: the second generator takes the first's output."""
    first = replace(tiny.stage, steps=10, generator=replace(tiny.stage.generator, batch_norm=False))
    bottom = replace(first.generator, latent_dim=5, output_bias=-2.0)
    return replace(
        tiny,
        stages=(first, replace(first, generator=bottom, on_top_of_previous=True)),
        intervals=config.Intervals(log_every=4, sample_every=0, checkpoint_every=3),
    )


def last(run):
    return RunDirectory(run).newest_checkpoint()


@pytest.fixture
def resumes_bit_exactly(tmp_path, console, crashing):
    """Train a run whole, and again with a crash after a step; compare the last checkpoints."""

    def check(run, step):
        train(run, tmp_path / "whole", [console])
        with pytest.raises(crashing.error):
            train(run, tmp_path / "cut", [crashing(step)])
        result = train(run, tmp_path / "cut", [console], resume=True)
        assert last(tmp_path / "whole").read_bytes() == last(tmp_path / "cut").read_bytes()
        return result

    return check


def test_the_second_stage_starts_with_the_generator_of_the_first(
    two_stages, tmp_path, console, crashing
):
    uninterrupted = tmp_path / "whole"
    train(two_stages, uninterrupted, [console])
    first = two_stages.stages[:1]
    second_stage = tmp_path / "alone"
    train(replace(two_stages, stages=first), second_stage, [console])
    with pytest.raises(crashing.error):
        train(two_stages, tmp_path / "cut", [crashing(11)])
    initial = read_checkpoint(last(tmp_path / "cut"))
    assert initial.metadata["stage"] == 1
    assert initial.metadata["progress"]["step"] == 0
    final = read_checkpoint(last(second_stage))
    for name, tensor in final.tensors.items():
        if name.startswith("players/generator/"):
            top = name.replace("players/generator/", "generator/top.")
            for prefix in ("players", "ema"):
                assert torch.equal(initial.tensors[f"{prefix}/{top}"], tensor), name
    assert load(uninterrupted).step == 20
    assert load(uninterrupted).sample(2).shape == (2, 1, 8, 8)


@pytest.mark.parametrize("step", [9, 25, 41])
def test_adaptive_k_resumes_bit_exactly(tiny, tmp_path, step, resumes_bit_exactly):
    """The last logged D(x) - D(G(z)) is in the checkpoint; k is 3 in some steps and 1 in others."""
    game = config.GANGame(k=3, adaptive_k_threshold=0.0008)
    resumes_bit_exactly(tiny.with_stage(replace(tiny.stage, game=game)), step)
    updates = read_checkpoint(last(tmp_path / "whole")).metadata["progress"]["updates"]
    assert updates["generator"] == 60
    assert 60 < updates["discriminator"] < 180


def test_a_learned_prior_is_trained_averaged_and_resumed(tiny, tmp_path, resumes_bit_exactly):
    generator = replace(tiny.stage.generator, prior="mixture", components=4)
    run = tiny.with_stage(replace(tiny.stage, generator=generator))
    resumes_bit_exactly(run, 33)
    tensors = read_checkpoint(last(tmp_path / "whole")).tensors
    initial = players_of_run(run, 0, load(tmp_path / "whole").info)["generator"].state_dict()
    for part in ("prior.means", "prior.log_stds"):
        moved = [tensors[f"{prefix}/generator/{part}"] for prefix in ("players", "ema")]
        assert not torch.equal(moved[0], initial[part])
        assert not torch.equal(*moved)
    assert load(tmp_path / "whole").sample(3).shape == (3, 1, 8, 8)


@pytest.mark.parametrize("step", [1, 5, 9, 10, 11, 14, 20])
def test_a_run_of_two_stages_resumes_bit_exactly_from_any_step(
    two_stages, tmp_path, step, resumes_bit_exactly
):
    result = resumes_bit_exactly(two_stages, step)
    assert result.complete
    assert result.step == 20
    events = RunDirectory(tmp_path / "cut").events()
    steps = [event["step"] for event in events if event["kind"] == "log"]
    assert steps == [4, 8, 10, 14, 18, 20]


@pytest.mark.parametrize("game", [config.GANGame(k=2), config.GANGame(updates="simultaneous")])
@pytest.mark.parametrize("rule", [config.SGD(lr=0.05), config.Adam()], ids=["sgd", "adam"])
def test_every_game_and_optimizer_resumes_bit_exactly(tiny, game, rule, resumes_bit_exactly):
    stage = replace(
        tiny.stage, game=game, generator_optimizer=rule, discriminator_optimizer=rule, steps=30
    )
    run = replace(
        tiny.with_stage(stage),
        intervals=config.Intervals(log_every=10, sample_every=0, checkpoint_every=7),
    )
    resumes_bit_exactly(run, 18)


@pytest.fixture
def scheduled(tiny):
    """Return a config with every schedule."""
    adam = config.Adam(lr=1e-3, lr_final=1e-4, beta1=0.0, beta2=0.9, beta2_final=0.99)
    game = config.GANGame(r1=1.0, r1_final=0.1, r2=1.0, r2_final=0.1, augment_prob=0.5)
    stage = replace(
        tiny.stage,
        game=game,
        generator_optimizer=adam,
        discriminator_optimizer=adam,
        steps=30,
        ema_rampup=0.1,
        schedule_fraction=0.8,
    )
    return replace(
        tiny.with_stage(stage),
        intervals=config.Intervals(log_every=10, sample_every=0, checkpoint_every=7),
    )


@pytest.mark.parametrize("updates", ["alternating", "simultaneous"])
def test_schedules_resume_bit_exactly(scheduled, updates, resumes_bit_exactly):
    game = replace(scheduled.stage.game, updates=updates)
    run = scheduled.with_stage(replace(scheduled.stage, game=game))
    resumes_bit_exactly(run, 18)


def test_an_extended_run_keeps_the_length_of_its_schedules(scheduled, tmp_path, console):
    """It continues at the final values, like a run with schedules of this length from the start."""
    train(scheduled, tmp_path / "run", [console])
    longer = scheduled.with_stage(replace(scheduled.stage, steps=45))
    train(longer, tmp_path / "run", [console], resume=True)
    uninterrupted = longer.with_stage(replace(longer.stage, schedule_steps=24))
    train(uninterrupted, tmp_path / "whole", [console])
    assert last(tmp_path / "run").read_bytes() == last(tmp_path / "whole").read_bytes()
    with pytest.raises(ConfigDiffersError, match=r"schedule-fraction: 0.8, 0.5"):
        changed = scheduled.with_stage(replace(scheduled.stage, schedule_fraction=0.5))
        train(changed, tmp_path / "run", [console], resume=True)


def test_every_schedule_changes_what_is_learned(scheduled, tmp_path, console):
    """Without any one of them the weights differ; without that of the EMA, only the EMA differs."""
    stage = scheduled.with_stage(replace(scheduled.stage, steps=8)).stage
    adam, game = stage.generator_optimizer, stage.game
    stages = {
        "all": stage,
        "lr_final": replace(stage, generator_optimizer=replace(adam, lr_final=None)),
        "beta2_final": replace(stage, generator_optimizer=replace(adam, beta2_final=None)),
        "r1_final": replace(stage, game=replace(game, r1_final=None)),
        "r2_final": replace(stage, game=replace(game, r2_final=None)),
        "augment_prob": replace(stage, game=replace(game, augment_prob=0.0)),
        "augmentations": replace(stage, game=replace(game, augmentations=("flip",))),
        "schedule_fraction": replace(stage, schedule_fraction=0.5),
        "least-squares": replace(stage, game=replace(game, objective="least-squares")),
        # A hinge whose logits are within 1 has the same slopes.
        "wasserstein": replace(stage, game=replace(game, objective="wasserstein")),
        "gp_weight": replace(stage, game=replace(game, gp_weight=10.0)),
        "pac": replace(stage, game=replace(game, pac=2)),
        "ema_rampup": replace(stage, ema_rampup=0.0),
    }
    ends = {}
    for name, variant in stages.items():
        train(scheduled.with_stage(variant), tmp_path / name, [console])
        ends[name] = read_checkpoint(last(tmp_path / name)).tensors
    last_weight, average = "players/generator/output.weight", "ema/generator/output.weight"
    weights = [tuple(tensors[average].flatten().tolist()) for tensors in ends.values()]
    assert len(set(weights)) == len(weights)
    assert torch.equal(ends["all"][last_weight], ends["ema_rampup"][last_weight])


def test_options_change_what_is_learned(tiny, tmp_path, console):
    """Each of these options changes the final weights."""
    base = tiny.with_stage(replace(tiny.stage, steps=5))
    stage = base.stage
    others = {
        "base": base,
        "seed": replace(base, seed=1),
        "k": base.with_stage(replace(stage, game=config.GANGame(k=2))),
        "objective": base.with_stage(replace(stage, game=config.GANGame(objective="minimax"))),
        "updates": base.with_stage(replace(stage, game=config.GANGame(updates="simultaneous"))),
        "relativistic": base.with_stage(replace(stage, game=config.GANGame(relativistic=True))),
        "prior": base.with_stage(
            replace(stage, generator=replace(stage.generator, prior="normal"))
        ),
        "dropout": base.with_stage(
            replace(stage, generator=replace(stage.generator, dropout=(0.0, 0.5)))
        ),
        "noise": base.with_stage(
            replace(stage, generator=replace(stage.generator, noise=(0.0, 0.5)))
        ),
        "bound": base.with_stage(
            replace(stage, generator=replace(stage.generator, max_column_norm=0.01))
        ),
        "dropout_hidden": base.with_stage(
            replace(stage, discriminator=replace(stage.discriminator, dropout_hidden=0.1))
        ),
        "normalize": replace(base, data=replace(base.data, normalize="symmetric")).with_stage(
            replace(stage, generator=replace(stage.generator, output="tanh"))
        ),
        "batch": replace(base, data=replace(base.data, batch_size=21)),
        "lr": base.with_stage(replace(stage, generator_optimizer=config.Adam(lr=1e-3))),
        "precision": replace(base, runtime=replace(base.runtime, precision="bfloat16")),
    }
    ends = {}
    for name, run in others.items():
        train(run, tmp_path / name, [console])
        ends[name] = read_checkpoint(last(tmp_path / name)).tensors[
            "players/generator/output.weight"
        ]
    for name, end in ends.items():
        same = [variant for variant, o in ends.items() if variant != name and torch.equal(o, end)]
        assert not same, f"{name} ends as {same}"


def test_the_ema_half_life_changes_only_the_ema(tiny, tmp_path, console):
    ends = []
    for half_life in (300, 900):
        run = tiny.with_stage(replace(tiny.stage, steps=20, ema_half_life=half_life))
        train(run, tmp_path / str(half_life), [console])
        ends.append(read_checkpoint(last(tmp_path / str(half_life))).tensors)
    last_weight, average = "players/generator/output.weight", "ema/generator/output.weight"
    assert torch.equal(ends[0][last_weight], ends[1][last_weight])
    assert not torch.equal(ends[0][average], ends[1][average])


def test_resuming_with_another_config_is_refused(tiny, tmp_path, console):
    run = tiny.with_stage(replace(tiny.stage, steps=2))
    train(run, tmp_path / "run", [console])
    with pytest.raises(ConfigDiffersError, match="seed: 0, 1; resume without these options"):
        train(replace(run, seed=1), tmp_path / "run", [console], resume=True)


def test_the_lock_is_released_when_a_training_fails(tiny, tmp_path, console, crashing):
    with pytest.raises(crashing.error):
        train(tiny, tmp_path / "run", [crashing(3)])
    with pytest.raises(RunError, match="already holds a run"):
        train(tiny, tmp_path / "run", [console])


def test_the_real_row_is_the_score_of_the_training_images(tiny):
    data = open_data(tiny.data)
    generator = build_players(tiny, 0, data.info.shape, mean_image(data))["generator"]
    drawing = ComputeSettings(torch.device("cpu"))
    records = parzen_records(
        EvaluationContext({"generator": generator}, data, 0, 0, "last", drawing, Pixels())
    )
    real = next(r for r in records if r["samples"] != "generator" and r["grid"] == "paper")
    train_, test = data.dataset.train, data.dataset.test
    centers = train_.images.reshape(len(train_), -1) / 16
    points = test.images.reshape(len(test), -1) / 16
    square = ((points[:, None] - centers[None]) ** 2).sum(2)
    exponents = -square / (2 * real["sigma"] ** 2)
    largest = exponents.max(1)
    mean = np.exp(exponents - largest[:, None]).mean(1)
    nats = largest + np.log(mean) - 64 * np.log(real["sigma"] * np.sqrt(2 * np.pi))
    assert real["mean"] == pytest.approx(nats.mean(), abs=1e-3)
    assert real["n_samples"] == 1197
    generated = next(r for r in records if r["samples"] == "generator" and r["grid"] == "paper")
    assert generated["mean"] < real["mean"]


def test_samples_are_drawn_in_the_precision_of_the_run(tiny):
    """In bfloat16 they equal those of float32 within rounding, and the first do not depend on n."""
    data = open_data(tiny.data)
    generator = build_players(tiny, 0, data.info.shape, mean_image(data))["generator"]
    exact, short, more = (
        draw_samples(
            generator, data.normalizer, n, 0, ComputeSettings(torch.device("cpu"), precision)
        )
        for n, precision in ((20, torch.float32), (20, torch.bfloat16), (600, torch.bfloat16))
    )
    assert not torch.equal(exact, short)
    torch.testing.assert_close(exact, short, rtol=0, atol=2**-7)
    assert torch.equal(short, more[:20])


def test_a_signal_before_the_first_step_leaves_the_name_free(tiny, tmp_path, console):
    """Also after config.json is written: the same command starts the same training."""

    class Stopped(Callback):
        def on_event(self, event):
            raise StoppedBySignal(signal.SIGTERM)

    with pytest.raises(StoppedBySignal):
        train(tiny, tmp_path / "run", [Stopped()])
    assert not RunDirectory(tmp_path / "run").exists
    train(tiny, tmp_path / "run", [console])


@pytest.mark.parametrize("rule", [config.SGD(lr=0.0), config.Adam(lr=0.0)], ids=["sgd", "adam"])
def test_a_player_with_a_learning_rate_of_0_is_frozen(tiny, tmp_path, rule):
    """It keeps its weights, which is no failure; a rate of 0 for both players is refused."""
    stage = replace(tiny.stage, discriminator_optimizer=rule)
    kept = replace(tiny.intervals, keep_checkpoints="all")
    result = train(replace(tiny.with_stage(stage), intervals=kept), tmp_path / "run")
    assert result.problem is None
    first, last = (
        read_checkpoint(RunDirectory(tmp_path / "run").checkpoint_file(step)).tensors
        for step in (0, 60)
    )
    weights = [name for name in first if name.startswith("players/") and "weight" in name]
    for name in weights:
        assert first[name].equal(last[name]) == name.startswith("players/discriminator")
    with pytest.raises(UsageError, match="lr is 0, which trains neither player; give a positive"):
        stage.with_learning_rate(0.0)
