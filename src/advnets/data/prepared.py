"""A data set opened for a training: its splits, the range the networks see, and its facts."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from advnets import config
from advnets.data.class_proportions import ClassProportions, ProportionKind, class_index
from advnets.data.dataset import Dataset, Shape, iterate_blocks, num_train_images
from advnets.data.image_folder.unsupported_files import count_by_format
from advnets.data.normalization import Normalizer, fit_normalizer, normalizer_from_statistics
from advnets.data.registry import open_dataset
from advnets.data.spec import is_dataset_name, is_source, shadowing_warning
from advnets.errors import DataError, RunError, UsageError


@dataclass(frozen=True)
class DatasetInfo:
    """What a run found out about its data: enough to rebuild the nets without it."""

    name: str
    shape: Shape
    train: int | None
    valid: int
    test: int
    skipped: int
    digest: str
    white_level: int
    normalization: dict[str, float]
    classes: tuple[str, ...] = ()
    """Names of the labels, in their order; none where there are no labels."""
    class_counts: tuple[int, ...] = ()
    """Training images of each class."""
    unlabeled: int = 0
    unsupported: dict[str, int] = field(default_factory=dict[str, int])
    """Files that are no images advnets reads, counted by kind."""

    @classmethod
    def from_dataset(cls, dataset: Dataset, normalizer: Normalizer) -> DatasetInfo:
        """The facts of opened data."""
        sizes = [0 if split is None else len(split) for split in (dataset.valid, dataset.test)]
        images, others = count_by_format(dataset.unsupported_files)
        return cls(
            name=dataset.name,
            shape=dataset.shape,
            train=num_train_images(dataset.train),
            valid=sizes[0],
            test=sizes[1],
            skipped=len(dataset.skipped_files),
            digest=dataset.digest(),
            white_level=dataset.train.white_level,
            normalization=normalizer.statistics(),
            classes=dataset.class_names(),
            class_counts=dataset.class_counts(),
            unlabeled=0 if dataset.unlabeled is None else len(dataset.unlabeled),
            unsupported={**images, **others},
        )

    def class_index(self, name: str) -> int:
        """Return the index of the class of this name, in `classes`.

        Raises:
            UsageError: the data has no labels.
            UnknownNameError: it has no such class.
        """
        if not self.classes:
            raise UsageError(
                f"class {name} was asked for, but {self.name} has no labels; give labeled "
                "images, such as a folder with a folder for each class"
            )
        return class_index(name, self.classes)

    def class_proportions(self, kind: ProportionKind = "data") -> ClassProportions:
        """Return the probabilities with which classes of conditional samples are drawn.

        Raises:
            UsageError: the run did not record how many training images each class has.
        """
        if self.classes and not self.class_counts:
            if kind == "uniform":
                return ClassProportions.from_counts(kind, [1] * len(self.classes))
            raise UsageError(
                f"this run has not recorded how many images of {self.name} each class has; ask for "
                "uniform class proportions, or train it again"
            )
        return ClassProportions.from_counts(kind, self.class_counts)


@dataclass(frozen=True)
class PreparedData:
    """Images, the way into the nets' range and back, and the facts to remember."""

    dataset: Dataset
    normalizer: Normalizer
    info: DatasetInfo


def open_data(spec: config.Data) -> PreparedData:
    """Open the data a config names.

    Raises:
        DataError: it is absent, broken, or wrong as a whole.
    """
    splits = open_dataset(spec)
    scaling = fit_normalizer(spec.normalize, splits.train)
    return PreparedData(splits, scaling, DatasetInfo.from_dataset(splits, scaling))


def open_training_data(spec: config.Data) -> PreparedData:
    """Open the data that a run is to begin on; say where a name is taken in place of a path.

    Raises:
        DataError, UsageError: as for `open_data`.
    """
    if said := shadowing_warning(spec.source) if is_dataset_name(spec.source) else None:
        logging.getLogger("advnets").warning("%s", said)
    return open_data(spec)


def open_run_data(path: Path, spec: config.Data, info: DatasetInfo) -> PreparedData:
    """Open the data that the run in `path` was trained on, where `spec` says that it lies now.

    It goes by the name that it had then, wherever it lies.

    Raises:
        DataError: it is not there, or cannot be opened.
        RunError: it is other data, by its digest.
    """
    if not is_source(spec.source):
        raise DataError(
            f"the data of {path}, {spec.source}, is not there any more; give the path where it "
            "lies now with --data PATH"
        )
    try:
        opened = open_data(spec)
    except DataError as error:
        raise DataError(f"the data of {path} cannot be opened: {error}") from None
    if opened.info.digest != info.digest:
        raise RunError(
            f"the data of {path} has changed since the run began ({info.name}: digest "
            f"{info.digest[:12]} then, {opened.info.digest[:12]} now, in {spec.source}); bring "
            "the old data back, or give the path where it lies now with --data PATH"
        )
    info = replace(opened.info, name=info.name)
    return replace(opened, dataset=replace(opened.dataset, name=info.name), info=info)


def run_normalizer(spec: config.Data, info: DatasetInfo) -> Normalizer:
    """The scaling of a run, without its data."""
    return normalizer_from_statistics(spec.normalize, info.normalization)


def mean_image(data: PreparedData) -> Float[Tensor, "channels height width"]:
    """The mean training image in the nets' range."""
    total, count = torch.zeros(data.info.shape, dtype=torch.float64), 0
    for block in iterate_blocks(data.dataset.train):
        total += data.normalizer.to_model(torch.from_numpy(block)).sum(0, dtype=torch.float64)
        count += len(block)
    return (total / count).float()
