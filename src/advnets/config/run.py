"""The game, the optimizers, and a whole run."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from tyro.conf import Suppress

from advnets.config.data import Data
from advnets.config.games import Game, GameConfig
from advnets.config.models import (
    DCGANDiscriminator,
    DiscriminatorConfig,
    GeneratorConfig,
    MaxoutDiscriminator,
    MLPGenerator,
)
from advnets.config.validation import ValidatedConfig, at_least, check, probabilities, sizes
from advnets.errors import UsageError


@dataclass(frozen=True)
class SGD(ValidatedConfig):
    """Gradient descent with momentum and the 2014 schedules."""

    lr: float = 0.1
    """Learning rate of the first update."""
    lr_decay: float = 1.000004
    """The learning rate after n updates is lr / lr_decay^n …"""
    lr_min: float = 1e-6
    """… and never less than this."""
    momentum: float = 0.5
    """Momentum in the first epoch."""
    momentum_final: float = 0.7
    """Momentum from epoch `saturate` on; linear between."""
    momentum_epochs: int = 250
    """Epoch (the first is 1) at which momentum is final."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 0, "lr", "lr_min", "momentum", "momentum_final")
        at_least(self, 1, "lr_decay", "momentum_epochs")


@dataclass(frozen=True)
class Adam(ValidatedConfig):
    """Adam (Kingma and Ba 2015), at a constant rate unless told otherwise."""

    lr: float = 2e-4
    """Learning rate of the first update."""
    lr_decay: float = 1.0
    """The learning rate after n updates is lr / lr_decay^n …"""
    lr_min: float = 0.0
    """… and never less than this."""
    beta1: float = 0.5
    """Decay of the mean of gradients."""
    beta2: float = 0.999
    """Decay of the mean of squared gradients."""
    lr_final: float | None = None
    """`lr` falls to this by a cosine, over the stage's `burn_in`; None: it does not."""
    beta2_final: float | None = None
    """The same for `beta2`, which rises."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 0, "lr", "lr_min", "beta1", "beta2", "lr_final", "beta2_final")
        at_least(self, 1, "lr_decay")
        check(self, "less than 1", lambda number: number < 1, "beta1", "beta2", "beta2_final")


OptimizerConfig = SGD | Adam

MOST_THREADS = 1024
"""More cost memory and gain nothing; the OpenMP library crashes on some ten thousand."""


@dataclass(frozen=True)
class Stage(ValidatedConfig):
    """One game between one pair of nets. Most presets are one stage; TFD has two."""

    generator: GeneratorConfig = field(default_factory=MLPGenerator)
    discriminator: DiscriminatorConfig = field(default_factory=MaxoutDiscriminator)
    game: GameConfig = field(default_factory=Game)
    generator_optimizer: OptimizerConfig = field(default_factory=SGD)
    discriminator_optimizer: OptimizerConfig = field(default_factory=SGD)
    epochs: int | None = 100
    """Passes over the training images, k batches a round; typed, in place of a preset's steps."""
    steps: int | None = None
    """Rounds of the game (k discriminator steps, one generator step); None: from epochs."""
    ema_half_life: int = 0
    """Images, a batch a round, after which a past G counts half in its average; 0: no average."""
    ema_rampup: float = 0.0
    """… and no more than this share of the images seen so far; 0: however young it is."""
    schedule_fraction: float = 1.0
    """Share of the run over which what has an end (end_lr, end_r1, augment) comes to it."""
    schedule_steps: Suppress[int | None] = None
    """The same in rounds, counted out as the run begins; runs made longer keep it."""
    on_top_of_previous: Suppress[bool] = False
    """Put this generator below the one of the stage before, whose z it then makes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 1, "epochs", "steps")
        if self.epochs is None and self.steps is None:
            raise UsageError("epochs and steps are both None; say how long: --epochs or --steps")
        at_least(self, 0, "ema_half_life")
        check(self, "from 0 to 1", lambda number: 0 <= number <= 1, "ema_rampup")
        probabilities(self, "schedule_fraction")
        if self.ema_rampup and not self.ema_half_life:
            raise UsageError(
                f"average_share is {self.ema_rampup} and average_half_life 0, by which no "
                "average is kept; say --ema-half-life 100000, or --ema-rampup 0"
            )
        self._check_augmentations_projection()
        self._refuse_unbounded_critic()
        self._refuse_weights_unlearned()

    @property
    def uses_ema(self) -> tuple[str, ...]:
        """The players whose weight average is kept."""
        return self.game.ema_players if self.ema_half_life else ()

    def with_length(self, epochs: int | None, steps: int | None) -> Stage:
        """The same stage for so long in place of what it has; of neither, as it is.

        Raises:
            UsageError: both came.
        """
        if epochs is not None and steps is not None:
            raise UsageError(
                f"epochs {epochs} and steps {steps} came, each of which says how long; give one"
            )
        if epochs is None and steps is None:
            return self
        return replace(self, epochs=epochs, steps=steps)

    def with_learning_rate(self, lr: float) -> Stage:
        """Return the stage with this learning rate for both players."""
        return replace(
            self,
            generator_optimizer=replace(self.generator_optimizer, lr=lr),
            discriminator_optimizer=replace(self.discriminator_optimizer, lr=lr),
        )

    def _check_augmentations_projection(self) -> None:
        if getattr(self.discriminator, "projection", False) and not self.game.conditional:
            raise UsageError(
                f"projection was asked for of the D of a {type(self.game).__name__}, which is told "
                "no class; give a conditional preset, as projection-mnist, or leave it out"
            )

    def _refuse_unbounded_critic(self) -> None:
        game = self.game
        if not isinstance(game, Game) or game.objective != "wasserstein":
            return
        d = self.discriminator
        # Batch norm would take back what spectral norm bounds.
        by_weights = isinstance(d, DCGANDiscriminator) and d.spectral_norm and not d.batch_norm
        if not (game.gp_weight or game.has_gradient_penalty or by_weights):
            raise UsageError(
                "the objective wasserstein was asked for with nothing that bounds D's slopes, "
                "without which it has no optimum; say --game.gp-weight 10"
            )

    def _refuse_weights_unlearned(self) -> None:
        if getattr(self.generator, "prior", "") != "learned-mixture":
            return
        if not isinstance(self.game, Game):
            raise UsageError(
                "the probabilities of z's components are learned from what D says of samples, "
                f"which {type(self.game).__name__} does not ask; say --generator.prior mixture"
            )
        if self.game.reuse_fakes == "shared" and self.game.updates == "alternating":
            raise UsageError(
                "the probabilities of z's components are learned in G's own step, and fakes are "
                "shared with D's; say --game.reuse-fakes fresh, or --generator.prior mixture"
            )


@dataclass(frozen=True)
class Runtime(ValidatedConfig):
    """What the run computes on, resolved once and stored; kept on resume unless another is said.

    A run that is resumed with another one is marked as no longer bit-exact from there on.
    """

    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of matrix products; weights, losses and optimizer state are float32 always."""
    threads: int = 0
    """CPU threads; 0: as many as the cores that the affinity and the container's quota allow."""
    compile: bool = False
    """Compile the step: half a minute of start for less time a step; fresh fakes only."""
    cuda_graph: bool = False
    """On CUDA, record the step as a graph and replay it; fresh fakes only."""

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes(self, "threads", least=0, most=MOST_THREADS)


