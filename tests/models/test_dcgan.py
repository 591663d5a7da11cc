import copy

import pytest
import torch
from torch import nn

from advnets.errors import UsageError
from advnets.models.dcgan import DCGANDiscriminator, DCGANGenerator, Layer
from advnets.models.layers import (
    FullKernelConv2d,
    FullKernelConvTranspose2d,
    Prior,
    upsampling_sizes,
)
from advnets.rng import RNG

SMALL = {"base_channels": 4, "kernel_size": 4}


def plain_generator(latent_dim, channels, colors):
    """Return the 64 x 64 generator as a list of layers."""
    c = channels
    return nn.Sequential(
        nn.ConvTranspose2d(latent_dim, 8 * c, 4, 1, 0, bias=False),
        *(nn.BatchNorm2d(8 * c), nn.ReLU()),
        nn.ConvTranspose2d(8 * c, 4 * c, 4, 2, 1, bias=False),
        *(nn.BatchNorm2d(4 * c), nn.ReLU()),
        nn.ConvTranspose2d(4 * c, 2 * c, 4, 2, 1, bias=False),
        *(nn.BatchNorm2d(2 * c), nn.ReLU()),
        nn.ConvTranspose2d(2 * c, c, 4, 2, 1, bias=False),
        *(nn.BatchNorm2d(c), nn.ReLU()),
        nn.ConvTranspose2d(c, colors, 4, 2, 1, bias=False),
        nn.Tanh(),
    )


def plain_discriminator(channels, colors):
    """Return the 64 x 64 discriminator as a list of layers."""
    c = channels
    return nn.Sequential(
        *(nn.Conv2d(colors, c, 4, 2, 1, bias=False), nn.LeakyReLU(0.2)),
        *(nn.Conv2d(c, 2 * c, 4, 2, 1, bias=False), nn.BatchNorm2d(2 * c), nn.LeakyReLU(0.2)),
        *(nn.Conv2d(2 * c, 4 * c, 4, 2, 1, bias=False), nn.BatchNorm2d(4 * c), nn.LeakyReLU(0.2)),
        *(nn.Conv2d(4 * c, 8 * c, 4, 2, 1, bias=False), nn.BatchNorm2d(8 * c), nn.LeakyReLU(0.2)),
        nn.Conv2d(8 * c, 1, 4, 1, 0, bias=False),
    )


def copy_weights(plain, model):
    """Copy weights layer by layer; layers of each type have the same order in both models."""
    for kind in (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d):
        layers, plain_layers = (
            [m for m in net.modules() if isinstance(m, kind)] for net in (model, plain)
        )
        assert len(layers) == len(plain_layers)
        for a, b in zip(layers, plain_layers, strict=True):
            b.load_state_dict(a.state_dict())
    return plain


def test_generator_has_the_layers_of_the_paper():
    model = DCGANGenerator((3, 64, 64), **SMALL)
    z = model.latent(5, RNG(0))
    plain = copy_weights(plain_generator(100, 4, 3), model)
    torch.testing.assert_close(model(z), plain(z[:, :, None, None]))


def test_discriminator_has_the_layers_of_the_paper():
    model = DCGANDiscriminator((3, 64, 64), **SMALL)
    x = torch.randn(5, 3, 64, 64)
    torch.testing.assert_close(
        model(x), copy_weights(plain_discriminator(4, 3), model)(x).flatten()
    )


def test_concatenated_batches_are_normalized_separately():
    """One call on both batches equals two calls, including the running statistics."""
    first, second = (DCGANDiscriminator((1, 16, 16), **SMALL) for _ in range(2))
    second.load_state_dict(first.state_dict())
    real, fake = torch.randn(6, 1, 16, 16), 3 + torch.randn(6, 1, 16, 16)
    joint = first(torch.cat((real, fake)), RNG(0).split_streams("real", "fake"))
    assert torch.equal(joint, torch.cat((second(real), second(fake))))
    for a, b in zip(first.buffers(), second.buffers(), strict=True):
        assert torch.equal(a, b)


def test_parameter_counts_of_the_tutorial():
    """3.58 and 2.77 million parameters, as in PyTorch's example."""
    nets = (
        DCGANGenerator((3, 64, 64), kernel_size=4),
        DCGANDiscriminator((3, 64, 64), kernel_size=4),
    )
    assert [parameters(net) for net in nets] == [3_576_704, 2_765_568]


