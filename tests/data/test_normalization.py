import json

import numpy as np
import pytest
import torch

from advnets.data.dataset import ArraySplit
from advnets.data.normalization import fit_normalizer, normalizer_from_statistics
from advnets.errors import UnknownNameError
from advnets.plots.image_grid import grid, to_bytes

KINDS = ["unit", "symmetric", "contrast"]


def tensor(images: ArraySplit) -> torch.Tensor:
    return torch.from_numpy(images.images)


@pytest.mark.parametrize("white", [255, 16])
def test_unit_and_symmetric_are_exact_and_reversible(make_images, white):
    """The formulas are x / white and 2x / white - 1, and the inverse restores every pixel."""
    images = ArraySplit(np.arange(white + 1, dtype=np.uint8).reshape(1, 1, 1, -1), None, white)
    share = images.images.astype(np.float64) / white
    for kind, expected in {"unit": share, "symmetric": 2 * share - 1}.items():
        normalizer = fit_normalizer(kind, images)
        x = normalizer.to_model(tensor(images))
        assert x.dtype == torch.float32
        np.testing.assert_allclose(x.numpy(), expected, atol=1e-7)
        assert x.min() == expected.min()
        assert x.max() == 1
        reconstructed = normalizer.to_pixels(x) * white
        np.testing.assert_array_equal(reconstructed.round().numpy(), images.images)


@pytest.mark.parametrize("kind", ["unit", "symmetric"])
@pytest.mark.parametrize("white", [255, 16])
def test_every_pixel_value_is_restored_exactly(kind, white):
    """Pixels survive normalization and its inverse, files, and normalization from [0, 1]."""
    levels = torch.arange(white + 1, dtype=torch.uint8).reshape(1, 1, 1, -1)
    normalizer = fit_normalizer(kind, ArraySplit(levels.numpy(), None, white))
    shares = normalizer.to_pixels(normalizer.to_model(levels))
    assert torch.equal((shares * white).round().to(torch.uint8), levels)
    np.testing.assert_allclose(shares.numpy(), levels.numpy() / white, atol=6e-8)
    for off in (-0.4, 0.0, 0.4):  # of a level, as a classifier or a file may have them
        near = ((levels.double() + off) / white).clamp(0, 1).float()
        assert torch.equal(normalizer.from_unit_range(near), normalizer.to_model(levels))
    if white == 255:
        assert torch.equal(to_bytes(shares), levels)
        written = np.asarray(grid(shares, scale=1))  # two pixels of gray about the image
        np.testing.assert_array_equal(written[2:-2, 2:-2], levels[0, 0].numpy())


@pytest.mark.parametrize("kind", KINDS)
def test_to_pixels_clamps_to_the_range(make_images, kind):
    """Pixels are float32 in [0, 1] for any output of a network, which is not modified."""
    normalizer = fit_normalizer(kind, make_images())
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.linspace(-300, 300, 12, dtype=dtype).reshape(1, 3, 2, 2)
        before = x.clone()
        y = normalizer.to_pixels(x)
        assert y.dtype == torch.float32
        assert (y.min(), y.max()) == (0, 1)
        assert torch.equal(x, before)


def test_standard_normalization_of_points_and_its_inverse():
    """Mean and std are over all coordinates, as in NumPy; the inverse restores the points."""
    points = np.random.default_rng(0).normal(3.0, 0.2, (500, 2, 1, 1)).astype(np.float32)
    normalizer = fit_normalizer("standard", ArraySplit(points, None, 1))
    x = normalizer.to_model(torch.from_numpy(points))
    np.testing.assert_allclose(x, (points - points.mean()) / points.std(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(normalizer.to_pixels(x), points, rtol=1e-6)
    assert normalizer_from_statistics("standard", normalizer.statistics()) == normalizer
    image = np.ones((3, 2, 1, 1), np.float32)
    assert (
        not fit_normalizer("standard", ArraySplit(image, None, 1))
        .to_model(torch.from_numpy(image))
        .any()
    )


@pytest.mark.parametrize("white", [255, 16])
def test_contrast_against_its_formula(make_images, white):
    """Each image minus its mean is scaled to norm 55, as computed in float64."""
    images = make_images(20, (3, 32, 32), white)
    x = images.images.reshape(20, -1).astype(np.float64) * 255 / white
    x -= x.mean(1, keepdims=True)
    x = 55 * x / np.linalg.norm(x, axis=1, keepdims=True)
    normalized = fit_normalizer("contrast", images).to_model(tensor(images))
    assert normalized.shape == images.images.shape
    np.testing.assert_allclose(normalized.reshape(20, -1).numpy(), x, rtol=5e-6, atol=1e-6)


@pytest.mark.parametrize("level", [0, 1, 77, 255])
def test_contrast_of_a_flat_image_is_zero(level):
    """A constant image becomes exactly 0; its rounding errors are not amplified."""
    images = ArraySplit(np.full((2, 3, 117, 131), level, np.uint8))
    x = fit_normalizer("contrast", images).to_model(tensor(images))
    assert torch.equal(x, torch.zeros_like(x))


def test_contrast_statistics_are_those_of_the_training_set(make_images):
    """Mean and norm agree with float64 over all images, in several blocks."""
    images = make_images(2500, (1, 5, 5), 16)
    x = images.images.reshape(2500, -1).astype(np.float64) * 255 / 16
    statistics = fit_normalizer("contrast", images).statistics()
    assert statistics["mean_level"] == pytest.approx(x.mean(), rel=1e-12)
    norms = np.linalg.norm(x - x.mean(1, keepdims=True), axis=1)
    assert statistics["mean_norm"] == pytest.approx(norms.mean(), rel=1e-12)


def test_contrast_inverse_is_the_same_for_all_images():
    """An image of average mean and norm is restored, independent of the rest of the batch."""
    image = np.array([100, 140, 90, 150], np.uint8).reshape(1, 1, 2, 2)
    normalizer = fit_normalizer("contrast", ArraySplit(np.concatenate([image, image])))
    x = normalizer.to_model(torch.from_numpy(image))
    single = normalizer.to_pixels(x)
    np.testing.assert_allclose(single.numpy() * 255, image, atol=1e-3)
    in_batch = normalizer.to_pixels(torch.cat([x, 100 * x]))
    assert torch.equal(in_batch[:1], single)


@pytest.mark.parametrize("kind", KINDS)
def test_statistics_rebuild_the_normalizer(make_images, kind):
    """The statistics survive JSON and rebuild an equal normalizer."""
    normalizer = fit_normalizer(kind, make_images(white=16))
    statistics = json.loads(json.dumps(normalizer.statistics()))
    assert normalizer_from_statistics(kind, statistics) == normalizer


def test_unknown_kind_is_refused():
    """The error names the nearest kinds."""
    with pytest.raises(UnknownNameError, match="did you mean symmetric"):
        normalizer_from_statistics("symetric", {})
