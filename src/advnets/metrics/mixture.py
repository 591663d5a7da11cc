"""Mixtures with known modes: modes found, sample quality, proportions and divergences."""

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
"""Radii, in standard deviations of a mode, between the bins around it; the last bin is outside."""
_MAX_RADIUS = SHELLS[-1]
_SIGNED_DIMS = 2
_BLOCK = 1000
_CANDIDATES, _NEGLIGIBLE = 9, 1e-12
"""Number of nearest modes that a sample may belong to, and the smallest probability of one."""
_BY_DIFFERENCES = (
    "donot_use_mm_for_euclid_dist"  # products cancel for narrow modes that are far apart
)


@dataclass(frozen=True)
class MixtureQuality:
    """Modes, sample quality, proportions, widths and divergences, with their settings."""

    modes_found: int
    """Number of modes with at least one high-quality sample."""
    modes: int
    high_quality: float
    """Fraction of samples within 3 σ of a mode; 1 - e^-4.5 = 0.989 in a plane if p_g = p_data.

    Slightly more if modes are within 6 σ of each other, such as 0.992 in a grid.
    """
    proportions: tuple[float, ...]
    """For each mode, its fraction of the high-quality samples divided by its weight."""
    relative_std: tuple[float | None, ...]
    """For each mode, the standard deviation of its high-quality samples about their mean, divided
    by that of the true distribution within 3 σ; 1 if p_g = p_data. None for under 2 samples."""
    roundness: tuple[float | None, ...]
    """For each mode, the smallest standard deviation along any axis divided by the largest; 1 if
    p_g = p_data. None unless there are more samples than dimensions."""
    kl: float
    """KL(samples ‖ p_data) in nats over the bins of each mode, a plug-in estimate that is biased
    upward (`histogram_divergence`)."""
    jsd: float
    """The Jensen-Shannon divergence over the same bins, from 0 to log 2."""
    bins: int
    """Number of bins around each mode; `modes` times as many in all."""
    n: int
    """Number of samples."""
    kl_error: float | None
    """Standard error of `kl` over draws of the samples, to first order."""
    jsd_error: float | None
    """Standard error of `jsd`, likewise."""


def mixture_quality(
    samples: Float[Tensor, "n d"],
    centers: Float[Tensor, "modes _"],
    deviation: float | Float[Tensor, " modes"],
    weights: Float[Tensor, " modes"] | None = None,
) -> MixtureQuality:
    """Compare samples with a mixture of isotropic normal distributions, Σ_k w_k N(c_k, σ_k² I).

    `weights` are uniform by default; `deviation` is one σ for all modes or one for each. A sample
    belongs to the mode whose center is nearest in units of σ, and has high quality within 3 σ of
    it, as in Srivastava et al. 2017 (“VEEGAN”, section 4.1) and Lin et al. 2018 (“PacGAN”,
    section 4), whose mixtures have equal weights and equal σ. Divergences are computed over bins
    around each mode: shells that end at 1, 2 and 3 σ, divided by the signs of the first two
    coordinates, 16 bins in a plane; the true probabilities are those of the chi-squared
    distribution. For divergences a sample counts for each mode k with its probability p(k | x)
    under the mixture, so that the true probabilities are exact even if modes overlap. A perfect
    generator of K modes has a KL divergence of about (K bins - 1) / 2n nats, slightly less if
    modes overlap but never 0, and a Jensen-Shannon divergence of a quarter of that.

    Args:
        samples: points, (n, d).
        centers: the means c_k, (modes, d).
        deviation: σ of all modes, or of each.
        weights: probability of each mode; None: equal ones.

    Raises:
        UsageError: a σ or weight is not positive; two modes overlap, with centers closer than 3 σ
            of each; or the numbers of these and of the centers differ.
        DataError: there are no samples or centers, dimensions differ, or numbers are not finite.
    """
    samples, centers = check_features(1, samples=samples, centers=centers)
    samples, centers = samples.double().cpu(), centers.double().cpu()
    count = len(centers)
    sigma = _per_mode("deviations", deviation, count)
    weight = _per_mode("weights", 1.0 if weights is None else weights, count)
    weight = weight / weight.sum()
    check_separated(centers, sigma)
    modes, probabilities = _candidates(samples, centers, sigma, weight)
    mode = modes[:, 0]
    # By differences, since products cancel for narrow modes that are far apart.
    radius = (samples - centers[mode]).norm(dim=1) / sigma[mode]
    is_good = radius <= _MAX_RADIUS
    counts = torch.bincount(mode[is_good], minlength=count)
    which, rank = (probabilities > _NEGLIGIBLE).nonzero(as_tuple=True)
    near_mode = modes[which, rank]
    offsets = samples[which] - centers[near_mode]
    bins, masses = _bins(
        offsets[:, :_SIGNED_DIMS], offsets.norm(dim=1) / sigma[near_mode], samples.shape[1]
    )
    true = (weight[:, None] * masses).flatten()
    observed = torch.zeros_like(true)
    observed.index_add_(0, near_mode * len(masses) + bins, probabilities[which, rank])
    divergence = histogram_divergence(observed, true)
    expected = counts.sum().clamp(min=1) * weight
    relative_std, roundness = _mode_shapes(samples[is_good], mode[is_good], counts, sigma)
    return MixtureQuality(
        modes_found=int((counts > 0).sum()),
        modes=count,
        high_quality=float(is_good.double().mean()),
        proportions=tuple((counts / expected).tolist()),
        relative_std=relative_std,
        roundness=roundness,
        kl=divergence.kl,
        jsd=divergence.jsd,
        bins=len(masses),
        n=len(samples),
        kl_error=divergence.kl_error,
        jsd_error=divergence.jsd_error,
    )


