"""Building blocks of the models: priors of z, layers, initializers, sizes of feature maps.

A block that needs random numbers takes them from the `RNG` it is passed.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from advnets.errors import UsageError
from advnets.rng import RNG

Shape = tuple[int, int, int]
"""Channels, height and width of an image."""

Affine = TypeVar("Affine", nn.Linear, nn.Conv2d, nn.ConvTranspose2d)

Activation = Callable[[Tensor], Tensor]

ACTIVATIONS: dict[str, Activation] = {
    "relu": F.relu,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "sigmoid": torch.sigmoid,
    "softplus": F.softplus,
    "tanh": torch.tanh,
    "linear": lambda x: x,
}


def append_class(
    z: Float[Tensor, "n latent"], classes: int, rng: RNG, labels: Int[Tensor, " n"] | None
) -> Float[Tensor, "n all"]:
    """Return latents with the one-hot class label appended; without `labels`, draw uniform ones.

    With 0 `classes`, z is returned unchanged.
    """
    if not classes:
        return z
    if labels is None:
        labels = (rng.uniform("class", len(z)) * classes).long()
    return torch.cat((z, _one_hot(labels, classes, z)), 1)


def one_hot(
    labels: Int[Tensor, " n"] | None, classes: int, like: Tensor
) -> Float[Tensor, "n classes"] | None:
    """Return labels as one-hot vectors of the dtype of `like`; None if there are 0 `classes`.

    Raises:
        UsageError: there are classes, and `labels` is None.
    """
    if not classes:
        return None
    if labels is None:
        raise UsageError(
            f"a discriminator with {classes} classes got images without labels; pass labels"
        )
    return _one_hot(labels, classes, like)


def _one_hot(labels: Int[Tensor, " n"], classes: int, like: Tensor) -> Float[Tensor, "n classes"]:
    # F.one_hot reads the labels back from the device, so that it cannot be compiled.
    return like.new_zeros(len(labels), classes).scatter(1, labels[:, None], 1.0)


def projection_logit(
    class_embedding: nn.Conv2d,
    one_hot_labels: Float[Tensor, "n classes"],
    maps: Float[Tensor, "n c h w"],
) -> Float[Tensor, " n"]:
    """Return the class term of a projection discriminator's logit, v_y · Σ h.

    The last maps h are summed over positions; `class_embedding` holds the vectors v_y as a 1x1
    convolution. Source: Miyato and Koyama 2018, equation 3.
    """
    return (class_embedding(one_hot_labels[:, :, None, None]) * maps).sum((1, 2, 3))


def check_shape(name: str, batch: Tensor, *expected: int) -> None:
    """Check the shape of a batch's rows.

    Raises:
        UsageError: they have another shape than the model was built for.
    """
    if batch.shape[1:] != expected:
        got_text, expected_text = (
            " x ".join(map(str, shape)) for shape in (batch.shape[1:], expected)
        )
        raise UsageError(
            f"the model was built for {name} of {expected_text}, got {got_text}; pass {name} of "
            f"{expected_text}, or build the model for another shape"
        )


def dropout(
    x: Float[Tensor, "batch ..."], p: float, rng: RNG | None, purpose: str
) -> Float[Tensor, "batch ..."]:
    """Set each number to 0 with probability `p`, and scale the others by 1 / (1 - p).

    Without `rng`, x is returned unchanged, which is the expected value.
    Source: Hinton et al. 2012. The scales in the experiments of 2014 are 1.25 and 2.
    """
    if rng is None or p == 0.0:
        return x
    keep_prob = 1.0 - p
    return x * rng.dropout_mask(purpose, *x.shape, keep_prob=keep_prob) * (1.0 / keep_prob)


def add_noise(
    x: Float[Tensor, "batch ..."], std: float, rng: RNG | None, purpose: str
) -> Float[Tensor, "batch ..."]:
    """Add normal noise of standard deviation `std`; without `rng`, x is returned unchanged."""
    if rng is None or std == 0.0:
        return x
    return x + std * rng.fast_normal(purpose, *x.shape)


class FullKernelConv2d(nn.Conv2d):
    """A convolution with a kernel as large as its input, computed as one matrix product.

    It equals `Conv2d`, which on CPUs loops over the positions of the kernel and is slower.
    """

    def forward(self, input: Float[Tensor, "n inputs h w"]) -> Float[Tensor, "n outputs 1 1"]:
        """Return one number for each output channel."""
        # Flatten with channels last, which is the memory format of weights and maps.
        x, weight = (tensor.permute(0, 2, 3, 1).flatten(1) for tensor in (input, self.weight))
        return F.linear(x, weight, self.bias)[:, :, None, None]


class FullKernelConvTranspose2d(nn.ConvTranspose2d):
    """A transposed convolution of maps of one pixel, computed as one matrix product."""

    def forward(
        self,
        input: Float[Tensor, "n inputs 1 1"],
        output_size: list[int] | None = None,  # noqa: ARG002 - in the signature of the base class
    ) -> Float[Tensor, "n outputs h w"]:
        """Return maps of the size of the kernel."""
        weight = self.weight.permute(0, 2, 3, 1)
        maps = (input.flatten(1) @ weight.flatten(1)).unflatten(1, weight.shape[1:])
        maps = maps.permute(0, 3, 1, 2)
        return maps if self.bias is None else maps + self.bias[:, None, None]


class InputNoise:
    """Dropout and normal noise on the inputs of a generator's layers, set for each layer.

    No published experiment uses them; the theory allows them (Goodfellow et al. 2014, section 3).

    Raises:
        UsageError: the number of values differs from the number of layers.
    """

    def __init__(self, dropout: Sequence[float], stds: Sequence[float], num_layers: int) -> None:
        for name, values in (("dropout", dropout), ("noise", stds)):
            if len(values) not in (0, num_layers):
                raise UsageError(
                    f"{name} has {len(values)} values and the generator has {num_layers} layers; "
                    "give one value for each layer"
                )
        self.dropout: list[float] = list(dropout) or [0.0] * num_layers
        self.stds: list[float] = list(stds) or [0.0] * num_layers

    def __call__(self, h: Tensor, layer: int, rng: RNG | None) -> Tensor:
        """Return the input h of a layer with dropout and noise."""
        h = dropout(h, self.dropout[layer], rng, f"generator/mask{layer}")
        return add_noise(h, self.stds[layer], rng, f"generator/noise{layer}")


class _MaxOverPieces(torch.autograd.Function):
    """The maximum over axis 1; ties share its gradient equally.

    It equals `amax` and takes a third of its time on CPUs, where comparisons with boolean results,
    and selections by them, are not vectorized, but comparisons with float results are.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Return the maximum."""
        largest = x.amax(1)
        ctx.save_for_backward(x, largest)
        return largest

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Tensor:
        """Return the gradient of x, which is differentiable in the incoming gradient."""
        x, largest = ctx.saved_tensors
        with torch.no_grad():
            is_largest = torch.eq(x, largest.unsqueeze(1), out=torch.empty_like(x))
            share = is_largest.sum(1).reciprocal_()
        return is_largest * (gradients[0] * share).unsqueeze(1)


def max_over_pieces(x: Float[Tensor, "batch pieces *rest"]) -> Float[Tensor, "batch *rest"]:
    """Return the maximum over axis 1."""
    return cast(Tensor, _MaxOverPieces.apply(x))


class Maxout(nn.Module):
    """A fully connected maxout layer: h_i(x) = max_j (x W_ij + b_ij), j = 1 … pieces.

    It maps (batch, inputs) to (batch, units). Initial weights are uniform on [-init_range,
    init_range], biases 0. Source: Goodfellow et al. 2013, "Maxout networks", equation 1.
    """

    def __init__(self, inputs: int, units: int, pieces: int, init_range: float) -> None:
        super().__init__()
        self.pieces = pieces
        # Order rows by piece first, so that the output of the maximum is contiguous.
        self.linear: nn.Linear = uniform_(nn.Linear(inputs, pieces * units), init_range)

    def forward(self, x: Float[Tensor, "batch inputs"]) -> Float[Tensor, "batch units"]:
        """Return h(x)."""
        return max_over_pieces(self.linear(x).unflatten(1, (self.pieces, -1)))


class MaxoutConv(nn.Module):
    """A convolutional maxout layer with max pooling.

    It maps (batch, inputs, height, width) to (batch, channels, …). Pooling windows that extend
    beyond the lower and right edge are kept, as in the authors' code.
    """

    def __init__(
        self,
        inputs: int,
        channels: int,
        *,
        kernel_size: int,
        padding: int,
        pool: tuple[int, int],
        pieces: int,
        init_range: float,
    ) -> None:
        super().__init__()
        self.pieces: int = pieces
        self.pool: tuple[int, int] = pool
        conv = nn.Conv2d(inputs, pieces * channels, kernel_size, padding=padding)
        self.conv: nn.Conv2d = uniform_(conv, init_range)

    def forward(self, x: Float[Tensor, "batch inputs h w"]) -> Float[Tensor, "batch c h2 w2"]:
        """Return the pooled maps."""
        width, step = self.pool
        # Pool before the maximum over pieces, which is equivalent and leaves less to compare.
        pooled = F.max_pool2d(self.conv(x), width, step, ceil_mode=True)
        return max_over_pieces(pooled.unflatten(1, (self.pieces, -1)))


def uniform_(layer: Affine, init_range: float, bias: float = 0.0) -> Affine:
    """Draw weights uniform on [-init_range, init_range], set all biases; return the layer."""
    nn.init.uniform_(layer.weight, -init_range, init_range)
    if layer.bias is not None:
        nn.init.constant_(layer.bias, bias)
    return layer


def sparse_(layer: nn.Linear, weights_per_unit: int) -> nn.Linear:
    """Set `weights_per_unit` weights of each unit to standard normal numbers, the others to 0.

    Source: Martens 2010, "Deep learning via Hessian-free optimization", section 5.
    """
    with torch.no_grad():
        layer.weight.zero_()
        chosen = (
            torch.rand_like(layer.weight)
            .topk(min(weights_per_unit, layer.in_features), dim=1)
            .indices
        )
        layer.weight.scatter_(1, chosen, torch.randn_like(chosen, dtype=layer.weight.dtype))
    return layer


@torch.no_grad()
def bound_column_norms_(module: nn.Module, max_norm: float | None) -> None:
    """Scale down each linear unit's incoming weights to a norm of at most `max_norm`, if not None.

    They are a column of W in the paper's x W, and a row of PyTorch's `weight`. Source: Hinton et
    al. 2012.
    """
    if max_norm is None:
        return
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            norms = layer.weight.norm(dim=1, keepdim=True)
            layer.weight.mul_(norms.clamp(max=max_norm) / (norms + 1e-7))


def use_batch_statistics(net: nn.Module) -> nn.Module:
    """Return a copy whose batch norm uses the batch's own statistics, in eval mode too."""
    net = copy.deepcopy(net)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.running_mean = layer.running_var = None
    return net