@dataclass(frozen=True)
class Intervals(ValidatedConfig):
    """How often, in steps, the trainer looks up from its work."""

    log_every: int = 500
    """Between lines of the log."""
    sample_every: int = 5000
    """Between grids of samples."""
    checkpoint_every: int = 5000
    """Between checkpoints."""
    eval_every: int = 0
    """Between scores on the way; 0: none."""
    eval_metric: Literal["parzen", "frechet", "modes", "points", "divergence"] = "parzen"
    """Which score: a metric of `advnets evaluate`, of samples alone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 0, "log_every", "sample_every", "checkpoint_every", "eval_every")


@dataclass(frozen=True)
class Config(ValidatedConfig):
    """A whole run."""

    preset: str
    data: Data
    stages: tuple[Stage, ...]
    intervals: Intervals = field(default_factory=Intervals)
    runtime: Runtime = field(default_factory=Runtime)
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.stages:
            raise UsageError("stages are none; give at least one")
        for stage in self.stages:
            if isinstance(stage.game, Game):
                _fit(stage.game, self.data, self.intervals)

    @property
    def stage(self) -> Stage:
        """The last stage: the one whose generator the run is for."""
        return self.stages[-1]

    @property
    def images_per_step(self) -> int:
        """Real images that a round of the last stage reads, at most."""
        return self.data.batch_size * self.stage.game.batches_per_step

    def steps_before(self, stage: int) -> int:
        """Steps of the stages before this one, once they are counted out."""
        return sum(earlier.steps or 0 for earlier in self.stages[:stage])

    def with_stage(self, stage: Stage) -> Config:
        """The same run with another last stage."""
        return replace(self, stages=(*self.stages[:-1], stage))


def _fit(game: Game, data: Data, ticks: Intervals) -> None:
    """Refuse a game that cannot be played on batches of these data, or at these ticks."""
    if game.adaptive_k_threshold and not ticks.log_every:
        raise UsageError(
            f"lead is {game.adaptive_k_threshold}, as D had it at the last tick, and ticks.log is 0, so that there "
            "are none; say --log-every 100"
        )
    if data.batch_size % game.pac:
        raise UsageError(
            f"pack is {game.pac} and batch_size {data.batch_size}, which it does not divide; "
            f"say --batch-size {-(-data.batch_size // game.pac) * game.pac}"
        )
    if game.augment_prob and data.normalize in ("none", "standard"):
        raise UsageError(
            "augment was asked for on points, which are no images to be shifted "
            "or mirrored; leave --game.augment-prob out"
        )
