"""The options of games: the GAN of 2014, its extensions, and games in a user's own file."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from tyro.conf import Suppress

from advnets.config.models import MLPEncoder
from advnets.config.validation import ValidatedConfig, check_min, check_sizes, check_values
from advnets.errors import UsageError

Augmentation = Literal["flip", "translate", "cutout", "erase", "color", "affine", "elastic"]


@dataclass(frozen=True)
class BaseGame(ValidatedConfig):
    """The base of all games: the properties that training depends on."""

    conditional: ClassVar[bool] = False
    """True if the generator and the discriminator are given the class label."""
    ema_players: ClassVar[tuple[str, ...]] = ("generator",)
    """The players of which an exponential moving average is kept, if one is enabled."""
    compilable: ClassVar[bool] = True
    """True if a step can be compiled, or captured as a CUDA graph."""

    @property
    def batches_per_step(self) -> int:
        """The number of batches of real images that a training step reads."""
        return 1

    @property
    def discriminator_augmentations(self) -> tuple[Augmentation, ...]:
        """The augmentations that are applied to the discriminator's input."""
        return ()

    def loss_limit(self, values: int) -> float:  # noqa: ARG002
        """Return the absolute loss above which a run on images of `values` numbers has diverged."""
        return 1e6


@dataclass(frozen=True)
class GANGame(BaseGame):
    """Algorithm 1 (Goodfellow et al. 2014): k discriminator updates, then one of the generator."""

    objective: Literal["non-saturating", "minimax", "hinge", "least-squares", "wasserstein"] = (
        "non-saturating"
    )
    """Loss functions: in the 2014 paper G minimizes -log D(G(z)) (non-saturating) or
    log(1 - D(G(z))) (minimax). Later papers introduced hinge, least-squares (targets 1 and 0) and
    wasserstein, which needs a Lipschitz constraint such as --game.gp-weight 10."""
    k: int = 1
    """Number of discriminator updates for each generator update, if updates are alternating."""
    adaptive_k_threshold: float = 0.0
    """Make k discriminator updates only while D(x) - D(G(z)), as last logged, is below this, and
    one otherwise; between 0 and 1. 0: always k."""
    updates: Literal["alternating", "simultaneous"] = "alternating"
    """Update D first and then G (the paper's text), or both at once from the same batch and fakes
    (the authors' code)."""
    reuse_fakes: bool = False
    """With alternating updates, update G on the fakes of D's last update. Otherwise G draws new
    ones, as in the paper's text."""
    relativistic: bool = False
    """Let D compare pairs of a real image and a fake: the losses use the difference of logits."""
    r1: float = 0.0
    """Weight γ of the R1 penalty, γ/2 E‖∇a(x)‖² on real images, where a is D's logit. 0: none."""
    r2: float = 0.0
    """Weight γ of the R2 penalty, γ/2 E‖∇a(x)‖² on generated images. 0: none."""
    r1_final: float | None = None
    """Final value of `r1` at the end of the schedule (--schedule-fraction). None: constant."""
    r2_final: float | None = None
    """Final value of `r2` at the end of the schedule. None: constant."""
    penalty_schedule: Literal["cosine", "geometric"] = "cosine"
    """Schedule of `r1` and `r2`: along a cosine, or by the same factor in each step (geometric)."""
    penalty: Literal["exact", "finite-difference"] = "exact"
    """Computation of the R1 and R2 penalties: from the gradients of D (exact), or estimated from
    differences of its logits at random nearby points (finite-difference), which takes less time a
    step but is noisy, and needs a D without batch norm."""
    penalty_step: float = 0.1
    """Size h of the steps of finite differences, in units of the pixels of D's input: h is added to
    or subtracted from each pixel. 0.1 suits images, and is the least in bfloat16; points whose
    modes are narrower need smaller steps."""
    penalty_every: int = 8
    """Compute finite differences for every N-th image of a batch and every N-th fake. 1: all."""
    penalty_directions: int = 1
    """Number of random directions of finite differences for each of these images."""
    gp_weight: float = 0.0
    """Weight λ of the gradient penalty λ E(‖∇a‖ - 1)² between images and fakes (WGAN-GP); 10 as
    published. 0: none."""
    augment_prob: float = 0.0
    """Final probability of each augmentation of D's input, ramped up from 0 over the schedule. Near
    1 G may learn to generate augmented images. 0: no augmentation."""
    augmentations: tuple[Augmentation, ...] = ("flip", "translate", "cutout", "color")
    """Augmentations of D's input: horizontal flips, translation by up to 1/8, cutout of a quarter,
    color (brightness, saturation, contrast), affine (rotation, scale, shear), elastic (a smooth
    random deformation), erase (a box with sides of 1/8 to 3/8)."""
    pac: int = 1
    """Number of images that D sees together, concatenated as channels, all real or all generated
    (PacGAN). 1: single images."""

    def __post_init__(self) -> None:
        super().__post_init__()

        # Check each number by itself.
        check_sizes(self, "pac")
        check_sizes(self, "k", "penalty_every", "penalty_directions", max_size=1000)
        check_values(self, "more than 0", lambda number: number > 0, "penalty_step")
        penalties = ("r1", "r2", "r1_final", "r2_final", "gp_weight")
        check_min(self, 0, "adaptive_k_threshold", *penalties)
        check_values(self, "less than 1", lambda number: number < 1, "adaptive_k_threshold")
        check_values(self, "from 0 to 1", lambda number: 0 <= number <= 1, "augment_prob")
        if self.penalty_schedule == "geometric":
            scheduled = [
                name for name in ("r1", "r2") if getattr(self, f"{name}_final") is not None
            ]
            check_values(
                self,
                "more than 0 in a geometric schedule; give another weight, or set "
                "penalty_schedule to cosine",
                lambda number: number > 0,
                *scheduled,
                *(f"{name}_final" for name in scheduled),
            )

        # Refuse options that contradict each other.
        if self.augment_prob and not self.augmentations:
            raise UsageError(
                f"augment_prob is {self.augment_prob} and augmentations is empty; add at least "
                "one, such as flip, or leave augment_prob out"
            )
        if self.k > 1 and self.updates == "simultaneous":
            raise UsageError(
                f"k is {self.k}, but simultaneous updates update D once; set updates to "
                "alternating, or leave k out"
            )
        probabilistic = self.objective in ("non-saturating", "minimax")
        if self.relativistic and not probabilistic:
            raise UsageError(
                f"relativistic does not apply to the objective {self.objective}, in which D rates "
                "single images; set objective to non-saturating, or leave relativistic out"
            )
        self._check_adaptive_k(probabilistic)

    def _check_adaptive_k(self, probabilistic: bool) -> None:
        if not self.adaptive_k_threshold:
            return
        name = f"adaptive_k_threshold is {self.adaptive_k_threshold}"
        if not probabilistic:
            raise UsageError(
                f"{name}, a difference of probabilities D(x), which the objective {self.objective} "
                "does not have; leave adaptive_k_threshold out"
            )
        if self.relativistic:
            raise UsageError(
                f"{name}, a difference of D(x) and D(G(z)), which a relativistic D does not have; "
                "leave adaptive_k_threshold or relativistic out"
            )
        if self.k == 1:
            raise UsageError(
                f"{name}, which chooses between one update of D and k, but updates are "
                f"{self.updates} and k is 1; set updates to alternating and k to 2"
            )

    @property
    def batches_per_step(self) -> int:
        """The number of batches of real images in a step; an adaptive k may read fewer."""
        return self.k

    @property
    def discriminator_augmentations(self) -> tuple[Augmentation, ...]:
        """The augmentations that are applied to the discriminator's input."""
        return self.augmentations if self.augment_prob else ()

    def loss_limit(self, values: int) -> float:
        """Return the limit, which is lower for logistic losses: they grow as the mean logit."""
        logistic = self.objective in ("non-saturating", "minimax")
        return 1e4 if logistic else super().loss_limit(values)

    @property
    def has_gradient_penalty(self) -> bool:
        """True if an R1 or R2 penalty is used at any step."""
        return any((self.r1, self.r2, self.r1_final, self.r2_final))

    @property
    def estimates_penalty(self) -> bool:
        """True if R1 and R2 are used and estimated."""
        return self.has_gradient_penalty and self.penalty == "finite-difference"


