"""Building blocks of the models: noise priors of z, layers, initializers.

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


def with_classes(
    z: Float[Tensor, "n latent"], classes: int, rng: RNG, labels: Int[Tensor, " n"] | None
) -> Float[Tensor, "n all"]:
    """Latents that end in their class, one-hot, of this many; without labels, each as probable."""
    if not classes:
        return z
    if labels is None:
        labels = (rng.uniform("class", len(z)) * classes).long()
    return torch.cat((z, F.one_hot(labels, classes).to(z)), 1)


def one_hot(
    labels: Int[Tensor, " n"] | None, classes: int, like: Tensor
) -> Float[Tensor, "n classes"] | None:
    """Labels as a conditional net takes them; None for a net that has no classes.

    Raises:
        UsageError: there are classes and no labels.
    """
    if not classes:
        return None
    if labels is None:
        raise UsageError(
            f"images came without labels to a discriminator of {classes} classes; give labels"
        )
    return F.one_hot(labels, classes).to(like)


def projection_logit(
    directions: nn.Conv2d,
    one_hot_labels: Float[Tensor, "n classes"],
    maps: Float[Tensor, "n c h w"],
) -> Float[Tensor, " n"]:
    """v_y · Σ h: how far the last maps, summed over places, lie in the direction of their class.

    `directions` holds the v_y, `told` is one-hot. Source: Miyato and Koyama 2018, equation 3.
    """
    return (directions(one_hot_labels[:, :, None, None]) * maps).sum((1, 2, 3))


def check_shape(what: str, batch: Tensor, *sides: int) -> None:
    """Refuse a batch of what a net was not built for.

    Raises:
        UsageError: what is in the batch has other sides.
    """
    if batch.shape[1:] != sides:
        came, expected = (" x ".join(map(str, some)) for some in (batch.shape[1:], sides))
        raise UsageError(
            f"{what} of {came} came to a net that was built for {expected}; give such {what}, or "
            "build the net for these"
        )


def dropout(
    x: Float[Tensor, "batch ..."], keep_prob: float, rng: RNG | None, purpose: str
) -> Float[Tensor, "batch ..."]:
    """Keep each number with probability `keep`, scaled by 1 / keep, else zero.

    Without noise (the net is asked for its mean behavior) x is returned as it is.
    Source: Hinton et al. 2012; the scales are those of the 2014 experiments, 1.25 and 2.
    """
    if rng is None or keep_prob == 1.0:
        return x
    return x * rng.dropout_mask(purpose, *x.shape, keep_prob=keep_prob) * (1.0 / keep_prob)


def add_noise(
    x: Float[Tensor, "batch ..."], std: float, rng: RNG | None, purpose: str
) -> Float[Tensor, "batch ..."]:
    """Add normal noise of this standard deviation; without noise, x is returned as it is."""
    if rng is None or std == 0.0:
        return x
    return x + std * rng.fast_normal(purpose, *x.shape)


class FullKernelConv2d(nn.Conv2d):
    """A convolution whose kernel is as large as the maps: one number of each, by one product.

    The same numbers as `Conv2d`'s, of which processors make a loop over the kernel's places.
    """

    def forward(self, input: Float[Tensor, "n inputs h w"]) -> Float[Tensor, "n outputs 1 1"]:
        """Give one number for each filter."""
        # Channels last, as weights and maps lie in memory.
        x, weight = (some.permute(0, 2, 3, 1).flatten(1) for some in (input, self.weight))
        return F.linear(x, weight, self.bias)[:, :, None, None]


class FullKernelConvTranspose2d(nn.ConvTranspose2d):
    """A fractionally strided convolution of maps of one pixel: maps as large as the kernel."""

    def forward(
        self,
        input: Float[Tensor, "n inputs 1 1"],
        output_size: list[int] | None = None,  # noqa: ARG002 - as the class it is one of
    ) -> Float[Tensor, "n outputs h w"]:
        """Give the kernels' sum, each as large as its number."""
        weight = self.weight.permute(0, 2, 3, 1)
        maps = (input.flatten(1) @ weight.flatten(1)).unflatten(1, weight.shape[1:])
        maps = maps.permute(0, 3, 1, 2)
        return maps if self.bias is None else maps + self.bias[:, None, None]


class InputNoise:
    """Dropout and normal noise on the inputs of a generator's layers, chosen for each layer.

    Off in every published experiment; the theory allows them (Goodfellow et al. 2014, section 3).

    Raises:
        UsageError: another number of values than layers.
    """

    def __init__(self, keep: Sequence[float], deviations: Sequence[float], layers: int) -> None:
        for name, values in (("keep", keep), ("noise", deviations)):
            if len(values) not in (0, layers):
                raise UsageError(
                    f"{name} has {len(values)} values for {layers} layers; give one for each layer"
                )
        self.keep_prob = list(keep) or [1.0] * layers
        self.stds = list(deviations) or [0.0] * layers

    def __call__(self, h: Tensor, layer: int, rng: RNG | None) -> Tensor:
        """The disturbed input of a layer."""
        h = dropout(h, self.keep_prob[layer], rng, f"generator/mask{layer}")
        return add_noise(h, self.stds[layer], rng, f"generator/noise{layer}")


