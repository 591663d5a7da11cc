"""Tests of explicit density models against other libraries, and of class frequencies."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.neighbors import KernelDensity

from advnets.data.dataset import ArraySplit, Dataset
from advnets.data.registry import open_dataset
from advnets.experiment.train import train
from advnets.experiment.trained_model import load
from advnets.paper.sections import density
from advnets.paper.sections.density import (
    Gaussian,
    ImageRows,
    class_frequencies,
    fit_densities,
    frequencies,
    sample_kernel_density,
    total_variation,
)
from advnets.rng import RNG

NOISE = RNG(0)


@pytest.fixture
def flat():
    """Return 200 points of 5 dimensions that vary in 3."""
    rng = torch.Generator().manual_seed(0)
    return torch.randn(200, 3, generator=rng) @ torch.randn(3, 5, generator=rng) + 2


def test_gaussian_density_equals_scipys(flat):
    """Compare the maximum-likelihood density with σ² I with SciPy's."""
    fitted, points = Gaussian.fit(flat), torch.randn(9, 5)
    covariance = np.cov(flat.double().numpy().T, bias=True) + 0.3**2 * np.eye(5)
    reference = multivariate_normal(flat.double().numpy().mean(0), covariance)
    np.testing.assert_allclose(
        fitted.log_density(points, 0.3), reference.logpdf(points.double().numpy()), rtol=1e-6
    )


def test_rank_of_a_singular_covariance(flat):
    assert Gaussian.fit(flat.double()).rank == 3
    assert Gaussian.fit(torch.randn(50, 5, dtype=torch.float64)).rank == 5
    few = Gaussian.fit(torch.rand(10, 40, dtype=torch.float64))
    assert few.rank == 9  # n images leave n - 1 directions


def test_gaussian_samples_have_its_moments(flat):
    samples = Gaussian.fit(flat).sample(40_000, 0.5, NOISE).double()
    expected = torch.cov(flat.double().T, correction=0) + 0.25 * torch.eye(5)
    torch.testing.assert_close(samples.mean(0), flat.double().mean(0), atol=0.05, rtol=0)
    torch.testing.assert_close(torch.cov(samples.T), expected, atol=0.2, rtol=0.03)


def test_kernels_are_sampled_uniformly(flat):
    samples, which = sample_kernel_density(flat, 20_000, 0.1, NOISE)
    assert (samples - flat[which]).std() == pytest.approx(0.1, rel=0.02)
    counts = torch.bincount(which, minlength=len(flat))
    assert counts.min() > 50  # of 100 expected each
    assert counts.max() < 160


@pytest.fixture(scope="module")
def fits():
    return fit_densities(ImageRows.from_dataset(open_dataset("digits"), 2000))


def test_kernel_density_likelihood_equals_scikit_learns(fits):
    subject = fits.data
    # In one leaf every distance is taken; in many, scikit-learn is 10 nats off in 64 dimensions.
    reference = KernelDensity(bandwidth=fits.widths["kernel"], leaf_size=len(subject.train))
    reference.fit(subject.train.numpy())
    expected = reference.score(subject.test.numpy()) / len(subject.test)
    assert fits.models["kernel"].log_likelihood == pytest.approx(expected, rel=1e-4)


def test_likelihood_and_sample_quality_differ_on_digits(fits):
    models, (_, distance) = fits.models, fits.test_stats
    likelihoods = {name: model.log_likelihood for name, model in models.items()}
    assert likelihoods["gaussian"] > likelihoods["kernel"] > likelihoods["narrow"] + 100
    assert models["gaussian"].distance > distance > models["kernel"].distance
    assert models["narrow"].distance == pytest.approx(0.1 * distance, rel=0.3)
    assert fits.own_nearest == 1.0


def test_three_pixels_of_the_digits_are_always_black(fits):
    assert (fits.rank, fits.n_outside) == (61, 0)


def test_total_variation_is_half_the_sum_of_differences():
    p, q = np.array([0.5, 0.5, 0.0]), np.array([0.25, 0.25, 0.5])
    assert total_variation(p, q) == 0.5
    assert total_variation(p, p) == 0
    np.testing.assert_array_equal(frequencies(np.array([0, 2, 2, 0]), 4), [0.5, 0, 0.5, 0])


def test_classes_are_counted_by_their_nearest_images():
    """There are two classes, black and white; a quarter of the samples is white."""
    images = np.repeat(np.array([0, 255], np.uint8), 50).reshape(-1, 1, 1, 1) * np.ones(
        (1, 1, 2, 2), np.uint8
    )
    half = ArraySplit(images, np.repeat([0, 1], 50))
    samples = torch.tensor([0.1, 0.2, 0.0, 0.9]).repeat(25)[:, None].expand(-1, 4).contiguous()
    shares = class_frequencies(Dataset("two", half, half, half), samples)
    assert shares.accuracy == 1
    np.testing.assert_allclose(shares.p_g, [0.75, 0.25])
    np.testing.assert_allclose(shares.p_data, [0.5, 0.5])
    assert shares.distance == pytest.approx(0.25)
    # |k / 100 - 1/2| for k ~ Binomial(100, 1/2): 95% lie within about 1.96 * .05.
    assert shares.chance == pytest.approx(0.1, abs=0.021)


def test_section_is_built(tiny, context, tmp_path, monkeypatch):
    train(tiny, tmp_path / "run", [context.callback])
    monkeypatch.setattr(density, "reference_run", lambda _: load(tmp_path / "run"))
    section = density.build(replace(context, folder=tmp_path))
    assert (tmp_path / "digits.png").exists()
    assert (tmp_path / "classes.png").exists()
    passed = [check.passed for check in section.checks if check.claim.startswith("digits:")]
    assert passed == [True] * 4
