"""An encoder for a trained generator, by regression of its latents."""

from __future__ import annotations

from typing import cast

import torch

from advnets import config
from advnets.losses import posterior_log_density
from advnets.protocols import Batch, Encoder, Generator, Phase, PhaseOutput, Players
from advnets.rng import RNG


class LatentRegression:
    """max_E E_z[log q(z | G(z))], for a fixed G.

    It uses samples of G and no data. The maximum is the distribution in E's family that is closest
    to the posterior of z under G; a deterministic E learns the posterior mean. Source: Goodfellow
    et al. 2014, section 7, extension 2, second sentence.
    """

    def __init__(self, spec: config.LatentRegressionGame) -> None:
        self.spec = spec

    def phases(self) -> tuple[Phase, ...]:
        """Return (encoder)."""
        return (Phase("encoder", self.encoder),)

    def encoder(self, players: Players, batch: Batch, rng: RNG) -> PhaseOutput:
        """Return -log q(z | G(z)) per dimension of z; for a deterministic E, the squared error."""
        # Sample z and G(z), in eval mode, which leaves batch-norm statistics unchanged.
        generator = players["generator"].eval()
        net = cast(Generator, generator)
        with torch.no_grad():
            z = net.latent(len(batch.images), rng).float()
            images = net(z)
        # Compute the negative log-likelihood of z, or its squared error.
        posterior = cast(Encoder, players["encoder"])(images)
        mse = (z - posterior.mean).square().mean()
        if posterior.log_variance is None:
            return PhaseOutput({"encoder": mse}, {"z/mse": mse})
        log_density = posterior_log_density(z, posterior.mean, posterior.log_variance)
        return PhaseOutput({"encoder": -log_density.mean() / z.shape[1]}, {"z/mse": mse})