class _Largest(torch.autograd.Function):
    """max_j x_ij over axis 1; its gradient goes to the largest, in equal shares if several are.

    As `amax`, in a third of the time on a CPU: comparisons that give truth values, and choices by
    them, are not vectorized there; comparisons that give numbers, and products, are.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Give the largest."""
        largest = x.amax(1)
        ctx.save_for_backward(x, largest)
        return largest

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Tensor:
        """Spread the gradient; this can itself be differentiated by the gradient."""
        x, largest = ctx.saved_tensors
        with torch.no_grad():
            is_largest = torch.eq(x, largest.unsqueeze(1), out=torch.empty_like(x))
            share = is_largest.sum(1).reciprocal_()
        return is_largest * (gradients[0] * share).unsqueeze(1)


def largest_piece(x: Float[Tensor, "batch pieces *rest"]) -> Float[Tensor, "batch *rest"]:
    """max_j x_ij over axis 1."""
    return cast(Tensor, _Largest.apply(x))


class Maxout(nn.Module):
    """Fully connected maxout: h_i(x) = max_j (x W_ij + b_ij), j = 1 … pieces.

    Maps (batch, inputs) to (batch, units). Weights begin uniform in [-init_range, init_range],
    biases at 0. Source: Goodfellow et al. 2013, "Maxout networks", equation 1.
    """

    def __init__(self, inputs: int, units: int, pieces: int, init_range: float) -> None:
        super().__init__()
        self.pieces = pieces
        # Rows are piece-major, so that the maximum runs over a strided axis and stays contiguous.
        self.linear = uniform_(nn.Linear(inputs, pieces * units), init_range)

    def forward(self, x: Float[Tensor, "batch inputs"]) -> Float[Tensor, "batch units"]:
        """h(x)."""
        return largest_piece(self.linear(x).unflatten(1, (self.pieces, -1)))


class MaxoutConv(nn.Module):
    """Convolutional maxout, then max pooling, its biases tied over positions.

    Maps (batch, inputs, height, width) to (batch, channels, …). Pooling windows that hang over the
    lower and right edge are kept, as in the authors' code.
    """

    def __init__(
        self,
        inputs: int,
        channels: int,
        *,
        kernel: int,
        pad: int,
        pool: tuple[int, int],
        pieces: int,
        init_range: float,
    ) -> None:
        super().__init__()
        self.pieces, self.pool = pieces, pool
        conv = nn.Conv2d(inputs, pieces * channels, kernel, padding=pad)
        self.conv = uniform_(conv, init_range)

    def forward(self, x: Float[Tensor, "batch inputs h w"]) -> Float[Tensor, "batch c h2 w2"]:
        """The pooled maps."""
        width, step = self.pool
        # The largest of the largest, in whatever order: fewer numbers are left for the pieces.
        pooled = F.max_pool2d(self.conv(x), width, step, ceil_mode=True)
        return largest_piece(pooled.unflatten(1, (self.pieces, -1)))


def uniform_(layer: Affine, init_range: float, bias: float = 0.0) -> Affine:
    """Set weights uniform in [-init_range, init_range], biases to one value; return the layer."""
    nn.init.uniform_(layer.weight, -init_range, init_range)
    if layer.bias is not None:
        nn.init.constant_(layer.bias, bias)
    return layer


def sparse_(layer: nn.Linear, per_unit: int) -> nn.Linear:
    """Set `per_unit` weights into each unit to standard normal numbers, the others to zero.

    Source: Martens 2010, "Deep learning via Hessian-free optimization", section 5.
    """
    with torch.no_grad():
        layer.weight.zero_()
        chosen = torch.rand_like(layer.weight).topk(min(per_unit, layer.in_features), dim=1).indices
        layer.weight.scatter_(1, chosen, torch.randn_like(chosen, dtype=layer.weight.dtype))
    return layer


