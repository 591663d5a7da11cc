"""What adversarial nets are trained by ten years on, on the scale of a CPU.

The recipe of Huang et al. 2024, "The GAN is dead; long live the GAN!": pairs, slope penalties on
images and samples at every step, no normalization layers; rates, penalties and Adam's memory on
their way to an end, augmentations that come in, an average that is young at first. The published
nets and 10 million images take days of GPUs; these keep the recipe and not the size.
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
from advnets.presets.preset import ANY_FOLDER, Preset

_ADAM = Adam(lr=2e-4, lr_final=5e-5, beta1=0.0, beta2=0.9, beta2_final=0.99)

# Small nets take larger steps than the published ones (LOG.md).
_QUICK = replace(_ADAM, lr=1e-3, lr_final=1e-4)

_SELDOM = Intervals(log_every=400, sample_every=4000, checkpoint_every=2000)

_GAME = GANGame(
    # One pass of D for both players: a third less to compute than in turns.
    updates="simultaneous",
    relativistic=True,
    r1=1.0,
    r2=1.0,
    r1_final=0.1,
    r2_final=0.1,
    augment_prob=0.3,
)

# Residual nets cost three to ten times as much on a CPU as strided ones, nearly all of it on maps
# of full size, which strides leave at once. So these are DCGAN's without its norms, with weights
# drawn larger, as no norm makes up for small ones; modern-cifar and modern-residual, which want a
# GPU anyway, have the others.
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

_OWN = replace(_STAGE, epochs=None, steps=ANY_FOLDER)


def _residual(stage: Stage) -> Stage:
    return replace(stage, generator=ResidualGenerator(), discriminator=ResidualDiscriminator())


OWN = Config(
    preset="modern",
    data=Data(source="", size=64, normalize="symmetric", batch_size=64, hflip=True),
    stages=(_OWN,),
    intervals=Intervals(log_every=100, sample_every=1000, checkpoint_every=500),
)
_DIGITS = replace(
    _STAGE,
    generator=replace(_STAGE.generator, base_channels=32),
    discriminator=replace(_STAGE.discriminator, base_channels=32),
    # Not augmented: mirrored digits are none, and projection-mnist needs no more than there are.
    game=replace(_GAME, augment_prob=0.0),
    generator_optimizer=_QUICK,
    discriminator_optimizer=_QUICK,
    epochs=32,
    # A third of the run at the end of its schedules: that is when samples become sharp.
    schedule_fraction=0.6875,
)
MNIST = replace(
    OWN,
    preset="modern-mnist",
    data=replace(OWN.data, source="mnist", hflip=False),
    stages=(
        replace(
            _DIGITS,
            # Two strided layers see strokes, and a sum over 7x7 places not whether they make one
            # digit: a hidden layer that sees all of them does. Where penalties fall further than
            # they do here such a D runs ahead (LOG.md).
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
    intervals=_SELDOM,
)
STACKED = replace(
    MNIST,
    preset="modern-stacked",
    # Batches of 64, not 256: of as many images four times the steps (LOG.md).
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
    intervals=_SELDOM,
)
CIFAR = replace(
    OWN,
    preset="modern-cifar",
    data=replace(OWN.data, source="cifar10", size=32),
    # The published γ of CIFAR-10; larger images want a larger one.
    stages=(
        _residual(
            replace(_STAGE, game=replace(_GAME, r1=0.05, r2=0.05, r1_final=0.005, r2_final=0.005))
        ),
    ),
)
RESIDUAL = replace(
    OWN,
    preset="modern-residual",
    stages=(_residual(_OWN),),
)

# Modes a hundred times finer than the data are wide, and tuned to that fineness: 99 % of samples
# lie within 3 σ of a mode, 93 to 95 % if modes are half as wide, 57 to 58 % if a quarter
# (docs/results/points.md). What it took (LOG.md): components of z that lie apart, so that G need not
# bridge what is empty; waves, so that D sees what is fine; a D that lives to the end, and a G that
# stands still by then, as the average of a G that moves is too narrow.
_POINTS = Stage(
    generator=MLPGenerator(
        # Two of 32 numbers on a sphere are nearly normal; longer tails lie between modes.
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
            # D has to see how wide a mode is while G can still do something about it.
            game=replace(_POINTS.game, r1_final=1e-6, r2_final=1e-6),
            steps=20_000,
            schedule_fraction=0.58,
        ),
    ),
)

PRESETS = (
    Preset(OWN, "Your images (--data PATH), 64x64: pairs, slopes, schedules, no norms."),
    Preset(MNIST, "MNIST by the same recipe."),
    Preset(MNIST_CONDITIONAL, "MNIST, told which digit: D is told at its last maps."),
    Preset(STACKED, "Stacked MNIST, 1,000 modes, by the same; an hour and a half."),
    Preset(CIFAR, "CIFAR-10 by the same recipe, with residual nets; for a GPU."),
    Preset(RESIDUAL, "The same with residual nets (--data PATH or cifar10); for a GPU."),
    Preset(RING, "The recipe on a ring of 8 modes, tuned to that fineness (docs/results)."),
    Preset(GRID, "The same on a grid of 25 modes."),
)
