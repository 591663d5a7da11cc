"""The same z over a training: its grids of samples, as a film."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from advnets.errors import DataError, RunError, UsageError, require
from advnets.experiment.trained_model import TrainedModel
from advnets.files import write_atomically
from advnets.plots.image_grid import read_grid
from advnets.visualize.figure import Figure, beside, of_run

SHOWN = 4
"""Grids on the image: the first, the last, and evenly spread ones between."""
_MARGIN = 18


def timelapse(trained: TrainedModel) -> Figure:
    """The grids of samples that the run has left, each of the same z, in their order.

    Raises:
        UsageError: it has left fewer than two.
        RunError: one cannot be read.
    """
    files = trained.run.sample_files()
    if len(files) < 2:
        raise UsageError(
            f"{trained.run.path} has {len(files)} grids of samples, and a movie needs two; train "
            "on, or oftener with --sample-every"
        )
    frames = [_told(_grid(file), step) for step, file in files.items()]
    picked = np.linspace(0, len(frames) - 1, min(SHOWN, len(frames))).round().astype(int)
    return Figure(
        beside(*(frames[number] for number in picked)),
        of_run(trained, view="training", steps=list(files)),
        tuple(frames),
    )


def _grid(file: Path) -> Image.Image:
    try:
        content, _ = read_grid(file)
    except DataError as error:
        raise RunError(str(error)) from None
    try:
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise RunError(
            f"{file} cannot be read as a grid of samples ({error}); move it away"
        ) from None


def _told(frame: Image.Image, step: int) -> Image.Image:
    """The grid with its step below."""
    whole = Image.new("RGB", (frame.width, frame.height + _MARGIN), "white")
    whole.paste(frame, (0, 0))
    ImageDraw.Draw(whole).text((4, frame.height + 2), f"step {step:,}", fill="black")
    return whole


def write_movie(frames: Sequence[Image.Image], path: Path, frames_a_second: float = 10.0) -> None:
    """Write frames as a GIF or an MP4, by what the name ends with.

    Raises:
        UsageError: it ends with anything else.
        MissingExtraError: for an MP4, PyAV is not installed.
    """
    check_movie_name(path)
    content = {".gif": _gif, ".mp4": _mp4}[path.suffix](frames, frames_a_second)
    write_atomically(path, lambda part: part.write_bytes(content))


def check_movie_name(path: Path) -> None:
    """Refuse a name that ends in neither .gif nor .mp4.

    Raises:
        UsageError: it does.
    """
    if path.suffix not in (".gif", ".mp4"):
        raise UsageError(f"{path} ends in {path.suffix or 'nothing'}; give a name in .gif or .mp4")


def _gif(frames: Sequence[Image.Image], rate: float) -> bytes:
    file = io.BytesIO()
    first, *others = [frame.convert("P", palette=Image.Palette.ADAPTIVE) for frame in frames]
    first.save(
        file, "GIF", save_all=True, append_images=others, duration=round(1000 / rate), loop=0
    )
    return file.getvalue()


def _mp4(frames: Sequence[Image.Image], rate: float) -> bytes:
    av: Any = require("av", "movie")
    file = io.BytesIO()
    # H.264 in 4:2:0 wants even sides.
    width, height = (side - side % 2 for side in frames[0].size)
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=round(rate))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in frames:
            image = av.VideoFrame.from_image(frame.crop((0, 0, width, height)))
            container.mux(stream.encode(image))
        container.mux(stream.encode())
    return file.getvalue()
