"""Tests of the VAE baseline, on trainings of a few steps."""

import math
from dataclasses import replace

import pytest
import torch

from advnets.data.prepared import open_data
from advnets.metrics.distance import nearest
from advnets.paper import trainings
from advnets.paper.blocks import FigureBlock, Table, Text
from advnets.paper.sections import vae
from advnets.paper.studies.likelihoods import cpu_seconds
from advnets.paper.studies.sample_statistics import gradient_energy, sharpness


@pytest.fixture
def context(context, monkeypatch, tmp_path):
    """Return a context without data, two seeds, and a few training steps on digits."""
    real = trainings.digits_config

    def short(seed):
        run = real(seed)
        run = replace(run, intervals=replace(run.intervals, log_every=3, eval_every=0))
        return run.with_stage(replace(run.stage, steps=6))

    monkeypatch.setattr(trainings, "digits_config", short)
    monkeypatch.setattr(trainings, "VAE_EPOCHS", 3)
    return replace(context, seeds=2, data_dir=str(tmp_path / "data"))


def test_blur_lowers_the_energy_of_an_edge_and_leaves_its_variation():
    """A step of height 1 against a ramp of four of 1/4: sums of differences 1 and 1, of squares
    1 and 1/4, over the same number of neighbors."""
    sharp = torch.tensor([0.0, 0.0, 1.0, 1.0, 1.0, 1.0]).expand(1, 1, 6, 6)
    ramp = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0, 1.0]).expand(1, 1, 6, 6)
    assert sharpness(sharp) == pytest.approx(sharpness(ramp)) == pytest.approx(1 / 10)
    assert gradient_energy(sharp) == pytest.approx(1 / 10)
    assert gradient_energy(ramp) == pytest.approx(1 / 40)


def test_cpu_seconds_sum_all_log_events_or_are_nan():
    logs = [{"kind": "log", "cpu_seconds": s} for s in (1.5, 2.0)]
    assert cpu_seconds([{"kind": "start"}, *logs, {"kind": "end"}]) == 3.5
    assert math.isnan(cpu_seconds([*logs, {"kind": "log"}]))


def test_vae_decoder_is_the_generator_of_digits():
    small, run = trainings.digits_config(0).stage, trainings.digits_vae_config(0).stage
    assert replace(run.generator, prior=small.generator.prior) == small.generator
    assert run.generator.prior == "normal"


def test_section_is_built(context):
    section = vae.build(context)
    for image in [block for block in section.blocks if isinstance(block, FigureBlock)]:
        assert (context.folder / image.file).stat().st_size > 0
    (table,) = [block for block in section.blocks if isinstance(block, Table)]
    assert [row[0] for row in table.rows] == ["VAE", "G", "real training images"]
    actual, g, real = table.rows
    assert (actual[2] != "none", g[2], real[2]) == (True, "none", "")
    words = [block.text for block in section.blocks if isinstance(block, Text)]
    assert words[-1].startswith("The ELBO is a bound for the VAE alone, and it is not comparable")
    assert len(section.checks) == 3
    for check in section.checks[:2]:
        expected, result = float(check.expected.split()[-1]), float(check.measured)
        assert check.passed == (result < expected) or result == expected  # as rounded
    last = section.checks[2]
    assert last.passed == (float(last.measured) > float(last.expected.split()[1]))


def test_reconstruction_errors_equal_those_per_image(context, monkeypatch):
    monkeypatch.setattr(vae, "NUM_TEST", 40)
    vaes = trainings.vae_runs(context)
    data = open_data(vaes[0].config.data)
    reconstructed = vae.Reconstructions.from_runs(vaes, data)
    parts = (data.dataset.test, data.dataset.train)
    test, train = (torch.from_numpy(part.images).float() / part.white_level for part in parts)
    test = test[:40]
    result = 0.0
    for trained in vaes:
        encoder, g = trained.player("encoder"), trained.generator
        result += sum(float((g(encoder(x[None]).mean) - x).square().mean()) for x in test)
    assert reconstructed.errors["VAE"] == pytest.approx(result / 2 / len(test), rel=1e-4)
    distances, _ = nearest(test.flatten(1), train.flatten(1))
    assert reconstructed.errors["nearest"] == pytest.approx(
        float(distances.square().mean()) / 64, rel=1e-4
    )
    flat = (test - train.mean(0)).square().mean()
    assert reconstructed.errors["mean"] == pytest.approx(float(flat), rel=1e-4)


def test_scores_are_computed_once(context):
    trained = trainings.vae_runs(context)[0]
    first = trainings.load_or_evaluate(trained, trained.weights, ("elbo",))
    written = trained.run.scores_file.stat().st_mtime_ns
    assert trainings.load_or_evaluate(trained, trained.weights, ("elbo",)) == first
    assert trained.run.scores_file.stat().st_mtime_ns == written