def reject_pac(game: GANGame, reason: str) -> None:
    """Refuse a game with packing.

    Raises:
        UsageError: D sees several images at once.
    """
    if game.pac > 1:
        raise UsageError(f"pac is {game.pac}, but {reason}; leave pac out")


@dataclass(frozen=True)
class ConditionalGame(GANGame):
    """Class-conditional GAN: G and D are given the label (2014, section 7, extension 1)."""

    conditional: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        reject_pac(self, "a conditional D is given the label of one image")


@dataclass(frozen=True)
class ALIGame(BaseGame):
    """Adversarially learned inference: D separates (x, E(x)) from (G(z), z) (extension 2)."""

    encoder: MLPEncoder = field(default_factory=MLPEncoder)

    ema_players: ClassVar[tuple[str, ...]] = ("generator", "encoder")


@dataclass(frozen=True)
class LatentRegressionGame(BaseGame):
    """An encoder learns to recover z from G(z); G is trained and stays fixed (extension 2)."""

    encoder: MLPEncoder = field(default_factory=MLPEncoder)
    generator_run: str | None = None
    """Folder of the run whose generator is used; required."""

    ema_players: ClassVar[tuple[str, ...]] = ("encoder",)


@dataclass(frozen=True)
class InpaintingGame(GANGame):
    """G fills in the missing pixels; D is given the image and the mask (extension 3)."""

    masks: tuple[Literal["pixels", "boxes", "halves", "all"], ...] = (
        "pixels",
        "boxes",
        "halves",
        "all",
    )
    """Kinds of masks, each equally probable: random pixels, a box, one of four halves, or the whole
    image."""

    def __post_init__(self) -> None:
        super().__post_init__()
        reject_pac(self, "an inpainting D is given the mask of one image")
        if self.augment_prob:
            raise UsageError(
                f"augment_prob is {self.augment_prob}, but an inpainting D is given the mask, "
                "which would not match an augmented image; leave augment_prob out"
            )
        if not self.masks:
            raise UsageError("masks is empty; give at least one of pixels, boxes, halves, all")
        if self.reuse_fakes:
            raise UsageError(
                "reuse_fakes does not apply to inpainting, where each update draws new masks; "
                "leave reuse_fakes out"
            )


