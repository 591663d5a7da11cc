"""What generators and discriminators can be told."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal, TypeVar

from tyro.conf import arg

from advnets.config.validation import (
    LARGEST_KERNEL,
    ValidatedConfig,
    at_least,
    check,
    probabilities,
    sizes,
)
from advnets.errors import UsageError

Activation = Literal["relu", "leaky_relu", "sigmoid", "softplus", "tanh"]
PointPrior = Literal[
    "uniform", "normal", "truncated-normal", "sphere", "mixture", "learned-mixture"
]

# What several nets have, with the help that --help prints.
ImagePrior = Annotated[
    Literal[PointPrior, "symmetric"],
    arg(
        help="Noise prior p_z: uniform in [-1, 1] (symmetric) or [-sqrt 3, sqrt 3], standard "
        "normal, normal cut at |z| <= 2 (truncated), even on a sphere, or a mixture that is "
        "learned, its probabilities too or not."
    ),
]
Components = Annotated[int, arg(help="Components of a mixture prior.")]
ComponentShape = Annotated[
    Literal["normal", "sphere"],
    arg(help="Each component is normal about its mean, or even on an ellipsoid."),
]


@dataclass(frozen=True)
class MLPGenerator(ValidatedConfig):
    """Fully connected generator (Goodfellow et al. 2014, section 5)."""

    latent_dim: int = 100
    """Numbers in z."""
    prior: PointPrior = "uniform"
    """Noise prior p_z, of unit variance: uniform, standard normal, or even on a sphere.
    Or normal cut at |z| <= 2, or a mixture that is learned, its probabilities too or not."""
    components: Components = field(default=10, kw_only=True)
    component_shape: ComponentShape = field(default="normal", kw_only=True)
    hidden_sizes: tuple[int, ...] = (1200, 1200)
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
    """Output bias begins at a number, or where the output equals the mean training image."""
    max_column_norm: float | None = None
    """Bound on the norm of the weights into a unit, restored after each update."""
    batch_norm: bool = False
    """Batch normalization before each hidden activation."""
    keep_prob: tuple[float, ...] = ()
    """Dropout: probability of keeping each layer's input, first to last; empty: no dropout."""
    noise: tuple[float, ...] = ()
    """Standard deviation of normal noise added to each layer's input; empty: none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes(self, "latent_dim", "components", "hidden_sizes", "output_sparse_init")
        at_least(self, 0, "init_range", "output_init_range", "max_column_norm", "noise")
        probabilities(self, "keep_prob")


@dataclass(frozen=True)
class DeconvGenerator(ValidatedConfig):
    """The 2014 CIFAR-10 convolutional generator: dense layers, then one deconvolution."""

    latent_dim: int = 100
    """Numbers in z."""
    prior: Literal["uniform", "normal"] = "normal"
    """Noise prior p_z: uniform in [-sqrt 3, sqrt 3], or standard normal."""
    hidden_sizes: tuple[int, ...] = (8000, 8000)
    """Units of each fully connected layer; the last is read as maps of height and width `base`."""
    activations: tuple[Activation, ...] = ("relu", "sigmoid")
    """What each fully connected layer applies."""
    base_size: int = 10
    """Height and width of the maps before the deconvolution."""
    kernel: int = 5
    """Height and width of the deconvolution's kernel."""
    stride: int = 3
    """Step of the deconvolution."""
    output: Literal["sigmoid", "tanh", "linear"] = "linear"
    """What the output applies."""
    init_range: float = 0.05
    """Weights begin uniform in [-r, r]."""
    keep_prob: tuple[float, ...] = ()
    """Dropout: probability of keeping each layer's input, first to last; empty: no dropout."""
    noise: tuple[float, ...] = ()
    """Standard deviation of normal noise added to each layer's input; empty: none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes(self, "latent_dim", "hidden_sizes")
        sizes(self, "base_size", "kernel", "stride", most=LARGEST_KERNEL)
        at_least(self, 0, "init_range", "noise")
        probabilities(self, "keep_prob")


@dataclass(frozen=True)
class MaxoutDiscriminator(ValidatedConfig):
    """Fully connected maxout discriminator with dropout (Goodfellow et al. 2014, section 5)."""

    hidden_sizes: tuple[int, ...] = (240, 240)
    """Maxout units of each hidden layer."""
    pieces: int = 5
    """Linear pieces that a maxout unit takes the largest of."""
    init_range: float = 0.005
    """Weights begin uniform in [-r, r]."""
    keep_prob_input: float = 0.8
    """Dropout: probability of keeping an input; what is kept is scaled by its inverse."""
    keep_prob_hidden: float = 0.5
    """Dropout: the same for the inputs of all later layers."""
    max_column_norm: float | None = None
    """Bound on the norm of the weights into a piece, restored after each update."""

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes(self, "hidden_sizes", "pieces")
        at_least(self, 0, "init_range", "max_column_norm")
        probabilities(self, "keep_prob_input", "keep_prob_hidden")


@dataclass(frozen=True)
class MaxoutConvDiscriminator(ValidatedConfig):
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
    keep_prob_input: float = 0.8
    """Dropout: probability of keeping an input; what is kept is scaled by its inverse."""
    keep_prob_hidden: float = 0.5
    """Dropout: the same for the inputs of all later layers."""

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes(self, "channels", "pieces", "dense_units", "dense_pieces")
        sizes(self, "kernels", "pools", most=LARGEST_KERNEL)
        sizes(self, "pads", least=0, most=LARGEST_KERNEL)
        at_least(self, 0, "init_range")
        probabilities(self, "keep_prob_input", "keep_prob_hidden")


@dataclass(frozen=True)
class MLPDiscriminator(ValidatedConfig):
    """Fully connected discriminator with leaky rectifiers, as tutorials have it."""

    hidden_sizes: tuple[int, ...] = (512, 256)
    """Units of each hidden layer."""
    activation: Activation = "leaky_relu"
    """What each hidden layer applies."""
    fourier_features: int = 0
    """Waves over the input that come beside it, for what is far finer than the data are wide."""
    max_frequency: tuple[float, float] = (1.0, 100.0)
    """2π over the longest wave's length, and over the shortest's."""

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes(self, "hidden_sizes")
        sizes(self, "fourier_features", least=0)
        check(self, "more than 0", lambda number: number > 0, "max_frequency")


@dataclass(frozen=True)
class DCGANGenerator(ValidatedConfig):
    """Deep convolutional generator (Radford et al. 2015); its options can break the five rules."""

    latent_dim: int = 100
    """Numbers in z."""
    base_channels: int = 128
    """Channels of the largest hidden maps; those of half their size have twice as many."""
    kernel: int = 5
    """Height and width of the kernels; tutorials have 4."""
    prior: ImagePrior = "symmetric"
    components: Components = field(default=10, kw_only=True)
    component_shape: ComponentShape = field(default="normal", kw_only=True)
    batch_norm: bool = True
    """Batch normalization in all layers but the last (rule 2)."""
    resampling: Literal["strides", "pooling"] = "strides"
    """Maps grow by fractionally strided convolutions (rule 1), or by repeating their pixels."""
    dense: tuple[int, ...] = ()
    """Units of fully connected hidden layers before the maps (rule 3: none)."""
    activation: Activation = "relu"
    """What the hidden layers apply (rule 4: rectifiers)."""
    output: Literal["sigmoid", "tanh", "linear"] = "tanh"
    """What the output layer applies (rule 4: tanh)."""
    init_std: float = 0.02
    """Standard deviation of the initial weights."""

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes(self, "latent_dim", "components", "base_channels", "dense")
        sizes(self, "kernel", least=2, most=LARGEST_KERNEL)
        at_least(self, 0, "init_std")


@dataclass(frozen=True)
class DCGANDiscriminator(ValidatedConfig):
    """Deep convolutional discriminator (Radford et al. 2015), with options as its generator's."""

    base_channels: int = 128
    """Channels of the largest hidden maps; those of half their size have twice as many."""
    kernel: int = 5
    """Height and width of the kernels; tutorials have 4."""
    batch_norm: bool = True
    """Batch normalization in all layers but the first and the last (rule 2)."""
    resampling: Literal["strides", "pooling"] = "strides"
    """Maps shrink by strided convolutions (rule 1), or by the largest of neighboring pixels."""
    dense: tuple[int, ...] = ()
    """Units of fully connected hidden layers after the maps (rule 3: none)."""
    activation: Activation = "leaky_relu"
    """What the hidden layers apply (rule 5: leaky rectifiers)."""
    init_std: float = 0.02
    """Standard deviation of the initial weights."""
    projection: bool = False
    """Told classes, D meets them at its last maps alone, and not at every layer."""
    spectral_norm: bool = False
    """Weights of each layer divided by their largest singular value; with it, --no-batch-norm."""

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes(self, "base_channels", "dense")
        sizes(self, "kernel", least=2, most=LARGEST_KERNEL)
        at_least(self, 0, "init_std")


