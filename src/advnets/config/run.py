"""The options of data, optimizers, stages and whole runs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from tyro.conf import Suppress, arg

from advnets.config.games import CustomGame, GameConfig, GANGame
from advnets.config.models import (
    CustomModel,
    DCGANDiscriminator,
    DiscriminatorConfig,
    GeneratorConfig,
    MaxoutDiscriminator,
    MLPGenerator,
)
from advnets.config.validation import (
    LARGEST_BATCH,
    LARGEST_IMAGE,
    ValidatedConfig,
    check_min,
    check_rates,
    check_sizes,
    check_values,
)
from advnets.errors import UsageError

DataDir = Annotated[
    str | None,
    arg(
        name="data-dir",
        metavar="DIR",
        help="Directory of named datasets; None: the environment variable ADVNETS_DATA, else the "
        "user's cache directory.",
    ),
]


@dataclass(frozen=True)
class ImagePreprocessing(ValidatedConfig):
    """The options for resizing and converting a user's own images."""

    size: int = 32
    """Height in pixels to which your own images are resized; also the width, unless --width is
    given. Not for named datasets, whose size is fixed."""
    width: int | None = None
    """Width in pixels to which your own images are resized; None: equal to the height."""
    channels: Literal[1, 3] = 3
    """Channels of your own images: 1 (gray) or 3 (RGB). Not for named datasets."""
    crop: Literal["center", "pad", "random"] = "center"
    """Treatment of your own images of another aspect ratio: cropped at the center, padded to
    show the whole image, or cropped at a new random place every time."""
    background: Annotated[str, arg(metavar="COLOR")] = "white"
    """Color behind transparent and padded images: a name, or '#rrggbb' in quotes."""
    white_level: float | None = None
    """Value of your own 16-bit images that becomes white, for example 4095 for 12-bit data;
    larger values become white too. None: 65,535."""
    follow_links: bool = False
    """Also read files that symbolic links in an image folder point to outside that folder."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, "size", "width", max_size=LARGEST_IMAGE)
        check_values(self, "positive", lambda level: level > 0, "white_level")


@dataclass(frozen=True)
class Data(ImagePreprocessing):
    """The training data, and how they are preprocessed."""

    source: Annotated[str, arg(name="data", metavar="SOURCE")] = "digits"
    """Name of a dataset or distribution (see `advnets data list`), or a path to your own data."""
    directory: DataDir = None
    hflip: bool = False
    """Flip each training image horizontally with probability 0.5 every time it is used."""
    stream: bool = False
    """Read shards or a Hugging Face dataset during training, instead of packing them first."""
    normalize: Literal["unit", "symmetric", "contrast", "none", "standard"] = "unit"
    """Range of the data that the models see. Images: [0, 1] (unit), [-1, 1] (symmetric), or global
    contrast normalization, mean 0 and norm 55 for each image (contrast). Points: unchanged (none),
    or mean 0 and standard deviation 1 (standard)."""
    batch_size: int | Literal["auto"] = 100
    """Number of images in a batch. auto: the largest power of two (a multiple of one with PacGAN),
    up to 2,048 and to the number of training images, whose training fits into free memory. Learning
    rates are not adapted to it, and the largest batch is rarely the best one for a GAN."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, "batch_size", max_size=LARGEST_BATCH)


@dataclass(frozen=True)
class SGD(ValidatedConfig):
    """Stochastic gradient descent with momentum and the schedules of 2014."""

    lr: float = 0.1
    """Learning rate of the first update."""
    lr_decay: float = 1.000004
    """Factor by which the learning rate is divided after each update."""
    lr_min: float = 1e-6
    """Minimum of the decayed learning rate."""
    momentum: float = 0.5
    """Momentum in the first epoch."""
    momentum_final: float = 0.7
    """Momentum from epoch `momentum_epochs` on; it changes linearly until then."""
    momentum_epochs: int = 250
    """Number of the epoch, from 1, at which the momentum reaches `momentum_final`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rates(self, "lr", "lr_min")
        check_min(self, 0, "momentum", "momentum_final")
        check_min(self, 1, "lr_decay", "momentum_epochs")


@dataclass(frozen=True)
class Adam(ValidatedConfig):
    """Adam (Kingma and Ba 2015)."""

    lr: float = 2e-4
    """Learning rate of the first update."""
    lr_decay: float = 1.0
    """Factor by which the learning rate is divided after each update. 1: constant."""
    lr_min: float = 0.0
    """Minimum of the decayed learning rate."""
    beta1: float = 0.5
    """Decay rate of the running mean of gradients."""
    beta2: float = 0.999
    """Decay rate of the running mean of squared gradients."""
    lr_final: float | None = None
    """Final learning rate of a cosine schedule that starts at `lr` (see --schedule-fraction). None:
    no schedule."""
    beta2_final: float | None = None
    """Final value of `beta2` at the end of the schedule. None: constant."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rates(self, "lr", "lr_min", "lr_final")
        check_min(self, 0, "beta1", "beta2", "beta2_final")
        check_min(self, 1, "lr_decay")
        check_values(
            self, "less than 1", lambda number: number < 1, "beta1", "beta2", "beta2_final"
        )


