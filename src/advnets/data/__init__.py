"""Datasets of images and points: opening, normalization and minibatches."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from advnets.data.registry import open_dataset

__all__ = ["open_dataset"]


def __getattr__(name: str) -> object:
    if name != "open_dataset":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from advnets.data import registry  # imported on first use (PEP 562)

    return registry.open_dataset
