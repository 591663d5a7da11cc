"""A custom generator and a custom discriminator, which are PyTorch modules.

advnets train digits --generator examples/custom_models.py:Generator \
    --discriminator examples/custom_models.py:Discriminator
"""

import math

from torch import nn


class Generator(nn.Sequential):
    """A map from 32 numbers z to images of a shape (channels, height, width), pixels in [0, 1]."""

    latent_dim = 32

    def __init__(self, shape, classes):  # classes: 0 for games that are not conditional
        super().__init__(
            nn.Linear(self.latent_dim, 256),
            nn.BatchNorm1d(256),
            nn.ReLU(),
            nn.Linear(256, math.prod(shape)),
            nn.Sigmoid(),
            nn.Unflatten(1, shape),
        )


class Discriminator(nn.Sequential):
    """A map from images to logits: the logarithm of the odds that an image is real."""

    def __init__(self, shape, classes):
        super().__init__(
            nn.Flatten(),
            nn.Linear(math.prod(shape), 256),
            nn.LeakyReLU(0.2),
            nn.Dropout(0.3),
            nn.Linear(256, 1),
        )
