from __future__ import annotations

import pytest
import torch
from torch import nn

from advnets import config
from advnets.errors import UsageError
from advnets.nets.dcgan import DCGANDiscriminator, DCGANGenerator
from advnets.noise import Noise

SMALL_G, SMALL_D = config.DCGANGenerator(channels=4), config.DCGANDiscriminator(channels=4)


def plain_generator(latent_dim, channels, colours):
    """The 64 x 64 generator written out, as a list of layers."""
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
        nn.ConvTranspose2d(c, colours, 4, 2, 1, bias=False),
        nn.Tanh(),
    )


def plain_discriminator(channels, colours):
    """The 64 x 64 discriminator written out."""
    c = channels
    return nn.Sequential(
        *(nn.Conv2d(colours, c, 4, 2, 1, bias=False), nn.LeakyReLU(0.2)),
        *(nn.Conv2d(c, 2 * c, 4, 2, 1, bias=False), nn.BatchNorm2d(2 * c), nn.LeakyReLU(0.2)),
        *(nn.Conv2d(2 * c, 4 * c, 4, 2, 1, bias=False), nn.BatchNorm2d(4 * c), nn.LeakyReLU(0.2)),
        *(nn.Conv2d(4 * c, 8 * c, 4, 2, 1, bias=False), nn.BatchNorm2d(8 * c), nn.LeakyReLU(0.2)),
        nn.Conv2d(8 * c, 1, 4, 1, 0, bias=False),
    )


def given_weights(plain, ours):
    """Layer by layer; each kind comes in the same order in both."""
    for kind in (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d):
        mine, theirs = ([m for m in net.modules() if type(m) is kind] for net in (ours, plain))
        assert len(mine) == len(theirs)
        for a, b in zip(mine, theirs, strict=True):
            b.load_state_dict(a.state_dict())
    return plain


def test_the_generator_is_the_list_of_layers_that_the_paper_draws():
    ours = DCGANGenerator((3, 64, 64), SMALL_G)
    z = ours.latent(5, Noise(0))
    plain = given_weights(plain_generator(100, 4, 3), ours)
    torch.testing.assert_close(ours(z), plain(z[:, :, None, None]))


def test_the_discriminator_is_the_list_of_layers_that_the_paper_draws():
    ours = DCGANDiscriminator((3, 64, 64), SMALL_D)
    x = torch.randn(5, 3, 64, 64)
    torch.testing.assert_close(ours(x), given_weights(plain_discriminator(4, 3), ours)(x).flatten())


def test_stacked_batches_have_batch_statistics_of_their_own():
    """One call on both gives what two calls give, the running statistics too."""
    one, two = (DCGANDiscriminator((1, 16, 16), SMALL_D) for _ in range(2))
    two.load_state_dict(one.state_dict())
    real, fake = torch.randn(6, 1, 16, 16), 3 + torch.randn(6, 1, 16, 16)
    together = one(torch.cat((real, fake)), Noise(0).stacked("real", "fake"))
    assert torch.equal(together, torch.cat((two(real), two(fake))))
    for a, b in zip(one.buffers(), two.buffers(), strict=True):
        assert torch.equal(a, b)


def test_the_published_sizes():
    """3.58 and 2.77 million parameters, as in PyTorch's own example."""
    g = DCGANGenerator((3, 64, 64), config.DCGANGenerator())
    d = DCGANDiscriminator((3, 64, 64), config.DCGANDiscriminator())
    counts = [sum(p.numel() for p in net.parameters()) for net in (g, d)]
    assert counts == [3_576_704, 2_765_568]


@pytest.mark.parametrize("side", [8, 32, 128])
def test_other_sizes_are_reached_by_fewer_or_more_layers(side):
    shape = (1, side, side)
    g, d = DCGANGenerator(shape, SMALL_G), DCGANDiscriminator(shape, SMALL_D)
    fake = g(g.latent(2, Noise(0)))
    assert fake.shape == (2, *shape)
    assert d(fake).shape == (2,)


@pytest.mark.parametrize("shape", [(3, 64, 32), (3, 28, 28), (1, 4, 4), (1, 48, 48)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(UsageError, match="squares of 8, 16, 32, 64"):
        DCGANGenerator(shape, SMALL_G)
    with pytest.raises(UsageError, match=f"pictures of {shape[1]} x {shape[2]}"):
        DCGANDiscriminator(shape, SMALL_D)


def test_initial_weights_are_normal_with_deviation_002():
    g = DCGANGenerator((3, 64, 64), config.DCGANGenerator())
    weights = g.doublings[0].weight
    assert (weights.mean().item(), weights.std().item()) == pytest.approx((0, 0.02), abs=1e-3)
    gains = torch.cat([norm.weight for norm in g.norms])
    assert (gains.mean().item(), gains.std().item()) == pytest.approx((1, 0.02), abs=3e-3)
    assert all((norm.bias == 0).all() for norm in g.norms)


def test_folded_it_is_the_same_function():
    """Of running statistics, as sampling takes them; the net itself stays as it is."""
    g = DCGANGenerator((3, 32, 32), SMALL_G)
    z = g.latent(16, Noise(0))
    for _ in range(3):
        g(z)
    folded = g.folded()
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    assert g.training
    torch.testing.assert_close(folded(z), g.eval()(z), rtol=1e-4, atol=1e-5)
