"""Deep convolutional adversarial nets, as published in 2015 and as tutorials have them."""

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
from advnets.presets.preset import ANY_FOLDER, Preset

_TICKS = Intervals(log_every=100, sample_every=500, checkpoint_every=500)

_STAGE = Stage(
    generator=DCGANGenerator(),
    discriminator=DCGANDiscriminator(),
    game=GANGame(),
    generator_optimizer=Adam(),
    discriminator_optimizer=Adam(),
    epochs=25,
    # Beside the training, which it does not change; a run of a small folder is short.
    ema_half_life=100_000,
    ema_rampup=0.1,
)

OWN = Config(
    preset="dcgan",
    data=Data(source="", size=64, normalize="symmetric", batch_size=128),
    stages=(replace(_STAGE, epochs=None, steps=ANY_FOLDER),),
    intervals=_TICKS,
)
FACES = replace(
    OWN,
    preset="dcgan-faces",
    data=replace(OWN.data, hflip=True, batch_size=64),
    stages=(replace(_STAGE, epochs=300),),
)
MNIST = replace(OWN, preset="dcgan-mnist", data=replace(OWN.data, source="mnist"), stages=(_STAGE,))
CIFAR = replace(
    OWN,
    preset="dcgan-cifar",
    data=replace(OWN.data, source="cifar10", size=32, hflip=True),
    stages=(_STAGE,),
)
MNIST_CONDITIONAL = replace(
    MNIST,
    preset="dcgan-mnist-conditional",
    stages=(
        replace(
            _STAGE,
            # Fully connected layers are against the third rule; this net of the paper has them.
            generator=DCGANGenerator(base_channels=64, dense=(1024,)),
            discriminator=DCGANDiscriminator(base_channels=64, dense=(1024,)),
            game=ConditionalGame(),
        ),
    ),
)
TUTORIAL = replace(
    OWN,
    preset="dcgan-tutorial",
    data=replace(OWN.data, batch_size=64),
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
    Preset(OWN, "DCGAN for images of your own (--data PATH), 64x64 unless --size."),
    Preset(FACES, "DCGAN for faces of your own (--data PATH), 64x64, mirrored."),
    Preset(MNIST, "DCGAN on MNIST."),
    Preset(MNIST_CONDITIONAL, "DCGAN on MNIST, told which digit: the paper's own net."),
    Preset(CIFAR, "DCGAN on CIFAR-10."),
    Preset(TUTORIAL, "DCGAN as tutorials have it: half as wide, kernels of 4."),
)
