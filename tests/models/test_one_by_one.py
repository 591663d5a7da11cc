"""What a discriminator says of itself, held against what it does."""

from __future__ import annotations

import pytest
import torch

from advnets import config
from advnets.models.factory import build_discriminator
from advnets.protocols import is_per_sample

DCGAN = config.DCGANDiscriminator(base_channels=4, batch_norm=False)
NETS = [
    (config.MaxoutDiscriminator((6, 6), 2), 0),
    (config.MaxoutDiscriminator((6, 6), 2), 3),
    (config.MaxoutConvDiscriminator(channels=(4, 4, 6), dense_units=5), 0),
    (config.MLPDiscriminator((6, 6), fourier_features=3), 0),
    (config.MLPDiscriminator((6, 6)), 3),
    (config.DCGANDiscriminator(base_channels=4), 0),
    (DCGAN, 0),
    (DCGAN, 3),
    (config.DCGANDiscriminator(base_channels=4, batch_norm=False, projection=True), 3),
    (config.DCGANDiscriminator(base_channels=4, batch_norm=False, spectral_norm=True), 0),
    (config.ResidualDiscriminator(base_channels=8), 0),
    (config.ResidualDiscriminator(base_channels=8), 3),
]


@pytest.mark.parametrize(("spec", "classes"), NETS, ids=lambda told: type(told).__name__)
def test_d_says_truly_whether_a_logit_depends_on_anothers_image(spec, classes):
    torch.manual_seed(0)
    net = build_discriminator(spec, (1, 28, 28), classes)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    x = torch.randn(6, 1, 28, 28, requires_grad=True)
    told = (torch.arange(6) % classes,) if classes else ()
    (slope,) = torch.autograd.grad(net(x, None, *told)[0], x)
    assert slope[0].any()
    assert bool(slope[1:].any()) != is_per_sample(net)


def test_of_a_d_that_says_nothing_nothing_is_supposed():
    assert not is_per_sample(torch.nn.Linear(2, 1))
