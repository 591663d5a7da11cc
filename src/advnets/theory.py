"""The theory of the paper for discrete distributions: D*, C(G), divergences, and descent on p_g.

A distribution is a tensor whose last axis holds probabilities that sum to 1, over a finite set or
the bins of a density. All values are in nats. Use float64 to check the paper's proofs.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from advnets.errors import UsageError
from advnets.lazy import set_attributes

__all__ = [
    "OPTIMUM",
    "descend",
    "jensen_shannon",
    "kullback_leibler",
    "optimal_discriminator",
    "subgradient",
    "value_at",
    "virtual_criterion",
]

set_attributes(__name__)

_SUM_TOLERANCE = 1e-6
"""Largest accepted difference of the sum of probabilities from 1."""

Probabilities = Float[Tensor, "*batch n"]
"""Probabilities of n values, for each distribution of a batch."""
Values = Float[Tensor, "*batch"]
"""One number for each distribution of a batch, in nats."""


def optimal_discriminator(p_data: Probabilities, p_g: Probabilities) -> Probabilities:
    """Return D*(x) = p_data(x) / (p_data(x) + p_g(x)), the optimal D for a fixed G.

    The arguments can also be densities. Where both are 0 the result is NaN: any D is optimal there.
    Source: Goodfellow et al. 2014, proposition 1, equation 2.

    Args:
        p_data: probabilities or densities of p_data, (…, n).
        p_g: the same of p_g.

    Example:
        >>> p_data, p_g = torch.tensor([0.75, 0.25]), torch.tensor([0.25, 0.75])
        >>> advnets.theory.optimal_discriminator(p_data, p_g)
        tensor([0.7500, 0.2500])
    """
    return p_data / (p_data + p_g)


def value_at(p_data: Probabilities, p_g: Probabilities, discriminator: Probabilities) -> Values:
    """Return V(D, G) = Σ p_data(x) log D(x) + p_g(x) log(1 - D(x)), with 0 log 0 = 0.

    Source: Goodfellow et al. 2014, equation 3.

    Args:
        p_data: probabilities of p_data, (…, n).
        p_g: probabilities of p_g, (…, n).
        discriminator: D(x) from 0 to 1, (…, n).

    Raises:
        UsageError: `p_data` or `p_g` is not a distribution.
    """
    _check(p_data, p_g)
    real, fake = (
        _times_log(p_data, discriminator.log()),
        _times_log(p_g, torch.log1p(-discriminator)),
    )
    return (real + fake).sum(-1)


def virtual_criterion(p_data: Probabilities, p_g: Probabilities) -> Values:
    """Return C(G) = max_D V(D, G) = V(D*, G), which G descends when D is optimal.

    C(G) = -log 4 + 2 JSD(p_data, p_g), whose minimum is at p_g = p_data. It is computed as the
    value of D*, not by this identity.
    Source: Goodfellow et al. 2014, equation 4 and theorem 1.

    Args:
        p_data: probabilities of p_data, (…, n).
        p_g: probabilities of p_g, (…, n).

    Raises:
        UsageError: an argument is not a distribution.
    """
    _check(p_data, p_g)
    # Compute 1 - D* as p_g / (p_data + p_g), as a subtraction from 1 could round to 0.
    real, fake = ((p / (p_data + p_g)).log() for p in (p_data, p_g))
    return (_times_log(p_data, real) + _times_log(p_g, fake)).sum(-1)


def kullback_leibler(p: Probabilities, q: Probabilities) -> Values:
    """Return KL(p ‖ q) = Σ p(x) log(p(x) / q(x)), which is infinite if q is 0 where p is not.

    Args:
        p: probabilities, (…, n).
        q: probabilities, (…, n).

    Raises:
        UsageError: an argument is not a distribution.
    """
    _check(p, q)
    return _times_log(p, (p / q).log()).sum(-1)


def jensen_shannon(p: Probabilities, q: Probabilities) -> Values:
    """Return JSD(p, q) = ½ KL(p ‖ m) + ½ KL(q ‖ m) with m = (p + q) / 2, from 0 to log 2.

    Source: Goodfellow et al. 2014, equation 6.

    Args:
        p: probabilities, (…, n).
        q: probabilities, (…, n).

    Raises:
        UsageError: an argument is not a distribution.

    Example:
        >>> p, q = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
        >>> advnets.theory.jensen_shannon(p, q)  # log 2
        tensor(0.6931)
    """
    m = (p + q) / 2
    return 0.5 * (kullback_leibler(p, m) + kullback_leibler(q, m))


def subgradient(p_data: Probabilities, p_g: Probabilities) -> Probabilities:
    """Return ∂C / ∂p_g(x) = log(1 - D*(x)), a subgradient of C at p_g.

    V(D, ·) is linear in p_g for every D, so that their supremum C is convex; the gradient of the
    function that attains it, V(D*, ·), is a subgradient.
    Source: Goodfellow et al. 2014, proposition 2.

    Args:
        p_data: probabilities of p_data, (…, n).
        p_g: probabilities of p_g, (…, n).
    """
    return (p_g / (p_data + p_g)).log()


def descend(p_data: Probabilities, p_g: Probabilities, rate: float) -> Probabilities:
    """Return p_g exp(-rate ∂C/∂p_g) / Z: a step of mirror descent on p_g, with D optimal.

    exp(-∂C/∂p_g) = (p_g + p_data) / p_g, so that p_g <- p_g^(1 - rate) (p_g + p_data)^rate / Z; at
    rate 1 this is the mean of p_g and p_data. The mirror map is the entropy (Nemirovski and Yudin
    1983), so that the result is a distribution. Up to rate 1, C never increases, as ∂²C/∂p_g² <=
    1 / p_g, the curvature of the entropy.

    Args:
        p_data: probabilities of p_data, (…, n).
        p_g: probabilities of p_g, (…, n).
        rate: step size, above 0 and at most 1.

    Raises:
        UsageError: the rate is not in (0, 1].
    """
    if not 0 < rate <= 1:
        raise UsageError(f"the rate is {rate:g}; expected a number above 0 and at most 1")
    moved = p_g ** (1 - rate) * (p_g + p_data) ** rate
    return moved / moved.sum(-1, keepdim=True)


OPTIMUM = -math.log(4)
"""The minimum of C(G), at p_g = p_data: -log 4 = -1.386… nats."""


def _times_log(p: Tensor, logarithm: Tensor) -> Tensor:
    """Return p times a logarithm, and 0 where p is 0."""
    return torch.where(p == 0, 0.0, p * logarithm)


def _check(*distributions: Tensor) -> None:
    """Refuse tensors that are not distributions.

    Raises:
        UsageError: probabilities are negative or do not sum to 1.
    """
    for p in distributions:
        sums = p.sum(-1)
        if not bool(((sums - 1).abs() <= _SUM_TOLERANCE).all()) or bool((p < 0).any()):
            raise UsageError(
                f"expected non-negative probabilities that sum to 1, got a minimum of "
                f"{float(p.min()):g} and a sum of {float(sums.flatten()[0]):g}; divide by the sum"
            )
