"""Pixels as features."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from advnets.extractors.base import of_shape


@dataclass(frozen=True)
class Pixels:
    """The pixels themselves."""

    name: str = "pixels"
    digest: str = ""

    def features(
        self, pixels: Float[Tensor, "n channels height width"]
    ) -> Float[Tensor, "n features"]:
        """One row for each picture."""
        return of_shape(self.name, pixels).flatten(1)