def test_channels_and_kernels_as_published():
    """Radford et al. 2015, figure 1: maps of 1024, 512, 256, 128 and kernels of 5."""
    g = DCGANGenerator((3, 64, 64), base_channels=128)
    maps = [layer.norm.num_features for layer in g.layers]
    assert maps == [1024, 512, 256, 128]
    kernels = [g.layers[0].net.kernel_size, *(c.kernel_size for c in convolutions(g)[1:])]
    assert kernels == [(4, 4), (5, 5), (5, 5), (5, 5), (5, 5)]
    weights = 100 * 1024 * 16 + 25 * (1024 * 512 + 512 * 256 + 256 * 128 + 128 * 3)
    assert parameters(g) == weights + 2 * sum(maps)


def parameters(net):
    return sum(p.numel() for p in net.parameters())


def convolutions(net):
    return [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]


def layers(net):
    return [*net.layers, net.last]


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 64, 64), (3, 48, 96)])
class TestFiveRules:
    """Check every guideline against the modules.

    What the rules allow is not counted: the projection of z, D's final logit. (The paper's own
    conditional net has fully connected layers; it is exempt.)
    """

    def test_strides_instead_of_pooling(self, shape):
        g, d = DCGANGenerator(shape), DCGANDiscriminator(shape)
        for net in (g, d):
            kinds = {type(m) for m in net.modules()}
            allowed = {nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.Identity, nn.ModuleList}
            assert kinds <= allowed | {
                Layer,
                DCGANGenerator,
                DCGANDiscriminator,
                Prior,
                FullKernelConvTranspose2d,
                FullKernelConv2d,
            }
        up, down = convolutions(g)[1:], convolutions(d)[:-1]
        assert {type(m) for m in up} == {nn.ConvTranspose2d}
        assert {type(m) for m in down} == {nn.Conv2d}
        assert all(max(m.stride) == 2 for m in (*up, *down))

    def test_batch_norm_but_not_at_the_output_of_g_nor_the_input_of_d(self, shape):
        g, d = DCGANGenerator(shape), DCGANDiscriminator(shape)
        normed = [[isinstance(m.norm, nn.BatchNorm2d) for m in layers(net)] for net in (g, d)]
        assert normed[0] == [True] * len(g.layers) + [False]
        assert normed[1] == [False] + [True] * (len(d.layers) - 1) + [False]

    def test_no_hidden_fully_connected_layer(self, shape):
        """A convolution as large as its maps is one: only where z enters or the logit leaves."""
        g, d = DCGANGenerator(shape), DCGANDiscriminator(shape)
        sizes = input_sizes(g, g.latent(2, RNG(0)))
        assert not any(isinstance(m, nn.Linear) for net in (g, d) for m in net.modules())
        assert sizes[0] == (1, 1)
        assert all(min(size) >= 3 for size in sizes[1:])
        sizes = input_sizes(d, torch.zeros(2, *shape))
        assert all(min(size) >= 3 for size in sizes)
        last = convolutions(d)[-1]
        assert last.kernel_size == sizes[-1]
        assert last.out_channels == 1

    def test_rectifiers_in_g_and_tanh_at_its_output(self, shape):
        g, negative = DCGANGenerator(shape), torch.tensor([-1.0, 2.0])
        for layer in g.layers:
            assert layer.activate(negative).tolist() == [0, 2]
        assert torch.equal(g.output_activation(negative), torch.tanh(negative))

    def test_leaky_rectifiers_in_d(self, shape):
        for layer in DCGANDiscriminator(shape).layers:
            torch.testing.assert_close(
                layer.activate(torch.tensor([-1.0, 2.0])), torch.tensor([-0.2, 2.0])
            )


def input_sizes(net, x):
    """Return the height and width of the input of each convolution."""
    sizes = []
    for conv in convolutions(net):
        conv.register_forward_pre_hook(lambda _, inputs: sizes.append(tuple(inputs[0].shape[2:])))
    net(x)
    return sizes


REACHED = [(8, 8), (10, 14), (12, 12), (28, 28), (24, 40), (32, 64), (96, 48), (8, 64), (12, 32)]


@pytest.mark.parametrize("size", REACHED)
@pytest.mark.parametrize("kernel", [2, 3, 4, 5, 6])
@pytest.mark.parametrize("resampling", ["strides", "pooling"])
def test_output_sizes_of_supported_shapes(size, kernel, resampling):
    shape, options = (
        (2, *size),
        {"base_channels": 2, "kernel_size": kernel, "resampling": resampling},
    )
    g, d = DCGANGenerator(shape, latent_dim=3, **options), DCGANDiscriminator(shape, **options)
    fake = g(g.latent(2, RNG(0)))
    assert fake.shape == (2, *shape)
    assert d(fake).shape == (2,)


def test_supported_sizes_are_3_to_7_times_a_power_of_2():
    reached = {base << n for base in (3, 4, 5, 6, 7) for n in range(1, 9)}
    for side in range(1, 400):
        try:
            base, strides = upsampling_sizes((3, side, side))
        except UsageError:
            assert side < 8 or side not in reached
            continue
        assert side in reached
        assert side >= 8
        assert base[0] << len(strides) == side
        assert strides == ((2, 2),) * len(strides)