@dataclass(frozen=True)
class Residual(ValidatedConfig):
    """What both nets of a residual pair are told (Huang et al. 2024)."""

    base_channels: int = 32
    """Channels of the largest maps; those of half their size have twice as many …"""
    max_channels: int = 256
    """… and at most so many."""
    blocks: int = 1
    """Residual blocks on maps of each size."""
    expansion: int = 2
    """How many times as many channels a block has within."""
    group_size: int = 16
    """Channels of a group of a block's 3x3 convolution."""

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes(self, "base_channels", "max_channels", "expansion", "group_size")
        sizes(self, "blocks", most=LARGEST_KERNEL)


@dataclass(frozen=True)
class ResidualGenerator(Residual):
    """Residual generator without normalization layers (Huang et al. 2024)."""

    latent_dim: int = 64
    """Numbers in z."""
    prior: ImagePrior = "normal"
    components: Components = field(default=10, kw_only=True)
    component_shape: ComponentShape = field(default="normal", kw_only=True)
    output: Literal["sigmoid", "tanh", "linear"] = "tanh"
    """What the output layer applies."""

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes(self, "latent_dim", "components")


@dataclass(frozen=True)
class ResidualDiscriminator(Residual):
    """Residual discriminator without normalization layers, as its generator."""


@dataclass(frozen=True)
class SemiSupervisedDiscriminator(ValidatedConfig):
    """Fully connected net of class logits, noise at every layer (Salimans et al. 2016, MNIST)."""

    hidden_sizes: tuple[int, ...] = (1000, 500, 250, 250, 250)
    """Units of each hidden layer; their weights are normed."""
    noise_input: float = 0.3
    """Standard deviation of the normal noise on pixels, in training."""
    noise_hidden: float = 0.5
    """The same on hidden units."""

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes(self, "hidden_sizes")
        at_least(self, 0, "noise_input", "noise_hidden")


