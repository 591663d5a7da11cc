"""The usefulness metric: the accuracy on real images of a classifier trained on samples.

Source: Ravuri and Vinyals 2019, "Classification accuracy score for conditional generative models".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from advnets.data.class_proportions import ClassProportions
from advnets.data.dataset import Split
from advnets.errors import DataError, UsageError
from advnets.evaluation.context import EvaluationContext, Record
from advnets.evaluation.spec import (
    GENERATOR,
    REAL,
    MetricSpec,
    Value,
    percent,
    proportion_interval,
)
from advnets.sampling.sampler import read_images

PENALTY = 1e-3
"""The ridge penalty, as a fraction of the mean variance of a feature."""


def usefulness_records(context: EvaluationContext) -> list[Record]:
    """Compute the test accuracy of classifiers trained on four sets of images.

    The sets are: samples; as many real training images; both; and the real images with their mirror
    images. Each classifier is linear in the extractor's features.

    Raises:
        UsageError: the generator is unconditional.
        DataError: the data has no labeled training or test images.
    """
    train, proportions = _usefulness_inputs(context)

    # Draw as many samples as real training images, and extract the features of both.
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(context.seed))
    chosen = order[: context.num_samples]
    images, labels = read_images(train, chosen.numpy()), torch.from_numpy(train.labels)[chosen]
    requested = proportions.allocate(len(chosen))
    features = context.extractor.features
    real, fake = features(images), features(context.samples(len(chosen), requested))
    test, test_labels = context.labeled_test()
    test_features = features(test)

    # Train a classifier on each set, and compute its accuracy on the test images of each class.
    sets = {
        "samples": (GENERATOR, fake, requested),
        "real": (REAL, real, labels),
        "real + samples": (GENERATOR, torch.cat((real, fake)), torch.cat((labels, requested))),
        "real + flips": (REAL, torch.cat((real, features(images.flip(-1)))), labels.repeat(2)),
    }
    classes = len(context.data.info.classes)
    records: list[Record] = []
    for trained_on, (samples, inputs, targets) in sets.items():
        scores = ridge_scores(inputs, targets, classes, test_features)
        correct = scores.argmax(1) == test_labels
        counts = torch.bincount(test_labels, minlength=classes).tolist()
        hits = torch.bincount(test_labels[correct], minlength=classes).tolist()
        by_class = [
            {"accuracy": h / n, "n": n} if n else None for h, n in zip(hits, counts, strict=True)
        ]
        interval = proportion_interval("n")
        records.append(
            context.feature_record(
                "usefulness",
                samples,
                trained_on=trained_on,
                accuracy=float(correct.double().mean()),
                class_accuracy=[c and c["accuracy"] for c in by_class],
                class_intervals=[c and interval(c, "accuracy") for c in by_class],
                penalty=PENALTY,
                n_train=len(targets),
                n_test=len(test_labels),
                n_real=len(test_labels),
                n_fake=len(chosen),
            )
        )
    return records


def ridge_scores(
    features: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    classes: int,
    test: Float[Tensor, "m d"],
) -> Float[Tensor, "m classes"]:
    """Return the class scores of test features by ridge regression on one-hot classes.

    The solution is exact: it depends neither on a seed nor on a number of steps.
    """
    x, y = features.double(), F.one_hot(labels, classes).double()
    x_mean, y_mean = x.mean(0), y.mean(0)
    centered = x - x_mean
    covariance = centered.T @ centered / len(x)
    penalty = PENALTY * covariance.diagonal().mean().clamp_min(torch.finfo(torch.float64).tiny)
    regularized = covariance + penalty * torch.eye(len(covariance), dtype=torch.float64)
    weights = torch.linalg.solve(regularized, centered.T @ (y - y_mean) / len(x))
    return (test.double() - x_mean) @ weights + y_mean


def _usefulness_inputs(context: EvaluationContext) -> tuple[Split, ClassProportions]:
    """Return the labeled training images and the class proportions of samples.

    Raises:
        UsageError: the generator is unconditional.
        DataError: the data has no labeled training or test images.
    """
    if context.class_proportions is None:
        raise UsageError(
            "the metric usefulness needs class-conditional samples, and this run was trained "
            "without labels; give a class-conditional run, such as one of conditional-mnist"
        )
    train, test = context.data.dataset.train, context.data.dataset.test
    if not isinstance(train, Split) or train.labels is None or test is None or test.labels is None:
        raise DataError(
            "the metric usefulness needs labeled training and test images, and "
            f"{context.data.info.name} lacks them; give a run on labeled data"
        )
    return train, context.class_proportions


def _worst_class(record: Mapping[str, Any]) -> str:
    known = [accuracy for accuracy in record["class_accuracy"] if accuracy is not None]
    return percent(min(known), 2)


USEFULNESS = MetricSpec(
    name="usefulness",
    title="usefulness",
    help=(
        "test accuracy of a linear classifier of features trained on samples, real images, both, "
        "and real images with their mirror images"
    ),
    records=usefulness_records,
    values={"accuracy": Value("higher", proportion_interval("n_test"))},
    describe=lambda r: (
        f"trained on {r['trained_on']}: accuracy {percent(r['accuracy'], 2)}, "
        f"worst class {_worst_class(r)}"
    ),
    describe_inputs=lambda r: (
        f"{r['extractor']}, trained on {r['n_train']:,}, {r['n_test']:,} test images"
    ),
    details=("class_accuracy", "class_intervals", "n_train"),
    cases={"trained_on": "trained on {}"},
    uses_extractor=True,
    check_run=_usefulness_inputs,
    needs="labels; a conditional generator",
)
