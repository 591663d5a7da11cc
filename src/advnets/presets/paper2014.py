"""The experiments of 2014 in their authors' configuration."""

from __future__ import annotations

from dataclasses import replace

from advnets.config import (
    SGD,
    Config,
    Data,
    DeconvGenerator,
    DiscriminatorConfig,
    GANGame,
    GeneratorConfig,
    Intervals,
    MaxoutConvDiscriminator,
    MaxoutDiscriminator,
    MLPGenerator,
    Stage,
)
from advnets.presets.preset import Preset

_INTERVALS = Intervals(log_every=100, sample_every=1000, checkpoint_every=1000)
"""Intervals for models whose step takes seconds."""

_MAX_COLUMN_NORM = 1.9365
"""The authors' bound of column norms, the square root of 3.75."""


def _paper_stage(
    generator: GeneratorConfig, discriminator: DiscriminatorConfig, lr: float, epochs: int
) -> Stage:
    """Return a stage as in the authors' files: simultaneous updates, one SGD for both players."""
    return Stage(
        generator=generator,
        discriminator=discriminator,
        game=GANGame(updates="simultaneous"),
        generator_optimizer=SGD(lr=lr),
        discriminator_optimizer=SGD(lr=lr),
        epochs=epochs,
    )


MNIST = Config(
    preset="paper-mnist",
    data=Data(source="mnist"),
    stages=(
        replace(
            _paper_stage(MLPGenerator(), MaxoutDiscriminator(), lr=0.1, epochs=100),
            # The shortest half-life (30 epochs) whose Parzen score on validation digits reaches
            # that of real digits (docs/results/paper-mnist.md). The EMA does not affect training.
            ema_half_life=1_500_000,
        ),
    ),
)

_TFD_GENERATOR = MLPGenerator(
    prior="normal",
    hidden_sizes=(8000, 8000),
    activations=("relu", "sigmoid"),
    sigmoid_bias=-2.0,
    output_sparse_init=100,
    max_column_norm=_MAX_COLUMN_NORM,
)
_TFD_DISCRIMINATOR = MaxoutDiscriminator(
    hidden_sizes=(1200, 1200), max_column_norm=_MAX_COLUMN_NORM
)
_TFD_SECOND_GENERATOR = replace(
    _TFD_GENERATOR,
    # A new ReLU layer, and a sigmoid layer whose output is the first generator's z.
    hidden_sizes=(8000,),
    activations=("relu",),
    output_sparse_init=None,
    output_bias=-2.0,
)
TFD = Config(
    preset="paper-tfd",
    data=Data(source="tfd"),
    stages=(
        _paper_stage(_TFD_GENERATOR, _TFD_DISCRIMINATOR, lr=0.05, epochs=50),
        replace(
            _paper_stage(_TFD_SECOND_GENERATOR, _TFD_DISCRIMINATOR, lr=0.05, epochs=22),
            on_top_of_previous=True,
        ),
    ),
    intervals=_INTERVALS,
)

_CIFAR_GENERATOR = MLPGenerator(
    prior="normal",
    hidden_sizes=(8000, 8000),
    activations=("relu", "sigmoid"),
    output="linear",
    output_init_range=0.5,
    output_bias=0.0,
)
CIFAR = Config(
    preset="paper-cifar",
    data=Data(source="cifar10", normalize="contrast"),
    stages=(
        _paper_stage(
            _CIFAR_GENERATOR, MaxoutDiscriminator(hidden_sizes=(1600, 1600)), 0.025, epochs=100
        ),
    ),
    intervals=_INTERVALS,
)

CIFAR_CONV = Config(
    preset="paper-cifar-conv",
    data=Data(source="cifar10", normalize="contrast", batch_size=128),
    stages=(_paper_stage(DeconvGenerator(), MaxoutConvDiscriminator(), 0.004, epochs=100),),
    intervals=_INTERVALS,
)

PRESETS = (
    Preset(MNIST, "MNIST experiment of 2014 in the authors' configuration, with EMA."),
    Preset(TFD, "Toronto Face Database experiment of 2014, in two stages."),
    Preset(CIFAR, "CIFAR-10 experiment of 2014 with fully connected models."),
    Preset(CIFAR_CONV, "CIFAR-10 experiment of 2014 with convolutional models."),
)
