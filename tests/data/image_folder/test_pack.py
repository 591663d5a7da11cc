import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
import zlib
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from advnets.data.dataset import ArraySplit, Dataset, RandomCropSplit
from advnets.data.image_folder import workers
from advnets.data.image_folder.decode import Frame, decode
from advnets.data.image_folder.pack import find_images, open_image_files, open_pack, pack
from advnets.data.loader import BatchTransform, Loader
from advnets.data.normalization import UnitNormalizer
from advnets.errors import DataError, UsageError, WriteError
from advnets.rng import RNG

CPU = torch.device("cpu")
FRAME = Frame(6, 8)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Return 120 images of two classes, of mixed shapes and formats."""
    rng = np.random.default_rng(0)
    place = tmp_path / "images"
    for i in range(120):
        inner = place / ("cat", "dog")[i % 2]
        inner.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (8 + i % 7, 9 + i % 11, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(inner / f"{i}.{('png', 'jpg', 'bmp')[i % 3]}")
    return place


def every(splits: Dataset) -> list[ArraySplit | RandomCropSplit]:
    return [part for part in (splits.train, splits.valid, splits.test) if part is not None]


def test_a_pack_contains_the_decoded_images(folder, tmp_path):
    """Each once, with its class, in its split."""
    splits = pack(find_images(folder), FRAME, tmp_path / "out")
    expected = {
        decode(path.read_bytes(), FRAME).tobytes(): path.parent.name for path in folder.rglob("*.*")
    }
    names = {
        image.tobytes(): splits.classes[label]
        for part in every(splits)
        for image, label in zip(part.images, part.labels, strict=True)
    }
    assert names == expected
    assert len(expected) == 120
    assert splits.shape == (3, 6, 8)
    assert (splits.name, splits.skipped_files) == ("images", ())


def test_images_are_mapped_into_memory(folder, tmp_path):
    """Writing to the arrays does not change the file."""
    splits = pack(find_images(folder), FRAME, tmp_path / "out")
    assert isinstance(splits.train.images, np.memmap)
    before = (tmp_path / "out" / "images.npy").read_bytes()
    splits.train.images[:] = 0
    assert (tmp_path / "out" / "images.npy").read_bytes() == before
    feed = Loader(open_pack(tmp_path / "out").train, BatchTransform(UnitNormalizer(), 4, 0, CPU))
    assert feed.batch_at(0).images.shape == (4, 3, 6, 8)


def test_the_stored_digest_is_that_of_the_images(folder, tmp_path):
    """It depends on content, not on path or time."""
    first = pack(find_images(folder), FRAME, tmp_path / "one")
    unknown = ArraySplit(np.array(first.train.images), np.array(first.train.labels))
    assert first.train.known_digest == unknown.digest()
    shutil.copytree(folder, tmp_path / "images2")
    two = pack(find_images(tmp_path / "images2"), FRAME, tmp_path / "two")
    assert two.digest() == first.digest()
    resized = pack(find_images(folder), Frame(8, 8), tmp_path / "three")
    assert resized.digest() != first.digest()


@pytest.mark.parametrize("crop", ["center", "pad", "random"])
def test_broken_files_are_skipped_and_named(folder, tmp_path, crop):
    """The others are packed without a gap."""
    packed = pack(find_images(folder), Frame(6, 8, crop=crop), tmp_path / "whole")
    (folder / "cat" / "bad.png").write_text("no image")
    (folder / "dog" / "empty.jpg").touch()
    splits = pack(find_images(folder), Frame(6, 8, crop=crop), tmp_path / "out")
    assert {file.name: file.reason for file in splits.skipped_files} == {
        "cat/bad.png": "is not an image in a format that can be read",
        "dog/empty.jpg": "is empty",
    }
    for part, before in zip(every(splits), every(packed), strict=True):
        np.testing.assert_array_equal(part.read(slice(None)), before.read(slice(None)))
        np.testing.assert_array_equal(part.labels, before.labels)
    assert open_pack(tmp_path / "out").skipped_files == splits.skipped_files


def test_random_crops_are_all_windows_of_an_image(tmp_path):
    """With crop "random" every window occurs, and nothing else."""
    place = tmp_path / "images"
    place.mkdir()
    rng = np.random.default_rng(1)
    shapes = [(6, 8), (6, 11), (9, 8)]
    pixels = [rng.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(place / f"{i}.png")
    splits = pack(find_images(place), Frame(6, 8, crop="random"), tmp_path / "out")
    windows = {
        image[y : y + 6, x : x + 8].transpose(2, 0, 1).tobytes()
        for image in pixels
        for y in range(image.shape[0] - 5)
        for x in range(image.shape[1] - 7)
    }
    feed = Loader(splits.train, BatchTransform(UnitNormalizer(), 3, 0, CPU))
    gather = splits.train.gather_fn(CPU)
    crops = {
        image.numpy().tobytes()
        for step in range(60)
        for image in gather(torch.arange(3), RNG(0, step=step))
    }
    assert crops == windows
    assert len(windows) == 1 + 4 + 4
    assert torch.equal(feed.batch_at(7).images, feed.batch_at(7).images)
    center = {image.tobytes() for image in splits.train.read(slice(None))}
    middle = [
        image[(len(image) - 6) // 2 :][:6, (image.shape[1] - 8) // 2 :][:, :8] for image in pixels
    ]
    assert center == {image.transpose(2, 0, 1).tobytes() for image in middle}
    unknown = RandomCropSplit(splits.train.values, splits.train.extents, splits.train.shape)
    assert unknown.digest() == splits.train.digest()


def test_the_pack_does_not_depend_on_the_number_of_processes(folder, tmp_path, monkeypatch):
    serial = pack(find_images(folder), FRAME, tmp_path / "alone")
    loose = pack(find_images(folder), Frame(6, 8, crop="random"), tmp_path / "loose")
    monkeypatch.setattr(workers, "_MIN_FILES", 1)
    monkeypatch.setattr(workers, "_CHUNK", 16)
    parallel = pack(find_images(folder), FRAME, tmp_path / "together", progress=True)
    assert parallel.digest() == serial.digest()
    repeated = pack(find_images(folder), Frame(6, 8, crop="random"), tmp_path / "again")
    assert repeated.digest() == loose.digest()


def test_a_zip_is_packed_like_the_folder_in_it(folder, tmp_path):
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        for path in folder.rglob("*.*"):
            archive.write(path, path.relative_to(folder).as_posix())
    first = pack(find_images(folder), FRAME, tmp_path / "one")
    two = pack(find_images(tmp_path / "z.zip"), FRAME, tmp_path / "two")
    assert first.digest() == two.digest()


def opened(folder: Path, frame: Frame = FRAME) -> Dataset:
    return open_image_files(find_images(folder), frame)


def test_an_unchanged_folder_is_packed_once(folder, cache, monkeypatch):
    """Another frame, or another file, is packed again."""
    first = opened(folder)
    monkeypatch.setattr(workers, "decode", lambda *_: pytest.fail("decoded again"))
    assert opened(folder).digest() == first.digest()
    monkeypatch.undo()
    monkeypatch.setenv("ADVNETS_CACHE", str(cache))
    assert opened(folder, Frame(8, 8)).shape == (3, 8, 8)
    (folder / "cat" / "0.png").unlink()
    assert opened(folder).digest() != first.digest()
    assert len(list((cache / "packs").glob("*/pack.json"))) == 3


def changed(content: bytes, offset: int) -> bytes:
    """Return the content with three other bytes."""
    inverted = bytes(byte ^ 0x55 for byte in content[offset : offset + 3])
    return content[:offset] + inverted + content[offset + 3 :]


@pytest.mark.parametrize("crop", ["center", "random"])
def test_a_damaged_pack_in_the_cache_is_reported_and_replaced(folder, cache, caplog, crop):
    """Three changed bytes in any file, a truncated or missing one, and a pack of other images."""
    frame = Frame(6, 8, crop=crop)
    digest = opened(folder, frame).digest_all_splits()
    [place] = (path.parent for path in (cache / "packs").glob("*/pack.json"))
    names = sorted(path.name for path in place.iterdir())
    assert len(names) == (3 if crop == "center" else 4)
    assert caplog.messages == []
    for name in names:
        intact = (place / name).read_bytes()
        status = (place / name).stat()
        for content in (changed(intact, len(intact) // 2), intact[: len(intact) // 2], None):
            if content is None:
                (place / name).unlink()
            else:
                (place / name).write_bytes(content)
                os.utime(place / name, ns=(status.st_atime_ns, status.st_mtime_ns))
            caplog.clear()
            assert opened(folder, frame).digest_all_splits() == digest
            [message] = caplog.messages
            assert message.endswith("; the images are packed again now")
            if name != "pack.json":
                assert f"{place} is damaged: the checksum of {name} is wrong" in message
    opened(folder, Frame(8, 8))
    [new_pack] = {path.parent for path in (cache / "packs").glob("*/pack.json")} - {place}
    shutil.rmtree(place)
    new_pack.rename(place)
    caplog.clear()
    assert opened(folder, frame).digest_all_splits() == digest
    assert caplog.messages == [
        f"{place} is a pack of other images; the images are packed again now"
    ]


@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "pack.json"])
def test_three_changed_bytes_of_a_pack_are_refused(folder, tmp_path, run_command, name):
    """A pack that is opened by its path cannot be made again, and is named."""
    pack(find_images(folder), FRAME, tmp_path / "out")
    path = tmp_path / "out" / name
    content = path.read_bytes()
    offset = content.index(b'"cat"') + 1 if name == "pack.json" else len(content) - 9
    new = content.replace(b'"cat"', b'"cow"') if name == "pack.json" else changed(content, offset)
    path.write_bytes(new)
    code, _, errors = run_command("data", "audit", tmp_path / "out")
    assert code == 1
    assert f"is damaged: the checksum of {name} is wrong; pack the images again" in errors


def sealed(record: dict[str, object]) -> str:
    """Return a record with a valid checksum."""
    content = {name: value for name, value in record.items() if name != "checksum"}
    checksum = zlib.crc32(json.dumps(content, sort_keys=True).encode())
    return json.dumps(content | {"checksum": checksum})


def test_a_damaged_pack_is_refused(folder, tmp_path):
    """Opened by its path, with any damage."""
    pack(find_images(folder), FRAME, tmp_path / "out")
    record = json.loads((tmp_path / "out" / "pack.json").read_text())
    wrong = [
        "",
        "[" * 100_000,
        "[]",
        "{}",
        sealed(record | {"counts": [120, 60, 0, 0]}),
        sealed(record | {"counts": [121, -1, 0, 0]}),
        sealed(record | {"counts": [0, 60, 60, 0]}),
        sealed(record | {"frame": {"height": 6, "width": 9}}),
        sealed(record | {"frame": {"height": "6"}}),
        sealed(record | {"skipped_files": 3}),
    ]
    for text in wrong:
        (tmp_path / "out" / "pack.json").write_text(text)
        with pytest.raises(DataError, match="is not a pack that can be read"):
            open_pack(tmp_path / "out")
    (tmp_path / "out" / "pack.json").write_text(json.dumps(record | {"version": 99}))
    with pytest.raises(DataError, match="is a pack of version 99, expected version 4"):
        open_pack(tmp_path / "out")


def test_a_failed_pack_leaves_no_files(folder, tmp_path, monkeypatch):
    """A full disk, no images, or no permission give one sentence."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, 1 << 20))
    with pytest.raises(DataError, match=r"needs 0 MiB, but .* has 1 MiB free; free some space"):
        pack(find_images(folder), FRAME, tmp_path / "out" / "pack")
    monkeypatch.undo()
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "a.png").touch()
    with pytest.raises(DataError, match=r"none of its 1 images can be read \(a.png is empty\)"):
        pack(find_images(tmp_path / "none"), FRAME, tmp_path / "out" / "pack")
    assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match="exists already"):
        pack(find_images(folder), FRAME, tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match="could not be written"):
        pack(find_images(folder), FRAME, tmp_path / "file" / "pack")


