"""Scores by what lies near: precision and its kin, the two-sample test, copies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from torch import Tensor

from advnets.errors import DataError
from advnets.evaluation.context import MAX_TRAIN_IMAGES, EvaluationContext, Record, compare_features
from advnets.metrics.memorization import memorization
from advnets.metrics.prdc import NEIGHBORS, PRDC, NearestNeighborTest, nearest_neighbor_test, prdc
from advnets.metrics.uncertainty import subsampled_errors
from advnets.sampling.sampler import real_images

_NUMBERS = 1 << 27  # of their features, at most: half a gibibyte


def prdc_records(context: EvaluationContext) -> list[Record]:
    """Precision, recall, density and coverage against the test images.

    Raises:
        DataError: there are too few images for their neighbors.
    """
    fewest = min(len(context.test_features), *map(len, context.features.values()))
    if fewest <= NEIGHBORS:
        raise DataError(
            f"{context.data.info.name} has {fewest} images to compare, and prdc looks at the "
            f"{NEIGHBORS} nearest others of each; give a larger set, or ask for other metrics"
        )
    return compare_features(
        context, "prdc", lambda test, features: _with_errors(prdc, test, features, _LYING)
    )


def two_sample_records(context: EvaluationContext) -> list[Record]:
    """How well the nearest other image tells samples from test images."""
    test = context.test_features
    count = min(len(test), *(len(features) for features in context.features.values()))
    return [
        context.feature_record(
            "neighbor",
            row,
            **_with_errors(nearest_neighbor_test, test[:count], features[:count], ("accuracy",)),
            n_real=count,
            n_fake=count,
        )
        for row, features in context.features.items()
    ]


_LYING = ("precision", "recall", "density", "coverage")


def _with_errors(
    score: Callable[[Tensor, Tensor], PRDC | NearestNeighborTest],
    test: Tensor,
    features: Tensor,
    names: tuple[str, ...],
) -> Record:
    """What is found, and the standard errors of some of it."""
    found = asdict(score(test, features))
    errors = subsampled_errors(lambda x, y: asdict(score(x, y)), test, features, names)
    return {**found, **{f"{name}_error": error for name, error in errors.items()}}


def memorization_records(context: EvaluationContext) -> list[Record]:
    """How many samples are copies of training images; real ones are, of themselves."""
    test = context.test_features
    count = min(MAX_TRAIN_IMAGES, _NUMBERS // test.shape[1])
    train = context.extractor.features(real_images(context.data.dataset.train, count, context.seed))
    return compare_features(
        context,
        "memorization",
        lambda test, features: {**asdict(memorization(train, test, features)), "among": len(train)},
        alike=False,
    )
