"""Samples, and the training images nearest to them."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from advnets.data.dataset import Split, StreamingSplit, iterate_blocks
from advnets.data.prepared import PreparedData
from advnets.errors import UsageError
from advnets.experiment.trained_model import TrainedModel
from advnets.metrics.distance import nearest
from advnets.plots.image_grid import grid
from advnets.sampling.sampler import grid_classes
from advnets.visualize.figure import Figure, of_run, rows

Features = Literal["pixels", "discriminator"]


def samples(
    trained: TrainedModel,
    *,
    num_samples: int = 64,
    seed: int = 0,
    label: str | None = None,
    label_index: int | None = None,
    columns: int | None = None,
    batch_statistics: bool = False,
) -> Figure:
    """The first samples of a seed; of a conditional run a column for each class, at most 20.

    Classes without a training image are left out.

    Raises:
        UsageError: of what `Trained.sample` raises.
    """
    classes: list[str] = []
    indices = label_index
    if trained.conditional and label is None and label_index is None:
        present = trained.info.class_proportions("uniform").present
        shown = present[grid_classes(len(present), columns)]
        indices, columns = shown[torch.arange(num_samples) % len(shown)], len(shown)
        classes = [trained.info.classes[i] for i in shown]
    images = trained.sample(
        num_samples, seed=seed, label=label, label_index=indices, batch_statistics=batch_statistics
    )
    return Figure(
        grid(images, columns=columns),
        of_run(
            trained,
            view="samples",
            num=num_samples,
            seed=seed,
            label=label if label_index is None else trained.info.classes[label_index],
            columns_are=classes[:num_samples] or None,
            statistics="batch" if batch_statistics else "running",
        ),
    )


def neighbors(
    trained: TrainedModel,
    *,
    num_samples: int = 10,
    num_neighbors: int = 6,
    space: Features = "pixels",
    seed: int = 0,
) -> Figure:
    """A row for each sample: itself, then the training images nearest to it.

    Distances are Euclidean, of pixels in [0, 1], or of the features of D's convolutions. The record
    has which images they are, by their number in the training set.

    Raises:
        UsageError: fewer training images than are asked for; D has no features.
        DataError: the data are absent.
    """
    train = training_images(trained)
    if not 1 <= num_neighbors <= len(train):
        raise UsageError(
            f"{num_neighbors} neighbors were asked for among {len(train):,} training images; ask for "
            f"1 to {len(train):,}"
        )
    drawn = trained.sample(num_samples, seed=seed)
    seen = trained.discriminator_extractor().features if space == "discriminator" else pixel_rows
    distances, which = nearest(seen(drawn), seen(train), num_neighbors)
    shown = torch.cat((drawn[:, None], train[which]), 1)
    return Figure(
        rows(shown),
        of_run(
            trained,
            view="neighbors",
            by=space,
            seed=seed,
            samples=[
                {"sample": number, "training_images": which[number].tolist()}
                | {"distances": [round(d, 4) for d in distances[number].tolist()]}
                for number in range(num_samples)
            ],
        ),
    )


def training_images(trained: TrainedModel) -> Float[Tensor, "n channels height width"]:
    """The training images, at most as many as statistics look at, as the nets see them."""
    data = trained.open_data()
    return as_drawn(data, data.dataset.train)


def as_drawn(
    data: PreparedData, part: Split | StreamingSplit
) -> Float[Tensor, "n channels height width"]:
    """Images as the nets see them, and back: without what the scaling loses, as samples are."""
    scaling = data.normalizer
    drawn = [
        scaling.to_pixels(scaling.to_model(torch.from_numpy(some))) for some in iterate_blocks(part)
    ]
    return torch.cat(drawn)


def pixel_rows(images: Float[Tensor, "n channels height width"]) -> Float[Tensor, "n pixels"]:
    """A row of pixels for each image."""
    return images.flatten(1)
