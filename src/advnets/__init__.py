"""Adversarial nets, exactly as published in 2014 and as far as they have come since.

    import advnets

    trained = advnets.train("digits", out="runs/mine", steps=2000)
    images = trained.sample(16, seed=1)     # (16, 1, 8, 8), pixels in [0, 1]
    advnets.load("runs/mine").evaluate()

Nothing heavy is imported until it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from advnets._version import __version__

if TYPE_CHECKING:
    from advnets.api import train
    from advnets.config import Config
    from advnets.errors import AdvnetsError
    from advnets.experiment.trained_model import TrainedModel, load

_HOMES = {
    "AdvnetsError": "advnets.errors",
    "Config": "advnets.config",
    "Trained": "advnets.experiment.trained_model",
    "load": "advnets.experiment.trained_model",
    "train": "advnets.api",
}

__all__ = ["AdvnetsError", "Config", "TrainedModel", "__version__", "load", "train"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
