"""Scores of inference: how well z gives the image back, what z tells, and the bound on log p."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from advnets import config
from advnets.data.normalization import Normalizer
from advnets.errors import UsageError
from advnets.evaluation.context import (
    MAX_TRAIN_IMAGES,
    EvaluationContext,
    Record,
    require_test_split,
)
from advnets.extractors.discriminator import weights_digest
from advnets.games.vae import kl_to_prior, log_likelihood
from advnets.protocols import Encoder, Generator, Posterior
from advnets.report.score_text import GENERATOR, MEAN
from advnets.rng import RNG
from advnets.sampling.sampler import BLOCK, MAX_TEST_IMAGES, read_images, real_images

NUM_LATENTS = 100
"""z for each image, where log p(x) is bounded by importance weights."""


@dataclass(frozen=True)
class EncoderExtractor:
    """The mean of q(z | x) as features."""

    name: str
    digest: str
    net: nn.Module
    normalizer: Normalizer

    @torch.no_grad()
    def features(
        self, pixels: Float[Tensor, "n channels height width"]
    ) -> Float[Tensor, "n features"]:
        """One row for each image."""
        device = next(self.net.parameters()).device
        encoder = cast(Encoder, self.net)
        blocks = (
            self.normalizer.from_unit_range(block).to(device) for block in pixels.split(BLOCK)
        )
        return torch.cat([encoder(block).mean.float().cpu() for block in blocks])


def encoder_extractor(net: nn.Module, normalizer: Normalizer) -> EncoderExtractor:
    """An encoder as an extractor, by the hash of its weights."""
    return EncoderExtractor("encoder", weights_digest(net), net, normalizer)


def require_encoder(players: Mapping[str, nn.Module], metric: str) -> nn.Module:
    """The encoder.

    Raises:
        UsageError: there is none.
    """
    if "encoder" not in players:
        raise UsageError(
            f"the metric {metric} needs an encoder, and this run has none; give a run of "
            "inference-mnist, latent-regression-mnist or vae-mnist"
        )
    return players["encoder"]


@torch.no_grad()
def reconstruction_records(context: EvaluationContext) -> list[Record]:
    """Mean squared error of G(E(x)) on test images, beside the mean training image's."""
    encoder = cast(Encoder, require_encoder(context.players, "reconstruction"))
    net = cast(Generator, context.generator)
    shown = read_images(require_test_split(context.data), slice(MAX_TEST_IMAGES))
    scaling, device = context.data.normalizer, context.compute_settings.device
    squares: list[Tensor] = []
    for block in shown.split(BLOCK):
        back = net(encoder(scaling.from_unit_range(block).to(device)).mean)
        squares.append((scaling.to_pixels(back).float().cpu() - block).square().flatten(1).mean(1))
    mean = real_images(context.data.dataset.train, MAX_TRAIN_IMAGES, context.seed).mean(0)
    rows = {
        GENERATOR: torch.cat(squares),
        MEAN: (shown - mean).square().flatten(1).mean(1),
    }
    return [
        context.record(
            "reconstruction",
            row,
            error=float(errors.double().mean()),
            standard_error=float(errors.double().std() / len(errors) ** 0.5),
            n_test=len(errors),
            n_real=len(errors),
            n_fake=len(errors),
        )
        for row, errors in rows.items()
    ]


@torch.no_grad()
def elbo_records(context: EvaluationContext) -> list[Record]:
    """The evidence lower bound on test images, in nats, and a tighter one of many z.

        log p(x) >= E log 1/K Σ_k p(x | z_k) p(z_k) / q(z_k | x) >= ELBO

    Source: Kingma and Welling 2014, equation 10; Burda et al. 2016, equation 8, K = 100.
    """
    game = context.game
    if not isinstance(game, config.VAEGame):
        raise UsageError(
            "the metric elbo is of a variational autoencoder, and this run is none; give a run "
            "of vae-mnist"
        )
    players, scaling = context.players, context.data.normalizer
    shown = read_images(require_test_split(context.data), slice(MAX_TEST_IMAGES))
    bounds: list[Tensor] = []
    tighter: list[Tensor] = []
    divergences: list[Tensor] = []
    for number, block in enumerate(shown.split(BLOCK)):
        x = scaling.from_unit_range(block).to(context.compute_settings.device)
        posterior = cast(Encoder, players["encoder"])(x)
        apart = kl_to_prior(posterior)
        rng = RNG(context.seed, step=number, purpose="elbo", device=x.device)
        weights: list[Tensor] = []
        told: list[Tensor] = []
        for draw in range(NUM_LATENTS):
            z = posterior.draw(rng.fold_in(str(draw)))
            told.append(log_likelihood(game, players, x, z))
            weights.append(told[-1] + _prior_over_posterior(z, posterior))
        bounds.append(torch.stack(told).mean(0) - apart)
        tighter.append(torch.stack(weights).logsumexp(0) - torch.tensor(float(NUM_LATENTS)).log())
        divergences.append(apart)
    elbo = torch.cat(bounds).double()
    return [
        context.record(
            "elbo",
            GENERATOR,
            elbo=float(elbo.mean()),
            standard_error=float(elbo.std() / len(elbo) ** 0.5),
            divergence=float(torch.cat(divergences).mean()),
            bound_of_many=float(torch.cat(tighter).double().mean()),
            draws=NUM_LATENTS,
            likelihood=game.likelihood,
            n_test=len(elbo),
            n_real=len(elbo),
            n_fake=0,
        )
    ]


def _prior_over_posterior(z: Tensor, posterior: Posterior) -> Float[Tensor, " batch"]:
    """Log p(z) - log q(z | x); what both have in common left out."""
    assert posterior.log_variance is not None
    squares = (z - posterior.mean).square() * (-posterior.log_variance).exp()
    return 0.5 * (squares + posterior.log_variance - z.square()).sum(1)
