"""Fully connected models: generator and maxout discriminator of 2014, a plain MLP, an encoder."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from advnets import config
from advnets.errors import UsageError
from advnets.models.layers import (
    ACTIVATIONS,
    Activation,
    InputNoise,
    LatentSampler,
    Maxout,
    Prior,
    Shape,
    bound_column_norms_,
    dropout,
    sparse_,
    uniform_,
)
from advnets.protocols import Images, Latents, Logits, Posterior
from advnets.rng import RNG

_MIN_MARGINAL = 1e-7
"""The authors' lower bound of a pixel's mean: the logit of a pixel that is always 0 is infinite."""


class HiddenLayers(nn.Module):
    """The fully connected hidden layers of a generator; they map (batch, latent) to (batch, units).

    Raises:
        UsageError: the config has another number of activations than of layers.
    """

    def __init__(
        self,
        spec: config.MLPGenerator | config.DeconvGenerator,
        input_noise: InputNoise,
        *,
        sigmoid_bias: float = 0.0,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        if len(spec.activations) != len(spec.hidden_sizes):
            raise UsageError(
                f"activations has {len(spec.activations)} values and hidden_sizes has "
                f"{len(spec.hidden_sizes)}; give one of each for every hidden layer"
            )
        sizes = [spec.latent_dim, *spec.hidden_sizes]
        biases = [sigmoid_bias if name == "sigmoid" else 0.0 for name in spec.activations]
        self.linears: nn.ModuleList = nn.ModuleList(
            uniform_(nn.Linear(before, after), spec.init_range, bias)
            for before, after, bias in zip(sizes, spec.hidden_sizes, biases, strict=False)
        )
        self.norms: nn.ModuleList = nn.ModuleList(
            nn.BatchNorm1d(size) if batch_norm else nn.Identity() for size in spec.hidden_sizes
        )
        self.activations: list[Activation] = [ACTIVATIONS[name] for name in spec.activations]
        self.input_noise = input_noise

    def forward(self, z: Latents, rng: RNG | None = None) -> Float[Tensor, "batch units"]:
        """Return the output layer's input: the last hidden units, with their dropout and noise."""
        h = z
        layers = zip(self.linears, self.norms, self.activations, strict=True)
        for i, (linear, norm, activation) in enumerate(layers):
            h = activation(norm(linear(self.input_noise(h, i, rng))))
        return self.input_noise(h, len(self.linears), rng)


class MLPGenerator(LatentSampler):
    """A fully connected generator; it maps (batch, latent) to images of `shape`.

    With `output_bias="marginals"` the output for zero hidden units is `mean_image`, the mean
    training image in the range of the output activation.
    Source: Goodfellow et al. 2014, section 5; ranges and biases from the authors' configuration.

    Raises:
        UsageError: the config has lists of different lengths, or needs a `mean_image` that is None.
    """

    def __init__(
        self,
        shape: Shape,
        spec: config.MLPGenerator,
        mean_image: Float[Tensor, "channels height width"] | None = None,
    ) -> None:
        super().__init__()
        self.shape: Shape = shape
        self.spec: config.MLPGenerator = spec
        self.latent_dim: int = spec.latent_dim
        input_noise = InputNoise(spec.dropout, spec.noise, len(spec.hidden_sizes) + 1)
        self.hidden: HiddenLayers = HiddenLayers(
            spec, input_noise, sigmoid_bias=spec.sigmoid_bias, batch_norm=spec.batch_norm
        )
        self.output: nn.Linear = _output_layer(shape, spec, mean_image)
        self.output_activation: Activation = ACTIVATIONS[spec.output]
        self.prior: Prior = Prior(
            spec.prior, spec.latent_dim, spec.components, spec.component_shape
        )

    def forward(self, z: Latents, rng: RNG | None = None) -> Images:
        """Return G(z); `rng` draws dropout and noise, without it both are left out."""
        return self.output_activation(self.pre_activation(z, rng))

    def pre_activation(self, z: Latents, rng: RNG | None = None) -> Images:
        """Return the output before its activation: for a sigmoid, the logits of the pixels."""
        return self.output(self.hidden(z, rng)).float().unflatten(1, self.shape)

    def project(self) -> None:
        """Enforce the bound of column norms; called after each update."""
        bound_column_norms_(self, self.spec.max_column_norm)


