"""A timelapse of training: the sample grids of a run, whose z do not change."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageDraw
from torch import Tensor

from advnets.errors import DataError, RunError, UsageError
from advnets.experiment.trained_model import TrainedModel
from advnets.plots.image_grid import read_grid
from advnets.visualize.figure import Figure, View, ViewData, hstack

_GRIDS = 4
"""The number of grids in the image: the first, the last, and evenly spaced ones."""
_CAPTION_HEIGHT = 18


@dataclass(frozen=True)
class Timelapse(View):
    """Show samples of the same z over the training, from the grids in the run's samples/.

    The image has four grids, the movie all.

    Raises:
        UsageError: the run has fewer than two grids.
        RunError: a grid cannot be read.
    """

    examples: ClassVar[tuple[str, ...]] = ("", "--movie training.gif")

    def compute(self, model: TrainedModel) -> ViewData:
        """Read the grids, by step."""
        files = model.run.sample_files()
        if len(files) < 2:
            grids = "1 grid" if files else "0 grids"
            raise UsageError(
                f"{model.run.path} has {grids} of samples; expected 2 or more: train "
                "longer, or with a smaller --sample-every"
            )
        return ViewData(
            {f"step {step:,}": _read_pixels(file) for step, file in files.items()},
            {"steps": list(files)},
        )

    def draw(self, data: ViewData) -> Figure:
        """Draw the grids, each with its step below."""
        frames = [_with_caption(pixels, text) for text, pixels in data.tensors.items()]
        indices = np.linspace(0, len(frames) - 1, min(_GRIDS, len(frames))).round().astype(int)
        return Figure(hstack(*(frames[i] for i in indices)), tuple(frames))


def _read_pixels(file: Path) -> UInt8[Tensor, "height width 3"]:
    """Read a grid of samples as RGB.

    Raises:
        RunError: the file cannot be read.
    """
    try:
        content, _ = read_grid(file)
    except DataError as error:
        raise RunError(str(error)) from None
    try:
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            return torch.from_numpy(np.array(image.convert("RGB")))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise RunError(
            f"{file} cannot be read as a grid of samples ({error}); move it away"
        ) from None


def _with_caption(pixels: UInt8[Tensor, "height width 3"], text: str) -> Image.Image:
    grid = Image.fromarray(pixels.numpy())
    frame = Image.new("RGB", (grid.width, grid.height + _CAPTION_HEIGHT), "white")
    frame.paste(grid, (0, 0))
    ImageDraw.Draw(frame).text((4, grid.height + 2), text, fill="black")
    return frame