def test_the_shorter_side_is_doubled_in_the_last_layers():
    assert upsampling_sizes((3, 32, 64)) == ((4, 4), ((1, 2), (2, 2), (2, 2), (2, 2)))
    assert upsampling_sizes((3, 24, 40)) == ((3, 5), ((2, 2),) * 3)
    assert upsampling_sizes((3, 12, 32)) == ((3, 4), ((1, 2), (2, 2), (2, 2)))


@pytest.mark.parametrize(
    ("shape", "nearest"),
    [
        ((3, 63, 63), "size to 64"),
        ((1, 4, 4), "size to 8"),
        ((3, 33, 64), "size to 32 and width to 64"),
        ((1, 6, 8), "size to 8 and width to 8"),
    ],
)
def test_other_sizes_are_refused_with_the_nearest_supported_one(shape, nearest):
    for net in (DCGANGenerator, DCGANDiscriminator):
        with pytest.raises(UsageError) as caught:
            net(shape)
        assert str(caught.value) == (
            "convolutional models need sides of at least 8 that are 3, 4, 5, 6 or 7 times a power "
            f"of 2, got images of {shape[1]} x {shape[2]}; set {nearest}, the nearest such "
            "size"
        )


def test_initial_weights_are_normal_with_std_002():
    g = DCGANGenerator((3, 64, 64))
    weights = g.layers[1].net.weight
    assert (weights.mean().item(), weights.std().item()) == pytest.approx((0, 0.02), abs=1e-3)
    gains = torch.cat([layer.norm.weight for layer in g.layers])
    assert (gains.mean().item(), gains.std().item()) == pytest.approx((1, 0.02), abs=3e-3)
    assert all((layer.norm.bias == 0).all() for layer in g.layers)


def test_the_default_prior_is_the_papers():
    z = DCGANGenerator((1, 8, 8), base_channels=2).latent(1000, RNG(0))
    assert (z.min().item(), z.max().item()) == pytest.approx((-1, 1), abs=1e-3)


@pytest.mark.parametrize("dense", [(), (6,), (6, 5)])
def test_the_class_is_an_input_of_every_layer(dense):
    """With all weights of z and x at 0 only the class changes the output."""
    options = {"base_channels": 2, "dense": dense, "classes": 3, "batch_norm": False}
    g, d = DCGANGenerator((1, 16, 16), 4, **options), DCGANDiscriminator((1, 16, 16), **options)
    for net in (g, d):
        for number, conv in enumerate(convolutions(net)):
            other_gradients = torch.autograd.grad(
                call(net, torch.tensor([0, 1, 2])).sum(), conv.weight, retain_graph=False
            )[0]
            axis = 0 if isinstance(conv, nn.ConvTranspose2d) else 1
            to_classes = other_gradients.transpose(0, axis)[-3:]
            assert (to_classes != 0).any(), number
    assert not torch.equal(call(g, torch.tensor([0, 0, 0])), call(g, torch.tensor([1, 1, 1])))
    assert not torch.equal(call(d, torch.tensor([0, 0, 0])), call(d, torch.tensor([1, 1, 1])))


def call(net, labels):
    if isinstance(net, DCGANGenerator):
        return net(net.latent(3, RNG(0), labels))
    return net(torch.linspace(-1, 1, 3 * 256).view(3, 1, 16, 16), None, labels)


def test_a_conditional_latent_ends_in_its_one_hot_class():
    g = DCGANGenerator((1, 8, 8), 4, 2, classes=3)
    z = g.latent(3, RNG(0), torch.tensor([2, 0, 1]))
    assert z.shape == (3, 7)
    assert z[:, 4:].tolist() == [[0, 0, 1], [1, 0, 0], [0, 1, 0]]
    latents = g.latent(3000, RNG(0))
    assert latents[:, 4:].mean(0).tolist() == pytest.approx([1 / 3] * 3, abs=0.03)
    assert torch.equal(z[:, :4], latents[:3, :4])


def test_a_conditional_discriminator_needs_labels():
    d = DCGANDiscriminator((1, 8, 8), 2, classes=3)
    with pytest.raises(
        UsageError, match="a discriminator with 3 classes got images without labels"
    ):
        d(torch.zeros(2, 1, 8, 8))


