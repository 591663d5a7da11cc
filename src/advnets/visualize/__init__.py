"""Views of a trained model, each written as an image and a JSON record.

    >>> from advnets.visualize import Samples
    >>> Samples(num_samples=9).render(advnets.load("runs/digits")).image.save("samples.png")

To add a view, write a subclass of `View` and list it in `VIEWS`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from advnets.lazy import set_attributes

if TYPE_CHECKING:
    from advnets.visualize.arithmetic import Arithmetic
    from advnets.visualize.figure import Figure, View
    from advnets.visualize.guided_backprop import Activations, GuidedBackprop
    from advnets.visualize.interpolation import Interpolation, SlerpGrid
    from advnets.visualize.reconstructions import Inpainting, Reconstructions
    from advnets.visualize.samples import Neighbors, Samples
    from advnets.visualize.timelapse import Timelapse
    from advnets.visualize.window_dropout import WindowDropout

VIEWS = {
    "Samples": "advnets.visualize.samples",
    "Neighbors": "advnets.visualize.samples",
    "Interpolation": "advnets.visualize.interpolation",
    "SlerpGrid": "advnets.visualize.interpolation",
    "Arithmetic": "advnets.visualize.arithmetic",
    "GuidedBackprop": "advnets.visualize.guided_backprop",
    "Activations": "advnets.visualize.guided_backprop",
    "WindowDropout": "advnets.visualize.window_dropout",
    "Timelapse": "advnets.visualize.timelapse",
    "Reconstructions": "advnets.visualize.reconstructions",
    "Inpainting": "advnets.visualize.reconstructions",
}
"""The module of each view, in the order of the help of `advnets visualize`."""

__all__ = [
    "Activations",
    "Arithmetic",
    "Figure",
    "GuidedBackprop",
    "Inpainting",
    "Interpolation",
    "Neighbors",
    "Reconstructions",
    "Samples",
    "SlerpGrid",
    "Timelapse",
    "View",
    "WindowDropout",
    "view_classes",
]

set_attributes(__name__, {**VIEWS, **dict.fromkeys(("Figure", "View"), "advnets.visualize.figure")})


def view_classes() -> dict[str, type[View]]:
    """Import the views and return their classes by the names of their subcommands."""
    classes: list[type[View]] = [getattr(import_module(VIEWS[name]), name) for name in VIEWS]
    return {view.name(): view for view in classes}
