"""Densities that are fitted to images directly: a Gaussian, and a kernel on each image."""

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
"""Standard deviations that are tried, from .001 to 1, evenly spaced in their logarithm."""
NARROW = 0.1
"""Length of the noise of narrow kernels, as a share of how far real images are from others."""
LOOKED_AT = 1000
"""Samples whose nearest training image is sought."""


@dataclass(frozen=True)
class Gaussian:
    """The Gaussian of maximum likelihood, by its mean and the axes of its covariance.

    μ = 1/n Σ x and Σ = 1/n Σ (x - μ)(x - μ)ᵀ. Where Σ is singular its density is infinite on a
    subspace and 0 off it; every method takes a σ, and N(μ, Σ + σ² I) is what is meant.
    """

    mean: Float64[Tensor, " d"]
    variances: Float64[Tensor, " d"]
    """Eigenvalues of Σ, ascending."""
    axes: Float64[Tensor, "d d"]
    """Eigenvectors of Σ, a column each."""

    @classmethod
    def fitted(cls, images: Float[Tensor, "n d"]) -> Gaussian:
        """The mean and covariance of the images."""
        x = images.double()
        variances, axes = torch.linalg.eigh(torch.cov(x.T, correction=0))
        return cls(x.mean(0), variances.clamp(min=0), axes)

    @property
    def rank(self) -> int:
        """Dimensions in which the images vary, by more than the rounding of float64."""
        rounding = torch.finfo(torch.float64).eps * len(self.variances) * self.variances.max()
        return int((self.variances > rounding).sum())

    def log_density(self, points: Float[Tensor, "m d"], sigma: float) -> Float64[Tensor, " m"]:
        """Log N(x; μ, Σ + σ² I), in nats."""
        along = (points.double() - self.mean) @ self.axes
        variances = self.variances + sigma**2
        return -0.5 * (along.square() / variances + (2 * math.pi * variances).log()).sum(1)

    def sample(self, n: int, sigma: float, rng: RNG) -> Float[Tensor, "n d"]:
        """Draw n points."""
        along = rng.normal("gaussian", n, len(self.mean)).double()
        return (self.mean + along * (self.variances + sigma**2).sqrt() @ self.axes.T).float()


def kernel_samples(
    images: Float[Tensor, "n d"], count: int, h: float, rng: RNG
) -> tuple[Float[Tensor, "count d"], Tensor]:
    """Draw from a kernel density: a training image + N(0, h² I); with the images' numbers."""
    which = (rng.uniform("kernel", count) * len(images)).long()
    return images[which] + h * rng.normal("kernel noise", count, images.shape[1]), which


@dataclass(frozen=True)
class Subject:
    """Real images as rows of pixels in [0, 1], and how many samples to draw of each model."""

    splits: Dataset
    drawn: int
    train: Float[Tensor, "n pixels"]
    valid: Float[Tensor, "m pixels"]
    test: Float[Tensor, "k pixels"]

    @classmethod
    def of(cls, splits: Dataset, drawn: int) -> Subject:
        """All images of all splits."""
        parts = (cast(Split, part) for part in (splits.train, splits.valid, splits.test))
        return cls(splits, drawn, *(read_pixel_rows(part, slice(None)) for part in parts))

    @property
    def name(self) -> str:
        """Of the data."""
        return self.splits.name

    def images(self, rows: Float[Tensor, "n pixels"]) -> Float[Tensor, "n channels height width"]:
        """Rows of pixels as images."""
        return rows.unflatten(1, self.splits.shape)


@dataclass(frozen=True)
class Model:
    """Samples of one model, and what is measured of them."""

    label: str
    samples: Float[Tensor, "n pixels"]
    log_likelihood: float | None
    """Exact, of test images, in nats; None where the model has no density."""
    score: ParzenScore
    sharpness: float
    distance: float
    """Mean distance to the nearest training image."""


@dataclass(frozen=True)
class Fits:
    """The models of one set of images."""

    subject: Subject
    models: dict[str, Model]
    rank: int
    outside: int
    """Test images that the Gaussian without σ gives no density."""
    widths: dict[str, float]
    own: float
    """Share of the kernel density's samples nearest to the very image they were made of."""
    held_out: tuple[float, float]
    """Of test images: sharpness, and mean distance to the nearest training image."""


