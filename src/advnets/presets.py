"""Complete configs by name: the 2014 experiments, and the offline digits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from advnets.config import (
    SGD,
    Adam,
    Config,
    Data,
    DCGANDiscriminator,
    DCGANGenerator,
    DeconvGenerator,
    DiscriminatorConfig,
    Game,
    GeneratorConfig,
    MaxoutConvDiscriminator,
    MaxoutDiscriminator,
    MLPDiscriminator,
    MLPGenerator,
    Runtime,
    Stage,
    Ticks,
)
from advnets.data import names
from advnets.errors import UnknownNameError

_NORM = 1.9365
"""The authors' bound on column norms: the square root of 3.75."""


def _published(
    generator: GeneratorConfig, discriminator: DiscriminatorConfig, lr: float, epochs: int
) -> Stage:
    """A stage as the authors' files have it: simultaneous updates, one SGD for both players."""
    return Stage(
        generator=generator,
        discriminator=discriminator,
        game=Game(updates="simultaneous"),
        generator_optimizer=SGD(lr=lr),
        discriminator_optimizer=SGD(lr=lr),
        epochs=epochs,
    )


_DIGITS = Config(
    preset="digits",
    data=Data(source="digits", batch_size=100),
    stages=(
        Stage(
            generator=MLPGenerator(latent_dim=32, hidden=(256, 256)),
            discriminator=MaxoutDiscriminator(units=(128, 128), init_range=0.05),
            generator_optimizer=Adam(lr=1e-3),
            discriminator_optimizer=Adam(lr=1e-3),
            epochs=400,
            average_half_life=30_000,
        ),
    ),
    ticks=Ticks(log=200, samples=2000, checkpoint=2000),
    # Nets this small gain nothing from short products, little from a second thread, and lose all
    # of that on a busy machine.
    runtime=Runtime(precision="float32", threads=1),
)

_MNIST = Config(
    preset="paper-mnist",
    data=Data(source="mnist"),
    stages=(
        replace(
            _published(MLPGenerator(), MaxoutDiscriminator(), lr=0.1, epochs=100),
            # 30 epochs: it stands beside the last weights and changes nothing in the training.
            average_half_life=1_500_000,
        ),
    ),
)

_TUNED = Config(
    preset="tuned-mnist",
    data=Data(source="mnist"),
    stages=(
        Stage(
            generator=MLPGenerator(),
            discriminator=MaxoutDiscriminator(init_range=0.02, keep_input=1.0, keep_hidden=1.0),
            game=Game(updates="simultaneous", relativistic=True, r1=5.0, r2=5.0),
            generator_optimizer=Adam(lr=1e-3, beta1=0.0, beta2=0.99),
            discriminator_optimizer=Adam(lr=1e-3, beta1=0.0, beta2=0.99),
            epochs=60,
            average_half_life=1_200_000,
        ),
    ),
)

_LARGE = Ticks(log=100, samples=1000, checkpoint=1000)
"""For nets of which a step takes seconds."""

_TFD_GENERATOR = MLPGenerator(
    prior="normal",
    hidden=(8000, 8000),
    activations=("relu", "sigmoid"),
    sigmoid_bias=-2.0,
    output_sparse_init=100,
    max_column_norm=_NORM,
)
_TFD_DISCRIMINATOR = MaxoutDiscriminator(units=(1200, 1200), max_column_norm=_NORM)
_TFD_BELOW = replace(
    _TFD_GENERATOR,
    # A new ReLU layer and a sigmoid layer of as many units as the first G's z has numbers.
    hidden=(8000,),
    activations=("relu",),
    output_sparse_init=None,
    output_bias=-2.0,
)
_TFD = Config(
    preset="paper-tfd",
    data=Data(source="tfd"),
    stages=(
        _published(_TFD_GENERATOR, _TFD_DISCRIMINATOR, lr=0.05, epochs=50),
        replace(
            _published(_TFD_BELOW, _TFD_DISCRIMINATOR, lr=0.05, epochs=22), below_previous=True
        ),
    ),
    ticks=_LARGE,
)

_CIFAR_GENERATOR = MLPGenerator(
    prior="normal",
    hidden=(8000, 8000),
    activations=("relu", "sigmoid"),
    output="linear",
    output_init_range=0.5,
    output_bias=0.0,
)
_CIFAR = Config(
    preset="paper-cifar",
    data=Data(source="cifar10", scaling="contrast"),
    stages=(
        _published(_CIFAR_GENERATOR, MaxoutDiscriminator(units=(1600, 1600)), 0.025, epochs=100),
    ),
    ticks=_LARGE,
)

