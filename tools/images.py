"""Write reduced copies of `advnets paper` figures for docs/guide.md.

    advnets paper --out paper && python tools/images.py paper

The guides reference `images/SECTION/FILE`, which is FILE of that section. An image whose section
was not built is listed and left unchanged. Of a section built at both scales, the full one is used.
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
"""Maximum number of bytes of an image, by file type."""
WIDTHS = (1200, 1000, 800, 640, 480, 360)
"""Widths in pixels, tried in order until an image is small enough."""
COLORS = 64


def referenced_images() -> list[tuple[str, str]]:
    """Return section and file of every image in the guides, without repetitions."""
    text = "".join((DOCS / guide).read_text("utf-8") for guide in GUIDES)
    return sorted(set(REFERENCE.findall(text)))


def find_image(folder: Path, section: str, file: str) -> Path | None:
    """Return the path of a section's image in the output folder of `advnets paper`, or None."""
    paths = (folder / "sections" / scale / section / file for scale in SCALES)
    return next((path for path in paths if path.exists()), None)


def reduce_image(source: Path) -> bytes:
    """Return the image with few colors, as wide as its size limit allows.

    Raises:
        ValueError: the image is too large at every width.
    """
    limit = LIMITS[source.suffix]
    for width in WIDTHS:
        content = encode_image(source, width)
        if len(content) <= limit:
            return content
    raise ValueError(f"{source} has more than {limit:,} bytes at every width; simplify the figure")


def encode_image(source: Path, width: int) -> bytes:
    """Return the encoded image or animation, scaled to at most this width."""
    file = io.BytesIO()
    with Image.open(source) as image:
        scaled = [
            (scale_frame(frame.convert("RGB"), width), frame.info.get("duration", 0))
            for frame in ImageSequence.Iterator(image)
        ]
    frames, durations = ([pair[i] for pair in scaled] for i in range(2))
    # Use one palette for all frames, so that uniform areas do not flicker.
    palette = join_frames(frames).quantize(COLORS, Image.Quantize.MAXCOVERAGE, kmeans=2)
    first, *others = (frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames)
    if source.suffix == ".gif":
        first.save(file, "GIF", save_all=True, append_images=others, duration=durations, loop=0)
    else:
        first.save(file, "PNG", optimize=True)
    return file.getvalue()


def scale_frame(frame: Image.Image, width: int) -> Image.Image:
    """Return the frame at this width, never enlarged."""
    scale = min(1.0, width / frame.width)
    size = (round(frame.width * scale), round(frame.height * scale))
    return frame.resize(size, Image.Resampling.LANCZOS)


def join_frames(frames: list[Image.Image]) -> Image.Image:
    """Return the first, middle and last frame side by side; the palette is computed from them."""
    chosen = [frames[0], frames[len(frames) // 2], frames[-1]]
    width, height = frames[0].size
    joined = Image.new("RGB", (width * len(chosen), height))
    for i, frame in enumerate(chosen):
        joined.paste(frame, (i * width, 0))
    return joined


def main() -> None:
    """Write every image whose section was built; list the others."""
    folder = Path(sys.argv[1])
    for section, file in referenced_images():
        source, target = find_image(folder, section, file), DOCS / "images" / section / file
        if source is None:
            print(
                f"unchanged: {target.relative_to(DOCS)}; build it with advnets paper --sections "
                f"{section}"
            )
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(reduce_image(source))
        print(f"{target.relative_to(DOCS)}: {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