OptimizerConfig = SGD | Adam

MAX_THREADS = 1024
"""The largest number of threads; with some ten thousand the OpenMP library crashes."""


@dataclass(frozen=True)
class Stage(ValidatedConfig):
    """The training of one set of models; only the preset paper-tfd has two stages."""

    generator: GeneratorConfig = field(default_factory=MLPGenerator)
    discriminator: DiscriminatorConfig = field(default_factory=MaxoutDiscriminator)
    game: GameConfig = field(default_factory=GANGame)
    generator_optimizer: OptimizerConfig = field(default_factory=SGD)
    discriminator_optimizer: OptimizerConfig = field(default_factory=SGD)
    epochs: int | None = 100
    """Length of the training in passes over the training images; replaces a preset's --steps."""
    steps: int | None = None
    """Length of the training in steps; a step is k discriminator updates and one generator update.
    None: computed from --epochs."""
    ema_half_life: int = 0
    """Half-life, in images, of the exponential moving average (EMA) of the generator's weights. 0:
    no EMA."""
    ema_rampup: float = 0.0
    """Limit of the EMA's half-life as a fraction of the images seen so far, as in EDM. 0: no
    limit."""
    init_from: Annotated[str | None, arg(metavar="RUN")] = None
    """Run directory, or checkpoint file, whose weights the networks start from, those of the EMA
    for networks that have one. Data and other options may differ. None: random initial weights."""
    init_players: Annotated[tuple[str, ...], arg(metavar="PLAYER ...")] = ()
    """Players that start from --init-from: generator, discriminator, encoder. None given: all
    players that both runs have."""
    init_digest: Suppress[str | None] = None
    """Digest of the weights of --init-from, set when the run starts."""
    schedule_fraction: float = 1.0
    """Fraction of the training after which the schedules of learning rates, beta2, penalties and
    augmentation reach their final values."""
    schedule_steps: Suppress[int | None] = None
    """Length of the schedules in steps, set when the run starts and kept when it is extended."""
    on_top_of_previous: Suppress[bool] = False
    """True if this generator's output is the z of the previous stage's generator."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_min(self, 1, "epochs", "steps")
        if self.epochs is None and self.steps is None:
            raise UsageError("epochs and steps are both None; give one of them")
        check_min(self, 0, "ema_half_life")
        check_values(self, "from 0 to 1", lambda number: 0 <= number <= 1, "ema_rampup")
        check_values(
            self, "above 0 and at most 1", lambda number: 0 < number <= 1, "schedule_fraction"
        )
        if self.ema_rampup and not self.ema_half_life:
            raise UsageError(
                f"ema_rampup is {self.ema_rampup} but ema_half_life is 0, which disables the EMA; "
                "set ema_half_life to 100000, or ema_rampup to 0"
            )
        optimizers = self.generator_optimizer, self.discriminator_optimizer
        if all(not spec.lr and not getattr(spec, "lr_final", None) for spec in optimizers):
            raise UsageError(
                "lr is 0, which trains neither player; give a positive lr, or 0 for one player only"
            )
        if self.init_players and self.init_from is None:
            raise UsageError(
                f"init_players is {' '.join(self.init_players)}, but init_from is not given; "
                "set init_from to the directory of a run"
            )
        self._check_projection()
        self._check_wasserstein()
        self._check_learned_mixture()

    @property
    def ema_players(self) -> tuple[str, ...]:
        """The players of which an EMA is kept."""
        return self.game.ema_players if self.ema_half_life else ()

    def with_length(self, epochs: int | None, steps: int | None) -> Stage:
        """Return the stage with another length; with neither given, the stage itself.

        Raises:
            UsageError: both are given.
        """
        if epochs is not None and steps is not None:
            raise UsageError(f"epochs is {epochs} and steps is {steps}; give one of them")
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

    def _check_projection(self) -> None:
        if getattr(self.discriminator, "projection", False) and not self.game.conditional:
            raise UsageError(
                f"projection needs class labels, which a {type(self.game).__name__} does not use; "
                "give a conditional preset such as projection-mnist, or leave projection out"
            )

    def _check_wasserstein(self) -> None:
        game = self.game
        if not isinstance(game, GANGame) or game.objective != "wasserstein":
            return
        d = self.discriminator
        # Batch norm would undo the bound that spectral norm sets.
        is_bounded = isinstance(d, DCGANDiscriminator) and d.spectral_norm and not d.batch_norm
        if not (game.gp_weight or game.has_gradient_penalty or is_bounded):
            raise UsageError(
                "objective is wasserstein, which needs a bound on D's gradients, without which it "
                "has no optimum; set gp_weight to 10"
            )

    def _check_learned_mixture(self) -> None:
        if getattr(self.generator, "prior", "") != "learned-mixture":
            return
        if not isinstance(self.game, GANGame):
            raise UsageError(
                "prior is learned-mixture, which learns component probabilities from D's logits of "
                f"samples, which {type(self.game).__name__} does not provide; set prior to mixture"
            )
        if self.game.reuse_fakes and self.game.updates == "alternating":
            raise UsageError(
                "prior is learned-mixture, which learns component probabilities from new samples "
                "in G's update, and reuse_fakes draws none; leave reuse_fakes out, or set prior to "
                "mixture"
            )


@dataclass(frozen=True)
class Runtime(ValidatedConfig):
    """The device and precision of a run; a resumed run keeps them unless others are given.

    A run that is resumed with other values is marked as no longer reproducible bit for bit.
    """

    device: Annotated[str, arg(metavar="DEVICE")] = "auto"
    """Device: auto, cpu, cuda, cuda:N or mps. auto: a GPU if there is one."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of matrix products; weights, losses and the optimizer state are always float32.
    auto: bfloat16 on hardware with instructions for it, else float32; also on a CPU that is busy
    with other processes, if a short measurement at the start finds it faster."""
    threads: int = 0
    """Number of CPU threads. 0: the number of cores that this process may use, or fewer if other
    processes use them and a short measurement at the start finds fewer threads faster."""
    compile: bool = False
    """Compile the training step with torch.compile, which takes about half a minute; not with
    reused fakes."""
    cuda_graph: bool = False
    """Capture the training step as a CUDA graph and replay it; not with reused fakes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, "threads", min_size=0, max_size=MAX_THREADS)


