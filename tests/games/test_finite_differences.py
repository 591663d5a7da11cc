"""R1 and R2 estimated from finite differences, compared with the exact penalties."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from advnets import config, presets
from advnets.errors import UsageError
from advnets.experiment.players import build_players
from advnets.games.augment import augment
from advnets.games.gan import GAN, ConditionalGAN, pack_channels
from advnets.games.inpainting import Inpainting
from advnets.losses import finite_difference_penalty
from advnets.models.mlp import MaxoutDiscriminator
from advnets.protocols import Batch
from advnets.rng import RNG

NOISE = RNG(0)
ESTIMATED = config.GANGame(penalty="finite-difference", r1=2.0, r2=2.0)
"""D's loss contains E‖∇a(x)‖² + E‖∇a(G(z))‖²."""
IMAGES = torch.randn(12, 2, 4, 4, generator=torch.Generator().manual_seed(1))


class Generator(nn.Module):
    """G(z), linear: images of 2 x 4 x 4."""

    latent_dim = 3

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 32)

    def latent(self, n, rng, labels=None):
        return rng.normal("latent", n, 3)

    def forward(self, z, rng=None):
        return self.linear(z).view(-1, 2, 4, 4)


class Discriminator(nn.Module):
    """A smooth a(x) of two layers, which records what it is given."""

    per_sample = True

    def __init__(self, channels=2):
        super().__init__()
        self.first, self.last = nn.Linear(16 * channels, 8), nn.Linear(8, 1)
        self.inputs = self.labels = torch.empty(0)

    def forward(self, x, rng=None, labels=None):
        self.inputs, self.labels = x.detach(), labels
        return self.last(torch.tanh(2 * self.first(x.flatten(1)))).squeeze(1)


def players(channels=2):
    torch.manual_seed(0)
    return {"generator": Generator(), "discriminator": Discriminator(channels)}


def d_output(spec, nets, batch=None, rng=NOISE, game=GAN):
    """Return the output of the phase in which D is updated."""
    batch = Batch(IMAGES) if batch is None else batch
    return game(spec).phases()[0].losses(nets, batch, rng)


def norms(output):
    return torch.stack([output.metrics[f"grad_norm_sq/{of}"] for of in ("real", "fake")])


def all_directions(pixels):
    return torch.tensor(list(itertools.product((1.0, -1.0), repeat=pixels)), dtype=torch.float64)


@pytest.mark.parametrize("step", [1e-2, 1.0, 30.0])
@pytest.mark.parametrize("squares", [0.0, 1.0])
def test_the_mean_over_all_directions_is_exact_for_quadratics(step, squares):
    """a(x) = b · x + s xᵀAx / 2 has gradient b + s A x; for each h, at each x."""
    torch.manual_seed(0)
    b, matrix, x = (torch.randn(*shape, dtype=torch.float64) for shape in ((6,), (6, 6), (6,)))
    matrix = squares * (matrix + matrix.T)

    def a(points):
        return points @ b + 0.5 * ((points @ matrix) * points).sum(1)

    v = all_directions(6)
    estimates = finite_difference_penalty(a(x + step * v), a(x - step * v), step)
    exact = (b + matrix @ x).square().sum().item()
    assert estimates.mean().item() == pytest.approx(exact, rel=1e-4)
    assert estimates.std() > 0.1 * exact


def test_the_error_is_of_second_order():
    """For a(x) = Σ x³ it is 2 h² Σ x² d + h⁴ (…), computed here by its polynomial."""
    x, v, h = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64), all_directions(3), 0.05
    sides = ((x + sign * h * v).pow(3).sum(1) for sign in (1, -1))
    result = finite_difference_penalty(*sides, h).mean().item()
    slopes = v @ (3 * x.square()) + h**2 * v.sum(1)
    assert result == pytest.approx(slopes.square().mean().item(), rel=1e-5)
    exact = (3 * x.square()).square().sum().item()
    assert 1e-4 < abs(result / exact - 1) < h**2


def mean_and_error(values):
    return values.mean(0), values.std(0) / math.sqrt(len(values))


