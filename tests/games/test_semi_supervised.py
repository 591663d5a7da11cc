"""The semi-supervised game: its losses, and what its networks compute."""

import pytest
import torch
from torch.nn import functional as F

from advnets import config
from advnets.errors import DataError, UsageError
from advnets.games.augment import augment
from advnets.games.semi_supervised import SemiSupervisedGAN
from advnets.losses import mutual_information
from advnets.models.classifiers import SemiSupervisedConvDiscriminator, SemiSupervisedDiscriminator
from advnets.protocols import Batch
from advnets.rng import RNG

NOISE = RNG(11)


def test_consistency_rewards_equal_classes_under_augmentation(linear_g):
    """The loss is that without consistency minus the weighted mutual information."""

    x = NOISE.uniform("x", 12, 1, 8, 8)
    batch = Batch(x, labeled=Batch(x[:6].repeat(2, 1, 1, 1), torch.arange(12) % 3))
    torch.manual_seed(0)
    spec = config.SemiSupervisedConvDiscriminator((8, 8), strides=(2, 2), norm="weight")
    players = {
        "generator": linear_g(4, 1, 8, 8),
        "discriminator": SemiSupervisedConvDiscriminator((1, 8, 8), spec, 3),
    }

    def outcome(**options):
        game = SemiSupervisedGAN(config.SemiSupervisedGame(**options))
        return game.discriminator(players, batch, NOISE)

    options = {"augmentations": ("translate", "affine")}
    plain, augmented, consistent = (
        outcome(),
        outcome(**options),
        outcome(**options, consistency=2.0),
    )
    plain, augmented, both = (
        output.losses["discriminator"] for output in (plain, augmented, consistent)
    )
    assert not torch.isclose(plain, augmented)
    torch.testing.assert_close(both, augmented - 2.0 * consistent.metrics["information"])
    d = players["discriminator"]
    views = augment(x, options["augmentations"], torch.ones(()), NOISE.split_streams("real"))
    classes = (d.class_logits(d.hidden(output)) for output in (views, x))
    torch.testing.assert_close(consistent.metrics["information"], mutual_information(*classes))
    with pytest.raises(UsageError, match=r"set augmentations to translate affine"):
        config.SemiSupervisedGame(consistency=1.0)
    with pytest.raises(UsageError, match="channels has 2 values and strides has 1"):
        config.SemiSupervisedConvDiscriminator(channels=(8, 8), strides=(2,))


def small_players(linear_g, units=(8, 8)):
    torch.manual_seed(0)
    spec = config.SemiSupervisedDiscriminator(units, noise_input=0.0, noise_hidden=0.0)
    return {
        "generator": linear_g(4, 1, 1, 6),
        "discriminator": SemiSupervisedDiscriminator((1, 1, 6), spec, 3),
    }


@pytest.mark.parametrize("updates", ["alternating", "simultaneous"])
def test_the_losses_equal_their_formulas(linear_g, updates):
    """Cross-entropy of the labeled, D(x) = Σ exp l / (Σ exp l + 1), means of features."""
    players = small_players(linear_g)
    x = NOISE.uniform("x", 12, 1, 1, 6)
    batch = Batch(x, labeled=Batch(NOISE.uniform("few", 5, 1, 1, 6), torch.arange(5) % 3))
    game = SemiSupervisedGAN(config.SemiSupervisedGame(updates=updates))
    outcomes = [phase.losses(players, batch, NOISE) for phase in game.phases()]
    reading = {phase.name: phase.reads_data for phase in game.phases()}
    in_turn = {"discriminator": True, "generator": False}
    assert reading == ({"both": True} if updates == "simultaneous" else in_turn)
    g, d = players["generator"], players["discriminator"]
    fake = g(g.latent(12, NOISE))
    l_few, l_real, l_fake = (
        d.class_logits(d.hidden(images)).double() for images in (batch.labeled.images, x, fake)
    )
    supervised = -l_few.log_softmax(1)[torch.arange(5), torch.arange(5) % 3].mean()
    d_real, d_fake = (
        images.exp().sum(1) / (images.exp().sum(1) + 1) for images in (l_real, l_fake)
    )
    of_d = supervised - 0.5 * d_real.log().mean() - 0.5 * (1 - d_fake).log().mean()
    feature_distance = (d.hidden(x).mean(0) - d.hidden(fake).mean(0)).square().mean()
    first, last = outcomes[0], outcomes[-1]
    assert first.losses["discriminator"].item() == pytest.approx(of_d.item(), rel=1e-5)
    assert last.losses["generator"].item() == pytest.approx(feature_distance.item(), rel=1e-5)
    assert first.metrics["loss/labeled"].item() == pytest.approx(supervised.item(), rel=1e-5)
    assert first.metrics["d_real"].item() == pytest.approx(d_real.mean().item(), rel=1e-5)
    assert first.metrics["d_fake"].item() == pytest.approx(d_fake.mean().item(), rel=1e-5)