def fits(subject: Subject, of_g: Float[Tensor, "n pixels"] | None = None) -> Fits:
    """Fit both densities, draw from them, and measure what was drawn."""
    train, valid, test = subject.train, subject.valid[:SELECTION_POINTS], subject.test
    rng, gaussian = RNG(0, purpose="density"), Gaussian.fitted(train)

    def kernel(points: Tensor, h: float) -> float:
        return float(parzen_log_likelihood(points, train, h).mean())

    def normal(points: Tensor, sigma: float) -> float:
        return float(gaussian.log_density(points, sigma).mean())

    sigma = max(WIDTHS, key=lambda width: normal(valid, width))
    h, _ = select_sigma(valid, train, WIDTHS)
    distance = _distance(subject, test)
    narrow = NARROW * distance / math.sqrt(train.shape[1])
    wide, made_of = kernel_samples(train, subject.drawn, h, rng)
    copies, _ = kernel_samples(train, subject.drawn, narrow, rng.fold_in("narrow"))
    drawn = {
        "gaussian": ("Gaussian", gaussian.sample(subject.drawn, sigma, rng), normal(test, sigma)),
        "kernel": (f"kernels, h = {h:.3f}", wide, kernel(test, h)),
        "narrow": (f"kernels, h = {narrow:.3f}", copies, kernel(test, narrow)),
        **({} if of_g is None else {"G": ("G", of_g, None)}),
    }
    found = nearest(wide[:LOOKED_AT], train)[1][:, 0]
    return Fits(
        subject,
        {name: _model(subject, *row) for name, row in drawn.items()},
        gaussian.rank,
        _outside(gaussian, test),
        {"gaussian": sigma, "kernel": h, "narrow": narrow},
        float((found == made_of[:LOOKED_AT]).double().mean()),
        (sharpness(subject.images(test)), distance),
    )


def _model(subject: Subject, label: str, samples: Tensor, log_likelihood: float | None) -> Model:
    samples = samples.clamp(0, 1)  # as images are
    return Model(
        label,
        samples,
        log_likelihood,
        parzen_score(samples, subject.valid, subject.test),
        sharpness(subject.images(samples)),
        _distance(subject, samples),
    )


def _distance(subject: Subject, images: Tensor) -> float:
    return float(nearest(images[:LOOKED_AT], subject.train)[0].mean())


def _outside(gaussian: Gaussian, points: Tensor) -> int:
    """How many points lie farther than 1e-6 from the subspace in which Σ has its variance."""
    flat = gaussian.axes[:, : len(gaussian.mean) - gaussian.rank]
    off = ((points.double() - gaussian.mean) @ flat).norm(dim=1)
    return int((off > 1e-6).sum())


_DRAWS = 1000
"""Of as many images from p_data, for what chance alone does."""


@dataclass(frozen=True)
class Shares:
    """Class frequencies of data and of samples."""

    p_data: Float64[np.ndarray, " classes"]
    p_g: Float64[np.ndarray, " classes"]
    accuracy: float
    """Of the classifier, on test images."""
    chance: float
    """The total variation distance that 95% of as many images from p_data stay below."""

    @property
    def distance(self) -> float:
        """Total variation, ½ Σ |p_g - p_data|: from 0 to 1."""
        return float(total_variation(self.p_g, self.p_data))


def class_shares(splits: Dataset, samples: Float[Tensor, "n pixels"], seed: int = 0) -> Shares:
    """Tell the samples' classes by their 3 nearest training images, and count them.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    neighbors: Any = require("sklearn.neighbors", "paper")
    train, test = (cast(Split, part) for part in (splits.train, splits.test))
    labels = cast(np.ndarray, train.labels)
    # Every distance, by products of matrices: in hundreds of dimensions a tree has no advantage.
    classifier = neighbors.KNeighborsClassifier(3, algorithm="brute")
    classifier.fit(read_pixel_rows(train, slice(None)).numpy(), labels)
    p_data = frequencies(labels, int(labels.max()) + 1)
    chance = np.random.default_rng(seed).multinomial(len(samples), p_data, _DRAWS) / len(samples)
    return Shares(
        p_data,
        frequencies(classifier.predict(samples.numpy()), len(p_data)),
        float(classifier.score(read_pixel_rows(test, slice(None)).numpy(), test.labels)),
        float(np.quantile(total_variation(chance, p_data), 0.95)),
    )


def frequencies(labels: np.ndarray, classes: int) -> Float64[np.ndarray, " classes"]:
    """The share of each class."""
    return np.bincount(labels, minlength=classes) / len(labels)


def total_variation(p: np.ndarray, q: np.ndarray) -> Any:
    """½ Σ |p - q| over the last axis."""
    return np.abs(p - q).sum(-1) / 2
