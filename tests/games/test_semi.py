"""The semi-supervised game: what D is asked for, and what its nets compute."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from advnets import config
from advnets.errors import DataError, UsageError
from advnets.games.augment import augmented
from advnets.games.semi import SemiSupervisedNets
from advnets.nets.semi import SemiSupervisedConvDiscriminator, SemiSupervisedDiscriminator
from advnets.noise import Noise
from advnets.objectives import mutual_information
from advnets.types import Batch

NOISE = Noise(11)


def test_d_is_asked_for_the_same_class_through_augmentations(linear_g):
    """The game's loss is that without consistency, less the weighted information of the classes."""

    x = NOISE.uniform("x", 12, 1, 8, 8)
    batch = Batch(x, beside=Batch(x[:6].repeat(2, 1, 1, 1), torch.arange(12) % 3))
    torch.manual_seed(0)
    spec = config.SemiSupervisedConvDiscriminator((8, 8), strides=(2, 2), norm="weight")
    players = {
        "generator": linear_g(4, 1, 8, 8),
        "discriminator": SemiSupervisedConvDiscriminator((1, 8, 8), spec, 3),
    }

    def outcome(**options):
        game = SemiSupervisedNets(config.SemiSupervisedGame(**options))
        return game.discriminator(players, batch, NOISE)

    shown = {"augmentations": ("translate", "affine")}
    unseen, seen, found = outcome(), outcome(**shown), outcome(**shown, consistency=2.0)
    unseen, seen, both = (some.losses["discriminator"] for some in (unseen, seen, found))
    assert not torch.isclose(unseen, seen)
    torch.testing.assert_close(both, seen - 2.0 * found.observed["information"])
    d = players["discriminator"]
    views = augmented(x, shown["augmentations"], torch.ones(()), NOISE.stacked("real"))
    classes = (d.class_logits(d.hidden(some)) for some in (views, x))
    torch.testing.assert_close(found.observed["information"], mutual_information(*classes))
    with pytest.raises(UsageError, match=r"say --game\.augmentations translate affine"):
        config.SemiSupervisedGame(consistency=1.0)
    with pytest.raises(UsageError, match="2 widths and 1 strides came"):
        config.SemiSupervisedConvDiscriminator(widths=(8, 8), strides=(2,))


def test_maps_are_normed_by_their_batch_or_made_by_normed_weights():
    """As PyTorch's own operations give it, written out."""
    x = NOISE.uniform("x", 6, 1, 8, 8)
    torch.manual_seed(0)
    for norm in ("batch", "weight"):
        spec = config.SemiSupervisedConvDiscriminator((4, 5), strides=(2, 1), norm=norm)
        d, h = SemiSupervisedConvDiscriminator((1, 8, 8), spec, 3), x
        for layer, stride, around in zip(d.layers, (2, 1), (2, 1), strict=True):
            if norm == "batch":
                conv, scale = layer
                h = F.conv2d(h, conv.weight, None, stride, around)
                h = F.batch_norm(h, None, None, scale.weight, scale.bias, training=True)
            else:
                length = layer.direction.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
                weight = layer.gain.reshape(-1, 1, 1, 1) * layer.direction / length
                h = F.conv2d(h, weight, layer.bias, stride, around)
            h = F.leaky_relu(h, 0.2)
        torch.testing.assert_close(d.hidden(x), h.flatten(1))


def test_at_once_or_in_turn_the_losses_are_the_same(linear_g):
    """Before anybody has moved, one pass of D gives both players what two passes give them."""
    x = NOISE.uniform("x", 12, 1, 1, 6)
    batch = Batch(x, beside=Batch(x[:4], torch.arange(4) % 3))
    spec = config.SemiSupervisedDiscriminator(units=(8, 8))
    players = {
        "generator": linear_g(4, 1, 1, 6),
        "discriminator": SemiSupervisedDiscriminator((1, 1, 6), spec, 3),
    }
    game = SemiSupervisedNets(config.SemiSupervisedGame(updates="simultaneous"))
    (phase,) = game.phases()
    both = phase.losses(players, batch, NOISE)
    in_turn = game.discriminator(players, batch, NOISE), game.generator(players, batch, NOISE)
    for player, outcome in zip(("discriminator", "generator"), in_turn, strict=True):
        torch.testing.assert_close(both.losses[player], outcome.losses[player])
    weights = [*players["generator"].parameters()]
    of_g = torch.autograd.grad(both.losses["generator"], weights)
    alone = torch.autograd.grad(in_turn[1].losses["generator"], weights)
    torch.testing.assert_close(of_g, alone)


def test_labelled_pictures_are_asked_for(linear_g):
    players = {
        "discriminator": SemiSupervisedDiscriminator(
            (1, 1, 2), config.SemiSupervisedDiscriminator(units=(4,)), 2
        ),
        "generator": linear_g(2, 1, 1, 2),
    }
    for unlabelled in (True, False):
        nets = SemiSupervisedNets(config.SemiSupervisedGame(unlabelled=unlabelled))
        with pytest.raises(DataError, match="a batch without labelled pictures beside it"):
            nets.discriminator(players, Batch(torch.zeros(2, 1, 1, 2)), NOISE)
