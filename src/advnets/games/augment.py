"""Augmentations that D sees pictures and samples through, each a differentiable function.

As long as each is left out now and then, the only distribution of samples that looks like the data
through them is the data's own; so G does not learn to make augmented pictures.
Source: Zhao et al. 2020, "Differentiable augmentation for data-efficient GAN training"; Karras et
al. 2020, "Training generative adversarial networks with limited data", section 2.2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from advnets.noise import Noise

Pictures = Float[Tensor, "batch channels height width"]

_REACH = 8
"""Pictures are shifted by up to this part of a side."""
_BRIGHTER = 0.25
"""What is added to all pixels is at most this, in the nets' range."""


def augmented(
    pictures: Pictures, kinds: Sequence[str], probability: Float[Tensor, ""], noise: Noise
) -> Pictures:
    """Pictures that each augmentation has changed with this probability, in [0, 1]."""
    for kind in kinds:
        source = noise.under(f"augment {kind}")
        chosen = source.uniform("chosen", len(pictures), 1, 1, 1) < probability
        pictures = torch.where(chosen, AUGMENTATIONS[kind](pictures, source), pictures)
    return pictures


def _flipped(pictures: Pictures, noise: Noise) -> Pictures:  # noqa: ARG001
    """Left and right exchanged."""
    return pictures.flip(3)


def _translated(pictures: Pictures, noise: Noise) -> Pictures:
    """Shifted by whole pixels, up to an eighth of each side; its edges are repeated."""
    shares = noise.uniform("shift", len(pictures), 2)
    for axis in (2, 3):
        side = pictures.shape[axis]
        reach = side // _REACH
        shift = (shares[:, axis - 2, None] * (2 * reach + 1)).long() - reach
        place = (torch.arange(side, device=pictures.device) - shift).clamp(0, side - 1)
        place = place[:, None, :, None] if axis == 2 else place[:, None, None, :]
        pictures = pictures.gather(axis, place.expand_as(pictures))
    return pictures


def _cut(pictures: Pictures, noise: Noise) -> Pictures:
    """A box of half of each side set to 0, anywhere, so that it may hang over the edge."""
    shares = noise.uniform("box", len(pictures), 2)
    inside: list[Tensor] = []
    for axis in (2, 3):
        side = pictures.shape[axis]
        centre = (shares[:, axis - 2, None] * side).floor()
        place = torch.arange(side, device=pictures.device)
        within = (place >= centre - side // 4) & (place < centre + side // 4)
        inside.append(within[:, None, :, None] if axis == 2 else within[:, None, None, :])
    return pictures * ~(inside[0] & inside[1])


def _recoloured(pictures: Pictures, noise: Noise) -> Pictures:
    """Brightness ± .25; colours 0 to 2 times as far from grey; all .5 to 1.5 as far from the mean.

    The mean picture of many such is the picture again.
    """
    brighter, colourful, contrast = noise.uniform("colour", len(pictures), 3, 1, 1, 1).unbind(1)
    pictures = pictures + (2 * brighter - 1) * _BRIGHTER
    grey = pictures.mean(1, keepdim=True)
    pictures = grey + 2 * colourful * (pictures - grey)
    mean = pictures.mean((1, 2, 3), keepdim=True)
    return mean + (contrast + 0.5) * (pictures - mean)


AUGMENTATIONS: dict[str, Callable[[Pictures, Noise], Pictures]] = {
    "flip": _flipped,
    "translate": _translated,
    "cutout": _cut,
    "colour": _recoloured,
}
"""Ways to change a picture, by name."""
