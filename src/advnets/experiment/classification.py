"""Scores of classes: whether conditional samples are what was asked for, and D's own verdict."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from advnets.data.dataset import Part
from advnets.errors import DataError, UsageError
from advnets.experiment.sampler import pictures
from advnets.experiment.scores import Record, Subject
from advnets.extractors.classifiers import Classifier
from advnets.metrics.precision_recall import NEIGHBOURS, prdc
from advnets.protocols import Classifying
from advnets.views.score_text import DISCRIMINATOR, GENERATOR, REAL

LEAST = 100
"""Test pictures of a class below which its coverage would say little."""


def class_records(subject: Subject) -> list[Record]:
    """How often a classifier finds the class that was asked for, and how much of each is covered.

    Coverage and recall are of the test pictures of one class by samples of that class, averaged
    over the classes that have training images: one picture a class is right every time and covers
    nothing.
    """
    if subject.class_shares is None:
        raise UsageError(
            "the metric classes needs samples of a class each, and this run was trained without "
            "labels; give a conditional run, as conditional-mnist"
        )
    judge = subject.extractor
    if not isinstance(judge, Classifier):
        raise UsageError(
            f"the metric classes needs a classifier to judge samples, and {judge.name} is none; "
            "say --extractor digits on pictures like MNIST"
        )
    train = subject.data.splits.train
    if not isinstance(train, Part) or train.labels is None:
        raise DataError("the metric classes needs labelled training pictures at hand")
    labels = subject.class_shares.in_proportion(subject.num)
    drawn = subject.samples(subject.num, labels)
    which = torch.randperm(len(train), generator=torch.Generator().manual_seed(subject.seed))
    some = which[: subject.num].numpy()
    rows = {
        GENERATOR: (drawn, labels),
        REAL: (pictures(train, some), torch.from_numpy(train.labels[some])),
    }
    test, told = subject.labelled_test()
    of_test = judge.features(test)
    return [
        subject.of_features(
            "classes",
            row,
            accuracy=float((judge.logits(shown).argmax(1) == asked).double().mean()),
            **_covered(of_test, told, judge.features(shown), asked, subject.class_shares.present),
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
    """Means over classes of coverage and recall within a class, as many pictures on both sides."""
    coverage: list[float] = []
    recall: list[float] = []
    compared: list[int] = []
    for number in classes.tolist():
        real, fake = of_test[told == number], of_shown[asked == number]
        n = min(len(real), len(fake))
        if n < LEAST:
            raise DataError(
                f"class {number} has {len(real)} test pictures and {len(fake)} beside them, and "
                f"coverage needs {LEAST} of either; score more (--num), with equal class shares, "
                "or a larger set"
            )
        compared.append(n)
        found = prdc(real[:n], fake[:n], NEIGHBOURS)
        coverage.append(found.coverage)
        recall.append(found.recall)
    return {
        "neighbours": NEIGHBOURS,
        "n_of_each": compared,
        "coverage": sum(coverage) / len(classes),
        "least_coverage": min(coverage),
        "recall": sum(recall) / len(classes),
    }


def error_records(subject: Subject) -> list[Record]:
    """Share of test pictures whose class D gets wrong, for a D that tells classes."""
    net = subject.players.get("discriminator")
    if net is None or not isinstance(net, Classifying):
        raise UsageError(
            "the metric test-error is of a D that tells classes, and this run's tells none; give "
            "a semi-supervised run, as semi-mnist"
        )
    (test, told), wrong = subject.labelled_test(), 0
    shown = subject.data.scaling.from_shares(test)
    real: list[Tensor] = []
    with torch.no_grad():
        for block, labels in zip(shown.split(1000), told.split(1000), strict=True):
            logits = net.class_logits(net.hidden(block.to(subject.drawing.device))).cpu()
            wrong += int((logits.argmax(1) != labels).sum())
            real.append(torch.sigmoid(logits.logsumexp(1)))
    return [
        subject.record(
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
