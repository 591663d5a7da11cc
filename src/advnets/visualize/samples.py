"""Samples, and the training pictures nearest to them."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from advnets.data.dataset import Part, Stream, blocks
from advnets.errors import UsageError
from advnets.experiment import setup
from advnets.experiment.sampler import grid_classes
from advnets.experiment.trained_model import Trained
from advnets.metrics.distance import nearest
from advnets.views.image_grid import grid
from advnets.visualize.figure import Look, of_run, rows

Features = Literal["pixels", "discriminator"]


def samples(
    trained: Trained,
    *,
    num: int = 64,
    seed: int = 0,
    label: str | None = None,
    label_index: int | None = None,
    columns: int | None = None,
    batch_statistics: bool = False,
) -> Look:
    """The first samples of a seed; of a conditional run a column for each class, at most 20.

    Classes without a training image are left out.

    Raises:
        UsageError: of what `Trained.sample` raises.
    """
    classes: list[str] = []
    indices = label_index
    if trained.conditional and label is None and label_index is None:
        present = trained.facts.class_shares("equal").present
        shown = present[grid_classes(len(present), columns)]
        indices, columns = shown[torch.arange(num) % len(shown)], len(shown)
        classes = [trained.facts.classes[i] for i in shown]
    pictures = trained.sample(
        num, seed=seed, label=label, label_index=indices, batch_statistics=batch_statistics
    )
    return Look(
        grid(pictures, columns=columns),
        of_run(
            trained,
            view="samples",
            num=num,
            seed=seed,
            label=label if label_index is None else trained.facts.classes[label_index],
            columns_are=classes[:num] or None,
            statistics="batch" if batch_statistics else "running",
        ),
    )


def neighbours(
    trained: Trained,
    *,
    num: int = 10,
    near: int = 6,
    by: Features = "pixels",
    seed: int = 0,
) -> Look:
    """A row for each sample: itself, then the training pictures nearest to it.

    Distances are Euclidean, of pixels in [0, 1], or of the features of D's convolutions. The record
    has which pictures they are, by their number in the training set.

    Raises:
        UsageError: fewer training pictures than are asked for; D has no features.
        DataError: the data are absent.
    """
    train = training_pictures(trained)
    if not 1 <= near <= len(train):
        raise UsageError(
            f"{near} neighbours were asked for among {len(train):,} training pictures; ask for "
            f"1 to {len(train):,}"
        )
    drawn = trained.sample(num, seed=seed)
    seen = trained.own_extractor().features if by == "discriminator" else pixel_rows
    distances, which = nearest(seen(drawn), seen(train), near)
    shown = torch.cat((drawn[:, None], train[which]), 1)
    return Look(
        rows(shown),
        of_run(
            trained,
            view="neighbours",
            by=by,
            seed=seed,
            samples=[
                {"sample": number, "training_pictures": which[number].tolist()}
                | {"distances": [round(d, 4) for d in distances[number].tolist()]}
                for number in range(num)
            ],
        ),
    )


def training_pictures(trained: Trained) -> Float[Tensor, "n channels height width"]:
    """The training pictures, at most as many as statistics look at, as the nets see them."""
    data = trained.open_data()
    return as_drawn(data, data.splits.train)


def as_drawn(
    data: setup.PreparedData, part: Part | Stream
) -> Float[Tensor, "n channels height width"]:
    """Pictures as the nets see them, and back: without what the scaling loses, as samples are."""
    scaling = data.scaling
    drawn = [scaling.to_pixels(scaling.to_model(torch.from_numpy(some))) for some in blocks(part)]
    return torch.cat(drawn)


def pixel_rows(pictures: Float[Tensor, "n channels height width"]) -> Float[Tensor, "n pixels"]:
    """A row of pixels for each picture."""
    return pictures.flatten(1)
