"""Samples, and the training images nearest to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from tyro.conf import arg

from advnets.data.dataset import Split, StreamingSplit, iterate_blocks
from advnets.data.prepared import PreparedData
from advnets.errors import UsageError
from advnets.experiment.trained_model import TrainedModel
from advnets.metrics.distance import nearest
from advnets.plots.image_grid import grid
from advnets.sampling.sampler import grid_classes
from advnets.visualize.figure import Figure, View, ViewData, image_rows


@dataclass(frozen=True)
class Samples(View):
    """Draw samples; those of a conditional model have one column for each class, at most 20.

    Classes without a training image are omitted.

    Raises:
        UsageError: as for `TrainedModel.sample`.
    """

    examples: ClassVar[tuple[str, ...]] = ("", "--class 7 --num-samples 16")

    num_samples: int = 64
    """Number of samples."""
    label: Annotated[str | None, arg(name="class", metavar="NAME")] = None
    """Name of the class to draw, for a conditional model; None: all classes."""
    label_index: Annotated[int | None, arg(name="class-index")] = None
    """Index of the class to draw, from 0 in the order of config.json; None: all classes."""
    columns: int | None = None
    """Number of images in a row; None: an approximately square grid."""
    batch_statistics: bool = False
    """Normalize by the statistics of each batch of 500 samples, not by the running statistics."""
    seed: int = 0
    """Seed of z."""

    def compute(self, model: TrainedModel) -> ViewData:
        """Draw the first samples of the seed."""
        indices: int | Tensor | None = self.label_index
        columns, column_classes, label = self.columns, None, self.label
        if self.label_index is not None:
            label = model.info.classes[self.label_index]
        elif model.conditional and label is None:
            # Assign one class to each column.
            present = model.info.class_proportions("uniform").present
            classes = present[grid_classes(len(present), columns)]
            columns = len(classes)
            indices = classes[torch.arange(self.num_samples) % columns]
            column_classes = [model.info.classes[i] for i in classes][: self.num_samples]
        images = model.sample(
            self.num_samples,
            seed=self.seed,
            label=self.label,
            label_index=indices,
            batch_statistics=self.batch_statistics,
        )
        record = {"label": label, "columns": columns, "column_classes": column_classes}
        return ViewData({"samples": images}, record)

    def draw(self, data: ViewData) -> Figure:
        """Draw the samples as a grid."""
        return Figure(grid(data.tensors["samples"], columns=data.record["columns"]))


@dataclass(frozen=True)
class Neighbors(View):
    """Draw samples, each next to the training images nearest to it.

    The record lists the neighbors by their index in the training set, with their distances.

    Raises:
        UsageError: there are fewer training images than neighbors; D has no features.
        DataError: the data is missing.
    """

    examples: ClassVar[tuple[str, ...]] = ("", "--space discriminator")

    num_samples: int = 10
    """Number of samples."""
    neighbors: int = 6
    """Number of training images next to each sample."""
    space: Literal["pixels", "discriminator"] = "pixels"
    """Space of the Euclidean distance: pixels in [0, 1], or features of D's convolutions."""
    seed: int = 0
    """Seed of z."""

    def compute(self, model: TrainedModel) -> ViewData:
        """Find the nearest training images of each sample."""
        train = training_images(model)
        if not 1 <= self.neighbors <= len(train):
            raise UsageError(
                f"neighbors is {self.neighbors}; expected 1 to {len(train):,}, the number of "
                "training images: give another --neighbors"
            )
        samples = model.sample(self.num_samples, seed=self.seed)
        if self.space == "discriminator":
            features = model.discriminator_extractor().features
            distances, indices = nearest(features(samples), features(train), self.neighbors)
        else:
            distances, indices = nearest(samples.flatten(1), train.flatten(1), self.neighbors)
        neighbors = [
            {"training_images": index.tolist(), "distances": [round(d, 4) for d in row.tolist()]}
            for index, row in zip(indices, distances, strict=True)
        ]
        images = torch.cat((samples[:, None], train[indices]), 1)
        return ViewData({"samples and neighbors": images}, {"samples": neighbors})

    def draw(self, data: ViewData) -> Figure:
        """Draw a row for each sample: the sample, then its neighbors, nearest first."""
        return Figure(image_rows(data.tensors["samples and neighbors"]))


def training_images(model: TrainedModel) -> Float[Tensor, "n channels height width"]:
    """Return the training images in [0, 1], at most as many as statistics are computed on.

    Raises:
        DataError: the data is missing.
    """
    data = model.open_data()
    return normalized_images(data, data.dataset.train)


def normalized_images(
    data: PreparedData, split: Split | StreamingSplit
) -> Float[Tensor, "n channels height width"]:
    """Return images in [0, 1] after normalization and its inverse, which samples undergo too."""
    normalizer = data.normalizer
    return torch.cat(
        [
            normalizer.to_pixels(normalizer.to_model(torch.from_numpy(block)))
            for block in iterate_blocks(split)
        ]
    )
