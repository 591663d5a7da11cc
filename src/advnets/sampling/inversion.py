"""GAN inversion: the latents whose images are nearest to given images."""

from __future__ import annotations

import math
from typing import NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from advnets.data.normalization import Normalizer
from advnets.protocols import Generator


class Inversion(NamedTuple):
    """The result of GAN inversion: latents, their images, and the reconstruction errors."""

    z: Float[Tensor, "n latent"]
    """The latents; those of a class-conditional generator end in the one-hot class."""
    images: Float[Tensor, "n channels height width"]
    """G(z) as pixels in [0, 1]."""
    errors: Float[Tensor, " n"]
    """The mean squared error of each image over its pixels and channels, for pixels in [0, 1]."""


def invert(
    generator: nn.Module,
    normalizer: Normalizer,
    images: Float[Tensor, "n channels height width"],
    starts: Float[Tensor, "starts n latent"],
    fixed: int = 0,
    *,
    steps: int,
    lr: float,
) -> Inversion:
    """Minimize the squared error of G(z) over z, by Adam with a cosine schedule.

    Each image starts from the best of its `starts`; the last `fixed` values of z do not change.
    Source: Zhu et al. 2016, "Generative visual manipulation on the natural image manifold",
    equation 2.
    """
    net, x = cast(Generator, generator), normalizer.from_floats(images).to(starts.device)

    def errors(z: Float[Tensor, "n latent"]) -> Float[Tensor, " n"]:
        return (net(z).float() - x).square().flatten(1).sum(1)

    # Choose the best start of each image.
    with torch.no_grad():
        at_starts = torch.stack([errors(z) for z in starts])
    least, which = at_starts.min(0)
    best = starts[which, torch.arange(len(x), device=which.device)].clone()

    # Minimize the error, and keep the best z of each image.
    free = best[:, : best.shape[1] - fixed].clone().requires_grad_()
    optimizer = torch.optim.Adam([free], lr=lr)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = lr * 0.5 * (1 + math.cos(math.pi * step / steps))
        z = torch.cat((free, best[:, best.shape[1] - fixed :]), 1)
        error = errors(z)
        better = error.detach() < least
        least = torch.where(better, error.detach(), least)
        best = torch.where(better[:, None], z.detach(), best)
        optimizer.zero_grad()
        error.sum().backward()
        optimizer.step()

    with torch.no_grad():
        fitted = normalizer.to_pixels(net(best)).float().cpu()
    return Inversion(best.cpu(), fitted, (fitted - images.cpu()).square().flatten(1).mean(1))