@dataclass(frozen=True)
class SemiSupervisedGame(BaseGame):
    """D classifies images into K classes and "generated", with few labels (extension 4)."""

    labels: int = 100
    """Number of labeled training images, equally many of each class; no other label is read."""
    label_seed: int = 0
    """Random seed of the choice of labeled images; independent of --seed."""
    labeled_batch: int = 0
    """Number of labeled images in a step. 0: --batch-size."""
    generated_batch: int = 0
    """Number of generated images in a step. 0: --batch-size."""
    updates: Literal["alternating", "simultaneous"] = "alternating"
    """Update D first and then G, as published, or both at once from one pass of D."""
    unlabeled_loss: bool = True
    """Train D on unlabeled and generated images too, and G. Without it D is a supervised
    classifier of the labeled images alone."""
    augmentations: tuple[Augmentation, ...] = ()
    """Augmentations of D's input, applied to all images; empty: none."""
    consistency: float = 0.0
    """Weight of the mutual information, over a batch, between D's class predictions for an image
    and for its augmentation, which D maximizes. 0: none."""

    ema_players: ClassVar[tuple[str, ...]] = ("generator", "discriminator")

    @property
    def discriminator_augmentations(self) -> tuple[Augmentation, ...]:
        """The augmentations that are applied to the discriminator's input."""
        return self.augmentations

    def __post_init__(self) -> None:
        super().__post_init__()
        check_min(self, 1, "labels")
        check_sizes(self, "labeled_batch", "generated_batch", min_size=0)
        check_min(self, 0, "consistency")
        if self.consistency and not (self.augmentations and self.unlabeled_loss):
            raise UsageError(
                f"consistency is {self.consistency}, which compares unlabeled images with their "
                "augmentations; set augmentations to translate affine and unlabeled_loss to True, "
                "or leave consistency out"
            )


@dataclass(frozen=True)
class VAEGame(BaseGame):
    """Variational autoencoder: E and G maximize the ELBO (Kingma and Welling 2014)."""

    encoder: MLPEncoder = field(default_factory=MLPEncoder)
    likelihood: Literal["bernoulli", "normal"] = "bernoulli"
    """Distribution of pixels p(x | z): Bernoulli with probability G(z), or normal with mean
    G(z)."""
    likelihood_std: float = 0.1
    """Standard deviation of a normal p(x | z)."""

    ema_players: ClassVar[tuple[str, ...]] = ("generator", "encoder")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_values(self, "more than 0", lambda number: number > 0, "likelihood_std")

    def loss_limit(self, values: int) -> float:
        """Return the limit of a loss that is a sum over all values, each divided by 2 σ²."""
        return 1e4 * values * max(1.0, 0.5 / self.likelihood_std**2)


@dataclass(frozen=True)
class CustomGame(BaseGame):
    """A game in a user's own Python file."""

    source: Suppress[str] = ""
    """FILE.py:NAME, where NAME is a game or a function that returns one."""
    digest: Suppress[str] = ""
    """BLAKE2b digest, in hex, of the file when the run was started."""

    compilable: ClassVar[bool] = False

    def loss_limit(self, values: int) -> float:  # noqa: ARG002
        """Return no limit, as the scale of the game's losses is unknown."""
        return math.inf


GameConfig = (
    GANGame
    | ConditionalGame
    | ALIGame
    | LatentRegressionGame
    | InpaintingGame
    | SemiSupervisedGame
    | VAEGame
    | CustomGame
)
