"""Metrics of classes: accuracy of class-conditional samples, and D's own classification error."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from advnets.data.class_proportions import ClassProportions
from advnets.data.dataset import Split
from advnets.errors import DataError, UsageError
from advnets.evaluation.context import EvaluationContext, Record
from advnets.evaluation.spec import (
    DISCRIMINATOR,
    GENERATOR,
    REAL,
    MetricSpec,
    Value,
    percent,
    proportion_interval,
)
from advnets.extractors.builtin import Classifier
from advnets.extractors.registry import classifier_advice
from advnets.metrics.prdc import NEIGHBORS, prdc
from advnets.protocols import ClassifyingDiscriminator
from advnets.sampling.sampler import read_images

MIN_PER_CLASS = 100
"""The smallest number of test images and of samples of a class for its coverage and recall."""


def class_accuracy_records(context: EvaluationContext) -> list[Record]:
    """Compute how often a classifier finds the requested class, and coverage within each class.

    Coverage and recall compare test images of a class with samples of that class, and are averaged
    over the classes that have training images: a generator with one image per class is always
    accurate and covers nothing.

    Raises:
        UsageError: the generator is unconditional, or the extractor is not a built-in classifier.
        DataError: there are no labeled training or test images, or too few of a class.
    """
    proportions, classifier, train = _class_accuracy_inputs(context)
    assert train.labels is not None  # which the line above checks

    # Draw samples of each class, and as many real training images.
    requested = proportions.allocate(context.num_samples)
    generated = context.samples(context.num_samples, requested)
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(context.seed))
    chosen = order[: context.num_samples]
    sets = {
        GENERATOR: (generated, requested),
        REAL: (read_images(train, chosen.numpy()), torch.from_numpy(train.labels)[chosen]),
    }

    # Compare predicted with requested classes, and features with those of test images.
    test, test_labels = context.labeled_test()
    test_features = classifier.features(test)
    return [
        context.feature_record(
            "class-accuracy",
            samples,
            accuracy=float((classifier.logits(images).argmax(1) == labels).double().mean()),
            **_coverage_per_class(
                (test_features, test_labels),
                (classifier.features(images), labels),
                proportions.present,
            ),
            n_fake=len(images),
            n_real=len(test_labels),
        )
        for samples, (images, labels) in sets.items()
    ]


def _class_accuracy_inputs(
    context: EvaluationContext,
) -> tuple[ClassProportions, Classifier, Split]:
    """Return the class proportions, the classifier and the labeled training images.

    Raises:
        UsageError: the generator is unconditional, or the extractor is not a built-in classifier.
        DataError: there are no labeled training images.
    """
    if context.class_proportions is None:
        raise UsageError(
            "the metric class-accuracy needs class-conditional samples, and this run was trained "
            "without labels; give a class-conditional run, such as one of conditional-mnist"
        )
    classifier = context.extractor
    if not isinstance(classifier, Classifier):
        raise UsageError(
            f"the metric class-accuracy needs a classifier, and the extractor {classifier.name} is "
            f"not one; {classifier_advice(context.data.info.shape, built_in=True)}"
        )
    train = context.data.dataset.train
    if not isinstance(train, Split) or train.labels is None:
        raise DataError(
            f"the metric class-accuracy needs labeled training images, and "
            f"{context.data.info.name} has none; give a run on labeled data"
        )
    return context.class_proportions, classifier, train


_Labeled = tuple[Float[Tensor, "n features"], Int[Tensor, " n"]]


def _coverage_per_class(
    test: _Labeled, samples: _Labeled, classes: Int[Tensor, " classes"]
) -> dict[str, Any]:
    """Return coverage and recall within a class, averaged over classes; equally many of each side.

    Raises:
        DataError: a class has fewer than `MIN_PER_CLASS` test images or samples.
    """
    coverage: list[float] = []
    recall: list[float] = []
    counts: list[int] = []
    for number in classes.tolist():
        real, fake = (features[labels == number] for features, labels in (test, samples))
        n = min(len(real), len(fake))
        if n < MIN_PER_CLASS:
            raise DataError(
                f"class {number} has {len(real)} test images and {len(fake)} samples; expected at "
                f"least {MIN_PER_CLASS} of each: raise num_samples, set class_proportions to "
                "uniform, or give a larger dataset"
            )
        counts.append(n)
        result = prdc(real[:n], fake[:n], NEIGHBORS)
        coverage.append(result.coverage)
        recall.append(result.recall)
    return {
        "neighbors": NEIGHBORS,
        "n_per_class": counts,
        "coverage": sum(coverage) / len(classes),
        "min_coverage": min(coverage),
        "recall": sum(recall) / len(classes),
    }


CLASS_ACCURACY = MetricSpec(
    name="class-accuracy",
    title="class accuracy",
    help="accuracy of the requested class of samples, coverage and recall within each class",
    records=class_accuracy_records,
    values={
        "accuracy": Value("higher", proportion_interval("n_fake")),
        "coverage": Value("higher"),
        "recall": Value("higher"),
    },
    describe=lambda r: (
        f"class accuracy {percent(r['accuracy'], 2)}; within a class coverage {r['coverage']:.3f} "
        f"(minimum {r['min_coverage']:.3f}), recall {r['recall']:.3f}"
    ),
    details=("min_coverage", "n_per_class"),
    uses_extractor=True,
    check_run=_class_accuracy_inputs,
    needs="labels; a conditional generator; a built-in classifier as extractor",
)


def classification_error_records(context: EvaluationContext) -> list[Record]:
    """Compute the test error of a discriminator that classifies, as in semi-supervised runs.

    Raises:
        UsageError: the discriminator does not classify.
        DataError: there are no labeled test images.
    """
    net = _classifying_discriminator(context)
    (test, test_labels), wrong = context.labeled_test(), 0
    inputs = context.data.normalizer.from_unit_range(test)
    real: list[Tensor] = []
    with torch.no_grad():
        for batch, labels in zip(inputs.split(1000), test_labels.split(1000), strict=True):
            logits = net.class_logits(net.hidden(batch.to(context.compute_settings.device))).cpu()
            wrong += int((logits.argmax(1) != labels).sum())
            real.append(torch.sigmoid(logits.logsumexp(1)))
    return [
        context.record(
            "classification-error",
            DISCRIMINATOR,
            error=wrong / len(test_labels),
            wrong=wrong,
            n_test=len(test_labels),
            n_real=len(test_labels),
            n_fake=0,
            mean_real_probability=float(torch.cat(real).mean()),
        )
    ]


def _classifying_discriminator(context: EvaluationContext) -> ClassifyingDiscriminator:
    """Return the discriminator.

    Raises:
        UsageError: there is none, or it does not classify.
    """
    net = context.players.get("discriminator")
    if net is None or not isinstance(net, ClassifyingDiscriminator):
        raise UsageError(
            "the metric classification-error needs a discriminator that classifies, and this run "
            "has none; give a semi-supervised run, such as one of semi-supervised-mnist"
        )
    return net


CLASSIFICATION_ERROR = MetricSpec(
    name="classification-error",
    title="classification error",
    help="test error of a discriminator that classifies (semi-supervised)",
    records=classification_error_records,
    values={"error": Value("lower", proportion_interval("n_test"))},
    describe=lambda r: f"classification error {percent(r['error'], 2)}",
    describe_inputs=lambda r: f"{r['n_test']:,} test images",
    details=("wrong", "mean_real_probability"),
    samples="none",
    check_run=_classifying_discriminator,
    needs="labels; a discriminator that classifies",
)
