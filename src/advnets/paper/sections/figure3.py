"""Figure 3: images between images, by straight lines in z."""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from advnets.experiment.trained_model import TrainedModel
from advnets.paper.blocks import Check, FigureBlock, SectionContent, SectionContext, Text
from advnets.paper.studies.sample_statistics import tiles
from advnets.paper.trainings import scored_run
from advnets.protocols import Generator
from advnets.rng import RNG
from advnets.visualize.interpolation import lerp

LINES, STEPS = 8, 12


def show(context: SectionContext) -> SectionContent:
    """Straight lines between random z, and how evenly the image changes along them."""
    trained = scored_run(context)
    images = interpolated(trained, LINES, STEPS, context.seed)
    moved = (images[:, 1:] - images[:, :-1]).flatten(2).norm(dim=2)
    ends = (images[:, -1] - images[:, 0]).flatten(1).norm(dim=1)
    largest = float((moved / ends[:, None]).max())
    return SectionContent(
        blocks=(
            Text(
                "Each row goes from the image of one random $z$ to that of another, $z$ moving "
                r"along the straight line between them: $G((1 - t) z_0 + t z_1)$. $G$ has learned "
                "no list of images to choose from: those on the way are images too, and none "
                "is met by a jump. (A straight line passes nearer to 0 than random $z$ lie, so the "
                "middle of a row is a little more typical than its ends.)"
            ),
            _drawn(context, trained, images),
        ),
        checks=(
            Check(
                "no step of a row is a jump",
                "at most half of the distance between its ends",
                f"at most {largest:.2f} of it, in {STEPS - 1} steps",
                largest <= 0.5,
            ),
        ),
    )


def interpolated(
    trained: TrainedModel, lines: int, steps: int, seed: int = 0
) -> Float[Tensor, "lines steps channels height width"]:
    """G((1 - t) z_0 + t z_1), t from 0 to 1 in equal steps, as pixels in [0, 1]."""
    generator = cast(Generator, trained.generator)
    rng = RNG(seed, purpose="interpolation", device=trained.device)
    first, last = generator.latent(2 * lines, rng).chunk(2)
    z = lerp(first, last, torch.linspace(0, 1, steps, device=trained.device))
    return trained.decode(z.flatten(0, 1)).unflatten(0, (lines, steps))


def _drawn(context: SectionContext, trained: TrainedModel, images: Tensor) -> FigureBlock:
    return context.image(
        "lines.png",
        tiles(images.flatten(0, 1), STEPS),
        "Rows of images, each turning smoothly from its first into its last",
        f"Preset `{trained.config.preset}`, {trained.step:,} steps; the ends are random draws.",
    )