@dataclass(frozen=True)
class SemiSupervisedConvDiscriminator(ValidatedConfig):
    """Convolutional net of class logits, for a D that may know that it looks at images."""

    channels: tuple[int, ...] = (32, 64, 128)
    """Channels of each convolution."""
    strides: tuple[int, ...] = (2, 2, 2)
    """Step of each convolution."""
    norm: Literal["batch", "weight"] = "batch"
    """What is normed: maps, by the statistics of a batch, or the weights that make them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes(self, "channels")
        sizes(self, "strides", most=LARGEST_KERNEL)
        if len(self.channels) != len(self.strides):
            raise UsageError(
                f"{len(self.channels)} widths and {len(self.strides)} strides came; give one of "
                "either for each convolution"
            )


@dataclass(frozen=True)
class NoDiscriminator(ValidatedConfig):
    """For games that are played without one."""


GeneratorConfig = MLPGenerator | DeconvGenerator | DCGANGenerator | ResidualGenerator
DiscriminatorConfig = (
    MaxoutDiscriminator
    | MaxoutConvDiscriminator
    | MLPDiscriminator
    | DCGANDiscriminator
    | ResidualDiscriminator
    | SemiSupervisedDiscriminator
    | SemiSupervisedConvDiscriminator
    | NoDiscriminator
)


Net = TypeVar("Net", MLPGenerator, DeconvGenerator)


def with_wider_latent(spec: Net, numbers: int) -> Net:
    """The same net, given so many numbers more beside its z, which is drawn outside of it."""
    if not numbers:
        return spec
    return replace(spec, latent_dim=spec.latent_dim + numbers, prior="normal")
