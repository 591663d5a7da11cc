"""The registry of games: the class of each game, and the function that builds its players.

To add a game, write its config in `config/games.py`, its class in `games/`, and the builder of its
players and one entry of `GAMES` here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from advnets import config
from advnets.data.spec import in_memory
from advnets.errors import UsageError
from advnets.games.augment import check_augmentations
from advnets.games.custom import load_game
from advnets.games.encoders import ALI, VAE, LatentRegression
from advnets.games.gan import GAN, ConditionalGAN
from advnets.games.inpainting import Inpainting
from advnets.games.semi_supervised import SemiSupervisedGAN
from advnets.models.conditional import InpaintingGenerator, condition_size
from advnets.models.factory import (
    CLASSIFYING_DISCRIMINATORS,
    build_discriminator,
    build_generator,
    build_prior,
    concatenated_shape,
)
from advnets.models.layers import Shape
from advnets.models.mlp import MLPEncoder, MLPGenerator, StackedGenerator
from advnets.protocols import Game, is_per_sample

Players = dict[str, nn.Module]


@dataclass(frozen=True)
class BuildContext:
    """The inputs of the functions that build players."""

    stages: tuple[config.Stage, ...]
    """The stages of the run up to the one whose players are built."""
    shape: Shape
    mean_image: Tensor
    """The mean training image in the models' range."""
    classes: int
    """The number of classes of the data; 0 without labels."""
    source: str
    """The name of the data, for messages."""

    @property
    def stage(self) -> config.Stage:
        """The stage whose players are built."""
        return self.stages[-1]

    def generator(self, classes: int = 0) -> nn.Module:
        """Build the stage's generator; with `classes` it is class-conditional."""
        return _stage_generator(self.stages, self.shape, self.mean_image, classes)

    def num_classes(self, game: str) -> int:
        """Return the number of classes.

        Raises:
            UsageError: the data have no labels.
        """
        if not self.classes:
            if in_memory(self.source):
                what = "the data in memory have none; give labels=, a class for each image"
            else:
                what = (
                    f"the data {self.source} have none; give a labeled dataset, an image folder "
                    "with one subfolder for each class, or an .npz file with an array labels"
                )
            raise UsageError(f"a {game} game needs labels, and {what}")
        return self.classes


def build_game(spec: config.GameConfig, *, trust_code: bool = False) -> Game:
    """Return the game that a config describes; a custom game runs its file if it is trusted.

    Raises:
        RunError: the game is in a file that is not trusted or has changed.
    """
    if isinstance(spec, config.CustomGame):
        return load_game(spec, trust_code=trust_code)
    return GAMES[type(spec)].game(spec)


def build_players(
    run: config.Config, stage: int, shape: Shape, mean_image: Tensor, classes: int = 0
) -> Players:
    """Return the players of a stage, with initial weights determined by the run's seed.

    `mean_image` is the mean training image in the models' range, `classes` the number of classes of
    the data.

    Raises:
        UsageError: the game needs labels that the data do not have, does not fit its models,
            estimates penalties of a D with batch norm, or uses augmentations that have no effect on
            images of this size.
    """
    context = BuildContext(run.stages[: stage + 1], shape, mean_image, classes, run.data.source)
    game = context.stage.game
    check_augmentations(game.discriminator_augmentations, *shape[1:])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(init_seed(run.seed, stage))
        players = GAMES[type(game)].build_players(game, context)
    if (
        isinstance(game, config.GANGame)
        and game.estimates_penalty
        and not is_per_sample(players["discriminator"])
    ):
        raise UsageError(
            f"penalty is {game.penalty}, which compares D's logits of single images, but those of "
            "this discriminator may depend on the whole batch (batch norm); turn its batch norm "
            "off, declare per_sample = True in a model of your own, or set penalty to exact"
        )
    return players


def build_gan_players(game: config.GANGame, context: BuildContext) -> Players:
    """Return G, and a D whose input is `pac` images concatenated as channels."""
    channels, height, width = context.shape
    return {
        "generator": context.generator(),
        "discriminator": build_discriminator(
            context.stage.discriminator, (game.pac * channels, height, width)
        ),
    }


def build_custom_players(_game: config.CustomGame, context: BuildContext) -> Players:
    """Return the stage's G and D."""
    return {
        "generator": context.generator(),
        "discriminator": build_discriminator(context.stage.discriminator, context.shape),
    }


def build_conditional_players(_game: config.ConditionalGame, context: BuildContext) -> Players:
    """Return a class-conditional G and D."""
    classes = context.num_classes("conditional")
    return {
        "generator": context.generator(classes),
        "discriminator": build_discriminator(context.stage.discriminator, context.shape, classes),
    }


