"""Scores by labels: what D's features tell of the classes, and what conditional samples teach."""

from __future__ import annotations

from dataclasses import asdict
from importlib.metadata import version
from typing import cast

import torch
from torch import Tensor

from advnets.data.dataset import Part
from advnets.errors import DataError, UsageError
from advnets.experiment.encoders import encoder_extractor
from advnets.experiment.sampler import pictures
from advnets.experiment.scores import Record, Subject
from advnets.extractors.base import Extractor
from advnets.extractors.discriminator import discriminator_extractor
from advnets.extractors.pixels import Pixels
from advnets.metrics.linear_probe import Labelled, nearest_picture_error, probe
from advnets.views.score_text import DISCRIMINATOR, ENCODER, GENERATOR, NEVER_TRAINED, PIXELS, REAL

BUDGETS = (100, 1_000)
"""Labels that the linear classifier is given, unless asked: by all of MNIST's it takes an hour."""
SHOWN = (1_000, 10_000, 50_000, 100_000)
"""Conditional samples that the nearest-picture classifier is given."""


def probe_records(subject: Subject) -> list[Record]:
    """Accuracy of linear SVMs on D's features, or z, on those of nets never trained, on pixels."""
    splits = subject.data.splits
    parts = {"training": splits.train, "validation": splits.valid, "test": splits.test}
    for name, part in parts.items():
        if not isinstance(part, Part) or part.labels is None:
            raise DataError(
                f"{subject.data.facts.name} has no labelled {name} pictures, which the probe "
                "needs; give a labelled set"
            )
    sets = [cast(Part, part) for part in parts.values()]
    if any(budget < 0 for budget in subject.budgets):
        given = " ".join(map(str, subject.budgets))
        raise UsageError(f"labels are {given}; give numbers of labels, or 0 for all")
    records: list[Record] = []
    for row, extractor in _rows(subject).items():
        train, valid, test = (_seen(extractor, part) for part in sets)
        # A picture that training mirrors is of the same class mirrored, as far as anybody knows.
        mirrored = _features(extractor, sets[0], mirrored=True) if subject.shown.flip else None
        for budget in subject.budgets or _within(train.labels):
            found = probe(
                train, valid, test, budget=budget or None, seed=subject.seed, mirrored=mirrored
            )
            records.append(
                subject.of_features(
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


def _rows(subject: Subject) -> dict[str, Extractor]:
    """What is looked through: z where it is inferred, else D's convolutions; and pixels."""
    scaling, nets = subject.data.scaling, {"": subject.players, NEVER_TRAINED: subject.begun()}
    channels = subject.data.facts.shape[0]
    if "encoder" in subject.players:
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
    """Budgets that every class has pictures for; if none, all labels there are (0)."""
    classes = int(labels.max()) + 1
    fewest = int(torch.bincount(labels, minlength=classes).min())
    return [b for b in BUDGETS if -(-b // classes) <= fewest] or [0]


def _seen(extractor: Extractor, part: Part) -> Labelled:
    return Labelled(_features(extractor, part), torch.from_numpy(part.labels))


def _features(extractor: Extractor, part: Part, *, mirrored: bool = False) -> Tensor:
    shown = pictures(part, slice(None))
    return extractor.features(shown.flip(-1) if mirrored else shown)


def nearest_records(subject: Subject) -> list[Record]:
    """Error of the nearest-picture classifier that knows conditional samples, or real pictures."""
    splits, shares = subject.data.splits, subject.class_shares
    if shares is None:
        raise UsageError(
            "the metric one-nn needs samples of a class each, and this run was trained without "
            "labels; give a conditional run, as dcgan-mnist-conditional"
        )
    if splits.test is None or splits.test.labels is None or not isinstance(splits.train, Part):
        raise DataError(
            f"{subject.data.facts.name} has no labelled test pictures, which the metric one-nn "
            "needs; give a labelled set"
        )
    test, most = _seen(Pixels(), splits.test), max(SHOWN)
    labels = shares.in_proportion(most)
    drawn = subject.samples(most, labels)
    known = {GENERATOR: Labelled(drawn.flatten(1), labels), REAL: _seen(Pixels(), splits.train)}
    return [
        subject.record(
            "one-nn",
            row,
            error=nearest_picture_error(some.part(torch.arange(count)), test),
            n_known=count,
            n_test=len(test.labels),
            n_real=len(test.labels),
            n_fake=count,
        )
        for row, some in known.items()
        for count in sorted({min(count, len(some.labels)) for count in SHOWN})
    ]
