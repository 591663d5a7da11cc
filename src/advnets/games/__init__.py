"""Games: the phases of a training step and the losses of the players; one file for each game."""

from __future__ import annotations

from typing import TYPE_CHECKING

from advnets.lazy import lazy_attributes

if TYPE_CHECKING:
    from advnets.games.conditional import ConditionalGAN
    from advnets.games.gan import GAN
    from advnets.games.inference import ALI
    from advnets.games.inpainting import Inpainting
    from advnets.games.latent_regression import LatentRegression
    from advnets.games.semi_supervised import SemiSupervisedGAN
    from advnets.games.vae import VAE

__all__ = [
    "ALI",
    "GAN",
    "VAE",
    "ConditionalGAN",
    "Inpainting",
    "LatentRegression",
    "SemiSupervisedGAN",
]

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        "ALI": "advnets.games.inference",
        "ConditionalGAN": "advnets.games.conditional",
        "GAN": "advnets.games.gan",
        "Inpainting": "advnets.games.inpainting",
        "LatentRegression": "advnets.games.latent_regression",
        "SemiSupervisedGAN": "advnets.games.semi_supervised",
        "VAE": "advnets.games.vae",
    },
)