def build_ali_players(game: config.ALIGame, context: BuildContext) -> Players:
    """Return G, an encoder, and a fully connected D of an image and its latent."""
    generator = context.generator()
    latent_dim = _latent_dim(generator)
    if context.stage.discriminator.convolutional:
        raise UsageError(
            "ALIGame got a convolutional discriminator, but its input is an image with its latent; "
            "use a fully connected one, such as that of the preset inference-mnist"
        )
    return {
        "generator": generator,
        "encoder": MLPEncoder(context.shape, game.encoder, latent_dim),
        "discriminator": build_discriminator(
            context.stage.discriminator, concatenated_shape(context.shape, latent_dim)
        ),
    }


def build_latent_regression_players(
    game: config.LatentRegressionGame, context: BuildContext
) -> Players:
    """Return G and an encoder."""
    generator = context.generator()
    return {
        "generator": generator,
        "encoder": MLPEncoder(context.shape, game.encoder, _latent_dim(generator)),
    }


def build_inpainting_players(_game: config.InpaintingGame, context: BuildContext) -> Players:
    """Return a G of z, an image and its mask, and a D of an image and its mask."""
    spec, (channels, height, width) = context.stage.generator, context.shape
    if not isinstance(spec, config.MLPGenerator):
        raise UsageError(
            f"InpaintingGame got {type(spec).__name__}, but its generator must be fully connected; "
            "use MLPGenerator, as in the preset inpainting-mnist"
        )
    net = build_generator(
        config.with_wider_latent(spec, condition_size(context.shape)),
        context.shape,
        context.mean_image,
    )
    return {
        "generator": InpaintingGenerator(net, context.shape, build_prior(spec)),
        "discriminator": build_discriminator(
            context.stage.discriminator, (channels + 1, height, width)
        ),
    }


def build_semi_supervised_players(
    _game: config.SemiSupervisedGame, context: BuildContext
) -> Players:
    """Return G, and a D that classifies."""
    spec = context.stage.discriminator
    if type(spec) not in CLASSIFYING_DISCRIMINATORS:
        raise UsageError(
            f"SemiSupervisedGame got {type(spec).__name__}, but its discriminator must be a "
            "classifier; use the one of the preset semi-supervised-mnist"
        )
    classes = context.num_classes("semi-supervised")
    return {
        "generator": context.generator(),
        "discriminator": CLASSIFYING_DISCRIMINATORS[type(spec)](context.shape, spec, classes),
    }


def build_vae_players(game: config.VAEGame, context: BuildContext) -> Players:
    """Return the decoder and the encoder."""
    spec = context.stage.generator
    if not isinstance(spec, config.MLPGenerator) or spec.prior != "normal":
        raise UsageError(
            "VAEGame needs a fully connected generator with a normal prior; "
            "set prior to normal, as in the preset vae-mnist"
        )
    if game.likelihood == "bernoulli" and spec.output != "sigmoid":
        raise UsageError(
            f"likelihood is bernoulli, which needs a sigmoid output, and output is {spec.output}; "
            "set output to sigmoid or likelihood to normal"
        )
    if game.encoder.deterministic:
        raise UsageError(
            "deterministic is set, but the ELBO needs an encoder with a distribution of z; "
            "leave deterministic out"
        )
    return {
        "generator": context.generator(),
        "encoder": MLPEncoder(context.shape, game.encoder, spec.latent_dim),
    }


class GameSpec(NamedTuple):
    """The registry entry of a game."""

    game: Callable[..., Game]
    """The class of the game, called with its config."""
    build_players: Callable[[Any, BuildContext], Players]
    """The function that builds its players, called with its config and a context."""


GAMES: dict[type[config.BaseGame], GameSpec] = {
    config.GANGame: GameSpec(GAN, build_gan_players),
    config.ConditionalGame: GameSpec(ConditionalGAN, build_conditional_players),
    config.ALIGame: GameSpec(ALI, build_ali_players),
    config.LatentRegressionGame: GameSpec(LatentRegression, build_latent_regression_players),
    config.InpaintingGame: GameSpec(Inpainting, build_inpainting_players),
    config.SemiSupervisedGame: GameSpec(SemiSupervisedGAN, build_semi_supervised_players),
    config.VAEGame: GameSpec(VAE, build_vae_players),
    config.CustomGame: GameSpec(load_game, build_custom_players),
}
"""The game and the player builder of each game config."""


def init_seed(seed: int, stage: int) -> int:
    """Return the seed of a stage's initial weights."""
    digest = hashlib.blake2b(f"{seed}/initial weights/{stage}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")


def _stage_generator(
    stages: tuple[config.Stage, ...], shape: Shape, mean_image: Tensor, classes: int = 0
) -> nn.Module:
    """Build the generator of the last stage, on top of the earlier ones if it is stacked."""
    *earlier, stage = stages
    if not stage.on_top_of_previous:
        return build_generator(stage.generator, shape, mean_image, classes)
    top = _stage_generator(tuple(earlier), shape, mean_image)
    top = cast(MLPGenerator | StackedGenerator, top)
    bottom = build_generator(stage.generator, (top.latent_dim, 1, 1), None)
    return StackedGenerator(cast(MLPGenerator, bottom), top)


def _latent_dim(generator: nn.Module) -> int:
    return cast(MLPGenerator, generator).latent_dim
