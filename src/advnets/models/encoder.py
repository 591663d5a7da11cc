"""Encoders: models of the posterior q(z | x)."""

from __future__ import annotations

import math
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from advnets import config
from advnets.models.layers import ACTIVATIONS, Shape
from advnets.protocols import Posterior


class MLPEncoder(nn.Module):
    """A fully connected encoder q(z | x) = N(μ(x), diag σ²(x)), with outputs μ and log σ².

    It maps (batch, channels, height, width) to a `Posterior` over (batch, latent). A deterministic
    encoder has no variance: E(x) = μ(x). Source: Kingma and Welling 2014, appendix C.2.
    """

    def __init__(self, shape: Shape, spec: config.MLPEncoder, latent_dim: int) -> None:
        super().__init__()
        self.spec, self.latent_dim = spec, latent_dim
        sizes = (math.prod(shape), *spec.hidden_sizes)
        activate = ACTIVATIONS[spec.activation]
        self.activate = activate
        self.linears = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(sizes))
        self.norms = nn.ModuleList(
            nn.BatchNorm1d(size) if spec.batch_norm else nn.Identity() for size in spec.hidden_sizes
        )
        self.mean = nn.Linear(sizes[-1], latent_dim)
        self.log_variance = None if spec.deterministic else nn.Linear(sizes[-1], latent_dim)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Posterior:
        """Return q(z | x)."""
        h = x.flatten(1)
        for linear, norm in zip(self.linears, self.norms, strict=True):
            h = self.activate(norm(linear(h)))
        log_variance = None if self.log_variance is None else self.log_variance(h).float()
        return Posterior(self.mean(h).float(), log_variance)