def test_without_unlabeled_images_the_loss_is_the_cross_entropy_alone(linear_g):
    players = small_players(linear_g)
    d, few = players["discriminator"], NOISE.uniform("few", 5, 1, 1, 6)
    labels = torch.arange(5) % 3
    batch = Batch(NOISE.uniform("x", 12, 1, 1, 6), labeled=Batch(few, labels))
    (phase,) = SemiSupervisedGAN(config.SemiSupervisedGame(unlabeled_loss=False)).phases()
    assert phase.name == "discriminator"
    outcome = phase.losses(players, batch, NOISE)
    expected = F.cross_entropy(d.class_logits(d.hidden(few)), labels)
    assert set(outcome.losses) == {"discriminator"}
    assert outcome.losses["discriminator"].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("updates", ["alternating", "simultaneous"])
@pytest.mark.parametrize("generated", [0, 5, 30])
def test_the_number_of_generated_samples_is_an_option(linear_g, updates, generated):
    """Every phase generates this number; 0: as many as there are unlabeled images."""
    players = small_players(linear_g)
    samples, g = [], players["generator"]
    latent = g.latent
    g.latent = lambda n, rng: (samples.append(n), latent(n, rng))[1]
    x = NOISE.uniform("x", 12, 1, 1, 6)
    batch = Batch(x, labeled=Batch(x[:4], torch.arange(4) % 3))
    spec = config.SemiSupervisedGame(updates=updates, generated_batch=generated)
    phases = SemiSupervisedGAN(spec).phases()
    outcomes = [phase.losses(players, batch, NOISE) for phase in phases]
    n = generated or 12
    assert samples == [n] * len(phases)
    d = players["discriminator"]
    fake = d(g(latent(n, NOISE)))
    d_fake = outcomes[0].metrics["d_fake"].item()
    assert d_fake == pytest.approx(fake.sigmoid().mean().item(), rel=1e-5)


