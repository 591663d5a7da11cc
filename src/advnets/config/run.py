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
from advnets.config.validation import Checked, at_least, check, probabilities, sizes
from advnets.errors import UsageError


@dataclass(frozen=True)
class SGD(Checked):
    """Gradient descent with momentum and the 2014 schedules."""

    lr: float = 0.1
    """Learning rate of the first update."""
    lr_decay: float = 1.000004
    """The learning rate after n updates is lr / lr_decay^n …"""
    min_lr: float = 1e-6
    """… and never less than this."""
    momentum: float = 0.5
    """Momentum in the first epoch."""
    final_momentum: float = 0.7
    """Momentum from epoch `saturate` on; linear between."""
    saturate: int = 250
    """Epoch (the first is 1) at which momentum is final."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 0, "lr", "min_lr", "momentum", "final_momentum")
        at_least(self, 1, "lr_decay", "saturate")


@dataclass(frozen=True)
class Adam(Checked):
    """Adam (Kingma and Ba 2015), at a constant rate unless told otherwise."""

    lr: float = 2e-4
    """Learning rate of the first update."""
    lr_decay: float = 1.0
    """The learning rate after n updates is lr / lr_decay^n …"""
    min_lr: float = 0.0
    """… and never less than this."""
    beta1: float = 0.5
    """Decay of the mean of gradients."""
    beta2: float = 0.999
    """Decay of the mean of squared gradients."""
    end_lr: float | None = None
    """`lr` falls to this by a cosine, over the stage's `burn_in`; None: it does not."""
    end_beta2: float | None = None
    """The same for `beta2`, which rises."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 0, "lr", "min_lr", "beta1", "beta2", "end_lr", "end_beta2")
        at_least(self, 1, "lr_decay")
        check(self, "less than 1", lambda number: number < 1, "beta1", "beta2", "end_beta2")


OptimizerConfig = SGD | Adam

MOST_THREADS = 1024
"""More cost memory and gain nothing; the OpenMP library crashes on some ten thousand."""


@dataclass(frozen=True)
class Stage(Checked):
    """One game between one pair of nets. Most presets are one stage; TFD has two."""

    generator: GeneratorConfig = field(default_factory=MLPGenerator)
    discriminator: DiscriminatorConfig = field(default_factory=MaxoutDiscriminator)
    game: GameConfig = field(default_factory=Game)
    generator_optimizer: OptimizerConfig = field(default_factory=SGD)
    discriminator_optimizer: OptimizerConfig = field(default_factory=SGD)
    epochs: int | None = 100
    """Passes over the training pictures, k batches a round; typed, in place of a preset's steps."""
    steps: int | None = None
    """Rounds of the game (k discriminator steps, one generator step); None: from epochs."""
    average_half_life: int = 0
    """Pictures, a batch a round, after which a past G counts half in its average; 0: no average."""
    average_share: float = 0.0
    """… and no more than this share of the pictures seen so far; 0: however young it is."""
    burn_in: float = 1.0
    """Share of the run over which what has an end (end_lr, end_r1, augment) comes to it."""
    burn_in_steps: Suppress[int | None] = None
    """The same in rounds, counted out as the run begins; runs made longer keep it."""
    below_previous: Suppress[bool] = False
    """Put this generator below the one of the stage before, whose z it then makes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 1, "epochs", "steps")
        if self.epochs is None and self.steps is None:
            raise UsageError("epochs and steps are both None; say how long: --epochs or --steps")
        at_least(self, 0, "average_half_life")
        check(self, "from 0 to 1", lambda number: 0 <= number <= 1, "average_share")
        probabilities(self, "burn_in")
        if self.average_share and not self.average_half_life:
            raise UsageError(
                f"average_share is {self.average_share} and average_half_life 0, by which no "
                "average is kept; say --average-half-life 100000, or --average-share 0"
            )
        self._refuse_idle_projection()
        self._refuse_unbounded_critic()
        self._refuse_weights_unlearned()

    @property
    def averaged(self) -> tuple[str, ...]:
        """The players whose weight average is kept."""
        return self.game.averaged if self.average_half_life else ()

    def lasting(self, epochs: int | None, steps: int | None) -> Stage:
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

    def _refuse_idle_projection(self) -> None:
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
        if not (game.gp or game.penalised or by_weights):
            raise UsageError(
                "the objective wasserstein was asked for with nothing that bounds D's slopes, "
                "without which it has no optimum; say --game.gp 10"
            )

    def _refuse_weights_unlearned(self) -> None:
        if getattr(self.generator, "prior", "") != "weighted-mixture":
            return
        if not isinstance(self.game, Game):
            raise UsageError(
                "the probabilities of z's components are learned from what D says of samples, "
                f"which {type(self.game).__name__} does not ask; say --generator.prior mixture"
            )
        if self.game.fakes == "shared" and self.game.updates == "alternating":
            raise UsageError(
                "the probabilities of z's components are learned in G's own step, and fakes are "
                "shared with D's; say --game.fakes fresh, or --generator.prior mixture"
            )


@dataclass(frozen=True)
class Runtime(Checked):
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
    graph: bool = False
    """On CUDA, record the step as a graph and replay it; fresh fakes only."""

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes(self, "threads", least=0, most=MOST_THREADS)


@dataclass(frozen=True)
class Ticks(Checked):
    """How often, in steps, the trainer looks up from its work."""

    log: int = 500
    """Between lines of the log."""
    samples: int = 5000
    """Between grids of samples."""
    checkpoint: int = 5000
    """Between checkpoints."""
    evaluate: int = 0
    """Between scores on the way; 0: none."""
    score: Literal["parzen", "frechet", "modes", "points", "divergence"] = "parzen"
    """Which score: a metric of `advnets evaluate`, of samples alone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 0, "log", "samples", "checkpoint", "evaluate")


@dataclass(frozen=True)
class Config(Checked):
    """A whole run."""

    preset: str
    data: Data
    stages: tuple[Stage, ...]
    ticks: Ticks = field(default_factory=Ticks)
    runtime: Runtime = field(default_factory=Runtime)
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.stages:
            raise UsageError("stages are none; give at least one")
        for stage in self.stages:
            if isinstance(stage.game, Game):
                _fit(stage.game, self.data, self.ticks)

    @property
    def stage(self) -> Stage:
        """The last stage: the one whose generator the run is for."""
        return self.stages[-1]

    @property
    def pictures_a_round(self) -> int:
        """Real pictures that a round of the last stage reads, at most."""
        return self.data.batch_size * self.stage.game.batches

    def steps_before(self, stage: int) -> int:
        """Steps of the stages before this one, once they are counted out."""
        return sum(earlier.steps or 0 for earlier in self.stages[:stage])

    def with_stage(self, stage: Stage) -> Config:
        """The same run with another last stage."""
        return replace(self, stages=(*self.stages[:-1], stage))


def _fit(game: Game, data: Data, ticks: Ticks) -> None:
    """Refuse a game that cannot be played on batches of these data, or at these ticks."""
    if game.lead and not ticks.log:
        raise UsageError(
            f"lead is {game.lead}, as D had it at the last tick, and ticks.log is 0, so that there "
            "are none; say --ticks.log 100"
        )
    if data.batch_size % game.pack:
        raise UsageError(
            f"pack is {game.pack} and batch_size {data.batch_size}, which it does not divide; "
            f"say --batch-size {-(-data.batch_size // game.pack) * game.pack}"
        )
    if game.augment and data.scaling in ("none", "standard"):
        raise UsageError(
            "augment was asked for on points, which are no pictures to be shifted "
            "or mirrored; leave --game.augment out"
        )