@pytest.mark.parametrize("updates", ["alternating", "simultaneous"])
@pytest.mark.parametrize("every", [1, 3])
def test_estimates_and_their_gradients_are_unbiased(updates, every):
    """Mean over draws, compared with the exact penalty of the chosen images by its own error.

    The gradient is that of D's loss in D's parameters.
    """
    torch.set_default_dtype(torch.float64)
    try:
        nets, images = players(), IMAGES.double()
    finally:
        torch.set_default_dtype(torch.float32)
    parameters = list(nets["discriminator"].parameters())
    spec = replace(ESTIMATED, updates=updates, penalty_every=every, penalty_step=1e-3)

    def results(spec, images, rng):
        """Return both norms and the gradient of the penalties alone, at the z of NOISE."""
        game = GAN(spec)
        z = nets["generator"].latent(len(images), NOISE).double()
        fake = nets["generator"](z).detach()
        output = game.discriminator_loss(nets, Batch(images), fake, rng)
        without = GAN(replace(spec, r1=0.0, r2=0.0)).discriminator_loss(
            nets, Batch(images), fake, rng
        )
        gradient = torch.autograd.grad(output.loss - without.loss, parameters, allow_unused=True)
        flat = [torch.zeros(1) if part is None else part.flatten() for part in gradient]
        return torch.cat((norms(output).double(), torch.cat(flat).double()))

    draws = torch.stack([results(spec, images, NOISE.at_step(step)) for step in range(400)])
    mean, error = mean_and_error(draws)
    rows = torch.arange(0, 12, every)
    z = nets["generator"].latent(12, NOISE)[rows].double()
    fake = nets["generator"](z).detach()
    exact_game = GAN(replace(spec, penalty="exact"))
    exact_output = exact_game.discriminator_loss(nets, Batch(images[rows]), fake, NOISE)
    plain = GAN(replace(spec, r1=0.0, r2=0.0)).discriminator_loss(
        nets, Batch(images[rows]), fake, NOISE
    )
    gradient = torch.autograd.grad(exact_output.loss - plain.loss, parameters, allow_unused=True)
    flat = [torch.zeros(1) if part is None else part.flatten() for part in gradient]
    exact = torch.cat((norms(exact_output).double(), torch.cat(flat).double()))
    z_scores = (mean - exact)[error > 0] / error[error > 0]
    assert len(z_scores) > 200
    assert z_scores.abs().max() < 4.5
    assert z_scores.square().mean() < 1.5
    assert (error[:2] / exact[:2] < 0.06).all()


@pytest.mark.parametrize("directions", [1, 3])
@pytest.mark.parametrize("every", [1, 5, 100])
def test_every_nth_image_and_sample_is_changed_by_h_in_each_pixel(every, directions):
    """D sees each chosen image twice for each direction; the penalty is computed from these."""
    nets = players()
    spec = replace(ESTIMATED, r1=3.0, r2=5.0, penalty_every=every, penalty_directions=directions)
    output = d_output(spec, nets)
    inputs, d = nets["discriminator"].inputs, nets["discriminator"]
    rows = [*range(0, 12, every), *range(12, 24, every)]
    shifted = inputs[24:].unflatten(0, (2, directions, len(rows)))
    change = shifted - inputs[rows]
    torch.testing.assert_close(change.abs(), torch.full_like(change, 0.1))
    torch.testing.assert_close(change[0], -change[1])
    signs = change[0].sign().flatten(0, 1).flatten(1)
    assert len(signs.unique(dim=0)) == directions * len(rows)
    logits = d(shifted.flatten(0, 2)).unflatten(0, (2, directions, 2, -1))
    expected = ((logits[0] - logits[1]) / 0.2).square().mean((0, 2))
    torch.testing.assert_close(norms(output), expected)
    plain = d_output(replace(spec, r1=0.0, r2=0.0), nets)
    difference = output.losses["discriminator"] - plain.losses["discriminator"]
    torch.testing.assert_close(difference, 1.5 * expected[0] + 2.5 * expected[1])


def test_a_process_with_some_rows_changes_them_as_a_process_with_all_rows_does():
    spec, nets = replace(ESTIMATED, penalty_every=3), players()
    inputs = []
    for first in (0, 6):
        d_output(spec, nets, Batch(IMAGES[first:]), replace(NOISE, first_row=first))
        inputs.append(nets["discriminator"].inputs)
    half, whole = inputs[1][12:], inputs[0][24:]
    torch.testing.assert_close(half, whole.unflatten(0, (4, 4))[:, 2:].flatten(0, 1))


def test_h_can_be_any_number():
    nets = players()
    d_output(replace(ESTIMATED, penalty_step=0.7), nets)
    inputs = nets["discriminator"].inputs
    assert (inputs[24] - inputs[0]).abs().mean().item() == pytest.approx(0.7)


def test_draws_change_with_the_step():
    outputs = [d_output(ESTIMATED, players(), rng=NOISE.at_step(step)) for step in range(4)]
    assert len({output.metrics["grad_norm_sq/real"].item() for output in outputs}) == 4


def test_both_sides_have_the_augmentations_of_their_image():
    """The estimate is that of the exact penalty, whose gradients are before augmentation."""
    kinds = ("flip", "translate", "cutout", "color", "affine", "elastic")
    images = torch.randn(12, 2, 8, 8, generator=torch.Generator().manual_seed(1))
    spec = replace(ESTIMATED, augment_prob=0.9, augmentations=kinds, pac=3, penalty_every=2)
    game = GAN(spec)
    scheduled = {"augment_prob": torch.tensor(0.9)}
    nets = players(24)  # 3 images of 2 x 8 x 8
    fake = images.flip(0)
    game.discriminator_loss(nets, Batch(images, scheduled=scheduled), fake, NOISE)
    inputs = nets["discriminator"].inputs
    real_and_fake = torch.cat((images, fake))
    streams = NOISE.split_streams("real", "fake")
    torch.testing.assert_close(
        inputs[:8], pack_channels(augment(real_and_fake, kinds, torch.tensor(0.9), streams), 3)
    )
    # Change all images, augment them, and select packs 0, 2, 4 and 6.
    bits = streams.dropout_mask("penalty direction", 8, 1, 6, 8, 8, keep_prob=0.5)
    change = 0.1 * (2 * bits[:, 0] - 1)
    for sign, part in zip((1, -1), inputs[8:].split(4), strict=True):
        shifted = pack_channels(real_and_fake, 3) + sign * change
        shifted = shifted.unflatten(1, (3, 2)).flatten(0, 1)
        augmented = pack_channels(augment(shifted, kinds, torch.tensor(0.9), streams), 3)
        torch.testing.assert_close(part, augmented[::2])


