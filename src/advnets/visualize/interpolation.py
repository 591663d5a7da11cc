"""Images between images: walks through z, and squares of it."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from advnets.errors import UsageError
from advnets.experiment.trained_model import TrainedModel
from advnets.plots.image_grid import grid
from advnets.visualize.figure import Figure, of_run, rows


def interpolation(
    trained: TrainedModel,
    *,
    anchors: int = 9,
    steps: int = 10,
    interpolation: Path = "spherical",
    seed: int = 0,
) -> Figure:
    """A row from each stop to the next: G along a path through that many random z.

    Smooth change says that G has learned no list of images (Radford et al. 2015, figure 4). The
    movie goes the same way, and back to the first stop.

    Raises:
        UsageError: fewer than two stops, or steps.
    """
    at_least_two(stops=anchors, steps=steps)
    z = trained.latents(anchors, seed=seed)
    t = torch.linspace(0, 1, steps, device=z.device)
    images = trained.decode(between(interpolation, z[:-1], z[1:], t, trained.classes).flatten(0, 1))
    moved = images.unflatten(0, (anchors - 1, steps)).diff(dim=1).flatten(2).norm(dim=2)
    around = between(interpolation, z, z.roll(-1, 0), t[:-1], trained.classes).flatten(0, 1)
    return Figure(
        grid(images, columns=steps),
        of_run(
            trained,
            view="walk",
            path=interpolation,
            stops=anchors,
            steps=steps,
            seed=seed,
            distance_of_steps={"mean": float(moved.mean()), "largest": float(moved.max())},
        ),
        tuple(frame(image) for image in trained.decode(around)),
    )


def slerp_grid(
    trained: TrainedModel, *, size: int = 9, interpolation: Path = "spherical", seed: int = 0
) -> Figure:
    """A square of images between the four at its corners, whose z are random.

    Raises:
        UsageError: a size of less than two.
    """
    at_least_two(size=size)
    z = trained.latents(4, seed=seed)
    t = torch.linspace(0, 1, size, device=z.device)
    left, right = between(interpolation, z[:2], z[2:], t, trained.classes)
    square = between(interpolation, left, right, t, trained.classes)
    return Figure(
        rows(trained.decode(square.flatten(0, 1)).unflatten(0, (size, size))),
        of_run(trained, view="slerp-grid", path=interpolation, size=size, seed=seed),
    )


def frame(image: torch.Tensor) -> Image.Image:
    """One image as large as it is in a grid, without the border."""
    return grid(image[None])


def at_least_two(**numbers: int) -> None:
    """Refuse less.

    Raises:
        UsageError: a number is less than two.
    """
    for name, number in numbers.items():
        if number < 2:
            raise UsageError(f"{name} is {number}; expected 2 or more")


Path = Literal["spherical", "straight"]

_ARC = 1e-2
"""Sine of an angle, below which float32 tells no arc from a line."""


def straight(
    a: Float[Tensor, "*n latent"], b: Float[Tensor, "*n latent"], t: Float[Tensor, " steps"]
) -> Float[Tensor, "*n steps latent"]:
    """(1 - t) a + t b."""
    t = t[:, None]
    return (1 - t) * a.unsqueeze(-2) + t * b.unsqueeze(-2)


def spherical(
    a: Float[Tensor, "*n latent"], b: Float[Tensor, "*n latent"], t: Float[Tensor, " steps"]
) -> Float[Tensor, "*n steps latent"]:
    """(sin((1 - t) ω) a + sin(t ω) b) / sin ω, ω the angle between a and b.

    Random z of many dimensions are all about as long; a straight line between two passes nearer to
    0 than any of them lies, this arc does not. Where a and b point one way or opposite ways there
    is no arc, and the line is taken. Source: Shoemake 1985, "Animating rotation with quaternion
    curves"; for z White 2016, "Sampling generative networks".
    """
    lengths = a.norm(dim=-1, keepdim=True) * b.norm(dim=-1, keepdim=True)
    cosine = (a * b).sum(-1, keepdim=True) / lengths.clamp(min=1e-12)
    angle = torch.acos(cosine.clamp(-1, 1)).unsqueeze(-2)
    sine = torch.sin(angle)
    t = t[:, None]
    arc = torch.sin((1 - t) * angle) * a.unsqueeze(-2) + torch.sin(t * angle) * b.unsqueeze(-2)
    return torch.where(sine.abs() > _ARC, arc / sine.clamp(min=1e-12), straight(a, b, t[:, 0]))


def between(
    interpolation: Path,
    a: Float[Tensor, "*n latent"],
    b: Float[Tensor, "*n latent"],
    t: Float[Tensor, " steps"],
    classes: int = 0,
) -> Float[Tensor, "*n steps latent"]:
    """From a to b along the path; a class at the end of a latent always goes straight."""
    way = spherical if interpolation == "spherical" else straight
    cut = a.shape[-1] - classes
    parts = [way(a[..., :cut], b[..., :cut], t)]
    if classes:
        parts.append(straight(a[..., cut:], b[..., cut:], t))
    return torch.cat(parts, -1)
