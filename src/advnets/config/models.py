"""The options of generators, discriminators and encoders."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar, Literal, TypeVar

from tyro.conf import Suppress, arg

from advnets.config.validation import (
    LARGEST_KERNEL,
    ValidatedConfig,
    check_dropout,
    check_min,
    check_sizes,
    check_values,
)
from advnets.errors import UsageError

Activation = Literal["relu", "leaky_relu", "sigmoid", "softplus", "tanh"]
OutputActivation = Literal["sigmoid", "tanh", "linear"]
BasicPrior = Literal[
    "uniform", "normal", "truncated-normal", "sphere", "mixture", "learned-mixture"
]

# Fields that several models have, with the help that --help prints.
_PRIOR_HELP = (
    "uniform on [-√3, √3], standard normal, normal truncated at |z| <= 2, uniform on a sphere of "
    "radius √d, a mixture with learned means and deviations, or one whose component probabilities "
    "are learned too (learned-mixture)."
)
LatentDim = Annotated[int, arg(help="Dimension of the latent z.")]
Prior = Annotated[BasicPrior, arg(help=f"Distribution of z: {_PRIOR_HELP}")]
ImagePrior = Annotated[
    Literal[BasicPrior, "symmetric"],
    arg(help=f"Distribution of z: uniform on [-1, 1] (symmetric), {_PRIOR_HELP}"),
]
Components = Annotated[int, arg(help="Number of components of a mixture prior.")]
ComponentShape = Annotated[
    Literal["normal", "sphere"],
    arg(help="Distribution of a mixture's components: normal, or uniform on an ellipsoid."),
]
Output = Annotated[OutputActivation, arg(help="Activation function of the output layer.")]
Dropout = Annotated[
    tuple[float, ...],
    arg(
        help="Probability of dropping each input of a layer, one value for each layer, "
        "first to last. Empty: no dropout."
    ),
]
InputNoise = Annotated[
    tuple[float, ...],
    arg(
        help="Standard deviation of the normal noise that is added to a layer's input, one value "
        "for each layer, first to last. Empty: no noise."
    ),
]
DropoutInput = Annotated[float, arg(help="Probability of dropping a pixel of D's input.")]
DropoutHidden = Annotated[float, arg(help="Probability of dropping an input of each later layer.")]
KernelSize = Annotated[
    int, arg(help="Height and width of the convolutions' kernels, in pixels; 4 in tutorials.")
]
InitStd = Annotated[float, arg(help="Standard deviation of the initial weights.")]


@dataclass(frozen=True)
class MLPGenerator(ValidatedConfig):
    """Fully connected generator (Goodfellow et al. 2014, section 5)."""

    latent_dim: LatentDim = 100
    prior: Prior = "uniform"
    components: Components = field(default=10, kw_only=True)
    component_shape: ComponentShape = field(default="normal", kw_only=True)
    hidden_sizes: tuple[int, ...] = (1200, 1200)
    """Number of units of each hidden layer."""
    activations: tuple[Activation, ...] = ("relu", "relu")
    """Activation function of each hidden layer."""
    output: Output = "sigmoid"
    init_range: float = 0.05
    """Bound r of the initial weights of hidden layers, which are uniform on [-r, r]."""
    output_init_range: float | None = None
    """Bound r of the initial weights of the output layer. None: that of the hidden layers."""
    output_sparse_init: int | None = None
    """Initialize each output unit with this many standard normal weights and zeros elsewhere. None:
    uniform weights."""
    sigmoid_bias: float = 0.0
    """Initial bias of hidden layers with a sigmoid."""
    output_bias: float | Literal["marginals"] = "marginals"
    """Initial bias of the output layer: a number, or the values for which the output equals the
    mean training image (marginals)."""
    max_column_norm: float | None = None
    """Upper bound of the norm of each unit's incoming weights, enforced after each update. None:
    no bound."""
    batch_norm: bool = False
    """Apply batch normalization before each hidden activation."""
    dropout: Dropout = ()
    noise: InputNoise = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, "latent_dim", "components", "hidden_sizes", "output_sparse_init")
        check_min(self, 0, "init_range", "output_init_range", "max_column_norm", "noise")
        check_dropout(self, "dropout")


@dataclass(frozen=True)
class DeconvGenerator(ValidatedConfig):
    """The 2014 CIFAR-10 convolutional generator: dense layers, then one transposed convolution."""

    latent_dim: LatentDim = 100
    prior: Literal["uniform", "normal"] = "normal"
    """Distribution of z: uniform on [-√3, √3], or standard normal."""
    hidden_sizes: tuple[int, ...] = (8000, 8000)
    """Number of units of each fully connected layer; the last layer's units are reshaped to maps of
    `base_size` x `base_size`."""
    activations: tuple[Activation, ...] = ("relu", "sigmoid")
    """Activation function of each fully connected layer."""
    base_size: int = 10
    """Height and width of the maps before the transposed convolution, in pixels."""
    kernel_size: int = 5
    """Height and width of the transposed convolution's kernel, in pixels."""
    stride: int = 3
    """Stride of the transposed convolution, in pixels."""
    output: Output = "linear"
    init_range: float = 0.05
    """Initial weights are uniform on [-r, r]; this is r."""
    dropout: Dropout = ()
    noise: InputNoise = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, "latent_dim", "hidden_sizes")
        check_sizes(self, "base_size", "kernel_size", "stride", max_size=LARGEST_KERNEL)
        check_min(self, 0, "init_range", "noise")
        check_dropout(self, "dropout")


