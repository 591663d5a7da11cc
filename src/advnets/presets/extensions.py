"""Section 7 of the paper as games: what 2014 left to others, on MNIST; and the VAE beside it."""

from __future__ import annotations

from dataclasses import replace

from advnets.config import (
    Adam,
    ALIGame,
    ConditionalGame,
    Config,
    Data,
    GANGame,
    InpaintingGame,
    Intervals,
    LatentRegressionGame,
    MLPDiscriminator,
    MLPEncoder,
    MLPGenerator,
    NoDiscriminator,
    SemiSupervisedConvDiscriminator,
    SemiSupervisedDiscriminator,
    SemiSupervisedGame,
    Stage,
    VAEGame,
)
from advnets.presets.preset import Preset
from advnets.presets.small import MLP, TUNED

_TOLD = Adam(lr=1e-3, lr_final=1e-4, beta1=0.0, beta2=0.99)
_TICKS = Intervals(log_every=500, sample_every=5000, checkpoint_every=2500)

CONDITIONAL = replace(
    TUNED,
    preset="conditional-mnist",
    stages=(
        replace(
            TUNED.stage,
            # As projection-mnist: penalties that hold D back less and less, rates that fall.
            game=ConditionalGame(
                updates="simultaneous",
                relativistic=True,
                r1=1.0,
                r2=1.0,
                r1_final=0.02,
                r2_final=0.02,
            ),
            generator_optimizer=_TOLD,
            discriminator_optimizer=_TOLD,
            epochs=40,
            schedule_fraction=0.6875,
            ema_half_life=300_000,
        ),
    ),
)

INFERENCE = Config(
    preset="inference-mnist",
    data=Data(source="mnist", batch_size=100),
    stages=(
        Stage(
            generator=MLPGenerator(
                latent_dim=50,
                prior="normal",
                hidden_sizes=(1024, 1024),
                activations=("relu", "relu"),
                batch_norm=True,
            ),
            discriminator=MLPDiscriminator(hidden_sizes=(1024, 1024)),
            game=ALIGame(encoder=MLPEncoder(hidden_sizes=(1024, 1024), batch_norm=True)),
            generator_optimizer=Adam(),
            discriminator_optimizer=Adam(),
            epochs=40,
            ema_half_life=500_000,
        ),
    ),
    intervals=_TICKS,
)

AFTERWARDS = replace(
    INFERENCE,
    preset="latent-regression-mnist",
    stages=(
        Stage(
            generator=MLPGenerator(),  # the run's that it begins with
            discriminator=NoDiscriminator(),
            game=LatentRegressionGame(encoder=MLPEncoder(hidden_sizes=(1024, 1024))),
            generator_optimizer=Adam(),
            discriminator_optimizer=Adam(),
            epochs=30,
        ),
    ),
)

COMPLETION = Config(
    preset="inpainting-mnist",
    data=Data(source="mnist"),
    stages=(
        replace(
            CONDITIONAL.stage,
            game=InpaintingGame(
                updates="simultaneous",
                relativistic=True,
                r1=1.0,
                r2=1.0,
                r1_final=0.02,
                r2_final=0.02,
            ),
            epochs=25,
        ),
    ),
    intervals=_TICKS,
)

# The nets, losses, rates and length of the published code (openai/improved-gan, in its folder
# mnist_svhn_cifar10 the file train_mnist_feature_matching.py), which differs from this preset in
# five ways. The gains of D's hidden layers are set from 500 digits before the first step and stay;
# here they begin at 1 and are trained. G's output layer has normed weights, and its batch norms no
# gain. z is uniform in [0, 1], and G's weights begin as Glorot and Bengio have them. G moves on a
# batch of its own. All 60,000 training digits are used; here 10,000 of them are for validation.
SEMI_2016 = Config(
    preset="semi-supervised-mnist-2016",
    data=Data(source="mnist"),
    stages=(
        Stage(
            generator=MLPGenerator(
                latent_dim=100,
                hidden_sizes=(500, 500),
                activations=("softplus", "softplus"),
                output_bias=0.0,
                batch_norm=True,
            ),
            discriminator=SemiSupervisedDiscriminator(),
            game=SemiSupervisedGame(),
            generator_optimizer=Adam(lr=3e-3),
            discriminator_optimizer=Adam(lr=3e-3),
            epochs=300,
            ema_half_life=700_000,
        ),
    ),
    intervals=_TICKS,
)

