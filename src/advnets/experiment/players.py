"""Who plays: the players of each game, with the initial weights that a run's seed gives."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatch
from typing import Any, cast

import torch
from torch import Tensor, nn

from advnets import config
from advnets.errors import UsageError
from advnets.games.augment import check_augmentations
from advnets.games.conditional import ConditionalGAN
from advnets.games.custom import load_game
from advnets.games.gan import GAN
from advnets.games.inference import ALI
from advnets.games.inpainting import Inpainting
from advnets.games.latent_regression import LatentRegression
from advnets.games.semi_supervised import SemiSupervisedGAN
from advnets.games.vae import VAE
from advnets.models.encoder import MLPEncoder
from advnets.models.factory import (
    build_discriminator,
    build_generator,
    build_prior,
    concatenated_shape,
)
from advnets.models.inpainting import InpaintingGenerator, conditions
from advnets.models.layers import Shape
from advnets.models.mlp import MLPGenerator, StackedGenerator
from advnets.models.semi_supervised import (
    SemiSupervisedConvDiscriminator,
    SemiSupervisedDiscriminator,
)
from advnets.protocols import Game

GAMES: dict[type[config.AnyGame], Callable[[Any], Game]] = {
    config.Game: GAN,
    config.ConditionalGame: ConditionalGAN,
    config.InferenceGame: ALI,
    config.LatentRegressionGame: LatentRegression,
    config.InpaintingGame: Inpainting,
    config.SemiSupervisedGame: SemiSupervisedGAN,
    config.VAEGame: VAE,
}
"""Which game a config stands for, but for one of a file."""

CLASSIFYING: dict[type[config.DiscriminatorConfig], Callable[[Shape, Any, int], nn.Module]] = {
    config.SemiSupervisedDiscriminator: SemiSupervisedDiscriminator,
    config.SemiSupervisedConvDiscriminator: SemiSupervisedConvDiscriminator,
}
"""Which D that tells classes a config stands for."""

Players = dict[str, nn.Module]

_CONVOLUTIONAL = (
    config.DCGANDiscriminator,
    config.ResidualDiscriminator,
    config.MaxoutConvDiscriminator,
)


@dataclass(frozen=True)
class BuildContext:
    """All that players are made from beside their own configs."""

    stages: tuple[config.Stage, ...]
    shape: Shape
    marginals: Tensor
    """The mean training image in the nets' range."""
    classes: int
    """How many labels the data have."""
    source: str

    @property
    def stage(self) -> config.Stage:
        """The one that is played."""
        return self.stages[-1]


def build_game(spec: config.GameConfig, *, trust_code: bool = False) -> Game:
    """Return the game that a config stands for; that of a file runs it, if its code is trusted.

    Raises:
        RunError: it is a file's, and the code is not trusted or has changed.
    """
    if isinstance(spec, config.CustomGame):
        return load_game(spec, trust_code=trust_code)
    return GAMES[type(spec)](spec)


def build_players(
    run: config.Config, stage: int, shape: Shape, marginals: Tensor, classes: int = 0
) -> Players:
    """The players of a stage, with the initial weights that the run's seed gives.

    `marginals` is the mean training image in the nets' range, `classes` how many labels the data
    have.

    Raises:
        UsageError: a game is told labels that the data lack, is given nets it cannot have, or shows
            images through augmentations that are too small for them.
    """
    check_augmentations(run.stages[stage].game.discriminator_views, *shape[1:])
    seats = BuildContext(run.stages[: stage + 1], shape, marginals, classes, run.data.source)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(init_seed(run.seed, stage))
        return build_game_players(seats.stage.game, seats)


@singledispatch
def build_game_players(game: config.AnyGame, context: BuildContext) -> Players:
    """The players of a game."""
    raise NotImplementedError(f"nobody plays {type(game).__name__}")


@build_game_players.register
def _(game: config.Game, context: BuildContext) -> Players:
    channels, height, width = context.shape
    shown = (game.pac * channels, height, width)
    return {
        "generator": stage_generator(context.stages, context.shape, context.marginals),
        "discriminator": build_discriminator(context.stage.discriminator, shown),
    }


@build_game_players.register
def _(game: config.CustomGame, context: BuildContext) -> Players:  # noqa: ARG001
    return {
        "generator": stage_generator(context.stages, context.shape, context.marginals),
        "discriminator": build_discriminator(context.stage.discriminator, context.shape),
    }


@build_game_players.register
def _(game: config.ConditionalGame, context: BuildContext) -> Players:  # noqa: ARG001
    classes = _classes(context, "conditional")
    return {
        "generator": stage_generator(context.stages, context.shape, context.marginals, classes),
        "discriminator": build_discriminator(context.stage.discriminator, context.shape, classes),
    }


