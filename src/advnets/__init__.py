"""Generative adversarial networks (GANs): Goodfellow et al. 2014, and since.

    >>> import advnets
    >>> model = advnets.train("digits", steps=20, progress=False)  # writes runs/digits
    >>> model.sample(16, seed=1).shape  # pixels in [0, 1]
    torch.Size([16, 1, 8, 8])
    >>> records = advnets.load(model.run.path).evaluate("prdc", num_samples=300)

Subpackages and names are imported on first use (PEP 562), so that `import advnets` is fast and
imports neither torch nor matplotlib.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from advnets._version import __version__
from advnets.lazy import set_attributes

if TYPE_CHECKING:
    from advnets import (
        config,
        data,
        errors,
        evaluation,
        extractors,
        games,
        losses,
        metrics,
        models,
        presets,
        sampling,
        theory,
        visualize,
    )
    from advnets.api import Comparison, compare, evaluate, train
    from advnets.config import Config
    from advnets.errors import AdvnetsError
    from advnets.experiment.trained_model import TrainedModel, load
    from advnets.training.callback import Callback

_MODULE_OF = {
    "AdvnetsError": "advnets.errors",
    "Callback": "advnets.training.callback",
    "Comparison": "advnets.api",
    "Config": "advnets.config",
    "TrainedModel": "advnets.experiment.trained_model",
    "compare": "advnets.api",
    "evaluate": "advnets.api",
    "load": "advnets.experiment.trained_model",
    "train": "advnets.api",
}
"""The module that defines each lazily imported name."""

__all__ = [
    "AdvnetsError",
    "Callback",
    "Comparison",
    "Config",
    "TrainedModel",
    "__version__",
    "compare",
    "config",
    "data",
    "errors",
    "evaluate",
    "evaluation",
    "extractors",
    "games",
    "load",
    "losses",
    "metrics",
    "models",
    "presets",
    "sampling",
    "theory",
    "train",
    "visualize",
]


set_attributes(
    __name__,
    {name: _MODULE_OF.get(name, f"advnets.{name}") for name in __all__ if name != "__version__"},
)
