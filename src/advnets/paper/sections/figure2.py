"""Figure 2: samples, with the training image nearest to the last sample of each row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from advnets.data.prepared import open_data
from advnets.experiment.trained_model import TrainedModel
from advnets.metrics.distance import nearest
from advnets.paper.blocks import (
    Block,
    Check,
    SectionContent,
    SectionContext,
    Table,
    Text,
    escape_markup,
    unavailable_note,
    unavailable_reason,
)
from advnets.paper.studies.sample_statistics import grid_png
from advnets.paper.trainings import large_configs, reference_run
from advnets.visualize.samples import normalized_images

ROWS, COLUMNS = 5, 7
"""Rows and columns of samples, about as many as in the paper."""
NUM_COMPARED = 1000
"""Number of samples and of test images whose distance to the training set is measured."""
NEIGHBORS, COPY_RATIO = 50, 0.5
"""A copy is at most half as far from its nearest training image as, on average, from its 50
nearest (Carlini et al. 2023, "Extracting training data from diffusion models", section 5)."""


@dataclass(frozen=True)
class NearestStats:
    """Distances of images to their 50 nearest training images, and the images' spread."""

    distances: Float[Tensor, "n neighbors"]
    spread: float
    """Root mean square distance of the images from their mean."""

    @property
    def median(self) -> float:
        """Median Euclidean distance to the nearest training image, of pixels in [0, 1]."""
        return float(self.distances[:, 0].median())

    @property
    def copies(self) -> float:
        """Fraction of the images that are copies."""
        nearest_distance, mean_distance = self.distances[:, 0], self.distances.mean(1)
        return float((nearest_distance <= COPY_RATIO * mean_distance).float().mean())


def build(context: SectionContext) -> SectionContent:
    """Build the section: a grid of samples for each training, and a test for copies."""
    blocks: list[Block] = [
        Text(
            "Random samples, not cherry-picked. The last column is the training image with the "
            "smallest pixel distance to the sample next to it; a network that had memorized its "
            "training images would show the same image twice. "
            + (
                ""
                if context.full
                else "At this scale all networks but that of the digits are trained only briefly."
            )
        )
    ]
    rows: list[tuple[str, ...]] = []
    checks: list[Check] = []
    missing: list[str] = []
    for name, trained, reason in _trainings(context):
        if trained is None:
            source, _, _ = name.partition("-")  # run names begin with the data source
            missing.append(source)
            blocks.append(unavailable_note(name, reason, source))
            continue
        data = open_data(trained.config.data)
        epochs = trained.step * trained.config.batch_size / (data.info.train or 1)
        train = normalized_images(data, data.dataset.train).flatten(1)
        samples = trained.sample(NUM_COMPARED)
        generated = nearest_stats(samples, train)
        real = None
        if (test := data.dataset.test) is not None:
            real = nearest_stats(normalized_images(data, test)[:NUM_COMPARED], train)
        blocks.append(
            context.save_image(
                f"{name}.png",
                _sample_grid(samples, train),
                f"Grid of samples of {name}, with the nearest training images in the last column",
                f"{name}: preset `{trained.config.preset}` on {escape_markup(data.info.name)}, "
                f"{trained.step:,} steps, {epochs:,.1f} epochs.",
            )
        )
        rows.append((name, f"{trained.step:,}", f"{epochs:,.1f}", *_stat_cells(generated, real)))
        real_copies = 0.0 if real is None else real.copies
        checks.append(
            Check(
                f"{name}: fraction of samples that are copies",
                f"at most 1 percentage point above the {real_copies:.1%} of test images",
                f"{generated.copies:.1%}",
                generated.copies <= real_copies + 0.01,
            )
        )
    blocks.append(_table(rows))
    return SectionContent(tuple(blocks), tuple(checks), tuple(dict.fromkeys(missing)))


def _trainings(context: SectionContext) -> Iterator[tuple[str, TrainedModel | None, str]]:
    """Yield the four trainings by name; where the data are unavailable, None and the reason."""
    trained = reference_run(context)
    yield trained.run.path.name, trained, ""
    for name, run in large_configs(context).items():
        reason = unavailable_reason(run.data)
        yield name, None if reason else context.train_or_load(name, run), reason


def _stat_cells(generated: NearestStats, real: NearestStats | None) -> tuple[str, str, str]:
    """Return the cells of distance, copies and spread, with test images in brackets."""
    if real is None:
        return f"{generated.median:.2f}", f"{generated.copies:.1%}", ""
    return (
        f"{generated.median:.2f} ({real.median:.2f})",
        f"{generated.copies:.1%} ({real.copies:.1%})",
        f"{generated.spread / real.spread:.0%}",
    )


def nearest_stats(
    images: Float[Tensor, "n *shape"], train: Float[Tensor, "m pixels"]
) -> NearestStats:
    """Return the images' distances to the training set, and their spread."""
    flat = images.flatten(1)
    spread = float((flat - flat.mean(0)).square().sum(1).mean().sqrt())
    return NearestStats(nearest(flat, train, NEIGHBORS)[0], spread)


def _sample_grid(samples: Tensor, train: Tensor) -> bytes:
    """Return a PNG of the first samples; each row ends with its last sample's neighbor."""
    grid = samples[: ROWS * COLUMNS].unflatten(0, (ROWS, COLUMNS))
    _, nearest_index = nearest(grid[:, -1].flatten(1), train)
    neighbors = train[nearest_index].unflatten(2, samples.shape[1:])
    return grid_png(torch.cat((grid, neighbors), dim=1).flatten(0, 1), COLUMNS + 1)


def _table(rows: list[tuple[str, ...]]) -> Table:
    return Table(
        "Test for copies: median distance to the nearest training image (Euclidean, of pixels in "
        f"[0, 1]), and the fraction that is at most half as far from it as from the {NEIGHBORS} "
        f"nearest on average, of {NUM_COMPARED:,} samples and, in brackets, of as many test "
        "images. Spread is the root mean square distance of samples from their mean, relative to "
        "that of test images: a collapsed or barely trained generator copies nothing and has a "
        "small spread",
        ("training", "updates", "epochs", "distance", "copies", "spread"),
        tuple(rows),
    )