def test_both_sides_have_the_dropout_masks_of_their_image():
    """With other masks the difference would not be small, and its square over h² enormous."""
    torch.manual_seed(0)
    shape = (2, 4, 4)
    net = MaxoutDiscriminator(shape, config.MaxoutDiscriminator(hidden_sizes=(16, 16), pieces=2))
    nets = players() | {"discriminator": net}
    spec = replace(ESTIMATED, penalty_step=1e-3, penalty_every=1, penalty_directions=200)
    estimated, exact = (
        norms(d_output(replace(spec, penalty=kind), nets))
        for kind in ("finite-difference", "exact")
    )
    torch.testing.assert_close(estimated, exact, rtol=0.1, atol=0.0)


@pytest.mark.parametrize("relativistic", [False, True])
def test_the_loss_of_g_does_not_depend_on_the_computation_of_the_penalties(relativistic):
    """In simultaneous updates its gradient is taken through D."""
    gradients = []
    for penalty in ("exact", "finite-difference"):
        nets = players()
        spec = replace(ESTIMATED, penalty=penalty, relativistic=relativistic)
        output = d_output(replace(spec, updates="simultaneous"), nets)
        parameters = list(nets["generator"].parameters())
        gradients.append(torch.autograd.grad(output.losses["generator"], parameters))
    for exact, estimated in zip(*gradients, strict=True):
        torch.testing.assert_close(estimated, exact, rtol=1e-4, atol=1e-6)


def test_a_conditional_d_is_given_the_labels_of_the_changed_images():
    nets, labels = players(), torch.arange(12) % 5
    spec = config.ConditionalGame(penalty="finite-difference", r1=1.0, penalty_every=4)
    d_output(spec, nets, Batch(IMAGES, labels), game=ConditionalGAN)
    chosen = [0, 4, 8] * 4
    rows = torch.tensor([*range(12), *range(12), *chosen])
    assert torch.equal(nets["discriminator"].labels, labels[rows])


def test_an_inpainting_d_is_given_the_masks_of_the_changed_images():
    """With 3 input channels, the last of which is the mask."""
    nets = players(3)
    game = Inpainting(config.InpaintingGame(penalty="finite-difference", r2=1.0, penalty_every=4))
    game.discriminator_loss(nets, Batch(IMAGES), IMAGES.flip(0), NOISE)
    inputs = nets["discriminator"].inputs
    masks = inputs[:12, 2]
    assert torch.equal(masks, game.known_mask(Batch(IMAGES), NOISE)[:, 0])
    assert torch.equal(inputs[:, 2], masks[[*range(12), *range(12), *([0, 4, 8] * 4)]])


@pytest.mark.parametrize("updates", ["alternating", "simultaneous"])
def test_the_weights_of_both_penalties_follow_their_schedules(updates):
    spec = replace(ESTIMATED, updates=updates, r1_final=0.0, r2_final=8.0)
    scheduled = {"r1": torch.tensor(1.0), "r2": torch.tensor(5.0)}
    losses = [
        d_output(s, players(), Batch(IMAGES, scheduled=values)).losses["discriminator"]
        for s, values in (
            (spec, scheduled),
            (replace(spec, r1=1.0, r2=5.0, r1_final=None, r2_final=None), {}),
        )
    ]
    torch.testing.assert_close(*losses)


def test_a_d_that_mixes_images_is_refused():
    """A small dcgan: with batch norm a logit depends on the other images of the batch."""
    run = presets.get_preset("dcgan-mnist")
    run = run.with_stage(replace(run.stage, game=ESTIMATED))
    with pytest.raises(UsageError, match=r"batch norm.*set penalty to exact"):
        build_players(run, 0, (1, 28, 28), torch.zeros(1, 28, 28))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"penalty_step": 0.0}, "penalty_step is 0.0; it must be more than 0"),
        ({"penalty_every": 0}, "penalty_every is 0; it must be at least 1"),
        ({"penalty_directions": 0}, "penalty_directions is 0; it must be at least 1"),
        ({"penalty_directions": 1001}, "penalty_directions is 1001; it must be at most 1,000"),
    ],
)
def test_invalid_options_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        config.GANGame(**options)
