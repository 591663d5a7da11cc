"""Figure 3: linear interpolation in z."""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from advnets.experiment.trained_model import TrainedModel
from advnets.paper.blocks import Check, SectionContent, SectionContext, Text
from advnets.paper.studies.sample_statistics import grid_png
from advnets.paper.trainings import reference_run
from advnets.protocols import Generator
from advnets.rng import RNG
from advnets.visualize.interpolation import lerp

LINES, STEPS = 8, 12


def build(context: SectionContext) -> SectionContent:
    """Build the section: interpolations between random z, and the size of their steps."""
    trained = reference_run(context)
    images = interpolate(trained, LINES, STEPS, context.seed)
    step_lengths = (images[:, 1:] - images[:, :-1]).flatten(2).norm(dim=2)
    ends = (images[:, -1] - images[:, 0]).flatten(1).norm(dim=1)
    largest = float((step_lengths / ends[:, None]).max())
    return SectionContent(
        blocks=(
            Text(
                "Each row interpolates linearly between two random $z$: $G((1 - t) z_0 + t z_1)$. "
                "The intermediate images are plausible images too, and none of the changes is "
                "abrupt: $G$ does not choose from a list of stored images. (The middle of a line "
                "is nearer to 0 than random $z$ are, so the middle of a row is slightly more "
                "typical than its ends.)"
            ),
            context.save_image(
                "lines.png",
                grid_png(images.flatten(0, 1), STEPS),
                "Rows of images, each changing gradually from its first into its last",
                f"Preset `{trained.config.preset}`, {trained.step:,} steps; the ends are random "
                "samples.",
            ),
        ),
        checks=(
            Check(
                "no abrupt changes: largest step of a row, relative to the distance between its "
                "ends",
                "at most 0.5",
                f"{largest:.2f}, in {STEPS - 1} steps",
                largest <= 0.5,
            ),
        ),
    )


def interpolate(
    trained: TrainedModel, lines: int, steps: int, seed: int = 0
) -> Float[Tensor, "lines steps channels height width"]:
    """Return G((1 - t) z_0 + t z_1) for t from 0 to 1 in equal steps, with pixels in [0, 1]."""
    generator = cast(Generator, trained.generator)
    rng = RNG(seed, purpose="interpolation", device=trained.device)
    first, last = generator.latent(2 * lines, rng).chunk(2)
    z = lerp(first, last, torch.linspace(0, 1, steps, device=trained.device))
    return trained.decode(z.flatten(0, 1)).unflatten(0, (lines, steps))
