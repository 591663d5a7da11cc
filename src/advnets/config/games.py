"""What games can be told: the plain one of 2014, and the extensions that its section 7 leaves."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from tyro.conf import Suppress

from advnets.config.encoders import MLPEncoder
from advnets.config.validation import ValidatedConfig, at_least, check, sizes
from advnets.errors import UsageError

Augmentation = Literal["flip", "translate", "cutout", "erase", "color", "affine", "elastic"]


@dataclass(frozen=True)
class AnyGame(ValidatedConfig):
    """What everybody may ask of a game."""

    conditional: ClassVar[bool] = False
    """Whether the nets are told the label."""
    ema_players: ClassVar[tuple[str, ...]] = ("generator",)
    """The players whose weight average is kept, where one is."""
    compilable: ClassVar[bool] = True
    """Whether a turn can be compiled, or recorded as a graph."""

    @property
    def batches_per_step(self) -> int:
        """Batches of real images in a round."""
        return 1

    @property
    def discriminator_views(self) -> tuple[Augmentation, ...]:
        """The augmentations that D sees images through."""
        return ()

    def loss_limit(self, values: int) -> float:  # noqa: ARG002
        """Return the absolute loss beyond which a training on so many values an image diverged."""
        return 1e6


@dataclass(frozen=True)
class Game(AnyGame):
    """Algorithm 1: k discriminator steps to one generator step."""

    objective: Literal["non-saturating", "minimax", "hinge", "least-squares", "wasserstein"] = (
        "non-saturating"
    )
    """Of 2014, G minimizing -log D(G(z)) (non-saturating) or log(1 - D(G(z))) itself (minimax).
    Of a critic a(x): margins of 1 (hinge), or distances to 1 and 0 (least-squares).
    Or its means alone (wasserstein), which needs --game.gp-weight 10 or another bound on slopes."""
    k: int = 1
    """Discriminator steps to one generator step, when they alternate."""
    adaptive_k_threshold: float = 0.0
    """D makes k steps while its lead, D(x) - D(G(z)) at the last tick, is below this, else one."""
    updates: Literal["alternating", "simultaneous"] = "alternating"
    """D first and then G (the paper's text), or both on the same batch and fakes (its files)."""
    reuse_fakes: Literal["fresh", "shared"] = "fresh"
    """In G's own step of alternating play: drawn anew (the paper's text), or those D has seen."""
    relativistic: bool = False
    """D tells which of a pair, an image and a sample, is real: logits are their difference."""
    r1: float = 0.0
    """Weight γ of the penalty γ/2 E‖∇a(x)‖² on real images, a being D's logit."""
    r2: float = 0.0
    """The same on generated images."""
    r1_final: float | None = None
    """`r1` goes to this over the stage's `burn_in`; None: it stays."""
    r2_final: float | None = None
    """The same for `r2`."""
    penalty_schedule: Literal["cosine", "geometric"] = "cosine"
    """How they go: slow at both ends, or by the same factor in each step."""
    gp_weight: float = 0.0
    """Weight λ of λ E(‖∇a‖ - 1)² between images and samples; as published 10, for wasserstein."""
    augment_prob: float = 0.0
    """D sees all through augmentations, each as probably as this in the end, from 0 on.
    Near 1 little is seen plainly, and G may come to make augmented images."""
    augmentations: tuple[Augmentation, ...] = ("flip", "translate", "cutout", "color")
    """Mirrored, shifted by an eighth, a quarter blanked, brightness, saturation and contrast.
    Also affine (turned, scaled and sheared) and elastic (bent by a smooth field).
    And erase: a smaller box blanked, of an eighth to three eighths of each side."""
    pac: int = 1
    """Images that D sees at once, on top of each other as channels, all real or all generated."""

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes(self, "pac")
        sizes(self, "k", most=1000)
        at_least(self, 0, "adaptive_k_threshold", "r1", "r2", "r1_final", "r2_final", "gp_weight")
        if self.penalty_schedule == "geometric":
            falling = [name for name in ("r1", "r2") if getattr(self, f"{name}_final") is not None]
            ends = [f"{name}_final" for name in falling]
            what = "more than 0 to fall by a factor; say --game.penalty-schedule cosine, or None for its end"
            check(self, what, lambda number: number > 0, *falling, *ends)
        check(self, "less than 1", lambda number: number < 1, "adaptive_k_threshold")
        check(self, "from 0 to 1", lambda number: 0 <= number <= 1, "augment_prob")
        if self.augment_prob and not self.augmentations:
            raise UsageError(
                f"augment is {self.augment_prob} and augmentations are none; say which, as "
                "--game.augmentations flip translate, or leave --game.augment-prob out"
            )
        if self.k > 1 and self.updates == "simultaneous":
            raise UsageError(
                f"k is {self.k}, steps of D to one of G, and updates are simultaneous, one step of "
                "both; say --game.updates alternating, or leave --game.k out"
            )
        published = self.objective in ("non-saturating", "minimax")
        if self.relativistic and not published:
            raise UsageError(
                f"relativistic was asked for with the objective {self.objective}, which judges "
                "images one by one; say --game.objective non-saturating, or leave it out"
            )
        if self.adaptive_k_threshold and not published:
            raise UsageError(
                f"lead is {self.adaptive_k_threshold}, which is of probabilities D(x), and the objective "
                f"{self.objective} has none; leave --game.adaptive-k-threshold out"
            )
        if self.adaptive_k_threshold and self.relativistic:
            raise UsageError(
                f"lead is {self.adaptive_k_threshold}, of D(x) over D(G(z)), and relativistic was asked for, where "
                "D judges pairs and has neither; leave one of them out"
            )
        if self.adaptive_k_threshold and self.k == 1:
            raise UsageError(
                f"lead is {self.adaptive_k_threshold}, which chooses between one step of D and k, but updates are "
                f"{self.updates} and k is 1; say --game.updates alternating --game.k 2"
            )

    @property
    def batches_per_step(self) -> int:
        """Batches of real images in a round, at most: with a `lead` there may be fewer."""
        return self.k

    @property
    def discriminator_views(self) -> tuple[Augmentation, ...]:
        """The augmentations, where there are any."""
        return self.augmentations if self.augment_prob else ()

    def loss_limit(self, values: int) -> float:
        """Return the limit; a logistic loss, about a mean logit, has a lower one than others."""
        published = self.objective in ("non-saturating", "minimax")
        return 1e4 if published else super().loss_limit(values)

    @property
    def has_gradient_penalty(self) -> bool:
        """Whether slopes on images and samples are penalized at any time."""
        return any((self.r1, self.r2, self.r1_final, self.r2_final))


def refuse_pac(game: Game, why: str) -> None:
    """Refuse a game in which D sees several images at once.

    Raises:
        UsageError: it is one.
    """
    if game.pac > 1:
        raise UsageError(f"pack is {game.pac}, but {why}; leave --game.pac out")


@dataclass(frozen=True)
class ConditionalGame(Game):
    """The same game for each class: G and D are told the label (2014, section 7, extension 1)."""

    conditional: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_pac(self, "D is told the label of one image")


@dataclass(frozen=True)
class InferenceGame(AnyGame):
    """D tells (x, E(x)) from (G(z), z): E comes to infer z from x (extension 2)."""

    encoder: MLPEncoder = field(default_factory=MLPEncoder)

    ema_players: ClassVar[tuple[str, ...]] = ("generator", "encoder")


@dataclass(frozen=True)
class LatentRegressionGame(AnyGame):
    """G is as an earlier run has left it; E learns to give z back from G(z) (extension 2)."""

    encoder: MLPEncoder = field(default_factory=MLPEncoder)
    generator_run: str | None = None
    """The run whose generator it is."""

    ema_players: ClassVar[tuple[str, ...]] = ("encoder",)


@dataclass(frozen=True)
class InpaintingGame(Game):
    """G fills in what is not known of an image; D sees the whole and what was known (3)."""

    masks: tuple[Literal["pixels", "boxes", "halves", "all"], ...] = (
        "pixels",
        "boxes",
        "halves",
        "all",
    )
    """What may be hidden, each as often: noise pixels, a box, one of four halves, everything."""

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_pac(self, "D is told what was known of one image")
        if self.augment_prob:
            raise UsageError(
                "augment was asked for in a completion game, whose D is told where an image was "
                "known, and augmented it is elsewhere; leave --game.augment-prob out"
            )
        if not self.masks:
            raise UsageError("masks is empty; give at least one of pixels, boxes, halves, all")
        if self.reuse_fakes == "shared":
            raise UsageError(
                "fakes are shared in a completion game, whose phases hide other parts each; "
                "say --game.reuse-fakes fresh"
            )


@dataclass(frozen=True)
class SemiSupervisedGame(AnyGame):
    """D tells K classes, of a few labeled images, and whether an image is real (4)."""

    labels: int = 100
    """Labeled images, as many of each class; no other label is read."""
    label_seed: int = 0
    """Which images are labeled; a seed apart from the nets'."""
    labeled_batch: int = 0
    """Labeled images in a step, from 1 on; 0: as many as there are others."""
    generated_batch: int = 0
    """Samples in a step, from 1 on; 0: as many as there are images without labels."""
    updates: Literal["alternating", "simultaneous"] = "alternating"
    """D first and then G, as published, or both from one pass of D."""
    unlabeled_loss: bool = True
    """Whether images without labels, and G, play a part; else D is supervised only."""
    augmentations: tuple[Augmentation, ...] = ()
    """D sees every image and sample through these."""
    consistency: float = 0.0
    """Weight of what D's classes of an image, plain and augmented, tell of each other.
    It is their mutual information over a batch, which D ascends."""

    ema_players: ClassVar[tuple[str, ...]] = ("generator", "discriminator")

    @property
    def discriminator_views(self) -> tuple[Augmentation, ...]:
        """The augmentations."""
        return self.augmentations

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 1, "labels")
        sizes(self, "labeled_batch", "generated_batch", least=0)
        at_least(self, 0, "consistency")
        if self.consistency and not (self.augmentations and self.unlabeled_loss):
            raise UsageError(
                f"consistency is {self.consistency}, which compares images without labels with "
                "themselves augmented; say --game.augmentations translate affine, or leave it out"
            )


