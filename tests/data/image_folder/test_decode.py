from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from advnets.data.image_folder import decode as module
from advnets.data.image_folder.decode import SUFFIXES, Frame, is_image_content, is_image_name
from advnets.errors import DataError, UsageError

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)


def decode(path: Path, size: int, channels: int, **frame: object) -> np.ndarray:
    """The file at a path, brought to a square frame."""
    return module.decode(path.read_bytes(), Frame(size, size, channels, **frame))


def saved(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


def flat(mode: str, color: object, path: Path, **options: object) -> np.ndarray:
    """The color that an image of one color is decoded to."""
    image = Image.new(mode, (9, 9), color)
    image.save(path, **options)
    decoded = decode(path, 4, 3)
    assert (decoded == decoded[:, :1, :1]).all()
    return decoded[:, 0, 0]


@pytest.mark.parametrize("name", ["x.png", "x.bmp", "x.tif", "x.webp", "x.ppm", "x.gif", "x.tga"])
def test_pixels_of_the_right_size_are_kept(tmp_path, name):
    """An image of the size wanted keeps its pixels, as channels, height, width."""
    image = Image.fromarray(NOISE)
    options = {"lossless": True} if name == "x.webp" else {}
    path = saved(image.quantize(64) if name == "x.gif" else image, tmp_path / name, **options)
    with Image.open(path) as opened:
        expected = np.asarray(opened.convert("RGB"))
    decoded = decode(path, 8, 3)
    assert decoded.shape == (3, 8, 8)
    np.testing.assert_array_equal(decoded.transpose(1, 2, 0), expected)


def test_gray_is_luma(tmp_path):
    """Gray is 0.299 R + 0.587 G + 0.114 B (ITU-R 601); gray as color is three times the same."""
    path = saved(Image.fromarray(NOISE), tmp_path / "x.png")
    luma = NOISE @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(decode(path, 8, 1)[0], luma, atol=1)
    path = saved(Image.fromarray(NOISE[..., 0]), tmp_path / "y.png")
    np.testing.assert_array_equal(decode(path, 8, 3), np.stack([NOISE[..., 0]] * 3))


def test_transparent_is_white(tmp_path):
    """What is transparent shows white behind it, in every kind of transparency."""
    half = [(255 + 200) / 2, (255 + 100) / 2, 255 / 2]
    found = flat("RGBA", (200, 100, 0, 128), tmp_path / "rgba.png")
    np.testing.assert_allclose(found, half, atol=1)
    assert flat("RGBA", (0, 0, 0, 0), tmp_path / "clear.png").tolist() == [255] * 3
    np.testing.assert_allclose(flat("LA", (100, 128), tmp_path / "la.png"), [177] * 3, atol=1)
    found = flat("RGB", (1, 2, 3), tmp_path / "key.png", transparency=(1, 2, 3))
    assert found.tolist() == [255] * 3
    assert flat("L", 7, tmp_path / "gray-key.png", transparency=7).tolist() == [255] * 3
    assert flat("P", 0, tmp_path / "palette.gif", transparency=0).tolist() == [255] * 3
    assert flat("P", 0, tmp_path / "palette.png", transparency=b"\0").tolist() == [255] * 3


def test_no_dark_rim_about_what_is_transparent(tmp_path):
    """White on transparent black stays white when it is made smaller."""
    image = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    image.paste((255, 255, 255, 255), (16, 16, 48, 48))
    assert (decode(saved(image, tmp_path / "x.png"), 16, 3) == 255).all()


def test_other_modes(tmp_path):
    """Palettes, two-tone, CMYK and Lab become the colors they mean."""
    palette = Image.new("RGB", (9, 9), (10, 200, 30)).quantize(4)
    assert decode(saved(palette, tmp_path / "x.png"), 4, 3)[:, 0, 0].tolist() == [10, 200, 30]
    assert flat("1", 1, tmp_path / "one.png").tolist() == [255] * 3
    assert flat("CMYK", (0, 255, 255, 0), tmp_path / "cmyk.tif").tolist() == [255, 0, 0]
    found = flat("CMYK", (0, 255, 255, 0), tmp_path / "cmyk.jpg", quality=100)
    np.testing.assert_allclose(found, [255, 0, 0], atol=3)
    np.testing.assert_allclose(
        flat("LAB", (128, 128, 128), tmp_path / "lab.tif"), [119] * 3, atol=2
    )
    assert decode(tmp_path / "cmyk.tif", 4, 1).shape == (1, 4, 4)
    assert decode(tmp_path / "lab.tif", 4, 1).shape == (1, 4, 4)


@pytest.mark.parametrize("name", ["x.png", "x.tif", "x.pgm"])
def test_16_bits_become_8(tmp_path, name):
    """Gray of 16 bits is rounded to v · 255 / 65535, neither cut off at 255 nor wrapped."""
    values = np.linspace(0, 65535, 64).round().astype(np.uint16).reshape(8, 8)
    path = saved(Image.fromarray(values), tmp_path / name)
    expected = (values.astype(np.float64) * 255 / 65535).round()
    np.testing.assert_array_equal(decode(path, 8, 1)[0], expected)
    np.testing.assert_array_equal(decode(path, 8, 3)[2], expected)


def test_gray_without_a_known_white_is_refused(tmp_path):
    """Floats and 32-bit integers have no white: they are named, not guessed at."""
    for values in (np.ones((8, 8), np.float32), np.full((8, 8), 70_000, np.int32)):
        path = saved(Image.fromarray(values), tmp_path / "x.tif")
        with pytest.raises(DataError, match="white level is unknown"):
            decode(path, 8, 1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_upright(tmp_path, orientation):
    """Each of the eight EXIF orientations is undone."""
    upright = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    # How the camera stored it: by the EXIF standard, where the 0th row and the 0th column are.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: upright.T[::-1],
        7: upright.T[::-1, ::-1],
        8: upright.T[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(Image.fromarray(stored.copy()), tmp_path / "x.png", exif=exif)
    np.testing.assert_array_equal(decode(path, 8, 1)[0], upright)


@pytest.mark.parametrize(
    "exif",
    [b"Exif\0\0garbage", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0II*\0\x08\0\0\0\xff\xff"],
)
def test_broken_exif_breaks_no_image(tmp_path, exif):
    """An image whose metadata are broken is an image still."""
    path = saved(Image.new("L", (9, 9), 100), tmp_path / "x.jpg", exif=exif)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert (decode(path, 4, 1) == 100).all()


@pytest.mark.parametrize("shape", [(30, 90), (90, 30)])
def test_center_is_cut_out(tmp_path, shape):
    """Of a long image the square in the middle is taken."""
    height, width = shape
    values = np.zeros(shape, np.uint8)
    top, left = (height - 30) // 2, (width - 30) // 2
    values[top : top + 30, left : left + 30] = 200
    path = saved(Image.fromarray(values), tmp_path / "x.png")
    assert (decode(path, 10, 1) == 200).all()


def lanczos(values: np.ndarray, size: int) -> np.ndarray:
    """Lanczos' filter (a = 3) by its formula, over the first axis."""
    scale = len(values) / size
    at = np.arange(len(values)) + 0.5
    weights = np.empty((size, len(values)))
    for i in range(size):
        x = (at - (i + 0.5) * scale) / max(scale, 1)
        weights[i] = np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)
    return weights / weights.sum(1, keepdims=True) @ values


@pytest.mark.parametrize("source", [47, 5])
def test_resized_with_lanczos(tmp_path, source):
    """Smaller and larger, pixels agree with the filter's formula to a level of rounding."""
    values = RNG.integers(0, 256, (source, source), dtype=np.uint8)
    path = saved(Image.fromarray(values), tmp_path / "x.png")
    once = lanczos(values.astype(np.float64), 16)
    expected = lanczos(once.T, 16).T.clip(0, 255)
    # Pillow rounds, and cuts to 0 … 255, between the two axes.
    between = lanczos(lanczos(values.T.astype(np.float64), 16).T.clip(0, 255).round(), 16)
    np.testing.assert_allclose(decode(path, 16, 1)[0], between.clip(0, 255), atol=1.01)
    assert np.abs(decode(path, 16, 1)[0] - expected).mean() < 3


def test_large_jpeg_is_nearly_the_whole_one(tmp_path):
    """A JPEG unpacked at a fraction of its size differs little from one unpacked whole."""
    rng = RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    photo = Image.fromarray(rng).resize((1600, 1200), Image.Resampling.BICUBIC)
    path = saved(photo, tmp_path / "x.jpg", quality=95)
    with Image.open(path) as opened:
        square = opened.crop((200, 0, 1400, 1200))
    whole = square.resize((32, 32), Image.Resampling.LANCZOS)
    difference = decode(path, 32, 3).transpose(1, 2, 0).astype(int) - np.asarray(whole).astype(int)
    assert np.abs(difference).max() <= 4
    assert np.abs(difference).mean() < 0.5


def test_first_of_several_frames(tmp_path):
    """Of an animation the first frame is taken."""
    frames = [Image.new("L", (9, 9), level) for level in (50, 200)]
    path = saved(frames[0], tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    assert (decode(path, 4, 1) == 50).all()


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it is enormous."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        body = kind + body
        return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))

    header = chunk(b"IHDR", struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    )


def test_broken_files_say_why(tmp_path):
    """Empty, cut off, not an image, a bomb, absent: each has its reason."""
    buffer = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(buffer, "PNG")
    broken = {
        b"": "is empty",
        b"<html>not found</html>": "not an image in a format",
        buffer.getvalue()[:200]: "truncated",
        bomb(12_000, 12_000): "12000 × 12000 pixels, a decompression bomb",
        bomb(40_000, 40_000): "cannot be read: Image size",
    }
    path = tmp_path / "x.png"
    for content, reason in broken.items():
        path.write_bytes(content)
        with warnings.catch_warnings(), pytest.raises(DataError, match=reason):
            warnings.simplefilter("ignore")
            decode(path, 8, 3)


def test_no_other_program_is_started(tmp_path, monkeypatch):
    """PostScript is not handed to Ghostscript, not even under an image's name."""
    monkeypatch.setattr("subprocess.Popen", lambda *a, **k: pytest.fail("a program was started"))
    for name in ("x.eps", "x.jpg"):
        path = saved(Image.new("RGB", (9, 9)), tmp_path / name, format="EPS")
        with pytest.raises(DataError, match="not an image in a format"):
            decode(path, 8, 3)


def test_what_is_a_image(tmp_path):
    """An image is known by its ending, whatever its case; without one, by its content."""
    assert {".jpg", ".jpeg", ".png", ".webp", ".tif", ".bmp", ".gif"} <= SUFFIXES
    assert is_image_name("a/b.c/x.JPG")
    names = ["x.txt", "x.json", "x.mpg", "x.h5", "x", ".png", "a.png/x"]
    assert not any(map(is_image_name, names))
    path = saved(Image.new("L", (2, 2)), tmp_path / "image", format="PNG")
    assert is_image_content(path.read_bytes())
    assert not is_image_content(b"no image")


@pytest.mark.parametrize(("height", "width"), [(8, 16), (16, 8), (5, 31)])
def test_frames_need_not_be_square(tmp_path, height, width):
    """An image that covers the frame's shape is cut to it; the frame's own shape is kept whole."""
    values = RNG.integers(0, 256, (height, width), dtype=np.uint8)
    path = saved(Image.fromarray(values), tmp_path / "x.png")
    found = module.decode(path.read_bytes(), Frame(height, width, 1))
    np.testing.assert_array_equal(found[0], values)
    # The middle of an image twice as wide: what lies left and right of it is gone.
    wide = np.zeros((height, 2 * width), np.uint8)
    wide[:, width // 2 : width // 2 + width] = 200
    path = saved(Image.fromarray(wide), tmp_path / "y.png")
    assert (module.decode(path.read_bytes(), Frame(height, width, 1)) == 200).all()


def test_fitted_whole_upon_the_background(tmp_path):
    """With crop "pad" nothing is cut off, and the rest is of the background's color."""
    path = saved(Image.new("RGB", (40, 20), (0, 0, 255)), tmp_path / "x.png")
    found = decode(path, 8, 3, crop="pad", background="#ff0000")
    assert found[:, 0, 0].tolist() == [255, 0, 0]
    assert (found[2, 2:6] == 255).all()
    assert (found[0, 2:6] == 0).all()
    assert (found[0, [0, 1, 6, 7]] == 255).all()
    assert (decode(path, 8, 1, crop="pad")[0, 0] == 255).all()
    clear = saved(Image.new("RGBA", (40, 20), (0, 0, 0, 0)), tmp_path / "y.png")
    assert (decode(clear, 8, 3, crop="pad", background="#102030")[2] == 0x30).all()


def test_transparent_shows_the_background(tmp_path):
    """What is transparent shows the color chosen, and half of it where it is half so."""
    path = saved(Image.new("RGBA", (9, 9), (200, 100, 0, 128)), tmp_path / "x.png")
    found = decode(path, 4, 3, background="black")[:, 0, 0]
    np.testing.assert_allclose(found, [100, 50, 0], atol=1)
    with pytest.raises(
        UsageError, match="expected a color such as white or '#808080' as background, got 'blurple'"
    ):
        Frame(4, 4, background="blurple")


def test_left_uncut(tmp_path):
    """With crop "random" an image covers the frame and keeps its own shape."""
    path = saved(Image.fromarray(NOISE).resize((60, 20)), tmp_path / "x.png")
    assert decode(path, 8, 3, crop="random").shape == (3, 8, 24)
    path = saved(Image.new("L", (2000, 2)), tmp_path / "y.png")
    with pytest.raises(DataError, match="2000 × 2 pixels, too elongated"):
        decode(path, 8, 1, crop="random")


def test_what_an_audit_sees(tmp_path):
    """Format, mode and size are the file's own, the size upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(Image.new("L", (30, 20)), tmp_path / "x.jpg", exif=exif)
    seen, image = module.decode_with_info(path.read_bytes(), Frame(4, 4))
    assert seen == module.ImageInfo("JPEG", "L", 20, 30)
    assert image.shape == (3, 4, 4)
