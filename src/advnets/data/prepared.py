"""A dataset prepared for training: its splits, its normalizer, and information about it."""

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
from advnets.data.normalization import Normalizer, fit_normalizer, normalizer_from_statistics
from advnets.data.spec import check_labels, in_memory, is_dataset_name, is_source, shadowing_warning
from advnets.errors import DataError, RunError, UsageError


@dataclass(frozen=True)
class DatasetInfo:
    """The information about a dataset that a run records, enough to rebuild its networks."""

    name: str
    shape: Shape
    train: int | None
    """The number of training images; None for a stream of unknown length."""
    valid: int
    test: int
    num_skipped_files: int
    digest: str
    white_level: int
    normalization: dict[str, float]
    """The statistics from which the normalizer is rebuilt."""
    classes: tuple[str, ...] = ()
    """The names of the labels, by class index; empty without labels."""
    class_counts: tuple[int, ...] = ()
    """The number of training images of each class."""
    unlabeled: int = 0
    unsupported_files: dict[str, int] = field(default_factory=dict[str, int])
    """The number of files of each unsupported format."""

    @classmethod
    def from_dataset(cls, dataset: Dataset, normalizer: Normalizer) -> DatasetInfo:
        """Collect the information about an opened dataset."""
        from advnets.data.image_folder.files import count_by_format

        valid, test = (
            0 if split is None else len(split) for split in (dataset.valid, dataset.test)
        )
        images, others = count_by_format(dataset.unsupported_files)
        return cls(
            name=dataset.name,
            shape=dataset.shape,
            train=num_train_images(dataset.train),
            valid=valid,
            test=test,
            num_skipped_files=len(dataset.skipped_files),
            digest=dataset.digest(),
            white_level=dataset.train.white_level,
            normalization=normalizer.statistics(),
            classes=dataset.class_names(),
            class_counts=dataset.class_counts(),
            unlabeled=0 if dataset.unlabeled is None else len(dataset.unlabeled),
            unsupported_files={**images, **others},
        )

    def class_index(self, name: str) -> int:
        """Return the index of the class of that name.

        Raises:
            UsageError: the data has no labels.
            UnknownNameError: there is no such class.
        """
        if not self.classes:
            raise UsageError(
                f"the class {name!r} needs labeled data, but {self.name} has no labels; use "
                "labeled data, such as a folder with one subfolder per class"
            )
        return class_index(name, self.classes)

    def class_proportions(self, kind: ProportionKind = "data") -> ClassProportions:
        """Return the proportions in which the classes of conditional samples are drawn.

        Raises:
            UsageError: the run did not record the number of training images of each class.
        """
        if self.classes and not self.class_counts:
            if kind == "uniform":
                return ClassProportions.from_counts(kind, [1] * len(self.classes))
            raise UsageError(
                f"this run did not record the class proportions of {self.name}; use uniform class "
                "proportions, or train it again"
            )
        return ClassProportions.from_counts(kind, self.class_counts)


@dataclass(frozen=True)
class PreparedData:
    """A dataset, its normalizer, and the information that a run records about it."""

    dataset: Dataset
    normalizer: Normalizer
    info: DatasetInfo

    def __repr__(self) -> str:
        return f"PreparedData({self.dataset!r}, {type(self.normalizer).__name__})"


def open_data(spec: config.Data) -> PreparedData:
    """Open the dataset of a config and fit its normalizer.

    Raises:
        DataError: the data is missing, damaged or unusable.
    """
    from advnets.data.registry import open_dataset  # not needed to load a run

    return prepare(open_dataset(spec), spec)


def prepare(dataset: Dataset, spec: config.Data) -> PreparedData:
    """Fit the normalizer of an opened dataset, and collect the information about it."""
    normalizer = fit_normalizer(spec.normalize, dataset.train)
    return PreparedData(dataset, normalizer, DatasetInfo.from_dataset(dataset, normalizer))


def open_training_data(spec: config.Data) -> PreparedData:
    """Open the dataset of a new run; warn if a path has the name of a dataset.

    Raises:
        DataError, UsageError: as for `open_data`.
    """
    if warning := shadowing_warning(spec.source) if is_dataset_name(spec.source) else None:
        logging.getLogger("advnets").warning("%s", warning)
    return open_data(spec)


def check_run_data(path: Path, data: object, labels: object = None) -> None:
    """Check the data that are given for the run at `path`, without opening them.

    Raises:
        DataError: `data` is a path that does not exist.
        UsageError: labels are given, and `data` is not in memory.
    """
    check_labels(data, labels)
    if isinstance(data, str | Path) and not is_source(str(data)):
        raise DataError(
            f"the data of {path} is missing: no file or folder is called {data}; set its "
            "present location with --data PATH"
        )


def open_run_data(
    path: Path,
    spec: config.Data,
    info: DatasetInfo,
    dataset: Dataset | None = None,
    source: str = "",
) -> PreparedData:
    """Open the dataset that the run at `path` was trained on, from its present location `spec`.

    The dataset keeps the name that the run recorded. `dataset` is the dataset itself, where it was
    in memory; `source` is the source that the run recorded.

    Raises:
        DataError: the data is missing or cannot be opened.
        RunError: its digest differs from the one that the run recorded.
    """
    if dataset is None and in_memory(spec.source):
        raise DataError(
            f"the data of {path} was passed from Python, in memory ({info.name}, digest "
            f"{info.digest[:12]}); pass it again from Python: advnets.train(out=…, resume=True, "
            "data=…), or advnets.load(…, data=…)"
        )
    if dataset is None:
        check_run_data(path, spec.source)
    try:
        opened = open_data(spec) if dataset is None else prepare(dataset, spec)
    except DataError as error:
        moved = is_dataset_name(spec.source) and dataset is None
        way = "; if it was moved, set its directory with --data-dir DIR" if moved else ""
        raise DataError(f"the data of {path} cannot be opened: {error}{way}") from None
    if dataset is not None and opened.info.digest != info.digest:
        raise RunError(
            f"the given data is not that of {path}: its digest is {opened.info.digest[:12]}, "
            f"expected {info.digest[:12]}; give the same images in the same order, with the same "
            "labels"
        )
    if opened.info.digest != info.digest:
        if in_memory(source):
            raise RunError(
                f"the data of {path} was passed from Python, in memory ({info.name}, digest "
                f"{info.digest[:12]}), and {spec.source} has the digest {opened.info.digest[:12]}; "
                "pass the same images again from Python as data"
            )
        raise RunError(
            f"the data of {path} has changed since the run was started: {spec.source} has the "
            f"digest {opened.info.digest[:12]}, expected {info.digest[:12]} ({info.name}); restore "
            "the old data, or set its present location with --data PATH"
        )
    named = replace(opened.dataset, name=info.name)
    return replace(opened, dataset=named, info=replace(opened.info, name=info.name))


def run_normalizer(spec: config.Data, info: DatasetInfo) -> Normalizer:
    """Return the normalizer of a run, without opening its data."""
    return normalizer_from_statistics(spec.normalize, info.normalization)


def mean_image(data: PreparedData) -> Float[Tensor, "channels height width"]:
    """Return the mean of the normalized training images."""
    total, count = torch.zeros(data.info.shape, dtype=torch.float64), 0
    for block in iterate_blocks(data.dataset.train):
        total += data.normalizer.to_model(torch.from_numpy(block)).sum(0, dtype=torch.float64)
        count += len(block)
    return (total / count).float()