@dataclass(frozen=True)
class Intervals(ValidatedConfig):
    """The intervals, in steps, at which the training logs, samples, saves and evaluates."""

    log_every: int = 500
    """Number of steps between lines of the log. 0: no log."""
    sample_every: int = 5000
    """Number of steps between saved grids of samples; one is also saved at the end. 0: none."""
    checkpoint_every: int = 5000
    """Number of steps between checkpoints. 0: only at the end."""
    eval_every: int | None = None
    """Number of steps between evaluations during training. 0: none. None: 500 or more, so that
    evaluations take less than 5 % of the time, if a cheap metric suits the data."""
    eval_metric: Annotated[str | None, arg(metavar="METRIC")] = None
    """Metric of these evaluations, one of those with an asterisk in `advnets evaluate --help`.
    None: the metric of --keep-best, else parzen. If --eval-every is not given either: mixture or
    kl-jsd for points, frechet or mmd for images, with as many samples as test images, at most
    1,000."""
    keep_checkpoints: int | Literal["all"] = 2
    """Number of newest checkpoints to keep, or all."""
    keep_best: str | None = None
    """Metric (fid, kid) by which the best checkpoint is kept as well, or one of its values
    (modes_found); the metric of the evaluations if --eval-metric is not given. None: only the
    newest checkpoints are kept."""
    patience: int = 0
    """Number of evaluations without a better score after which the training ends early. 0: it
    never does."""
    weights_only: bool = False
    """When the training is complete, keep only the weights of the generator and of other players
    that are not the discriminator, in smaller files. The run can then be sampled from, but neither
    be resumed nor used for what needs the discriminator."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_min(self, 0, "log_every", "sample_every", "checkpoint_every", "eval_every")
        check_min(self, 0, "patience")
        if self.keep_checkpoints != "all":
            check_min(self, 1, "keep_checkpoints")
        for name in ("keep_best", "patience"):
            value = getattr(self, name)
            if value and self.eval_every == 0:
                raise UsageError(
                    f"{name} is {value}, but eval_every is 0, so that nothing is evaluated; "
                    "set eval_every to a number of steps, or leave it out"
                )


@dataclass(frozen=True)
class BranchPoint(ValidatedConfig):
    """The state of another run that a run continues."""

    run: str
    """The directory of that run, as an absolute path."""
    step: int
    """The step of that state."""
    identity: str
    """The identity of that run."""
    differences: tuple[str, ...]
    """The fields in which the configs differ, as `name: value in that run, value in this one`."""


@dataclass(frozen=True)
class Config(ValidatedConfig):
    """The whole configuration of a run."""

    preset: str
    data: Data
    stages: tuple[Stage, ...]
    intervals: Intervals = field(default_factory=Intervals)
    runtime: Runtime = field(default_factory=Runtime)
    seed: int = 0
    branched_from: BranchPoint | None = None
    """The run whose state this one continues; None: it starts at step 0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.stages:
            raise UsageError("stages is empty; give at least one stage")
        for stage in self.stages:
            if isinstance(stage.game, GANGame):
                _check_game(stage.game, self.data, self.intervals)

    @property
    def stage(self) -> Stage:
        """The last stage, whose generator is the result of the run."""
        return self.stages[-1]

    @property
    def batch_size(self) -> int:
        """The number of images in a batch; not defined before "auto" is resolved."""
        size = self.data.batch_size
        assert size != "auto"
        return size

    @property
    def images_per_step(self) -> int:
        """The number of real images that a step of the last stage reads, at most."""
        return self.batch_size * self.stage.game.batches_per_step

    def steps_before(self, stage: int) -> int:
        """Return the number of steps of all stages before this one, once they are resolved.

        Args:
            stage: index of a stage, from 0.
        """
        return sum(earlier.steps or 0 for earlier in self.stages[:stage])

    def with_stage(self, stage: Stage) -> Config:
        """Return the config with another last stage.

        Args:
            stage: the new last stage.
        """
        return replace(self, stages=(*self.stages[:-1], stage))

    def override(
        self,
        *,
        data: Data,
        stage: Stage,
        lr: float | None,
        runtime: Runtime,
        intervals: Intervals | None = None,
        seed: int | None,
    ) -> Config:
        """Return the config with these values, and its own for those that are None.

        `stage` is the last stage, `lr` the learning rate of both its players.

        Args:
            data: the dataset.
            stage: the last stage.
            lr: learning rate of both players.
            runtime: device and precision.
            intervals: intervals of logs and checkpoints.
            seed: random seed.
        """
        # Replace all at once, as the values are checked together.
        stage = stage if lr is None else stage.with_learning_rate(lr)
        return replace(
            self,
            stages=(*self.stages[:-1], stage),
            data=data,
            runtime=runtime,
            intervals=intervals or self.intervals,
            seed=self.seed if seed is None else seed,
        )


