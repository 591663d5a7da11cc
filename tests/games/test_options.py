"""Options of the GAN: schedules, augmentation, packing, objectives and penalties."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from advnets import config
from advnets.data.prepared import open_data
from advnets.errors import UsageError
from advnets.experiment import setup
from advnets.games.augment import augment, check_augmentations
from advnets.games.gan import GAN, pack_channels, unpack_channels
from advnets.losses import OBJECTIVES, critic_metrics, logit_metrics, pair_metrics
from advnets.models.layers import Prior
from advnets.protocols import Batch
from advnets.rng import RNG
from advnets.training.step import train_step

NOISE = RNG(0)
STEPS = 10
"""Steps over which schedules run."""


class Generator(nn.Module):
    """G(z), linear: 2 x 8 x 8 images of 3 numbers."""

    latent_dim = 3

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 128)

    def latent(self, n, rng):
        return rng.normal("latent", n, 3)

    def forward(self, z, rng=None):
        return self.linear(z).view(-1, 2, 8, 8)


class Discriminator(nn.Module):
    """a(x), a small network that records its inputs."""

    def __init__(self, channels=2):
        super().__init__()
        self.first, self.last = nn.Linear(channels * 64, 5), nn.Linear(5, 1)
        self.inputs = []

    def forward(self, x, rng=None):
        self.inputs.append(x)
        return self.last(torch.tanh(self.first(x.flatten(1)))).squeeze(1)


def players(channels=2):
    torch.manual_seed(0)
    return {"generator": Generator(), "discriminator": Discriminator(channels)}


BATCH = Batch(torch.randn(12, 2, 8, 8, generator=torch.Generator().manual_seed(1)))


def scheduled(phase, step):
    """Return the minibatch with the values of the phase's schedules, as `train_step` passes it."""
    progress = min(1.0, step / STEPS)
    values = {name: torch.tensor(each.at(progress)) for name, each in phase.schedules.items()}
    return replace(BATCH, scheduled=values)


def first(spec, nets, rng=NOISE):
    """Return the output of the phase in which D is updated, at the step of `rng`."""
    phase = GAN(spec).phases()[0]
    return phase.losses(nets, scheduled(phase, rng.step), rng)


@pytest.mark.parametrize("updates", ["alternating", "simultaneous"])
def test_penalty_weights_can_follow_a_cosine_schedule(updates):
    """At step 5 of 10 they are half way; after the end they are constant."""
    scheduled_spec = config.GANGame(updates=updates, r1=4.0, r1_final=1.0, r2=0.0, r2_final=3.0)
    for step, r1, r2 in ((0, 4.0, 0.0), (5, 2.5, 1.5), (10, 1.0, 3.0), (99, 1.0, 3.0)):
        constant_spec = config.GANGame(updates=updates, r1=r1, r2=r2)
        same_losses(scheduled_spec, constant_spec, step)


def test_penalty_weights_can_follow_a_geometric_schedule():
    """Half way they are the geometric mean of both ends."""
    scheduled_spec = config.GANGame(
        r1=4.0, r1_final=0.01, r2=1.0, r2_final=1e-4, penalty_schedule="geometric"
    )
    for step, r1, r2 in ((0, 4.0, 1.0), (5, 0.2, 0.01), (10, 0.01, 1e-4), (99, 0.01, 1e-4)):
        same_losses(scheduled_spec, config.GANGame(r1=r1, r2=r2), step)


def same_losses(scheduled_spec, constant_spec, step):
    """Assert that at this step D's loss is that of a game with constant penalties."""
    losses = [
        first(spec, players(), NOISE.at_step(step)).losses["discriminator"]
        for spec in (scheduled_spec, constant_spec)
    ]
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-6)


@pytest.mark.parametrize("updates", ["alternating", "simultaneous"])
@pytest.mark.parametrize("relativistic", [False, True])
def test_images_and_samples_are_augmented_before_d(updates, relativistic):
    """For both players, with the probability of the step; at step 0 nothing changes."""
    spec = config.GANGame(updates=updates, relativistic=relativistic, augment_prob=0.8)
    for step, changed in ((0, False), (10, True)):
        for phase in GAN(spec).phases():
            nets, rng = players(), NOISE.at_step(step)
            phase.losses(nets, scheduled(phase, step), rng)
            fake = nets["generator"](nets["generator"].latent(12, rng))
            plain = {"real": BATCH.images, "fake": fake}
            inputs = torch.cat(nets["discriminator"].inputs)
            streams = ("fake", "real") if phase.name == "generator" else ("real", "fake")
            for stream, part in zip(streams, inputs.split(12), strict=False):
                expected = augment(
                    plain[stream],
                    spec.augmentations,
                    torch.tensor(0.8 * changed),
                    rng.split_streams(stream),
                )
                torch.testing.assert_close(part, expected)
                assert torch.equal(part, plain[stream]) != changed


