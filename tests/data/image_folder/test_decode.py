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
    """Return the file at a path as a square image."""
    return module.decode(path.read_bytes(), Frame(size, size, channels, **frame))


def saved(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


def flat(mode: str, color: object, path: Path, **options: object) -> np.ndarray:
    """Return the color that an image of one color is decoded to."""
    image = Image.new(mode, (9, 9), color)
    image.save(path, **options)
    decoded = decode(path, 4, 3)
    assert (decoded == decoded[:, :1, :1]).all()
    return decoded[:, 0, 0]


@pytest.mark.parametrize("name", ["x.png", "x.bmp", "x.tif", "x.webp", "x.ppm", "x.gif", "x.tga"])
def test_images_of_the_target_size_keep_their_pixels(tmp_path, name):
    """As channels, height, width."""
    image = Image.fromarray(NOISE)
    options = {"lossless": True} if name == "x.webp" else {}
    path = saved(image.quantize(64) if name == "x.gif" else image, tmp_path / name, **options)
    with Image.open(path) as opened:
        expected = np.asarray(opened.convert("RGB"))
    decoded = decode(path, 8, 3)
    assert decoded.shape == (3, 8, 8)
    np.testing.assert_array_equal(decoded.transpose(1, 2, 0), expected)


def test_gray_is_luma(tmp_path):
    """0.299 R + 0.587 G + 0.114 B (ITU-R 601); gray as color has three equal channels."""
    path = saved(Image.fromarray(NOISE), tmp_path / "x.png")
    luma = NOISE @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(decode(path, 8, 1)[0], luma, atol=1)
    path = saved(Image.fromarray(NOISE[..., 0]), tmp_path / "y.png")
    np.testing.assert_array_equal(decode(path, 8, 3), np.stack([NOISE[..., 0]] * 3))


def test_transparent_pixels_are_white(tmp_path):
    """For every representation of transparency."""
    half = [(255 + 200) / 2, (255 + 100) / 2, 255 / 2]
    pixels = flat("RGBA", (200, 100, 0, 128), tmp_path / "rgba.png")
    np.testing.assert_allclose(pixels, half, atol=1)
    assert flat("RGBA", (0, 0, 0, 0), tmp_path / "clear.png").tolist() == [255] * 3
    np.testing.assert_allclose(flat("LA", (100, 128), tmp_path / "la.png"), [177] * 3, atol=1)
    pixels = flat("RGB", (1, 2, 3), tmp_path / "key.png", transparency=(1, 2, 3))
    assert pixels.tolist() == [255] * 3
    assert flat("L", 7, tmp_path / "gray-key.png", transparency=7).tolist() == [255] * 3
    assert flat("P", 0, tmp_path / "palette.gif", transparency=0).tolist() == [255] * 3
    assert flat("P", 0, tmp_path / "palette.png", transparency=b"\0").tolist() == [255] * 3


def test_resizing_leaves_no_dark_rim_around_transparency(tmp_path):
    """White on transparent black stays white."""
    image = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    image.paste((255, 255, 255, 255), (16, 16, 48, 48))
    assert (decode(saved(image, tmp_path / "x.png"), 16, 3) == 255).all()


def test_other_modes_are_converted(tmp_path):
    """Palettes, two-tone, CMYK and Lab become RGB."""
    palette = Image.new("RGB", (9, 9), (10, 200, 30)).quantize(4)
    assert decode(saved(palette, tmp_path / "x.png"), 4, 3)[:, 0, 0].tolist() == [10, 200, 30]
    assert flat("1", 1, tmp_path / "one.png").tolist() == [255] * 3
    assert flat("CMYK", (0, 255, 255, 0), tmp_path / "cmyk.tif").tolist() == [255, 0, 0]
    pixels = flat("CMYK", (0, 255, 255, 0), tmp_path / "cmyk.jpg", quality=100)
    np.testing.assert_allclose(pixels, [255, 0, 0], atol=3)
    np.testing.assert_allclose(
        flat("LAB", (128, 128, 128), tmp_path / "lab.tif"), [119] * 3, atol=2
    )
    assert decode(tmp_path / "cmyk.tif", 4, 1).shape == (1, 4, 4)
    assert decode(tmp_path / "lab.tif", 4, 1).shape == (1, 4, 4)


@pytest.mark.parametrize("name", ["x.png", "x.tif", "x.pgm"])
def test_16_bit_gray_is_rounded_to_8_bits(tmp_path, name):
    """To v · 255 / 65535, neither clipped at 255 nor wrapped."""
    values = np.linspace(0, 65535, 64).round().astype(np.uint16).reshape(8, 8)
    path = saved(Image.fromarray(values), tmp_path / name)
    expected = (values.astype(np.float64) * 255 / 65535).round()
    np.testing.assert_array_equal(decode(path, 8, 1)[0], expected)
    np.testing.assert_array_equal(decode(path, 8, 3)[2], expected)


def test_gray_without_a_known_white_level_is_refused(tmp_path):
    """Floats and 32-bit integers are reported."""
    for values in (np.ones((8, 8), np.float32), np.full((8, 8), 70_000, np.int32)):
        path = saved(Image.fromarray(values), tmp_path / "x.tif")
        with pytest.raises(DataError, match="white level is unknown"):
            decode(path, 8, 1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientations_are_applied(tmp_path, orientation):
    """All eight of them."""
    upright = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    # By the EXIF standard: the positions of row 0 and column 0.
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
def test_images_with_broken_exif_are_read(tmp_path, exif):
    """An image whose metadata are broken is an image still."""
    path = saved(Image.new("L", (9, 9), 100), tmp_path / "x.jpg", exif=exif)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert (decode(path, 4, 1) == 100).all()


@pytest.mark.parametrize("shape", [(30, 90), (90, 30)])
def test_center_crops_the_middle_square(tmp_path, shape):
    """A long image is cropped to the square in its middle."""
    height, width = shape
    values = np.zeros(shape, np.uint8)
    top, left = (height - 30) // 2, (width - 30) // 2
    values[top : top + 30, left : left + 30] = 200
    path = saved(Image.fromarray(values), tmp_path / "x.png")
    assert (decode(path, 10, 1) == 200).all()


def lanczos(values: np.ndarray, size: int) -> np.ndarray:
    """Resize by Lanczos' formula (a = 3) along the first axis."""
    scale = len(values) / size
    at = np.arange(len(values)) + 0.5
    weights = np.empty((size, len(values)))
    for i in range(size):
        x = (at - (i + 0.5) * scale) / max(scale, 1)
        weights[i] = np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)
    return weights / weights.sum(1, keepdims=True) @ values


@pytest.mark.parametrize("source", [47, 5])
def test_resizing_equals_lanczos_formula(tmp_path, source):
    """Smaller and larger, to within a level of rounding."""
    values = RNG.integers(0, 256, (source, source), dtype=np.uint8)
    path = saved(Image.fromarray(values), tmp_path / "x.png")
    once = lanczos(values.astype(np.float64), 16)
    expected = lanczos(once.T, 16).T.clip(0, 255)
    # Pillow rounds and clips to 0 … 255 between the two axes.
    between = lanczos(lanczos(values.T.astype(np.float64), 16).T.clip(0, 255).round(), 16)
    np.testing.assert_allclose(decode(path, 16, 1)[0], between.clip(0, 255), atol=1.01)
    assert np.abs(decode(path, 16, 1)[0] - expected).mean() < 3


def test_jpegs_decoded_at_a_fraction_differ_little(tmp_path):
    """Compared with decoding at full size."""
    rng = RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    photo = Image.fromarray(rng).resize((1600, 1200), Image.Resampling.BICUBIC)
    path = saved(photo, tmp_path / "x.jpg", quality=95)
    with Image.open(path) as image:
        square = image.crop((200, 0, 1400, 1200))
    resized = square.resize((32, 32), Image.Resampling.LANCZOS)
    difference = decode(path, 32, 3).transpose(1, 2, 0).astype(int) - np.asarray(resized).astype(
        int
    )
    assert np.abs(difference).max() <= 4
    assert np.abs(difference).mean() < 0.5


def test_the_first_frame_of_an_animation_is_used(tmp_path):
    """Of an animation the first frame is taken."""
    frames = [Image.new("L", (9, 9), level) for level in (50, 200)]
    path = saved(frames[0], tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    assert (decode(path, 4, 1) == 50).all()


def bomb(width: int, height: int) -> bytes:
    """Return a PNG of a few bytes that declares an enormous size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        body = kind + body
        return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))

    header = chunk(b"IHDR", struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    )


def test_broken_files_have_a_reason(tmp_path):
    """Empty, truncated, not an image, a bomb, or missing."""
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


def test_decoding_starts_no_other_program(tmp_path, monkeypatch):
    """PostScript is not passed to Ghostscript, also under the name of an image."""
    monkeypatch.setattr("subprocess.Popen", lambda *a, **k: pytest.fail("a program was started"))
    for name in ("x.eps", "x.jpg"):
        path = saved(Image.new("RGB", (9, 9)), tmp_path / name, format="EPS")
        with pytest.raises(DataError, match="not an image in a format"):
            decode(path, 8, 3)


def test_images_are_recognized_by_suffix_or_content(tmp_path):
    """By suffix in any case; without one, by content."""
    assert {".jpg", ".jpeg", ".png", ".webp", ".tif", ".bmp", ".gif"} <= SUFFIXES
    assert is_image_name("a/b.c/x.JPG")
    names = ["x.txt", "x.json", "x.mpg", "x.h5", "x", ".png", "a.png/x"]
    assert not any(map(is_image_name, names))
    path = saved(Image.new("L", (2, 2)), tmp_path / "image", format="PNG")
    assert is_image_content(path.read_bytes())
    assert not is_image_content(b"no image")


@pytest.mark.parametrize(("height", "width"), [(8, 16), (16, 8), (5, 31)])
def test_frames_need_not_be_square(tmp_path, height, width):
    """An image is cropped to the frame's aspect ratio; one of that ratio is kept complete."""
    values = RNG.integers(0, 256, (height, width), dtype=np.uint8)
    path = saved(Image.fromarray(values), tmp_path / "x.png")
    pixels = module.decode(path.read_bytes(), Frame(height, width, 1))
    np.testing.assert_array_equal(pixels[0], values)
    # The middle of an image twice as wide: the left and right quarters are cropped.
    wide = np.zeros((height, 2 * width), np.uint8)
    wide[:, width // 2 : width // 2 + width] = 200
    path = saved(Image.fromarray(wide), tmp_path / "y.png")
    assert (module.decode(path.read_bytes(), Frame(height, width, 1)) == 200).all()


def test_pad_keeps_the_image_and_fills_with_the_background(tmp_path):
    """With crop "pad" nothing is cut off, and the rest is of the background's color."""
    path = saved(Image.new("RGB", (40, 20), (0, 0, 255)), tmp_path / "x.png")
    pixels = decode(path, 8, 3, crop="pad", background="#ff0000")
    assert pixels[:, 0, 0].tolist() == [255, 0, 0]
    assert (pixels[2, 2:6] == 255).all()
    assert (pixels[0, 2:6] == 0).all()
    assert (pixels[0, [0, 1, 6, 7]] == 255).all()
    assert (decode(path, 8, 1, crop="pad")[0, 0] == 255).all()
    clear = saved(Image.new("RGBA", (40, 20), (0, 0, 0, 0)), tmp_path / "y.png")
    assert (decode(clear, 8, 3, crop="pad", background="#102030")[2] == 0x30).all()


def test_transparent_pixels_show_the_background(tmp_path):
    """Half of it where the opacity is 1/2."""
    path = saved(Image.new("RGBA", (9, 9), (200, 100, 0, 128)), tmp_path / "x.png")
    pixels = decode(path, 4, 3, background="black")[:, 0, 0]
    np.testing.assert_allclose(pixels, [100, 50, 0], atol=1)
    with pytest.raises(
        UsageError, match="expected a color such as white or '#808080' as background, got 'blurple'"
    ):
        Frame(4, 4, background="blurple")


def test_random_crop_stores_the_uncropped_image(tmp_path):
    """It covers the frame and keeps its aspect ratio."""
    path = saved(Image.fromarray(NOISE).resize((60, 20)), tmp_path / "x.png")
    assert decode(path, 8, 3, crop="random").shape == (3, 8, 24)
    path = saved(Image.new("L", (2000, 2)), tmp_path / "y.png")
    with pytest.raises(DataError, match="2000 × 2 pixels, too elongated"):
        decode(path, 8, 1, crop="random")


def test_audits_get_format_mode_and_size(tmp_path):
    """The file's own, with the size after EXIF rotation."""
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(Image.new("L", (30, 20)), tmp_path / "x.jpg", exif=exif)
    info, image = module.decode_with_info(path.read_bytes(), Frame(4, 4))
    assert info == module.ImageInfo("JPEG", "L", 20, 30)
    assert image.shape == (3, 4, 4)
