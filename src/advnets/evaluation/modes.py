"""Scores by modes: which a classifier sees in samples, and which points lie on."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import cast

import torch
from jaxtyping import Int64
from torch import Tensor

from advnets.data.dataset import Distribution, Split
from advnets.data.prepared import PreparedData
from advnets.data.synthetic.base import bin_counts
from advnets.data.synthetic.mixtures import Grid, Mixture, NormalMixture, Ring
from advnets.errors import AdvnetsError, DataError, UsageError
from advnets.evaluation.context import ArraySplit, EvaluationContext, Record
from advnets.extractors.base import ClassifierExtractor
from advnets.extractors.builtin import Classifier, load_classifier
from advnets.metrics.histogram_divergence import histogram_divergence
from advnets.metrics.inception_score import inception_score
from advnets.metrics.mixture import check_separated, mixture_quality
from advnets.metrics.modes import mode_coverage
from advnets.metrics.validation import check_rows
from advnets.sampling.sampler import NUM_SAMPLES

MODE_CLASSIFIERS = {"mnist": ("digits", NUM_SAMPLES), "stacked-mnist": ("digits", 26_000)}
"""Who tells the modes of a set's images, and of how many samples: as published, where it is."""
NUM_POINTS = (2_500, 100_000)
"""Points that modes are counted over, as published (Srivastava et al. 2017); and enough for the
share and the spread of each."""


def mode_records(context: EvaluationContext) -> list[Record]:
    """Modes that a classifier sees, and how far their shares are from even and from real ones."""
    judge, count = mode_classifier(context.data)
    seen = load_classifier(judge)
    real = torch.from_numpy(cast(Split, context.data.dataset.train).labels)
    records: list[Record] = []
    for row, images in context.sample_sets_of_size(count).items():
        modes = seen.net.classes ** images.shape[1]
        found = mode_coverage(_mode_numbers(seen, images), modes, reference=real)
        records.append(
            context.feature_record(
                "modes",
                row,
                **_finite(asdict(found)),
                n_real=len(real),
                n_fake=len(images),
                through=seen,
                split="train",
            )
        )
    return records


def mode_classifier(data: PreparedData) -> tuple[str, int]:
    """The classifier that tells the modes of a set, and of how many samples.

    Raises:
        DataError: there is none.
    """
    name = data.info.name
    if name not in MODE_CLASSIFIERS:
        raise DataError(
            f"{name} has no classifier that tells its modes, which the metric modes needs; it "
            f"knows those of {' and '.join(MODE_CLASSIFIERS)}"
        )
    return MODE_CLASSIFIERS[name]


def _mode_numbers(seen: Classifier, images: ArraySplit) -> Int64[Tensor, " n"]:
    """The class of each channel, read as the digits of one number: 100 r + 10 g + b."""
    n, channels = images.shape[:2]
    logits = seen.logits(images.flatten(0, 1)[:, None])
    check_rows("the logits of images", logits, 1)
    classes = logits.argmax(1).view(n, channels)
    places = seen.net.classes ** torch.arange(channels - 1, -1, -1)
    return (classes * places).sum(1)


def default_metric(data: PreparedData) -> str:
    """Return the metric that says most of samples of such data; "" where none is held out."""
    if data.dataset.distribution is None:
        return "parzen" if data.dataset.valid is not None and data.dataset.test is not None else ""
    try:
        require_mixture(data)
    except AdvnetsError:
        return "divergence"
    return "points"


def require_mixture(data: PreparedData) -> NormalMixture:
    """What points are drawn from.

    Raises:
        DataError: it is no mixture of normal distributions.
        UsageError: its modes overlap.
    """
    distribution = data.dataset.distribution
    if not isinstance(distribution, Ring | Grid | Mixture):
        raise DataError(
            f"{data.info.name} is no mixture of normal distributions, whose modes the metric "
            "points looks for; it takes runs on ring, grid and mixture, and the metric divergence "
            "those on any points"
        )
    check_separated(*map(torch.tensor, distribution.components()[:2]))
    return distribution


def require_distribution(data: PreparedData) -> Distribution:
    """What points are drawn from.

    Raises:
        DataError: the data are no points.
    """
    distribution = data.dataset.distribution
    if distribution is None:
        raise DataError(
            f"{data.info.name} are images, whose density nobody knows, which the metric "
            "divergence needs; it takes runs on points, as ring, spiral or moons"
        )
    return distribution


def inception_score_records(context: EvaluationContext) -> list[Record]:
    """Inception scores, by a classifier's logits."""
    seen = context.extractor
    if not isinstance(seen, ClassifierExtractor):
        raise UsageError(
            f"the metric inception needs the verdicts of a classifier, and {seen.name} gives none; "
            "choose --extractor digits for images as MNIST's, or inception for color ones"
        )
    return [
        context.feature_record(
            "inception",
            row,
            **asdict(inception_score(seen.logits(images))),
            n_real=0,
            n_fake=len(images),
            split=None,
        )
        for row, images in context.sample_sets.items()
    ]


def mixture_records(context: EvaluationContext) -> list[Record]:
    """Modes, quality, shares, spreads and divergences of points of a mixture."""
    centers, deviations, weights = map(torch.tensor, require_mixture(context.data).components())
    return [
        context.record(
            "points",
            row,
            **asdict(mixture_quality(points[:count].flatten(1), centers, deviations, weights)),
            n_real=0,
            n_fake=count,
            split=None,
        )
        for row, points in context.sample_sets_of_size(max(NUM_POINTS)).items()
        for count in sorted({min(count, len(points)) for count in NUM_POINTS})
    ]


def kl_jsd_records(context: EvaluationContext) -> list[Record]:
    """Divergences of points from the distribution that they were to be drawn from."""
    distribution = require_distribution(context.data)
    records: list[Record] = []
    for row, points in context.sample_sets_of_size(max(NUM_POINTS)).items():
        check_rows("points", points.flatten(1), 1)
        counted = bin_counts(distribution, points.flatten(1).numpy())
        found = _finite(asdict(histogram_divergence(*map(torch.from_numpy, counted))))
        records.append(
            context.record("divergence", row, **found, n_real=0, n_fake=len(points), split=None)
        )
    return records


def _finite(found: Record) -> Record:
    """None for what is infinite, as JSON has no infinity."""
    return {name: None if value == math.inf else value for name, value in found.items()}
