"""Divergences of samples from a known distribution, over bins whose probabilities are exact."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Num
from torch import Tensor

from advnets.errors import DataError, UsageError

_ROUNDING = 1e-6


@dataclass(frozen=True)
class HistogramDivergence:
    """Divergences in nats, with all that they hang on."""

    kl: float
    """KL(samples ‖ p_data) over the bins, estimated by the shares of the samples: infinite where
    samples lie in a bin that has no probability. The divergence over bins is at most that of the
    distributions, but the estimate is above it by about (bins - 1) / 2n in the mean."""
    jsd: float
    """The Jensen-Shannon divergence over the bins, from 0 to log 2, estimated in the same way; the
    estimate is too large by about (bins - 1) / 8n in the mean where both are alike."""
    bins: int
    """Those that have a probability."""
    n: int
    """Samples."""
    kl_error: float | None
    """Standard error of `kl` over draws of the samples, to first order …"""
    jsd_error: float | None
    """… and of `jsd`."""


def histogram_divergence(
    counts: Num[Tensor, " counts"], masses: Float[Tensor, " masses"]
) -> HistogramDivergence:
    """KL(p ‖ q) = Σ_b p_b log (p_b / q_b) and JSD = ½ KL(p ‖ m) + ½ KL(q ‖ m), m = (p + q) / 2.

    p are the shares of samples in each bin, by their `counts`, to which a sample may add a part in
    each of several bins, and q its probability, one of the
    `masses`. Both are plug-in estimates, which are too large in the mean: samples of q itself have
    about (bins - 1) / 2n nats by the first and (bins - 1) / 8n by the second, not 0.
    Source of the second: Goodfellow et al. 2014, theorem 1.

    Raises:
        UsageError: masses are not as many as counts, one is negative, or their sum is not 1.
        DataError: a count is negative, or there are none.
    """
    if counts.shape != masses.shape:
        raise UsageError(f"{len(counts)} counts and {len(masses)} masses; give one for each bin")
    q = masses.double().cpu()
    if not (q >= 0).all() or abs(float(q.sum()) - 1) > _ROUNDING:
        raise UsageError(
            f"masses of bins are {float(q.min()):g} and more and sum to {float(q.sum()):g}; give "
            "the probability of each bin, of all bins there are"
        )
    counts = counts.double().cpu()
    n = round(float(counts.sum()))
    if n < 1 or counts.min() < 0:
        raise DataError(f"{n} samples came, in bins of {counts.min():g} and more; count some")
    p = counts / counts.sum()
    m = (p + q) / 2
    return HistogramDivergence(
        kl=relative_entropy(p, q),
        jsd=(relative_entropy(p, m) + relative_entropy(q, m)) / 2,
        bins=int((q > 0).sum()),
        n=n,
        kl_error=divergence_standard_error(p, (p / q).log(), n),
        jsd_error=divergence_standard_error(p, (p / m).log() / 2, n),
    )


def relative_entropy(p: Float64[Tensor, "*cells"], q: Float64[Tensor, "*cells"]) -> float:
    """KL(p ‖ q) = Σ p log p - p log q, in nats, 0 log 0 = 0; infinite where p has mass and q none.

    Rounding does not take it below 0.
    """
    return max(float((torch.xlogy(p, p) - torch.xlogy(p, q)).sum()), 0.0)


def divergence_standard_error(
    p: Float64[Tensor, " cells"], slope: Float64[Tensor, " cells"], n: int
) -> float | None:
    """Standard deviation of a divergence over draws of n samples of p, to first order.

    That of the `slope`, by which a sample more of cell k moves it, over the samples, over √n: of
    KL(p ‖ q) it is log p_k / q_k, of the Jensen-Shannon divergence ½ log p_k / m_k.
    """
    seen = p > 0
    p, slope = p[seen], slope[seen]
    variance = (p * slope.square()).sum() - (p * slope).sum().square()
    return math.sqrt(max(float(variance), 0.0) / n) if variance.isfinite() else None
