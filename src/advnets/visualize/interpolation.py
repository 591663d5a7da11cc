"""Interpolation in latent space: between samples in a sequence, and between four corners."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from advnets.experiment.trained_model import TrainedModel
from advnets.plots.image_grid import grid
from advnets.visualize.figure import Figure, View, ViewData, at_least, image_rows

Mode = Literal["spherical", "linear"]

_MIN_SINE = 1e-2
"""The sine of an angle below which an arc and a line are equal in float32."""


@dataclass(frozen=True)
class Interpolation(View):
    """Interpolate between random points of latent space, with one row from each to the next.

    Smooth transitions suggest that G has not memorized training images. The movie returns from the
    last point to the first. Source: Radford et al. 2015, figure 4.

    Raises:
        UsageError: there are fewer than two anchors or steps.
    """

    examples: ClassVar[tuple[str, ...]] = ("", "--anchors 5 --movie walk.gif")

    anchors: int = 9
    """Number of random z to interpolate between."""
    steps: int = 10
    """Number of images from one anchor to the next, both included."""
    interpolation: Mode = "spherical"
    """Kind of path: spherical keeps the typical norm of z, linear passes closer to 0."""
    seed: int = 0
    """Seed of the anchors."""

    def compute(self, model: TrainedModel) -> ViewData:
        """Decode the path between the anchors, and the closed path of the movie."""
        at_least(2, anchors=self.anchors, steps=self.steps)
        z = model.latents(self.anchors, seed=self.seed)
        t = torch.linspace(0, 1, self.steps, device=z.device)
        path = interpolate(self.interpolation, z[:-1], z[1:], t, model.classes)
        images = model.decode(path.flatten(0, 1)).unflatten(0, (self.anchors - 1, self.steps))
        changes = images.diff(dim=1).flatten(2).norm(dim=2)
        loop = interpolate(self.interpolation, z, z.roll(-1, 0), t[:-1], model.classes)
        return ViewData(
            {"rows": images, "frames": model.decode(loop.flatten(0, 1))},
            {"step_distance": {"mean": float(changes.mean()), "max": float(changes.max())}},
        )

    def draw(self, data: ViewData) -> Figure:
        """Draw a row for each pair of anchors, and a frame for each point of the closed path."""
        frames = tuple(grid(image[None]) for image in data.tensors["frames"])
        return Figure(image_rows(data.tensors["rows"]), frames)


@dataclass(frozen=True)
class SlerpGrid(View):
    """Interpolate between four samples at the corners of a square.

    Raises:
        UsageError: the size is less than two.
    """

    examples: ClassVar[tuple[str, ...]] = ("", "--size 12 --interpolation linear")

    size: int = 9
    """Number of images along each side."""
    interpolation: Mode = "spherical"
    """Kind of path: spherical keeps the typical norm of z, linear passes closer to 0."""
    seed: int = 0
    """Seed of the corners."""

    def compute(self, model: TrainedModel) -> ViewData:
        """Decode the square of interpolated latents."""
        at_least(2, size=self.size)
        z = model.latents(4, seed=self.seed)
        t = torch.linspace(0, 1, self.size, device=z.device)
        left, right = interpolate(self.interpolation, z[:2], z[2:], t, model.classes)
        square = interpolate(self.interpolation, left, right, t, model.classes)
        images = model.decode(square.flatten(0, 1)).unflatten(0, (self.size, self.size))
        return ViewData({"square": images})

    def draw(self, data: ViewData) -> Figure:
        """Draw the square."""
        return Figure(image_rows(data.tensors["square"]))


def lerp(
    a: Float[Tensor, "*n latent"], b: Float[Tensor, "*n latent"], t: Float[Tensor, " steps"]
) -> Float[Tensor, "*n steps latent"]:
    """Return the linear interpolation (1 - t) a + t b."""
    t = t[:, None]
    return (1 - t) * a.unsqueeze(-2) + t * b.unsqueeze(-2)


def slerp(
    a: Float[Tensor, "*n latent"], b: Float[Tensor, "*n latent"], t: Float[Tensor, " steps"]
) -> Float[Tensor, "*n steps latent"]:
    """Return the spherical interpolation (sin((1 - t) ω) a + sin(t ω) b) / sin ω.

    ω is the angle between a and b. Random z of many dimensions have nearly equal norms; a line
    between two of them passes closer to 0 than any of them, an arc does not. Where a and b are
    parallel or opposite, no arc is defined, and the linear interpolation is returned.
    Source: Shoemake 1985, "Animating rotation with quaternion curves"; for latents White 2016,
    "Sampling generative networks".
    """
    norms = a.norm(dim=-1, keepdim=True) * b.norm(dim=-1, keepdim=True)
    cosine = (a * b).sum(-1, keepdim=True) / norms.clamp(min=1e-12)
    angle = torch.acos(cosine.clamp(-1, 1)).unsqueeze(-2)
    sine = torch.sin(angle)
    t = t[:, None]
    arc = torch.sin((1 - t) * angle) * a.unsqueeze(-2) + torch.sin(t * angle) * b.unsqueeze(-2)
    return torch.where(sine.abs() > _MIN_SINE, arc / sine.clamp(min=1e-12), lerp(a, b, t[:, 0]))


def interpolate(
    mode: Mode,
    a: Float[Tensor, "*n latent"],
    b: Float[Tensor, "*n latent"],
    t: Float[Tensor, " steps"],
    classes: int = 0,
) -> Float[Tensor, "*n steps latent"]:
    """Return latents from a to b; the last `classes` components, a one-hot class, are linear."""
    path = slerp if mode == "spherical" else lerp
    latent_dim = a.shape[-1] - classes
    z = path(a[..., :latent_dim], b[..., :latent_dim], t)
    if not classes:
        return z
    return torch.cat((z, lerp(a[..., latent_dim:], b[..., latent_dim:], t)), -1)
