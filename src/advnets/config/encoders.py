"""The options of encoders."""

from __future__ import annotations

from dataclasses import dataclass

from advnets.config.models import Activation
from advnets.config.validation import ValidatedConfig, check_sizes


@dataclass(frozen=True)
class MLPEncoder(ValidatedConfig):
    """Fully connected encoder: maps an image to a diagonal normal distribution of z."""

    hidden_sizes: tuple[int, ...] = (1200, 1200)
    """Number of units of each hidden layer."""
    activation: Activation = "relu"
    """Activation function of the hidden layers."""
    batch_norm: bool = False
    """Apply batch normalization before each hidden activation."""
    deterministic: bool = False
    """Encode an image to a single point, the mean, instead of a distribution."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, "hidden_sizes")