@torch.no_grad()
def bound_column_norms_(module: nn.Module, bound: float) -> None:
    """Scale down the weights into each linear unit to a norm of at most `bound`.

    (A column in the paper's x W; a row of PyTorch's weight.) Source: Hinton et al. 2012.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            norms = layer.weight.norm(dim=1, keepdim=True)
            layer.weight.mul_(norms.clamp(max=bound) / (norms + 1e-7))


def use_batch_statistics(net: nn.Module) -> nn.Module:
    """A copy whose batch norm takes the statistics of what it is given, in eval mode too."""
    net = copy.deepcopy(net)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.running_mean = layer.running_var = None
    return net


RANGES = {"uniform": math.sqrt(3), "symmetric": 1.0}
"""How far uniform priors reach from 0."""
CUT = 2.0
"""How far the truncated normal reaches from 0."""
BEGUN = 0.2
"""Deviation of each component of a mixture at first."""
TAIL = 0.5 * math.erfc(CUT / math.sqrt(2))
"""Φ(-2): what the truncated normal leaves out on either side."""


class Prior(nn.Module):
    """The noise prior that a generator was built for.

    `kind` is one that `draw_prior` knows, or "mixture": z = μ_c + σ_c ε, ε of the kind `shape`,
    each of the `components` c as probable, means and log deviations G's own; gradients reach
    them through z, and the loss of G moves them. They begin so that each number has variance 1,
    and so far apart that G can send each where it likes: deviations .2, means normal. Source:
    Gurumurthy, Sarvadevabhatla and Babu 2017, "DeLiGAN" (there with a penalty that holds deviations
    up; here without). In a "learned-mixture" p(c) = softmax(w)_c is learned too; no gradient comes
    to w through z, so that a game has to ask for `log_probability` (`choice_loss`).
    """

    def __init__(
        self, kind: str, latent_dim: int, components: int = 1, shape: str = "normal"
    ) -> None:
        super().__init__()
        self.kind, self.latent_dim = kind, latent_dim
        self.components, self.shape = components, shape
        if self.is_learned:
            begun = math.sqrt(1 - BEGUN**2) * torch.randn(components, latent_dim)
            self.means = nn.Parameter(begun)
            self.log_stds = nn.Parameter(torch.full_like(begun, math.log(BEGUN)))
        if self.is_weighted:
            self.weights = nn.Parameter(torch.zeros(components))

    @property
    def is_learned(self) -> bool:
        """Whether it has parameters."""
        return self.kind in ("mixture", "learned-mixture")

    @property
    def is_weighted(self) -> bool:
        """Whether the probabilities of its components are learned."""
        return self.kind == "learned-mixture"

    def forward(self, n: int, rng: RNG) -> Float[Tensor, "n latent"]:
        """Draw n points."""
        if not self.is_learned:
            return draw_prior(self.kind, n, self.latent_dim, rng)
        which = self._component(n, rng)
        mean, log_deviation = (F.embedding(which, w) for w in (self.means, self.log_stds))
        return mean + log_deviation.exp() * draw_prior(self.shape, n, self.latent_dim, rng)

    def log_probability(self, n: int, rng: RNG) -> Float[Tensor, " n"]:
        """The log p(c) of the component c of each of the n points that this noise draws."""
        return self.weights.log_softmax(0)[self._component(n, rng)]

    def _component(self, n: int, rng: RNG) -> Int[Tensor, " n"]:
        share = rng.uniform("component", n)
        if not self.is_weighted:
            return (share * self.components).long()
        below = self.weights.detach().softmax(0).cumsum(0)
        # Rounding may leave the whole a little below 1.
        return torch.searchsorted(below, share, right=True).clamp_max(self.components - 1)


class LatentSampler(nn.Module):
    """A generator that draws its z from its prior and, told classes, ends them in the class."""

    prior: Prior
    classes: int

    def latent(
        self, n: int, rng: RNG, labels: Int[Tensor, " n"] | None = None
    ) -> Float[Tensor, "n latent"]:
        """Draw n points of the noise prior p_z; with classes, of those given, else of any."""
        return with_classes(self.prior(n, rng), self.classes, rng, labels)


def draw_prior(kind: str, n: int, latent_dim: int, rng: RNG) -> Float[Tensor, "n latent"]:
    """Draw n points of a noise prior without parameters.

    Uniform in [-sqrt 3, sqrt 3] or standard normal, each of variance 1, as in the code of 2014;
    uniform in [-1, 1] ("symmetric"), as in that of DCGAN; standard normal cut at |z| <= 2
    ("truncated-normal"), of variance .774, by Φ⁻¹ of one uniform number each: drawing until a number
    lies within would take another count of bits for each; or even on the sphere of radius √d
    ("sphere"), z √d / ‖z‖ of normal z, a projection of which is nearly normal where d is large and
    has no tail that G would have to send somewhere. Source: White 2016, "Sampling generative
    networks".
    """
    if kind == "normal":
        return rng.normal("latent", n, latent_dim)
    if kind == "sphere":
        return F.normalize(rng.normal("latent", n, latent_dim)) * math.sqrt(latent_dim)
    if kind == "truncated-normal":
        share = rng.uniform("latent", n, latent_dim, low=TAIL, high=1 - TAIL)
        return torch.special.ndtri(share).clamp(-CUT, CUT)  # rounding may pass the cut
    reach = RANGES[kind]
    return rng.uniform("latent", n, latent_dim, low=-reach, high=reach)
