"""The fully connected pair of 2014: a generator, and a maxout discriminator with dropout."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from advnets import config
from advnets.errors import UsageError
from advnets.models.layers import (
    ACTIVATIONS,
    InputNoise,
    Maxout,
    Prior,
    Shape,
    bound_column_norms_,
    dropout,
    sparse_,
    uniform_,
)
from advnets.rng import RNG

_SMALLEST_MARGINAL = 1e-7  # the authors' clip: a pixel that is never lit has no finite logit


class HiddenLayers(nn.Module):
    """The fully connected hidden layers of a generator: maps (batch, latent) to (batch, units).

    Raises:
        UsageError: layer lists of different lengths.
    """

    def __init__(
        self,
        spec: config.MLPGenerator | config.DeconvGenerator,
        disturb: InputNoise,
        *,
        sigmoid_bias: float = 0.0,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        if len(spec.activations) != len(spec.hidden_sizes):
            raise UsageError(
                f"activations has {len(spec.activations)} values for {len(spec.hidden_sizes)} hidden "
                "layers; give one for each layer"
            )
        sizes = [spec.latent_dim, *spec.hidden_sizes]
        biases = [sigmoid_bias if name == "sigmoid" else 0.0 for name in spec.activations]
        self.linears = nn.ModuleList(
            uniform_(nn.Linear(before, after), spec.init_range, bias)
            for before, after, bias in zip(sizes, spec.hidden_sizes, biases, strict=False)
        )
        self.norms = nn.ModuleList(
            nn.BatchNorm1d(size) if batch_norm else nn.Identity() for size in spec.hidden_sizes
        )
        self.activations = [ACTIVATIONS[name] for name in spec.activations]
        self.input_noise = disturb

    def forward(
        self, z: Float[Tensor, "batch latent"], rng: RNG | None = None
    ) -> Float[Tensor, "batch units"]:
        """The last hidden layer's units, disturbed as the output layer's input is to be."""
        h = z
        layers = zip(self.linears, self.norms, self.activations, strict=True)
        for i, (linear, norm, activation) in enumerate(layers):
            h = activation(norm(linear(self.input_noise(h, i, rng))))
        return self.input_noise(h, len(self.linears), rng)


class MLPGenerator(nn.Module):
    """G(z): hidden layers and an output layer, maps (batch, latent) to images of `shape`.

    With `output_bias="marginals"` the output begins at the mean training image (`marginals`, in
    the range of the output activation), where z is ignored.
    Source: Goodfellow et al. 2014, section 5; ranges and biases from the authors' configuration.

    Raises:
        UsageError: layer lists of different lengths, or marginals asked for and not given.
    """

    def __init__(
        self,
        shape: Shape,
        spec: config.MLPGenerator,
        marginals: Float[Tensor, "channels height width"] | None = None,
    ) -> None:
        super().__init__()
        self.shape, self.spec, self.latent_dim = shape, spec, spec.latent_dim
        disturb = InputNoise(spec.keep_prob, spec.noise, len(spec.hidden_sizes) + 1)
        self.hidden = HiddenLayers(
            spec, disturb, sigmoid_bias=spec.sigmoid_bias, batch_norm=spec.batch_norm
        )
        self.output = _output_layer(shape, spec, marginals)
        self.output_activation = ACTIVATIONS[spec.output]
        self.prior = Prior(spec.prior, spec.latent_dim, spec.components, spec.component_shape)

    def latent(self, n: int, rng: RNG) -> Float[Tensor, "batch latent"]:
        """Draw n points of the noise prior p_z."""
        return self.prior(n, rng)

    def forward(
        self, z: Float[Tensor, "batch latent"], rng: RNG | None = None
    ) -> Float[Tensor, "batch channels height width"]:
        """G(z); `noise` feeds dropout and noise inside the net, None leaves them out."""
        return self.output_activation(self.pre_activation(z, rng))

    def pre_activation(
        self, z: Float[Tensor, "batch latent"], rng: RNG | None = None
    ) -> Float[Tensor, "batch channels height width"]:
        """What the output activation is given: for sigmoid the logits of the pixels."""
        return self.output(self.hidden(z, rng)).float().unflatten(1, self.shape)

    def project(self) -> None:
        """Restore the bound on column norms after an update."""
        if self.spec.max_column_norm is not None:
            bound_column_norms_(self, self.spec.max_column_norm)


class StackedGenerator(nn.Module):
    """A generator put below another, whose z it makes: G(z) = top(bottom(z)).

    Source: the authors' two-stage training on the Toronto Face Database.

    Raises:
        UsageError: the upper one has a prior that is learned, which nothing is drawn from here.
    """

    def __init__(self, bottom: MLPGenerator, top: MLPGenerator | StackedGenerator) -> None:
        super().__init__()
        if top.prior.is_learned:
            raise UsageError(
                "a generator with a mixture prior was put upon another, which makes its z; give "
                "the earlier stage another prior"
            )
        self.bottom, self.top, self.latent_dim = bottom, top, bottom.latent_dim

    @property
    def prior(self) -> Prior:
        """The bottom's."""
        return self.bottom.prior

    def latent(self, n: int, rng: RNG) -> Float[Tensor, "batch latent"]:
        """Draw n points of the bottom's noise prior."""
        return self.bottom.latent(n, rng)

    def forward(
        self, z: Float[Tensor, "batch latent"], rng: RNG | None = None
    ) -> Float[Tensor, "batch channels height width"]:
        """top(bottom(z))."""
        below = None if rng is None else rng.fold_in("bottom")
        return self.top(self.bottom(z, below).flatten(1), rng)

    def project(self) -> None:
        """Restore the bounds on column norms of both parts."""
        for part in (self.bottom, self.top):
            part.project()


