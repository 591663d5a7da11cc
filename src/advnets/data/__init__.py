"""Datasets of images and points: opening, normalization and minibatches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from advnets.lazy import set_attributes

if TYPE_CHECKING:
    from advnets.data.registry import open_dataset

__all__ = ["open_dataset"]

set_attributes(__name__, {"open_dataset": "advnets.data.registry"})
