"""From an image back to the z whose image is nearest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from advnets.config import ImagePreprocessing
from advnets.data.image_folder.decode import Frame, decode
from advnets.data.image_folder.files import MAX_FILE_BYTES
from advnets.errors import DataError
from advnets.experiment.trained_model import TrainedModel
from advnets.files import read_regular_file

STARTS, STEPS, RATE = 16, 300, 0.05


@dataclass(frozen=True)
class Projected:
    """What was found for each image."""

    latents: Float[Tensor, "n latent"]
    errors: Float[Tensor, " n"]
    """Root mean square of what differs, in shares of the nets' range."""


def project(
    trained: TrainedModel,
    images: Float[Tensor, "n channels height width"],
    *,
    seed: int = 0,
    starts: int = STARTS,
    steps: int = STEPS,
) -> Projected:
    """argmin_z mean (G(z) - x)² for each image, by Adam from the best of some random starts.

    Images are in [0, 1]. z is kept within what the prior reaches, so that it stays typical. A
    conditional G is given the class of its start. Source: Zhu et al. 2016, "Generative visual
    manipulation on the natural image manifold", section 3.1; Lipton and Tripathi 2017 for the
    bounds.
    """
    target = trained.normalizer.from_unit_range(images).to(trained.device)
    n, generator, free = len(target), trained.generator, -trained.classes or None
    tries = trained.latents(n * starts, seed=seed).unflatten(0, (n, starts))
    with torch.no_grad():
        off = [
            (generator(z) - x).square().flatten(1).mean(1)
            for z, x in zip(tries, target, strict=True)
        ]
    best = torch.stack([some.argmin() for some in off])
    begun = tries[torch.arange(n), best]
    told = begun[:, free:] if free else begun[:, :0]
    z = begun[:, :free].clone().requires_grad_()
    reach = tries[..., :free].abs().max()
    mover = torch.optim.Adam([z], lr=RATE)
    for _ in range(steps):
        mover.zero_grad()
        loss = (generator(torch.cat((z, told), 1)) - target).square().flatten(1).mean(1).sum()
        loss.backward()
        mover.step()
        with torch.no_grad():
            z.clamp_(-reach, reach)
    with torch.no_grad():
        latents = torch.cat((z, told), 1)
        errors = (generator(latents) - target).square().flatten(1).mean(1).sqrt()
    return Projected(latents.detach(), errors)


def read_images(
    trained: TrainedModel, paths: Sequence[Path]
) -> Float[Tensor, "n channels height width"]:
    """Images from files, brought to the run's frame, in [0, 1].

    Raises:
        DataError: a file is no image that can be read.
    """
    channels, height, width = trained.info.shape
    spec = trained.config.data
    frame = ImagePreprocessing(
        size=height,
        width=width,
        channels=3 if channels == 3 else 1,
        crop="pad" if spec.crop == "pad" else "center",
        background=spec.background,
    )
    images: list[Tensor] = []
    for path in paths:
        try:
            pixels = decode(read_regular_file(path, MAX_FILE_BYTES), Frame.from_config(frame))
        except (DataError, OSError) as error:
            raise DataError(f"{path} {error}; give an image file") from None
        images.append(torch.from_numpy(pixels.copy()).float() / 255)
    return torch.stack(images)
