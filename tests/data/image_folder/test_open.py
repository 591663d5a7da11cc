import errno
import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from advnets.config import Data
from advnets.data.dataset import Dataset
from advnets.data.image_folder.decode import Frame
from advnets.data.image_folder.pack import find_images, open_image_files, open_pack
from advnets.data.spec import SkippedFile
from advnets.errors import DataError, UsageError

DATA = Data(size=8, channels=1)


def open_images(path: Path, data: Data) -> Dataset:
    return open_image_files(find_images(path), Frame.from_config(data))


def level(folder: Path, name: str, value: int) -> Path:
    """Save an image of one gray level, which identifies it."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), value).save(path)
    return path


def levels(images) -> list[int]:
    """Return the levels of the images, sorted."""
    assert (images.images == images.images[:, :, :1, :1]).all()
    return sorted(images.images[:, 0, 0, 0].tolist())


def test_nested_images_are_found(tmp_path):
    """Images of many kinds are found at any depth."""
    for value, name in enumerate(["c.png", "b/z.png", "a.bmp", "b/a/x.tif", "é.png", "B.gif"]):
        level(tmp_path, name, value)
    splits = open_images(tmp_path, DATA)
    assert levels(splits.train) == [0, 1, 2, 3, 4, 5]
    assert splits.name == tmp_path.name
    assert (splits.valid, splits.test, splits.skipped_files) == (None, None, ())


@pytest.mark.parametrize(("size", "channels"), [(8, 1), (16, 3)])
def test_images_have_the_requested_size_and_channels(tmp_path, size, channels):
    """Images of mixed sizes are brought to the size and channels asked for."""
    for i, shape in enumerate([(3, 5), (100, 20), (16, 16)]):
        Image.new("RGB", shape, (i, i, i)).save(tmp_path / f"{i}.png")
    splits = open_images(tmp_path, Data(size=size, channels=channels))
    assert splits.shape == (channels, size, size)
    assert levels(splits.train) == [0, 1, 2]


def test_broken_files_are_named_and_other_files_ignored(tmp_path):
    """Cycles of links end."""
    for value, name in enumerate(["a.png", "sub/b.PNG", "sub/deep/c.jpeg"]):
        level(tmp_path, name, value)
    content = (tmp_path / "sub/deep/c.jpeg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    (tmp_path / "empty.png").touch()
    (tmp_path / "page.jpg").write_text("<html></html>")
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    os.mkfifo(tmp_path / "pipe.png")
    for name in ["notes.txt", "meta.json", "index.html", ".hidden.png", "Thumbs.db", "README"]:
        (tmp_path / name).write_text("{}")
    level(tmp_path, ".cache/d.png", 9)
    (tmp_path / "sub/loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "sub/self.png").symlink_to("self.png")
    (tmp_path / "folder.png").mkdir()
    splits = open_images(tmp_path, DATA)
    assert levels(splits.train) == [0, 1, 2]
    assert [file.name for file in splits.skipped_files] == [
        "cut.jpg",
        "empty.png",
        "gone.png",
        "page.jpg",
        "pipe.png",
        "sub/loop",
        "sub/self.png",
    ]
    reasons = {file.name: file.reason for file in splits.skipped_files}
    assert reasons["empty.png"] == "is empty"
    assert reasons["sub/loop"] == "is a link to the folder itself, which was already read"
    assert "truncated" in reasons["cut.jpg"].lower()
    assert "not an image" in reasons["page.jpg"]


LEADS_OUT = "is a link that leads out of the folder; --follow-links reads it"


@pytest.fixture
def linked(tmp_path) -> Path:
    """Return a folder with links out of it, to a folder twice, to an image, and to system files."""
    level(tmp_path / "elsewhere", "x.png", 7)
    level(tmp_path, "private.png", 9)
    folder = tmp_path / "folder"
    level(folder, "own/a.png", 1)
    for name in "cb":
        (folder / name).symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (folder / "own" / "p.png").symlink_to("../../private.png")
    (folder / "bare").symlink_to(tmp_path / "private.png")
    (folder / "d").symlink_to("own", target_is_directory=True)
    (folder / "own" / "again.png").symlink_to("a.png")
    (folder / "proc").symlink_to("/proc/self", target_is_directory=True)
    return folder


def test_links_out_of_the_folder_are_named_and_not_read(linked):
    """Links within are followed; each real folder is read once, under its own name."""
    files = find_images(linked)
    assert files.keys == (b"own/a.png", b"own/again.png")
    assert {file.name: file.reason for file in files.skipped_files} == {
        **dict.fromkeys(("b", "c", "own/p.png", "bare", "proc"), LEADS_OUT),
        "d": "is a link to own, which was already read",
    }
    # A link that is given as the source is followed.
    (linked.parent / "name").symlink_to(linked, target_is_directory=True)
    assert find_images(linked.parent / "name").keys == files.keys


def test_links_are_followed_on_request(linked, run_command):
    """Each folder once, in the order of the links' names, and never into /proc."""
    files = find_images(linked, follow_links=True)
    assert files.keys == (b"b/x.png", b"bare", b"own/a.png", b"own/again.png", b"own/p.png")
    assert {file.name: file.reason for file in files.skipped_files} == {
        "c": "is a link to b, which was already read",
        "d": "is a link to own, which was already read",
        "proc": "is a link into /proc, which has no images",
    }
    _, printed, _ = run_command("data", "audit", linked)
    assert "2 readable images" in printed
    assert f"own/p.png {LEADS_OUT}" in printed
    _, printed, _ = run_command("data", "audit", linked, "--follow-links")
    assert "5 readable images" in printed
    _, printed, _ = run_command("data", "pack", linked, linked.parent / "pack", "--size", 8)
    assert f"skipped: own/p.png {LEADS_OUT}" in printed
    run_command("data", "pack", linked, linked.parent / "all", "--size", 8, "--follow-links")
    every = open_pack(linked.parent / "all")
    assert levels(every.train) == [1, 1, 7, 9]  # and `bare` is next to the classes