@dataclass(frozen=True)
class VAEGame(AnyGame):
    """A variational autoencoder: E and G ascend the evidence lower bound (Kingma, Welling 2014)."""

    encoder: MLPEncoder = field(default_factory=MLPEncoder)
    likelihood: Literal["bernoulli", "normal"] = "bernoulli"
    """p(x | z): each pixel on with probability G(z), or normal about it."""
    likelihood_std: float = 0.1
    """Standard deviation of the normal p(x | z)."""

    ema_players: ClassVar[tuple[str, ...]] = ("generator", "encoder")

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self, "more than 0", lambda number: number > 0, "likelihood_std")

    def loss_limit(self, values: int) -> float:
        """Return the limit of a loss that sums over the values of an image, each over 2 σ²."""
        return 1e4 * values * max(1.0, 0.5 / self.likelihood_std**2)


@dataclass(frozen=True)
class CustomGame(AnyGame):
    """A game of the reader's own, from a file of theirs."""

    source: Suppress[str] = ""
    """FILE.py:NAME, where NAME is a game, or makes one when it is called."""
    digest: Suppress[str] = ""
    """BLAKE2b, in hex, of the file as the run began."""

    compilable: ClassVar[bool] = False

    def loss_limit(self, values: int) -> float:  # noqa: ARG002
        """Return no limit: the scale of the game's losses is not known here."""
        return math.inf


GameConfig = (
    Game
    | ConditionalGame
    | InferenceGame
    | LatentRegressionGame
    | InpaintingGame
    | SemiSupervisedGame
    | VAEGame
    | CustomGame
)
