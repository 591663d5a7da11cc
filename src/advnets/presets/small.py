"""Presets that train in minutes, and fully connected GANs on MNIST."""

from __future__ import annotations

from advnets.config import (
    Adam,
    Config,
    Data,
    GANGame,
    Intervals,
    MaxoutDiscriminator,
    MLPDiscriminator,
    MLPGenerator,
    Runtime,
    Stage,
)
from advnets.presets.preset import Preset

DIGITS = Config(
    preset="digits",
    data=Data(source="digits", batch_size=100),
    stages=(
        Stage(
            generator=MLPGenerator(latent_dim=32, hidden_sizes=(256, 256)),
            discriminator=MaxoutDiscriminator(hidden_sizes=(128, 128), init_range=0.05),
            generator_optimizer=Adam(lr=1e-3),
            discriminator_optimizer=Adam(lr=1e-3),
            epochs=400,
            ema_half_life=30_000,
        ),
    ),
    intervals=Intervals(log_every=200, sample_every=2000, checkpoint_every=2000),
    # Models this small gain nothing from bfloat16 and little from a second thread, which makes
    # them slower on a busy machine.
    runtime=Runtime(precision="float32", threads=1),
)

POINTS = Config(
    preset="points",
    data=Data(source="ring", normalize="none"),
    stages=(
        Stage(
            generator=MLPGenerator(
                latent_dim=2,
                prior="normal",
                hidden_sizes=(128, 128),
                output="linear",
                init_range=0.1,
                output_bias=0.0,
            ),
            discriminator=MaxoutDiscriminator(
                hidden_sizes=(128, 128), init_range=0.1, dropout_input=0.0, dropout_hidden=0.0
            ),
            generator_optimizer=Adam(lr=1e-3),
            discriminator_optimizer=Adam(lr=1e-3),
            epochs=None,
            steps=10_000,
            ema_half_life=30_000,
        ),
    ),
    intervals=Intervals(log_every=500, sample_every=2500, checkpoint_every=2500),
    runtime=Runtime(precision="float32", threads=1),
)

MLP = Config(
    preset="mlp",
    data=Data(source="mnist", normalize="symmetric", batch_size=64),
    stages=(
        Stage(
            generator=MLPGenerator(
                prior="normal",
                hidden_sizes=(128, 256, 512, 1024),
                activations=("leaky_relu",) * 4,
                output="tanh",
                output_bias=0.0,
                batch_norm=True,
            ),
            discriminator=MLPDiscriminator(),
            game=GANGame(updates="simultaneous"),
            generator_optimizer=Adam(),
            discriminator_optimizer=Adam(),
            epochs=50,
        ),
    ),
)

RELATIVISTIC = Config(
    preset="mnist-relativistic",
    data=Data(source="mnist"),
    stages=(
        Stage(
            generator=MLPGenerator(),
            discriminator=MaxoutDiscriminator(
                init_range=0.02, dropout_input=0.0, dropout_hidden=0.0
            ),
            game=GANGame(updates="simultaneous", relativistic=True, r1=5.0, r2=5.0),
            generator_optimizer=Adam(lr=1e-3, beta1=0.0, beta2=0.99),
            discriminator_optimizer=Adam(lr=1e-3, beta1=0.0, beta2=0.99),
            epochs=60,
            ema_half_life=1_200_000,
        ),
    ),
)

PRESETS = (
    Preset(DIGITS, "The GAN of 2014, small, on scikit-learn's 8x8 digits; minutes, offline."),
    Preset(POINTS, "The GAN of 2014, small, on points of a line or plane; a minute, offline."),
    Preset(MLP, "Fully connected GAN with batch normalization, as in tutorials, on MNIST."),
    Preset(RELATIVISTIC, "The MNIST GAN of 2014 with a relativistic loss, R1, R2 and Adam."),
)
