import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from advnets.data.image_folder import decode as module
from advnets.data.image_folder.audit import likely_white_level
from advnets.data.image_folder.decode import Frame, decode, decode_with_info
from advnets.errors import DataError

# Pillow warns of invalid metadata; packing and auditing silence it.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
FRAME = Frame(20, 30)
LARGE = zlib.compress(bytes(3 << 20))
JUNK_EXIF = b"II*\0\x08\0\0\0\xff\xff" + b"\x12\x01\x03\0\x01\0\0\0" * 3


def saved(kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, kind, **options)
    return file.getvalue()


def chunk(name: bytes, data: bytes, checksum: int | None = None) -> bytes:
    crc = zlib.crc32(name + data) if checksum is None else checksum
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", crc)


def png(*chunks: bytes, last: bool = False) -> bytes:
    """Return a PNG with additional chunks after its header or before its end."""
    content = saved("PNG")
    offset = content.index(b"IEND") - 4 if last else 33
    return content[:offset] + b"".join(chunks) + content[offset:]


def segment(marker: int, data: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def jpeg(*segments: bytes) -> bytes:
    content = saved("JPEG")
    return content[:2] + b"".join(segments) + content[2:]


@pytest.mark.parametrize(
    "content",
    [
        png(chunk(b"iCCP", b"x\0\0" + LARGE)),
        png(chunk(b"iCCP", b"")),
        png(chunk(b"zTXt", b"k\0\0" + LARGE)),
        png(chunk(b"zTXt", b"k\0\0" + LARGE), last=True),
        png(chunk(b"iTXt", b"k\0\1\0\0\0" + LARGE)),
        png(*[chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1 << 20)))] * 80),
        png(chunk(b"tEXt", b"k\0v", checksum=1)),
        png(chunk(b"eXIf", b"MM")),
        png(chunk(b"eXIf", JUNK_EXIF)),
        png(chunk(b"pHYs", b"\0"), chunk(b"gAMA", b"\0"), chunk(b"cHRM", b"\0")),
    ],
    ids=[
        *("large ICC", "no ICC", "large text", "at the end", "large iTXt", "many texts"),
        *("text CRC", "short EXIF", "junk EXIF", "short chunks"),
    ],
)
def test_broken_metadata_of_a_png_are_ignored(content):
    np.testing.assert_array_equal(decode(content, FRAME), PIXELS.transpose(2, 0, 1))


@pytest.mark.parametrize(
    "content",
    [
        jpeg(segment(0xE1, b"Exif\0\0junkjunk")),
        jpeg(segment(0xE1, b"Exif\0\0" + JUNK_EXIF)),
        jpeg(segment(0xE1, b"Exif\0\0MM\0*\xff\xff\xff\xff")),
        jpeg(segment(0xE2, b"ICC_PROFILE\0")),
        jpeg(segment(0xE0, b"JFIF\0")),
        jpeg(
            *[
                segment(0xE2, b"ICC_PROFILE\0" + bytes([i + 1, 50]) + bytes(60000))
                for i in range(50)
            ]
        ),
    ],
    ids=["no EXIF", "junk EXIF", "EXIF leads out", "no ICC", "short JFIF", "large ICC"],
)
def test_broken_metadata_of_a_jpeg_are_ignored(content):
    np.testing.assert_array_equal(decode(content, FRAME), decode(jpeg(), FRAME))


def test_broken_exif_of_a_webp_is_ignored():
    content = saved("WEBP", lossless=True, exif=b"Exif\0\0junkjunk")
    np.testing.assert_array_equal(decode(content, FRAME), PIXELS.transpose(2, 0, 1))