class BaseDiscriminator(ValidatedConfig):
    """The base of discriminators."""

    convolutional: ClassVar[bool] = False
    """True if the input must be an image, to which no latent can be appended."""


@dataclass(frozen=True)
class MaxoutDiscriminator(BaseDiscriminator):
    """Fully connected maxout discriminator with dropout (Goodfellow et al. 2014, section 5)."""

    hidden_sizes: tuple[int, ...] = (240, 240)
    """Number of maxout units of each hidden layer."""
    pieces: int = 5
    """Number of linear functions of which a maxout unit is the maximum."""
    init_range: float = 0.005
    """Initial weights are uniform on [-r, r]; this is r."""
    dropout_input: DropoutInput = 0.2
    dropout_hidden: DropoutHidden = 0.5
    max_column_norm: float | None = None
    """Upper bound of the norm of each piece's incoming weights, enforced after each update. None:
    no bound."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, "hidden_sizes", "pieces")
        check_min(self, 0, "init_range", "max_column_norm")
        check_dropout(self, "dropout_input", "dropout_hidden")


@dataclass(frozen=True)
class MaxoutConvDiscriminator(BaseDiscriminator):
    """Convolutional maxout discriminator with dropout (Goodfellow et al. 2014, CIFAR-10)."""

    convolutional: ClassVar[bool] = True

    channels: tuple[int, ...] = (32, 32, 192)
    """Number of maxout channels of each convolution."""
    kernel_sizes: tuple[int, ...] = (8, 8, 5)
    """Height and width of each convolution's kernel, in pixels."""
    paddings: tuple[int, ...] = (4, 3, 3)
    """Zero padding of each convolution's input, in pixels."""
    pools: tuple[tuple[int, int], ...] = ((4, 2), (4, 2), (2, 2))
    """Window size and stride, in pixels, of the max pooling after each convolution."""
    pieces: int = 2
    """Number of linear functions of which a convolutional maxout unit is the maximum."""
    dense_units: int = 500
    """Number of maxout units of the fully connected layer."""
    dense_pieces: int = 5
    """Number of linear functions of which each of these units is the maximum."""
    init_range: float = 0.005
    """Initial weights are uniform on [-r, r]; this is r."""
    dropout_input: DropoutInput = 0.2
    dropout_hidden: DropoutHidden = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, "channels", "pieces", "dense_units", "dense_pieces")
        check_sizes(self, "kernel_sizes", "pools", max_size=LARGEST_KERNEL)
        check_sizes(self, "paddings", min_size=0, max_size=LARGEST_KERNEL)
        check_min(self, 0, "init_range")
        check_dropout(self, "dropout_input", "dropout_hidden")


