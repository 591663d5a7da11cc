import pytest
import torch
from torch import nn

from advnets.errors import UsageError
from advnets.models import dcgan, resnet
from advnets.models.layers import (
    FullKernelConv2d,
    FullKernelConvTranspose2d,
    InputNoise,
    Maxout,
    MaxoutConv,
    add_noise,
    append_class,
    bound_column_norms_,
    dropout,
    max_over_pieces,
    one_hot,
    projection_logit,
    sparse_,
    uniform_,
    use_batch_statistics,
)
from advnets.rng import RNG

NOISE = RNG(seed=1)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("computed", "reference", "maps"),
    [
        (FullKernelConv2d(6, 5, (4, 3)), nn.Conv2d, (6, 4, 3)),
        (FullKernelConvTranspose2d(6, 5, (4, 3)), nn.ConvTranspose2d, (6, 1, 1)),
    ],
)
def test_full_kernel_convolutions_match_torch(computed, reference, maps, bias):
    """Values and gradients equal those of the base class."""
    computed = type(computed)(6, 5, (4, 3), bias=bias)
    conv = reference(6, 5, (4, 3), bias=bias)
    conv.load_state_dict(computed.state_dict())
    x = torch.randn(7, *maps, requires_grad=True)
    result, expected = computed(x), conv(x)
    torch.testing.assert_close(result, expected)
    weights = torch.randn_like(result)
    slopes = (
        torch.autograd.grad((out * weights).sum(), (x, net.weight))
        for out, net in ((result, computed), (expected, conv))
    )
    for slope, expected_slope in zip(*slopes, strict=True):
        torch.testing.assert_close(slope, expected_slope, rtol=1e-4, atol=1e-5)


def test_maxout_is_the_maximum_of_its_pieces():
    """Compared with the definition as a loop over units and pieces."""
    layer = Maxout(7, 4, 3, init_range=0.5)
    nn.init.normal_(layer.linear.bias)
    x = torch.randn(5, 7)
    out = layer(x)
    weight = layer.linear.weight.detach().reshape(3, 4, 7)
    bias = layer.linear.bias.detach().reshape(3, 4)
    for row in range(5):
        for unit in range(4):
            pieces = [x[row] @ weight[j, unit] + bias[j, unit] for j in range(3)]
            assert out[row, unit].item() == pytest.approx(max(p.item() for p in pieces), rel=1e-5)


def test_convolutional_maxout_is_a_maximum_over_pieces_and_windows():
    """Compared with a maximum over pieces, then over windows that extend beyond the edge."""
    layer = MaxoutConv(2, 4, kernel_size=3, padding=1, pool=(4, 2), pieces=2, init_range=0.5)
    x = torch.randn(3, 2, 9, 9)
    maps = layer.conv(x)
    largest = torch.maximum(maps[:, :4], maps[:, 4:])
    out = layer(x)
    assert out.shape == (3, 4, 4, 4)  # ceil((9 - 4) / 2) + 1
    for i in range(4):
        for j in range(4):
            window = largest[:, :, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4]
            assert torch.equal(out[:, :, i, j], window.amax((2, 3)))


@pytest.mark.parametrize(("p", "scale"), [(0.2, 1.25), (0.5, 2.0)])
def test_dropout_drops_and_scales_as_in_the_paper(p, scale):
    out = dropout(torch.ones(1000, 100), p, NOISE, "mask")
    values, counts = out.unique(return_counts=True)
    assert values.tolist() == pytest.approx([0.0, scale])
    assert counts[1].item() / out.numel() == pytest.approx(1 - p, abs=0.01)


def test_without_rng_dropout_and_noise_are_off():
    x = torch.randn(3, 4)
    assert dropout(x, 0.5, None, "mask") is x
    assert add_noise(x, 1.0, None, "noise") is x


def test_noise_has_the_given_std():
    x = torch.zeros(1000, 100)
    assert add_noise(x, 0.3, NOISE, "noise").std().item() == pytest.approx(0.3, rel=0.02)


def test_sparse_initialization_sets_few_normal_weights():
    layer = sparse_(nn.Linear(500, 300), 100)
    assert (layer.weight != 0).sum(1).tolist() == [100] * 300
    assert layer.weight[layer.weight != 0].std().item() == pytest.approx(1, abs=0.02)


def test_column_norms_are_scaled_down_only_above_the_bound():
    """The bound applies to each unit's incoming weights."""
    module = nn.Sequential(nn.Linear(50, 20), nn.ReLU())
    with torch.no_grad():
        module[0].weight.normal_().mul_(torch.linspace(0.01, 1, 20)[:, None])
    before = module[0].weight.detach().norm(dim=1)
    bound_column_norms_(module, 1.9365)
    after = module[0].weight.detach().norm(dim=1)
    torch.testing.assert_close(after, before.clamp(max=1.9365), rtol=1e-4, atol=1e-6)
    assert (before > 1.9365).any()
    assert (before < 1.9365).any()