def test_only_the_chosen_augmentations_are_used():
    nets = players()
    spec = config.GANGame(augment_prob=1.0, augmentations=("flip",))
    first(spec, nets, NOISE.at_step(10))
    real = nets["discriminator"].inputs[0][:12]
    mirrored = (real == BATCH.images.flip(-1)).flatten(1).all(1)
    assert 0 < int(mirrored.sum()) < len(real)
    assert torch.equal(real[~mirrored], BATCH.images[~mirrored])


def test_r1_uses_gradients_in_the_images_before_augmentation():
    """∇_x a(T(x)), compared with a derivative through T computed here."""
    spec = config.GANGame(r1=2.0, augment_prob=1.0)
    nets, rng = players(), NOISE.at_step(10)
    outcome = first(spec, nets, rng)
    x = BATCH.images.clone().requires_grad_()
    augmented = augment(x, spec.augmentations, torch.tensor(1.0), rng.split_streams("real"))
    (slope,) = torch.autograd.grad(nets["discriminator"](augmented).sum(), x)
    expected = slope.square().sum((1, 2, 3)).mean()
    assert outcome.metrics["grad_norm_sq/real"].item() == pytest.approx(expected.item(), rel=1e-5)
    (outside,) = torch.autograd.grad(
        nets["discriminator"](augmented.detach().requires_grad_()).sum(),
        nets["discriminator"].inputs[-1],
    )
    assert expected.item() != pytest.approx(outside.square().sum((1, 2, 3)).mean().item(), rel=1e-3)


def test_a_pack_is_images_concatenated_along_channels():
    x = BATCH.images
    packs = pack_channels(x, 3)
    assert packs.shape == (4, 6, 8, 8)
    for i in range(4):
        assert torch.equal(packs[i], torch.cat([x[3 * i], x[3 * i + 1], x[3 * i + 2]]))
    assert torch.equal(unpack_channels(packs, 3), x)
    assert pack_channels(x, 1) is x


@pytest.mark.parametrize("updates", ["alternating", "simultaneous"])
def test_d_classifies_packs_of_real_or_of_generated_images(updates):
    """Losses of 4 real and 4 generated packs of 3, with gradients in the whole pack."""
    spec = config.GANGame(updates=updates, pac=3, r1=2.0, r2=2.0)
    nets = players(6)
    outcomes = [phase.losses(nets, BATCH, NOISE) for phase in GAN(spec).phases()]
    d, g = nets["discriminator"], nets["generator"]
    fake = g(g.latent(12, NOISE))
    real, fake = (x.reshape(4, 6, 8, 8).detach().requires_grad_() for x in (BATCH.images, fake))
    softplus = nn.functional.softplus
    loss = 0.5 * (softplus(-d(real)).mean() + softplus(d(fake)).mean())
    for x in (real, fake):
        (slope,) = torch.autograd.grad(d(x).sum(), x)
        loss = loss + slope.square().sum((1, 2, 3)).mean()
    assert outcomes[0].losses["discriminator"].item() == pytest.approx(loss.item(), rel=1e-5)
    of_g = softplus(-d(fake)).mean().item()
    assert outcomes[-1].losses["generator"].item() == pytest.approx(of_g, rel=1e-5)


