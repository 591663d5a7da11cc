"""Presets of the extensions proposed in section 7 of the paper, on MNIST, and of a VAE baseline."""

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
from advnets.presets.small import MLP, RELATIVISTIC

_CONDITIONAL_ADAM = Adam(lr=1e-3, lr_final=1e-4, beta1=0.0, beta2=0.99)
_INTERVALS = Intervals(log_every=500, sample_every=5000, checkpoint_every=2500)

CONDITIONAL = replace(
    RELATIVISTIC,
    preset="conditional-mnist",
    stages=(
        replace(
            RELATIVISTIC.stage,
            # As in projection-mnist, penalties and learning rates decrease.
            game=ConditionalGame(
                updates="simultaneous",
                relativistic=True,
                r1=1.0,
                r2=1.0,
                r1_final=0.02,
                r2_final=0.02,
            ),
            generator_optimizer=_CONDITIONAL_ADAM,
            discriminator_optimizer=_CONDITIONAL_ADAM,
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
    intervals=_INTERVALS,
)

LATENT_REGRESSION = replace(
    INFERENCE,
    preset="latent-regression-mnist",
    stages=(
        Stage(
            generator=MLPGenerator(),  # replaced by the generator of --game.generator-run
            discriminator=NoDiscriminator(),
            game=LatentRegressionGame(encoder=MLPEncoder(hidden_sizes=(1024, 1024))),
            generator_optimizer=Adam(),
            discriminator_optimizer=Adam(),
            epochs=30,
        ),
    ),
)

INPAINTING = Config(
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
    intervals=_INTERVALS,
)

# The models, losses, learning rates and length are those of the published code
# (openai/improved-gan, mnist_svhn_cifar10/train_mnist_feature_matching.py). This preset differs
# from it in five ways:
# - The gains of D's hidden layers begin at 1 and are trained; there they are set from 500 digits
#   before the first step and stay fixed.
# - G's output layer has no weight normalization, and its batch normalizations have gains.
# - z is uniform on [-sqrt 3, sqrt 3] and not on [0, 1]; G's initial weights are not Glorot's.
# - Both players are updated on the same batch of images; there G has its own.
# - 10,000 of the 60,000 training digits are held out for validation; there all are used.
SEMI_SUPERVISED_2016 = Config(
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
    intervals=_INTERVALS,
)

_SEMI_SUPERVISED_ADAM = Adam(lr=2e-3, lr_final=1e-4)
_AUGMENTATIONS = ("translate", "affine")

_SEMI_SUPERVISED_GAME = SemiSupervisedGame(
    # One pass of D for both players, with few labeled images, takes a third of the time.
    labeled_batch=16,
    generated_batch=32,
    updates="simultaneous",
    augmentations=_AUGMENTATIONS,
    consistency=1.0,
)

SEMI_SUPERVISED = Config(
    preset="semi-supervised-mnist",
    data=Data(source="mnist", batch_size=128),
    stages=(
        replace(
            SEMI_SUPERVISED_2016.stage,
            discriminator=SemiSupervisedConvDiscriminator(),
            game=_SEMI_SUPERVISED_GAME,
            generator_optimizer=_SEMI_SUPERVISED_ADAM,
            discriminator_optimizer=_SEMI_SUPERVISED_ADAM,
            epochs=None,
            steps=6000,
            ema_half_life=50_000,
            ema_rampup=0.05,
        ),
    ),
    intervals=Intervals(log_every=200, sample_every=2000, checkpoint_every=1000),
)

# This takes half a minute on a large GPU with --cuda-graph, and hours on a CPU.
SEMI_SUPERVISED_LARGE = replace(
    SEMI_SUPERVISED,
    preset="semi-supervised-mnist-large",
    data=replace(SEMI_SUPERVISED.data, batch_size=1024),
    stages=(
        replace(
            SEMI_SUPERVISED.stage,
            discriminator=SemiSupervisedConvDiscriminator(
                channels=(64, 64, 128, 128, 256, 256), strides=(2, 1, 2, 1, 2, 1)
            ),
            game=replace(_SEMI_SUPERVISED_GAME, labeled_batch=64, generated_batch=128),
            generator_optimizer=replace(_SEMI_SUPERVISED_ADAM, lr_final=1e-5),
            discriminator_optimizer=replace(_SEMI_SUPERVISED_ADAM, lr_final=1e-5),
            epochs=None,
            steps=3600,
            ema_half_life=200_000,
        ),
    ),
)

SUPERVISED = replace(
    SEMI_SUPERVISED,
    preset="supervised-mnist",
    stages=(
        replace(
            SEMI_SUPERVISED.stage,
            game=SemiSupervisedGame(unlabeled_loss=False, augmentations=_AUGMENTATIONS),
            steps=3000,
        ),
    ),
)

# Of all variants in studies/coordination.py this one reaches good quality fastest
# (docs/results/time-to-quality.md).
TTUR = replace(
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
    intervals=_INTERVALS,
)

PRESETS = (
    Preset(CONDITIONAL, "Class-conditional fully connected GAN on MNIST."),
    Preset(INFERENCE, "ALI on MNIST: an encoder is trained with the GAN."),
    Preset(LATENT_REGRESSION, "An encoder for a trained generator (--game.generator-run RUN)."),
    Preset(INPAINTING, "Inpainting GAN on MNIST: generates any part of a digit from the rest."),
    Preset(SEMI_SUPERVISED, "Semi-supervised classifier as D, on MNIST with 100 labels."),
    Preset(
        SEMI_SUPERVISED_LARGE,
        "semi-supervised-mnist with a larger D and batches of 1,024; for a GPU.",
    ),
    Preset(SEMI_SUPERVISED_2016, "The fully connected models of Salimans et al. 2016."),
    Preset(SUPERVISED, "Baseline of semi-supervised-mnist: its D on the 100 labels alone."),
    Preset(TTUR, "The models of mlp with D's learning rate four times G's (TTUR); fast."),
    Preset(VAE, "Variational autoencoder on MNIST, with the generator of paper-mnist."),
)
