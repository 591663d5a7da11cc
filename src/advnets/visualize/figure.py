"""What a look into a run gives: an image, a record, sometimes a movie."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from advnets.errors import UsageError
from advnets.experiment.trained_model import TrainedModel
from advnets.files import write_atomically
from advnets.plots.image_grid import grid

GROUND = 128
"""Gray, as between the tiles of a grid."""
GAP = 12
"""Pixels between images that do not belong together."""


@dataclass(frozen=True)
class Figure:
    """An image, and as plain data what it shows."""

    image: Image.Image
    record: dict[str, Any]
    frames: tuple[Image.Image, ...] = field(default=(), repr=False)
    """The same moving, where it can."""


def of_run(trained: TrainedModel, /, **shown: Any) -> dict[str, Any]:
    """A record's beginning: which run, at which step, by which weights."""
    about = {"run": str(trained.run.path), "step": trained.step, "weights": trained.weights}
    return about | shown


def write_figure(look: Figure, image: Path) -> tuple[Path, Path]:
    """Write the image, and beside it the record under the same name.

    Raises:
        UsageError: a file that is no such record has the record's name.
        WriteError: it cannot be written there.
    """
    record = image.with_suffix(".json")
    if record.exists() and not _is_record(record):
        raise UsageError(
            f"{record}, where the record of this view goes, holds something else; give another "
            "--out, or move that file away"
        )
    write_atomically(image, lambda part: look.image.save(part, format="PNG"))
    text = json.dumps(look.record, indent=2) + "\n"
    write_atomically(record, lambda part: part.write_text(text, "utf-8"))
    return image, record


def _is_record(path: Path) -> bool:
    """Whether a file holds the record of a view."""
    try:
        record = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(record, dict) and "view" in record


def rows(
    images: Float[Tensor, "rows columns channels height width"], scale: int | None = None
) -> Image.Image:
    """Images in [0, 1], a row of the first axis each."""
    return grid(images.flatten(0, 1), columns=images.shape[1], scale=scale)


def beside(*images: Image.Image) -> Image.Image:
    """Images beside each other, centerd, a gap between."""
    width = sum(image.width for image in images) + GAP * (len(images) - 1)
    height = max(image.height for image in images)
    whole = Image.new("RGB", (width, height), (GROUND,) * 3)
    left = 0
    for image in images:
        whole.paste(image, (left, (height - image.height) // 2))
        left += image.width + GAP
    return whole


def above(*images: Image.Image, gap: int = 0) -> Image.Image:
    """Images above each other, from the left."""
    width = max(image.width for image in images)
    height = sum(image.height for image in images) + gap * (len(images) - 1)
    whole = Image.new("RGB", (width, height), (GROUND,) * 3)
    top = 0
    for image in images:
        whole.paste(image, (0, top))
        top += image.height + gap
    return whole
