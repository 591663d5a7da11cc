"""Plots of real and generated points in one or two dimensions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from advnets.errors import UsageError

_BACKGROUND, _TEXT, _RULE = (255, 255, 255), (31, 35, 40), (208, 215, 222)
_LABEL = (110, 119, 129)
_REAL, _FAKE = (165, 172, 181), (213, 94, 0)  # vermilion of Okabe and Ito (2008)
_BAR = (196, 202, 209)

_MIN_SIZE = 240
_MARGIN = 0.2  # fraction of the real points' range that is added on each side
_SUPERSAMPLING = 2  # a pixel is the mean of 2 x 2
_NUM_BINS = 80
_MAX_PEAK = 1.6  # maximum height of a peak, relative to the highest bar of real points
_MAX_ABS = 1e100  # maximum coordinate: differences are finite


def points_image(
    points: Tensor | np.ndarray, real: Tensor | np.ndarray | None = None, size: int = 640
) -> Image.Image:
    """Plot generated points in color over real ones in gray, as a square of `size` pixels.

    Both have shape (n, dims, 1, 1) or (n, dims), with dims 1 or 2. Points in two dimensions are a
    scatter plot with equal scales of x and y, points in one dimension histograms of density. The
    axes cover the range of the real points and a fifth more on each side, so that outliers of the
    generator do not shrink them; a note below has the number of points outside or not finite.

    Raises:
        UsageError: there are no points, their shape or number of dimensions is another, the two
            sets differ in it, or the size is less than 240.
    """
    if size < _MIN_SIZE:
        raise UsageError(f"size is {size}; expected at least {_MIN_SIZE} pixels")
    fake_set = _PointSet.from_array(points, "points")
    real_set = None if real is None else _PointSet.from_array(real, "real points")
    if not fake_set.count + (real_set.count if real_set else 0):
        raise UsageError("there are no points; give at least one")
    if real_set and real_set.values.shape[1] != fake_set.values.shape[1]:
        raise UsageError(
            f"points have {fake_set.values.shape[1]} dimensions and real points "
            f"{real_set.values.shape[1]}; give points of one distribution"
        )
    reference = real_set if real_set and len(real_set.values) else fake_set
    canvas = _Canvas.from_frame(_frame(reference.values), size)
    draw = _histograms if fake_set.values.shape[1] == 1 else _scatter
    note = draw(canvas, real_set, fake_set)
    _legend(canvas, real_set, fake_set)
    _caption(canvas, real_set, fake_set, note)
    return canvas.image


@dataclass(frozen=True)
class _PointSet:
    """The finite points of a set, of shape (n, dims), and the number of all its points."""

    values: Float64[np.ndarray, "n dims"]
    count: int

    @classmethod
    def from_array(cls, points: Tensor | np.ndarray, name: str) -> _PointSet:
        if isinstance(points, Tensor):
            points = points.detach().cpu().double().numpy()
        array = points.astype(np.float64)
        if array.ndim == 4 and array.shape[2:] == (1, 1):
            array = array[:, :, 0, 0]
        if array.ndim != 2 or array.shape[1] not in (1, 2):
            raise UsageError(
                f"{name} have shape {tuple(points.shape)}; expected (n, dims) or (n, dims, 1, 1) "
                f"with dims 1 or 2"
            )
        return cls(array[np.isfinite(array).all(1)], len(array))

    def within(self, frame: Float64[np.ndarray, "dims 2"]) -> Float64[np.ndarray, "m dims"]:
        values = self.values
        return values[((values >= frame[:, 0]) & (values <= frame[:, 1])).all(1)]


@dataclass(frozen=True)
class _Canvas:
    """An image with axes, whose limits are a frame: minimum and maximum of each axis."""

    image: Image.Image
    draw: ImageDraw.ImageDraw
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont
    small_font: ImageFont.FreeTypeFont | ImageFont.ImageFont
    frame: Float64[np.ndarray, "dims 2"]
    left: int
    top: int
    side: int

    @classmethod
    def from_frame(cls, frame: Float64[np.ndarray, "dims 2"], size: int) -> _Canvas:
        image = Image.new("RGB", (size, size), _BACKGROUND)
        font, small = (ImageFont.load_default(size * part) for part in (0.0265, 0.0215))
        side = round(size * 0.81)
        canvas = (round(size * 0.12), round(size * 0.07), side)
        return cls(image, ImageDraw.Draw(image), font, small, frame, *canvas)

    def x(self, value: float) -> float:
        low, high = self.frame[0]
        return self.left + (value - low) / (high - low) * self.side

    def y(self, value: float, low: float, high: float) -> float:
        return self.top + (high - value) / (high - low) * self.side

    def axes(self, low: float, high: float) -> None:
        """Draw the axes, with y labels from low to high."""
        right, bottom = self.left + self.side, self.top + self.side
        mark = max(3, self.side // 120)
        for text, value in _ticks(*map(float, self.frame[0])):
            x = self.x(value)
            self.draw.line((x, bottom, x, bottom + mark), fill=_LABEL)
            self.draw.text((x, bottom + 2 * mark), text, _LABEL, self.small_font, anchor="mt")
        for text, value in _ticks(low, high):
            y = self.y(value, low, high)
            self.draw.line((self.left - mark, y, self.left, y), fill=_LABEL)
            self.draw.text((self.left - 2 * mark, y), text, _LABEL, self.small_font, anchor="rm")
        self.draw.rectangle((self.left, self.top, right, bottom), outline=_RULE)


def _frame(values: Float64[np.ndarray, "n dims"]) -> Float64[np.ndarray, "dims 2"]:
    """Return minimum and maximum of each axis: quantiles of 0.1 and 99.9 %, and the margin."""
    if not len(values):
        return np.array([[-1.0, 1.0]] * values.shape[1])
    low, high = np.quantile(np.clip(values, -_MAX_ABS, _MAX_ABS), [0.001, 0.999], axis=0)
    largest = float(np.abs([low, high]).max())
    span = max(float((high - low).max()), largest * 1e-9) or 1.0
    middle, half = (low + high) / 2, span * (0.5 + _MARGIN)
    return np.stack([middle - half, middle + half], axis=1)


def _scatter(canvas: _Canvas, real: _PointSet | None, fake: _PointSet) -> str:
    """Draw a scatter plot, whose dots are more transparent the more there are; return no note."""
    pixels = np.full((canvas.side * _SUPERSAMPLING, canvas.side * _SUPERSAMPLING, 3), 255.0)
    for points, color, size in (real, _REAL, 0.0065), (fake, _FAKE, 0.0038):
        if points is not None:
            inside = points.within(canvas.frame)
            opacity = min(0.7, max(0.12, 25 / math.sqrt(max(1, len(inside)))))
            cover = 1 - (1 - opacity) ** _dots(inside, canvas, size)
            pixels *= 1 - cover[..., None] * (1 - np.array(color) / 255)
    supersampled = Image.fromarray(pixels.round().astype(np.uint8))
    box = supersampled.resize((canvas.side, canvas.side), Image.Resampling.BOX)
    canvas.image.paste(box, (canvas.left, canvas.top))
    canvas.axes(*map(float, canvas.frame[1]))
    return ""


def _dots(
    points: Float64[np.ndarray, "n 2"], canvas: _Canvas, size: float
) -> Float64[np.ndarray, "side side"]:
    """Return the number of dots on each pixel; `size` is their radius over the side."""
    side = canvas.side * _SUPERSAMPLING
    low, high = canvas.frame.T
    cells = np.minimum((points - low) / (high - low) * side, side - 1).astype(np.int64)
    counts = np.zeros((side, side))
    np.add.at(counts, (side - 1 - cells[:, 1], cells[:, 0]), 1.0)
    radius = size * side
    extent = math.ceil(radius)
    # Sum over each row of a disk as a difference of two cumulative sums.
    sums = np.cumsum(np.pad(counts, ((extent, extent), (extent + 1, extent))), axis=1)
    cover = np.zeros_like(counts)
    for dy in range(-extent, extent + 1):
        half = math.floor(math.sqrt(max(0.0, radius**2 - dy**2)))
        rows = sums[extent + dy : extent + dy + side]
        cover += rows[:, extent + half + 1 :][:, :side] - rows[:, extent - half :][:, :side]
    return cover


def _histograms(canvas: _Canvas, real: _PointSet | None, fake: _PointSet) -> str:
    """Draw real densities as bars and generated ones as a line; return a note on a cut peak."""
    edges = np.linspace(float(canvas.frame[0, 0]), float(canvas.frame[0, 1]), _NUM_BINS + 1)
    width = float(edges[1] - edges[0])
    heights = [
        np.histogram(points.values[:, 0], edges)[0] / max(1, len(points.values)) / width
        for points in (real, fake)
        if points is not None
    ]
    peak, highest = float(heights[-1].max()), float(heights[0].max())
    top = 1.08 * (min(peak, _MAX_PEAK * highest) if highest else peak)
    top = max(top, 1.08 * highest) or 1.0

    supersampled = Image.new(
        "RGB", (canvas.side * _SUPERSAMPLING, canvas.side * _SUPERSAMPLING), _BACKGROUND
    )
    draw = ImageDraw.Draw(supersampled)

    def corners(bars: np.ndarray) -> list[tuple[float, float]]:
        x = np.repeat(np.linspace(0, supersampled.width, _NUM_BINS + 1), 2)[1:-1]
        y = np.repeat(np.clip(1 - bars / top, 0.0, 1.0) * supersampled.height, 2)
        return list(zip(x.tolist(), y.tolist(), strict=True))

    if real is not None:
        ends = [(supersampled.width, supersampled.height), (0, supersampled.height)]
        draw.polygon([*corners(heights[0]), *ends], fill=_BAR)
    line_width = max(2, round(canvas.side * 0.005)) * _SUPERSAMPLING
    draw.line(corners(heights[-1]), fill=_FAKE, width=line_width, joint="curve")
    box = supersampled.resize((canvas.side, canvas.side), Image.Resampling.BOX)
    canvas.image.paste(box, (canvas.left, canvas.top))
    canvas.axes(0.0, top)
    corner = (canvas.left + canvas.side * 0.015, canvas.top + canvas.side * 0.015)
    canvas.draw.text(corner, "density", _LABEL, canvas.small_font)
    return f"the peak of generated points, {peak:.3g}, is cut" if peak > top else ""


def _ticks(low: float, high: float) -> list[tuple[str, float]]:
    """Return four to nine round numbers between two, with their labels."""
    approximate = (high - low) / 6
    unit = 10.0 ** math.floor(math.log10(approximate))
    step = next(unit * times for times in (1, 2, 5, 10) if unit * times >= approximate)
    first = math.ceil(low / step - 1e-9)
    values = [step * k for k in range(first, math.floor(high / step + 1e-9) + 1)]
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    largest = max(map(abs, values), default=0.0)
    if largest < 1e5 and digits <= 4:
        return [(f"{value:.{digits}f}", value) for value in values]
    digits = max(1, math.ceil(math.log10(max(largest, step) / step)) + 1)
    return [(f"{value:.{digits}g}", value) for value in values]


def _legend(canvas: _Canvas, real: _PointSet | None, fake: _PointSet) -> None:
    """Draw a marker and a label for each set, above the axes."""
    x, y = float(canvas.left), canvas.top / 2
    r = canvas.side * 0.011
    marks = [(f"generated ({fake.count:,})", _FAKE)]
    if real is not None:
        plane = len(canvas.frame) == 2
        marks.insert(0, (f"real ({real.count:,})", _REAL if plane else _BAR))
        if plane:
            blend = [real * fake // 255 for real, fake in zip(_REAL, _FAKE, strict=True)]
            marks.append(("both", (blend[0], blend[1], blend[2])))
    for text, color in marks:
        canvas.draw.ellipse((x, y - r, x + 2 * r, y + r), fill=color)
        canvas.draw.text((x + 3.2 * r, y), text, _TEXT, canvas.font, anchor="lm")
        x += 3.2 * r + canvas.draw.textlength(text, canvas.font) + canvas.side * 0.05


def _caption(canvas: _Canvas, real: _PointSet | None, fake: _PointSet, note: str) -> None:
    """Draw a note on points that are not visible, below the axes."""
    parts = [note] if note else []
    for name, points in ("real", real), ("generated", fake):
        if points is None:
            continue
        outside = len(points.values) - len(points.within(canvas.frame))
        num_not_finite = points.count - len(points.values)
        total = f" of {points.count:,} {name} points"
        if outside:
            also = f", {num_not_finite:,} not finite" if num_not_finite else ""
            parts.append(f"{outside:,}{total} outside the frame{also}")
        elif num_not_finite:
            parts.append(f"{num_not_finite:,}{total} not finite")
    lines = [""]
    for part in parts:
        longer = f"{lines[-1]}; {part}" if lines[-1] else part
        if canvas.left + canvas.draw.textlength(longer, canvas.small_font) < canvas.image.width:
            lines[-1] = longer
        else:
            lines.append(part)
    place = (canvas.left, canvas.image.height * 0.921)
    canvas.draw.text(place, "\n".join(lines), _LABEL, canvas.small_font, spacing=2)
