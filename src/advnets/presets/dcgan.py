"""Presets of DCGAN (Radford et al. 2015) and of its variant in tutorials."""

from __future__ import annotations

from dataclasses import replace

from advnets.config import (
    Adam,
    ConditionalGame,
    Config,
    Data,
    DCGANDiscriminator,
    DCGANGenerator,
    GANGame,
    Intervals,
    Stage,
)
from advnets.presets.preset import IMAGE_FOLDER_STEPS, Preset

_INTERVALS = Intervals(log_every=100, sample_every=500, checkpoint_every=500)

_STAGE = Stage(
    generator=DCGANGenerator(),
    discriminator=DCGANDiscriminator(),
    game=GANGame(),
    generator_optimizer=Adam(),
    discriminator_optimizer=Adam(),
    epochs=25,
    # The EMA does not affect training; the ramp-up is for short runs on small folders.
    ema_half_life=100_000,
    ema_rampup=0.1,
)

USER_IMAGES = Config(
    preset="dcgan",
    data=Data(source="", size=64, normalize="symmetric", batch_size=128),
    stages=(replace(_STAGE, epochs=None, steps=IMAGE_FOLDER_STEPS),),
    intervals=_INTERVALS,
)
FACES = replace(
    USER_IMAGES,
    preset="dcgan-faces",
    data=replace(USER_IMAGES.data, hflip=True, batch_size=64),
    stages=(replace(_STAGE, epochs=300),),
)
MNIST = replace(
    USER_IMAGES,
    preset="dcgan-mnist",
    data=replace(USER_IMAGES.data, source="mnist"),
    stages=(_STAGE,),
)
CIFAR = replace(
    USER_IMAGES,
    preset="dcgan-cifar",
    data=replace(USER_IMAGES.data, source="cifar10", size=32, hflip=True),
    stages=(_STAGE,),
)
MNIST_CONDITIONAL = replace(
    MNIST,
    preset="dcgan-mnist-conditional",
    stages=(
        replace(
            _STAGE,
            # The paper's conditional model breaks its guideline 3: it has fully connected layers.
            generator=DCGANGenerator(base_channels=64, dense=(1024,)),
            discriminator=DCGANDiscriminator(base_channels=64, dense=(1024,)),
            game=ConditionalGame(),
        ),
    ),
)
TUTORIAL = replace(
    USER_IMAGES,
    preset="dcgan-tutorial",
    data=replace(USER_IMAGES.data, batch_size=64),
    stages=(
        replace(
            _STAGE,
            generator=DCGANGenerator(base_channels=64, kernel_size=4, prior="normal"),
            discriminator=DCGANDiscriminator(base_channels=64, kernel_size=4),
            game=GANGame(reuse_fakes=True),
            ema_half_life=0,
            ema_rampup=0.0,
        ),
    ),
)

PRESETS = (
    Preset(USER_IMAGES, "DCGAN on your own images (--data PATH), 64x64 unless --size is given."),
    Preset(FACES, "DCGAN on your own images of faces (--data PATH), 64x64, with flips."),
    Preset(MNIST, "DCGAN on MNIST."),
    Preset(MNIST_CONDITIONAL, "Class-conditional DCGAN on MNIST, with the paper's own models."),
    Preset(CIFAR, "DCGAN on CIFAR-10."),
    Preset(TUTORIAL, "DCGAN as in tutorials (--data PATH): half the channels, 4x4 kernels."),
)
