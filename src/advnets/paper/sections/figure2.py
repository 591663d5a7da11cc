"""Figure 2: samples, each row's last image the training image nearest to the one beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from advnets.data.dataset import Split
from advnets.data.prepared import PreparedData, open_data
from advnets.experiment.trained_model import TrainedModel
from advnets.metrics.distance import nearest
from advnets.paper.blocks import (
    Block,
    Check,
    SectionContent,
    SectionContext,
    Table,
    Text,
    absent,
    literal,
    not_shown,
)
from advnets.paper.studies.sample_statistics import tiles
from advnets.paper.trainings import large_runs, scored_run
from advnets.visualize.samples import normalized_images

ROWS, COLUMNS = 5, 7
"""Of samples; the paper's grids are about as large."""
COMPARED = 1000
"""Samples, and held-out images, whose distance to the training set is taken."""
NEIGHBORS, COPY = 50, 0.5
"""A copy lies at most half as far from its nearest training image as, in the mean, from its 50
nearest (Carlini et al. 2023, "Extracting training data from diffusion models", section 5)."""


@dataclass(frozen=True)
class Memory:
    """How near some images lie to the training set: distances to its 50 nearest."""

    distances: Float[Tensor, "n neighbors"]
    spread: float
    """Root mean square distance of the images from their mean."""

    @property
    def median(self) -> float:
        """Median distance to the nearest training image, in pixels' shares of white."""
        return float(self.distances[:, 0].median())

    @property
    def copies(self) -> float:
        """The share that are copies."""
        near, around = self.distances[:, 0], self.distances.mean(1)
        return float((near <= COPY * around).float().mean())


def show(context: SectionContext) -> SectionContent:
    """Four grids of samples, and whether they are copies."""
    blocks: list[Block] = [
        Text(
            "Fair draws, none picked out. The last column is the training image nearest, pixel "
            "by pixel, to the sample beside it: a net that had learned its images by heart would "
            "show the same one twice. "
            + (
                ""
                if context.full
                else "At this scale all but the digits show how their nets begin, and no more."
            )
        )
    ]
    rows: list[tuple[str, ...]] = []
    checks: list[Check] = []
    lacking: list[str] = []
    for name, trained, note in _trainings(context):
        if trained is None:
            source, _, _ = name.partition("-")  # runs are named after where their data come from
            lacking.append(source)
            blocks.append(not_shown(name, note, source))
            continue
        data = open_data(trained.config.data)
        epochs = trained.step * trained.config.data.batch_size / (data.info.train or 1)
        train = normalized_images(data, data.dataset.train).flatten(1)
        samples = trained.sample(COMPARED)
        ours = memory_of(samples, train)
        real = None if data.dataset.test is None else _held_out(data, data.dataset.test, train)
        blocks.append(
            context.image(
                f"{name}.png",
                _drawn(samples, train),
                f"Grid of samples of {name}, the nearest training images in the last column",
                f"{name}: preset `{trained.config.preset}` on {literal(data.info.name)}, "
                f"{trained.step:,} steps, {epochs:,.1f} epochs.",
            )
        )
        rows.append((name, f"{trained.step:,}", f"{epochs:,.1f}", *_told(ours, real)))
        usual = 0.0 if real is None else real.copies
        checks.append(
            Check(
                f"{name}: samples are copies no oftener than unseen real images",
                f"at most 1 point above their {usual:.1%}",
                f"{ours.copies:.1%}",
                ours.copies <= usual + 0.01,
            )
        )
    blocks.append(_table(rows))
    return SectionContent(tuple(blocks), tuple(checks), tuple(dict.fromkeys(lacking)))


def _trainings(context: SectionContext) -> Iterator[tuple[str, TrainedModel | None, str]]:
    """The four trainings by name; where the data are absent, why."""
    trained = scored_run(context)
    yield trained.run.path.name, trained, ""
    for name, run in large_runs(context).items():
        reason = absent(run.data)
        yield name, None if reason else context.trained(name, run), reason


def _told(ours: Memory, real: Memory | None) -> tuple[str, str, str]:
    """Distances, copies and spread, those of held-out images in brackets."""
    if real is None:
        return f"{ours.median:.2f}", f"{ours.copies:.1%}", ""
    return (
        f"{ours.median:.2f} ({real.median:.2f})",
        f"{ours.copies:.1%} ({real.copies:.1%})",
        f"{ours.spread / real.spread:.0%}",
    )


def _held_out(data: PreparedData, part: Split, train: Tensor) -> Memory:
    return memory_of(normalized_images(data, part)[:COMPARED], train)


def memory_of(images: Float[Tensor, "n *shape"], train: Float[Tensor, "m pixels"]) -> Memory:
    """How near images lie to the training set, and how far apart."""
    flat = images.flatten(1)
    spread = float((flat - flat.mean(0)).square().sum(1).mean().sqrt())
    return Memory(nearest(flat, train, NEIGHBORS)[0], spread)


def _drawn(samples: Tensor, train: Tensor) -> bytes:
    """The first samples as a PNG, beside the last of each row its nearest training image."""
    shown = samples[: ROWS * COLUMNS].unflatten(0, (ROWS, COLUMNS))
    _, which = nearest(shown[:, -1].flatten(1), train)
    beside = train[which].unflatten(2, samples.shape[1:])
    return tiles(torch.cat((shown, beside), dim=1).flatten(0, 1), COLUMNS + 1)


def _table(rows: list[tuple[str, ...]]) -> Table:
    return Table(
        "Copies? Median distance to the nearest training image (Euclidean, of pixels in [0, 1]), "
        f"and the share that lies at most half as far from it as from its {NEIGHBORS} nearest: of "
        f"{COMPARED:,} samples and, in brackets, of as many held-out images. Spread is the root "
        "mean square distance of samples from their mean, as a share of that of held-out images: "
        "a net that makes one image, as one does that has only begun to learn, copies nothing "
        "and has none",
        ("training", "updates", "epochs", "distance", "copies", "spread"),
        tuple(rows),
    )