UNIFORM_BOUNDS = {"uniform": math.sqrt(3), "symmetric": 1.0}
"""The bound b of each uniform prior on [-b, b]."""
TRUNCATION = 2.0
"""The bound of the truncated normal prior."""
TAIL_PROBABILITY = 0.5 * math.erfc(TRUNCATION / math.sqrt(2))
"""Φ(-2), the probability that truncation removes on each side."""
INIT_STD = 0.2
"""The initial standard deviation of each component of a mixture prior."""


class Prior(nn.Module):
    """The distribution p_z of a generator's latents.

    `kind` is one of `draw_latents`, or a mixture, whose parameters are trained with the generator:

    - "mixture": z = μ_c + σ_c ε, where ε is of the kind `component_shape` and c one of `components`
      equally probable components. Gradients of G's loss reach μ and log σ through z. Initially z
      has variance 1 in each dimension, σ is 0.2 and the means are normal. Source: Gurumurthy,
      Sarvadevabhatla and Babu 2017, "DeLiGAN", without its penalty that keeps σ large.
    - "learned-mixture": p(c) = softmax(w)_c is learned too. As c is discrete, no gradient reaches w
      through z: the game adds a loss of `log_probability` (`losses.reinforce_loss`).
    """

    def __init__(
        self, kind: str, latent_dim: int, components: int = 1, component_shape: str = "normal"
    ) -> None:
        super().__init__()
        self.kind: str = kind
        self.latent_dim: int = latent_dim
        self.components: int = components
        self.component_shape: str = component_shape
        if self.is_learned:
            means = torch.randn(components, latent_dim).mul_(math.sqrt(1 - INIT_STD**2))
            self.means: nn.Parameter = nn.Parameter(means)
            self.log_stds: nn.Parameter = nn.Parameter(torch.full_like(means, math.log(INIT_STD)))
        if self.is_weighted:
            self.weights: nn.Parameter = nn.Parameter(torch.zeros(components))

    @property
    def is_learned(self) -> bool:
        """True if the prior has parameters."""
        return self.kind in ("mixture", "learned-mixture")

    @property
    def is_weighted(self) -> bool:
        """True if the probabilities of the components are learned."""
        return self.kind == "learned-mixture"

    def forward(self, n: int, rng: RNG) -> Float[Tensor, "n latent"]:
        """Draw n latents."""
        if not self.is_learned:
            return draw_latents(self.kind, n, self.latent_dim, rng)
        component = self._draw_components(n, rng)
        mean, log_std = (F.embedding(component, table) for table in (self.means, self.log_stds))
        return mean + log_std.exp() * draw_latents(self.component_shape, n, self.latent_dim, rng)

    def log_probability(self, n: int, rng: RNG) -> Float[Tensor, " n"]:
        """Return log p(c) of the components c of the n latents that `forward(n, rng)` draws."""
        return self.weights.log_softmax(0)[self._draw_components(n, rng)]

    def _draw_components(self, n: int, rng: RNG) -> Int[Tensor, " n"]:
        uniform = rng.uniform("component", n)
        if not self.is_weighted:
            return (uniform * self.components).long()
        # Invert the cumulative distribution, whose last value may be rounded to less than 1.
        cumulative = self.weights.detach().softmax(0).cumsum(0)
        return torch.searchsorted(cumulative, uniform, right=True).clamp_max(self.components - 1)


