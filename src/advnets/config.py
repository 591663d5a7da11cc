"""Everything a run can be told, as plain data.

Frozen, without torch (so `--help` is instant), turned into flags by the command line and into
config.json by the run directory. A field's comment is its help text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from tyro.conf import Suppress, arg

from advnets.errors import UsageError


def check(config: object, expected: str, holds: Callable[[float], bool], *names: str) -> None:
    """Refuse numbers, or numbers in a list, that cannot be; a field that is None is left.

    Raises:
        UsageError: one does not hold.
    """
    for name in names:
        value = getattr(config, name)
        for number in value if isinstance(value, tuple) else (value,):
            if number is not None and not holds(number):
                raise UsageError(f"{name} is {number}; it must be {expected}")


def at_least(config: object, bound: int, *names: str) -> None:
    """Refuse numbers below a bound."""
    check(config, f"at least {bound}", lambda number: number >= bound, *names)


def probabilities(config: object, *names: str) -> None:
    """Refuse numbers that are no probability of keeping something."""
    check(config, "above 0 and at most 1", lambda number: 0 < number <= 1, *names)


Activation = Literal["relu", "leaky_relu", "sigmoid", "tanh"]


@dataclass(frozen=True)
class Framing:
    """What own pictures are brought to; named sets keep their size and channels."""

    size: int = 32
    """Height that own pictures are brought to, and width unless --width says it."""
    width: int | None = None
    """Width of own pictures; None: as their height."""
    channels: Literal[1, 3] = 3
    """Grey (1) or colour (3), for own pictures; named sets keep theirs."""
    crop: Literal["centre", "fit", "random"] = "centre"
    """Own pictures of other shapes: cut about the centre, fitted whole, or cut anew each time."""
    background: str = "white"
    """Colour behind transparent and fitted pictures: a name, or #rrggbb."""

    def __post_init__(self) -> None:
        at_least(self, 1, "size", "width")


@dataclass(frozen=True)
class Data(Framing):
    """Which pictures, and how they are shown to the nets."""

    source: Annotated[str, arg(name="data", metavar="SOURCE")] = "digits"
    """A named set or distribution (see `advnets data list`), or the path of your own data."""
    directory: Annotated[str | None, arg(name="data-dir", metavar="DIR")] = None
    """Where named sets lie; else the environment variable ADVNETS_DATA, else the user's cache."""
    flip: bool = False
    """Mirror training pictures left to right, each time with probability 1/2."""
    stream: bool = False
    """Read shards or a Hugging Face set as they come, and do not pack them first."""
    scaling: Literal["unit", "symmetric", "contrast", "none"] = "unit"
    """The nets' range: [0, 1], [-1, 1], each picture less its mean at norm 55; none (points)."""
    batch_size: int = 100
    """Pictures in a batch."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 1, "batch_size")


@dataclass(frozen=True)
class MLPGenerator:
    """Fully connected generator (Goodfellow et al. 2014, section 5)."""

    latent_dim: int = 100
    """Numbers in z."""
    prior: Literal["uniform", "normal"] = "uniform"
    """Noise prior p_z: uniform in [-sqrt 3, sqrt 3], or standard normal; both of unit variance."""
    hidden: tuple[int, ...] = (1200, 1200)
    """Units of each hidden layer."""
    activations: tuple[Activation, ...] = ("relu", "relu")
    """What each hidden layer applies."""
    output: Literal["sigmoid", "tanh", "linear"] = "sigmoid"
    """What the output layer applies."""
    init_range: float = 0.05
    """Hidden weights begin uniform in [-r, r]."""
    output_init_range: float | None = None
    """The same for the output layer; None: as the hidden ones."""
    output_sparse_init: int | None = None
    """Begin with this many normal weights into each output unit and zero elsewhere."""
    sigmoid_bias: float = 0.0
    """Initial bias of hidden sigmoid layers."""
    output_bias: float | Literal["marginals"] = "marginals"
    """Output bias begins at a number, or where the output equals the mean training picture."""
    max_column_norm: float | None = None
    """Bound on the norm of the weights into a unit, restored after each update."""
    batch_norm: bool = False
    """Batch normalisation before each hidden activation."""
    keep: tuple[float, ...] = ()
    """Dropout: probability of keeping each layer's input, first to last; empty: no dropout."""
    noise: tuple[float, ...] = ()
    """Standard deviation of normal noise added to each layer's input; empty: none."""

    def __post_init__(self) -> None:
        at_least(self, 1, "latent_dim", "hidden", "output_sparse_init")
        at_least(self, 0, "init_range", "output_init_range", "max_column_norm", "noise")
        probabilities(self, "keep")


