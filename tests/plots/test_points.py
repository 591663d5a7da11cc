import numpy as np
import pytest
import torch
from PIL import ImageDraw

from advnets.errors import UsageError
from advnets.plots import points as view
from advnets.plots.points import points_image

RNG = np.random.default_rng(0)
REAL = RNG.normal(size=(2000, 2))


@pytest.fixture
def texts(monkeypatch) -> list[str]:
    """Record the texts that are drawn on an image."""
    texts: list[str] = []
    write = ImageDraw.ImageDraw.text

    def record(self, xy, text, *args, **kwargs):
        texts.append(text)
        return write(self, xy, text, *args, **kwargs)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", record)
    return texts


def colored_pixels(image, color: tuple[int, int, int], tolerance: int = 30) -> np.ndarray:
    """Return rows and columns of the pixels inside the axes that have nearly a color."""
    pixels = np.asarray(image).astype(int)
    size = len(pixels)
    result = np.argwhere((np.abs(pixels - color) < tolerance).all(2))
    return result[(result[:, 0] > 0.08 * size) & (result[:, 0] < 0.87 * size)]


@pytest.mark.parametrize("dims", [1, 2])
def test_tensors_and_arrays_of_both_shapes_have_equal_plots(dims):
    """Shapes (n, dims, 1, 1) and (n, dims) are equivalent, in torch and in numpy."""
    points = REAL[:, :dims].astype(np.float32)
    first = points_image(points, REAL[:, :dims])
    assert (first.size, first.mode) == ((640, 640), "RGB")
    for same in (points[:, :, None, None], torch.from_numpy(points)[:, :, None, None]):
        assert points_image(same, REAL[:, :dims]).tobytes() == first.tobytes()


def test_a_dot_is_at_the_position_of_its_point(texts):
    """On axes from -1.4 to 1.4, a point right of and above the center is colored there."""
    real = np.array([[-1.0, -1.0], [1.0, 1.0]])
    image = points_image(np.array([[0.7, 0.35]]), real, 1000)
    row, column = colored_pixels(image, view._FAKE, 80).mean(0)
    assert column == pytest.approx(120 + 810 * (0.7 + 1.4) / 2.8, abs=3)
    assert row == pytest.approx(70 + 810 * (1.4 - 0.35) / 2.8, abs=3)
    assert "-1.0" in texts
    assert "real (2)" in texts
    assert "generated (1)" in texts


def test_both_axes_have_one_scale():
    """Points whose x range is ten times their y range are drawn in this ratio."""
    image = points_image(REAL * [1.0, 0.1])
    rows, columns = np.ptp(colored_pixels(image, view._FAKE, 120), axis=0)
    assert columns / rows == pytest.approx(10, rel=0.25)


def test_outliers_do_not_change_the_axes(texts):
    """The axes cover the real points; points outside or not finite are counted."""
    points = REAL[:100].copy()
    points[:30] = 1e30
    points[30:33] = np.nan
    points[33] = np.inf
    image = points_image(points, REAL)
    near = points_image(REAL[:100], REAL)
    assert (
        len(colored_pixels(image, view._REAL)) > 0.9 * len(colored_pixels(near, view._REAL)) > 1000
    )
    assert texts[texts.index("generated (100)") + 2] == (
        "30 of 100 generated points outside the frame, 4 not finite"
    )


def test_there_is_no_note_if_all_points_are_visible(texts):
    """The note is empty, with and without real points."""
    points_image(REAL[:10] * 0, REAL * 0 + RNG.uniform(-1, 1, REAL.shape))
    assert texts[-1] == ""


def test_points_that_are_all_not_finite(texts):
    """A generator of NaN has a plot."""
    points_image(np.full((5, 2), np.nan))
    assert texts[-1] == "5 of 5 generated points not finite"
    points_image(np.full((5, 1), np.nan), REAL[:, :1])
    points_image(np.zeros((0, 2)), REAL)
    points_image(REAL, np.zeros((0, 2)))


def test_overlapping_dots_are_darker():
    """A generated dot on a real one is darker, so that covered modes are visible."""
    real = np.repeat([[-1.0, 0.0], [1.0, 0.0]], 500, axis=0)
    fake = np.repeat([[1.0, 0.0], [0.0, 0.5]], 500, axis=0)
    image = points_image(fake, real)
    both = tuple(a * b // 255 for a, b in zip(view._REAL, view._FAKE, strict=True))
    for color in (view._REAL, view._FAKE, both):
        assert len(colored_pixels(image, color, 10)) > 5


def test_histograms_show_densities(texts):
    """Bars and line of one distribution have equal heights for any numbers of points."""
    real = np.repeat(np.linspace(0, 1, 80_000)[:, None], 1, axis=1)
    image = points_image(real[::100], real)
    line = colored_pixels(image, view._FAKE, 60)
    bars = colored_pixels(image, view._BAR, 5)
    middle = lambda positions: positions[np.abs(positions[:, 1] - 336) < 60, 0].min()  # noqa: E731
    assert middle(bars) - middle(line) < 25
    assert "density" in texts
    assert "both" not in texts


def test_a_collapsed_generator_does_not_flatten_the_real_histogram(texts):
    """A high peak is cut, with a note."""
    image = points_image(np.full((50, 1), 0.3), REAL[:, :1])
    bars = colored_pixels(image, view._BAR, 5)
    assert np.ptp(bars[:, 0]) > 0.4 * 640
    assert texts[-1].startswith("the peak of generated points, ")


@pytest.mark.parametrize("scale", [1e-30, 1e-5, 1e5, 1e30, 1e200])
@pytest.mark.parametrize("shift", [0.0, 1e6])
@pytest.mark.parametrize("dims", [1, 2])
def test_points_of_any_scale(scale, shift, dims):
    """Very small, very large and distant points have a plot."""
    points = REAL[:50, :dims] * scale + shift
    assert points_image(points, points, 240).size == (240, 240)
    assert points_image(points[:1]).size == (640, 640)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (-1.4, 1.4, ["-1.0", "-0.5", "0.0", "0.5", "1.0"]),
        (0.0, 12.0, ["0", "2", "4", "6", "8", "10", "12"]),
        (0.0, 0.0005, ["0.0000", "0.0001", "0.0002", "0.0003", "0.0004", "0.0005"]),
        (-2e6, 2e6, ["-2e+06", "-1e+06", "0", "1e+06", "2e+06"]),
        (1e6, 1e6 + 4, ["1000000", "1000001", "1000002", "1000003", "1000004"]),
    ],
)
def test_numbers_on_axes_are_round(low, high, expected):
    """Steps are 1, 2 or 5 times a power of ten, and labels are distinct."""
    assert [text for text, _ in view._ticks(low, high)] == expected


@pytest.mark.parametrize(
    ("points", "real", "size", "message"),
    [
        (np.zeros((3, 3)), None, 640, r"points have shape \(3, 3\); expected \(n, dims\)"),
        (np.zeros((3, 1, 8, 8)), None, 640, r"points have shape \(3, 1, 8, 8\)"),
        (np.zeros(3), None, 640, r"points have shape \(3,\)"),
        (REAL, np.zeros((3, 4)), 640, r"real points have shape \(3, 4\)"),
        (REAL, REAL[:, :1], 640, "points have 2 dimensions and real points 1"),
        (np.zeros((0, 2)), None, 640, "there are no points"),
        (REAL, None, 239, "size is 239; expected at least 240"),
    ],
)
def test_invalid_arguments_are_refused(points, real, size, message):
    """Other shapes, no points and small sizes are refused."""
    with pytest.raises(UsageError, match=message):
        points_image(points, real, size)
