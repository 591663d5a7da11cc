"""Explicit density models of images: a Gaussian, and a kernel density; class frequencies."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from advnets.data.dataset import Dataset, Split
from advnets.errors import require
from advnets.metrics.distance import nearest
from advnets.metrics.parzen import (
    SELECTION_POINTS,
    ParzenScore,
    parzen_log_likelihood,
    parzen_score,
    select_sigma,
)
from advnets.paper.studies.sample_statistics import sharpness
from advnets.rng import RNG
from advnets.sampling.sampler import read_pixel_rows

WIDTHS = tuple(10 ** (-3 + k / 9) for k in range(28))
"""Standard deviations to select from, 0.001 to 1, equally spaced in their logarithm."""
NARROW_FRACTION = 0.1
"""Norm of the narrow kernels' noise, relative to the mean distance between real images and their
neighbors."""
NUM_QUERIES = 1000
"""Number of samples whose nearest training image is searched."""


@dataclass(frozen=True)
class Gaussian:
    """A maximum-likelihood Gaussian, given by its mean and the eigenvectors of its covariance.

    μ = 1/n Σ x and Σ = 1/n Σ (x - μ)(x - μ)ᵀ. Where Σ is singular, its density is infinite on a
    subspace and 0 elsewhere, so every method takes a σ and uses N(μ, Σ + σ² I).
    """

    mean: Float64[Tensor, " d"]
    variances: Float64[Tensor, " d"]
    """Eigenvalues of Σ, ascending."""
    axes: Float64[Tensor, "d d"]
    """Eigenvectors of Σ, as columns."""

    @classmethod
    def fit(cls, images: Float[Tensor, "n d"]) -> Gaussian:
        """Fit the mean and covariance of the images."""
        x = images.double()
        variances, axes = torch.linalg.eigh(torch.cov(x.T, correction=0))
        return cls(x.mean(0), variances.clamp(min=0), axes)

    @property
    def rank(self) -> int:
        """Number of dimensions in which the images vary by more than rounding in float64."""
        rounding = torch.finfo(torch.float64).eps * len(self.variances) * self.variances.max()
        return int((self.variances > rounding).sum())

    def log_density(self, points: Float[Tensor, "m d"], sigma: float) -> Float64[Tensor, " m"]:
        """Return log N(x; μ, Σ + σ² I), in nats."""
        coordinates = (points.double() - self.mean) @ self.axes
        variances = self.variances + sigma**2
        return -0.5 * (coordinates.square() / variances + (2 * math.pi * variances).log()).sum(1)

    def sample(self, n: int, sigma: float, rng: RNG) -> Float[Tensor, "n d"]:
        """Draw n points."""
        coordinates = rng.normal("gaussian", n, len(self.mean)).double()
        return (self.mean + coordinates * (self.variances + sigma**2).sqrt() @ self.axes.T).float()


def sample_kernel_density(
    images: Float[Tensor, "n d"], count: int, h: float, rng: RNG
) -> tuple[Float[Tensor, "count d"], Tensor]:
    """Draw training images + N(0, h² I); also return the indices of the images."""
    indices = (rng.uniform("kernel", count) * len(images)).long()
    return images[indices] + h * rng.normal("kernel noise", count, images.shape[1]), indices


@dataclass(frozen=True)
class ImageRows:
    """The images of a dataset as rows of pixels in [0, 1], and the number of samples per model."""

    dataset: Dataset
    n_samples: int
    train: Float[Tensor, "n pixels"]
    valid: Float[Tensor, "m pixels"]
    test: Float[Tensor, "k pixels"]

    @classmethod
    def from_dataset(cls, dataset: Dataset, n_samples: int) -> ImageRows:
        """Read all images of all splits."""
        splits = (cast(Split, split) for split in (dataset.train, dataset.valid, dataset.test))
        return cls(dataset, n_samples, *(read_pixel_rows(split, slice(None)) for split in splits))

    @property
    def name(self) -> str:
        """Name of the dataset."""
        return self.dataset.name

    def images(self, rows: Float[Tensor, "n pixels"]) -> Float[Tensor, "n channels height width"]:
        """Return rows of pixels as images."""
        return rows.unflatten(1, self.dataset.shape)


@dataclass(frozen=True)
class ModelStats:
    """Samples of one model, and their statistics."""

    label: str
    samples: Float[Tensor, "n pixels"]
    log_likelihood: float | None
    """Exact mean log-likelihood of test images, in nats; None for a model without density."""
    score: ParzenScore
    sharpness: float
    distance: float
    """Mean distance to the nearest training image."""


@dataclass(frozen=True)
class DensityFits:
    """The models fitted to one dataset."""

    data: ImageRows
    models: dict[str, ModelStats]
    rank: int
    n_outside: int
    """Number of test images to which the Gaussian without σ assigns no density."""
    widths: dict[str, float]
    own_nearest: float
    """Fraction of the kernel density's samples whose nearest training image is the one they were
    made from."""
    test_stats: tuple[float, float]
    """Sharpness of test images, and their mean distance to the nearest training image."""


def fit_densities(
    data: ImageRows, generator_samples: Float[Tensor, "n pixels"] | None = None
) -> DensityFits:
    """Fit both densities, draw samples from them, and compute their statistics."""
    train, valid, test = data.train, data.valid[:SELECTION_POINTS], data.test
    rng, gaussian = RNG(0, purpose="density"), Gaussian.fit(train)

    def kernel(points: Tensor, h: float) -> float:
        return float(parzen_log_likelihood(points, train, h).mean())

    def normal(points: Tensor, sigma: float) -> float:
        return float(gaussian.log_density(points, sigma).mean())

    sigma = max(WIDTHS, key=lambda width: normal(valid, width))
    h, _ = select_sigma(valid, train, WIDTHS)
    distance = _distance(data, test)
    narrow = NARROW_FRACTION * distance / math.sqrt(train.shape[1])
    wide_samples, source_index = sample_kernel_density(train, data.n_samples, h, rng)
    narrow_samples, _ = sample_kernel_density(train, data.n_samples, narrow, rng.fold_in("narrow"))
    models = {
        "gaussian": ("Gaussian", gaussian.sample(data.n_samples, sigma, rng), normal(test, sigma)),
        "kernel": (f"kernels, h = {h:.3f}", wide_samples, kernel(test, h)),
        "narrow": (f"kernels, h = {narrow:.3f}", narrow_samples, kernel(test, narrow)),
        **({} if generator_samples is None else {"G": ("G", generator_samples, None)}),
    }
    nearest_index = nearest(wide_samples[:NUM_QUERIES], train)[1][:, 0]
    return DensityFits(
        data,
        {name: _model(data, *row) for name, row in models.items()},
        gaussian.rank,
        _count_outside(gaussian, test),
        {"gaussian": sigma, "kernel": h, "narrow": narrow},
        float((nearest_index == source_index[:NUM_QUERIES]).double().mean()),
        (sharpness(data.images(test)), distance),
    )


def _model(
    data: ImageRows, label: str, samples: Tensor, log_likelihood: float | None
) -> ModelStats:
    samples = samples.clamp(0, 1)  # the range of images
    return ModelStats(
        label,
        samples,
        log_likelihood,
        parzen_score(samples, data.valid, data.test),
        sharpness(data.images(samples)),
        _distance(data, samples),
    )


def _distance(data: ImageRows, images: Tensor) -> float:
    return float(nearest(images[:NUM_QUERIES], data.train)[0].mean())


def _count_outside(gaussian: Gaussian, points: Tensor) -> int:
    """Return the number of points farther than 1e-6 from the subspace spanned by Σ."""
    null_axes = gaussian.axes[:, : len(gaussian.mean) - gaussian.rank]
    distance = ((points.double() - gaussian.mean) @ null_axes).norm(dim=1)
    return int((distance > 1e-6).sum())


_DRAWS = 1000
"""Number of random sets of real images, for the distance that is due to chance."""


@dataclass(frozen=True)
class ClassFrequencies:
    """Class frequencies of data and of samples."""

    p_data: Float64[np.ndarray, " classes"]
    p_g: Float64[np.ndarray, " classes"]
    accuracy: float
    """Accuracy of the classifier on test images."""
    chance: float
    """95% quantile of the total variation distance of as many random real images."""

    @property
    def distance(self) -> float:
        """Total variation distance, ½ Σ |p_g - p_data|, in [0, 1]."""
        return float(total_variation(self.p_g, self.p_data))


def class_frequencies(
    dataset: Dataset, samples: Float[Tensor, "n pixels"], seed: int = 0
) -> ClassFrequencies:
    """Classify samples by their 3 nearest training images, and count the classes.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    neighbors: Any = require("sklearn.neighbors", "paper")
    train, test = (cast(Split, split) for split in (dataset.train, dataset.test))
    labels = cast(np.ndarray, train.labels)
    # Use brute force: in hundreds of dimensions a tree has no advantage.
    classifier = neighbors.KNeighborsClassifier(3, algorithm="brute")
    classifier.fit(read_pixel_rows(train, slice(None)).numpy(), labels)
    p_data = frequencies(labels, int(labels.max()) + 1)
    random_frequencies = np.random.default_rng(seed).multinomial(
        len(samples), p_data, _DRAWS
    ) / len(samples)
    return ClassFrequencies(
        p_data,
        frequencies(classifier.predict(samples.numpy()), len(p_data)),
        float(classifier.score(read_pixel_rows(test, slice(None)).numpy(), test.labels)),
        float(np.quantile(total_variation(random_frequencies, p_data), 0.95)),
    )


def frequencies(labels: np.ndarray, classes: int) -> Float64[np.ndarray, " classes"]:
    """Return the proportion of each class."""
    return np.bincount(labels, minlength=classes) / len(labels)


def total_variation(p: np.ndarray, q: np.ndarray) -> Any:
    """Return ½ Σ |p - q| over the last axis."""
    return np.abs(p - q).sum(-1) / 2