@dataclass(frozen=True)
class DeconvGenerator:
    """The 2014 CIFAR-10 convolutional generator: dense layers, then one deconvolution."""

    latent_dim: int = 100
    """Numbers in z."""
    prior: Literal["uniform", "normal"] = "normal"
    """Noise prior p_z: uniform in [-sqrt 3, sqrt 3], or standard normal."""
    hidden: tuple[int, ...] = (8000, 8000)
    """Units of each fully connected layer; the last is read as maps of height and width `base`."""
    activations: tuple[Activation, ...] = ("relu", "sigmoid")
    """What each fully connected layer applies."""
    base: int = 10
    """Height and width of the maps before the deconvolution."""
    kernel: int = 5
    """Height and width of the deconvolution's kernel."""
    stride: int = 3
    """Step of the deconvolution."""
    output: Literal["sigmoid", "tanh", "linear"] = "linear"
    """What the output applies."""
    init_range: float = 0.05
    """Weights begin uniform in [-r, r]."""
    keep: tuple[float, ...] = ()
    """Dropout: probability of keeping each layer's input, first to last; empty: no dropout."""
    noise: tuple[float, ...] = ()
    """Standard deviation of normal noise added to each layer's input; empty: none."""

    def __post_init__(self) -> None:
        at_least(self, 1, "latent_dim", "hidden", "base", "kernel", "stride")
        at_least(self, 0, "init_range", "noise")
        probabilities(self, "keep")


@dataclass(frozen=True)
class MaxoutDiscriminator:
    """Fully connected maxout discriminator with dropout (Goodfellow et al. 2014, section 5)."""

    units: tuple[int, ...] = (240, 240)
    """Maxout units of each hidden layer."""
    pieces: int = 5
    """Linear pieces that a maxout unit takes the largest of."""
    init_range: float = 0.005
    """Weights begin uniform in [-r, r]."""
    keep_input: float = 0.8
    """Dropout: probability of keeping an input; what is kept is scaled by its inverse."""
    keep_hidden: float = 0.5
    """Dropout: the same for the inputs of all later layers."""
    max_column_norm: float | None = None
    """Bound on the norm of the weights into a piece, restored after each update."""

    def __post_init__(self) -> None:
        at_least(self, 1, "units", "pieces")
        at_least(self, 0, "init_range", "max_column_norm")
        probabilities(self, "keep_input", "keep_hidden")


@dataclass(frozen=True)
class MaxoutConvDiscriminator:
    """Convolutional maxout discriminator with dropout (Goodfellow et al. 2014, CIFAR-10)."""

    channels: tuple[int, ...] = (32, 32, 192)
    """Maxout channels of each convolution."""
    kernels: tuple[int, ...] = (8, 8, 5)
    """Height and width of each convolution's kernel."""
    pads: tuple[int, ...] = (4, 3, 3)
    """Zeros around each convolution's input."""
    pools: tuple[tuple[int, int], ...] = ((4, 2), (4, 2), (2, 2))
    """Width and step of the max pooling after each convolution."""
    pieces: int = 2
    """Linear pieces of a convolutional maxout unit."""
    dense_units: int = 500
    """Maxout units of the fully connected layer."""
    dense_pieces: int = 5
    """Linear pieces of each of them."""
    init_range: float = 0.005
    """Weights begin uniform in [-r, r]."""
    keep_input: float = 0.8
    """Dropout: probability of keeping an input; what is kept is scaled by its inverse."""
    keep_hidden: float = 0.5
    """Dropout: the same for the inputs of all later layers."""

    def __post_init__(self) -> None:
        at_least(self, 1, "channels", "kernels", "pieces", "dense_units", "dense_pieces")
        at_least(self, 0, "pads", "init_range")
        probabilities(self, "keep_input", "keep_hidden")


