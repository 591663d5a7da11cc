"""Metrics of labels: a linear probe of learned features, a 1-NN classifier trained on samples."""

from __future__ import annotations

from dataclasses import asdict
from importlib.metadata import version
from typing import cast

import torch
from torch import Tensor

from advnets.data.class_proportions import ClassProportions
from advnets.data.dataset import Split
from advnets.data.prepared import PreparedData
from advnets.errors import DataError, UsageError
from advnets.evaluation.context import EvaluationContext, Record
from advnets.evaluation.encoders import encoder_extractor
from advnets.evaluation.spec import (
    DISCRIMINATOR,
    ENCODER,
    GENERATOR,
    NEVER_TRAINED,
    PIXELS,
    REAL,
    MetricSpec,
    Value,
    percent,
    proportion_interval,
    repeated_interval,
)
from advnets.extractors.base import Extractor
from advnets.extractors.builtin import Pixels
from advnets.extractors.discriminator import discriminator_extractor
from advnets.metrics.linear_probe import LabeledFeatures, nearest_image_error, probe
from advnets.sampling.sampler import read_images

LABEL_BUDGETS = (100, 1_000)
"""Default numbers of labels of the probe; with all labels of MNIST it takes an hour."""
NUM_KNOWN = (1_000, 10_000, 50_000, 100_000)
"""Numbers of class-conditional samples in the training set of the 1-NN classifier."""


def probe_records(context: EvaluationContext) -> list[Record]:
    """Compute the accuracy of linear SVMs on D's features or on the code of an encoder.

    As baselines also on those of untrained networks and on pixels.

    Raises:
        DataError: the data has no labeled training, validation and test images.
        UsageError: a number of labels is negative.
    """
    labeled = _require_labeled_splits(context.data)
    if any(budget < 0 for budget in context.label_budgets):
        budgets = " ".join(map(str, context.label_budgets))
        raise UsageError(
            f"probe_labels is {budgets}; expected numbers of labels, or 0 for all labels"
        )

    # Train a probe on each kind of features with each number of labels.
    records: list[Record] = []
    for samples, extractor in _probed_extractors(context).items():
        train, valid, test = (_labeled_features(extractor, split) for split in labeled)
        # Where training flipped images left to right, so does the probe.
        mirrored = (
            _features(extractor, labeled[0], mirrored=True) if context.data_config.hflip else None
        )
        for budget in context.label_budgets or _default_budgets(train.labels):
            result = probe(
                train, valid, test, budget=budget or None, seed=context.seed, mirrored=mirrored
            )
            records.append(
                context.feature_record(
                    "probe",
                    samples,
                    **asdict(result),
                    n_real=result.n_test,
                    n_fake=0,
                    extractor=extractor,
                    libraries={name: version(name) for name in ("scikit-learn", "scipy")},
                )
            )
    return records


def _require_labeled_splits(data: PreparedData) -> list[Split]:
    """Return the training, validation and test images.

    Raises:
        DataError: one of them is missing or has no labels.
    """
    dataset = data.dataset
    splits = {"training": dataset.train, "validation": dataset.valid, "test": dataset.test}
    for name, split in splits.items():
        if not isinstance(split, Split) or split.labels is None:
            raise DataError(
                f"the metric probe needs labeled {name} images, and {data.info.name} has none; "
                "give a run on labeled data"
            )
    return [cast(Split, split) for split in splits.values()]


def _probed_extractors(context: EvaluationContext) -> dict[str, Extractor]:
    """Return the feature extractors to probe: the encoder, else D; untrained; and pixels."""
    normalizer = context.data.normalizer
    channels = context.data.info.shape[0]
    players_by_suffix = {"": context.players, NEVER_TRAINED: context.initial_players()}
    extractors: dict[str, Extractor] = {}
    for suffix, players in players_by_suffix.items():
        if not {"encoder", "discriminator"} & context.players.keys():
            raise UsageError(
                "the metric probe needs a discriminator or an encoder, and the run has neither, or "
                "keeps the weights of the generator only; leave it out"
            )
        if "encoder" in context.players:
            extractors[f"{ENCODER}{suffix}"] = encoder_extractor(players["encoder"], normalizer)
        else:
            extractors[f"{DISCRIMINATOR}{suffix}"] = discriminator_extractor(
                players["discriminator"], normalizer, channels
            )
    return {**extractors, PIXELS: Pixels()}


