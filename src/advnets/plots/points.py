"""Points of a line or a plane, real and generated, as an image."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from advnets.errors import UsageError

_GROUND, _TEXT, _RULE = (255, 255, 255), (31, 35, 40), (208, 215, 222)
_FAINT = (110, 119, 129)
_REAL, _FAKE = (165, 172, 181), (213, 94, 0)  # orange-red of Okabe and Ito (2008): all can tell
_BAR = (196, 202, 209)

_LEAST = 240
_GROWN = 0.2  # of the real points' span, on each side
_FINE = 2  # a pixel is drawn as 2 x 2
_BINS = 80
_TALLER = 1.6  # than the highest real bar, before a peak is cut
_FAR = 1e100  # whose differences are finite still


def points_image(
    points: Tensor | np.ndarray, real: Tensor | np.ndarray | None = None, size: int = 640
) -> Image.Image:
    """Draw generated points in color over real ones in gray, a square of `size` pixels.

    Both have shape (n, dims, 1, 1) or (n, dims), dims 1 or 2. Points of a plane are dots, of equal
    scale in x and y; points of a line are histograms whose area is the share of points in the
    frame. The frame is that of the real points and a fifth more on each side, so that a generator
    gone far does not shrink them; a line below says how many points lie outside or are not finite.

    Raises:
        UsageError: no points at all, points of another shape or of 3 or more numbers, two sets of
            unlike dims, or a size below 240.
    """
    if size < _LEAST:
        raise UsageError(f"size is {size}; expected at least {_LEAST} pixels")
    generated = _Set.of(points, "points")
    shown = None if real is None else _Set.of(real, "real points")
    if not generated.count + (shown.count if shown else 0):
        raise UsageError("no points were given; give at least one")
    if shown and shown.values.shape[1] != generated.values.shape[1]:
        raise UsageError(
            f"points have {generated.values.shape[1]} numbers, but real points "
            f"{shown.values.shape[1]}; give points of one distribution"
        )
    guide = shown if shown and len(shown.values) else generated
    sheet = _Sheet.of(_frame(guide.values), size)
    draw = _histograms if generated.values.shape[1] == 1 else _scatter
    cut = draw(sheet, shown, generated)
    _legend(sheet, shown, generated)
    _caption(sheet, shown, generated, cut)
    return sheet.image


@dataclass(frozen=True)
class _Set:
    """Finite points, shape (n, dims), and how many there were in all."""

    values: Float64[np.ndarray, "n dims"]
    count: int

    @classmethod
    def of(cls, points: Tensor | np.ndarray, what: str) -> _Set:
        if isinstance(points, Tensor):
            points = points.detach().cpu().double().numpy()
        array = points.astype(np.float64)
        if array.ndim == 4 and array.shape[2:] == (1, 1):
            array = array[:, :, 0, 0]
        if array.ndim != 2 or array.shape[1] not in (1, 2):
            raise UsageError(
                f"{what} have shape {tuple(points.shape)}; expected (n, dims) or (n, dims, 1, 1) "
                f"with dims 1 or 2"
            )
        return cls(array[np.isfinite(array).all(1)], len(array))

    def within(self, frame: Float64[np.ndarray, "dims 2"]) -> Float64[np.ndarray, "m dims"]:
        values = self.values
        return values[((values >= frame[:, 0]) & (values <= frame[:, 1])).all(1)]


@dataclass(frozen=True)
class _Sheet:
    """An image with a box in it, whose coordinates are those of a frame, low and high by axis."""

    image: Image.Image
    pen: ImageDraw.ImageDraw
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont
    small: ImageFont.FreeTypeFont | ImageFont.ImageFont
    frame: Float64[np.ndarray, "dims 2"]
    left: int
    top: int
    side: int

    @classmethod
    def of(cls, frame: Float64[np.ndarray, "dims 2"], size: int) -> _Sheet:
        image = Image.new("RGB", (size, size), _GROUND)
        font, small = (ImageFont.load_default(size * part) for part in (0.0265, 0.0215))
        side = round(size * 0.81)
        sheet = (round(size * 0.12), round(size * 0.07), side)
        return cls(image, ImageDraw.Draw(image), font, small, frame, *sheet)

    def x(self, value: float) -> float:
        low, high = self.frame[0]
        return self.left + (value - low) / (high - low) * self.side

    def y(self, value: float, low: float, high: float) -> float:
        return self.top + (high - value) / (high - low) * self.side

    def axes(self, low: float, high: float) -> None:
        """The box, and numbers on its left (from low to high) and below (of the frame)."""
        right, bottom = self.left + self.side, self.top + self.side
        mark = max(3, self.side // 120)
        for text, value in _ticks(*map(float, self.frame[0])):
            x = self.x(value)
            self.pen.line((x, bottom, x, bottom + mark), fill=_FAINT)
            self.pen.text((x, bottom + 2 * mark), text, _FAINT, self.small, anchor="mt")
        for text, value in _ticks(low, high):
            y = self.y(value, low, high)
            self.pen.line((self.left - mark, y, self.left, y), fill=_FAINT)
            self.pen.text((self.left - 2 * mark, y), text, _FAINT, self.small, anchor="rm")
        self.pen.rectangle((self.left, self.top, right, bottom), outline=_RULE)


def _frame(values: Float64[np.ndarray, "n dims"]) -> Float64[np.ndarray, "dims 2"]:
    """Low and high of each axis: all but the outermost points, and a fifth more on each side."""
    if not len(values):
        return np.array([[-1.0, 1.0]] * values.shape[1])
    low, high = np.quantile(np.clip(values, -_FAR, _FAR), [0.001, 0.999], axis=0)
    largest = float(np.abs([low, high]).max())
    span = max(float((high - low).max()), largest * 1e-9) or 1.0
    middle, half = (low + high) / 2, span * (0.5 + _GROWN)
    return np.stack([middle - half, middle + half], axis=1)


def _scatter(sheet: _Sheet, real: _Set | None, generated: _Set) -> str:
    """Dots, the more transparent the more there are; generated ones on real ones are dark."""
    canvas = np.full((sheet.side * _FINE, sheet.side * _FINE, 3), 255.0)
    for points, color, size in (real, _REAL, 0.0065), (generated, _FAKE, 0.0038):
        if points is not None:
            inside = points.within(sheet.frame)
            opacity = min(0.7, max(0.12, 25 / math.sqrt(max(1, len(inside)))))
            cover = 1 - (1 - opacity) ** _dots(inside, sheet, size)
            canvas *= 1 - cover[..., None] * (1 - np.array(color) / 255)
    fine = Image.fromarray(canvas.round().astype(np.uint8))
    box = fine.resize((sheet.side, sheet.side), Image.Resampling.BOX)
    sheet.image.paste(box, (sheet.left, sheet.top))
    sheet.axes(*map(float, sheet.frame[1]))
    return ""


def _dots(
    points: Float64[np.ndarray, "n 2"], sheet: _Sheet, size: float
) -> Float64[np.ndarray, "side side"]:
    """How many dots, of a radius that is a share of the side, lie on each fine pixel."""
    side = sheet.side * _FINE
    low, high = sheet.frame.T
    cells = np.minimum((points - low) / (high - low) * side, side - 1).astype(np.int64)
    counts = np.zeros((side, side))
    np.add.at(counts, (side - 1 - cells[:, 1], cells[:, 0]), 1.0)
    radius = size * side
    reach = math.ceil(radius)
    # A dot is a stack of runs, and the sum over a run the difference of two sums from the left.
    sums = np.cumsum(np.pad(counts, ((reach, reach), (reach + 1, reach))), axis=1)
    cover = np.zeros_like(counts)
    for dy in range(-reach, reach + 1):
        half = math.floor(math.sqrt(max(0.0, radius**2 - dy**2)))
        rows = sums[reach + dy : reach + dy + side]
        cover += rows[:, reach + half + 1 :][:, :side] - rows[:, reach - half :][:, :side]
    return cover


def _histograms(sheet: _Sheet, real: _Set | None, generated: _Set) -> str:
    """Real points as filled bars, generated ones as a line; says what was cut."""
    edges = np.linspace(float(sheet.frame[0, 0]), float(sheet.frame[0, 1]), _BINS + 1)
    width = float(edges[1] - edges[0])
    heights = [
        np.histogram(points.values[:, 0], edges)[0] / max(1, len(points.values)) / width
        for points in (real, generated)
        if points is not None
    ]
    peak, highest = float(heights[-1].max()), float(heights[0].max())
    top = 1.08 * (min(peak, _TALLER * highest) if highest else peak)
    top = max(top, 1.08 * highest) or 1.0

    fine = Image.new("RGB", (sheet.side * _FINE, sheet.side * _FINE), _GROUND)
    pen = ImageDraw.Draw(fine)

    def corners(bars: np.ndarray) -> list[tuple[float, float]]:
        x = np.repeat(np.linspace(0, fine.width, _BINS + 1), 2)[1:-1]
        y = np.repeat(np.clip(1 - bars / top, 0.0, 1.0) * fine.height, 2)
        return list(zip(x.tolist(), y.tolist(), strict=True))

    if real is not None:
        ends = [(fine.width, fine.height), (0, fine.height)]
        pen.polygon([*corners(heights[0]), *ends], fill=_BAR)
    thick = max(2, round(sheet.side * 0.005)) * _FINE
    pen.line(corners(heights[-1]), fill=_FAKE, width=thick, joint="curve")
    box = fine.resize((sheet.side, sheet.side), Image.Resampling.BOX)
    sheet.image.paste(box, (sheet.left, sheet.top))
    sheet.axes(0.0, top)
    corner = (sheet.left + sheet.side * 0.015, sheet.top + sheet.side * 0.015)
    sheet.pen.text(corner, "density", _FAINT, sheet.small)
    return f"the peak of generated points, {peak:.3g}, is cut" if peak > top else ""


def _ticks(low: float, high: float) -> list[tuple[str, float]]:
    """Four to nine round numbers between two, and how they are written."""
    rough = (high - low) / 6
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * times for times in (1, 2, 5, 10) if unit * times >= rough)
    first = math.ceil(low / step - 1e-9)
    values = [step * k for k in range(first, math.floor(high / step + 1e-9) + 1)]
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    largest = max(map(abs, values), default=0.0)
    if largest < 1e5 and digits <= 4:
        return [(f"{value:.{digits}f}", value) for value in values]
    digits = max(1, math.ceil(math.log10(max(largest, step) / step)) + 1)
    return [(f"{value:.{digits}g}", value) for value in values]


def _legend(sheet: _Sheet, real: _Set | None, generated: _Set) -> None:
    """A mark and a name for each set, above the box."""
    x, y = float(sheet.left), sheet.top / 2
    r = sheet.side * 0.011
    marks = [(f"generated ({generated.count:,})", _FAKE)]
    if real is not None:
        plane = len(sheet.frame) == 2
        marks.insert(0, (f"real ({real.count:,})", _REAL if plane else _BAR))
        if plane:
            both = [real * fake // 255 for real, fake in zip(_REAL, _FAKE, strict=True)]
            marks.append(("both", (both[0], both[1], both[2])))
    for text, color in marks:
        sheet.pen.ellipse((x, y - r, x + 2 * r, y + r), fill=color)
        sheet.pen.text((x + 3.2 * r, y), text, _TEXT, sheet.font, anchor="lm")
        x += 3.2 * r + sheet.pen.textlength(text, sheet.font) + sheet.side * 0.05


def _caption(sheet: _Sheet, real: _Set | None, generated: _Set, cut: str) -> None:
    """What the image does not show, below the box."""
    parts = [cut] if cut else []
    for name, points in ("real", real), ("generated", generated):
        if points is None:
            continue
        outside = len(points.values) - len(points.within(sheet.frame))
        broken = points.count - len(points.values)
        of = f" of {points.count:,} {name} points"
        if outside:
            also = f", {broken:,} not finite" if broken else ""
            parts.append(f"{outside:,}{of} outside the frame{also}")
        elif broken:
            parts.append(f"{broken:,}{of} not finite")
    lines = [""]
    for part in parts:
        longer = f"{lines[-1]}; {part}" if lines[-1] else part
        if sheet.left + sheet.pen.textlength(longer, sheet.small) < sheet.image.width:
            lines[-1] = longer
        else:
            lines.append(part)
    place = (sheet.left, sheet.image.height * 0.921)
    sheet.pen.text(place, "\n".join(lines), _FAINT, sheet.small, spacing=2)