def _check_game(game: GANGame, data: Data, intervals: Intervals) -> None:
    """Reject a game that is incompatible with the data or with the logging interval."""
    if game.adaptive_k_threshold and not intervals.log_every:
        raise UsageError(
            f"adaptive_k_threshold is {game.adaptive_k_threshold}, which is compared with the last "
            "logged values, and log_every is 0; set log_every to 100"
        )
    if data.batch_size != "auto" and data.batch_size % game.pac:
        raise UsageError(
            f"pac is {game.pac} and does not divide batch_size {data.batch_size}; "
            f"set batch_size to {-(-data.batch_size // game.pac) * game.pac}"
        )
    if game.augment_prob and data.normalize in ("none", "standard"):
        raise UsageError(
            f"augment_prob is {game.augment_prob}, but the data are points, and augmentations are "
            "for images; leave augment_prob out"
        )


def update_custom_paths(stored: Config, requested: Config) -> Config:
    """Return a stored config with the paths of the requested one's games and models in files.

    They are matched by name and content.
    """
    paths = {_identity(part): part.source for part in custom_parts(requested)}

    def updated(stage: Stage) -> Stage:
        changed = {
            name: replace(part, source=paths.get(_identity(part), part.source))
            for name in ("game", "generator", "discriminator")
            if isinstance(part := getattr(stage, name), CustomGame | CustomModel)
        }
        return replace(stage, **changed)

    return replace(stored, stages=tuple(map(updated, stored.stages)))


def custom_parts(run: Config) -> list[CustomGame | CustomModel]:
    """Return the games and models of a config that the user's code defines."""
    parts = [p for stage in run.stages for p in (stage.game, stage.generator, stage.discriminator)]
    return [part for part in parts if isinstance(part, CustomGame | CustomModel)]


def _identity(part: CustomGame | CustomModel) -> tuple[type, str, str]:
    return type(part), part.source.rpartition(":")[2], part.digest
