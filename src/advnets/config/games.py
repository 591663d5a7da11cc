"""What games can be told: the plain one of 2014, and the extensions that its section 7 leaves."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from tyro.conf import Suppress

from advnets.config.encoders import MLPEncoder
from advnets.config.validation import Checked, at_least, check, sizes
from advnets.errors import UsageError

Augmentation = Literal["flip", "translate", "cutout", "erase", "colour", "affine", "elastic"]


@dataclass(frozen=True)
class AnyGame(Checked):
    """What everybody may ask of a game."""

    conditional: ClassVar[bool] = False
    """Whether the nets are told the label."""
    averaged: ClassVar[tuple[str, ...]] = ("generator",)
    """The players whose weight average is kept, where one is."""
    prepared: ClassVar[bool] = True
    """Whether a turn can be compiled, or recorded as a graph."""

    @property
    def batches(self) -> int:
        """Batches of real pictures in a round."""
        return 1

    @property
    def seen_through(self) -> tuple[Augmentation, ...]:
        """The augmentations that D sees pictures through."""
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
    """Of 2014, G minimising -log D(G(z)) (non-saturating) or log(1 - D(G(z))) itself (minimax).
    Of a critic a(x): margins of 1 (hinge), or distances to 1 and 0 (least-squares).
    Or its means alone (wasserstein), which needs --game.gp 10 or another bound on slopes."""
    k: int = 1
    """Discriminator steps to one generator step, when they alternate."""
    lead: float = 0.0
    """D makes k steps while its lead, D(x) - D(G(z)) at the last tick, is below this, else one."""
    updates: Literal["alternating", "simultaneous"] = "alternating"
    """D first and then G (the paper's text), or both on the same batch and fakes (its files)."""
    fakes: Literal["fresh", "shared"] = "fresh"
    """In G's own step of alternating play: drawn anew (the paper's text), or those D has seen."""
    relativistic: bool = False
    """D tells which of a pair, a picture and a sample, is real: logits are their difference."""
    r1: float = 0.0
    """Weight γ of the penalty γ/2 E‖∇a(x)‖² on real pictures, a being D's logit."""
    r2: float = 0.0
    """The same on generated pictures."""
    end_r1: float | None = None
    """`r1` goes to this over the stage's `burn_in`; None: it stays."""
    end_r2: float | None = None
    """The same for `r2`."""
    fall: Literal["cosine", "geometric"] = "cosine"
    """How they go: slow at both ends, or by the same factor in each step."""
    gp: float = 0.0
    """Weight λ of λ E(‖∇a‖ - 1)² between pictures and samples; as published 10, for wasserstein."""
    augment: float = 0.0
    """D sees all through augmentations, each as probably as this in the end, from 0 on.
    Near 1 little is seen plainly, and G may come to make augmented pictures."""
    augmentations: tuple[Augmentation, ...] = ("flip", "translate", "cutout", "colour")
    """Mirrored, shifted by an eighth, a quarter blanked, brightness, saturation and contrast.
    Also affine (turned, scaled and sheared) and elastic (bent by a smooth field).
    And erase: a smaller box blanked, of an eighth to three eighths of each side."""
    pack: int = 1
    """Pictures that D sees at once, on top of each other as channels, all real or all generated."""

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes(self, "pack")
        sizes(self, "k", most=1000)
        at_least(self, 0, "lead", "r1", "r2", "end_r1", "end_r2", "gp")
        if self.fall == "geometric":
            falling = [name for name in ("r1", "r2") if getattr(self, f"end_{name}") is not None]
            ends = [f"end_{name}" for name in falling]
            what = "more than 0 to fall by a factor; say --game.fall cosine, or None for its end"
            check(self, what, lambda number: number > 0, *falling, *ends)
        check(self, "less than 1", lambda number: number < 1, "lead")
        check(self, "from 0 to 1", lambda number: 0 <= number <= 1, "augment")
        if self.augment and not self.augmentations:
            raise UsageError(
                f"augment is {self.augment} and augmentations are none; say which, as "
                "--game.augmentations flip translate, or leave --game.augment out"
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
                "pictures one by one; say --game.objective non-saturating, or leave it out"
            )
        if self.lead and not published:
            raise UsageError(
                f"lead is {self.lead}, which is of probabilities D(x), and the objective "
                f"{self.objective} has none; leave --game.lead out"
            )
        if self.lead and self.relativistic:
            raise UsageError(
                f"lead is {self.lead}, of D(x) over D(G(z)), and relativistic was asked for, where "
                "D judges pairs and has neither; leave one of them out"
            )
        if self.lead and self.k == 1:
            raise UsageError(
                f"lead is {self.lead}, which chooses between one step of D and k, but updates are "
                f"{self.updates} and k is 1; say --game.updates alternating --game.k 2"
            )

    @property
    def batches(self) -> int:
        """Batches of real pictures in a round, at most: with a `lead` there may be fewer."""
        return self.k

    @property
    def seen_through(self) -> tuple[Augmentation, ...]:
        """The augmentations, where there are any."""
        return self.augmentations if self.augment else ()

    def loss_limit(self, values: int) -> float:
        """Return the limit; a logistic loss, about a mean logit, has a lower one than others."""
        published = self.objective in ("non-saturating", "minimax")
        return 1e4 if published else super().loss_limit(values)

    @property
    def penalised(self) -> bool:
        """Whether slopes on pictures and samples are penalised at any time."""
        return any((self.r1, self.r2, self.end_r1, self.end_r2))


def refuse_packs(game: Game, why: str) -> None:
    """Refuse a game in which D sees several pictures at once.

    Raises:
        UsageError: it is one.
    """
    if game.pack > 1:
        raise UsageError(f"pack is {game.pack}, but {why}; leave --game.pack out")


@dataclass(frozen=True)
class ConditionalGame(Game):
    """The same game for each class: G and D are told the label (2014, section 7, extension 1)."""

    conditional: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_packs(self, "D is told the label of one picture")


@dataclass(frozen=True)
class InferenceGame(AnyGame):
    """D tells (x, E(x)) from (G(z), z): E comes to infer z from x (extension 2)."""

    encoder: MLPEncoder = field(default_factory=MLPEncoder)

    averaged: ClassVar[tuple[str, ...]] = ("generator", "encoder")


@dataclass(frozen=True)
class EncodingGame(AnyGame):
    """G is as an earlier run has left it; E learns to give z back from G(z) (extension 2)."""

    encoder: MLPEncoder = field(default_factory=MLPEncoder)
    begin_with: str | None = None
    """The run whose generator it is."""

    averaged: ClassVar[tuple[str, ...]] = ("encoder",)


@dataclass(frozen=True)
class CompletionGame(Game):
    """G fills in what is not known of a picture; D sees the whole and what was known (3)."""

    masks: tuple[Literal["pixels", "boxes", "halves", "all"], ...] = (
        "pixels",
        "boxes",
        "halves",
        "all",
    )
    """What may be hidden, each as often: noise pixels, a box, one of four halves, everything."""

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_packs(self, "D is told what was known of one picture")
        if self.augment:
            raise UsageError(
                "augment was asked for in a completion game, whose D is told where a picture was "
                "known, and augmented it is elsewhere; leave --game.augment out"
            )
        if not self.masks:
            raise UsageError("masks is empty; give at least one of pixels, boxes, halves, all")
        if self.fakes == "shared":
            raise UsageError(
                "fakes are shared in a completion game, whose phases hide other parts each; "
                "say --game.fakes fresh"
            )


@dataclass(frozen=True)
class SemiSupervisedGame(AnyGame):
    """D tells K classes, of a few labelled pictures, and whether a picture is real (4)."""

    labels: int = 100
    """Labelled pictures, as many of each class; no other label is read."""
    label_seed: int = 0
    """Which pictures are labelled; a seed apart from the nets'."""
    labelled_batch: int = 0
    """Labelled pictures in a step, from 1 on; 0: as many as there are others."""
    generated_batch: int = 0
    """Samples in a step, from 1 on; 0: as many as there are pictures without labels."""
    updates: Literal["alternating", "simultaneous"] = "alternating"
    """D first and then G, as published, or both from one pass of D."""
    unlabelled: bool = True
    """Whether pictures without labels, and G, play a part; else D is supervised only."""
    augmentations: tuple[Augmentation, ...] = ()
    """D sees every picture and sample through these."""
    consistency: float = 0.0
    """Weight of what D's classes of a picture, plain and augmented, tell of each other.
    It is their mutual information over a batch, which D ascends."""

    averaged: ClassVar[tuple[str, ...]] = ("generator", "discriminator")

    @property
    def seen_through(self) -> tuple[Augmentation, ...]:
        """The augmentations."""
        return self.augmentations

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 1, "labels")
        sizes(self, "labelled_batch", "generated_batch", least=0)
        at_least(self, 0, "consistency")
        if self.consistency and not (self.augmentations and self.unlabelled):
            raise UsageError(
                f"consistency is {self.consistency}, which compares pictures without labels with "
                "themselves augmented; say --game.augmentations translate affine, or leave it out"
            )