class StackedGenerator(nn.Module):
    """A generator whose output is the latent of another one: G(z) = top(bottom(z)).

    Source: the authors' two-stage training on the Toronto Face Database.

    Raises:
        UsageError: `top` has a learned prior, which would never be used.
    """

    def __init__(self, bottom: MLPGenerator, top: MLPGenerator | StackedGenerator) -> None:
        super().__init__()
        if top.prior.is_learned:
            raise UsageError(
                f"the earlier stage's generator has the prior {top.prior.kind}, which is not used "
                "when another generator produces its z; give the earlier stage another prior"
            )
        self.bottom: MLPGenerator = bottom
        self.top: MLPGenerator | StackedGenerator = top
        self.latent_dim: int = bottom.latent_dim

    @property
    def prior(self) -> Prior:
        """The prior of the bottom generator."""
        return self.bottom.prior

    def latent(self, n: int, rng: RNG) -> Latents:
        """Draw n latents from the prior of the bottom generator."""
        return self.bottom.latent(n, rng)

    def forward(self, z: Latents, rng: RNG | None = None) -> Images:
        """Return top(bottom(z))."""
        bottom_rng = None if rng is None else rng.fold_in("bottom")
        return self.top(self.bottom(z, bottom_rng).flatten(1), rng)

    def project(self) -> None:
        """Enforce the bounds of column norms of both generators; called after each update."""
        for generator in (self.bottom, self.top):
            generator.project()


class MaxoutDiscriminator(nn.Module):
    """A maxout discriminator with dropout; it maps images of `shape` to logits of (batch,).

    Source: Goodfellow et al. 2014, section 5.
    """

    per_sample = True

    def __init__(self, shape: Shape, spec: config.MaxoutDiscriminator) -> None:
        super().__init__()
        self.spec = spec
        sizes = [math.prod(shape), *spec.hidden_sizes]
        self.hidden: nn.ModuleList = nn.ModuleList(
            Maxout(before, after, spec.pieces, spec.init_range)
            for before, after in zip(sizes, spec.hidden_sizes, strict=False)
        )
        self.output: nn.Linear = uniform_(nn.Linear(sizes[-1], 1), spec.init_range)

    def forward(self, x: Images, rng: RNG | None = None) -> Logits:
        """Return the logits a(x); `rng` draws dropout masks, without it there is no dropout."""
        h, p = x.flatten(1), self.spec.dropout_input
        for i, layer in enumerate((*self.hidden, self.output)):
            h, p = layer(dropout(h, p, rng, f"mask{i}")), self.spec.dropout_hidden
        return h.squeeze(1)

    def project(self) -> None:
        """Enforce the bound of column norms; called after each update."""
        bound_column_norms_(self, self.spec.max_column_norm)


class MLPDiscriminator(nn.Module):
    """A fully connected discriminator with the initial weights of PyTorch."""

    per_sample = True

    def __init__(self, shape: Shape, spec: config.MLPDiscriminator) -> None:
        super().__init__()
        inputs = math.prod(shape)
        self.fourier_features: nn.Module = (
            FourierFeatures(inputs, spec.fourier_features, *spec.frequency_range)
            if spec.fourier_features
            else nn.Identity()
        )
        sizes = [inputs + spec.fourier_features, *spec.hidden_sizes]
        self.hidden: nn.ModuleList = nn.ModuleList(
            nn.Linear(before, after)
            for before, after in zip(sizes, spec.hidden_sizes, strict=False)
        )
        self.activation: Activation = ACTIVATIONS[spec.activation]
        self.output: nn.Linear = nn.Linear(sizes[-1], 1)

    def forward(
        self,
        x: Images,
        rng: RNG | None = None,  # noqa: ARG002 - the model has no randomness
    ) -> Logits:
        """Return the logits a(x)."""
        h = self.fourier_features(x.flatten(1))
        for layer in self.hidden:
            h = self.activation(layer(h))
        return self.output(h).squeeze(1)