def _default_budgets(labels: torch.Tensor) -> list[int]:
    """Return the default numbers of labels that every class has images for, else [0]: all."""
    classes = int(labels.max()) + 1
    fewest = int(torch.bincount(labels, minlength=classes).min())
    return [b for b in LABEL_BUDGETS if -(-b // classes) <= fewest] or [0]


def _labeled_features(extractor: Extractor, split: Split) -> LabeledFeatures:
    return LabeledFeatures(_features(extractor, split), torch.from_numpy(split.labels))


def _features(extractor: Extractor, split: Split, *, mirrored: bool = False) -> Tensor:
    images = read_images(split, slice(None))
    return extractor.features(images.flip(-1) if mirrored else images)


PROBE = MetricSpec(
    name="probe",
    title="linear probe",
    help="test accuracy of a linear SVM on features of D or of the encoder",
    records=probe_records,
    values={"accuracy": Value("higher", repeated_interval("draws", ddof=1))},
    describe=lambda r: (
        f"linear SVM test accuracy {percent(r['accuracy'], 2)}"
        + (f" ± {percent(r['std'], 2)} over {r['draws']} draws" if r["std"] else "")
    ),
    describe_inputs=lambda r: (
        f"{r['extractor']}, {r['labels']:,} labels"
        f"{' and mirror images' if r.get('mirrored') else ''}, {r['n_test']:,} test images"
    ),
    details=("std", "costs"),
    cases={"labels": "{:,} labels"},
    samples="none",
    uses_own_features=True,
    check_data=_require_labeled_splits,
    check_run=_probed_extractors,
    needs="labels; a convolutional D or an encoder",
    aliases=("linear-probe",),
)


def nearest_neighbor_classifier_records(context: EvaluationContext) -> list[Record]:
    """Compute the test error of a 1-NN classifier trained on class-conditional samples.

    As a baseline also of one trained on real images.

    Raises:
        UsageError: the generator is unconditional.
        DataError: the data has no labeled test images, or streams its training images.
    """
    labeled_train, labeled_test, proportions = _classifier_inputs(context)

    # Compare pixels of test images with those of samples and of real training images.
    test, count = _labeled_features(Pixels(), labeled_test), max(NUM_KNOWN)
    labels = proportions.allocate(count)
    samples = context.samples(count, labels)
    training_sets = {
        GENERATOR: LabeledFeatures(samples.flatten(1), labels),
        REAL: _labeled_features(Pixels(), labeled_train),
    }
    return [
        context.record(
            "1nn-classifier",
            name,
            error=nearest_image_error(known.subset(torch.arange(n)), test),
            n_known=n,
            n_test=len(test.labels),
            n_real=len(test.labels),
            n_fake=n,
        )
        for name, known in training_sets.items()
        for n in sorted({min(n, len(known.labels)) for n in NUM_KNOWN})
    ]


def _classifier_inputs(context: EvaluationContext) -> tuple[Split, Split, ClassProportions]:
    """Return the labeled training and test images, and the class proportions of samples.

    Raises:
        UsageError: the generator is unconditional.
        DataError: the data has no labeled test images, or streams its training images.
    """
    dataset, proportions = context.data.dataset, context.class_proportions
    if proportions is None:
        raise UsageError(
            "the metric 1nn-classifier needs class-conditional samples, and this run was trained "
            "without labels; give a class-conditional run, such as one of dcgan-mnist-conditional"
        )
    labeled_test = dataset.test is not None and dataset.test.labels is not None
    if not labeled_test or dataset.test is None or not isinstance(dataset.train, Split):
        raise DataError(
            f"the metric 1nn-classifier needs labeled test images, and {context.data.info.name} "
            "has none; give a run on labeled data"
        )
    return dataset.train, dataset.test, proportions


ONE_NN_CLASSIFIER = MetricSpec(
    name="1nn-classifier",
    title="1-NN classifier",
    help="test error of a 1-NN classifier trained on class-conditional samples",
    records=nearest_neighbor_classifier_records,
    values={"error": Value("lower", proportion_interval("n_test"))},
    describe=lambda r: f"1-NN classification error {percent(r['error'], 2)}",
    describe_inputs=lambda r: f"pixels, trained on {r['n_known']:,}, {r['n_test']:,} test images",
    cases={"n_known": "{:,} known"},
    samples="fixed",
    check_run=_classifier_inputs,
    needs="labels; a conditional generator",
)
