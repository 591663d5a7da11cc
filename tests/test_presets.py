"""The presets' models, measured after building them, and their training options."""

import pytest
import torch
from torch import nn

from advnets import config, presets
from advnets.errors import UnknownNameError
from advnets.experiment.players import build_players
from advnets.models.layers import Maxout
from advnets.models.maxout_conv import DeconvGenerator, MaxoutConvDiscriminator
from advnets.models.mlp import MaxoutDiscriminator, MLPGenerator, StackedGenerator
from advnets.rng import RNG
from advnets.training.optimizers import learning_rate, momentum

SHAPES = {
    "paper-mnist": (1, 28, 28),
    "paper-tfd": (1, 48, 48),
    "paper-cifar": (3, 32, 32),
    "paper-cifar-conv": (3, 32, 32),
}
PAPER = list(SHAPES)


@pytest.fixture(scope="module")
def built():
    """Build each paper preset once, as TFD's generator has 83 million weights."""
    cache = {}

    def players(name, stage=-1):
        run = presets.get_preset(name)
        key = name, stage % len(run.stages)
        if key not in cache:
            cache.clear()
            torch.manual_seed(0)
            mean = torch.full(SHAPES[name], 0.25)
            cache[key] = build_players(run, key[1], SHAPES[name], mean)
        return cache[key]

    return players


def widths(net):
    """Return the numbers of inputs and outputs of each layer, in order."""
    sizes = []
    for layer in net.modules():
        if isinstance(layer, nn.Linear):
            sizes.append((layer.in_features, layer.out_features))
        elif isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            sizes.append((layer.in_channels, layer.out_channels))
    return sizes


def weight_range(layer):
    return layer.weight.detach().abs().max().item()


def is_uniform_up_to(layer, bound):
    """Check that weights are uniform on [-bound, bound], by their maximum and variance."""
    weight = layer.weight.detach()
    assert weight_range(layer) == pytest.approx(bound, rel=0.02)
    assert weight.var().item() == pytest.approx(bound**2 / 3, rel=0.1)


def linears(net):
    return [layer for layer in net.modules() if isinstance(layer, nn.Linear)]


def test_mnist_models(built):
    g, d = built("paper-mnist").values()
    assert isinstance(g, MLPGenerator)
    assert isinstance(d, MaxoutDiscriminator)
    assert widths(g) == [(100, 1200), (1200, 1200), (1200, 784)]
    assert widths(d) == [(784, 240 * 5), (240, 240 * 5), (240, 1)]
    for layer in linears(g):
        is_uniform_up_to(layer, 0.05)
    for layer in linears(d):
        is_uniform_up_to(layer, 0.005)
    assert torch.sigmoid(g.output.bias).detach() == pytest.approx(0.25)
    z = g.latent(1000, RNG(0))
    assert z.abs().max().item() == pytest.approx(3**0.5, rel=1e-3)
    images = g(z[:10])
    assert (images >= 0).all()
    assert (images <= 1).all()
    # ReLU: about half of the first layer's units are off for a z of mean 0.
    with torch.no_grad():
        off = (torch.relu(g.hidden.linears[0](z)) == 0).float().mean().item()
    assert off == pytest.approx(0.5, abs=0.05)


def test_tfd_models_of_the_first_stage(built):
    g, d = built("paper-tfd", 0).values()
    assert widths(g) == [(100, 8000), (8000, 8000), (8000, 2304)]
    assert widths(d) == [(2304, 1200 * 5), (1200, 1200 * 5), (1200, 1)]
    relu, sigmoid, output = linears(g)
    is_uniform_up_to(relu, 0.05)
    is_uniform_up_to(sigmoid, 0.05)
    assert relu.bias.detach().unique().tolist() == [0.0]
    assert sigmoid.bias.detach().unique().tolist() == [-2.0]
    assert (output.weight != 0).sum(1).unique().tolist() == [100]
    assert torch.sigmoid(output.bias).detach() == pytest.approx(0.25)
    assert g.latent(1000, RNG(0)).abs().max().item() > 3  # normal, not uniform
    for net in (g, d):
        net.project()
        for layer in linears(net):
            assert layer.weight.detach().norm(dim=1).max().item() <= 1.9365 + 1e-4
    # A column of 8,000 weights up to 0.05 has norm 2.58, more than the bound.
    assert sigmoid.weight.detach().norm(dim=1).mean().item() == pytest.approx(1.9365, rel=1e-3)


def test_tfd_second_stage_adds_two_layers(built):
    g, d = built("paper-tfd", 1).values()
    assert isinstance(g, StackedGenerator)
    assert widths(g) == [(100, 8000), (8000, 100), (100, 8000), (8000, 8000), (8000, 2304)]
    assert widths(d) == [(2304, 1200 * 5), (1200, 1200 * 5), (1200, 1)]
    assert g.bottom.output.bias.detach().unique().tolist() == [-2.0]
    is_uniform_up_to(g.bottom.output, 0.05)
    between = g.bottom(g.latent(20, RNG(0)))
    assert (between > 0).all()
    assert (between < 1).all()


def test_cifar_models(built):
    g, d = built("paper-cifar").values()
    assert widths(g) == [(100, 8000), (8000, 8000), (8000, 3072)]
    assert widths(d) == [(3072, 1600 * 5), (1600, 1600 * 5), (1600, 1)]
    is_uniform_up_to(linears(g)[0], 0.05)
    is_uniform_up_to(linears(g)[1], 0.05)
    is_uniform_up_to(g.output, 0.5)
    assert g.output.bias.detach().unique().tolist() == [0.0]
    images = g(g.latent(20, RNG(0)))
    assert images.min() < -1  # linear output
    assert images.max() > 1


