"""Metrics of modes and classes of samples, and of points with a known distribution."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import cast

import torch
from jaxtyping import Int64
from torch import Tensor

from advnets.data.dataset import Split
from advnets.data.distribution import SyntheticDistribution, bin_counts
from advnets.data.prepared import PreparedData
from advnets.data.synthetic.mixtures import Grid, Mixture, NormalMixture, Ring
from advnets.errors import AdvnetsError, DataError, UsageError
from advnets.evaluation.context import EvaluationContext, Images, Record
from advnets.evaluation.spec import (
    MetricSpec,
    Value,
    format_range,
    normal_interval,
    number,
    percent,
    proportion_interval,
    repeated_interval,
)
from advnets.extractors.base import ClassifierExtractor
from advnets.extractors.builtin import Classifier, load_classifier
from advnets.extractors.registry import classifier_advice
from advnets.metrics.histogram_divergence import histogram_divergence
from advnets.metrics.inception_score import inception_score
from advnets.metrics.mixture import check_separated, mixture_quality
from advnets.metrics.modes import mode_coverage
from advnets.metrics.validation import check_rows
from advnets.plots.training_curves import MetricCurve
from advnets.sampling.sampler import NUM_SAMPLES

MODE_CLASSIFIERS = {"mnist": ("digits", NUM_SAMPLES), "stacked-mnist": ("digits", 26_000)}
"""The classifier that recognizes the modes of a dataset, and the number of samples (26,000 for
Stacked MNIST, as published)."""
NUM_POINTS = (2_500, 100_000)
"""Numbers of points: as published (Srivastava et al. 2017), and enough to estimate the proportion
and the width of each mode."""


def mode_records(context: EvaluationContext) -> list[Record]:
    """Count modes found by a classifier, and compute KL to uniform and to real proportions."""
    name, count = mode_classifier(context.data)
    classifier = load_classifier(name)
    real = torch.from_numpy(cast(Split, context.data.dataset.train).labels)
    records: list[Record] = []
    for samples, images in context.sample_sets_of_size(count).items():
        modes = classifier.net.classes ** images.shape[1]
        result = mode_coverage(_mode_indices(classifier, images), modes, reference=real)
        records.append(
            context.feature_record(
                "modes",
                samples,
                **_without_infinity(asdict(result)),
                n_real=len(real),
                n_fake=len(images),
                extractor=classifier,
                split="train",
            )
        )
    return records


def mode_classifier(data: PreparedData) -> tuple[str, int]:
    """Return the name of the classifier of a dataset's modes, and the number of samples.

    Raises:
        DataError: the dataset has none.
    """
    name = data.info.name
    if name not in MODE_CLASSIFIERS:
        raise DataError(
            f"the metric modes needs a classifier of the data's modes, and {name} has none; give a "
            f"run on {' or '.join(MODE_CLASSIFIERS)}"
        )
    return MODE_CLASSIFIERS[name]


def _mode_indices(classifier: Classifier, images: Images) -> Int64[Tensor, " n"]:
    """Return the mode of each image: the classes of its channels as digits, 100 r + 10 g + b."""
    n, channels = images.shape[:2]
    logits = classifier.logits(images.flatten(0, 1)[:, None])
    check_rows("the logits of images", logits, 1)
    classes = logits.argmax(1).view(n, channels)
    places = classifier.net.classes ** torch.arange(channels - 1, -1, -1)
    return (classes * places).sum(1)


MODES = MetricSpec(
    name="modes",
    title="mode coverage",
    help="number of modes that a classifier finds, KL divergence from uniform and real proportions",
    records=mode_records,
    values={
        "modes_found": Value("higher"),
        "kl_uniform": Value("lower", normal_interval("kl_uniform_error")),
        "kl_reference": Value("lower", normal_interval("kl_reference_error")),
    },
    describe=lambda r: (
        f"{r['modes_found']:,} of {r['modes']:,} modes, KL to uniform proportions "
        f"{r['kl_uniform']:.3f} nats, to those of real images "
        f"{number(r['kl_reference'], '.3f', 'infinite')} nats"
    ),
    describe_inputs=lambda r: f"{r['extractor']}, {r['n']:,}",
    details=("kl_uniform_error", "kl_reference_error"),
    samples="fixed",
    needs="MNIST or Stacked MNIST",
    curve=MetricCurve("KL divergence of modes", "nats, from uniform", "kl_uniform"),
    check_data=mode_classifier,
)


def default_metric(data: PreparedData) -> str:
    """Return the most informative metric for this data; "" if it has no test set."""
    if data.dataset.distribution is None:
        return "parzen" if data.dataset.valid is not None and data.dataset.test is not None else ""
    try:
        require_mixture(data)
    except AdvnetsError:
        return "kl-jsd"
    return "mixture"


def require_mixture(data: PreparedData) -> NormalMixture:
    """Return the mixture of normal distributions that the data is drawn from.

    Raises:
        DataError: the data is not drawn from one.
        UsageError: its modes overlap.
    """
    distribution = data.dataset.distribution
    if not isinstance(distribution, Ring | Grid | Mixture):
        raise DataError(
            f"the metric mixture needs a mixture of normal distributions, and {data.info.name} is "
            "not one; give a run on ring, grid or mixture, or --metrics kl-jsd, for any points"
        )
    check_separated(*map(torch.tensor, distribution.components()[:2]))
    return distribution


def require_distribution(data: PreparedData) -> SyntheticDistribution:
    """Return the distribution that the data is drawn from.

    Raises:
        DataError: it is unknown, as that of images.
    """
    distribution = data.dataset.distribution
    if distribution is None:
        raise DataError(
            f"the metric kl-jsd needs points of a known density, and {data.info.name} has images; "
            "give a run on points, such as ring, spiral or moons"
        )
    return distribution


def inception_score_records(context: EvaluationContext) -> list[Record]:
    """Compute inception scores from a classifier's logits."""
    classifier = _require_classifier(context)
    return [
        context.feature_record(
            "inception-score",
            samples,
            **asdict(inception_score(classifier.logits(images))),
            n_real=0,
            n_fake=len(images),
            split=None,
        )
        for samples, images in context.sample_sets.items()
    ]


