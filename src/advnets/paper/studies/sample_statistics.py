"""Statistics of how samples look, and figures of rows of images."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from torch import Tensor

from advnets.plots.image_grid import grid
from advnets.plots.style import LIGHT, new_figure, png
from advnets.protocols import Images

COLUMNS = 14
"""Maximum number of images in a row of a gallery."""
_ROW_WIDTH, _LABEL_WIDTH = 7.4, 1.7
"""Widths of a row and of its label, in inches."""


def sharpness(images: Images) -> float:
    """Return the mean |difference| of neighboring pixels, across and down, in [0, 1].

    It is 0 for a uniform gray. Blur lowers it and noise raises it, so it is compared with that of
    real images.
    """
    across, down = (images.diff(dim=dim).abs().mean() for dim in (3, 2))
    return float(across + down) / 2


def gradient_energy(images: Images) -> float:
    """Return the mean squared difference of neighboring pixels, across and down, in [0, 1].

    It is 0 for a uniform gray. A blurred edge has the same sum of |differences| as a sharp one, but
    a smaller sum of squares.
    """
    across, down = (images.diff(dim=dim).square().mean() for dim in (3, 2))
    return float(across + down) / 2


def correlation(before: Float[Tensor, "n pixels"], after: Float[Tensor, "n pixels"]) -> float:
    """Return the correlation of corresponding rows, from -1 to 1; NaN if all rows are equal.

    It is Σ cov(before, after) / √(Σ var(before) Σ var(after)), with the sums over pixels.
    """
    a, b = (rows.double() - rows.double().mean(0) for rows in (before, after))
    return float((a * b).sum() / (a.square().sum() * b.square().sum()).sqrt())


def grid_png(images: Images, columns: int) -> bytes:
    """Return a PNG of a grid of images in [0, 1], with `columns` images per row."""
    file = io.BytesIO()
    grid(images, columns=columns).save(file, format="PNG")
    return file.getvalue()


def gallery(rows: Mapping[str, Images]) -> bytes:
    """Return a PNG with a labeled row of images in [0, 1] for each name, the first few of each."""
    columns = min(COLUMNS, *(len(images) for images in rows.values()))
    strips = {name: np.asarray(grid(row[:columns], columns)) for name, row in rows.items()}
    tile = _ROW_WIDTH / columns
    figure = new_figure(_LABEL_WIDTH + _ROW_WIDTH, len(rows) * tile)
    figure.set_layout_engine(None)
    figure.subplots_adjust(
        left=_LABEL_WIDTH / (_LABEL_WIDTH + _ROW_WIDTH), right=1, bottom=0, top=1, hspace=0
    )
    axes = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    for row, (name, strip) in zip(axes, strips.items(), strict=True):
        row.imshow(strip, cmap="gray", vmin=0, vmax=255, interpolation="nearest", aspect="auto")
        row.set_axis_off()
        row.text(
            -0.01, 0.5, name, transform=row.transAxes, ha="right", va="center", color=LIGHT.text
        )
    return png(figure)