def test_concatenated_batches_have_their_own_labels():
    d = DCGANDiscriminator((1, 8, 8), 2, classes=3)
    real, fake = torch.randn(4, 1, 8, 8), torch.randn(4, 1, 8, 8)
    labels = torch.tensor([0, 1, 2, 0]), torch.tensor([2, 2, 1, 0])
    stacked = RNG(0).split_streams("real", "fake")
    joint = d(torch.cat((real, fake)), stacked, torch.cat(labels))
    assert torch.equal(joint, torch.cat((d(real, None, labels[0]), d(fake, None, labels[1]))))


def test_feature_maps_are_the_outputs_of_all_convolutions():
    d = DCGANDiscriminator((3, 32, 32), 4, dense=(5,))
    maps = d.feature_maps(torch.zeros(2, 3, 32, 32))
    assert [tuple(m.shape[1:]) for m in maps] == [(4, 16, 16), (8, 8, 8), (16, 4, 4)]


def test_fusing_batch_norm_does_not_change_the_output():
    """In eval mode with running statistics; the original model is not modified."""
    g = DCGANGenerator((3, 32, 32), **SMALL)
    z = g.latent(16, RNG(0))
    for _ in range(3):
        g(z)
    folded = g.fused()
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    assert g.training
    with torch.no_grad():
        torch.testing.assert_close(folded(z), g.eval()(z), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize(
    ("shape", "kernel", "replaced"),
    [
        ((3, 32, 32), 4, True),
        ((1, 28, 28), 5, True),
        ((3, 24, 16), 3, True),
        ((3, 16, 16), 7, False),
        ((5, 16, 16), 4, False),
    ],
)
def test_the_last_layer_is_computed_as_pixel_shuffle(shape, kernel, replaced, batch_norm):
    """Kernels of 3 to 5 pixels and few channels; the sums are the same in another order."""
    g = DCGANGenerator(shape, base_channels=4, kernel_size=kernel, batch_norm=batch_norm).double()
    g.eval()
    if not batch_norm:
        nn.init.normal_(g.last.net.bias)
    z = torch.randn(3, 100, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    fused = g.fused()
    assert any(isinstance(m, nn.PixelShuffle) for m in fused.modules()) == replaced
    with torch.no_grad():
        # Without the tanh, which hides differences, and the rounding to float32.
        expected, result = (net.last(_maps(net, z)) for net in (g, fused))
    torch.testing.assert_close(result, expected, rtol=1e-9, atol=1e-15)
    assert expected.std() > 1e-12


def _maps(g: DCGANGenerator, z: torch.Tensor) -> torch.Tensor:
    h = z[:, :, None, None]
    for layer in g.layers:
        h = layer(h)
    return h


class TestSpectralNorm:
    """Every layer of D has a largest singular value of 1, whatever the scale of its weights."""

    def test_singular_values(self):
        d = DCGANDiscriminator((3, 16, 16), 4, batch_norm=False, spectral_norm=True)
        x = torch.randn(2, 3, 16, 16)
        with torch.no_grad():
            for conv in convolutions(d):
                conv.parametrizations.weight.original.mul_(7)
            for _ in range(200):  # what is left of the second largest falls as a power of them
                d(x)
        for conv in convolutions(d):
            largest = torch.linalg.matrix_norm(conv.weight.flatten(1), 2)
            assert largest.item() == pytest.approx(1.0, abs=1e-3)

    def test_it_is_a_function_of_the_weights_up_to_scale(self):
        d = DCGANDiscriminator((1, 8, 8), 4, batch_norm=False, spectral_norm=True).eval()
        x = torch.randn(2, 1, 8, 8)
        before = d(x)
        with torch.no_grad():
            for conv in convolutions(d):
                conv.parametrizations.weight.original.mul_(0.5)
        torch.testing.assert_close(d(x), before)

    def test_a_copy_is_one_and_so_is_what_its_state_is_loaded_into(self):
        d, copied_net = (DCGANDiscriminator((1, 8, 8), 4, spectral_norm=True) for _ in range(2))
        copied, x = copy.deepcopy(d), torch.randn(2, 1, 8, 8)
        copied_net.load_state_dict(d.state_dict())
        before = d(x)
        assert torch.equal(copied(x), before)
        assert torch.equal(copied_net(x), before)
        for buffer, copied_buffer in zip(d.buffers(), copied.buffers(), strict=True):
            assert buffer.data_ptr() != copied_buffer.data_ptr()

    def test_in_bfloat16_too(self):
        d = DCGANDiscriminator((1, 8, 8), 4, batch_norm=False, spectral_norm=True)
        x = torch.randn(8, 1, 8, 8, requires_grad=True)
        with torch.autocast("cpu", torch.bfloat16):
            logits = d(x)
        (slope,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
        gradients = torch.autograd.grad(slope.square().sum(), d.parameters(), allow_unused=True)
        assert all(g is None or torch.isfinite(g).all() for g in gradients)