class LatentSampler(nn.Module):
    """The base of generators that draw their own latents, with a class label if conditional."""

    prior: Prior
    classes: int = 0

    def latent(
        self, n: int, rng: RNG, labels: Int[Tensor, " n"] | None = None
    ) -> Float[Tensor, "n latent"]:
        """Draw n latents from p_z; a conditional generator's end in `labels`, or random ones."""
        return append_class(self.prior(n, rng), self.classes, rng, labels)


def draw_latents(kind: str, n: int, latent_dim: int, rng: RNG) -> Float[Tensor, "n latent"]:
    """Draw n latents from a prior without parameters.

    The kinds are:

    - "uniform" on [-√3, √3] and "normal", both of variance 1, as in the code of 2014;
    - "symmetric", uniform on [-1, 1], as in DCGAN;
    - "truncated-normal", the standard normal truncated at |z| <= 2, of variance 0.774. It is Φ⁻¹ of
      one uniform number, since rejection would consume a varying number of random bits;
    - "sphere", uniform on the sphere of radius √d: z √d / ‖z‖ of normal z. In high dimensions each
      coordinate is nearly normal, and there is no tail. Source: White 2016, "Sampling generative
      networks".
    """
    if kind == "normal":
        return rng.normal("latent", n, latent_dim)
    if kind == "sphere":
        return F.normalize(rng.normal("latent", n, latent_dim)) * math.sqrt(latent_dim)
    if kind == "truncated-normal":
        low, high = TAIL_PROBABILITY, 1 - TAIL_PROBABILITY
        uniform = rng.uniform("latent", n, latent_dim, low=low, high=high)
        # Rounding may exceed the bound.
        return torch.special.ndtri(uniform).clamp(-TRUNCATION, TRUNCATION)
    bound = UNIFORM_BOUNDS[kind]
    return rng.uniform("latent", n, latent_dim, low=-bound, high=bound)


