"""Scores of classes: whether conditional samples are what was asked for, and D's own verdict."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from advnets.data.dataset import Split
from advnets.errors import DataError, UsageError
from advnets.evaluation.context import EvaluationContext, Record
from advnets.extractors.builtin import Classifier
from advnets.metrics.prdc import NEIGHBORS, prdc
from advnets.protocols import ClassifyingDiscriminator
from advnets.report.score_text import DISCRIMINATOR, GENERATOR, REAL
from advnets.sampling.sampler import read_images

MIN_PER_CLASS = 100
"""Test images of a class below which its coverage would say little."""


def class_accuracy_records(context: EvaluationContext) -> list[Record]:
    """How often a classifier finds the class that was asked for, and how much of each is covered.

    Coverage and recall are of the test images of one class by samples of that class, averaged
    over the classes that have training images: one image a class is right every time and covers
    nothing.
    """
    if context.class_proportions is None:
        raise UsageError(
            "the metric classes needs samples of a class each, and this run was trained without "
            "labels; give a conditional run, as conditional-mnist"
        )
    judge = context.extractor
    if not isinstance(judge, Classifier):
        raise UsageError(
            f"the metric classes needs a classifier to judge samples, and {judge.name} is none; "
            "say --extractor digits on images like MNIST"
        )
    train = context.data.dataset.train
    if not isinstance(train, Split) or train.labels is None:
        raise DataError("the metric classes needs labeled training images at hand")
    labels = context.class_proportions.allocate(context.num_samples)
    drawn = context.samples(context.num_samples, labels)
    which = torch.randperm(len(train), generator=torch.Generator().manual_seed(context.seed))
    some = which[: context.num_samples].numpy()
    rows = {
        GENERATOR: (drawn, labels),
        REAL: (read_images(train, some), torch.from_numpy(train.labels[some])),
    }
    test, told = context.labeled_test()
    of_test = judge.features(test)
    return [
        context.feature_record(
            "classes",
            row,
            accuracy=float((judge.logits(shown).argmax(1) == asked).double().mean()),
            **_covered(
                of_test, told, judge.features(shown), asked, context.class_proportions.present
            ),
            n_fake=len(shown),
            n_real=len(told),
        )
        for row, (shown, asked) in rows.items()
    ]


def _covered(
    of_test: Float[Tensor, "tests features"],
    told: Int[Tensor, " tests"],
    of_shown: Float[Tensor, "n features"],
    asked: Int[Tensor, " n"],
    classes: Int[Tensor, " classes"],
) -> dict[str, Any]:
    """Means over classes of coverage and recall within a class, as many images on both sides."""
    coverage: list[float] = []
    recall: list[float] = []
    compared: list[int] = []
    for number in classes.tolist():
        real, fake = of_test[told == number], of_shown[asked == number]
        n = min(len(real), len(fake))
        if n < MIN_PER_CLASS:
            raise DataError(
                f"class {number} has {len(real)} test images and {len(fake)} beside them, and "
                f"coverage needs {MIN_PER_CLASS} of either; score more (--num-samples), with uniform class proportions, "
                "or a larger set"
            )
        compared.append(n)
        found = prdc(real[:n], fake[:n], NEIGHBORS)
        coverage.append(found.coverage)
        recall.append(found.recall)
    return {
        "neighbors": NEIGHBORS,
        "n_of_each": compared,
        "coverage": sum(coverage) / len(classes),
        "least_coverage": min(coverage),
        "recall": sum(recall) / len(classes),
    }


def classification_error_records(context: EvaluationContext) -> list[Record]:
    """Share of test images whose class D gets wrong, for a D that tells classes."""
    net = context.players.get("discriminator")
    if net is None or not isinstance(net, ClassifyingDiscriminator):
        raise UsageError(
            "the metric test-error is of a D that tells classes, and this run's tells none; give "
            "a semi-supervised run, as semi-supervised-mnist"
        )
    (test, told), wrong = context.labeled_test(), 0
    shown = context.data.normalizer.from_unit_range(test)
    real: list[Tensor] = []
    with torch.no_grad():
        for block, labels in zip(shown.split(1000), told.split(1000), strict=True):
            logits = net.class_logits(net.hidden(block.to(context.compute_settings.device))).cpu()
            wrong += int((logits.argmax(1) != labels).sum())
            real.append(torch.sigmoid(logits.logsumexp(1)))
    return [
        context.record(
            "test-error",
            DISCRIMINATOR,
            error=wrong / len(told),
            wrong=wrong,
            n_test=len(told),
            n_real=len(told),
            n_fake=0,
            thinks_real=float(torch.cat(real).mean()),
        )
    ]
