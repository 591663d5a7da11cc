"""The variational autoencoder, as a game of one phase that nobody loses."""

from __future__ import annotations

from typing import Protocol, cast, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from advnets import config
from advnets.losses import bernoulli_log_likelihood, divergence_from_prior, normal_log_likelihood
from advnets.protocols import Batch, Encoder, Generator, Phase, PhaseOutput, Players, Posterior
from advnets.rng import RNG


@runtime_checkable
class Decoder(Protocol):
    """A generator that can say what its sigmoid is given."""

    def before_output(
        self, z: Float[Tensor, "batch latent"], noise: RNG | None = None
    ) -> Float[Tensor, "batch channels height width"]:
        """Logits of the pixels."""
        ...


class VAE:
    """max_{G, E} E_x[E_{z ~ q(z | x)}[log p(x | z)] - KL(q(z | x) ‖ p(z))], a bound on log p(x).

    p(x | z) is Bernoulli with probabilities G(z), or normal about G(z); z is drawn as
    μ + σ ε. Source: Kingma and Welling 2014, "Auto-encoding variational Bayes", equation 10.
    """

    def __init__(self, spec: config.ElboGame) -> None:
        self.spec = spec

    def phases(self) -> tuple[Phase, ...]:
        """(elbo)."""
        return (Phase("elbo", self.elbo),)

    def elbo(self, players: Players, batch: Batch, noise: RNG) -> PhaseOutput:
        """Both ascend the evidence lower bound, here in nats a pixel."""
        told, divergence = bound(self.spec, players, batch.pictures, noise)
        loss = (divergence - told).mean() / batch.pictures[0].numel()
        observed = {
            "elbo": (told - divergence).mean(),
            "elbo/likelihood": told.mean(),
            "elbo/divergence": divergence.mean(),
        }
        return PhaseOutput({"generator": loss, "encoder": loss}, observed)


Terms = tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]


def bound(
    spec: config.ElboGame,
    players: Players,
    pictures: Float[Tensor, "batch channels height width"],
    noise: RNG,
) -> Terms:
    """Log p(x | z) for one z ~ q(z | x), and KL(q(z | x) ‖ p(z)), of each picture in nats."""
    posterior = cast(Encoder, players["encoder"])(pictures)
    z = posterior.draw(noise)
    return likelihood(spec, players, pictures, z, noise), divergence(posterior)


def likelihood(
    spec: config.ElboGame,
    players: Players,
    pictures: Float[Tensor, "batch channels height width"],
    z: Float[Tensor, "batch latent"],
    noise: RNG | None = None,
) -> Float[Tensor, " batch"]:
    """Log p(x | z) of each picture, in nats."""
    net = players["generator"]
    if spec.likelihood == "bernoulli":
        return bernoulli_log_likelihood(pictures, cast(Decoder, net).before_output(z, noise))
    return normal_log_likelihood(pictures, cast(Generator, net)(z, noise), spec.deviation)


def divergence(posterior: Posterior) -> Float[Tensor, " batch"]:
    """KL(q(z | x) ‖ N(0, I)) of each picture, in nats."""
    assert posterior.log_variance is not None  # a deterministic encoder is refused as nets are made
    return divergence_from_prior(posterior.mean, posterior.log_variance)