class FourierFeatures(nn.Module):
    """Random Fourier features √2 cos(k x + φ), appended to x.

    The directions of k and the phases φ are random, the frequencies |k| spaced geometrically
    between `min_frequency` and `max_frequency`; none is trained. Without them an MLP learns fine
    details of its input far later than coarse ones. Source: Tancik et al. 2020, "Fourier features
    let networks learn high frequency functions in low dimensional domains", where k is normal.
    """

    k: Tensor
    phase: Tensor

    def __init__(self, inputs: int, count: int, min_frequency: float, max_frequency: float) -> None:
        super().__init__()
        frequencies = torch.logspace(math.log10(min_frequency), math.log10(max_frequency), count)
        directions = F.normalize(torch.randn(count, inputs))
        self.register_buffer("k", directions.mul_(frequencies[:, None]))
        self.register_buffer("phase", torch.rand(count).mul_(2 * math.pi))

    def forward(self, x: Float[Tensor, "batch inputs"]) -> Float[Tensor, "batch all"]:
        """Return x with its features appended."""
        return torch.cat((x, math.sqrt(2) * torch.cos(F.linear(x, self.k, self.phase))), 1)


def _output_layer(shape: Shape, spec: config.MLPGenerator, mean_image: Tensor | None) -> nn.Linear:
    init_range = spec.init_range if spec.output_init_range is None else spec.output_init_range
    inputs = (spec.latent_dim, *spec.hidden_sizes)[-1]
    layer = uniform_(nn.Linear(inputs, math.prod(shape)), init_range)
    if spec.output_sparse_init is not None:
        sparse_(layer, spec.output_sparse_init)
    with torch.no_grad():
        layer.bias.copy_(_output_bias(spec, mean_image))
    return layer


def _output_bias(spec: config.MLPGenerator, mean_image: Tensor | None) -> Tensor:
    """Return the inverse output activation of the mean image, or the number in the config."""
    if spec.output_bias != "marginals":
        return torch.tensor(spec.output_bias)
    if mean_image is None:
        raise UsageError(
            "output_bias is 'marginals', which needs the mean training image; "
            "pass mean_image, or set output_bias to a number"
        )
    mean = mean_image.flatten().double()
    if spec.output == "sigmoid":
        return torch.logit(mean, eps=_MIN_MARGINAL)
    if spec.output == "tanh":
        return torch.atanh(mean.clamp(_MIN_MARGINAL - 1, 1 - _MIN_MARGINAL))
    return mean


class MLPEncoder(nn.Module):
    """A fully connected encoder q(z | x) = N(μ(x), diag σ²(x)), with outputs μ and log σ².

    It maps (batch, channels, height, width) to a `Posterior` over (batch, latent). A deterministic
    encoder has no variance: E(x) = μ(x). Source: Kingma and Welling 2014, appendix C.2.
    """

    def __init__(self, shape: Shape, spec: config.MLPEncoder, latent_dim: int) -> None:
        super().__init__()
        self.spec: config.MLPEncoder = spec
        self.latent_dim: int = latent_dim
        sizes = (math.prod(shape), *spec.hidden_sizes)
        activate = ACTIVATIONS[spec.activation]
        self.activate = activate
        self.linears: nn.ModuleList = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(sizes))
        self.norms: nn.ModuleList = nn.ModuleList(
            nn.BatchNorm1d(size) if spec.batch_norm else nn.Identity() for size in spec.hidden_sizes
        )
        self.mean: nn.Linear = nn.Linear(sizes[-1], latent_dim)
        self.log_variance: nn.Linear | None = (
            None if spec.deterministic else nn.Linear(sizes[-1], latent_dim)
        )

    def forward(self, x: Images) -> Posterior:
        """Return q(z | x)."""
        h = x.flatten(1)
        for linear, norm in zip(self.linears, self.norms, strict=True):
            h = self.activate(norm(linear(h)))
        log_variance = None if self.log_variance is None else self.log_variance(h).float()
        return Posterior(self.mean(h).float(), log_variance)
