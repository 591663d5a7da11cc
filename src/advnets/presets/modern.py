"""Presets of R3GAN (Huang et al. 2024, "The GAN is dead; long live the GAN!"), scaled to a CPU.

The recipe is a relativistic loss with R1 and R2 penalties in every step, no normalization layers,
schedules of learning rates, penalties and Adam's beta2, augmentations that ramp up, and an EMA with
ramp-up. The published models and 10 million images take days on GPUs; these presets are smaller.
"""

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
    MLPDiscriminator,
    MLPGenerator,
    ResidualDiscriminator,
    ResidualGenerator,
    Runtime,
    Stage,
)
from advnets.presets.preset import IMAGE_FOLDER_STEPS, Preset

_ADAM = Adam(lr=2e-4, lr_final=5e-5, beta1=0.0, beta2=0.9, beta2_final=0.99)

# Small models train well at a larger learning rate than the published ones (LOG.md).
_SMALL_MODEL_ADAM = replace(_ADAM, lr=1e-3, lr_final=1e-4)

_LONG_INTERVALS = Intervals(log_every=400, sample_every=4000, checkpoint_every=2000)

_GAME = GANGame(
    # One pass of D for both players saves a third of the computation.
    updates="simultaneous",
    relativistic=True,
    r1=1.0,
    r2=1.0,
    r1_final=0.1,
    r2_final=0.1,
    augment_prob=0.3,
)

# On a CPU residual models take three to ten times as long as strided ones, nearly all of it for
# maps of full size. These presets therefore use DCGAN's models without normalization and with
# larger initial weights; modern-cifar and modern-residual, which need a GPU, use residual ones.
_STAGE = Stage(
    generator=DCGANGenerator(
        latent_dim=64,
        base_channels=64,
        kernel_size=4,
        prior="normal",
        batch_norm=False,
        init_std=0.05,
    ),
    discriminator=DCGANDiscriminator(
        base_channels=64, kernel_size=4, batch_norm=False, init_std=0.05
    ),
    game=_GAME,
    generator_optimizer=_ADAM,
    discriminator_optimizer=_ADAM,
    epochs=100,
    ema_half_life=200_000,
    ema_rampup=0.1,
)

_IMAGE_FOLDER = replace(_STAGE, epochs=None, steps=IMAGE_FOLDER_STEPS)


def _residual(stage: Stage) -> Stage:
    return replace(stage, generator=ResidualGenerator(), discriminator=ResidualDiscriminator())


USER_IMAGES = Config(
    preset="modern",
    data=Data(source="", size=64, normalize="symmetric", batch_size=64, hflip=True),
    stages=(_IMAGE_FOLDER,),
    intervals=Intervals(log_every=100, sample_every=1000, checkpoint_every=500),
)
_DIGITS = replace(
    _STAGE,
    generator=replace(_STAGE.generator, base_channels=32),
    discriminator=replace(_STAGE.discriminator, base_channels=32),
    # No augmentation: flipped digits are not digits, and projection-mnist does not overfit.
    game=replace(_GAME, augment_prob=0.0),
    generator_optimizer=_SMALL_MODEL_ADAM,
    discriminator_optimizer=_SMALL_MODEL_ADAM,
    epochs=32,
    # Schedules end after two thirds of the run; samples become sharp in the last third.
    schedule_fraction=0.6875,
)
MNIST = replace(
    USER_IMAGES,
    preset="modern-mnist",
    data=replace(USER_IMAGES.data, source="mnist", hflip=False),
    stages=(
        replace(
            _DIGITS,
            # Two strided layers see strokes, but not whether they form a digit; a fully connected
            # layer does. With penalties that decrease further such a D becomes too strong (LOG.md).
            generator=replace(_DIGITS.generator, dense=(256,)),
            discriminator=replace(_DIGITS.discriminator, dense=(256,)),
            epochs=20,
        ),
    ),
)
MNIST_CONDITIONAL = replace(
    MNIST,
    preset="projection-mnist",
    stages=(
        replace(
            _DIGITS,
            discriminator=replace(_DIGITS.discriminator, projection=True),
            game=ConditionalGame(
                updates="simultaneous",
                relativistic=True,
                r1=1.0,
                r2=1.0,
                r1_final=0.015,
                r2_final=0.015,
            ),
        ),
    ),
    intervals=_LONG_INTERVALS,
)
STACKED = replace(
    MNIST,
    preset="modern-stacked",
    # Batches of 64 instead of 256: four times the steps for equally many images (LOG.md).
    data=replace(MNIST.data, source="stacked-mnist"),
    stages=(
        replace(
            _DIGITS,
            game=replace(_DIGITS.game, r1=2.0, r2=2.0, r1_final=0.03, r2_final=0.03),
            epochs=None,
            steps=32_000,
            schedule_fraction=0.8,
            ema_half_life=300_000,
        ),
    ),
    intervals=_LONG_INTERVALS,
)
CIFAR = replace(
    USER_IMAGES,
    preset="modern-cifar",
    data=replace(USER_IMAGES.data, source="cifar10", size=32),
    # The published γ for CIFAR-10; larger images need a larger one.
    stages=(
        _residual(
            replace(_STAGE, game=replace(_GAME, r1=0.05, r2=0.05, r1_final=0.005, r2_final=0.005))
        ),
    ),
)
RESIDUAL = replace(USER_IMAGES, preset="modern-residual", stages=(_residual(_IMAGE_FOLDER),))

