"""Inference learned after G: what z an image came from."""

from __future__ import annotations

from typing import cast

import torch

from advnets import config
from advnets.losses import posterior_log_density
from advnets.protocols import Batch, Encoder, Generator, Phase, PhaseOutput, Players
from advnets.rng import RNG


class LatentRegression:
    """max_E E_z[log q(z | G(z))]: E learns to give back the z that a fixed G was given.

    No image is looked at: G makes as many as are wanted. Its maximum is, among the distributions
    E can say, the nearest to the posterior of G's own joint distribution; a deterministic E learns
    its mean. Source: Goodfellow et al. 2014, section 7, extension 2, second sentence.
    """

    def __init__(self, spec: config.LatentRegressionGame) -> None:
        self.spec = spec

    def phases(self) -> tuple[Phase, ...]:
        """(encoder)."""
        return (Phase("encoder", self.encoder),)

    def encoder(self, players: Players, batch: Batch, rng: RNG) -> PhaseOutput:
        """E ascends log q(z | G(z))."""
        generator = players["generator"].eval()  # its statistics stay as they are
        net = cast(Generator, generator)
        with torch.no_grad():
            z = net.latent(len(batch.images), rng).float()
            images = net(z)
        posterior = cast(Encoder, players["encoder"])(images)
        missed = (z - posterior.mean).square().mean()
        if posterior.log_variance is None:
            return PhaseOutput({"encoder": missed}, {"z/missed": missed})
        told = posterior_log_density(z, posterior.mean, posterior.log_variance)
        return PhaseOutput({"encoder": -told.mean() / z.shape[1]}, {"z/missed": missed})
