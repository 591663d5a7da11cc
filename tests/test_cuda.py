"""Trainings and samples on a CUDA device; without one, the same tests of the CPU alone.

Further tests of CUDA devices have the mark `cuda`: pytest -m cuda, or tools/gpu_check.py.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import advnets
from advnets import config, presets
from advnets.config.overrides import apply_overrides
from advnets.data.prepared import open_data
from advnets.experiment import setup
from advnets.experiment.train import train
from advnets.run_directory import RunDirectory
from advnets.training import devices
from advnets.training.optimizers import make_optimizer
from advnets.training.step import train_step

CPU = torch.device("cpu")

SMALL_DCGAN = {
    "data": "digits",
    "generator.base_channels": 8,
    "discriminator.base_channels": 8,
}
RUNS = {
    "maxout with dropout": ("digits", {}),
    "R1 and R2": ("digits", {"game.r1": 1.0, "game.r2": 1.0, "game.updates": "simultaneous"}),
    "WGAN-GP": ("digits", {"game.objective": "wasserstein", "game.gp_weight": 10.0}),
    "mixture prior": ("modern-ring", {}),
    "batch normalization": ("mlp", {"data": "digits"}),
    "convolutions": ("dcgan", SMALL_DCGAN),
    "augmentation": ("modern", {**SMALL_DCGAN, "game.augment_prob": 0.9}),
    "labels": ("projection-mnist", SMALL_DCGAN),
    "few labels": ("semi-supervised-mnist-2016", {"data": "digits"}),
    "VAE": ("vae-mnist", {"data": "digits"}),
}


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request):
    """Return a device, with float32 convolutions that are not rounded to TF32."""
    conv = torch.backends.cudnn.conv
    before, conv.fp32_precision = conv.fp32_precision, "ieee"
    yield torch.device(request.param)
    conv.fp32_precision = before


def make_config(name, device, precision="float32"):
    preset, options = RUNS[name]
    options = {"batch_size": 20, "steps": 12, "threads": 1, **options}
    return apply_overrides(
        presets.get_preset(preset), {**options, "device": str(device), "precision": precision}
    )


def make_state(name, device, precision="float32"):
    """Return the train state of a run with SGD: Adam turns rounding errors into whole steps."""
    run = make_config(name, device, precision)
    sgd = config.SGD(lr=0.01)
    stage = replace(run.stage, generator_optimizer=sgd, discriminator_optimizer=sgd)
    data = open_data(run.data)
    run = setup.resolve_config(run.with_stage(stage), data.info, devices.resolve(run.runtime))
    return setup.make_train_state(run, data, 0, device)


def weights(state):
    return torch.cat(
        [p.detach().cpu().flatten() for net in state.players.values() for p in net.parameters()]
    )


def train_some(state, steps):
    """Train; return the change of all weights, and the metrics of each step."""
    start = weights(state)
    metrics = [{k: v.item() for k, v in train_step(state).metrics.items()} for _ in range(steps)]
    return weights(state) - start, metrics


@pytest.mark.parametrize("name", RUNS)
def test_a_training_is_that_of_the_cpu_up_to_rounding(device, name):
    """The weights move the same way within 0.1 %, and the metrics of each step are equal."""
    expected, expected_metrics = train_some(make_state(name, CPU), 4)
    moved, metrics = train_some(make_state(name, device), 4)
    assert expected.norm() > 0
    assert (moved - expected).norm() < 1e-3 * expected.norm()
    assert metrics == [pytest.approx(step, rel=1e-3, abs=1e-4) for step in expected_metrics]


@pytest.mark.parametrize("spec", [config.SGD(lr=0.1), config.Adam(lr=0.1, beta2_final=0.9)])
def test_an_optimizer_makes_the_updates_of_the_cpu(device, spec):
    """Ten updates with equal gradients; the third is not finite and skipped."""
    ends = []
    for where in (CPU, device):
        weight = torch.linspace(-1, 1, 64).to(where)
        optimizer = make_optimizer(spec, [weight])
        for n in range(10):
            gradient = torch.linspace(-2, 3, 64).sin().to(where) * (n + 1)
            finite = torch.tensor(n != 2, device=where)
            optimizer.step([gradient], n, 0, finite, n / 10)
        ends.append(weight.cpu())
    torch.testing.assert_close(ends[1], ends[0])


@pytest.mark.parametrize("name", ["convolutions", "R1 and R2"])
def test_bfloat16_rounds_and_learns_the_same(device, name):
    """The weights move in the direction of float32, within what rounding to 8 bits explains."""
    exact, _ = train_some(make_state(name, device), 4)
    rounded, metrics = train_some(make_state(name, device, "bfloat16"), 4)
    assert all(torch.isfinite(torch.tensor([*step.values()])).all() for step in metrics)
    assert not torch.equal(exact, rounded)
    assert torch.cosine_similarity(exact, rounded, dim=0) > 0.99


@pytest.fixture
def deterministic(monkeypatch):
    """Use deterministic kernels, where there are any."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.filterwarnings("default:.*deterministic")
@pytest.mark.parametrize("name", ["maxout with dropout", "R1 and R2", "convolutions"])
def test_a_resumed_training_is_bit_exact(device, name, tmp_path, deterministic, crashing):
    every = config.Intervals(log_every=2, sample_every=0, checkpoint_every=4, eval_every=0)
    run = replace(make_config(name, device), intervals=every)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(run, whole)
    with pytest.raises(crashing.error):
        train(run, cut, [crashing(6)])
    train(run, cut, resume=True)
    ends = [RunDirectory(path).newest_checkpoint().read_bytes() for path in (whole, cut)]
    assert ends[0] == ends[1]


@pytest.mark.parametrize("name", ["batch normalization", "convolutions", "mixture prior"])
def test_samples_of_a_seed_are_those_of_the_cpu(device, name, tmp_path):
    """They depend on the seed and the weights alone, and not on how many are drawn."""
    every = config.Intervals(sample_every=0, eval_every=0)
    train(replace(make_config(name, device), intervals=every), tmp_path)
    here = advnets.load(tmp_path, device=device)
    images = here.sample(8, seed=3)
    assert torch.equal(images, here.sample(8, seed=3))
    torch.testing.assert_close(images[:5], here.sample(5, seed=3), rtol=0, atol=1e-4)
    expected = advnets.load(tmp_path, device="cpu").sample(8, seed=3)
    torch.testing.assert_close(images.cpu(), expected, rtol=1e-3, atol=1e-3)
    assert not torch.equal(images, here.sample(8, seed=4))
