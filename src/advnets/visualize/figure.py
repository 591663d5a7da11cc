"""The interface of a view, the composition of its figure, and the files it is written to."""

from __future__ import annotations

import io
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from advnets.config import ValidatedConfig
from advnets.errors import UsageError, require
from advnets.experiment.trained_model import TrainedModel
from advnets.files import write_atomically
from advnets.plots.image_grid import grid

BACKGROUND = 128
"""The gray level between images, as between the tiles of a grid."""
GAP = 12
"""The width of the gap between separate images, in pixels."""


@dataclass(frozen=True)
class ViewData:
    """The result of a view's computation: tensors to draw, by name, and a JSON record."""

    tensors: Mapping[str, Tensor]
    record: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Figure:
    """The figure of a view: an image, the frames of a movie if it has one, and a JSON record."""

    image: Image.Image
    frames: tuple[Image.Image, ...] = field(default=(), repr=False)
    record: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class View(ValidatedConfig, ABC):
    """A visualization of a trained model, whose fields are its options.

    A view is a frozen dataclass in a module of its own, listed in `visualize.VIEWS`. The command
    line makes a subcommand of it: its docstrings are the help texts.
    """

    largest_integer: ClassVar[int] = 100_000
    examples: ClassVar[tuple[str, ...]] = ("",)
    """Options of the examples in its help."""

    @abstractmethod
    def compute(self, model: TrainedModel) -> ViewData:
        """Compute the tensors to draw and the numbers to record.

        Args:
            model: the trained model.
        """

    @abstractmethod
    def draw(self, data: ViewData) -> Figure:
        """Draw what `compute` returned.

        Args:
            data: what `compute` returned.
        """

    @classmethod
    def name(cls) -> str:
        """Return the name of the subcommand: `SlerpGrid` is `slerp-grid`."""
        return re.sub(r"(?<!^)(?=[A-Z])", "-", cls.__name__).lower()

    def render(self, model: TrainedModel) -> Figure:
        """Compute and draw the view, with a record of the model, the options and the numbers.

        Args:
            model: the trained model.

        Example:
            >>> model = advnets.load("runs/digits")
            >>> figure = advnets.visualize.Samples(num_samples=9).render(model)
            >>> figure.image.size[0] > 3 * 8
            True
        """
        data = self.compute(model)
        record = {
            "view": self.name(),
            "run": str(model.run.path),
            "step": model.step,
            "weights": model.weights,
        }
        return replace(self.draw(data), record=record | asdict(self) | data.record)


def image_rows(
    images: Float[Tensor, "rows columns channels height width"], scale: int | None = None
) -> Image.Image:
    """Draw images in [0, 1] as a grid, one row for each index of the first axis."""
    return grid(images.flatten(0, 1), columns=images.shape[1], scale=scale)


def hstack(*images: Image.Image) -> Image.Image:
    """Stack images horizontally, centered vertically, with a gap between them."""
    width = sum(image.width for image in images) + GAP * (len(images) - 1)
    height = max(image.height for image in images)
    stack = Image.new("RGB", (width, height), (BACKGROUND,) * 3)
    left = 0
    for image in images:
        stack.paste(image, (left, (height - image.height) // 2))
        left += image.width + GAP
    return stack


def vstack(*images: Image.Image, gap: int = 0) -> Image.Image:
    """Stack images vertically, aligned on the left."""
    width = max(image.width for image in images)
    height = sum(image.height for image in images) + gap * (len(images) - 1)
    stack = Image.new("RGB", (width, height), (BACKGROUND,) * 3)
    top = 0
    for image in images:
        stack.paste(image, (0, top))
        top += image.height + gap
    return stack


def at_least(minimum: int, **values: int) -> None:
    """Check that options, given by name, are not below a minimum.

    Raises:
        UsageError: a value is below the minimum.
    """
    for name, value in values.items():
        if value < minimum:
            flag = name.replace("_", "-")
            raise UsageError(
                f"{name} is {value}; expected {minimum} or more: give a larger --{flag}"
            )


def write_figure(figure: Figure, path: Path) -> tuple[Path, Path]:
    """Write the image as a PNG file and the record next to it, under the same name, as JSON.

    Raises:
        UsageError: a file of the record's name exists and is not the record of a view.
        WriteError: a file cannot be written.
    """
    record_path = path.with_suffix(".json")
    if record_path.exists() and not _is_record(record_path):
        raise UsageError(
            f"{record_path}, where the record of this view is to be written, is another file; give "
            "another --out, or move that file"
        )
    write_atomically(path, lambda part: figure.image.save(part, format="PNG"))
    text = json.dumps(figure.record, indent=2, default=str) + "\n"
    write_atomically(record_path, lambda part: part.write_text(text, "utf-8"))
    return path, record_path


def _is_record(path: Path) -> bool:
    try:
        record = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(record, dict) and "view" in record


def write_movie(frames: Sequence[Image.Image], path: Path, frame_rate: float = 10.0) -> None:
    """Write frames as a GIF or an MP4 file, by the suffix of the path; the rate is in frames/s.

    Raises:
        UsageError: the path has another suffix.
        MissingExtraError: the file is an MP4, and PyAV is not installed.
    """
    check_movie_path(path)
    encode = {".gif": _encode_gif, ".mp4": _encode_mp4}[path.suffix]
    content = encode(frames, frame_rate)
    write_atomically(path, lambda part: part.write_bytes(content))


def check_movie_path(path: Path) -> None:
    """Check that the suffix of a path is .gif or .mp4.

    Raises:
        UsageError: the path has another suffix.
    """
    if path.suffix not in (".gif", ".mp4"):
        raise UsageError(
            f"{path} ends in {path.suffix or 'nothing'}; give a name that ends in .gif or .mp4"
        )


def _encode_gif(frames: Sequence[Image.Image], frame_rate: float) -> bytes:
    file = io.BytesIO()
    first, *others = [frame.convert("P", palette=Image.Palette.ADAPTIVE) for frame in frames]
    duration = round(1000 / frame_rate)
    first.save(file, "GIF", save_all=True, append_images=others, duration=duration, loop=0)
    return file.getvalue()


def _encode_mp4(frames: Sequence[Image.Image], frame_rate: float) -> bytes:
    av: Any = require("av", "movie")
    file = io.BytesIO()
    # H.264 in 4:2:0 requires an even width and height.
    width, height = (side - side % 2 for side in frames[0].size)
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=round(frame_rate))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in frames:
            image = av.VideoFrame.from_image(frame.crop((0, 0, width, height)))
            container.mux(stream.encode(image))
        container.mux(stream.encode())
    return file.getvalue()