_CIFAR_CONV = Config(
    preset="paper-cifar-conv",
    data=Data(source="cifar10", scaling="contrast", batch_size=128),
    stages=(_published(DeconvGenerator(), MaxoutConvDiscriminator(), 0.004, epochs=100),),
    ticks=_LARGE,
)


_MLP = Config(
    preset="mlp",
    data=Data(source="mnist", scaling="symmetric", batch_size=64),
    stages=(
        Stage(
            generator=MLPGenerator(
                prior="normal",
                hidden=(128, 256, 512, 1024),
                activations=("leaky_relu",) * 4,
                output="tanh",
                output_bias=0.0,
                batch_norm=True,
            ),
            discriminator=MLPDiscriminator(),
            game=Game(updates="simultaneous"),
            generator_optimizer=Adam(),
            discriminator_optimizer=Adam(),
            epochs=50,
        ),
    ),
)

_DCGAN = Config(
    preset="dcgan",
    data=Data(source="cifar10", size=64, scaling="symmetric", batch_size=64),
    stages=(
        Stage(
            generator=DCGANGenerator(),
            discriminator=DCGANDiscriminator(),
            game=Game(fakes="shared"),
            generator_optimizer=Adam(),
            discriminator_optimizer=Adam(),
            epochs=25,
        ),
    ),
    ticks=_LARGE,
)

_POINTS = Config(
    preset="points",
    data=Data(source="ring", scaling="none"),
    stages=(
        Stage(
            generator=MLPGenerator(
                latent_dim=2,
                prior="normal",
                hidden=(128, 128),
                output="linear",
                init_range=0.1,
                output_bias=0.0,
            ),
            discriminator=MaxoutDiscriminator(
                units=(128, 128), init_range=0.1, keep_input=1.0, keep_hidden=1.0
            ),
            generator_optimizer=Adam(lr=1e-3),
            discriminator_optimizer=Adam(lr=1e-3),
            steps=10_000,
            average_half_life=30_000,
        ),
    ),
    ticks=Ticks(log=500, samples=2500, checkpoint=2500),
    runtime=Runtime(precision="float32", threads=1),
)


@dataclass(frozen=True)
class Preset:
    """A config and the sentence that says what it is."""

    config: Config
    about: str


PRESETS: dict[str, Preset] = {
    preset.config.preset: preset
    for preset in (
        Preset(_DIGITS, "The 2014 pair, small, on scikit-learn's 8x8 digits; minutes, offline."),
        Preset(_POINTS, "The 2014 pair, small, on points of a line or plane; a minute, offline."),
        Preset(_MLP, "Fully connected nets with batch norm, as in tutorials, on MNIST."),
        Preset(_DCGAN, "Deep convolutional nets, for squares of 8 to 512 pixels (--size)."),
        Preset(_MNIST, "The 2014 MNIST experiment, the authors' configuration to the letter."),
        Preset(_TUNED, "The 2014 MNIST nets trained our way: pairs, slope penalties, Adam."),
        Preset(_TFD, "The 2014 Toronto Face Database experiment, its two stages of training."),
        Preset(_CIFAR, "The 2014 CIFAR-10 experiment, fully connected."),
        Preset(_CIFAR_CONV, "The 2014 CIFAR-10 experiment, convolutional D, deconvolutional G."),
    )
}

DEFAULT, DEFAULT_POINTS = "digits", "points"


def named(name: str) -> Config:
    """The config of a preset.

    Raises:
        UnknownNameError: there is none of that name; the nearest are in the message.
    """
    if name not in PRESETS:
        raise UnknownNameError("preset", name, PRESETS)
    return PRESETS[name].config


def starting_point(name: str) -> Config:
    """The config of a preset, or, given a source, the default one for pictures or points on it.

    Raises:
        UnknownNameError: it is neither.
    """
    if name in PRESETS:
        return named(name)
    if not names.is_source(name):
        known = {*PRESETS, *names.PICTURES, *names.POINTS}
        raise UnknownNameError("preset, data set, file or folder", name, known)
    config = named(DEFAULT_POINTS if names.gives_points(name) else DEFAULT)
    return replace(config, data=replace(config.data, source=name))


def default_out(config: Config) -> Path:
    """Where a run goes that is told no place: runs/, by preset, or by the data's own name."""
    own = config.data.source != PRESETS[config.preset].config.data.source
    return Path("runs") / (names.short(config.data.source) if own else config.preset)
