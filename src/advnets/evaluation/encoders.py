"""Metrics of encoders: reconstruction error, and lower bounds on the log-likelihood."""

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
from advnets.evaluation.spec import GENERATOR, MEAN, MetricSpec, Value, normal_interval
from advnets.extractors.discriminator import weights_digest
from advnets.games.encoders import kl_to_prior, log_likelihood
from advnets.protocols import Encoder, Generator, Posterior
from advnets.rng import RNG
from advnets.sampling.sampler import BLOCK, MAX_TEST_IMAGES, read_images, real_images

NUM_LATENTS = 100
"""Latent samples z per image for the importance-weighted bound."""


@dataclass(frozen=True)
class EncoderExtractor:
    """A feature extractor: the mean of q(z | x)."""

    name: str
    digest: str
    net: nn.Module
    normalizer: Normalizer

    @torch.no_grad()
    def features(
        self, pixels: Float[Tensor, "n channels height width"]
    ) -> Float[Tensor, "n features"]:
        """Return the mean of q(z | x), one row for each image."""
        device = next(self.net.parameters()).device
        encoder = cast(Encoder, self.net)
        blocks = (
            self.normalizer.from_unit_range(block).to(device) for block in pixels.split(BLOCK)
        )
        return torch.cat([encoder(block).mean.float().cpu() for block in blocks])


def encoder_extractor(net: nn.Module, normalizer: Normalizer) -> EncoderExtractor:
    """Return an encoder as a feature extractor, identified by the SHA-256 of its weights."""
    return EncoderExtractor("encoder", weights_digest(net), net, normalizer)


def require_encoder(players: Mapping[str, nn.Module], metric: str) -> nn.Module:
    """Return the encoder among the players of a run.

    Raises:
        UsageError: the run has no encoder.
    """
    if "encoder" not in players:
        raise UsageError(
            f"the metric {metric} needs an encoder, and this run has none; give a run of "
            "inference-mnist, latent-regression-mnist or vae-mnist"
        )
    return players["encoder"]


@torch.no_grad()
def reconstruction_records(context: EvaluationContext) -> list[Record]:
    """Compute the mean squared error of G(E(x)) per pixel of test images x.

    As a baseline also that of the mean training image.
    """
    encoder = cast(Encoder, require_encoder(context.players, "reconstruction"))
    net = cast(Generator, context.generator)
    test = read_images(require_test_split(context.data), slice(MAX_TEST_IMAGES))
    normalizer, device = context.data.normalizer, context.compute_settings.device
    squares: list[Tensor] = []
    for batch in test.split(BLOCK):
        decoded = net(encoder(normalizer.from_unit_range(batch).to(device)).mean)
        pixels = normalizer.to_pixels(decoded).float().cpu()
        squares.append((pixels - batch).square().flatten(1).mean(1))
    mean = real_images(context.data.dataset.train, MAX_TRAIN_IMAGES, context.seed).mean(0)
    errors_by_samples = {
        GENERATOR: torch.cat(squares),
        MEAN: (test - mean).square().flatten(1).mean(1),
    }
    return [
        context.record(
            "reconstruction",
            samples,
            error=float(errors.double().mean()),
            standard_error=float(errors.double().std() / len(errors) ** 0.5),
            n_test=len(errors),
            n_real=len(errors),
            n_fake=len(errors),
        )
        for samples, errors in errors_by_samples.items()
    ]


RECONSTRUCTION = MetricSpec(
    name="reconstruction",
    title="reconstruction error",
    help="mean squared error per pixel of reconstructed test images G(E(x))",
    records=reconstruction_records,
    values={"error": Value("lower", normal_interval())},
    describe=lambda r: f"mean squared error {r['error']:.4f} per pixel",
    describe_inputs=lambda r: f"pixels, {r['n_test']:,} test images",
    details=("standard_error",),
    samples="none",
    check_data=require_test_split,
    check_run=lambda context: require_encoder(context.players, "reconstruction"),
    needs="an encoder",
)