@pytest.mark.parametrize("per_sample", [True, False])
@pytest.mark.parametrize(
    "spec",
    [
        config.GANGame(relativistic=True, r1=2.0, r2=1.0),
        config.GANGame(r2=1.0, objective="hinge", pac=3),
        config.GANGame(
            relativistic=True, r1=1.0, augment_prob=1.0, augmentations=("flip", "cutout")
        ),
    ],
)
def test_linearized_logits_give_g_the_gradient_through_d(spec, per_sample):
    """For a per-sample D, no backward pass of G's loss goes through D."""
    nets = players(2 * spec.pac)
    nets["discriminator"].per_sample = per_sample
    game = GAN(replace(spec, updates="simultaneous"))
    rng = NOISE.at_step(10)
    batch = scheduled(game.phases()[0], 10)
    loss = game.both(nets, batch, rng).losses["generator"]
    d, g = (list(nets[name].parameters()) for name in ("discriminator", "generator"))
    of_d = torch.autograd.grad(loss, d, retain_graph=True, allow_unused=True)
    assert [penalty is None for penalty in of_d] == [per_sample] * len(d)
    fake = game.samples(nets, batch, rng)
    packs = pack_channels(torch.cat((BATCH.images, fake)), spec.pac)
    both = rng.split_streams("real", "fake")
    real_logits, logits = nets["discriminator"](game.augment_packs(packs, batch, both), both).chunk(
        2
    )
    if spec.relativistic:
        logits = logits - real_logits
    expected = game.objective.generator(logits)
    torch.testing.assert_close(loss, expected)
    gradients = zip(torch.autograd.grad(loss, g), torch.autograd.grad(expected, g), strict=True)
    for result, expected_gradient in gradients:
        torch.testing.assert_close(result, expected_gradient, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("updates", ["alternating", "simultaneous"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_each_objective_gives_the_losses_of_both_players(objective, updates):
    """D's phase gives D's loss of it, G's phase G's, on the same logits."""
    nets, rule = players(), OBJECTIVES[objective]
    phases = GAN(config.GANGame(objective=objective, updates=updates)).phases()
    outcomes = [phase.losses(nets, BATCH, NOISE) for phase in phases]
    d, g = nets["discriminator"], nets["generator"]
    real, fake = d(BATCH.images), d(g(g.latent(12, NOISE)))
    torch.testing.assert_close(outcomes[0].losses["discriminator"], rule.discriminator(real, fake))
    torch.testing.assert_close(outcomes[-1].losses["generator"], rule.generator(fake))
    assert set(outcomes[0].metrics) == set(rule.metrics(real, fake))


def test_metrics_are_computed_in_float32():
    """bfloat16 logits give the same bits as these logits in float32."""
    real, fake = torch.linspace(-2.9, 3.4, 24), torch.linspace(4.1, -2.2, 24)
    for look, logits in (
        (logit_metrics, (real, fake)),
        (critic_metrics, (real, fake)),
        (pair_metrics, (real,)),
    ):
        short = [tensor.bfloat16() for tensor in logits]
        result, expected = look(*short), look(*[tensor.float() for tensor in short])
        assert {name: value.item() for name, value in result.items()} == {
            name: value.item() for name, value in expected.items()
        }


@pytest.mark.parametrize("updates", ["alternating", "simultaneous"])
@pytest.mark.parametrize("pack", [1, 3])
def test_wgan_gp_is_taken_between_images_and_samples(updates, pack):
    spec = config.GANGame(objective="wasserstein", updates=updates, gp_weight=10.0, pac=pack)
    nets = players(2 * pack)
    outcome = first(spec, nets)
    without = first(replace(spec, gp_weight=0.0), nets)
    g, n = nets["generator"], 12 // pack
    real = BATCH.images.reshape(n, -1)
    fake = g(g.latent(12, NOISE)).detach().reshape(n, -1)
    share = NOISE.uniform("between", n, 1)
    x = (share * real + (1 - share) * fake).requires_grad_()
    (slope,) = torch.autograd.grad(nets["discriminator"](x).sum(), x)
    excess = (slope.norm(dim=1) - 1).square().mean().item()
    added = outcome.losses["discriminator"] - without.losses["discriminator"]
    assert added.item() == pytest.approx(10 * excess, rel=1e-4)
    assert outcome.metrics["gradient_penalty/interpolated"].item() == pytest.approx(
        excess, rel=1e-4
    )
    if updates == "simultaneous":
        assert torch.equal(outcome.losses["generator"], without.losses["generator"])


@pytest.mark.parametrize("updates", ["alternating", "simultaneous"])
@pytest.mark.parametrize("probability", [0.6, 1.0])
def test_wgan_gp_uses_gradients_before_augmentation(updates, probability):
    """The interpolated images are augmented with their own random stream."""
    spec = config.GANGame(
        objective="wasserstein", updates=updates, gp_weight=10.0, augment_prob=probability
    )
    nets, rng = players(), NOISE.at_step(10)
    outcome = first(spec, nets, rng)
    without = first(replace(spec, gp_weight=0.0), nets, rng)
    g, d = nets["generator"], nets["discriminator"]
    fake = g(g.latent(12, rng)).detach()
    share = rng.uniform("between", 12, 1, 1, 1)
    x = (share * BATCH.images + (1 - share) * fake).requires_grad_()
    augmented = augment(
        x, spec.augmentations, torch.tensor(probability), rng.split_streams("between")
    )
    (slope,) = torch.autograd.grad(d(augmented).sum(), x, create_graph=True)
    excess = (slope.flatten(1).norm(dim=1) - 1).square().mean()
    added = outcome.losses["discriminator"] - without.losses["discriminator"]
    assert added.item() == pytest.approx(10 * excess.item(), rel=1e-4)
    # D descends it: its gradient is that of the penalty as it is written here.
    weights = [d.first.weight, d.last.weight]
    result, expected = (
        torch.autograd.grad(loss, weights, retain_graph=True) for loss in (added, 10 * excess)
    )
    for gradient, expected_gradient in zip(result, expected, strict=True):
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-3, atol=1e-5)
    (plain,) = torch.autograd.grad(d(x).sum(), x)
    unseen = (plain.flatten(1).norm(dim=1) - 1).square().mean().item()
    assert excess.item() != pytest.approx(unseen, rel=1e-3)


class MixtureGenerator(Generator):
    """The linear G with a learned mixture of four components as prior."""

    def __init__(self):
        super().__init__()
        self.prior = Prior("learned-mixture", 3, components=4)
        with torch.no_grad():
            self.prior.weights.copy_(torch.tensor([0.5, -0.5, 0.0, 1.0]))
            self.prior.log_stds.fill_(-5.0)

    def latent(self, n, rng):
        return self.prior(n, rng)


@pytest.mark.parametrize("updates", ["alternating", "simultaneous"])
@pytest.mark.parametrize("pack", [1, 3])
def test_mixture_weights_have_the_reinforce_gradient_and_all_else_is_unchanged(updates, pack):
    """d/dw_c of G's loss: -E[(a - E a) Σ_pack (1[c] - p_c)]; all other gradients are unchanged."""
    torch.manual_seed(0)
    nets = {"generator": MixtureGenerator(), "discriminator": Discriminator(2 * pack)}
    g, d = nets["generator"], nets["discriminator"]
    phase = GAN(config.GANGame(updates=updates, pac=pack)).phases()[-1]
    loss = phase.losses(nets, BATCH, NOISE).losses["generator"]
    z = g.latent(12, NOISE)
    a = d(pack_channels(g(z), pack))
    plain = nn.functional.softplus(-a).mean()
    parameters = dict(g.named_parameters())
    weights = parameters.pop("prior.weights")
    (result,) = torch.autograd.grad(loss, weights, retain_graph=True)
    p = weights.detach().softmax(0)
    which = torch.cdist(z, g.prior.means).argmin(1)  # far from all others
    chosen = nn.functional.one_hot(which, 4) - p
    credit = (a - a.mean()).detach()
    expected = -(credit[:, None] * chosen.unflatten(0, (-1, pack)).sum(1)).mean(0)
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-6)
    with_credit, without = (
        torch.autograd.grad(objective, [*parameters.values(), *d.parameters()], retain_graph=True)
        for objective in (loss, plain)
    )
    for credited, uncredited in zip(with_credit, without, strict=True):
        torch.testing.assert_close(credited, uncredited, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (config.GANGame, {"pac": 0}, "pac is 0; it must be at least 1"),
        (config.GANGame, {"augment_prob": 1.5}, "augment_prob is 1.5; it must be from 0 to 1"),
        (config.GANGame, {"r1_final": -1.0}, "r1_final is -1.0; it must be at least 0"),
        (
            config.GANGame,
            {"r1": 1.0, "r1_final": 0.0, "penalty_schedule": "geometric"},
            "r1_final is 0.0; it must be more than 0 in a geometric schedule",
        ),
        (
            config.GANGame,
            {"relativistic": True, "objective": "hinge"},
            "relativistic does not apply to the objective hinge, in which D rates single images",
        ),
        (
            config.GANGame,
            {"augment_prob": 0.5, "augmentations": ()},
            "augment_prob is 0.5 and augmentations is empty",
        ),
        (
            config.GANGame,
            {"k": 5, "updates": "simultaneous"},
            "k is 5, but simultaneous updates update D once",
        ),
        (config.ConditionalGame, {"pac": 2}, "D is given the label of one image; leave pac"),
        (config.InpaintingGame, {"pac": 2}, "D is given the mask of one image; leave"),
        (
            config.InpaintingGame,
            {"augment_prob": 0.5},
            "augment_prob is 0.5, but an inpainting D is given the mask",
        ),
    ],
)
def test_invalid_options_are_refused(kind, options, message):
    with pytest.raises(UsageError, match=message):
        kind(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ema_rampup": 0.1}, "ema_rampup is 0.1 but ema_half_life is 0, which disables the EMA"),
        ({"ema_rampup": 1.5, "ema_half_life": 9}, "ema_rampup is 1.5; it must be from 0 "),
        (
            {"discriminator": config.DCGANDiscriminator(projection=True)},
            "projection needs class labels, which a GANGame does not use",
        ),
        (
            {"game": config.GANGame(objective="wasserstein")},
            "needs a bound on D's gradients.* set gp_weight to 10",
        ),
        (
            {
                "game": config.GANGame(objective="wasserstein"),
                "discriminator": config.DCGANDiscriminator(spectral_norm=True),  # with batch norm
            },
            "needs a bound on D's gradients",
        ),
    ],
)
def test_options_without_effect_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        config.Stage(**options)


