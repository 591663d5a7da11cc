"""Samples of a mixture whose modes are known: how many are found, how well, how evenly."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from advnets.errors import UsageError
from advnets.metrics.distance import nearest
from advnets.metrics.histogram_divergence import histogram_divergence
from advnets.metrics.validation import check_features

SHELLS = (1.0, 2.0, 3.0)
"""Radii, in deviations of a mode, that part the points about it into bins; the last is outside."""
_REACH = SHELLS[-1]
_SIGNED = 2
_BLOCK = 1000
_CANDIDATES, _NEGLIGIBLE = 9, 1e-12
"""Modes that a sample may be of, the nearest ones, and the probability below which one is not."""
_BY_DIFFERENCES = "donot_use_mm_for_euclid_dist"  # products cancel where modes are far and tight


@dataclass(frozen=True)
class MixtureQuality:
    """Modes seen, quality, shares, spreads and divergences, with all that they hang on."""

    modes_found: int
    """Modes of at least one sample of high quality."""
    modes: int
    high_quality: float
    """Share of samples within 3 σ of a mode; 1 - e^-4.5 = 0.989 in a plane if p_g = p_data.

    A little more where modes are within 6 σ of each other: 0.992 in a grid of such.
    """
    proportions: tuple[float, ...]
    """Of each mode: its share of the samples of high quality over its weight."""
    relative_std: tuple[float | None, ...]
    """Of each mode: standard deviation about their mean of its samples of high quality, over that
    of the true ones within 3 σ; 1 if p_g = p_data. None of fewer than 2 samples."""
    roundness: tuple[float | None, ...]
    """Of each mode: the least deviation along any axis over the largest; 1 if p_g = p_data. None of
    fewer samples than dimensions and one."""
    kl: float
    """KL(samples ‖ p_data) in nats over the bins of each mode, a plug-in estimate that is too large
    in the mean (`binned_divergence`)."""
    jsd: float
    """The Jensen-Shannon divergence over the same bins, from 0 to log 2."""
    bins: int
    """Those about each mode that divergences are of; in all `modes` times as many."""
    n: int
    """Samples."""
    kl_error: float | None
    """Standard error of `kl` over draws of the samples, to first order …"""
    jsd_error: float | None
    """… and of `jsd`."""


def mixture_quality(
    samples: Float[Tensor, "n d"],
    centers: Float[Tensor, "modes _"],
    deviation: float | Float[Tensor, " modes"],
    weights: Float[Tensor, " modes"] | None = None,
) -> MixtureQuality:
    """Compare samples with a mixture of round normal distributions, Σ_k w_k N(c_k, σ_k² I).

    The mixture is even unless `weights` are given; `deviation` is of all modes or of each. A sample
    is of the mode whose center is nearest in units of σ, of high quality within 3 σ of it, as
    Srivastava et al. 2017 (“VEEGAN”, section 4.1) and Lin et al. 2018 (“PacGAN”, section 4) count,
    whose mixtures are even and whose modes are alike. Divergences are of the shares in bins about
    each mode: shells that end at 1, 2 and 3 σ, parted by the signs of the first numbers, two at
    most, 16 in a plane; true shares are those of the chi-squared distribution. For divergences a
    sample counts for each mode k by its probability p(k | x) under the mixture, so that true shares
    are exact where tails of a mode reach another one. A perfect generator of K modes has about
    (K bins - 1) / 2n nats of KL divergence, a little less where modes touch and never 0, and a
    quarter of that of Jensen-Shannon divergence.

    Raises:
        UsageError: a σ or weight is not positive; modes overlap, two being less than 3 σ of each
            apart; or there are not as many of these as centers.
        DataError: there are no samples or centers, dimensions differ, or numbers are not finite.
    """
    samples, centers = check_features(1, samples=samples, centers=centers)
    samples, centers = samples.double().cpu(), centers.double().cpu()  # sums over few numbers
    count = len(centers)
    sigma = _per_mode("deviations", deviation, count)
    weight = _per_mode("weights", 1.0 if weights is None else weights, count)
    weight = weight / weight.sum()
    check_separated(centers, sigma)
    modes, probabilities = _candidates(samples, centers, sigma, weight)
    mode = modes[:, 0]
    # By differences: of modes far tighter than they lie apart products tell too little.
    radius = (samples - centers[mode]).norm(dim=1) / sigma[mode]
    good = radius <= _REACH
    counts = torch.bincount(mode[good], minlength=count)
    which, place = (probabilities > _NEGLIGIBLE).nonzero(as_tuple=True)
    about = modes[which, place]
    gaps = samples[which] - centers[about]
    bins, masses = _bins(gaps[:, :_SIGNED], gaps.norm(dim=1) / sigma[about], samples.shape[1])
    true = (weight[:, None] * masses).flatten()
    found = torch.zeros_like(true)
    found.index_add_(0, about * len(masses) + bins, probabilities[which, place])
    divergence = histogram_divergence(found, true)
    expected = counts.sum().clamp(min=1) * weight
    spreads, roundness = _mode_shapes(samples[good], mode[good], counts, sigma)
    return MixtureQuality(
        modes_found=int((counts > 0).sum()),
        modes=count,
        high_quality=float(good.double().mean()),
        proportions=tuple((counts / expected).tolist()),
        relative_std=spreads,
        roundness=roundness,
        kl=divergence.kl,
        jsd=divergence.jsd,
        bins=len(masses),
        n=len(samples),
        kl_error=divergence.kl_error,
        jsd_error=divergence.jsd_error,
    )


def _per_mode(what: str, told: float | Tensor, count: int) -> Float64[Tensor, " modes"]:
    """A number for each mode."""
    each = torch.as_tensor(told, dtype=torch.float64, device="cpu").flatten()
    if len(each) not in (1, count) or not ((each > 0) & each.isfinite()).all():
        some = ", ".join(f"{value:g}" for value in each[:3].tolist())
        raise UsageError(
            f"{len(each)} {what} of modes came ({some}); give a positive number for each of the "
            f"{count} modes, or one for all"
        )
    return each.expand(count)


def check_separated(centers: Float64[Tensor, "modes d"], sigma: Float64[Tensor, " modes"]) -> None:
    """See that the modes of a mixture can be told from each other.

    Raises:
        UsageError: two are less than 3 σ of each apart.
    """
    for rows in torch.arange(len(centers)).split(_BLOCK):
        apart = torch.cdist(centers[rows], centers, compute_mode=_BY_DIFFERENCES)
        apart[torch.arange(len(rows)), rows] = torch.inf
        reach = _REACH * (sigma[rows, None] + sigma)
        worst = int((apart / reach).argmin())
        i, j = int(rows[worst // len(centers)]), worst % len(centers)
        found, least = float(apart.flatten()[worst]), float(reach.flatten()[worst])
        if found < least * (1 - 1e-9):  # not by the rounding of either
            raise UsageError(
                f"two centers are {found:g} apart with deviations of {sigma[i]:g} and "
                f"{sigma[j]:g}, so that their modes overlap; give modes at least {least:g} apart, "
                "or ask for their divergence alone"
            )


def _candidates(
    samples: Float64[Tensor, "n d"],
    centers: Float64[Tensor, "modes d"],
    sigma: Float64[Tensor, " modes"],
    weight: Float64[Tensor, " modes"],
) -> tuple[Int64[Tensor, "n few"], Float64[Tensor, "n few"]]:
    """Return the modes nearest to each sample, in units of their deviations, and p(mode | sample).

    Nearest first. p(k | x) is w_k N(x; c_k, σ_k² I) over its sum over these modes.
    """
    few = min(len(centers), _CANDIDATES)
    if (sigma == sigma[0]).all():
        distance, modes = nearest(samples, centers, few)
        radius = distance / sigma[0]
    else:
        found = [
            (torch.cdist(some, centers, compute_mode=_BY_DIFFERENCES) / sigma).topk(
                few, largest=False
            )
            for some in samples.split(_BLOCK)
        ]
        radius, modes = (torch.cat(parts) for parts in zip(*found, strict=True))
    log_density = weight.log() - samples.shape[1] * sigma.log()
    return modes, (log_density[modes] - radius.square() / 2).softmax(1)


def _shell_masses(dims: int) -> Float64[Tensor, " bins"]:
    """Probability of each shell about a mode: (r / σ)² is chi-squared, P(r <= R) = P(d/2, R²/2)."""
    squares = torch.tensor((0.0, *SHELLS, math.inf), dtype=torch.float64).square() / 2
    return torch.special.gammainc(torch.full_like(squares, dims / 2), squares).diff()


def _bins(
    signed: Float64[Tensor, "n few"], radius: Float64[Tensor, " n"], dims: int
) -> tuple[Int64[Tensor, " n"], Float64[Tensor, " bins"]]:
    """The bin of each sample about its center, and the probability of each bin."""
    parts = 2 ** signed.shape[1]
    shell = torch.bucketize(radius, torch.tensor(SHELLS, dtype=torch.float64))
    side = (signed > 0).long() @ 2 ** torch.arange(signed.shape[1])
    return shell * parts + side, _shell_masses(dims).repeat_interleave(parts) / parts


def _mode_shapes(
    samples: Float64[Tensor, "n d"],
    mode: Int64[Tensor, " n"],
    counts: Int64[Tensor, " modes"],
    sigma: Float64[Tensor, " modes"],
) -> tuple[tuple[float | None, ...], tuple[float | None, ...]]:
    """Spread and roundness of each mode, by the covariance of what lies in it."""
    dims = samples.shape[1]
    sums = samples.new_zeros(len(counts), dims).index_add_(0, mode, samples)
    gaps = samples - (sums / counts.clamp(min=1)[:, None])[mode]
    products = gaps[:, :, None] * gaps[:, None]
    scatter = samples.new_zeros(len(counts), dims, dims).index_add_(0, mode, products)
    variances = torch.linalg.eigvalsh(scatter / (counts - 1).clamp(min=1)[:, None, None])
    variances = variances.clamp(min=0)
    # Within R of the center the variance is σ² P(d/2 + 1, R²/2) / P(d/2, R²/2) on each axis.
    half = torch.tensor((dims / 2 + 1, dims / 2), dtype=torch.float64)
    cut = torch.special.gammainc(half, torch.full_like(half, _REACH**2 / 2))
    true = sigma.square() * cut[0] / cut[1]
    spreads = (variances.mean(1) / true).sqrt()
    roundness = (variances[:, 0] / variances[:, -1]).sqrt()
    return _known(spreads, counts > 1), _known(roundness, counts > dims)


def _known(
    values: Float64[Tensor, " modes"], whether: Bool[Tensor, " modes"]
) -> tuple[float | None, ...]:
    pairs = zip(values.tolist(), whether.tolist(), strict=True)
    return tuple(value if known and value == value else None for value, known in pairs)
