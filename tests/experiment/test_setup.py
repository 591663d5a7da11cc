from dataclasses import replace

import pytest
import torch

from advnets import config
from advnets.data.prepared import mean_image, open_data
from advnets.experiment import setup
from advnets.experiment.players import build_players


@pytest.mark.parametrize("scaling", ["unit", "symmetric", "contrast"])
def test_the_mean_image_is_in_the_models_range(tiny, scaling):
    data = open_data(replace(tiny.data, normalize=scaling))
    images = torch.from_numpy(data.dataset.train.images)
    written = data.normalizer.to_model(images).double().mean(0)
    torch.testing.assert_close(mean_image(data).double(), written, rtol=1e-5, atol=1e-5)


def test_initial_weights_depend_only_on_the_seed(tiny):
    mean = torch.zeros(1, 8, 8)
    torch.manual_seed(1)
    first = build_players(tiny, 0, (1, 8, 8), mean)
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), after)  # the global generator is unchanged
    torch.manual_seed(2)
    repeated = build_players(tiny, 0, (1, 8, 8), mean)
    another_seed = build_players(replace(tiny, seed=1), 0, (1, 8, 8), mean)
    for name in first:
        for a, b in zip(first[name].parameters(), repeated[name].parameters(), strict=True):
            assert torch.equal(a, b)
    assert not torch.equal(
        first["generator"].output.weight, another_seed["generator"].output.weight
    )


def test_steps_are_computed_from_epochs(tiny):
    run = tiny.with_stage(replace(tiny.stage, steps=None, epochs=10))
    data = open_data(run.data)
    resolved = setup.resolve_config(run, data.info, config.Runtime("cpu", "float32", 1))
    assert resolved.stage.steps == round(10 * 1197 / 20)


@pytest.mark.parametrize(
    ("game", "batches"),
    [(config.GANGame(k=3), 3), (config.GANGame(updates="simultaneous"), 1), (config.VAEGame(), 1)],
)
def test_an_epoch_is_one_pass_for_any_k(tiny, game, batches):
    run = tiny.with_stage(replace(tiny.stage, steps=None, epochs=10, game=game))
    data = open_data(run.data)
    resolved = setup.resolve_config(run, data.info, config.Runtime("cpu", "float32", 1))
    assert resolved.stage.steps == round(10 * 1197 / 20 / batches)
    assert run.images_per_step == 20 * batches


def test_a_run_has_at_least_one_step(tiny):
    run = tiny.with_stage(replace(tiny.stage, steps=None, epochs=1))
    run = replace(run, data=replace(run.data, batch_size=4000))
    data = open_data(run.data)
    assert setup.resolve_config(run, data.info, run.runtime).stage.steps == 1


def test_schedule_steps_are_computed_once(tiny):
    """As a fraction of the run; an extended run keeps them."""
    run = tiny.with_stage(replace(tiny.stage, steps=60, schedule_fraction=0.25))
    data, chosen = open_data(run.data), config.Runtime("cpu", "float32", 1)
    resolved = setup.resolve_config(run, data.info, chosen)
    assert resolved.stage.schedule_steps == 15
    longer = resolved.with_stage(replace(resolved.stage, steps=600))
    assert setup.resolve_config(longer, data.info, chosen).stage.schedule_steps == 15
    assert setup.make_train_state(resolved, data, 0, torch.device("cpu")).schedule_steps == 15
    short = tiny.with_stage(replace(tiny.stage, steps=1, schedule_fraction=0.01))
    assert setup.resolve_config(short, data.info, chosen).stage.schedule_steps == 1