BOUNDED = {
    "gp_weight": ({"gp_weight": 10.0}, False),
    "r1": ({"r1": 2.0}, False),
    "r2_final": ({"r2_final": 2.0}, False),
    "spectral norm": ({}, True),
}


@pytest.mark.parametrize("bound", BOUNDED)
def test_a_critic_with_bounded_gradients_trains(bound, tiny):
    """In 60 steps on digits its gradients stay below a third of those without a bound."""
    options, spectral = BOUNDED[bound]

    def slope(options, spectral, game=None):
        net = config.DCGANDiscriminator(base_channels=8, spectral_norm=spectral, batch_norm=False)
        stage = config.Stage(
            config.MLPGenerator(latent_dim=8, hidden_sizes=(16,), activations=("relu",)),
            net,
            config.GANGame(objective="wasserstein", **options),
            config.Adam(lr=1e-4),
            config.Adam(lr=2e-2),
            steps=60,
            schedule_steps=1,
        )
        run = tiny.with_stage(stage)
        data = open_data(run.data)
        run = setup.resolve_config(run, data.info, run.runtime)
        table = setup.make_train_state(run, data, 0, torch.device("cpu"))
        table.game = game or table.game
        assert torch.stack([train_step(table).finite for _ in range(60)]).all()
        x = table.loader.batch_at(0).images.requires_grad_()
        (result,) = torch.autograd.grad(table.players["discriminator"](x).sum(), x)
        return result.flatten(1).norm(dim=1).mean().item()

    free = GAN(config.GANGame(objective="wasserstein"))
    assert 0 < slope(options, spectral) < slope({"gp_weight": 10.0}, False, free) / 3


