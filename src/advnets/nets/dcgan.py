"""The deep convolutional pair of Radford et al. 2015, for pictures of 4 x 2^n pixels a side."""

from __future__ import annotations

import copy

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from advnets import config
from advnets.errors import UsageError
from advnets.nets.layers import Shape, draw_prior
from advnets.noise import Noise

_BASE = 4
"""Height and width of the smallest maps."""
_DEVIATION = 0.02


class DCGANGenerator(nn.Module):
    """G(z): maps of 4 x 4, doubled by fractionally strided convolutions, tanh at the end.

    Batch norm and a rectifier follow every convolution but the last. Weights begin N(0, .02), gains
    N(1, .02). Source: Radford et al. 2015, section 3; kernels of 4 as in most reimplementations,
    where the paper has 5.

    Raises:
        UsageError: pictures are not square, or not 8, 16, 32 … pixels a side.
    """

    def __init__(self, shape: Shape, spec: config.DCGANGenerator) -> None:
        super().__init__()
        self.spec, self.latent_dim = spec, spec.latent_dim
        widths = map_channels(shape, spec.channels)[::-1]
        self.first = nn.ConvTranspose2d(spec.latent_dim, widths[0], _BASE, bias=False)
        self.doublings = nn.ModuleList(
            nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False)
            for before, after in zip(widths, [*widths[1:], shape[0]], strict=True)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths)
        begin(self)

    def latent(self, n: int, noise: Noise) -> Float[Tensor, "batch latent"]:
        """Draw n points of the noise prior p_z."""
        return draw_prior(self.spec.prior, n, self.latent_dim, noise)

    def forward(
        self,
        z: Float[Tensor, "batch latent"],
        noise: Noise | None = None,  # noqa: ARG002 - there is none within
    ) -> Float[Tensor, "batch channels height width"]:
        """G(z)."""
        h = self.first(z[:, :, None, None])
        for norm, doubling in zip(self.norms, self.doublings, strict=True):
            h = doubling(F.relu(norm(h)))
        return torch.tanh(h.float())

    def folded(self) -> DCGANGenerator:
        """The same function in eval mode, with batch norm folded into the convolutions."""
        net = copy.deepcopy(self).eval()
        # Each norm belongs to the convolution before it; the last convolution has none.
        convs = (net.first, *net.doublings)
        for i, (conv, norm) in enumerate(zip(convs, net.norms, strict=False)):
            fused = fuse_conv_bn_eval(conv, norm, transpose=True)  # pyright: ignore
            if i == 0:
                net.first = fused
            else:
                net.doublings[i - 1] = fused
            net.norms[i] = nn.Identity()
        return net


class DCGANDiscriminator(nn.Module):
    """Logits a(x): maps halved by strided convolutions down to 4 x 4, then one number.

    Batch norm is left out in the first and the last layer; leaky rectifiers of slope .2. Batches
    that come stacked are passed one by one, so that each has its own batch statistics.
    Source: as for the generator.

    Raises:
        UsageError: pictures are not square, or not 8, 16, 32 … pixels a side.
    """

    def __init__(self, shape: Shape, spec: config.DCGANDiscriminator) -> None:
        super().__init__()
        self.spec = spec
        widths = map_channels(shape, spec.channels)
        self.halvings = nn.ModuleList(
            nn.Conv2d(before, after, 4, 2, 1, bias=not spec.batch_norm)
            for before, after in zip([shape[0], *widths], widths, strict=False)
        )
        self.norms = nn.ModuleList(
            nn.BatchNorm2d(width) if spec.batch_norm and i else nn.Identity()
            for i, width in enumerate(widths)
        )
        self.last = nn.Conv2d(widths[-1], 1, _BASE, bias=not spec.batch_norm)
        begin(self)

    def forward(
        self, x: Float[Tensor, "batch channels height width"], noise: Noise | None = None
    ) -> Float[Tensor, " batch"]:
        """a(x); of `noise`, only how many batches are stacked is looked at."""
        parts = len(noise.streams) if noise is not None and self.spec.batch_norm else 1
        return torch.cat([self._logits(part) for part in x.chunk(parts)])

    def _logits(self, x: Tensor) -> Tensor:
        for halving, norm in zip(self.halvings, self.norms, strict=True):
            x = F.leaky_relu(norm(halving(x)), 0.2)
        return self.last(x).flatten()


def map_channels(shape: Shape, channels: int) -> list[int]:
    """Channels of the hidden maps, from half the picture's size down to 4 x 4.

    Raises:
        UsageError: pictures are not square, or not 8, 16, 32 … pixels a side.
    """
    _, height, width = shape
    halvings = (height // _BASE).bit_length() - 1
    if height != width or halvings < 1 or height != _BASE << halvings:
        raise UsageError(
            f"pictures of {height} x {width} came to a DCGAN, which takes squares of 8, 16, 32, "
            "64 … pixels; give --size one of these"
        )
    return [channels << i for i in range(halvings)]


def begin(net: nn.Module) -> None:
    """Draw the initial weights."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, 0.0, _DEVIATION)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, _DEVIATION)