@build_game_players.register
def _(game: config.InferenceGame, context: BuildContext) -> Players:
    generator = stage_generator(context.stages, context.shape, context.marginals)
    joint = concatenated_shape(context.shape, _latent_dim(generator))
    if isinstance(context.stage.discriminator, _CONVOLUTIONAL):
        raise UsageError(
            "a convolutional D came to an inference game, in which D is shown images with z; "
            "give a fully connected one, as preset inference-mnist has it"
        )
    return {
        "generator": generator,
        "encoder": MLPEncoder(context.shape, game.encoder, _latent_dim(generator)),
        "discriminator": build_discriminator(context.stage.discriminator, joint),
    }


@build_game_players.register
def _(game: config.LatentRegressionGame, context: BuildContext) -> Players:
    generator = stage_generator(context.stages, context.shape, context.marginals)
    return {
        "generator": generator,
        "encoder": MLPEncoder(context.shape, game.encoder, _latent_dim(generator)),
    }


@build_game_players.register
def _(game: config.InpaintingGame, context: BuildContext) -> Players:  # noqa: ARG001
    spec, (channels, height, width) = context.stage.generator, context.shape
    if not isinstance(spec, config.MLPGenerator):
        raise UsageError(
            "a convolutional G came to a completion game, in which G is given an image; give "
            "a fully connected one, as preset completion-mnist has it"
        )
    inner = build_generator(
        config.with_wider_latent(spec, conditions(context.shape)), context.shape, context.marginals
    )
    shown = (channels + 1, height, width)
    return {
        "generator": InpaintingGenerator(inner, context.shape, build_prior(spec)),
        "discriminator": build_discriminator(context.stage.discriminator, shown),
    }


@build_game_players.register
def _(game: config.SemiSupervisedGame, context: BuildContext) -> Players:  # noqa: ARG001
    spec = context.stage.discriminator
    if type(spec) not in CLASSIFYING:
        raise UsageError(
            f"{type(spec).__name__} came to a semi-supervised game, whose D tells classes; "
            "give the one that preset semi-mnist has"
        )
    classes = _classes(context, "semi-supervised")
    return {
        "generator": stage_generator(context.stages, context.shape, context.marginals),
        "discriminator": CLASSIFYING[type(spec)](context.shape, spec, classes),
    }


@build_game_players.register
def _(game: config.VAEGame, context: BuildContext) -> Players:
    spec = context.stage.generator
    if not isinstance(spec, config.MLPGenerator) or spec.prior != "normal":
        raise UsageError(
            "the ELBO was asked for of a generator that is not fully connected with a normal "
            "prior; say --generator.prior normal, as preset vae-mnist does"
        )
    if game.likelihood == "bernoulli" and spec.output != "sigmoid":
        raise UsageError(
            f"Bernoulli pixels were asked for of a generator with {spec.output} output; say "
            "--generator.output sigmoid or --game.likelihood normal"
        )
    if game.encoder.deterministic:
        raise UsageError(
            "a deterministic encoder came to the ELBO, which needs a distribution of z; "
            "leave --game.encoder.deterministic out"
        )
    generator = stage_generator(context.stages, context.shape, context.marginals)
    return {
        "generator": generator,
        "encoder": MLPEncoder(context.shape, game.encoder, spec.latent_dim),
    }


def stage_generator(
    stages: tuple[config.Stage, ...], shape: Shape, marginals: Tensor, classes: int = 0
) -> nn.Module:
    """The generator of the last of these stages, upon those of the stages before it."""
    *before, stage = stages
    if not stage.on_top_of_previous:
        return build_generator(stage.generator, shape, marginals, classes)
    top = cast(MLPGenerator | StackedGenerator, stage_generator(tuple(before), shape, marginals))
    bottom = build_generator(stage.generator, (top.latent_dim, 1, 1), None)
    return StackedGenerator(cast(MLPGenerator, bottom), top)


def init_seed(seed: int, stage: int) -> int:
    """The seed of a stage's initial weights."""
    digest = hashlib.blake2b(f"{seed}/initial weights/{stage}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")


def _latent_dim(generator: nn.Module) -> int:
    return cast(MLPGenerator, generator).latent_dim


def _classes(context: BuildContext, game: str) -> int:
    if not context.classes:
        raise UsageError(
            f"a {game} game was asked for on {context.source}, whose images have no "
            "labels; give a labeled set, or a folder with a folder for each class"
        )
    return context.classes