@dataclass(frozen=True)
class MLPDiscriminator(BaseDiscriminator):
    """Fully connected discriminator with leaky ReLUs, as in tutorials."""

    hidden_sizes: tuple[int, ...] = (512, 256)
    """Number of units of each hidden layer."""
    activation: Activation = "leaky_relu"
    """Activation function of the hidden layers."""
    fourier_features: int = 0
    """Number of random Fourier features of the input that are appended to it; they help with
    distributions that have fine details. 0: none."""
    frequency_range: tuple[float, float] = (1.0, 100.0)
    """Smallest and largest angular frequency of the Fourier features, in radians per unit of the
    input."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, "hidden_sizes")
        check_sizes(self, "fourier_features", min_size=0)
        check_values(self, "more than 0", lambda number: number > 0, "frequency_range")


@dataclass(frozen=True)
class DCGANGenerator(ValidatedConfig):
    """DCGAN generator (Radford et al. 2015); its options can break the paper's guidelines."""

    latent_dim: LatentDim = 100
    base_channels: int = 128
    """Number of channels of the largest hidden maps; it doubles whenever the size is halved."""
    kernel_size: KernelSize = 5
    prior: ImagePrior = "symmetric"
    components: Components = field(default=10, kw_only=True)
    component_shape: ComponentShape = field(default="normal", kw_only=True)
    batch_norm: bool = True
    """Apply batch normalization in all layers but the last (guideline 2)."""
    resampling: Literal["strides", "pooling"] = "strides"
    """Upsample by transposed convolutions (guideline 1), or by repeating pixels."""
    dense: tuple[int, ...] = ()
    """Number of units of each fully connected hidden layer before the maps (guideline 3: none)."""
    activation: Activation = "relu"
    """Activation function of the hidden layers (guideline 4: ReLU)."""
    output: Output = "tanh"
    init_std: InitStd = 0.02

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, "latent_dim", "components", "base_channels", "dense")
        check_sizes(self, "kernel_size", min_size=2, max_size=LARGEST_KERNEL)
        check_min(self, 0, "init_std")


@dataclass(frozen=True)
class DCGANDiscriminator(BaseDiscriminator):
    """DCGAN discriminator (Radford et al. 2015); its options can break the paper's guidelines."""

    convolutional: ClassVar[bool] = True

    base_channels: int = 128
    """Number of channels of the largest hidden maps; it doubles whenever the size is halved."""
    kernel_size: KernelSize = 5
    batch_norm: bool = True
    """Apply batch normalization in all layers but the first and the last (guideline 2)."""
    resampling: Literal["strides", "pooling"] = "strides"
    """Downsample by strided convolutions (guideline 1), or by max pooling."""
    dense: tuple[int, ...] = ()
    """Number of units of each fully connected hidden layer after the maps (guideline 3: none)."""
    activation: Activation = "leaky_relu"
    """Activation function of the hidden layers (guideline 5: leaky ReLU)."""
    init_std: InitStd = 0.02
    projection: bool = False
    """In a conditional game, use a projection discriminator (Miyato and Koyama 2018) instead of
    adding the class to every layer's input."""
    spectral_norm: bool = False
    """Divide the weights of each layer by their largest singular value; combine it with
    --discriminator.no-batch-norm."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, "base_channels", "dense")
        check_sizes(self, "kernel_size", min_size=2, max_size=LARGEST_KERNEL)
        check_min(self, 0, "init_std")


@dataclass(frozen=True)
class ResidualConfig(ValidatedConfig):
    """The options that the residual generator and discriminator share (Huang et al. 2024)."""

    base_channels: int = 32
    """Number of channels of the largest maps; it doubles whenever the size is halved."""
    max_channels: int = 256
    """Maximum number of channels of smaller maps."""
    blocks: int = 1
    """Number of residual blocks for each size of maps."""
    expansion: int = 2
    """Factor by which a block's inner channels exceed its outer ones."""
    group_size: int = 16
    """Number of channels in each group of a block's 3x3 convolution."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, "base_channels", "max_channels", "expansion", "group_size")
        check_sizes(self, "blocks", max_size=LARGEST_KERNEL)


@dataclass(frozen=True)
class ResidualGenerator(ResidualConfig):
    """Residual generator without normalization layers (Huang et al. 2024)."""

    latent_dim: LatentDim = 64
    prior: ImagePrior = "normal"
    components: Components = field(default=10, kw_only=True)
    component_shape: ComponentShape = field(default="normal", kw_only=True)
    output: Output = "tanh"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, "latent_dim", "components")


@dataclass(frozen=True)
class ResidualDiscriminator(ResidualConfig, BaseDiscriminator):
    """Residual discriminator without normalization layers (Huang et al. 2024)."""

    convolutional: ClassVar[bool] = True


@dataclass(frozen=True)
class SemiSupervisedDiscriminator(BaseDiscriminator):
    """Fully connected classifier with weight normalization and noise (Salimans et al. 2016)."""

    hidden_sizes: tuple[int, ...] = (1000, 500, 250, 250, 250)
    """Number of units of each hidden layer."""
    noise_input: float = 0.3
    """Standard deviation of the normal noise that is added to the pixels in training."""
    noise_hidden: float = 0.5
    """Standard deviation of the normal noise that is added to hidden units in training."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, "hidden_sizes")
        check_min(self, 0, "noise_input", "noise_hidden")


