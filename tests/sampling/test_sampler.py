"""Batches of images of a generator."""

import torch

from advnets.models.dcgan import DCGANGenerator
from advnets.sampling.sampler import ComputeSettings, generate_batches


def test_weights_that_are_converted_once_give_the_images_of_autocast():
    """To the bit; the generator keeps its weights in float32."""
    g = DCGANGenerator((3, 32, 32), base_channels=8).eval()
    z = torch.randn(4, 100, generator=torch.Generator().manual_seed(0))
    settings = ComputeSettings(torch.device("cpu"), torch.bfloat16)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = g.fused()(z)
    for images in generate_batches(g, [z, z], settings):
        torch.testing.assert_close(images, expected, rtol=0, atol=0)
    assert all(parameter.dtype == torch.float32 for parameter in g.parameters())
