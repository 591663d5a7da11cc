"""The variational autoencoder, as a game of one phase that nobody loses."""

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
    """A generator that can say what its sigmoid is given."""

    def pre_activation(
        self, z: Float[Tensor, "batch latent"], rng: RNG | None = None
    ) -> Float[Tensor, "batch channels height width"]:
        """Logits of the pixels."""
        ...


class VAE:
    """max_{G, E} E_x[E_{z ~ q(z | x)}[log p(x | z)] - KL(q(z | x) ‖ p(z))], a bound on log p(x).

    p(x | z) is Bernoulli with probabilities G(z), or normal about G(z); z is drawn as
    μ + σ ε. Source: Kingma and Welling 2014, "Auto-encoding variational Bayes", equation 10.
    """

    def __init__(self, spec: config.VAEGame) -> None:
        self.spec = spec

    def phases(self) -> tuple[Phase, ...]:
        """(elbo)."""
        return (Phase("elbo", self.elbo),)

    def elbo(self, players: Players, batch: Batch, rng: RNG) -> PhaseOutput:
        """Both ascend the evidence lower bound, here in nats a pixel."""
        told, divergence = elbo_terms(self.spec, players, batch.images, rng)
        loss = (divergence - told).mean() / batch.images[0].numel()
        observed = {
            "elbo": (told - divergence).mean(),
            "elbo/likelihood": told.mean(),
            "elbo/divergence": divergence.mean(),
        }
        return PhaseOutput({"generator": loss, "encoder": loss}, observed)


Terms = tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]


def elbo_terms(
    spec: config.VAEGame,
    players: Players,
    images: Float[Tensor, "batch channels height width"],
    rng: RNG,
) -> Terms:
    """Log p(x | z) for one z ~ q(z | x), and KL(q(z | x) ‖ p(z)), of each image in nats."""
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
    """Log p(x | z) of each image, in nats."""
    net = players["generator"]
    if spec.likelihood == "bernoulli":
        return bernoulli_log_likelihood(images, cast(Decoder, net).pre_activation(z, rng))
    return normal_log_likelihood(images, cast(Generator, net)(z, rng), spec.likelihood_std)


def kl_to_prior(posterior: Posterior) -> Float[Tensor, " batch"]:
    """KL(q(z | x) ‖ N(0, I)) of each image, in nats."""
    assert posterior.log_variance is not None  # a deterministic encoder is refused as nets are made
    return kl_to_standard_normal(posterior.mean, posterior.log_variance)