@dataclass(frozen=True)
class SemiSupervisedConvDiscriminator(BaseDiscriminator):
    """Convolutional classifier as the discriminator of a semi-supervised game."""

    channels: tuple[int, ...] = (32, 64, 128)
    """Number of channels of each convolution."""
    strides: tuple[int, ...] = (2, 2, 2)
    """Stride of each convolution, in pixels."""
    norm: Literal["batch", "weight"] = "batch"
    """Apply batch normalization or weight normalization."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, "channels")
        check_sizes(self, "strides", max_size=LARGEST_KERNEL)
        if len(self.channels) != len(self.strides):
            raise UsageError(
                f"channels has {len(self.channels)} values and strides has {len(self.strides)}; "
                "give one of each for every convolution"
            )


@dataclass(frozen=True)
class CustomModel(ValidatedConfig):
    """The fields that the configs of a custom generator and discriminator share."""

    source: Suppress[str] = ""
    """FILE.py:NAME, or the name of a class or function that was passed from Python; it is called
    with the shape of images and the number of classes, and returns a torch module."""
    digest: Suppress[str] = ""
    """BLAKE2b digest, in hex, of the file or the source code of the class, when the run started."""


@dataclass(frozen=True)
class CustomGenerator(CustomModel):
    """A custom generator."""


@dataclass(frozen=True)
class CustomDiscriminator(CustomModel, BaseDiscriminator):
    """A custom discriminator."""


@dataclass(frozen=True)
class NoDiscriminator(BaseDiscriminator):
    """A placeholder for the discriminator in games that have none."""


@dataclass(frozen=True)
class MLPEncoder(ValidatedConfig):
    """Fully connected encoder: maps an image to a diagonal normal distribution of z."""

    hidden_sizes: tuple[int, ...] = (1200, 1200)
    """Number of units of each hidden layer."""
    activation: Activation = "relu"
    """Activation function of the hidden layers."""
    batch_norm: bool = False
    """Apply batch normalization before each hidden activation."""
    deterministic: bool = False
    """Encode an image to a single point, the mean, instead of a distribution."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, "hidden_sizes")


GeneratorConfig = (
    MLPGenerator | DeconvGenerator | DCGANGenerator | ResidualGenerator | CustomGenerator
)
DiscriminatorConfig = (
    MaxoutDiscriminator
    | MaxoutConvDiscriminator
    | MLPDiscriminator
    | DCGANDiscriminator
    | ResidualDiscriminator
    | SemiSupervisedDiscriminator
    | SemiSupervisedConvDiscriminator
    | CustomDiscriminator
    | NoDiscriminator
)


_DenseGenerator = TypeVar("_DenseGenerator", MLPGenerator, DeconvGenerator)


def with_wider_latent(spec: _DenseGenerator, conditions: int) -> _DenseGenerator:
    """Return the config of a generator whose input is z and `conditions` more numbers.

    Its prior is not used: the caller draws z and appends the conditions.
    """
    if not conditions:
        return spec
    return replace(spec, latent_dim=spec.latent_dim + conditions, prior="normal")