GeneratorConfig = MLPGenerator | DeconvGenerator
DiscriminatorConfig = MaxoutDiscriminator | MaxoutConvDiscriminator


@dataclass(frozen=True)
class SGD:
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
        at_least(self, 0, "lr", "min_lr", "momentum", "final_momentum")
        at_least(self, 1, "lr_decay", "saturate")


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba 2015) at a constant rate."""

    lr: float = 2e-4
    """Learning rate."""
    beta1: float = 0.5
    """Decay of the mean of gradients."""
    beta2: float = 0.999
    """Decay of the mean of squared gradients."""

    def __post_init__(self) -> None:
        at_least(self, 0, "lr", "beta1", "beta2")
        check(self, "less than 1", lambda number: number < 1, "beta1", "beta2")


OptimizerConfig = SGD | Adam


@dataclass(frozen=True)
class Game:
    """Algorithm 1: k discriminator steps to one generator step."""

    objective: Literal["non-saturating", "minimax"] = "non-saturating"
    """What G minimises: -log D(G(z)), or the minimax game's log(1 - D(G(z)))."""
    k: int = 1
    """Discriminator steps to one generator step, when they alternate."""
    updates: Literal["alternating", "simultaneous"] = "alternating"
    """D first and then G (the paper's text), or both on the same batch and fakes (its files)."""

    def __post_init__(self) -> None:
        at_least(self, 1, "k")


@dataclass(frozen=True)
class Stage:
    """One game between one pair of nets. Most presets are one stage; TFD has two."""

    generator: GeneratorConfig = field(default_factory=MLPGenerator)
    discriminator: DiscriminatorConfig = field(default_factory=MaxoutDiscriminator)
    game: Game = field(default_factory=Game)
    generator_optimizer: OptimizerConfig = field(default_factory=SGD)
    discriminator_optimizer: OptimizerConfig = field(default_factory=SGD)
    epochs: int = 100
    """Passes over the training pictures."""
    steps: int | None = None
    """Rounds of the game (k discriminator steps, one generator step); None: from epochs."""
    average_half_life: int = 0
    """Pictures after which a past generator counts half in the weight average; 0: no average."""
    below_previous: Suppress[bool] = False
    """Put this generator below the one of the stage before, whose z it then makes."""

    def __post_init__(self) -> None:
        at_least(self, 1, "epochs", "steps")
        at_least(self, 0, "average_half_life")


@dataclass(frozen=True)
class Runtime:
    """What the run computes on, resolved once, stored, and kept on resume."""

    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of matrix products; weights, losses and optimizer state are float32 always."""
    threads: int = 0
    """Processor threads; 0: as many as there are cores."""

    def __post_init__(self) -> None:
        at_least(self, 0, "threads")


@dataclass(frozen=True)
class Ticks:
    """How often, in steps, the trainer looks up from its work."""

    log: int = 500
    """Between lines of the log."""
    samples: int = 5000
    """Between grids of samples."""
    checkpoint: int = 5000
    """Between checkpoints."""
    evaluate: int = 0
    """Between Parzen log-likelihoods on the way; 0: none."""

    def __post_init__(self) -> None:
        at_least(self, 0, "log", "samples", "checkpoint", "evaluate")


@dataclass(frozen=True)
class Config:
    """A whole run."""

    preset: str
    data: Data
    stages: tuple[Stage, ...]
    ticks: Ticks = field(default_factory=Ticks)
    runtime: Runtime = field(default_factory=Runtime)
    seed: int = 0

    @property
    def stage(self) -> Stage:
        """The last stage: the one whose generator the run is for."""
        return self.stages[-1]

    def steps_before(self, stage: int) -> int:
        """Steps of the stages before this one, once they are counted out."""
        return sum(earlier.steps or 0 for earlier in self.stages[:stage])

    def with_stage(self, stage: Stage) -> Config:
        """The same run with another last stage."""
        return replace(self, stages=(*self.stages[:-1], stage))
