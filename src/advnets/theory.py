"""What the paper proves, as functions of probabilities: D*, C(G), and descent on p_g itself.

A distribution is a tensor whose last axis holds probabilities that sum to 1: of a finite set, or of
the cells of a grid that a density was cut into. Everything is in nats; float64 is what the proofs
are checked in.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from advnets.errors import UsageError

_SUM = 1e-6
"""How far from 1 probabilities may sum."""


def optimal_discriminator(
    p_data: Float[Tensor, "*batch n"], p_g: Float[Tensor, "*batch n"]
) -> Float[Tensor, "*batch n"]:
    """D*(x) = p_data(x) / (p_data(x) + p_g(x)), the best D for a fixed G; densities will do too.

    NaN where both are 0: there D is asked for nothing, and may be anything.
    Source: Goodfellow et al. 2014, proposition 1, equation 2.
    """
    return p_data / (p_data + p_g)


def value_at(
    p_data: Float[Tensor, "*batch n"],
    p_g: Float[Tensor, "*batch n"],
    discriminator: Float[Tensor, "*batch n"],
) -> Float[Tensor, "*batch"]:
    """V(D, G) = Σ p_data(x) log D(x) + p_g(x) log(1 - D(x)), with 0 log 0 = 0.

    Source: Goodfellow et al. 2014, equation 3.

    Raises:
        UsageError: one of the first two is no distribution.
    """
    _check(p_data, p_g)
    real, fake = _times(p_data, discriminator.log()), _times(p_g, torch.log1p(-discriminator))
    return (real + fake).sum(-1)


def virtual_criterion(
    p_data: Float[Tensor, "*batch n"], p_g: Float[Tensor, "*batch n"]
) -> Float[Tensor, "*batch"]:
    """C(G) = max_D V(D, G) = V(D*, G), what G descends when D is at its optimum.

    It is -log 4 where p_g = p_data and more everywhere else: C(G) = -log 4 + 2 JSD(p_data, p_g).
    Computed as the value of D*, not by that identity.
    Source: Goodfellow et al. 2014, equation 4 and theorem 1.

    Raises:
        UsageError: one of them is no distribution.
    """
    _check(p_data, p_g)
    # 1 - D* = p_g / (p_data + p_g), which a subtraction from 1 would round to 0.
    real, fake = ((p / (p_data + p_g)).log() for p in (p_data, p_g))
    return (_times(p_data, real) + _times(p_g, fake)).sum(-1)


def kullback_leibler(
    p: Float[Tensor, "*batch n"], q: Float[Tensor, "*batch n"]
) -> Float[Tensor, "*batch"]:
    """KL(p ‖ q) = Σ p(x) log(p(x) / q(x)), in nats; infinite where p has mass and q none.

    Raises:
        UsageError: one of them is no distribution.
    """
    _check(p, q)
    return _times(p, (p / q).log()).sum(-1)


def jensen_shannon(
    p: Float[Tensor, "*batch n"], q: Float[Tensor, "*batch n"]
) -> Float[Tensor, "*batch"]:
    """JSD(p, q) = ½ KL(p ‖ m) + ½ KL(q ‖ m) with m = (p + q) / 2; from 0 to log 2.

    Source: Goodfellow et al. 2014, equation 6.

    Raises:
        UsageError: one of them is no distribution.
    """
    middle = (p + q) / 2
    return 0.5 * (kullback_leibler(p, middle) + kullback_leibler(q, middle))


def subgradient(
    p_data: Float[Tensor, "*batch n"], p_g: Float[Tensor, "*batch n"]
) -> Float[Tensor, "*batch n"]:
    """∂C / ∂p_g(x) = log(1 - D*(x)): the slope of the plane that touches C at p_g.

    V(D, ·) is linear in p_g for every D, and C their supremum, hence convex; the slope of the one
    that is largest, D*'s, is a subgradient. Source: Goodfellow et al. 2014, proposition 2.
    """
    return (p_g / (p_data + p_g)).log()


def descend(
    p_data: Float[Tensor, "*batch n"], p_g: Float[Tensor, "*batch n"], rate: float
) -> Float[Tensor, "*batch n"]:
    """One step of descent on p_g itself with D at its optimum: p_g <- p_g exp(-rate ∂C/∂p_g) / Z.

    exp(-∂C/∂p_g) = (p_g + p_data) / p_g, so p_g <- p_g^(1 - rate) (p_g + p_data)^rate / Z: at rate
    1 the mean of p_g and p_data. The step is taken in the geometry of relative entropy (Nemirovski
    and Yudin 1983), in which a distribution comes again; up to rate 1 C never rises, since there
    ∂²C/∂p_g² <= 1 / p_g, the curvature of the entropy.

    Raises:
        UsageError: the rate is not above 0 and at most 1.
    """
    if not 0 < rate <= 1:
        raise UsageError(f"the rate is {rate:g}; expected a number above 0 and at most 1")
    moved = p_g ** (1 - rate) * (p_g + p_data) ** rate
    return moved / moved.sum(-1, keepdim=True)


OPTIMUM = -math.log(4)
"""C(G) where p_g = p_data: -log 4 = -1.386… nats."""


def _times(p: Tensor, logarithm: Tensor) -> Tensor:
    """Give p(x) log(…), which is 0 where p(x) is, whatever the logarithm."""
    return torch.where(p == 0, 0.0, p * logarithm)


def _check(*distributions: Tensor) -> None:
    """Refuse what is no distribution."""
    for p in distributions:
        sums = p.sum(-1)
        if not bool(((sums - 1).abs() <= _SUM).all()) or bool((p < 0).any()):
            raise UsageError(
                f"probabilities from {float(p.min()):g} sum to {float(sums.flatten()[0]):g}; "
                "expected numbers that are not negative and sum to 1: divide by their sum"
            )
