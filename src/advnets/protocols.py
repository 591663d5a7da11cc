"""Interfaces between games, models and training, as protocols and small records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor, nn

from advnets.rng import RNG
from advnets.schedules import Schedule

Images = Float[Tensor, "batch channels height width"]
"""Images, in the range of the models."""
Latents = Float[Tensor, "batch latent"]
"""Latents z, with the conditions of a conditional generator appended."""
Logits = Float[Tensor, " batch"]
"""Logits a(x) of a discriminator, with D(x) = sigmoid(a(x))."""
Scalar = Float[Tensor, ""]
"""A number on the device."""

Players = Mapping[str, nn.Module]
"""Networks by name: "generator", "discriminator", "encoder"."""


@dataclass(frozen=True)
class Batch:
    """A minibatch: images in the range of the models and, where the data has them, labels."""

    images: Images
    labels: Int[Tensor, " batch"] | None = None
    carry: Images | None = None
    """The `PhaseOutput.carry` of the previous phase of the step."""
    labeled: Batch | None = None
    """A minibatch of labeled images, in semi-supervised learning."""
    scheduled: Mapping[str, Scalar] = field(default_factory=dict[str, Tensor])
    """Values in this step of the phase's schedules, by name."""


@dataclass(frozen=True)
class PhaseOutput:
    """Losses and metrics of a phase, scalars on the device."""

    losses: Mapping[str, Scalar]
    """One for each player that is updated in this phase."""
    metrics: Mapping[str, Scalar] = field(default_factory=dict[str, Tensor])
    """Values to log: in the standard game means of D(x) and D(G(z)), and V(D, G)."""
    carry: Images | None = None
    """Samples with their autograd graph, for the next phase of the step."""


@dataclass(frozen=True)
class Phase:
    """A part of a training step, in which some players are updated on their losses."""

    name: str
    losses: Callable[[Players, Batch, RNG], PhaseOutput]
    """The function that computes the losses of the players to update."""
    num_updates: int | Callable[[Mapping[str, float]], int] = 1
    """Updates in a step, or a function that computes their number from the last logged metrics."""
    reads_data: bool = True
    """Whether each update reads a new minibatch; if not, it reuses that of the previous phase."""
    schedules: Mapping[str, Schedule] = field(default_factory=dict[str, Schedule])
    """Hyperparameters that change during training; the losses read them from `Batch.scheduled`."""


@dataclass(frozen=True)
class Posterior:
    """q(z | x): for each image a normal distribution of z with diagonal covariance."""

    mean: Latents
    log_variance: Latents | None = None
    """log σ²; None for a deterministic encoder, whose z is the mean."""

    def draw(self, rng: RNG | None) -> Latents:
        """Draw z = μ + σ ε for each image; without `rng`, return the means."""
        if rng is None or self.log_variance is None:
            return self.mean
        epsilon = rng.normal("posterior", *self.mean.shape)
        return self.mean + (0.5 * self.log_variance).exp() * epsilon


@runtime_checkable
class Game(Protocol):
    """The phases of a training step. Algorithm 1 needs nothing else from a game."""

    def phases(self) -> tuple[Phase, ...]:
        """Return the phases of one step, in order."""
        ...


@runtime_checkable
class Generator(Protocol):
    """A map from latents z to images, and the noise prior p_z it was built for."""

    latent_dim: int

    def latent(self, n: int, rng: RNG) -> Latents:
        """Draw n latents from the noise prior p_z."""
        ...

    def __call__(self, z: Latents, rng: RNG | None = None) -> Images:
        """Compute G(z); without `rng` there is no dropout and no noise inside the network."""
        ...


@runtime_checkable
class ConditionalGenerator(Generator, Protocol):
    """A generator whose latents are z followed by a one-hot class."""

    classes: int

    def latent(self, n: int, rng: RNG, labels: Int[Tensor, " n"] | None = None) -> Latents:
        """Draw n latents from p_z, each with its label; without labels, with uniform classes."""
        ...


@runtime_checkable
class Fusable(Protocol):
    """A generator with a faster form for inference."""

    def fused(self) -> nn.Module:
        """Return a module that computes the same in eval mode, in fewer passes over memory."""
        ...


@runtime_checkable
class Discriminator(Protocol):
    """A classifier of images as real or generated."""

    def __call__(self, x: Images, rng: RNG | None = None) -> Logits:
        """Compute logits a(x), with D(x) = sigmoid(a(x)); without `rng` there is no dropout."""
        ...


def is_per_sample(discriminator: object) -> bool:
    """Return whether each logit depends on its own image alone (under batch norm it does not).

    A discriminator declares this by an attribute `per_sample`; without it the answer is False.
    """
    return bool(getattr(discriminator, "per_sample", False))


@runtime_checkable
class ConditionalDiscriminator(Protocol):
    """A discriminator of images given their class."""

    def __call__(
        self, x: Images, rng: RNG | None = None, labels: Int[Tensor, " batch"] | None = None
    ) -> Logits:
        """Compute logits a(x | y)."""
        ...


@runtime_checkable
class Encoder(Protocol):
    """A map from images to distributions of the latents z that generate them."""

    def __call__(self, x: Images) -> Posterior:
        """Compute q(z | x)."""
        ...


@runtime_checkable
class Inpainter(Protocol):
    """A generator whose latents are z followed by the known pixels of an image and their mask."""

    def condition(
        self,
        z: Float[Tensor, "batch z"],
        images: Images,
        known: Float[Tensor, "batch 1 height width"],
    ) -> Latents:
        """Return latents from z, images and a mask that is 1 where a pixel is known, else 0."""
        ...

    def sample_z(self, n: int, rng: RNG) -> Float[Tensor, "batch z"]:
        """Draw n latents z from the prior, without known pixels."""
        ...


class WeightedPrior(Protocol):
    """A mixture as noise prior, whose mixture weights are learned."""

    def log_probability(self, n: int, rng: RNG) -> Float[Tensor, " n"]:
        """Return log p(c) of the component c of each of the n latents drawn with this `rng`."""
        ...


@runtime_checkable
class ClassifyingDiscriminator(Protocol):
    """A discriminator that also classifies."""

    def hidden(self, x: Images, rng: RNG | None = None) -> Float[Tensor, "batch features"]:
        """Compute features of the last hidden layer, before noise that the last layer adds."""
        ...

    def class_logits(
        self, hidden: Float[Tensor, "batch features"], rng: RNG | None = None
    ) -> Float[Tensor, "batch classes"]:
        """Compute class logits l, with p(class | x, real) = softmax l and a(x) = log Σ exp l.

        `rng` is that of `hidden`, restricted to the rows of these features.
        """
        ...
