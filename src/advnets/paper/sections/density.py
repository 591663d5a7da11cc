"""Section 2's alternative: explicit density models (Gaussian, kernel density) compared with G."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from advnets.config import Data
from advnets.data.dataset import Dataset, Split
from advnets.data.registry import open_dataset
from advnets.data.spec import data_directory
from advnets.errors import require
from advnets.metrics.distance import nearest
from advnets.metrics.parzen import (
    SELECTION_POINTS,
    ParzenScore,
    parzen_log_likelihood,
    parzen_score,
    select_sigma,
)
from advnets.paper.blocks import Block, Check, Formula, SectionContent, SectionContext, Table, Text
from advnets.paper.studies.sample_statistics import gallery, sharpness
from advnets.paper.trainings import reference_run
from advnets.plots.style import LIGHT, legend, new_figure, png, style_axes
from advnets.protocols import Images
from advnets.rng import RNG
from advnets.sampling.sampler import NUM_SAMPLES, read_pixel_rows

FACES = "faces/olivetti-64.zip"
"""Path in the data directory; images of people are written to the output folder only."""
LOST_FRACTION = 0.1
"""Fraction of its frequency in the data below which a class counts as lost."""
NUM_FACE_SAMPLES = 1000
"""Number of samples of faces, which have 4,096 pixels."""


def build(context: SectionContext) -> SectionContent:
    """Build the section: samples, likelihoods and class frequencies."""
    trained = reference_run(context)
    data = ImageRows.from_dataset(
        open_dataset(trained.config.data, directory=context.data_dir), n_samples=NUM_SAMPLES
    )
    generator_samples = trained.sample(NUM_SAMPLES).flatten(1)
    context.log("fitting a Gaussian and a kernel density")
    all_fits = [fit_densities(data, generator_samples)]
    faces = data_directory(context.data_dir) / FACES
    if context.full and faces.exists():
        images = open_dataset(Data(source=str(faces), size=64, channels=1))
        all_fits.append(fit_densities(ImageRows.from_dataset(images, NUM_FACE_SAMPLES)))
    context.log("computing class frequencies")
    counted_samples = generator_samples if context.full else generator_samples[:2000]
    frequencies = class_frequencies(data.dataset, counted_samples)
    return SectionContent(
        blocks=(
            Text(
                "A model with an explicit density can be fitted by maximum likelihood, without a "
                "game. Two that need no iterative training are a Gaussian with full covariance, "
                "and a kernel density, whose sample is a training image plus normal noise."
            ),
            Formula(
                r"p(x) = \mathcal{N}\left(x;\ \mu, \Sigma + \sigma^2 I\right), \quad "
                r"\mu = \frac{1}{n} \sum_i x_i, \quad "
                r"\Sigma = \frac{1}{n} \sum_i (x_i - \mu)(x_i - \mu)^\top"
            ),
            Formula(r"p(x) = \frac{1}{n} \sum_i \mathcal{N}\left(x;\ x_i, h^2 I\right)"),
            *(block for fits in all_fits for block in _blocks(context, fits)),
            *_missing_images(context, faces.exists()),
            *_frequencies(context, frequencies, len(counted_samples)),
        ),
        checks=(
            *(check for fits in all_fits for check in _checks(fits)),
            *_frequency_checks(frequencies, len(counted_samples), full=context.full),
        ),
    )


def _blocks(context: SectionContext, fits: DensityFits) -> Iterator[Block]:
    data, models = fits.data, fits.models
    gaussian, kernel, narrow = (models[name] for name in ("gaussian", "kernel", "narrow"))
    dims, (sharp, distance) = data.train.shape[1], fits.test_stats
    sigma, h, narrowest = (fits.widths[name] for name in ("gaussian", "kernel", "narrow"))
    yield Text(
        f"{data.name}: {len(data.train):,} training images of {dims:,} pixels. "
        rf"{_rank_sentence(fits, dims)} $\sigma$ = {sigma:.3f} and $h$ = {h:.3f} have the highest "
        f"likelihood of validation images among {len(WIDTHS)} widths from 0.001 to "
        f"1.{_boundary_sentence(fits)} With the narrow kernels, $h$ = {narrowest:.3f}, the norm of "
        "the noise is a tenth of the mean distance from a real image to its nearest neighbor."
    )
    rows = {"real, test": data.test, **{model.label: model.samples for model in models.values()}}
    last = list(models.values())[-1]
    nearest_index = nearest(last.samples[:NUM_QUERIES], data.train)[1][:, 0]
    rows[f"nearest to {'G' if 'G' in models else 'these'}"] = data.train[nearest_index]
    yield context.save_image(
        f"{data.name}.png",
        gallery({name: data.images(row) for name, row in rows.items()}),
        f"Rows of {data.name}: real images, and samples of each model",
        "Real test images and samples of each model, not cherry-picked; last, the training image "
        "nearest to each image of the row above.",
    )
    yield Table(
        f"Likelihood and sample quality on {data.name}: exact log-likelihood of test images and "
        "Parzen score of samples, both in nats; sharpness; mean distance to the nearest training "
        "image. Samples are clipped to [0, 1].",
        ("", "likelihood", "Parzen", "sharpness", "distance"),
        (
            ("real, test", "", "", f"{sharp:.3f}", f"{distance:.2f}"),
            *(
                (
                    model.label,
                    "no density"
                    if model.log_likelihood is None
                    else f"{model.log_likelihood:,.1f}",
                    f"{model.score.mean:,.1f} (σ = {model.score.sigma:.2f})",
                    f"{model.sharpness:.3f}",
                    f"{model.distance:.2f}",
                )
                for model in models.values()
            ),
        ),
    )
    yield Text(
        f"The Gaussian assigns {gaussian.log_likelihood or 0:,.1f} nats to test images and the "
        f"kernel density {kernel.log_likelihood or 0:,.1f}, yet the Gaussian's samples are "
        f"{gaussian.distance / distance:.2f} times as far from the data as real images are. The "
        "narrow kernels produce near copies of training images, and their likelihood is the "
        "lowest, because every test image is far from all kernels. Their Parzen score, "
        f"{narrow.score.mean:,.1f}, does not show this, since it places wider kernels on the "
        f"samples. Of the wider kernels' samples, {fits.own_nearest:.1%} are still nearest to the "
        "image they were made from. Nats depend on the unit and on pixels that are nearly always "
        "black, so they compare only within a column and a dataset."
    )


def _rank_sentence(fits: DensityFits, dims: int) -> str:
    """Return a sentence about the rank of the maximum-likelihood covariance."""
    if fits.rank == dims:
        return rf"$\Sigma$ has full rank {dims:,}."
    return (
        rf"$\Sigma$ is singular: its rank is {fits.rank:,} of {dims:,}. The maximum-likelihood "
        r"density is infinite on a subspace and 0 elsewhere, hence the term $\sigma^2 I$; "
        f"{fits.n_outside:,} of {len(fits.data.test):,} test images are outside that subspace."
    )


def _boundary_sentence(fits: DensityFits) -> str:
    """Return a sentence if the best width is the smallest one tried."""
    if fits.widths["gaussian"] > min(WIDTHS):
        return ""
    return (
        r" This $\sigma$ is the smallest one tried: a smaller one would have a higher likelihood "
        "still, because of pixels that are black in nearly all images."
    )


def _missing_images(context: SectionContext, faces: bool) -> Iterator[Block]:
    """Return a note about the datasets that are not shown."""
    if not context.full:
        yield Text(
            "At full scale the same is shown for MNIST and, if the data are available, for faces."
        )
    elif not faces:
        yield Text(f"Faces are not shown: there is no `{FACES}` in the data directory.")


def _checks(fits: DensityFits) -> Iterator[Check]:
    name, models = fits.data.name, fits.models
    gaussian = models["gaussian"]
    high, low, worst = (
        models[key].log_likelihood or 0.0 for key in ("gaussian", "kernel", "narrow")
    )
    _, distance = fits.test_stats
    yield Check(
        f"{name}: the Gaussian assigns a higher likelihood to test images than the kernel density",
        f"above {low:,.1f} nats",
        f"{high:,.1f}",
        high > low,
    )
    yield Check(
        f"{name}: the Gaussian's samples are farther from the data than real images: ratio of "
        "distances",
        "at least 1.1",
        f"{gaussian.distance / distance:.2f}",
        gaussian.distance >= 1.1 * distance,
    )
    yield Check(
        f"{name}: narrow kernels, which nearly copy, have the lowest test likelihood",
        f"at most {low - 100:,.1f} nats",
        f"{worst:,.1f}",
        worst <= low - 100,
    )
    yield Check(
        f"{name}: a kernel density memorizes: samples whose nearest training image is the one they "
        "were made from",
        "at least 99%",
        f"{fits.own_nearest:.1%}",
        fits.own_nearest >= 0.99,
    )


def _frequencies(
    context: SectionContext, frequencies: ClassFrequencies, n_samples: int
) -> Iterator[Block]:
    classes = range(len(frequencies.p_data))
    yield Text(
        f"Class frequencies: {n_samples:,} samples of $G$ are classified by their 3 nearest "
        f"training images, with an accuracy of {frequencies.accuracy:.1%} on test images. $G$ is "
        f"not conditioned on classes; only $p_g = p_{{data}}$ itself requires the right "
        "proportions."
    )
    yield Table(
        "Proportion of each class, in percent.",
        ("", *map(str, classes)),
        tuple(
            (name, *(f"{100 * proportion:.1f}" for proportion in row))
            for name, row in (("$p_{data}$", frequencies.p_data), ("$p_g$", frequencies.p_g))
        ),
    )
    yield _bars(context, frequencies)


def _bars(context: SectionContext, frequencies: ClassFrequencies) -> Block:
    figure = new_figure(7.6, 2.8)
    axes = figure.subplots()
    style_axes(axes, "Class frequencies", "proportion (%)", x="class")
    at = np.arange(len(frequencies.p_data))
    for side, row, color, name in (
        (-0.2, frequencies.p_data, LIGHT.real, "training images"),
        (0.2, frequencies.p_g, LIGHT.fake, "samples of G"),
    ):
        axes.bar(at + side, 100 * row, 0.4, color=color, label=name)
    axes.set_xticks(at)
    legend(axes)
    caption = (
        f"$p_g$ and $p_{{data}}$ by class: total variation distance {frequencies.distance:.3f}; "
        f"95% of random sets of as many real images stay below {frequencies.chance:.3f}."
    )
    alt = "Bars: the proportion of each class among training images and among samples of G"
    return context.save_image("classes.png", png(figure), alt, caption)


def _frequency_checks(
    frequencies: ClassFrequencies, n_samples: int, *, full: bool
) -> Iterator[Check]:
    """Check the class frequencies; the short training at quick scale has lower bounds."""
    ratios = frequencies.p_g / frequencies.p_data
    classes, covered = len(ratios), int((ratios >= LOST_FRACTION).sum())
    min_classes, max_distance = (classes, 0.25) if full else (round(0.8 * classes), 0.4)
    yield Check(
        "accuracy of the classifier on test images",
        "at least 90%",
        f"{frequencies.accuracy:.1%}",
        frequencies.accuracy >= 0.9,
    )
    yield Check(
        f"classes with at least a tenth of their proportion in the data, among {n_samples:,} "
        "samples of $G$",
        f"{min_classes} of {classes}" if full else f"at least {min_classes} of {classes}",
        f"{covered}; the rarest has {ratios.min():.2f} of its proportion",
        covered >= min_classes,
    )
    yield Check(
        "total variation distance of class frequencies, $p_g$ from $p_{data}$",
        f"at most {max_distance:g} (chance: {frequencies.chance:.3f}; half of the classes: 0.5)",
        f"{frequencies.distance:.3f}",
        frequencies.distance <= max_distance,
    )


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

    def images(self, rows: Float[Tensor, "n pixels"]) -> Images:
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