def _require_classifier(context: EvaluationContext) -> ClassifierExtractor:
    """Return the extractor, which classifies.

    Raises:
        UsageError: the extractor does not classify.
    """
    extractor = context.extractor
    if not isinstance(extractor, ClassifierExtractor):
        raise UsageError(
            f"the metric inception-score needs a classifier, and the extractor {extractor.name} is "
            f"not one; {classifier_advice(context.data.info.shape)}"
        )
    return extractor


INCEPTION_SCORE = MetricSpec(
    name="inception-score",
    title="inception score",
    help="inception score, from the class probabilities of the extractor",
    records=inception_score_records,
    values={"mean": Value("higher", repeated_interval("splits", ddof=0))},
    describe=lambda r: (
        f"inception score {r['mean']:.2f} ± {r['std']:.2f} over {r['splits']} splits"
    ),
    describe_inputs=lambda r: f"{r['extractor']}, {r['n']:,}",
    details=("std",),
    uses_extractor=True,
    check_run=_require_classifier,
    needs="a classifier as extractor",
    aliases=("is",),
    published=True,
)


def mixture_records(context: EvaluationContext) -> list[Record]:
    """Compute modes, quality, proportions, widths and divergences of points of a mixture."""
    centers, stds, weights = map(torch.tensor, require_mixture(context.data).components())
    return [
        context.record(
            "mixture",
            samples,
            **asdict(mixture_quality(points[:count].flatten(1), centers, stds, weights)),
            n_real=0,
            n_fake=count,
            split=None,
        )
        for samples, points in context.sample_sets_of_size(max(NUM_POINTS)).items()
        for count in sorted({min(count, len(points)) for count in NUM_POINTS})
    ]


MIXTURE = MetricSpec(
    name="mixture",
    title="mixture quality",
    help="modes found, high-quality samples (within 3 σ), proportions, widths, KL, JSD",
    records=mixture_records,
    values={
        "modes_found": Value("higher"),
        "high_quality": Value(None, proportion_interval("n")),
        "kl": Value("lower", normal_interval("kl_error")),
        "jsd": Value("lower", normal_interval("jsd_error")),
    },
    describe=lambda r: (
        f"{r['modes_found']:,} of {r['modes']:,} modes, {percent(r['high_quality'])} within 3 σ, "
        f"relative proportions {format_range(r['proportions'])}, relative std "
        f"{format_range(r['relative_std'])}, KL {r['kl']:.2g}, JSD {r['jsd']:.2g} nats"
    ),
    describe_inputs=lambda r: f"points, {r['n']:,}",
    details=("proportions", "relative_std", "roundness", "kl_error", "jsd_error"),
    cases={"n": "{:,} points"},
    samples="fixed",
    needs="points of a ring, grid or mixture",
    curve=MetricCurve("High quality", "fraction of points", "high_quality"),
    check_data=require_mixture,
)


def kl_jsd_records(context: EvaluationContext) -> list[Record]:
    """Compute KL and Jensen-Shannon divergence of points from their true distribution."""
    distribution = require_distribution(context.data)
    records: list[Record] = []
    for samples, points in context.sample_sets_of_size(max(NUM_POINTS)).items():
        check_rows("points", points.flatten(1), 1)
        counts = bin_counts(distribution, points.flatten(1).numpy())
        result = _without_infinity(asdict(histogram_divergence(*map(torch.from_numpy, counts))))
        records.append(
            context.record("kl-jsd", samples, **result, n_real=0, n_fake=len(points), split=None)
        )
    return records


KL_JSD = MetricSpec(
    name="kl-jsd",
    title="KL and JS divergence",
    help="KL and Jensen-Shannon divergence of points from their density, over a histogram",
    records=kl_jsd_records,
    values={
        "kl": Value("lower", normal_interval("kl_error")),
        "jsd": Value("lower", normal_interval("jsd_error")),
    },
    describe=lambda r: (
        f"KL {number(r['kl'], '.2g', 'infinite')}, JSD {r['jsd']:.2g} nats over {r['bins']:,} bins"
    ),
    describe_inputs=lambda r: f"points, {r['n']:,}",
    details=("kl_error", "jsd_error"),
    samples="fixed",
    needs="points",
    aliases=("kl", "jsd"),
    curve=MetricCurve("KL divergence", "nats, from the density", "kl"),
    check_data=require_distribution,
)


def _without_infinity(result: Record) -> Record:
    """Return a result with None for infinity, which JSON does not have."""
    return {name: None if value == math.inf else value for name, value in result.items()}