@pytest.mark.parametrize("updates", ["alternating", "simultaneous"])
def test_both_views_of_an_image_have_a_gradient(linear_g, updates):
    """D's gradient of the consistency is that of -λ I(c; c') in c and in c'."""
    players = small_players(linear_g)
    d = players["discriminator"]
    x = NOISE.uniform("x", 12, 1, 1, 6)
    batch = Batch(x, labeled=Batch(x[:6], torch.arange(6) % 3))
    options = {"augmentations": ("flip", "affine"), "updates": updates}
    losses = [
        SemiSupervisedGAN(config.SemiSupervisedGame(**options, consistency=weight))
        .phases()[0]
        .losses(players, batch, NOISE)
        .losses["discriminator"]
        for weight in (2.0, 0.0)
    ]
    view = augment(x, options["augmentations"], torch.ones(()), NOISE.split_streams("real"))
    c, view_classes = (d.class_logits(d.hidden(inputs)) for inputs in (view, x))
    expected = -2.0 * mutual_information(c, view_classes)
    halves = [
        -2.0 * mutual_information(*inputs)
        for inputs in ((c.detach(), view_classes), (c, view_classes.detach()))
    ]
    weights = list(d.parameters())
    consistent, supervised, *parts = (
        torch.autograd.grad(loss, weights, retain_graph=True)
        for loss in (losses[0] - losses[1], expected, *halves)
    )
    for total, base, first, second in zip(consistent, supervised, *parts, strict=True):
        torch.testing.assert_close(total, base, rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(first + second, base, rtol=1e-3, atol=1e-6)
    assert all(sum(part.abs().sum() for part in inputs) > 1e-3 for inputs in parts)


@pytest.mark.parametrize("updates", ["alternating", "simultaneous"])
def test_feature_matching_has_no_gradient_through_real_features(linear_g, updates):
    """Real features are a constant target of G's loss."""
    players = small_players(linear_g)
    x = NOISE.uniform("x", 12, 1, 1, 6).requires_grad_()
    batch = Batch(x, labeled=Batch(x[:6].detach(), torch.arange(6) % 3))
    phase = SemiSupervisedGAN(config.SemiSupervisedGame(updates=updates)).phases()[-1]
    loss = phase.losses(players, batch, NOISE).losses["generator"]
    of_x, *of_g = torch.autograd.grad(
        loss, [x, *players["generator"].parameters()], allow_unused=True
    )
    assert of_x is None or not of_x.any()
    assert all(gradient.abs().sum() > 0 for gradient in of_g)


def test_feature_maps_have_batch_or_weight_normalization():
    """Compared with PyTorch's own operations."""
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


def test_simultaneous_and_alternating_losses_are_equal(linear_g):
    """Before any update, one pass of D gives both players the losses of two passes."""
    x = NOISE.uniform("x", 12, 1, 1, 6)
    batch = Batch(x, labeled=Batch(x[:4], torch.arange(4) % 3))
    spec = config.SemiSupervisedDiscriminator(hidden_sizes=(8, 8))
    players = {
        "generator": linear_g(4, 1, 1, 6),
        "discriminator": SemiSupervisedDiscriminator((1, 1, 6), spec, 3),
    }
    game = SemiSupervisedGAN(config.SemiSupervisedGame(updates="simultaneous"))
    (phase,) = game.phases()
    both = phase.losses(players, batch, NOISE)
    in_turn = game.discriminator(players, batch, NOISE), game.generator(players, batch, NOISE)
    for player, outcome in zip(("discriminator", "generator"), in_turn, strict=True):
        torch.testing.assert_close(both.losses[player], outcome.losses[player])
    weights = [*players["generator"].parameters()]
    of_g = torch.autograd.grad(both.losses["generator"], weights)
    separate = torch.autograd.grad(in_turn[1].losses["generator"], weights)
    torch.testing.assert_close(of_g, separate)


def test_a_minibatch_without_labeled_images_is_refused(linear_g):
    players = {
        "discriminator": SemiSupervisedDiscriminator(
            (1, 1, 2), config.SemiSupervisedDiscriminator(hidden_sizes=(4,)), 2
        ),
        "generator": linear_g(2, 1, 1, 2),
    }
    for unlabeled in (True, False):
        nets = SemiSupervisedGAN(config.SemiSupervisedGame(unlabeled_loss=unlabeled))
        with pytest.raises(
            DataError, match="a semi-supervised game got a minibatch without labeled images"
        ):
            nets.discriminator(players, Batch(torch.zeros(2, 1, 1, 2)), NOISE)


def test_feature_matching_excludes_the_noise_of_the_last_layer(linear_g):
    """As in the published code, noise of the last layer affects the classes, not the features."""
    x = NOISE.uniform("x", 12, 1, 1, 6)
    batch = Batch(x, labeled=Batch(x[:4], torch.arange(4) % 3))
    spec = config.SemiSupervisedDiscriminator(hidden_sizes=(8,), noise_input=0.0, noise_hidden=0.5)
    d = SemiSupervisedDiscriminator((1, 1, 6), spec, 3)
    g = linear_g(4, 1, 1, 6)
    game = SemiSupervisedGAN(config.SemiSupervisedGame())
    players = {"generator": g, "discriminator": d}
    matched = game.generator(players, batch, NOISE).losses["generator"]
    of_real, of_fake = (
        d.hidden(images).mean(0) for images in (x, game.samples(players, batch, NOISE))
    )
    torch.testing.assert_close(matched, (of_real - of_fake).square().mean())
    noisy = d.hidden(x) + 0.5 * NOISE.fast_normal("discriminator/noise1", 12, 8)
    torch.testing.assert_close(d(x, NOISE), d.class_logits(noisy).logsumexp(1))
    assert not torch.isclose(d(x, NOISE), d(x)).any()
