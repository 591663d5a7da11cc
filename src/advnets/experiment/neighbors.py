"""Scores by what lies near: precision and its kin, the two-sample test, copies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from torch import Tensor

from advnets.errors import DataError
from advnets.experiment.sampler import real_pictures
from advnets.experiment.scores import TRAINING, Record, Subject, compared
from advnets.metrics.memorization import memorisation
from advnets.metrics.precision_recall import (
    NEIGHBOURS,
    PRDC,
    TwoSample,
    nearest_neighbour_test,
    prdc,
)
from advnets.metrics.subsampling import subsampled_errors

_NUMBERS = 1 << 27  # of their features, at most: half a gibibyte


def prdc_records(subject: Subject) -> list[Record]:
    """Precision, recall, density and coverage against the test pictures.

    Raises:
        DataError: there are too few pictures for their neighbours.
    """
    fewest = min(len(subject.test_features), *map(len, subject.features.values()))
    if fewest <= NEIGHBOURS:
        raise DataError(
            f"{subject.data.facts.name} has {fewest} pictures to compare, and prdc looks at the "
            f"{NEIGHBOURS} nearest others of each; give a larger set, or ask for other metrics"
        )
    return compared(
        subject, "prdc", lambda test, features: _with_errors(prdc, test, features, _LYING)
    )


def neighbour_records(subject: Subject) -> list[Record]:
    """How well the nearest other picture tells samples from test pictures."""
    test = subject.test_features
    count = min(len(test), *(len(features) for features in subject.features.values()))
    return [
        subject.of_features(
            "neighbour",
            row,
            **_with_errors(nearest_neighbour_test, test[:count], features[:count], ("accuracy",)),
            n_real=count,
            n_fake=count,
        )
        for row, features in subject.features.items()
    ]


_LYING = ("precision", "recall", "density", "coverage")


def _with_errors(
    score: Callable[[Tensor, Tensor], PRDC | TwoSample],
    test: Tensor,
    features: Tensor,
    names: tuple[str, ...],
) -> Record:
    """What is found, and the standard errors of some of it."""
    found = asdict(score(test, features))
    errors = subsampled_errors(lambda x, y: asdict(score(x, y)), test, features, names)
    return {**found, **{f"{name}_error": error for name, error in errors.items()}}


def memorisation_records(subject: Subject) -> list[Record]:
    """How many samples are copies of training pictures; real ones are, of themselves."""
    test = subject.test_features
    count = min(TRAINING, _NUMBERS // test.shape[1])
    train = subject.extractor.features(
        real_pictures(subject.data.splits.train, count, subject.seed)
    )
    return compared(
        subject,
        "memorisation",
        lambda test, features: {**asdict(memorisation(train, test, features)), "among": len(train)},
        alike=False,
    )