def test_an_unwritable_cache_is_reported_with_advice(folder, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("ADVNETS_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match="set ADVNETS_CACHE to a folder that you can write"):
        opened(folder)


SCRIPT = """
import sys
from pathlib import Path
from advnets.data.registry import open_dataset
print(open_dataset(sys.argv[1], size=256).digest())
"""


def process(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_after_kill_9_the_next_start_packs_again(folder, cache):
    """At any moment of packing."""
    for wait in (0.05, 0.3):
        victim = process(folder)
        deadline = time.monotonic() + 30
        while not list(cache.glob("packs/.*.unfinished-pack")) and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(wait)
        os.killpg(victim.pid, signal.SIGKILL)
        victim.communicate()
    completed = process(folder)
    out, errors = completed.communicate(timeout=60)
    assert completed.returncode == 0, errors
    assert out.strip() == opened(folder, Frame(256, 256)).digest()
    assert not list(cache.glob("packs/.*.unfinished-pack*"))


def test_two_concurrent_starts_pack_once(folder, cache):
    """The other one waits and uses the pack."""
    both = [process(folder) for _ in range(2)]
    results = [run.communicate(timeout=60) for run in both]
    assert results[0][0] == results[1][0] != "", results
    assert len(list((cache / "packs").glob("*/pack.json"))) == 1


def test_a_script_without_main_guard_can_pack(folder, tmp_path):
    """It uses all cores."""
    script = tmp_path / "script.py"
    script.write_text(
        "from advnets.data.image_folder import workers\n"
        "workers._MIN_FILES = 1\n"
        "from advnets.data import open_dataset\n"
        f"print(len(open_dataset({str(folder)!r}, size=8).train))\n"
    )
    completed = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=100, check=False
    )
    assert completed.returncode == 0, completed.stderr
    assert int(completed.stdout) > 80
    assert multiprocessing.active_children() == []


def test_decoding_processes_do_not_import_torch():
    heavy = "{'torch', 'datasets', 'pyarrow', 'scipy', 'matplotlib'}"
    code = f"import sys, advnets.data.image_folder.workers; print({heavy} & set(sys.modules))"
    completed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert completed.stdout.strip() == "set()"


def test_a_kill_between_lock_and_folder_is_cleaned_up(folder, tmp_path):
    lock = tmp_path / ".out.01234567.unfinished-pack-lock"
    foreign_folder = tmp_path / ".out.01234567.part"
    lock.touch()
    foreign_folder.mkdir()
    pack(find_images(folder), FRAME, tmp_path / "out")
    assert not lock.exists()
    assert foreign_folder.exists()  # another program's folder


def test_a_pack_made_meanwhile_by_another_process_is_kept(folder, tmp_path, monkeypatch):
    def made_by_another(self, target):
        target.mkdir()
        (target / "pack.json").write_text("theirs")
        os.rename(self, target)  # noqa: PTH104 - the real one

    monkeypatch.setattr(Path, "rename", made_by_another)
    with pytest.raises(UsageError, match="exists already"):
        pack(find_images(folder), FRAME, tmp_path / "out")
    assert (tmp_path / "out" / "pack.json").read_text() == "theirs"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "out"]
