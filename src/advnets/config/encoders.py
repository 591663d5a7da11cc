"""What encoders can be told."""

from __future__ import annotations

from dataclasses import dataclass

from advnets.config.models import Activation
from advnets.config.validation import ValidatedConfig, sizes


@dataclass(frozen=True)
class MLPEncoder(ValidatedConfig):
    """Fully connected encoder: from an image to a normal distribution of z, diagonal."""

    hidden_sizes: tuple[int, ...] = (1200, 1200)
    """Units of each hidden layer."""
    activation: Activation = "relu"
    """What each hidden layer applies."""
    batch_norm: bool = False
    """Batch normalization before each hidden activation."""
    deterministic: bool = False
    """E(x) is a point: only the mean of the distribution is used."""

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes(self, "hidden_sizes")
