"""Any bytes of an image, a zip or a pack are read or refused by an error of this package."""

import io
import json
import os
import resource
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from advnets.data.image_folder.decode import Frame, decode, decode_with_info
from advnets.data.image_folder.files import list_zip
from advnets.data.image_folder.pack import find_images, open_pack, pack
from advnets.errors import DataError

# Finalizers that run while a strategy draws may use `random`, as beartype's do; hypothesis then
# warns, with a text that contains the strategy and all its files.
pytestmark = pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning")
FAST = 200
IMAGES, ZIPS, PACKS = 70_000, 40_000, 10_000
CALM = settings(
    deadline=20_000, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
FRAMES = [Frame(8, 8), Frame(6, 9, 1, "pad", "black"), Frame(8, 8, 3, "random")]


def images() -> list[bytes]:
    """Return a small file of every common format and mode."""
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (12, 10, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds: list[tuple[Image.Image, str, dict[str, object]]] = [
        (image, "PNG", {}),
        (image.convert("RGBA"), "PNG", {}),
        (image.quantize(16), "PNG", {"transparency": 3}),
        (Image.fromarray(rng.integers(0, 65536, (12, 10)).astype(np.uint16)), "PNG", {}),
        (image, "JPEG", {"exif": exif}),
        (image, "JPEG", {"progressive": True, "quality": 20}),
        (image.convert("CMYK"), "JPEG", {}),
        (image, "WEBP", {}),
        (image.convert("RGBA"), "WEBP", {"lossless": True}),
        (image, "BMP", {}),
        (image.convert("1"), "BMP", {}),
        (image.quantize(16), "GIF", {"save_all": True, "append_images": [image.quantize(8)]}),
        (image, "TIFF", {"compression": "tiff_lzw"}),
        (image.convert("CMYK"), "TIFF", {}),
        (image, "TIFF", {"compression": "tiff_adobe_deflate"}),
        (image, "PPM", {}),
        (image, "TGA", {"compression": "tga_rle"}),
        (image, "ICO", {"sizes": [(8, 8)]}),
        (image.quantize(16), "PCX", {}),
        (image, "SGI", {}),
    ]
    files: list[bytes] = []
    for picture, name, options in kinds:
        buffer = io.BytesIO()
        picture.save(buffer, name, **options)
        files.append(buffer.getvalue())
    return files


def zips() -> list[bytes]:
    files: list[bytes] = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as archive:
            archive.comment = b"a comment"
            for i, content in enumerate(images()[:3]):
                archive.writestr(f"cat/{i}.png", content)
        files.append(buffer.getvalue())
    return files


@st.composite
def mutated(draw: st.DrawFn, originals: list[bytes]) -> bytes:
    """Generate files with bytes changed, removed, repeated or cut off, and random bytes."""
    if draw(st.integers(0, 15)) == 0:
        return draw(st.binary(max_size=200))
    content = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(len(content) - 1, 0)))
        many = draw(st.sampled_from([1, 1, 2, 4, 16]))
        kind = draw(st.sampled_from(["change", "drop", "double", "cut", "extreme"]))
        if kind == "change":
            content[at : at + many] = draw(st.binary(min_size=many, max_size=many))
        elif kind == "extreme":
            content[at : at + many] = draw(st.sampled_from([b"\0", b"\xff", b"\x7f"])) * many
        elif kind == "drop":
            del content[at : at + many]
        elif kind == "double":
            content[at:at] = content[at : at + many]
        elif draw(st.integers(0, 7)) == 0:
            del content[at:]
    return bytes(content)


def read_image(content: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for frame in FRAMES:
            try:
                image = decode(content, frame)
                decode_with_info(content, frame)
            except DataError:
                continue
            least = (frame.channels, frame.height, frame.width)
            assert image.dtype == np.uint8
            assert all(a >= b for a, b in zip(image.shape, least, strict=True))


def read_zip(content: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "x.zip"
        path.write_bytes(content)
        try:
            entries = list_zip(path)
        except DataError:
            return
        for result in entries.reader.read(entries.keys):
            assert isinstance(result, bytes | DataError)


def read_pack(number: int, content: bytes) -> None:
    """Open a pack in which one file is replaced by this content."""
    with TemporaryDirectory() as folder:
        for name, intact in PACK[number % 2].items():
            changed = sorted(PACK[number % 2])[number // 2 % len(PACK[number % 2])] == name
            (Path(folder) / name).write_bytes(content if changed else intact)
        try:
            splits = open_pack(Path(folder))
        except DataError:
            return
        assert splits.train.read(slice(None)).shape[1:] == splits.shape


def make_packs() -> list[dict[str, bytes]]:
    packs: list[dict[str, bytes]] = []
    with TemporaryDirectory() as folder:
        for i in range(6):
            path = Path(folder) / "in" / ("cat", "dog")[i % 2] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(images()[0])
        for frame in (Frame(4, 4), Frame(4, 4, crop="random")):
            out = Path(folder) / frame.crop
            pack(find_images(Path(folder) / "in"), frame, out)
            packs.append({file.name: file.read_bytes() for file in out.iterdir()})
    return packs


PACK = make_packs()


@given(mutated(images()))
@settings(CALM, max_examples=FAST)
def test_any_image_is_read_or_refused(content):
    read_image(content)


@given(mutated(zips()))
@settings(CALM, max_examples=FAST)
def test_any_zip_is_read_or_refused(content):
    read_zip(content)


@given(st.integers(0, 7), st.data())
@settings(CALM, max_examples=FAST)
def test_any_pack_is_read_or_refused(number, data):
    files = PACK[number % 2]
    original = files[sorted(files)[number // 2 % len(files)]]
    read_pack(number, data.draw(mutated([original])))


def within_a_gibibyte(check: Callable[[], None]) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    check()
    growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert growth < 1 << 20, f"grew by {growth >> 10} MiB"  # KiB


@pytest.mark.slow
@pytest.mark.parametrize(
    ("files", "examples", "read"),
    [(images(), IMAGES, read_image), (zips(), ZIPS, read_zip)],
    ids=["images", "zips"],
)
def test_very_many_files_are_read_or_refused(files, examples, read):
    within_a_gibibyte(given(mutated(files))(settings(CALM, max_examples=examples)(read)))


@pytest.mark.slow
def test_very_many_packs_are_read_or_refused():
    def check(number: int, data: st.DataObject) -> None:
        test_any_pack_is_read_or_refused.hypothesis.inner_test(number, data)

    run = given(st.integers(0, 7), st.data())(settings(CALM, max_examples=PACKS)(check))
    within_a_gibibyte(run)


def test_packs_have_the_files_that_are_tested():
    """Both kinds of pack have the files that the module names."""
    assert [sorted(files) for files in PACK] == [
        ["images.npy", "labels.npy", "pack.json"],
        ["extents.npy", "labels.npy", "pack.json", "uncropped.bin"],
    ]
    assert json.loads(PACK[0]["pack.json"])["counts"] == [6, 0, 0, 0]
    assert os.sep not in "".join(PACK[1])
