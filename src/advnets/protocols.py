"""The nouns that rooms hand each other, as protocols and plain records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor, nn

from advnets.rng import RNG

Players = Mapping[str, nn.Module]


@dataclass(frozen=True)
class Batch:
    """Images in the model's own range and, where the data has them, labels."""

    images: Float[Tensor, "batch channels height width"]
    labels: Int[Tensor, " batch"] | None = None
    carry: Float[Tensor, "batch channels height width"] | None = None
    """What the phase before handed on."""
    labeled: Batch | None = None
    """Labeled images, where those above have no labels and only a few others do."""


@dataclass(frozen=True)
class PhaseOutput:
    """What a phase gives back.

    `losses` holds one scalar for each player that moves in this phase; `observed` holds scalars
    worth watching (in the plain game D(x), D(G(z)) and V), left on the device.
    """

    losses: Mapping[str, Float[Tensor, ""]]
    metrics: Mapping[str, Float[Tensor, ""]] = field(default_factory=dict[str, Tensor])
    carry: Float[Tensor, "batch channels height width"] | None = None
    """Samples, with their graph, for the phase that follows in this round."""


@dataclass(frozen=True)
class Phase:
    """One kind of move of a game: whose losses, and how often it is repeated in a round.

    `repeats` is a number, or a function of the values last observed. A phase that `reads_data` is
    given a batch no other phase has seen; one that does not is given that of the phase before.
    """

    name: str
    losses: Callable[[Players, Batch, RNG], PhaseOutput]
    repeats: int | Callable[[Mapping[str, float]], int] = 1
    reads_data: bool = True


@dataclass(frozen=True)
class Posterior:
    """q(z | x): a normal distribution of z for each image, its covariance diagonal."""

    mean: Float[Tensor, "batch latent"]
    log_variance: Float[Tensor, "batch latent"] | None = None
    """log σ²; None: all at the mean."""

    def draw(self, rng: RNG | None) -> Float[Tensor, "batch latent"]:
        """μ + σ ε, one for each image; without noise, the means."""
        if rng is None or self.log_variance is None:
            return self.mean
        epsilon = rng.normal("posterior", *self.mean.shape)
        return self.mean + (0.5 * self.log_variance).exp() * epsilon


@runtime_checkable
class Game(Protocol):
    """Players and the order in which they move; Algorithm 1 knows nothing else of a game."""

    def phases(self) -> tuple[Phase, ...]:
        """The phases of one round, in order."""
        ...


@runtime_checkable
class Generator(Protocol):
    """What everybody else needs of a generator: the prior it was built for, and z to images."""

    latent_dim: int

    def latent(self, n: int, rng: RNG) -> Float[Tensor, "batch latent"]:
        """Draw n points of the noise prior p_z."""
        ...

    def __call__(
        self, z: Float[Tensor, "batch latent"], rng: RNG | None = None
    ) -> Float[Tensor, "batch channels height width"]:
        """G(z); `noise` feeds dropout and noise inside the net, None leaves them out."""
        ...


@runtime_checkable
class ConditionalGenerator(Generator, Protocol):
    """A generator whose latents end in a class, one-hot."""

    classes: int

    def latent(
        self, n: int, rng: RNG, labels: Int[Tensor, " n"] | None = None
    ) -> Float[Tensor, "batch latent"]:
        """Draw n points of the noise prior p_z, of these classes; None: each as probable."""
        ...


@runtime_checkable
class Fusable(Protocol):
    """A generator that has a quicker form for sampling."""

    def fused(self) -> nn.Module:
        """The same function in eval mode, in fewer passes over memory."""
        ...


@runtime_checkable
class Discriminator(Protocol):
    """What everybody else needs of a discriminator."""

    def __call__(
        self, x: Float[Tensor, "batch channels height width"], rng: RNG | None = None
    ) -> Float[Tensor, " batch"]:
        """Logits a(x), with D(x) = sigmoid(a(x)); `noise` feeds dropout, None leaves it out."""
        ...


def is_per_sample(discriminator: object) -> bool:
    """Whether no logit depends on another's image, as under batch norm it does.

    A discriminator says so by an attribute `one_by_one`; of one that says nothing it is not known,
    and what is quicker because of it is left out.
    """
    return bool(getattr(discriminator, "per_sample", False))


@runtime_checkable
class ConditionalDiscriminator(Protocol):
    """A discriminator that is told the class."""

    def __call__(
        self,
        x: Float[Tensor, "batch channels height width"],
        rng: RNG | None = None,
        labels: Int[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, " batch"]:
        """Logits a(x | y)."""
        ...


@runtime_checkable
class Encoder(Protocol):
    """From images to the z they may have come from."""

    def __call__(self, x: Float[Tensor, "batch channels height width"]) -> Posterior:
        """q(z | x)."""
        ...


@runtime_checkable
class Inpainter(Protocol):
    """A generator whose latents say, beside z, what of an image is known."""

    def condition(
        self,
        z: Float[Tensor, "batch own"],
        images: Float[Tensor, "batch channels height width"],
        known: Float[Tensor, "batch 1 height width"],
    ) -> Float[Tensor, "batch latent"]:
        """The latents of completions of these images, of which `known` is 1 where one is."""
        ...

    def own_latent(self, n: int, rng: RNG) -> Float[Tensor, "batch own"]:
        """Draw n points of the noise prior p_z, without what is known."""
        ...


class WeightedPrior(Protocol):
    """A noise prior that chooses components, with probabilities that are learned."""

    def log_probability(self, n: int, rng: RNG) -> Float[Tensor, " n"]:
        """The log p(c) of the component c of each of the n points that this noise draws."""
        ...


@runtime_checkable
class ClassifyingDiscriminator(Protocol):
    """A discriminator that tells classes too."""

    def hidden(
        self, x: Float[Tensor, "batch channels height width"], rng: RNG | None = None
    ) -> Float[Tensor, "batch features"]:
        """Features of the last hidden layer, before any noise that the last layer adds to them."""
        ...

    def class_logits(
        self, hidden: Float[Tensor, "batch features"], rng: RNG | None = None
    ) -> Float[Tensor, "batch classes"]:
        """Logits l of the classes; p(class | x, real) = softmax l, and a(x) = log Σ exp l.

        `noise` is what `hidden` was given, for the rows of these features alone.
        """
        ...
