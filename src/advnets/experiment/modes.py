"""Scores by modes: which a classifier sees in samples, and which points lie on."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import cast

import torch
from jaxtyping import Int64
from torch import Tensor

from advnets.data.dataset import Distribution, Part
from advnets.data.synthetic.bins import count_in_cells
from advnets.data.synthetic.mixtures import Grid, Mixture, NormalMixture, Ring
from advnets.errors import AdvnetsError, DataError, UsageError
from advnets.experiment.sampler import SAMPLES
from advnets.experiment.scores import ArraySplit, Record, Subject
from advnets.experiment.setup import PreparedData
from advnets.extractors.base import ClassifierExtractor
from advnets.extractors.classifiers import Classifier, classifier
from advnets.metrics.histogram_divergence import binned_divergence
from advnets.metrics.inception import inception_score
from advnets.metrics.mixture import check_apart, mixture_quality
from advnets.metrics.modes import mode_coverage
from advnets.metrics.validation import check_rows

JUDGES = {"mnist": ("digits", SAMPLES), "stacked-mnist": ("digits", 26_000)}
"""Who tells the modes of a set's pictures, and of how many samples: as published, where it is."""
POINTS = (2_500, 100_000)
"""Points that modes are counted over, as published (Srivastava et al. 2017); and enough for the
share and the spread of each."""


def mode_records(subject: Subject) -> list[Record]:
    """Modes that a classifier sees, and how far their shares are from even and from real ones."""
    judge, count = mode_judge(subject.data)
    seen = classifier(judge)
    real = torch.from_numpy(cast(Part, subject.data.splits.train).labels)
    records: list[Record] = []
    for row, pictures in subject.rows_of(count).items():
        modes = seen.net.classes ** pictures.shape[1]
        found = mode_coverage(_mode_numbers(seen, pictures), modes, reference=real)
        records.append(
            subject.of_features(
                "modes",
                row,
                **_finite(asdict(found)),
                n_real=len(real),
                n_fake=len(pictures),
                through=seen,
                split="train",
            )
        )
    return records


def mode_judge(data: PreparedData) -> tuple[str, int]:
    """The classifier that tells the modes of a set, and of how many samples.

    Raises:
        DataError: there is none.
    """
    name = data.facts.name
    if name not in JUDGES:
        raise DataError(
            f"{name} has no classifier that tells its modes, which the metric modes needs; it "
            f"knows those of {' and '.join(JUDGES)}"
        )
    return JUDGES[name]


def _mode_numbers(seen: Classifier, pictures: ArraySplit) -> Int64[Tensor, " n"]:
    """The class of each channel, read as the digits of one number: 100 r + 10 g + b."""
    n, channels = pictures.shape[:2]
    logits = seen.logits(pictures.flatten(0, 1)[:, None])
    check_rows("the logits of pictures", logits, 1)
    classes = logits.argmax(1).view(n, channels)
    places = seen.net.classes ** torch.arange(channels - 1, -1, -1)
    return (classes * places).sum(1)


def usual_score(data: PreparedData) -> str:
    """Return the metric that says most of samples of such data; "" where none is held out."""
    if data.splits.distribution is None:
        return "parzen" if data.splits.valid is not None and data.splits.test is not None else ""
    try:
        mixture_of(data)
    except AdvnetsError:
        return "divergence"
    return "points"


def mixture_of(data: PreparedData) -> NormalMixture:
    """What points are drawn from.

    Raises:
        DataError: it is no mixture of normal distributions.
        UsageError: its modes overlap.
    """
    distribution = data.splits.distribution
    if not isinstance(distribution, Ring | Grid | Mixture):
        raise DataError(
            f"{data.facts.name} is no mixture of normal distributions, whose modes the metric "
            "points looks for; it takes runs on ring, grid and mixture, and the metric divergence "
            "those on any points"
        )
    check_apart(*map(torch.tensor, distribution.components()[:2]))
    return distribution


def distribution_of(data: PreparedData) -> Distribution:
    """What points are drawn from.

    Raises:
        DataError: the data are no points.
    """
    distribution = data.splits.distribution
    if distribution is None:
        raise DataError(
            f"{data.facts.name} are pictures, whose density nobody knows, which the metric "
            "divergence needs; it takes runs on points, as ring, spiral or moons"
        )
    return distribution


def inception_records(subject: Subject) -> list[Record]:
    """Inception scores, by a classifier's logits."""
    seen = subject.extractor
    if not isinstance(seen, ClassifierExtractor):
        raise UsageError(
            f"the metric inception needs the verdicts of a classifier, and {seen.name} gives none; "
            "choose --extractor digits for pictures as MNIST's, or inception for colour ones"
        )
    return [
        subject.of_features(
            "inception",
            row,
            **asdict(inception_score(seen.logits(pictures))),
            n_real=0,
            n_fake=len(pictures),
            split=None,
        )
        for row, pictures in subject.rows.items()
    ]


def point_records(subject: Subject) -> list[Record]:
    """Modes, quality, shares, spreads and divergences of points of a mixture."""
    centres, deviations, weights = map(torch.tensor, mixture_of(subject.data).components())
    return [
        subject.record(
            "points",
            row,
            **asdict(mixture_quality(points[:count].flatten(1), centres, deviations, weights)),
            n_real=0,
            n_fake=count,
            split=None,
        )
        for row, points in subject.rows_of(max(POINTS)).items()
        for count in sorted({min(count, len(points)) for count in POINTS})
    ]


def divergence_records(subject: Subject) -> list[Record]:
    """Divergences of points from the distribution that they were to be drawn from."""
    distribution = distribution_of(subject.data)
    records: list[Record] = []
    for row, points in subject.rows_of(max(POINTS)).items():
        check_rows("points", points.flatten(1), 1)
        counted = count_in_cells(distribution, points.flatten(1).numpy())
        found = _finite(asdict(binned_divergence(*map(torch.from_numpy, counted))))
        records.append(
            subject.record("divergence", row, **found, n_real=0, n_fake=len(points), split=None)
        )
    return records


def _finite(found: Record) -> Record:
    """None for what is infinite, as JSON has no infinity."""
    return {name: None if value == math.inf else value for name, value in found.items()}
