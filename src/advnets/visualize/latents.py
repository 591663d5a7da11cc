"""Ways through the space of z."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

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
    path: Path,
    a: Float[Tensor, "*n latent"],
    b: Float[Tensor, "*n latent"],
    t: Float[Tensor, " steps"],
    classes: int = 0,
) -> Float[Tensor, "*n steps latent"]:
    """From a to b along the path; a class at the end of a latent always goes straight."""
    way = spherical if path == "spherical" else straight
    cut = a.shape[-1] - classes
    parts = [way(a[..., :cut], b[..., :cut], t)]
    if classes:
        parts.append(straight(a[..., cut:], b[..., cut:], t))
    return torch.cat(parts, -1)