BASE_SIZES = range(3, 8)
"""The heights and widths that the smallest maps may have, in pixels."""
MIN_SIZE = 8
"""The smallest height and width of an image, in pixels."""

HeightWidth = tuple[int, int]
"""A size in pixels, or a factor of each axis."""


def upsampling_sizes(shape: Shape) -> tuple[HeightWidth, tuple[HeightWidth, ...]]:
    """Return the height and width of the smallest maps, and the factors of each upsampling layer.

    A factor is 1 or 2 for each axis. If one side needs more doublings than the other, they come
    first, so that the later maps have the aspect ratio of the image.

    Raises:
        UsageError: a side is shorter than 8, or not 3, 4, 5, 6 or 7 times a power of 2.
    """
    _, height, width = shape
    options = [(h, w) for h in num_doublings(height) for w in num_doublings(width)]
    if not options:
        raise UsageError(
            f"convolutional models need sides of at least {MIN_SIZE} that are 3, 4, 5, 6 or 7 "
            f"times a power of 2, got images of {height} x {width}; set "
            f"{nearest_supported_size(height, width)}, the nearest such size"
        )
    # Prefer equal numbers of doublings, and of those the largest.
    h, w = min(options, key=lambda option: (abs(option[0] - option[1]), -sum(option)))
    layers = max(h, w)
    strides = tuple((1 + (i >= layers - h), 1 + (i >= layers - w)) for i in range(layers))
    return (height >> h, width >> w), strides


def num_doublings(side: int) -> list[int]:
    """Return every n for which the side is a base size doubled n times."""
    if side < MIN_SIZE:
        return []
    return [
        n for n in range(1, side.bit_length()) if side >> n in BASE_SIZES and not side % (1 << n)
    ]


def nearest_supported_size(height: int, width: int) -> str:
    """Return the nearest size that convolutional models support, as a clause of a message."""
    supported = sorted(base << n for base in BASE_SIZES for n in range(1, 12))
    nearest = [
        min((size for size in supported if size >= MIN_SIZE), key=lambda size: abs(size - side))
        for side in (height, width)
    ]
    return f"size to {nearest[0]}" + ("" if height == width else f" and width to {nearest[1]}")
