"""Mode coverage: the number of modes found, and divergences of their proportions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int, Int64
from torch import Tensor

from advnets.errors import DataError, UsageError
from advnets.metrics.histogram_divergence import divergence_standard_error, relative_entropy


@dataclass(frozen=True)
class ModeCoverage:
    """The number of modes found and KL divergences in nats, with the settings they depend on."""

    modes_found: int
    """Number of modes with at least one sample."""
    modes: int
    kl_uniform: float
    """KL(generated ‖ uniform)."""
    kl_reference: float | None
    """KL(generated ‖ real), infinite if samples have a mode that no real image has."""
    n: int
    """Number of samples."""
    kl_uniform_error: float | None = None
    """Standard error of `kl_uniform` over draws of the samples, to first order."""
    kl_reference_error: float | None = None


def mode_coverage(
    labels: Int[Tensor, " n"], modes: int, *, reference: Int[Tensor, " m"] | None = None
) -> ModeCoverage:
    """Return the modes found, and KL(p ‖ q) = Σ_k p_k log (p_k / q_k) of their proportions p.

    q is uniform, or the proportions of real images, whose modes are `reference`. Published numbers
    use either, so state which. A perfect generator has about (modes - 1) / 2n nats, not 0.
    Sources: Metz et al. 2017, “Unrolled generative adversarial networks”, section 3.3.1; Lin et al.
    2018, “PacGAN”, section 4.

    Args:
        labels: mode of each sample, from 0 to modes - 1.
        modes: number of modes.
        reference: mode of each real image; None: q is uniform.

    Raises:
        UsageError: there is no mode.
        DataError: labels are not a vector of integers from 0 to modes - 1, or there are none.
    """
    if modes < 1:
        raise UsageError(f"the number of modes is {modes}; expected at least 1")
    generated = _mode_proportions("samples", labels, modes)
    real = None if reference is None else _mode_proportions("real images", reference, modes)
    uniform = torch.full_like(generated, 1 / modes)
    return ModeCoverage(
        modes_found=int((generated > 0).sum()),
        modes=modes,
        kl_uniform=relative_entropy(generated, uniform),
        kl_reference=None if real is None else relative_entropy(generated, real),
        n=len(labels),
        kl_uniform_error=divergence_standard_error(
            generated, (generated / uniform).log(), len(labels)
        ),
        kl_reference_error=(
            None
            if real is None
            else divergence_standard_error(generated, (generated / real).log(), len(labels))
        ),
    )


def _mode_proportions(
    what: str, labels: Int[Tensor, " n"], modes: int
) -> Float64[Tensor, " modes"]:
    if labels.ndim != 1 or not len(labels) or labels.is_floating_point():
        raise DataError(
            f"modes of {what} are {labels.dtype} of shape {tuple(labels.shape)}; expected a "
            "vector of integers, one for each image and at least one"
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= modes:
        raise DataError(
            f"modes of {what} are {low} to {high}; expected 0 to {modes - 1}: name all modes"
        )
    counts: Int64[Tensor, " modes"] = torch.bincount(labels.cpu().long(), minlength=modes)
    return counts.double() / len(labels)
