import pytest
import torch
from torch import nn
from torch.nn import functional as F

from advnets.errors import UsageError
from advnets.models.layers import upsampling_sizes
from advnets.models.resnet import (
    Block,
    ResidualDiscriminator,
    ResidualGenerator,
    downsample,
    upsample,
)
from advnets.rng import RNG

SMALL = {"base_channels": 4, "group_size": 4}


def tent(channels, scale):
    kernel = torch.tensor([1.0, 2.0, 1.0])
    return (torch.outer(kernel, kernel) * scale).expand(channels, 1, 3, 3)


def test_upsampling_is_a_transposed_convolution_by_1_2_1():
    """Except in the last row and column, where the edge is replicated."""
    x = torch.randn(2, 3, 5, 6)
    expected = F.conv_transpose2d(x, tent(3, 1 / 4), None, 2, 1, 1, groups=3)
    actual = upsample(x, (2, 2))
    assert actual.shape == (2, 3, 10, 12)
    torch.testing.assert_close(actual[..., :-1, :-1], expected[..., :-1, :-1])
    assert torch.equal(actual[..., -1, :], actual[..., -2, :])


def test_downsampling_is_a_strided_convolution_by_1_2_1():
    x = torch.randn(2, 3, 10, 12)
    expected = F.conv2d(F.pad(x, (1, 1, 1, 1), "replicate"), tent(3, 1 / 16), None, 2, groups=3)
    actual = downsample(x, (2, 2))
    assert actual.shape == (2, 3, 5, 6)
    torch.testing.assert_close(actual, expected)


def test_constant_maps_stay_constant_and_strides_may_differ():
    flat = torch.full((1, 1, 4, 4), 3.0)
    for change, size in ((upsample, (4, 8)), (downsample, (4, 2))):
        changed = change(flat, (1, 2))
        assert changed.shape[2:] == size
        assert (changed == 3).all()


def test_a_block_is_initially_the_identity():
    x = torch.randn(2, 8, 6, 6)
    assert torch.equal(Block(8, 2, 4, total_blocks=6)(x), x)


def test_a_block_computes_its_formula():
    """x + C φ(B φ(A x)) written with matrices, B acting on groups of channels."""
    block = Block(4, 2, 4, total_blocks=1)
    for layer in (block.widen, block.mix, block.narrow):
        nn.init.normal_(layer.weight)
    x = torch.randn(3, 4, 1, 1)  # of one pixel: only the kernel's middle meets it
    a, b, c = (layer.weight for layer in (block.widen, block.mix, block.narrow))
    middle = torch.block_diag(b[:4, :, 1, 1], b[4:, :, 1, 1])
    h = F.leaky_relu(x[:, :, 0, 0] @ a[:, :, 0, 0].T, 0.2)
    h = F.leaky_relu(h @ middle.T, 0.2) @ c[:, :, 0, 0].T
    torch.testing.assert_close(block(x)[:, :, 0, 0], x[:, :, 0, 0] + h)


def test_groups_of_16_by_default():
    mix = ResidualDiscriminator((3, 32, 32)).stages[0][0].mix
    assert (mix.in_channels, mix.groups, mix.weight.shape[1]) == (64, 4, 16)


@pytest.mark.parametrize("blocks", [1, 16])
def test_initial_variance_depends_on_the_depth(blocks):
    """The variance is 2 / inputs (1.92 for a slope of 0.2) times blocks^(-1/2)."""
    block = Block(64, 4, 256, blocks)
    for layer, inputs in ((block.widen, 64), (block.mix, 256 * 9)):
        variance = 2 / 1.04 / inputs * blocks**-0.5
        assert layer.weight.var().item() == pytest.approx(variance, rel=0.05)
        assert (layer.bias == 0).all()


def test_channels_double_up_to_max_channels():
    d = ResidualDiscriminator((3, 32, 32), base_channels=8, max_channels=24, group_size=8)
    maps = d.feature_maps(torch.zeros(2, 3, 32, 32))
    assert [tuple(m.shape[1:]) for m in maps] == [(8, 32, 32), (16, 16, 16), (24, 8, 8), (24, 4, 4)]


@pytest.mark.parametrize("size", [(8, 8), (10, 14), (28, 28), (24, 40), (8, 64), (12, 32)])
@pytest.mark.parametrize("blocks", [1, 2])
def test_output_sizes_of_supported_shapes(size, blocks):
    shape = (2, *size)
    g, d = (
        ResidualGenerator(shape, 3, blocks=blocks, **SMALL),
        ResidualDiscriminator(shape, blocks=blocks, **SMALL),
    )
    fake = g(g.latent(2, RNG(0)))
    assert fake.shape == (2, *shape)
    assert fake.abs().max() <= 1
    assert d(fake).shape == (2,)
    assert len([m for net in (g, d) for m in net.modules() if isinstance(m, Block)]) == (
        2 * blocks * (len(upsampling_sizes(shape)[1]) + 1)
    )


def test_there_are_no_normalization_layers():
    for net in (ResidualGenerator((3, 32, 32)), ResidualDiscriminator((3, 32, 32))):
        assert not any("Norm" in type(module).__name__ for module in net.modules())


def test_initial_outputs_are_of_order_1():
    """G's images and D's logits are of order 1 for every size and depth."""
    torch.manual_seed(0)
    for shape, blocks in (((1, 8, 8), 1), ((3, 32, 32), 1), ((3, 64, 64), 3)):
        g = ResidualGenerator(shape, blocks=blocks, output="linear")
        d = ResidualDiscriminator(shape, blocks=blocks)
        with torch.no_grad():
            fake = g(g.latent(64, RNG(0)))
            # Smooth, as images are: of noise the means are 0.
            logits = d(F.interpolate(torch.randn(64, shape[0], 4, 4), shape[1:]).clamp(-1, 1))
        assert 0.1 < fake.std() < 2
        assert 0.03 < logits.std() < 2


def test_both_models_depend_on_the_class():
    g, d = (
        ResidualGenerator((1, 8, 8), 4, classes=3, **SMALL),
        ResidualDiscriminator((1, 8, 8), classes=3, **SMALL),
    )
    labels = torch.tensor([0, 1, 2])
    z = g.latent(3, RNG(0), labels)
    assert z[:, 4:].argmax(1).tolist() == [0, 1, 2]
    assert not torch.equal(g(z), g(g.latent(3, RNG(0), labels.flip(0))))
    nn.init.normal_(d.directions.weight)
    x = torch.randn(3, 1, 8, 8)
    h = F.leaky_relu(d.feature_maps(x)[-1], 0.2)
    along = d.directions.weight[:, labels, 0, 0].T
    expected = d.last(h).flatten() + (h.sum((2, 3)) * along).sum(1)
    torch.testing.assert_close(d(x, None, labels), expected)
    with pytest.raises(
        UsageError, match="a discriminator with 3 classes got images without labels"
    ):
        d(x)


def test_channels_and_groups_that_do_not_fit_are_refused():
    with pytest.raises(UsageError, match="2 x 12 channels cannot be divided into groups of 16"):
        ResidualDiscriminator((1, 8, 8), base_channels=12)
    assert ResidualDiscriminator((1, 8, 8), base_channels=4)(torch.zeros(1, 1, 8, 8)).shape == (
        1,
    )  # one group