@torch.no_grad()
def elbo_records(context: EvaluationContext) -> list[Record]:
    """Compute the evidence lower bound on test images, and the importance-weighted bound, in nats.

        log p(x) >= E log 1/K Σ_k p(x | z_k) p(z_k) / q(z_k | x) >= ELBO

    Source: Kingma and Welling 2014, equation 10; Burda et al. 2016, equation 8, K = 100.
    """
    game = _require_vae(context)
    players, normalizer = context.players, context.data.normalizer
    test = read_images(require_test_split(context.data), slice(MAX_TEST_IMAGES))
    elbos: list[Tensor] = []
    iwae_bounds: list[Tensor] = []
    divergences: list[Tensor] = []
    for number, batch in enumerate(test.split(BLOCK)):
        # Encode a batch.
        x = normalizer.from_unit_range(batch).to(context.compute_settings.device)
        posterior = cast(Encoder, players["encoder"])(x)
        divergence = kl_to_prior(posterior)

        # Sample z from the posterior, and weight each by p(x, z) / q(z | x).
        rng = RNG(context.seed, step=number, purpose="elbo", device=x.device)
        log_weights: list[Tensor] = []
        log_likelihoods: list[Tensor] = []
        for draw in range(NUM_LATENTS):
            z = posterior.draw(rng.fold_in(str(draw)))
            log_likelihoods.append(log_likelihood(game, players, x, z))
            log_weights.append(log_likelihoods[-1] + _log_prior_over_posterior(z, posterior))
        elbos.append(torch.stack(log_likelihoods).mean(0) - divergence)
        log_sum = torch.stack(log_weights).logsumexp(0)
        iwae_bounds.append(log_sum - torch.tensor(float(NUM_LATENTS)).log())
        divergences.append(divergence)
    elbo = torch.cat(elbos).double()
    return [
        context.record(
            "elbo",
            GENERATOR,
            elbo=float(elbo.mean()),
            standard_error=float(elbo.std() / len(elbo) ** 0.5),
            kl=float(torch.cat(divergences).mean()),
            iwae_bound=float(torch.cat(iwae_bounds).double().mean()),
            draws=NUM_LATENTS,
            likelihood=game.likelihood,
            n_test=len(elbo),
            n_real=len(elbo),
            n_fake=0,
        )
    ]


def _require_vae(context: EvaluationContext) -> config.VAEGame:
    """Return the game, that of a variational autoencoder.

    Raises:
        UsageError: the run is not a variational autoencoder.
    """
    if not isinstance(context.game, config.VAEGame):
        raise UsageError(
            "the metric elbo needs a variational autoencoder, and this run is not one; give a run "
            "of vae-mnist"
        )
    return context.game


def _log_prior_over_posterior(z: Tensor, posterior: Posterior) -> Float[Tensor, " batch"]:
    """Return log p(z) - log q(z | x), without the terms that cancel."""
    assert posterior.log_variance is not None
    squares = (z - posterior.mean).square() * (-posterior.log_variance).exp()
    return 0.5 * (squares + posterior.log_variance - z.square()).sum(1)


ELBO = MetricSpec(
    name="elbo",
    title="ELBO",
    help="evidence lower bound on test images, and the importance-weighted bound (IWAE)",
    records=elbo_records,
    values={"elbo": Value("higher", normal_interval()), "iwae_bound": Value("higher")},
    describe=lambda r: (
        f"ELBO {r['elbo']:.1f} ± {r['standard_error']:.1f} nats (KL {r['kl']:.1f}); IWAE bound "
        f"{r['iwae_bound']:.1f} (K = {r['draws']})"
    ),
    describe_inputs=lambda r: f"{r['likelihood']} pixels, {r['n_test']:,} test images",
    details=("standard_error", "kl"),
    samples="none",
    check_data=require_test_split,
    check_run=_require_vae,
    needs="a variational autoencoder",
    aliases=("iwae",),
)