def test_chains_and_cycles_of_links_end(tmp_path):
    level(tmp_path, "a/x.png", 1)
    (tmp_path / "a" / "up").symlink_to("..", target_is_directory=True)
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    (tmp_path / "three").symlink_to("four", target_is_directory=True)
    (tmp_path / "four").symlink_to("a", target_is_directory=True)
    files = find_images(tmp_path)
    assert files.keys == (b"a/x.png",)
    assert {file.name for file in files.skipped_files} == {"a/up", "three", "four"}


def test_escape_sequences_in_names_are_escaped(tmp_path, run_command):
    """In all output, for files and classes."""
    for name in ("cat\x1b[31m/a\x1b[2J.png", "dog\n  broken: 0/b.png"):
        level(tmp_path / "set", name, 3)
    (tmp_path / "set" / "cat\x1b[31m" / "b\x9b1m.png").touch()
    code, printed, errors = run_command("data", "audit", tmp_path / "set")
    assert code == 0
    assert "\x1b" not in printed + errors
    assert "\x9b" not in printed + errors
    assert r"cat\x1b[31m/b\u009b1m.png is empty" in printed
    assert "\n  broken: 0/" not in printed
    run = ("--steps", 2, "--sample-every", 0, "--out", tmp_path / "run")
    code, printed, errors = run_command("train", "digits", "--data", tmp_path / "set", *run)
    assert code in (0, 3), errors
    assert "\x1b" not in printed + errors


def test_names_that_are_not_unicode_are_read(tmp_path):
    """A name of any bytes is read, sorted and, if broken, shown."""
    Image.new("L", (8, 8)).save(os.fsencode(tmp_path) + b"/\xff.png", "PNG")
    with open(os.fsencode(tmp_path) + b"/\xfe.png", "wb"):  # noqa: PTH123 - the name is bytes
        pass
    splits = open_images(tmp_path, DATA)
    assert splits.skipped_files == (SkippedFile("\\xfe.png", "is empty"),)
    assert len(splits.train) == 1


