"""Write the images of docs/guide.md from what `advnets paper` has made, small.

    advnets paper --out paper && python tools/images.py paper

The guides say which: `images/PART/FILE` there is FILE of that part. A part that was not played is
named and its image left as it is. Of a part that was played at both scales, the full one counts.
"""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

from PIL import Image, ImageSequence

DOCS = Path(__file__).parent.parent / "docs"
GUIDES = ("guide.md", "guide.ko.md")
REFERENCE = re.compile(r"\(images/([^/)]+)/([^/)]+)\)")
SCALES = ("full", "quick")
LIMITS = {".png": 150_000, ".gif": 500_000}
"""Bytes that an image may have, by its kind."""
WIDTHS = (1200, 1000, 800, 640, 480, 360)
"""Tried from the left, until an image is small enough."""
COLORS = 64


def wanted() -> list[tuple[str, str]]:
    """Part and file of every image that the guides show, once."""
    text = "".join((DOCS / guide).read_text("utf-8") for guide in GUIDES)
    return sorted(set(REFERENCE.findall(text)))


def found(folder: Path, part: str, file: str) -> Path | None:
    """A part's image in the folder that `advnets paper` has made."""
    paths = (folder / "sections" / scale / part / file for scale in SCALES)
    return next((path for path in paths if path.exists()), None)


def small(source: Path) -> bytes:
    """The image in few colors, as wide as its limit allows.

    Raises:
        ValueError: it is too large at every width.
    """
    limit = LIMITS[source.suffix]
    for width in WIDTHS:
        content = drawn(source, width)
        if len(content) <= limit:
            return content
    raise ValueError(f"{source} has more than {limit:,} bytes at every width; draw less in it")


def drawn(source: Path, width: int) -> bytes:
    """The image, or the animation, at most so wide."""
    file = io.BytesIO()
    with Image.open(source) as image:
        shown = [
            (scaled(frame.convert("RGB"), width), frame.info.get("duration", 0))
            for frame in ImageSequence.Iterator(image)
        ]
    frames, lasting = ([each[i] for each in shown] for i in range(2))
    # One palette for all frames, or equal areas would flicker.
    palette = strip(frames).quantize(COLORS, Image.Quantize.MAXCOVERAGE, kmeans=2)
    first, *others = (frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames)
    if source.suffix == ".gif":
        first.save(file, "GIF", save_all=True, append_images=others, duration=lasting, loop=0)
    else:
        first.save(file, "PNG", optimize=True)
    return file.getvalue()


def scaled(frame: Image.Image, width: int) -> Image.Image:
    """The frame at this width, never larger than it was."""
    share = min(1.0, width / frame.width)
    size = (round(frame.width * share), round(frame.height * share))
    return frame.resize(size, Image.Resampling.LANCZOS)


def strip(frames: list[Image.Image]) -> Image.Image:
    """First, middle and last frame beside each other: what the palette is chosen from."""
    chosen = [frames[0], frames[len(frames) // 2], frames[-1]]
    width, height = frames[0].size
    whole = Image.new("RGB", (width * len(chosen), height))
    for i, frame in enumerate(chosen):
        whole.paste(frame, (i * width, 0))
    return whole


def main() -> None:
    """Write every image whose part is there; name the others."""
    folder = Path(sys.argv[1])
    for part, file in wanted():
        source, target = found(folder, part, file), DOCS / "images" / part / file
        if source is None:
            print(f"left as it is: {target.relative_to(DOCS)}; advnets paper --sections {part}")
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(small(source))
        print(f"{target.relative_to(DOCS)}: {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
