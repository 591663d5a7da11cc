"""Metrics of nearest neighbors: PRDC, the 1-NN two-sample test, memorization."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from torch import Tensor

from advnets.errors import DataError
from advnets.evaluation.context import (
    MAX_TRAIN_IMAGES,
    EvaluationContext,
    Record,
    compare_features,
    require_test_split,
)
from advnets.evaluation.spec import (
    MetricSpec,
    Value,
    percent,
    proportion_interval,
    subsampled_interval,
)
from advnets.metrics.memorization import memorization
from advnets.metrics.prdc import NEIGHBORS, PRDC, NearestNeighborTest, nearest_neighbor_test, prdc
from advnets.metrics.uncertainty import subsampled_errors
from advnets.sampling.sampler import real_images

_MAX_NUMBERS = 1 << 27  # in the features of training images: 512 MiB of float32
_PRDC_VALUES = ("precision", "recall", "density", "coverage")


def prdc_records(context: EvaluationContext) -> list[Record]:
    """Compute precision, recall, density and coverage against the test images.

    Raises:
        DataError: there are not more than `NEIGHBORS` images in a set.
    """
    fewest = min(len(context.test_features), *map(len, context.features.values()))
    if fewest <= NEIGHBORS:
        raise DataError(
            f"{context.data.info.name} has {fewest} images to compare, and the metric prdc needs "
            f"more than {NEIGHBORS}; give a larger dataset or another metric"
        )
    return compare_features(
        context, "prdc", lambda test, features: _with_errors(prdc, test, features, _PRDC_VALUES)
    )


PRDC_SPEC = MetricSpec(
    name="prdc",
    title="PRDC",
    help=f"precision, recall, density and coverage of features (k = {NEIGHBORS} neighbors)",
    records=prdc_records,
    values={
        "precision": Value("higher", subsampled_interval(1.0)),
        "recall": Value("higher", subsampled_interval(1.0)),
        "density": Value(None, subsampled_interval(float("inf"))),
        "coverage": Value("higher", subsampled_interval(1.0)),
    },
    describe=lambda r: (
        f"precision {r['precision']:.3f}, recall {r['recall']:.3f}, density {r['density']:.3f}, "
        f"coverage {r['coverage']:.3f} (k = {r['neighbors']})"
    ),
    details=tuple(f"{name}_error" for name in _PRDC_VALUES),
    uses_extractor=True,
    check_data=require_test_split,
    aliases=_PRDC_VALUES,
    published=True,
)


def two_sample_records(context: EvaluationContext) -> list[Record]:
    """Compute the accuracy of the 1-NN two-sample test of samples against test images."""
    test = context.test_features
    count = min(len(test), *(len(features) for features in context.features.values()))
    return [
        context.feature_record(
            "two-sample-1nn",
            samples,
            **_with_errors(nearest_neighbor_test, test[:count], features[:count], ("accuracy",)),
            n_real=count,
            n_fake=count,
        )
        for samples, features in context.features.items()
    ]


def _with_errors(
    score: Callable[[Tensor, Tensor], PRDC | NearestNeighborTest],
    test: Tensor,
    features: Tensor,
    names: tuple[str, ...],
) -> Record:
    """Return a score's fields and, as NAME_error, the standard errors of the named ones."""
    result = asdict(score(test, features))
    errors = subsampled_errors(lambda x, y: asdict(score(x, y)), test, features, names)
    return {**result, **{f"{name}_error": error for name, error in errors.items()}}


TWO_SAMPLE_1NN = MetricSpec(
    name="two-sample-1nn",
    title="1-NN two-sample test",
    help="leave-one-out accuracy of a 1-NN classifier of real against generated, ideally 50 %",
    records=two_sample_records,
    values={"accuracy": Value(None, subsampled_interval(1.0))},
    describe=lambda r: (
        f"1-NN two-sample accuracy {percent(r['accuracy'])} (real {percent(r['accuracy_real'])}, "
        f"generated {percent(r['accuracy_fake'])})"
    ),
    details=("accuracy_real", "accuracy_fake", "accuracy_error"),
    uses_extractor=True,
    check_data=require_test_split,
    aliases=("1nn", "1-nn", "1nna", "c2st"),
)


def memorization_records(context: EvaluationContext) -> list[Record]:
    """Compute the fraction of samples that are copies of training images.

    For real training images, which are copies of themselves, it is 1.
    """
    count = min(MAX_TRAIN_IMAGES, _MAX_NUMBERS // context.test_features.shape[1])
    train = context.extractor.features(real_images(context.data.dataset.train, count, context.seed))
    return compare_features(
        context,
        "memorization",
        lambda test, features: {
            **asdict(memorization(train, test, features)),
            "n_train_images": len(train),
        },
        equal_counts=False,
    )


def _describe_memorization(record: Mapping[str, Any]) -> str:
    text = (
        f"{percent(record['copy_fraction'], 2)} are copies of a training image, test images "
        f"{percent(record['expected_copy_fraction'], 2)} (z = {record['z']:.1f}, "
        f"p {_p_value(record['p_value'])})"
    )
    if "nearer_fraction" not in record:
        return text
    return (
        f"{text}; {percent(record['nearer_fraction'])} are nearer to a training image than other "
        f"training images are, test images {percent(record['expected_nearer_fraction'])} "
        f"(p {_p_value(record['nearer_p_value'])})"
    )


def _p_value(p: float) -> str:
    return f"= {p:.1g}" if p else "< 1e-300"  # the least float64


MEMORIZATION = MetricSpec(
    name="memorization",
    title="memorization test",
    help="fraction of samples that copy a training image, against that of test images",
    records=memorization_records,
    values={"copy_fraction": Value(None, proportion_interval("n_samples"))},
    describe=_describe_memorization,
    describe_inputs=lambda r: (
        f"{r['extractor']}, {r['n_samples']:,} on {r['n_train']:,} training images, "
        f"{r['n_test']:,} test images"
    ),
    details=(
        *("expected_copy_fraction", "z", "p_value", "n_train"),
        *("nearer_fraction", "expected_nearer_fraction", "nearer_p_value"),
    ),
    uses_extractor=True,
    check_data=require_test_split,
    aliases=("data-copying",),
)