def test_a_folder_without_readable_images_is_refused(tmp_path):
    """The error says whether it is empty, has no images, or only broken ones."""
    with pytest.raises(DataError, match="no file in it is an image"):
        open_images(tmp_path, DATA)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "phone.heic").write_bytes(b"x")
    with pytest.raises(DataError, match=r"no file in it is an image \(.*HEIC 1; convert.*\.txt 1"):
        open_images(tmp_path, DATA)
    (tmp_path / "a.png").touch()
    with pytest.raises(DataError, match=r"none of its 1 images can be read \(a.png is empty\)"):
        open_images(tmp_path, DATA)


def test_size_must_be_positive(tmp_path):
    """An image of no pixels cannot be asked for."""
    with pytest.raises(UsageError, match="size is 0"):
        open_images(tmp_path, Data(size=0))


def test_the_split_depends_on_the_name(tmp_path):
    """With 50 images or more, about a tenth each is held out; images keep their split."""
    for i in range(200):
        level(tmp_path, f"{i:03}.png", i)
    splits = open_images(tmp_path, DATA)
    assert splits.valid is not None
    assert splits.test is not None
    parts = [set(levels(part)) for part in (splits.train, splits.valid, splits.test)]
    assert set().union(*parts) == set(range(200))
    assert sum(map(len, parts)) == 200
    assert 140 <= len(parts[0]) <= 180
    assert min(len(parts[1]), len(parts[2])) >= 10
    # In another folder, with other images, they are in the same split.
    moved = tmp_path.parent / "moved"
    shutil.copytree(tmp_path, moved)
    for i in range(100):
        (moved / f"{i:03}.png").unlink()
    level(moved, "new.png", 255)
    fewer = open_images(moved, DATA)
    for part, before in zip((fewer.train, fewer.valid, fewer.test), parts, strict=True):
        assert part is not None
        assert set(levels(part)) - {255} <= before


def test_fewer_than_fifty_images_are_all_for_training(tmp_path):
    """With 50 there are splits; if only held-out images are readable, they are for training."""
    for i in range(49):
        level(tmp_path, f"{i}.png", i)
    assert len(open_images(tmp_path, DATA).train) == 49
    level(tmp_path, "49.png", 49)
    splits = open_images(tmp_path, DATA)
    assert splits.valid is not None
    assert len(splits.train) < 50
    valid_levels = set(levels(splits.valid))
    for i in set(range(50)) - valid_levels:
        (tmp_path / f"{i}.png").write_bytes(b"")
    splits = open_images(tmp_path, DATA)
    assert set(levels(splits.train)) == valid_levels
    assert (splits.valid, splits.test) == (None, None)


def test_opening_is_reproducible(tmp_path):
    """Threads do not change images and their order."""
    rng = np.random.default_rng(0)
    for i in range(60):
        pixels = rng.integers(0, 256, (20 + i, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    digests = {open_images(tmp_path, DATA).digest() for _ in range(3)}
    assert len(digests) == 1


def test_warning_filters_are_restored(tmp_path):
    """What is silenced while images are decoded is as before afterwards."""
    level(tmp_path, "a.png", 1)
    before = list(warnings.filters)
    open_images(tmp_path, DATA)
    assert list(warnings.filters) == before


def test_an_unreadable_subfolder_is_named(tmp_path, monkeypatch):
    """The others are read."""
    level(tmp_path, "a/x.png", 1)
    level(tmp_path, "theirs/y.png", 2)
    scandir = os.scandir

    def refuse(folder: bytes | Path):
        if os.fsencode(folder).endswith(b"theirs"):
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    splits = open_images(tmp_path, DATA)
    assert levels(splits.train) == [1]
    assert splits.skipped_files == (SkippedFile("theirs", "cannot be entered: Permission denied"),)


def test_folders_of_any_depth_are_read(tmp_path):
    """Deeper than Python's recursion limit."""
    folder = tmp_path
    for _ in range(1200):
        folder = folder / "d"
        folder.mkdir()
    level(folder, "x.png", 3)
    try:
        assert levels(open_images(tmp_path, DATA).train) == [3]
    finally:
        # rmtree recurses for each level.
        for inner in [folder / "x.png", *[folder, *folder.parents][:1200]]:
            inner.rmdir() if inner.is_dir() else inner.unlink()
