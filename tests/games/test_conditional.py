from dataclasses import replace

import numpy as np
import pytest
import torch

import advnets
from advnets import config
from advnets.errors import DataError, RunError, UsageError
from advnets.experiment.players import build_game
from advnets.experiment.train import train
from advnets.experiment.trained_model import load
from advnets.games.gan import GAN, ConditionalGAN
from advnets.models.dcgan import DCGANDiscriminator, DCGANGenerator
from advnets.protocols import Batch
from advnets.rng import RNG

SHAPE = (1, 8, 8)
NOISE = RNG(0)


def players(classes=3, **options):
    torch.manual_seed(0)
    return {
        "generator": DCGANGenerator(SHAPE, 4, 2, classes=classes, **options),
        "discriminator": DCGANDiscriminator(SHAPE, 2, classes=classes, **options),
    }


def batch(labels):
    images = torch.randn(len(labels), *SHAPE, generator=torch.Generator().manual_seed(1))
    return Batch(images, torch.tensor(labels))


@pytest.mark.parametrize("updates", ["alternating", "simultaneous"])
def test_with_zero_class_weights_it_equals_the_unconditional_game(updates):
    """With all class weights at 0 the losses are those of unconditional networks."""
    conditional_players, plain = players(), players(0)
    with torch.no_grad():
        for name, net in conditional_players.items():
            for actual, reference in zip(net.parameters(), plain[name].parameters(), strict=True):
                if actual.shape == reference.shape:
                    actual.copy_(reference)
                    continue
                axis = 0 if actual.shape[1:] == reference.shape[1:] else 1
                actual.zero_()
                actual.narrow(axis, 0, reference.shape[axis]).copy_(reference)
    labeled_batch = batch([0, 1, 2, 1])
    spec = config.GANGame(updates=updates)
    for actual, reference in zip(ConditionalGAN(spec).phases(), GAN(spec).phases(), strict=True):
        a, b = (
            actual.losses(conditional_players, labeled_batch, NOISE),
            reference.losses(plain, labeled_batch, NOISE),
        )
        for name, loss in b.losses.items():
            torch.testing.assert_close(a.losses[name], loss)


def test_samples_have_the_labels_of_the_minibatch():
    received = []

    class Watching(DCGANGenerator):
        def forward(self, z, rng=None):
            received.append(z[:, -3:].argmax(1).tolist())
            return super().forward(z, rng)

    conditional_players = players() | {"generator": Watching(SHAPE, 4, 2, classes=3)}
    for phase in ConditionalGAN(config.GANGame()).phases():
        phase.losses(conditional_players, batch([2, 0, 1, 1]), NOISE)
    assert received == [[2, 0, 1, 1]] * 2


def test_d_gets_the_labels_of_images_and_samples():
    received = []

    class Watching(DCGANDiscriminator):
        def forward(self, x, rng=None, labels=None):
            received.append(labels.tolist())
            return super().forward(x, rng, labels)

    conditional_players = players() | {"discriminator": Watching(SHAPE, 2, classes=3)}
    ConditionalGAN(config.GANGame(updates="simultaneous")).both(
        conditional_players, batch([2, 0, 1]), NOISE
    )
    assert received == [[2, 0, 1, 2, 0, 1]]


def test_a_minibatch_without_labels_is_refused():
    with pytest.raises(DataError, match="a conditional game got a minibatch without labels"):
        ConditionalGAN(config.GANGame()).both(players(), Batch(torch.zeros(2, *SHAPE)), NOISE)


@pytest.fixture
def conditional(tiny):
    stage = replace(
        tiny.stage,
        generator=config.DCGANGenerator(latent_dim=8, base_channels=8),
        discriminator=config.DCGANDiscriminator(base_channels=8),
        game=config.ConditionalGame(),
        generator_optimizer=config.Adam(lr=2e-3),
        discriminator_optimizer=config.Adam(lr=2e-3),
        ema_half_life=0,
    )
    data = replace(tiny.data, normalize="symmetric")
    return replace(tiny, data=data, stages=(stage,))


def test_samples_of_a_run_have_the_requested_class(conditional, tmp_path, console):
    """After 150 steps zeros are darker in the center than ones."""
    train(
        conditional.with_stage(replace(conditional.stage, steps=150)), tmp_path / "run", [console]
    )
    trained = load(tmp_path / "run")
    assert trained.conditional
    assert trained.info.classes == tuple("0123456789")
    zeros, ones = (trained.sample(100, label=name)[:, 0, 3:5, 3:5].mean() for name in ("0", "1"))
    assert zeros < ones - 0.1
    mixed = torch.arange(40) % 10
    assert torch.equal(
        trained.sample(40, label_index=mixed)[0], trained.sample(1, label_index=0)[0]
    )
    assert trained.latents(40, label_index=mixed)[:, -10:].argmax(1).tolist() == mixed.tolist()


def test_a_resumed_conditional_run_equals_an_uninterrupted_one(conditional, tmp_path, console):
    run = conditional.with_stage(replace(conditional.stage, steps=12))
    train(run, tmp_path / "whole", [console])
    train(run.with_stage(replace(run.stage, steps=6)), tmp_path / "cut", [console])
    train(run, tmp_path / "cut", [console], resume=True)
    uninterrupted, resumed = (
        load(tmp_path / name).sample(4, label="3") for name in ("whole", "cut")
    )
    assert torch.equal(uninterrupted, resumed)


def test_unlabeled_data_are_refused(conditional, tmp_path, console):
    ring = replace(conditional, data=config.Data(source="gaussian", normalize="none"))
    with pytest.raises(
        UsageError, match="a conditional game needs labels, and the data gaussian have none"
    ):
        train(ring, tmp_path / "run", [console])


def test_networks_without_labels_are_refused(tiny, tmp_path, console):
    stage = replace(tiny.stage, discriminator=config.MaxoutConvDiscriminator())
    run = tiny.with_stage(replace(stage, game=config.ConditionalGame()))
    with pytest.raises(UsageError, match="MaxoutConvDiscriminator does not take class labels"):
        train(run, tmp_path / "run", [console])


def test_a_class_cannot_be_requested_of_an_unconditional_run(tiny, tmp_path, console):
    train(tiny.with_stage(replace(tiny.stage, steps=2)), tmp_path / "run", [console])
    with pytest.raises(UsageError, match=r"a class was given, but .* is not class-conditional"):
        load(tmp_path / "run").sample(3, label="7")


def test_an_unknown_class_is_refused(conditional, tmp_path, console):
    train(conditional.with_stage(replace(conditional.stage, steps=2)), tmp_path / "run", [console])
    with pytest.raises(Exception, match="no class is called '12'; did you mean"):
        load(tmp_path / "run").sample(3, label="12")


def test_a_stored_game_is_read_by_its_kind():
    """A record without one is refused, and not taken for the GAN of 2014."""
    from advnets.config.serialize import from_json, to_json

    record = to_json(config.Stage())
    del record["game"]["kind"]
    with pytest.raises(RunError, match="does not fit this version of advnets"):
        from_json(record, config.Stage)
    conditional_stage = replace(config.Stage(), game=config.ConditionalGame(k=2))
    assert from_json(to_json(conditional_stage), config.Stage) == conditional_stage
    assert type(build_game(conditional_stage.game)) is ConditionalGAN


def test_unlabeled_data_in_memory_need_labels(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (60, 28, 28), np.uint8)
    message = "the data in memory have none; give labels=, a class for each image"
    with pytest.raises(UsageError, match=message):
        advnets.train("projection-mnist", data=images, out=tmp_path / "run", progress=False)