class MaxoutDiscriminator(nn.Module):
    """Logits a(x) of a maxout net with dropout: maps images of `shape` to (batch,).

    Source: Goodfellow et al. 2014, section 5.
    """

    per_sample = True

    def __init__(self, shape: Shape, spec: config.MaxoutDiscriminator) -> None:
        super().__init__()
        self.spec = spec
        sizes = [math.prod(shape), *spec.hidden_sizes]
        self.hidden = nn.ModuleList(
            Maxout(before, after, spec.pieces, spec.init_range)
            for before, after in zip(sizes, spec.hidden_sizes, strict=False)
        )
        self.output = uniform_(nn.Linear(sizes[-1], 1), spec.init_range)

    def forward(
        self, x: Float[Tensor, "batch channels height width"], rng: RNG | None = None
    ) -> Float[Tensor, " batch"]:
        """a(x); `noise` feeds dropout, None leaves it out."""
        h, keep = x.flatten(1), self.spec.keep_prob_input
        for i, layer in enumerate((*self.hidden, self.output)):
            h, keep = layer(dropout(h, keep, rng, f"mask{i}")), self.spec.keep_prob_hidden
        return h.squeeze(1)

    def project(self) -> None:
        """Restore the bound on column norms after an update."""
        if self.spec.max_column_norm is not None:
            bound_column_norms_(self, self.spec.max_column_norm)


class MLPDiscriminator(nn.Module):
    """Logits a(x) of fully connected layers, with the initial weights of PyTorch."""

    per_sample = True

    def __init__(self, shape: Shape, spec: config.MLPDiscriminator) -> None:
        super().__init__()
        inputs = math.prod(shape)
        self.fourier_features = (
            FourierFeatures(inputs, spec.fourier_features, *spec.max_frequency)
            if spec.fourier_features
            else nn.Identity()
        )
        sizes = [inputs + spec.fourier_features, *spec.hidden_sizes]
        self.hidden = nn.ModuleList(
            nn.Linear(before, after)
            for before, after in zip(sizes, spec.hidden_sizes, strict=False)
        )
        self.activation = ACTIVATIONS[spec.activation]
        self.output = nn.Linear(sizes[-1], 1)

    def forward(
        self,
        x: Float[Tensor, "batch channels height width"],
        rng: RNG | None = None,  # noqa: ARG002 - there is none within
    ) -> Float[Tensor, " batch"]:
        """a(x)."""
        h = self.fourier_features(x.flatten(1))
        for layer in self.hidden:
            h = self.activation(layer(h))
        return self.output(h).squeeze(1)


class FourierFeatures(nn.Module):
    """x and, beside it, √2 cos(k x + φ): as many waves, of random directions and phases.

    Their numbers |k| go from the least to the largest by the same factor; they do not learn. From x
    alone, nets learn what changes over small distances far later than the rest. Source: Tancik et
    al. 2020, "Fourier features let networks learn high frequency functions in low dimensional
    domains" (there normal k).
    """

    k: Tensor
    phase: Tensor

    def __init__(self, inputs: int, count: int, least: float, largest: float) -> None:
        super().__init__()
        numbers = torch.logspace(math.log10(least), math.log10(largest), count)
        directions = F.normalize(torch.randn(count, inputs))
        self.register_buffer("k", numbers[:, None] * directions)
        self.register_buffer("phase", 2 * math.pi * torch.rand(count))

    def forward(self, x: Float[Tensor, "batch inputs"]) -> Float[Tensor, "batch all"]:
        """The numbers and their waves."""
        return torch.cat((x, math.sqrt(2) * torch.cos(F.linear(x, self.k, self.phase))), 1)


def _output_layer(shape: Shape, spec: config.MLPGenerator, marginals: Tensor | None) -> nn.Linear:
    init_range = spec.init_range if spec.output_init_range is None else spec.output_init_range
    inputs = (spec.latent_dim, *spec.hidden_sizes)[-1]
    layer = uniform_(nn.Linear(inputs, math.prod(shape)), init_range)
    if spec.output_sparse_init is not None:
        sparse_(layer, spec.output_sparse_init)
    with torch.no_grad():
        layer.bias.copy_(_output_bias(spec, marginals))
    return layer


def _output_bias(spec: config.MLPGenerator, marginals: Tensor | None) -> Tensor:
    """The output activation's inverse at the mean image, or one number for all."""
    if spec.output_bias != "marginals":
        return torch.tensor(spec.output_bias)
    if marginals is None:
        raise UsageError(
            "output_bias is 'marginals' and no mean training image was given; "
            "hand it over or set output_bias to a number"
        )
    mean = marginals.flatten().double()
    if spec.output == "sigmoid":
        return torch.logit(mean, eps=_SMALLEST_MARGINAL)
    if spec.output == "tanh":
        return torch.atanh(mean.clamp(_SMALLEST_MARGINAL - 1, 1 - _SMALLEST_MARGINAL))
    return mean
