"""All conditionals p(x_S | x_not S) with shared parameters: one G that fills in what is hidden."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from advnets import config
from advnets.games.gan import GAN
from advnets.protocols import Batch, Discriminator, Generator, Inpainter, Players
from advnets.rng import RNG

Known = Float[Tensor, "batch 1 height width"]
"""1 where a pixel is known, 0 where it is hidden."""


class Inpainting(GAN):
    """min_G max_D E[log D(x, m)] + E[log(1 - D(G(z, x m, m), m))], m what is known of x.

    For each mask that is played with, G's solution is p(x_S | x_not S); D sees whole images and
    the mask. Source: Goodfellow et al. 2014, section 7, extension 3.
    """

    def __init__(self, spec: config.InpaintingGame) -> None:
        super().__init__(spec)
        self.masks = spec.masks

    def samples(
        self, players: Players, batch: Batch, rng: RNG
    ) -> Float[Tensor, "batch channels h w"]:
        """The images of the batch, what is hidden of them filled in."""
        net = cast(Inpainter, players["generator"])
        z = net.sample_z(len(batch.images), rng)
        latent = net.condition(z, batch.images, self.known_mask(batch, rng))
        return cast(Generator, players["generator"])(latent, rng)

    def logits(
        self,
        players: Players,
        images: Float[Tensor, "stacked channels h w"],
        batch: Batch,
        rng: RNG,
    ) -> Float[Tensor, " stacked"]:
        """a(x, m); images one on top of the other have the masks of the batch each."""
        known = self.known_mask(batch, rng.split_streams(""))
        known = known.repeat(len(images) // len(known), 1, 1, 1)
        shown = torch.cat((images, known.to(images)), 1)
        return cast(Discriminator, players["discriminator"])(shown, rng)

    def known_mask(self, batch: Batch, rng: RNG) -> Known:
        """The masks of this turn."""
        _, _, height, width = batch.images.shape
        return draw_masks(self.masks, len(batch.images), height, width, rng)


def draw_masks(kinds: Sequence[str], n: int, height: int, width: int, rng: RNG) -> Known:
    """As many masks, each of one of these kinds, each kind as probable."""
    of_kind = torch.stack([MASKS[kind](n, height, width, rng) for kind in kinds])
    which = (rng.uniform("mask kind", n) * len(kinds)).long()
    return of_kind[which, torch.arange(n, device=which.device)]


def _pixels(n: int, height: int, width: int, rng: RNG) -> Known:
    """Each pixel hidden by chance, in a share that is drawn for each image."""
    share = rng.uniform("mask share", n, 1, 1, 1)
    return (rng.uniform("mask pixels", n, 1, height, width) >= share).float()


def _boxes(n: int, height: int, width: int, rng: RNG) -> Known:
    """A box of a quarter to three quarters of each side hidden, anywhere."""
    size = rng.uniform("mask box", n, 2, low=0.25, high=0.75)
    corner = rng.uniform("mask corner", n, 2) * (1 - size)
    high, wide = (
        _within(side, corner[:, i, None], (corner + size)[:, i, None])
        for i, side in enumerate((height, width))
    )
    return 1 - (high[:, :, None] * wide[:, None, :])[:, None]


def _within(side: int, low: Tensor, high: Tensor) -> Float[Tensor, "n side"]:
    place = (torch.arange(side, device=low.device) + 0.5) / side
    return ((place >= low) & (place < high)).float()


def _halves(n: int, height: int, width: int, rng: RNG) -> Known:
    """The upper, lower, left or right half hidden."""
    four = half_masks(height, width).to(rng.device)
    return four[(rng.uniform("mask half", n) * len(four)).long()]


def half_masks(height: int, width: int) -> Float[Tensor, "4 1 height width"]:
    """What is known where the upper, lower, left and right half are hidden."""
    known = torch.ones(4, 1, height, width)
    known[0, :, : height // 2] = 0
    known[1, :, height // 2 :] = 0
    known[2, :, :, : width // 2] = 0
    known[3, :, :, width // 2 :] = 0
    return known


def _all(n: int, height: int, width: int, rng: RNG) -> Known:
    return torch.zeros(n, 1, height, width, device=rng.device)


MASKS: dict[str, Callable[[int, int, int, RNG], Known]] = {
    "pixels": _pixels,
    "boxes": _boxes,
    "halves": _halves,
    "all": _all,
}
"""Ways to hide something of images, by name."""
