"""Discriminator logits and inversion of images, against direct computation and least squares."""

import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import advnets
from advnets import config
from advnets.errors import UsageError
from advnets.report.run_report import curves_png


@pytest.fixture
def model(tiny, tmp_path):
    return advnets.train(tiny, out=tmp_path / "run", progress=False)


def test_the_logits_are_those_of_d(model):
    x = model.open_data().dataset.test.read(slice(5)).astype(np.float32) / 16
    expected = model.discriminator(torch.from_numpy(x))
    assert torch.equal(model.discriminator_logits(x), expected)
    assert torch.equal(model.discriminator_logits(torch.from_numpy(x)), expected)


def test_the_logits_of_points_are_those_of_d_at_normalized_points(tmp_path):
    short = {"steps": 2, "progress": False, "device": "cpu", "threads": 1, "eval_every": 0}
    for kind in "none", "standard":
        model = advnets.train("ring", out=tmp_path / kind, normalize=kind, **short)
        points = model.sample(4) * 5
        normalized = model.normalizer.to_model(points)
        assert torch.equal(model.discriminator_logits(points), model.discriminator(normalized))
        assert torch.equal(normalized, points) == (kind == "none")


def test_the_logits_of_conditional_models_depend_on_the_class(tiny, tmp_path):
    stage = replace(tiny.stage, game=config.ConditionalGame())
    model = advnets.train(tiny.with_stage(stage), out=tmp_path / "run", progress=False)
    x = model.sample(2, label="3")
    logits = model.discriminator_logits(x, label=["3", "4"])
    assert torch.equal(logits, model.discriminator(x, labels=torch.tensor([3, 4])))
    assert not torch.equal(logits, model.discriminator_logits(x, label_index=3))
    with pytest.raises(UsageError, match="class-conditional; give the label or the label_index"):
        model.discriminator_logits(x)
    inverted = model.invert(x, label="3", steps=3)
    assert torch.equal(inverted.z[:, -10:], torch.eye(10)[[3, 3]])
    assert model._repr_html_().startswith("<figure><img")


def test_a_linear_generator_is_inverted_as_by_least_squares(tiny, tmp_path):
    """G(z) = Wz + b: the error that is left is that of the linear least-squares solution."""
    generator = config.MLPGenerator(latent_dim=6, hidden_sizes=(), activations=(), output="linear")
    stage = replace(tiny.stage, generator=generator)
    model = advnets.train(tiny.with_stage(stage), out=tmp_path / "run", progress=False)
    images = model.open_data().dataset.test.read(slice(7)).astype(np.float64) / 16
    offset = model.generator(torch.zeros(1, 6)).flatten().double()
    weights = model.generator(torch.eye(6)).flatten(1).double() - offset
    target = torch.from_numpy(images).flatten(1) - offset
    best = torch.linalg.lstsq(weights.T, target.T).solution.T
    inverted = model.invert(images, steps=2000)
    assert inverted.z.double() == pytest.approx(best, abs=0.02 * float(best.abs().max()))
    fitted = model.generator(inverted.z).clamp(0, 1)
    assert torch.allclose(inverted.images, fitted, atol=1e-6)
    squares = (fitted - torch.from_numpy(images)).square().flatten(1).mean(1)
    assert torch.allclose(inverted.errors, squares.float(), atol=1e-6)


def test_samples_are_inverted_almost_exactly(model):
    x = model.sample(3, seed=5)
    first = model.invert(x, steps=1)
    last = model.invert(x)
    assert (last.errors < 0.2 * first.errors).all()
    assert torch.allclose(model.decode(last.z), last.images)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x * 2, "images has values from .*; expected pixels from 0 to 1"),
        (lambda x: x - 1, "images has values from -"),
        (lambda x: x * float("nan"), "images has values that are NaN"),
        (lambda x: x[:, :, 1:], r"images has shape \(2, 1, 7, 8\); expected \(n, 1, 8, 8\)"),
        (lambda x: x[:0], r"images has shape \(0, 1, 8, 8\)"),
        (lambda x: (x * 255).int(), "images is of torch.int32; expected uint8, or pixels from 0"),
    ],
)
def test_images_of_another_shape_or_range_are_refused(model, change, message):
    for function in model.discriminator_logits, model.invert:
        with pytest.raises(UsageError, match=message):
            function(change(model.sample(2)))


def test_images_may_be_bytes_and_have_channels_last_or_none(model):
    pixels = (model.sample(3) * 255).round().byte()
    logits = model.discriminator_logits(pixels.float() / 255)
    for images in pixels, pixels[:, 0], pixels.permute(0, 2, 3, 1), pixels[:, 0].numpy():
        assert torch.equal(model.discriminator_logits(images), logits)


def test_arguments_that_do_not_apply_are_refused(model):
    x = model.sample(2)
    with pytest.raises(UsageError, match="is not class-conditional; leave"):
        model.discriminator_logits(x, label="3")
    with pytest.raises(UsageError, match=r"steps is 0 and lr is 0.1; give positive"):
        model.invert(x, steps=0)
    with pytest.raises(TypeError, match="invert has no argument 'num_steps'; did you mean steps"):
        model.invert(x, num_steps=3)


def test_a_d_of_packs_has_no_logits_of_single_images(tiny, tmp_path):
    packed = replace(tiny.stage, game=config.GANGame(pac=2))
    model = advnets.train(tiny.with_stage(packed), out=tmp_path / "run", progress=False)
    with pytest.raises(UsageError, match=r"D takes packs of 2 images.*without game.pac$"):
        model.discriminator_logits(model.sample(2))


def test_a_notebook_shows_a_grid_of_samples_and_the_training_curves(model, with_curves):
    text = model._repr_html_()
    contents = re.findall(r'src="data:image/png;base64,([^"]+)"', text)
    samples, curves = (Image.open(io.BytesIO(base64.b64decode(content))) for content in contents)
    assert samples.size[0] == samples.size[1] > 5 * 48
    expected = Image.open(io.BytesIO(curves_png(model.run.events())))
    assert np.array_equal(np.asarray(curves), np.asarray(expected))
    assert f"step={model.step}" in text
