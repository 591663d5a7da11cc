"""Figure 3: pictures between pictures, by straight lines in z."""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from advnets.experiment.trained_model import Trained
from advnets.paper.blocks import Check, Picture, Setting, Shown, Words
from advnets.paper.sample_statistics import tiles
from advnets.paper.trainings import scored_run
from advnets.protocols import Generator
from advnets.rng import RNG
from advnets.visualize.latents import straight

LINES, STEPS = 8, 12


def show(setting: Setting) -> Shown:
    """Straight lines between random z, and how evenly the picture changes along them."""
    trained = scored_run(setting)
    pictures = interpolated(trained, LINES, STEPS, setting.seed)
    moved = (pictures[:, 1:] - pictures[:, :-1]).flatten(2).norm(dim=2)
    ends = (pictures[:, -1] - pictures[:, 0]).flatten(1).norm(dim=1)
    largest = float((moved / ends[:, None]).max())
    return Shown(
        blocks=(
            Words(
                "Each row goes from the picture of one random $z$ to that of another, $z$ moving "
                r"along the straight line between them: $G((1 - t) z_0 + t z_1)$. $G$ has learned "
                "no list of pictures to choose from: those on the way are pictures too, and none "
                "is met by a jump. (A straight line passes nearer to 0 than random $z$ lie, so the "
                "middle of a row is a little more typical than its ends.)"
            ),
            _drawn(setting, trained, pictures),
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
    trained: Trained, lines: int, steps: int, seed: int = 0
) -> Float[Tensor, "lines steps channels height width"]:
    """G((1 - t) z_0 + t z_1), t from 0 to 1 in equal steps, as pixels in [0, 1]."""
    generator = cast(Generator, trained.generator)
    noise = RNG(seed, purpose="interpolation", device=trained.device)
    first, last = generator.latent(2 * lines, noise).chunk(2)
    z = straight(first, last, torch.linspace(0, 1, steps, device=trained.device))
    return trained.pictures(z.flatten(0, 1)).unflatten(0, (lines, steps))


def _drawn(setting: Setting, trained: Trained, pictures: Tensor) -> Picture:
    return setting.picture(
        "lines.png",
        tiles(pictures.flatten(0, 1), STEPS),
        "Rows of pictures, each turning smoothly from its first into its last",
        f"Preset `{trained.config.preset}`, {trained.step:,} steps; the ends are random draws.",
    )
