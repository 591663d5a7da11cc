"""What encoders can be told."""

from __future__ import annotations

from dataclasses import dataclass

from advnets.config.models import Activation
from advnets.config.validation import Checked, sizes


@dataclass(frozen=True)
class MLPEncoder(Checked):
    """Fully connected encoder: from a picture to a normal distribution of z, diagonal."""

    hidden: tuple[int, ...] = (1200, 1200)
    """Units of each hidden layer."""
    activation: Activation = "relu"
    """What each hidden layer applies."""
    batch_norm: bool = False
    """Batch normalisation before each hidden activation."""
    deterministic: bool = False
    """E(x) is a point: only the mean of the distribution is used."""

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes(self, "hidden")
