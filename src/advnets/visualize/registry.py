"""The views of `advnets visualize`, in the order of its help.

To add a view, write a subclass of `visualize.figure.View` and list it here as "module:Class".
"""

from __future__ import annotations

from importlib import import_module
from typing import cast

from advnets.visualize.figure import View

VIEWS = [
    "advnets.visualize.samples:Samples",
    "advnets.visualize.samples:Neighbors",
    "advnets.visualize.interpolation:Interpolation",
    "advnets.visualize.interpolation:SlerpGrid",
    "advnets.visualize.arithmetic:Arithmetic",
    "advnets.visualize.guided_backprop:GuidedBackprop",
    "advnets.visualize.guided_backprop:Activations",
    "advnets.visualize.window_dropout:WindowDropout",
    "advnets.visualize.timelapse:Timelapse",
    "advnets.visualize.reconstructions:Reconstructions",
    "advnets.visualize.inpainting:Inpainting",
]


def view_classes() -> dict[str, type[View]]:
    """Import the views and return their classes by name."""
    references = [view.split(":") for view in VIEWS]
    classes = [cast(type[View], getattr(import_module(m), name)) for m, name in references]
    return {view.name(): view for view in classes}