_FALLING = Adam(lr=2e-3, lr_final=1e-4)
_VIEWS = ("translate", "affine")

_SEMI_GAME = SemiSupervisedGame(
    # One pass of D for both players, and few labeled images in it: a third of the time.
    labeled_batch=16,
    generated_batch=32,
    updates="simultaneous",
    augmentations=_VIEWS,
    consistency=1.0,
)

SEMI = Config(
    preset="semi-supervised-mnist",
    data=Data(source="mnist", batch_size=128),
    stages=(
        replace(
            SEMI_2016.stage,
            discriminator=SemiSupervisedConvDiscriminator(),
            game=_SEMI_GAME,
            generator_optimizer=_FALLING,
            discriminator_optimizer=_FALLING,
            epochs=None,
            steps=6000,
            ema_half_life=50_000,
            ema_rampup=0.05,
        ),
    ),
    intervals=Intervals(log_every=200, sample_every=2000, checkpoint_every=1000),
)

# Half a minute of a large GPU, with --cuda-graph; a processor takes hours.
SEMI_LARGE = replace(
    SEMI,
    preset="semi-supervised-mnist-large",
    data=replace(SEMI.data, batch_size=1024),
    stages=(
        replace(
            SEMI.stage,
            discriminator=SemiSupervisedConvDiscriminator(
                channels=(64, 64, 128, 128, 256, 256), strides=(2, 1, 2, 1, 2, 1)
            ),
            game=replace(_SEMI_GAME, labeled_batch=64, generated_batch=128),
            generator_optimizer=replace(_FALLING, lr_final=1e-5),
            discriminator_optimizer=replace(_FALLING, lr_final=1e-5),
            epochs=None,
            steps=3600,
            ema_half_life=200_000,
        ),
    ),
)

SUPERVISED = replace(
    SEMI,
    preset="supervised-mnist",
    stages=(
        replace(
            SEMI.stage,
            game=SemiSupervisedGame(unlabeled_loss=False, augmentations=_VIEWS),
            steps=3000,
        ),
    ),
)

# What is soonest good of all that studies/coordination.py plays (docs/results/time-to-quality.md).
COORDINATED = replace(
    MLP,
    preset="mnist-ttur",
    stages=(replace(MLP.stage, game=GANGame(), discriminator_optimizer=Adam(lr=8e-4)),),
)

VAE = Config(
    preset="vae-mnist",
    data=Data(source="mnist"),
    stages=(
        Stage(
            generator=MLPGenerator(latent_dim=50, prior="normal"),
            discriminator=NoDiscriminator(),
            game=VAEGame(),
            generator_optimizer=Adam(lr=1e-3, beta1=0.9),
            discriminator_optimizer=Adam(),
            epochs=60,
            ema_half_life=500_000,
        ),
    ),
    intervals=_TICKS,
)

PRESETS = (
    Preset(CONDITIONAL, "MNIST, told which digit: p(x | c) by fully connected nets."),
    Preset(INFERENCE, "MNIST, and z from x: an encoder on G's side."),
    Preset(AFTERWARDS, "z from x for a trained G (--game.generator-run RUN)."),
    Preset(COMPLETION, "MNIST, any part of a digit given the rest."),
    Preset(SEMI, "MNIST with 100 labels: D tells ten digits and generated."),
    Preset(SEMI_LARGE, "The same by a larger D and batches of 1,024; for a GPU."),
    Preset(
        SEMI_2016,
        "By fully connected nets, nearly as published in 2016 (docs/guide.md).",
    ),
    Preset(SUPERVISED, "semi-supervised-mnist's D by the 100 labels alone."),
    Preset(COORDINATED, "mlp's nets in turns, D at four times G's rate: good soonest."),
    Preset(VAE, "The variational autoencoder on MNIST, with paper-mnist's decoder."),
)