def test_input_noise_needs_one_value_per_layer():
    with pytest.raises(
        UsageError, match="dropout has 2 values and the generator has 3 layers; give one"
    ):
        InputNoise((0.5, 0.5), (), 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_max_over_pieces_and_its_gradient_match_amax(dtype):
    """With ties, which are frequent in bfloat16, the gradient is shared equally."""
    torch.manual_seed(0)
    x = torch.randn(7, 4, 30).to(dtype)
    x[0] = 1.0
    x[1, 2] = x[1].amax(0)
    own, reference = x.clone().requires_grad_(), x.clone().requires_grad_()
    gradient = torch.randn(7, 30).to(dtype)
    assert torch.equal(max_over_pieces(own), reference.amax(1))
    a = torch.autograd.grad(max_over_pieces(own), own, gradient)
    b = torch.autograd.grad(reference.amax(1), reference, gradient)
    torch.testing.assert_close(a, b)


def test_max_over_pieces_is_twice_differentiable():
    """As gradient penalties need it; compared with finite differences."""
    torch.manual_seed(0)
    x = torch.randn(3, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(max_over_pieces, (x,))
    assert torch.autograd.gradgradcheck(lambda x: max_over_pieces(x**3), (x,))


@pytest.mark.parametrize(
    "networks",
    [
        (dcgan.DCGANDiscriminator, dcgan.DCGANGenerator),
        (resnet.ResidualDiscriminator, resnet.ResidualGenerator),
    ],
    ids=["dcgan", "residual"],
)
@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 16, 32)], ids=["channels", "size"])
def test_inputs_of_another_shape_are_refused(networks, shape):
    """Without the check a strided D would return several logits for an image of another size."""
    discriminator, generator = networks
    d = discriminator((3, 16, 16), base_channels=4)
    g = generator((3, 16, 16), 5, base_channels=4)
    actual = " x ".join(map(str, shape))
    message = f"the model was built for images of 3 x 16 x 16, got {actual}; pass images"
    for function in (d, d.feature_maps):
        with pytest.raises(UsageError, match=message):
            function(torch.zeros(2, *shape))
    with pytest.raises(UsageError, match="the model was built for latents of 5, got 6; pass"):
        g(torch.zeros(2, 6))


def test_append_class_appends_one_hot_labels():
    """Given labels are encoded one-hot; without labels each class is equally frequent."""
    z = torch.randn(3000, 2)
    assert append_class(z, 0, NOISE, None) is z
    labels = torch.arange(3000) % 3
    labeled = append_class(z, 3, NOISE, labels)
    assert torch.equal(labeled[:, :2], z)
    assert torch.equal(labeled[:, 2:], torch.eye(3)[labels])
    unlabeled = append_class(z, 3, NOISE, None)[:, 2:]
    assert torch.equal(unlabeled.sum(1), torch.ones(3000))
    assert unlabeled.mean(0).tolist() == pytest.approx([1 / 3] * 3, abs=0.03)


def test_one_hot_needs_labels_for_classes():
    like = torch.zeros(1, dtype=torch.float64)
    assert one_hot(torch.tensor([0]), 0, like) is None
    result = one_hot(torch.tensor([2, 0]), 3, like)
    assert result.dtype == torch.float64
    assert result.tolist() == [[0, 0, 1], [1, 0, 0]]
    with pytest.raises(
        UsageError, match="a discriminator with 3 classes got images without labels"
    ):
        one_hot(None, 3, like)


def test_projection_logit_is_the_inner_product_with_summed_maps():
    """v_y · Σ h, row by row."""
    directions = nn.Conv2d(3, 5, 1, bias=False)
    maps, labels = torch.randn(4, 5, 2, 3), torch.tensor([2, 0, 1, 2])
    result = projection_logit(directions, torch.eye(3)[labels], maps)
    for row in range(4):
        expected = directions.weight[:, labels[row], 0, 0] @ maps[row].sum((1, 2))
        assert result[row].item() == pytest.approx(expected.item(), rel=1e-4)


def test_uniform_initialization_of_weights_and_biases():
    layer = uniform_(nn.Linear(300, 200), 0.3, 0.7)
    assert layer.weight.min().item() == pytest.approx(-0.3, abs=1e-3)
    assert layer.weight.max().item() == pytest.approx(0.3, abs=1e-3)
    assert layer.weight.std().item() == pytest.approx(0.3 / 3**0.5, rel=0.02)
    assert torch.equal(layer.bias, torch.full((200,), 0.7))
    uniform_(nn.Linear(3, 2, bias=False), 0.3)


def test_use_batch_statistics_returns_a_copy_without_running_statistics():
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).eval()
    x = 5 + torch.randn(50, 3)
    copied = use_batch_statistics(net)
    out = copied(x)
    torch.testing.assert_close(out.mean(0), torch.zeros(4), rtol=0, atol=1e-5)
    assert net[1].running_mean is not None
    assert not torch.allclose(net(x), out)
    maps = use_batch_statistics(nn.Sequential(nn.BatchNorm2d(2)).eval())(
        torch.randn(9, 2, 3, 3) + 4
    )
    torch.testing.assert_close(maps.mean((0, 2, 3)), torch.zeros(2), rtol=0, atol=1e-5)
