"""Inpainting: all conditionals p(x_S | x_not S) by one generator of hidden pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from advnets import config
from advnets.games.gan import GAN, Rows
from advnets.protocols import Batch, Discriminator, Generator, Images, Inpainter, Logits, Players
from advnets.rng import RNG

Known = Float[Tensor, "batch 1 height width"]
"""1 where a pixel is known, 0 where it is hidden."""


class Inpainting(GAN):
    """min_G max_D E[log D(x, m)] + E[log(1 - D(G(z, x m, m), m))], m the mask of known pixels.

    For each mask used in training, the optimal G samples p(x_S | x_not S). D gets complete images
    and the mask. Source: Goodfellow et al. 2014, section 7, extension 3.
    """

    def __init__(self, spec: config.InpaintingGame) -> None:
        super().__init__(spec)
        self.masks: Sequence[str] = spec.masks

    def samples(self, players: Players, batch: Batch, rng: RNG) -> Images:
        """Return the images of the minibatch, with their hidden pixels generated."""
        net = cast(Inpainter, players["generator"])
        z = net.sample_z(len(batch.images), rng)
        latent = net.condition(z, batch.images, self.known_mask(batch, rng))
        return cast(Generator, players["generator"])(latent, rng)

    def logits(
        self, players: Players, images: Images, batch: Batch, rng: RNG, rows: Rows | None = None
    ) -> Logits:
        """Return a(x, m), with the masks of these rows of the minibatch, or of each set of it."""
        known = self.known_mask(batch, rng.split_streams(""))
        known = known.repeat(len(images) // len(known), 1, 1, 1) if rows is None else known[rows]
        masked = torch.cat((images, known.to(images)), 1)
        return cast(Discriminator, players["discriminator"])(masked, rng)

    def known_mask(self, batch: Batch, rng: RNG) -> Known:
        """Draw the masks of this pass, the same for all calls with the same `rng`."""
        _, _, height, width = batch.images.shape
        return draw_masks(self.masks, len(batch.images), height, width, rng)


def draw_masks(kinds: Sequence[str], n: int, height: int, width: int, rng: RNG) -> Known:
    """Draw n masks, each of one of these kinds (keys of `MASKS`) with equal probability."""
    masks = torch.stack([MASKS[kind](n, height, width, rng) for kind in kinds])
    kind_index = (rng.uniform("mask kind", n) * len(kinds)).long()
    return masks[kind_index, torch.arange(n, device=kind_index.device)]


def _pixels(n: int, height: int, width: int, rng: RNG) -> Known:
    """Hide each pixel with a probability that is uniform in [0, 1) for each image."""
    probability = rng.uniform("mask share", n, 1, 1, 1)
    return (rng.uniform("mask pixels", n, 1, height, width) >= probability).float()


def _boxes(n: int, height: int, width: int, rng: RNG) -> Known:
    """Hide a box at a random place, each side 1/4 to 3/4 of the image's."""
    size = rng.uniform("mask box", n, 2, low=0.25, high=0.75)
    corner = rng.uniform("mask corner", n, 2) * (1 - size)
    rows, columns = (
        _inside(side, corner[:, i, None], (corner + size)[:, i, None])
        for i, side in enumerate((height, width))
    )
    return 1 - (rows[:, :, None] * columns[:, None, :])[:, None]


def _inside(side: int, low: Tensor, high: Tensor) -> Float[Tensor, "n side"]:
    """Return 1 for pixels whose center is in [low, high), fractions of the side, else 0."""
    center = (torch.arange(side, device=low.device) + 0.5) / side
    return ((center >= low) & (center < high)).float()


def _halves(n: int, height: int, width: int, rng: RNG) -> Known:
    """Hide the upper, lower, left or right half, with equal probability."""
    masks = half_masks(height, width).to(rng.device)
    return masks[(rng.uniform("mask half", n) * len(masks)).long()]


def half_masks(height: int, width: int) -> Float[Tensor, "4 1 height width"]:
    """Return the masks that hide the upper, lower, left and right half."""
    known = torch.ones(4, 1, height, width)
    known[0, :, : height // 2] = 0
    known[1, :, height // 2 :] = 0
    known[2, :, :, : width // 2] = 0
    known[3, :, :, width // 2 :] = 0
    return known


def _all(n: int, height: int, width: int, rng: RNG) -> Known:
    """Hide the whole image."""
    return torch.zeros(n, 1, height, width, device=rng.device)


MASKS: dict[str, Callable[[int, int, int, RNG], Known]] = {
    "pixels": _pixels,
    "boxes": _boxes,
    "halves": _halves,
    "all": _all,
}
"""Kinds of masks by the names of `--game.masks`."""
