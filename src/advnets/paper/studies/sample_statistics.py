"""What can be said of how samples look, and rows of them in one figure."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from torch import Tensor

from advnets.plots.image_grid import grid
from advnets.plots.style import LIGHT, new_figure, png

COLUMNS = 14
"""Images in a row of a gallery."""
_ACROSS, _LABELS = 7.4, 1.7
"""Inches of a row, and of its name."""


def sharpness(images: Float[Tensor, "n channels height width"]) -> float:
    """Mean |difference| of neighboring pixels, across and down: 0 of one gray, 1 at most.

    Blur lowers it and noise raises it, hence it is read against that of real images.
    """
    across, down = (images.diff(dim=dim).abs().mean() for dim in (3, 2))
    return float(across + down) / 2


def gradient_energy(images: Float[Tensor, "n channels height width"]) -> float:
    """Mean squared difference of neighboring pixels, across and down; 0 of one gray, 1 at most.

    A blurred edge has as much of |difference| as a sharp one, but less of its square.
    """
    across, down = (images.diff(dim=dim).square().mean() for dim in (3, 2))
    return float(across + down) / 2


def correlation(before: Float[Tensor, "n pixels"], after: Float[Tensor, "n pixels"]) -> float:
    """How alike the n-th of both are beyond what any two are, from -1 to 1; NaN if all are one.

    Σ cov(before, after) / √(Σ var(before) Σ var(after)), the sums over pixels.
    """
    a, b = (rows.double() - rows.double().mean(0) for rows in (before, after))
    return float((a * b).sum() / (a.square().sum() * b.square().sum()).sqrt())


def tiles(images: Float[Tensor, "n channels height width"], columns: int) -> bytes:
    """A PNG of images in [0, 1], so many in a row."""
    file = io.BytesIO()
    grid(images, columns=columns).save(file, format="PNG")
    return file.getvalue()


def gallery(rows: Mapping[str, Float[Tensor, "n channels height width"]]) -> bytes:
    """A PNG with a row of images in [0, 1] under each of its names, the first few of each."""
    columns = min(COLUMNS, *(len(images) for images in rows.values()))
    strips = {name: np.asarray(grid(row[:columns], columns)) for name, row in rows.items()}
    tile = _ACROSS / columns
    figure = new_figure(_LABELS + _ACROSS, len(rows) * tile)
    figure.set_layout_engine(None)
    figure.subplots_adjust(left=_LABELS / (_LABELS + _ACROSS), right=1, bottom=0, top=1, hspace=0)
    axes = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    for row, (name, strip) in zip(axes, strips.items(), strict=True):
        row.imshow(strip, cmap="gray", vmin=0, vmax=255, interpolation="nearest", aspect="auto")
        row.set_axis_off()
        row.text(
            -0.01, 0.5, name, transform=row.transAxes, ha="right", va="center", color=LIGHT.text
        )
    return png(figure)
