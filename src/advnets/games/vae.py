"""The variational autoencoder (VAE), as a game of one phase without a discriminator."""

from __future__ import annotations

from typing import Protocol, cast, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from advnets import config
from advnets.losses import bernoulli_log_likelihood, kl_to_standard_normal, normal_log_likelihood
from advnets.protocols import Batch, Encoder, Generator, Phase, PhaseOutput, Players, Posterior
from advnets.rng import RNG


@runtime_checkable
class Decoder(Protocol):
    """A generator that returns its output before the sigmoid."""

    def pre_activation(
        self, z: Float[Tensor, "batch latent"], rng: RNG | None = None
    ) -> Float[Tensor, "batch channels height width"]:
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


def elbo_terms(
    spec: config.VAEGame,
    players: Players,
    images: Float[Tensor, "batch channels height width"],
    rng: RNG,
) -> Terms:
    """Return log p(x | z) for one z ~ q(z | x), and KL(q(z | x) ‖ p(z)), of each image in nats."""
    posterior = cast(Encoder, players["encoder"])(images)
    z = posterior.draw(rng)
    return log_likelihood(spec, players, images, z, rng), kl_to_prior(posterior)


def log_likelihood(
    spec: config.VAEGame,
    players: Players,
    images: Float[Tensor, "batch channels height width"],
    z: Float[Tensor, "batch latent"],
    rng: RNG | None = None,
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
