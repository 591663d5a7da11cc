"""Scores by labels: what D's features tell of the classes, and what conditional samples teach."""

from __future__ import annotations

from dataclasses import asdict
from importlib.metadata import version
from typing import cast

import torch
from torch import Tensor

from advnets.data.dataset import Split
from advnets.errors import DataError, UsageError
from advnets.evaluation.context import EvaluationContext, Record
from advnets.evaluation.encoders import encoder_extractor
from advnets.extractors.base import Extractor
from advnets.extractors.builtin import Pixels
from advnets.extractors.discriminator import discriminator_extractor
from advnets.metrics.linear_probe import LabeledFeatures, nearest_image_error, probe
from advnets.report.score_text import DISCRIMINATOR, ENCODER, GENERATOR, NEVER_TRAINED, PIXELS, REAL
from advnets.sampling.sampler import read_images

BUDGETS = (100, 1_000)
"""Labels that the linear classifier is given, unless asked: by all of MNIST's it takes an hour."""
SHOWN = (1_000, 10_000, 50_000, 100_000)
"""Conditional samples that the nearest-image classifier is given."""


def probe_records(context: EvaluationContext) -> list[Record]:
    """Accuracy of linear SVMs on D's features, or z, on those of nets never trained, on pixels."""
    splits = context.data.dataset
    parts = {"training": splits.train, "validation": splits.valid, "test": splits.test}
    for name, part in parts.items():
        if not isinstance(part, Split) or part.labels is None:
            raise DataError(
                f"{context.data.info.name} has no labeled {name} images, which the probe "
                "needs; give a labeled set"
            )
    sets = [cast(Split, part) for part in parts.values()]
    if any(budget < 0 for budget in context.label_budgets):
        given = " ".join(map(str, context.label_budgets))
        raise UsageError(f"labels are {given}; give numbers of labels, or 0 for all")
    records: list[Record] = []
    for row, extractor in _rows(context).items():
        train, valid, test = (_seen(extractor, part) for part in sets)
        # An image that training mirrors is of the same class mirrored, as far as anybody knows.
        mirrored = (
            _features(extractor, sets[0], mirrored=True) if context.data_config.hflip else None
        )
        for budget in context.label_budgets or _within(train.labels):
            found = probe(
                train, valid, test, budget=budget or None, seed=context.seed, mirrored=mirrored
            )
            records.append(
                context.feature_record(
                    "probe",
                    row,
                    **asdict(found),
                    n_real=found.n_test,
                    n_fake=0,
                    through=extractor,
                    libraries={name: version(name) for name in ("scikit-learn", "scipy")},
                )
            )
    return records


def _rows(context: EvaluationContext) -> dict[str, Extractor]:
    """What is looked through: z where it is inferred, else D's convolutions; and pixels."""
    scaling, nets = (
        context.data.normalizer,
        {"": context.players, NEVER_TRAINED: context.initial_players()},
    )
    channels = context.data.info.shape[0]
    if "encoder" in context.players:
        seen: dict[str, Extractor] = {
            f"{ENCODER}{which}": encoder_extractor(some["encoder"], scaling)
            for which, some in nets.items()
        }
    else:
        seen = {
            f"{DISCRIMINATOR}{which}": discriminator_extractor(
                some["discriminator"], scaling, channels
            )
            for which, some in nets.items()
        }
    return {**seen, PIXELS: Pixels()}


def _within(labels: torch.Tensor) -> list[int]:
    """Budgets that every class has images for; if none, all labels there are (0)."""
    classes = int(labels.max()) + 1
    fewest = int(torch.bincount(labels, minlength=classes).min())
    return [b for b in BUDGETS if -(-b // classes) <= fewest] or [0]


def _seen(extractor: Extractor, part: Split) -> LabeledFeatures:
    return LabeledFeatures(_features(extractor, part), torch.from_numpy(part.labels))


def _features(extractor: Extractor, part: Split, *, mirrored: bool = False) -> Tensor:
    shown = read_images(part, slice(None))
    return extractor.features(shown.flip(-1) if mirrored else shown)


def nearest_neighbor_classifier_records(context: EvaluationContext) -> list[Record]:
    """Error of the nearest-image classifier that knows conditional samples, or real images."""
    splits, shares = context.data.dataset, context.class_proportions
    if shares is None:
        raise UsageError(
            "the metric one-nn needs samples of a class each, and this run was trained without "
            "labels; give a conditional run, as dcgan-mnist-conditional"
        )
    if splits.test is None or splits.test.labels is None or not isinstance(splits.train, Split):
        raise DataError(
            f"{context.data.info.name} has no labeled test images, which the metric one-nn "
            "needs; give a labeled set"
        )
    test, most = _seen(Pixels(), splits.test), max(SHOWN)
    labels = shares.allocate(most)
    drawn = context.samples(most, labels)
    known = {
        GENERATOR: LabeledFeatures(drawn.flatten(1), labels),
        REAL: _seen(Pixels(), splits.train),
    }
    return [
        context.record(
            "one-nn",
            row,
            error=nearest_image_error(some.part(torch.arange(count)), test),
            n_known=count,
            n_test=len(test.labels),
            n_real=len(test.labels),
            n_fake=count,
        )
        for row, some in known.items()
        for count in sorted({min(count, len(some.labels)) for count in SHOWN})
    ]
