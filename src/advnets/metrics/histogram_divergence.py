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
    """Divergences in nats, with the settings they depend on."""

    kl: float
    """KL(samples ‖ p_data) over the bins, estimated by the frequencies of samples; infinite if
    there are samples in a bin of probability 0. The divergence over bins is at most that of the
    distributions, but the estimate is biased upward by about (bins - 1) / 2n."""
    jsd: float
    """The Jensen-Shannon divergence over the bins, from 0 to log 2, estimated in the same way and
    biased upward by about (bins - 1) / 8n if both distributions are equal."""
    bins: int
    """Number of bins with a probability above 0."""
    n: int
    """Number of samples."""
    kl_error: float | None
    """Standard error of `kl` over draws of the samples, to first order."""
    jsd_error: float | None
    """Standard error of `jsd`, likewise."""


def histogram_divergence(
    counts: Num[Tensor, " counts"], masses: Float[Tensor, " masses"]
) -> HistogramDivergence:
    """Return the KL and Jensen-Shannon divergence of samples, counted in bins of known probability.

        KL(p ‖ q) = Σ_b p_b log (p_b / q_b),  JSD = ½ KL(p ‖ m) + ½ KL(q ‖ m),  m = (p + q) / 2

    p are the frequencies of samples in the bins, from their `counts` (a sample may be divided
    among several bins), and q the probabilities, `masses`. Both are plug-in estimates, which are
    biased upward: for samples of q itself they are about (bins - 1) / 2n and (bins - 1) / 8n nats.
    Source of the second: Goodfellow et al. 2014, theorem 1.

    Args:
        counts: number of samples in each bin, at least 0.
        masses: probability of each bin; their sum is 1.

    Raises:
        UsageError: the numbers of masses and counts differ, one is negative, or their sum is not 1.
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
    """Return KL(p ‖ q) = Σ p log p - p log q, in nats; infinite if p > 0 where q = 0.

    Negative values that result from rounding are set to 0.
    """
    return max(float((torch.xlogy(p, p) - torch.xlogy(p, q)).sum()), 0.0)


def divergence_standard_error(
    p: Float64[Tensor, " cells"], slope: Float64[Tensor, " cells"], n: int
) -> float | None:
    """Return the standard error of a divergence over draws of n samples of p, to first order.

    It is the standard deviation of `slope` over the samples, divided by √n. `slope` is the
    derivative of the divergence with respect to p_k: log p_k / q_k for KL(p ‖ q), and
    ½ log p_k / m_k for the Jensen-Shannon divergence.
    """
    seen = p > 0
    p, slope = p[seen], slope[seen]
    variance = (p * slope.square()).sum() - (p * slope).sum().square()
    return math.sqrt(max(float(variance), 0.0) / n) if variance.isfinite() else None