@dataclass(frozen=True)
class ElboGame(AnyGame):
    """A variational autoencoder: E and G ascend the evidence lower bound (Kingma, Welling 2014)."""

    encoder: MLPEncoder = field(default_factory=MLPEncoder)
    likelihood: Literal["bernoulli", "normal"] = "bernoulli"
    """p(x | z): each pixel on with probability G(z), or normal about it."""
    deviation: float = 0.1
    """Standard deviation of the normal p(x | z)."""

    averaged: ClassVar[tuple[str, ...]] = ("generator", "encoder")

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self, "more than 0", lambda number: number > 0, "deviation")

    def loss_limit(self, values: int) -> float:
        """Return the limit of a loss that sums over the values of an image, each over 2 σ²."""
        return 1e4 * values * max(1.0, 0.5 / self.deviation**2)


@dataclass(frozen=True)
class CustomGame(AnyGame):
    """A game of the reader's own, from a file of theirs."""

    place: Suppress[str] = ""
    """FILE.py:NAME, where NAME is a game, or makes one when it is called."""
    digest: Suppress[str] = ""
    """BLAKE2b, in hex, of the file as the run began."""

    prepared: ClassVar[bool] = False

    def loss_limit(self, values: int) -> float:  # noqa: ARG002
        """Return no limit: the scale of the game's losses is not known here."""
        return math.inf


GameConfig = (
    Game
    | ConditionalGame
    | InferenceGame
    | EncodingGame
    | CompletionGame
    | SemiSupervisedGame
    | ElboGame
    | CustomGame
)