@pytest.mark.parametrize(
    ("kind", "size", "message_pattern"),
    [
        ("translate", 7, "the augmentation translate changes images of 7x7 by less than a pixel"),
        ("cutout", 3, "the augmentation cutout changes images of 3x3"),
    ],
)
def test_augmentations_by_less_than_a_pixel_are_refused(kind, size, message_pattern):
    images = torch.rand(64, 1, size, size)
    changed = augment(images, (kind,), torch.ones(()), RNG(0))
    assert torch.equal(changed, images)
    with pytest.raises(UsageError, match=message_pattern):
        check_augmentations(("flip", kind), size, size)
    larger = torch.rand(64, 1, size + 1, size + 1)
    check_augmentations(("flip", kind), size + 1, size + 1)
    assert not torch.equal(augment(larger, (kind,), torch.ones(()), RNG(0)), larger)


def test_an_adaptive_k_without_logging_is_refused(tiny):
    run = tiny.with_stage(replace(tiny.stage, game=config.GANGame(k=2, adaptive_k_threshold=0.5)))
    with pytest.raises(UsageError, match=r"and log_every is 0; set log_every to 100"):
        replace(run, intervals=replace(tiny.intervals, log_every=0))


def test_options_that_do_not_fit_the_data_are_refused(tiny):
    for game, data, message in (
        (
            config.GANGame(pac=3),
            tiny.data,
            "pac is 3 and does not divide batch_size 20; set batch_size to 21",
        ),
        (
            config.GANGame(augment_prob=0.5),
            replace(tiny.data, normalize="none"),
            "augment_prob is 0.5, but the data are points",
        ),
    ):
        with pytest.raises(UsageError, match=message):
            replace(tiny.with_stage(replace(tiny.stage, game=game)), data=data)
