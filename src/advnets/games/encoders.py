"""Games with an encoder: trained jointly with G against D, after G, or in place of D (VAE)."""

from __future__ import annotations

from typing import Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from advnets import config
from advnets.losses import (
    bernoulli_log_likelihood,
    discriminator_loss,
    kl_to_standard_normal,
    logit_metrics,
    non_saturating_generator_loss,
    normal_log_likelihood,
    posterior_log_density,
)
from advnets.protocols import (
    Batch,
    Discriminator,
    Encoder,
    Generator,
    Images,
    Latents,
    Phase,
    PhaseOutput,
    Players,
    Posterior,
)
from advnets.rng import RNG

Pairs = Float[Tensor, "batch 1 1 numbers"]
"""An image and a latent, concatenated."""


class ALI:
    """min_{G, E} max_D E[log D(x, E(x))] + E[log(1 - D(G(z), z))].

    D classifies pairs of an image and a latent. At the solution both joint distributions are equal,
    so that E samples the posterior of z under G. G and E minimize the non-saturating losses.
    Source: Goodfellow et al. 2014, section 7, extension 2; Dumoulin et al. 2017, "Adversarially
    learned inference", equation 2; Donahue et al. 2017 (E deterministic).
    """

    def __init__(self, spec: config.ALIGame) -> None:
        self.spec = spec

    def phases(self) -> tuple[Phase, ...]:
        """Return (discriminator, generator); the second updates the encoder too."""
        return (
            Phase("discriminator", self.discriminator),
            Phase("generator", self.generator, reads_data=False),
        )

    def discriminator(self, players: Players, batch: Batch, rng: RNG) -> PhaseOutput:
        """Return D's loss on inferred and generated pairs."""
        with torch.no_grad():
            stacked_pairs = torch.cat(
                (inferred_pairs(players, batch, rng), generated_pairs(players, batch, rng))
            )
        d = cast(Discriminator, players["discriminator"])
        real_logits, fake_logits = d(stacked_pairs, rng.split_streams("real", "fake")).chunk(2)
        loss = discriminator_loss(real_logits, fake_logits)
        return PhaseOutput({"discriminator": loss}, logit_metrics(real_logits, fake_logits))

    def generator(self, players: Players, batch: Batch, rng: RNG) -> PhaseOutput:
        """Return the losses of G and E, which have the targets of D swapped."""
        d = cast(Discriminator, players["discriminator"])
        fake_logits = d(generated_pairs(players, batch, rng), rng.split_streams("fake"))
        real_logits = d(inferred_pairs(players, batch, rng), rng.split_streams("real"))
        return PhaseOutput(
            {
                "generator": non_saturating_generator_loss(fake_logits),
                "encoder": non_saturating_generator_loss(-real_logits),
            }
        )


def inferred_pairs(players: Players, batch: Batch, rng: RNG) -> Pairs:
    """Return (x, z) with z ~ q(z | x)."""
    posterior = cast(Encoder, players["encoder"])(batch.images)
    return pairs(batch.images, posterior.draw(rng))


def generated_pairs(players: Players, batch: Batch, rng: RNG) -> Pairs:
    """Return (G(z), z) for fresh z."""
    net = cast(Generator, players["generator"])
    z = net.latent(len(batch.images), rng)
    return pairs(net(z, rng), z)


def pairs(images: Images, z: Latents) -> Pairs:
    """Concatenate images and latents, as input of D."""
    return torch.cat((images.flatten(1), z.to(images)), 1)[:, None, None]


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


@runtime_checkable
class Decoder(Protocol):
    """A generator that returns its output before the sigmoid."""

    def pre_activation(self, z: Latents, rng: RNG | None = None) -> Images:
        """Compute the logits of the pixels."""
        ...


class VAE:
    """max_{G, E} E_x[E_{z ~ q(z | x)}[log p(x | z)] - KL(q(z | x) ‖ p(z))], a bound on log p(x).

    p(x | z) is Bernoulli with probabilities G(z), or normal with mean G(z); z is sampled as
    μ + σ ε. Source: Kingma and Welling 2014, "Auto-encoding variational Bayes", equation 10.
    """

    def __init__(self, spec: config.VAEGame) -> None:
        self.spec = spec

    def phases(self) -> tuple[Phase, ...]:
        """Return (elbo)."""
        return (Phase("elbo", self.elbo),)

    def elbo(self, players: Players, batch: Batch, rng: RNG) -> PhaseOutput:
        """Return the negative evidence lower bound in nats per pixel, the loss of G and E."""
        likelihood, divergence = elbo_terms(self.spec, players, batch.images, rng)
        loss = (divergence - likelihood).mean() / batch.images[0].numel()
        metrics = {
            "elbo": (likelihood - divergence).mean(),
            "elbo/likelihood": likelihood.mean(),
            "elbo/divergence": divergence.mean(),
        }
        return PhaseOutput({"generator": loss, "encoder": loss}, metrics)


Terms = tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]


def elbo_terms(spec: config.VAEGame, players: Players, images: Images, rng: RNG) -> Terms:
    """Return log p(x | z) for one z ~ q(z | x), and KL(q(z | x) ‖ p(z)), of each image in nats."""
    posterior = cast(Encoder, players["encoder"])(images)
    z = posterior.draw(rng)
    return log_likelihood(spec, players, images, z, rng), kl_to_prior(posterior)


def log_likelihood(
    spec: config.VAEGame, players: Players, images: Images, z: Latents, rng: RNG | None = None
) -> Float[Tensor, " batch"]:
    """Return log p(x | z) of each image, in nats."""
    net = players["generator"]
    if spec.likelihood == "bernoulli":
        return bernoulli_log_likelihood(images, cast(Decoder, net).pre_activation(z, rng))
    return normal_log_likelihood(images, cast(Generator, net)(z, rng), spec.likelihood_std)


def kl_to_prior(posterior: Posterior) -> Float[Tensor, " batch"]:
    """Return KL(q(z | x) ‖ N(0, I)) of each image, in nats."""
    assert (
        posterior.log_variance is not None
    )  # a deterministic encoder is rejected when it is built
    return kl_to_standard_normal(posterior.mean, posterior.log_variance)