def test_orientation_and_transparency_are_read_with_broken_metadata():
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = exif.tobytes().removeprefix(b"Exif\0\0")
    content = png(chunk(b"zTXt", b"k\0\0" + LARGE), chunk(b"eXIf", turned))
    info, image = decode_with_info(content, Frame(30, 20))
    assert (info.width, info.height) == (20, 30)
    np.testing.assert_array_equal(image, np.rot90(PIXELS, -1).transpose(2, 0, 1))
    first = tuple(PIXELS[0, 0].tolist())
    clear = chunk(b"tRNS", struct.pack(">HHH", *first))
    image = decode(png(clear, chunk(b"zTXt", b"k\0\0" + LARGE)), Frame(20, 30, background="white"))
    assert image[:, 0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_broken_pixels_are_reported(kind):
    """With the first error, not that of the file without metadata."""
    content = saved(kind)
    with pytest.raises(DataError):
        decode(content[: len(content) // 2], FRAME)
    with pytest.raises(DataError, match="MAX_TEXT_CHUNK"):
        decode(png(chunk(b"zTXt", b"k\0\0" + LARGE))[:-700], FRAME)


def test_a_png_of_108_million_pixels_is_read():
    """12,000 x 9,000 pixels; a bomb of that size is refused."""
    width, height = 12_000, 9_000
    row = np.random.default_rng(0).integers(0, 256, width, dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(np.tile(row, (height, 1))).save(file, "PNG", compress_level=0)
    with pytest.warns(Image.DecompressionBombWarning):  # Pillow's own, which packing silences
        image = decode(file.getvalue(), Frame(9, 12, channels=1))
    assert image.shape == (1, 9, 12)
    assert abs(float(image.mean()) - float(row.mean())) < 2
    file = io.BytesIO()
    Image.new("L", (width, height)).save(file, "PNG")
    assert len(file.getvalue()) < width * height // 100
    with (
        pytest.warns(Image.DecompressionBombWarning),
        pytest.raises(DataError, match="12000 × 9000 pixels, a decompression bomb"),
    ):
        decode(file.getvalue(), Frame(9, 12))
    assert width * height < module._MAX_PIXELS


def deep(values: np.ndarray, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(values).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_a_white_level_scales_12_bit_data(kind):
    values = np.linspace(0, 4095, 64).round().astype(np.uint16).reshape(8, 8)
    info, plain = decode_with_info(deep(values, kind), Frame(8, 8, channels=1))
    assert info.value_range == (0, 4095)
    assert plain.max() == 16  # nearly black
    _, scaled = decode_with_info(deep(values, kind), Frame(8, 8, channels=1, white_level=4095.0))
    np.testing.assert_array_equal(scaled[0], (values * (255 / 4095)).round())
    _, clipped = decode_with_info(deep(values, kind), Frame(8, 8, channels=1, white_level=2000.0))
    np.testing.assert_array_equal(clipped[0], (values * (255 / 2000)).clip(0, 255).round())


def test_a_white_level_makes_floats_and_32_bit_gray_readable():
    floats = np.linspace(-0.5, 1.0, 64, dtype=np.float32).reshape(8, 8)
    image = decode(deep(floats, "TIFF"), Frame(8, 8, channels=1, white_level=1.0))
    np.testing.assert_array_equal(image[0], (floats.clip(0, 1).astype(np.float64) * 255).round())
    with pytest.raises(
        DataError, match=r"values from -0.5 to 1, whose white level is unknown; give it"
    ):
        decode(deep(floats, "TIFF"), Frame(8, 8))
    floats[3, 3] = np.nan
    with pytest.raises(DataError, match="values that are not finite"):
        decode(deep(floats, "TIFF"), Frame(8, 8, white_level=1.0))


def test_16_bit_colors_are_reported_and_scaled():
    """Their upper 8 bits are read; the white level scales them."""
    rows = b"".join(b"\0" + struct.pack(">HHH", 4095, 2048, 0) * 8 for _ in range(8))
    header = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    )
    info, plain = decode_with_info(content, Frame(8, 8))
    assert plain[:, 0, 0].tolist() == [15, 8, 0]
    assert info.value_range == (0, 15 * 257)
    _, scaled = decode_with_info(content, Frame(8, 8, white_level=4095.0))
    assert scaled[:, 0, 0].tolist() == [255, 136, 0]  # 8 of 15 of 255


def test_opacity_does_not_count_as_a_level():
    """Of opaque 12-bit gray with alpha the levels are those of the gray."""
    rows = b"".join(b"\0" + struct.pack(">HH", 4095, 65535) * 8 for _ in range(8))
    header = struct.pack(">IIBBBBB", 8, 8, 16, 4, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    )
    info, _ = decode_with_info(content, Frame(8, 8))
    assert info.value_range == (15 * 257, 15 * 257)
    assert likely_white_level(info.value_range[1]) == 4095.0
    assert decode(content, Frame(8, 8, white_level=4095.0)).min() == 255


def test_8_bit_images_have_no_levels_above_255():
    info, plain = decode_with_info(saved("PNG"), Frame(20, 30, white_level=10.0))
    assert info.value_range is None
    np.testing.assert_array_equal(plain, PIXELS.transpose(2, 0, 1))


def test_the_audit_reports_levels_and_the_flag(tmp_path, run_command):
    folder = tmp_path / "scans"
    folder.mkdir()
    for i in range(6):
        values = (np.arange(64) * 65 % (4095 - i)).astype(np.uint16).reshape(8, 8)
        values[0, 0] = 4095
        (folder / f"{i}.png").write_bytes(deep(values))
    _, printed, _ = run_command("data", "audit", folder)
    assert "6 with values 0 to 4095; white is 65535" in printed
    assert "--crop center --white-level 4095" in printed
    run_command("data", "pack", folder, tmp_path / "pack", "--size", 8, "--white-level", 4095)
    pixels = np.load(tmp_path / "pack" / "images.npy")
    assert pixels.max() == 255
    code, _, errors = run_command("data", "pack", folder, tmp_path / "p", "--white-level", "0")
    assert code == 2
    assert "white" in errors
    code, printed, _ = run_command("data", "audit", folder, "--json", "--white-level", 4095)
    assert '"images_16_bit": 6' in printed


def test_keys_of_packs_without_a_white_level_are_unchanged():
    """Digests of streams and keys of existing packs stay valid."""
    text = "Frame(height=6, width=8, channels=3, crop='center', background='white')"
    assert repr(Frame(6, 8)) == text
    assert repr(Frame(6, 8, white_level=9.0)) == text[:-1] + ", white_level=9.0)"