# The modes are a hundred times finer than the data's range, and the settings are tuned to that:
# 99 % of samples lie within 3 σ of a mode, but only 93 to 95 % if modes are half as wide, and 57 to
# 58 % if a quarter (docs/results/points.md). It takes (LOG.md) a mixture prior with separate
# components, so that G need not bridge the gaps; Fourier features, so that D resolves fine details;
# a D that keeps learning to the end; and a small learning rate of G at the end, as the EMA of a
# moving G is too narrow.
_POINTS = Stage(
    generator=MLPGenerator(
        # Two coordinates of a 32-dimensional sphere are nearly normal, without the tails that would
        # lie between modes.
        latent_dim=32,
        prior="learned-mixture",
        components=100,
        component_shape="sphere",
        hidden_sizes=(128, 128, 128),
        activations=("leaky_relu",) * 3,
        output="linear",
        init_range=0.09,
        output_bias=0.0,
    ),
    discriminator=MLPDiscriminator(
        hidden_sizes=(128, 128), fourier_features=128, frequency_range=(1.0, 60.0)
    ),
    game=GANGame(
        updates="simultaneous",
        relativistic=True,
        r1=0.1,
        r2=0.1,
        r1_final=1e-5,
        r2_final=1e-5,
        penalty_schedule="geometric",
    ),
    generator_optimizer=replace(_ADAM, lr=1e-3, lr_final=1e-5),
    discriminator_optimizer=replace(_ADAM, lr=1e-3, lr_final=None),
    epochs=None,
    steps=16_000,
    schedule_fraction=0.5,
    ema_half_life=50_000,
    ema_rampup=0.1,
)
RING = Config(
    preset="modern-ring",
    data=Data(source="ring", normalize="standard", batch_size=128),
    stages=(_POINTS,),
    intervals=Intervals(log_every=500, sample_every=5000, checkpoint_every=5000),
    runtime=Runtime(precision="float32", threads=1),
)
GRID = replace(
    RING,
    preset="modern-grid",
    data=replace(RING.data, source="grid"),
    stages=(
        replace(
            _POINTS,
            discriminator=replace(_POINTS.discriminator, hidden_sizes=(128, 128, 128)),
            # D must resolve the width of a mode while G can still change it.
            game=replace(_POINTS.game, r1_final=1e-6, r2_final=1e-6),
            steps=20_000,
            schedule_fraction=0.58,
        ),
    ),
)

PRESETS = (
    Preset(
        USER_IMAGES, "R3GAN recipe on your own images (--data PATH), 64x64 unless --size is given."
    ),
    Preset(MNIST, "R3GAN recipe on MNIST, with DCGAN models without normalization."),
    Preset(MNIST_CONDITIONAL, "Class-conditional R3GAN on MNIST, with a projection discriminator."),
    Preset(STACKED, "R3GAN recipe on Stacked MNIST (1,000 modes); takes an hour and a half."),
    Preset(CIFAR, "R3GAN recipe on CIFAR-10, with residual models; for a GPU."),
    Preset(RESIDUAL, "R3GAN recipe on your own images, with residual models; for a GPU."),
    Preset(RING, "R3GAN recipe on a ring of 8 modes, tuned to their width (docs/results)."),
    Preset(GRID, "R3GAN recipe on a grid of 25 modes, tuned to their width."),
)
