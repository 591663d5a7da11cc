"""Games: the phases of a training step and the losses of the players."""

from __future__ import annotations

from typing import TYPE_CHECKING

from advnets.lazy import set_attributes

if TYPE_CHECKING:
    from advnets.games.encoders import ALI, VAE, LatentRegression
    from advnets.games.gan import GAN, ConditionalGAN
    from advnets.games.inpainting import Inpainting
    from advnets.games.semi_supervised import SemiSupervisedGAN

__all__ = [
    "ALI",
    "GAN",
    "VAE",
    "ConditionalGAN",
    "Inpainting",
    "LatentRegression",
    "SemiSupervisedGAN",
]

set_attributes(
    __name__,
    {
        "ALI": "advnets.games.encoders",
        "ConditionalGAN": "advnets.games.gan",
        "GAN": "advnets.games.gan",
        "Inpainting": "advnets.games.inpainting",
        "LatentRegression": "advnets.games.encoders",
        "SemiSupervisedGAN": "advnets.games.semi_supervised",
        "VAE": "advnets.games.encoders",
    },
)
