"""Draw samples from a trained generator, at random or selected by its discriminator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from advnets.lazy import set_attributes

if TYPE_CHECKING:
    from advnets.sampling.rejection import DiscriminatorRejection, sample_with_rejection
    from advnets.sampling.sampler import ComputeSettings, draw_samples, real_images, sample_blocks

__all__ = [
    "ComputeSettings",
    "DiscriminatorRejection",
    "draw_samples",
    "real_images",
    "sample_blocks",
    "sample_with_rejection",
]

set_attributes(
    __name__,
    {
        "ComputeSettings": "advnets.sampling.sampler",
        "DiscriminatorRejection": "advnets.sampling.rejection",
        "draw_samples": "advnets.sampling.sampler",
        "real_images": "advnets.sampling.sampler",
        "sample_blocks": "advnets.sampling.sampler",
        "sample_with_rejection": "advnets.sampling.rejection",
    },
)