def _per_mode(what: str, values: float | Tensor, count: int) -> Float64[Tensor, " modes"]:
    """Return one value for each mode."""
    per_mode = torch.as_tensor(values, dtype=torch.float64, device="cpu").flatten()
    if len(per_mode) not in (1, count) or not ((per_mode > 0) & per_mode.isfinite()).all():
        shown = ", ".join(f"{value:g}" for value in per_mode[:3].tolist())
        raise UsageError(
            f"expected a positive number for each of the {count} modes, or one for all, as {what} "
            f"of modes, got {len(per_mode)} ({shown})"
        )
    return per_mode.expand(count)


def check_separated(centers: Float64[Tensor, "modes d"], sigma: Float64[Tensor, " modes"]) -> None:
    """Check that the modes of a mixture do not overlap.

    Raises:
        UsageError: two centers are closer than 3 σ of each.
    """
    for rows in torch.arange(len(centers)).split(_BLOCK):
        distances = torch.cdist(centers[rows], centers, compute_mode=_BY_DIFFERENCES)
        distances[torch.arange(len(rows)), rows] = torch.inf
        min_distance = _MAX_RADIUS * (sigma[rows, None] + sigma)
        closest = int((distances / min_distance).argmin())
        i, j = int(rows[closest // len(centers)]), closest % len(centers)
        distance, required = (
            float(distances.flatten()[closest]),
            float(min_distance.flatten()[closest]),
        )
        if distance < required * (1 - 1e-9):  # by more than rounding
            raise UsageError(
                f"two centers are {distance:g} apart and have standard deviations {sigma[i]:g} and "
                f"{sigma[j]:g}, so their modes overlap; use modes at least {required:g} apart, or "
                "the metric kl-jsd"
            )


def _candidates(
    samples: Float64[Tensor, "n d"],
    centers: Float64[Tensor, "modes d"],
    sigma: Float64[Tensor, " modes"],
    weight: Float64[Tensor, " modes"],
) -> tuple[Int64[Tensor, "n few"], Float64[Tensor, "n few"]]:
    """Return the nearest modes of each sample, in units of their σ, and p(mode | sample).

    The nearest mode is first. p(k | x) is w_k N(x; c_k, σ_k² I) over its sum over these modes.
    """
    few = min(len(centers), _CANDIDATES)
    if (sigma == sigma[0]).all():
        distance, modes = nearest(samples, centers, few)
        radius = distance / sigma[0]
    else:
        nearest_modes = [
            (torch.cdist(block, centers, compute_mode=_BY_DIFFERENCES) / sigma).topk(
                few, largest=False
            )
            for block in samples.split(_BLOCK)
        ]
        radius, modes = (torch.cat(parts) for parts in zip(*nearest_modes, strict=True))
    log_density = weight.log() - samples.shape[1] * sigma.log()
    return modes, (log_density[modes] - radius.square() / 2).softmax(1)


def _shell_masses(dims: int) -> Float64[Tensor, " bins"]:
    """Return the probability of each shell: (r / σ)² is chi-squared, P(r <= R) = P(d/2, R²/2)."""
    squares = torch.tensor((0.0, *SHELLS, math.inf), dtype=torch.float64).square() / 2
    return torch.special.gammainc(torch.full_like(squares, dims / 2), squares).diff()


def _bins(
    signed: Float64[Tensor, "n few"], radius: Float64[Tensor, " n"], dims: int
) -> tuple[Int64[Tensor, " n"], Float64[Tensor, " bins"]]:
    """Return the bin of each sample around its center, and the probability of each bin."""
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
    """Return relative standard deviation and roundness of each mode, by its samples' covariance."""
    dims = samples.shape[1]
    sums = samples.new_zeros(len(counts), dims).index_add_(0, mode, samples)
    offsets = samples - (sums / counts.clamp(min=1)[:, None])[mode]
    products = offsets[:, :, None] * offsets[:, None]
    scatter = samples.new_zeros(len(counts), dims, dims).index_add_(0, mode, products)
    variances = torch.linalg.eigvalsh(scatter / (counts - 1).clamp(min=1)[:, None, None])
    variances = variances.clamp(min=0)
    # Within R of the center the variance is σ² P(d/2 + 1, R²/2) / P(d/2, R²/2) on each axis.
    half = torch.tensor((dims / 2 + 1, dims / 2), dtype=torch.float64)
    cut = torch.special.gammainc(half, torch.full_like(half, _MAX_RADIUS**2 / 2))
    true = sigma.square() * cut[0] / cut[1]
    relative_std = (variances.mean(1) / true).sqrt()
    roundness = (variances[:, 0] / variances[:, -1]).sqrt()
    return _known(relative_std, counts > 1), _known(roundness, counts > dims)


def _known(
    values: Float64[Tensor, " modes"], is_known: Bool[Tensor, " modes"]
) -> tuple[float | None, ...]:
    pairs = zip(values.tolist(), is_known.tolist(), strict=True)
    return tuple(value if known and value == value else None for value, known in pairs)