def test_cifar_convolutional_models(built):
    g, d = built("paper-cifar-conv").values()
    assert isinstance(g, DeconvGenerator)
    assert isinstance(d, MaxoutConvDiscriminator)
    assert widths(g) == [(100, 8000), (8000, 8000), (80, 3)]
    assert g.deconv.kernel_size == (5, 5)
    assert g.deconv.stride == (3, 3)
    assert g.bias.shape == (3, 32, 32)
    convs = [layer for layer in d.modules() if isinstance(layer, nn.Conv2d)]
    assert [(c.out_channels, c.kernel_size[0], c.padding[0]) for c in convs] == [
        (32 * 2, 8, 4),
        (32 * 2, 8, 3),
        (192 * 2, 5, 3),
    ]
    assert widths(d)[3:] == [(192 * 5 * 5, 500 * 5), (500, 1)]
    for layer in (*linears(d), *convs):
        is_uniform_up_to(layer, 0.005)
    for layer in (*linears(g), g.deconv):
        is_uniform_up_to(layer, 0.05)


@pytest.mark.parametrize("name", PAPER)
def test_dropout_of_every_discriminator(built, name):
    """Inputs are kept with probability 0.8, hidden units with 0.5; scales are 1.25 and 2."""
    masks = []

    class MaskRecorder(RNG):
        def dropout_mask(self, purpose, rows, *shape, keep_prob):
            mask = super().dropout_mask(purpose, rows, *shape, keep_prob=keep_prob)
            masks.append((keep_prob, mask.mean().item()))
            return mask

    d = built(name)["discriminator"]
    layers = sum(isinstance(layer, (nn.Linear, nn.Conv2d)) for layer in d.modules())
    d(torch.ones(20, *SHAPES[name]), MaskRecorder(seed=0))
    assert [keep for keep, _ in masks] == [0.8] + [0.5] * (layers - 1)
    for keep, rate in masks:
        assert rate == pytest.approx(keep, abs=0.02)
    first = next(layer for layer in d.modules() if isinstance(layer, (nn.Linear, nn.Conv2d)))
    fed = []
    hook = first.register_forward_pre_hook(lambda _, inputs: fed.append(inputs[0]))
    d(torch.ones(2, *SHAPES[name]), RNG(0))
    hook.remove()
    assert fed[0].unique().tolist() == pytest.approx([0.0, 1.25])


@pytest.mark.parametrize("name", PAPER)
def test_no_generator_of_the_paper_has_noise_or_dropout(built, name):
    g = built(name)["generator"]
    z = g.latent(2, RNG(0))
    assert torch.equal(g(z, RNG(0)), g(z))


@pytest.mark.parametrize(
    ("name", "lr"),
    [
        ("paper-mnist", 0.1),
        ("paper-tfd", 0.05),
        ("paper-cifar", 0.025),
        ("paper-cifar-conv", 0.004),
    ],
)
def test_learning_rate_and_momentum_after_n_updates(name, lr):
    """lr / 1.000004^n, at least 1e-6; momentum 0.5 in epoch 1, 0.6 halfway, 0.7 from epoch 250."""
    for stage in presets.get_preset(name).stages:
        for spec in (stage.generator_optimizer, stage.discriminator_optimizer):
            assert (learning_rate(spec, 0), momentum(spec, 0)) == pytest.approx((lr, 0.5))
            assert learning_rate(spec, 100_000) == pytest.approx(lr * 0.6703204)  # exp(-.4)
            assert momentum(spec, 83) == pytest.approx(0.5 + 0.2 / 3)
            assert learning_rate(spec, 10**8) == 1e-6
            assert momentum(spec, 400) == pytest.approx(0.7)


@pytest.mark.parametrize("name", PAPER)
def test_batch_sizes_data_and_update_order(name):
    run = presets.get_preset(name)
    assert run.data.batch_size == (128 if name == "paper-cifar-conv" else 100)
    assert run.data.normalize == ("contrast" if "cifar" in name else "unit")
    assert {stage.game.updates for stage in run.stages} == {"simultaneous"}
    assert {stage.game.objective for stage in run.stages} == {"non-saturating"}


def test_tfd_is_fifty_epochs_and_then_22():
    assert [stage.epochs for stage in presets.get_preset("paper-tfd").stages] == [50, 22]


def test_an_unknown_preset_gets_suggestions():
    with pytest.raises(
        UnknownNameError, match="no preset is called 'paper-mnits'; did you mean paper-mnist"
    ):
        presets.get_preset("paper-mnits")


def test_a_path_in_place_of_a_preset_is_data(tmp_path):
    run = presets.starting_config(str(tmp_path))
    assert run.data.source == str(tmp_path)
    assert run.stages == presets.get_preset("digits").stages
    assert presets.default_out(run).name == tmp_path.name
    assert isinstance(run, config.Config)


def test_maxout_layers_have_five_pieces(built):
    d = built("paper-mnist")["discriminator"]
    assert [layer.pieces for layer in d.modules() if isinstance(layer, Maxout)] == [5, 5]


def test_mnist_relativistic_uses_the_published_models():
    """Only the training differs: all weights have equal shapes, and G has the same config."""
    published, tuned = (presets.get_preset(name) for name in ("paper-mnist", "mnist-relativistic"))
    assert tuned.stage.generator == published.stage.generator
    mean = torch.full((1, 28, 28), 0.25)
    shapes = [
        [p.shape for p in build_players(run, 0, (1, 28, 28), mean)["discriminator"].parameters()]
        for run in (published, tuned)
    ]
    assert shapes[0] == shapes[1]
    assert tuned.stage.game.relativistic
