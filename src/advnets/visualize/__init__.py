"""Views of a trained model, each written as an image and a JSON record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from advnets.lazy import lazy_attributes

if TYPE_CHECKING:
    from advnets.visualize.registry import view_classes

__all__ = [
    "view_classes",
]

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        "view_classes": "advnets.visualize.registry",
    },
)
