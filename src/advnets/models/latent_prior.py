"""Noise priors p_z: plain distributions, and a mixture that is learned with G."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from advnets.models.layers import with_classes
from advnets.rng import RNG

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
