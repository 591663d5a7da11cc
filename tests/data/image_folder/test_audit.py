import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from advnets.cli.main import main
from advnets.data.dataset import ArraySplit, Dataset, few_images_warning
from advnets.data.image_folder.audit import (
    audit_dataset,
    audit_files,
    dhash,
    group_near_duplicates,
    suggest_flags,
)
from advnets.data.image_folder.pack import find_images
from advnets.data.image_folder.splits import group_equal
from advnets.data.registry import open_dataset

RNG = np.random.default_rng(0)


def photo(width: int = 96, height: int = 80, color: bool = True) -> Image.Image:
    """Return a random image with large and small structures."""
    coarse = RNG.integers(0, 256, (6, 7, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    return image if color else image.convert("L")


@pytest.fixture
def folder(tmp_path) -> Path:
    place = tmp_path / "mess"
    for inner in ("cat", "dog"):
        (place / inner).mkdir(parents=True)
    first = photo()
    first.save(place / "cat/a.png")
    (place / "dog/copy.png").write_bytes((place / "cat/a.png").read_bytes())
    first.resize((48, 40)).save(place / "dog/small.jpg", quality=60)
    photo(80, 96, color=False).save(place / "cat/tall.png")
    photo(90, 90).quantize(32).save(place / "dog/square.gif")
    photo(100, 80).convert("CMYK").save(place / "dog/cmyk.jpg")
    (place / "dog/bad.png").write_text("words")
    (place / "notes.txt").write_text("words")
    return place


def test_an_audit_counts_its_files(folder):
    """Formats, modes, sizes, shapes, classes, broken files, other files, duplicates."""
    audit = audit_files(find_images(folder))
    assert audit.images == 6
    assert audit.formats == {"PNG": 3, "JPEG": 2, "GIF": 1}
    assert audit.color_modes == {"RGB": 3, "L": 1, "P": 1, "CMYK": 1}
    assert audit.resolutions == {
        "96 x 80": 2,
        "48 x 40": 1,
        "80 x 96": 1,
        "90 x 90": 1,
        "100 x 80": 1,
    }
    assert audit.aspect_ratios == {"wide": 4, "tall": 1, "square": 1}
    assert audit.class_counts == {"cat": 2, "dog": 4}
    assert audit.splits == {"train": 6}
    assert audit.unreadable_files == {"dog/bad.png": "is not an image in a format that can be read"}
    assert audit.unsupported_files == {".txt": 1}
    assert audit.exact_duplicates == [["cat/a.png", "dog/copy.png"]]
    assert audit.near_duplicates == [["cat/a.png", "dog/small.jpg"]]
    assert audit.color_images == 5
    assert audit.suggestion is not None


def test_near_duplicates_are_found_and_other_images_are_not():
    """Resized, re-encoded, slightly brighter or blurred ones are; mirrored and different ones are
    not."""
    thumbs, expected = [], []
    for _ in range(40):
        image = photo()
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=40)
        alike = [
            image,
            image.resize((30, 25)).resize((96, 80)),
            Image.open(buffer),
            image.point(lambda value: min(value + 6, 255)),
            image.filter(ImageFilter.GaussianBlur(1)),
        ]
        expected.append(list(range(len(thumbs), len(thumbs) + len(alike))))
        unlike = [image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
        thumbs += [np.asarray(thumb.convert("L").resize((18, 16))) for thumb in alike + unlike]
    assert group_near_duplicates(np.stack(thumbs)) == expected


def test_many_equal_images_are_grouped_in_little_time():
    """They are one group; without images there is none."""
    blank = np.full((20_000, 16, 18), 255, np.uint8)
    blank[:, 3, 4] = RNG.integers(0, 256, 20_000)
    [group] = group_near_duplicates(blank)
    assert len(group) > 19_000
    assert group_near_duplicates(blank[:0]) == group_near_duplicates(blank[:1]) == []


def test_the_hash_compares_neighboring_cells():
    """A bit is set if a cell is brighter than the one to its left."""
    rising = np.broadcast_to(np.arange(18, dtype=np.uint8), (1, 16, 18))
    assert dhash(rising).tolist() == [2**64 - 1]
    assert dhash(rising[:, :, ::-1]).tolist() == [0]


def test_equal_images_form_groups():
    assert group_equal([b"a", b"b", b"a", b"c", b"b", b"a"]) == [[0, 2, 5], [1, 4]]


@pytest.mark.parametrize(
    ("sizes", "colored", "flags"),
    [
        ([(28, 28)] * 50, 0, "--size 28 --channels 1 --crop center"),
        ([(64, 48)] * 50, 50, "--size 48 --width 64 --channels 3 --crop center"),
        ([(640, 480)] * 50, 50, "--size 64 --width 88 --channels 3 --crop center"),
        ([(480, 640)] * 50, 1, "--size 88 --width 64 --channels 3 --crop center"),
        ([(100, 100), (40, 300), (300, 200)] * 20, 0, "--size 32 --channels 1 --crop center"),
        ([(100, 1000), (1000, 100)] * 20, 40, "--size 64 --channels 3 --crop pad"),
        ([(10, 10)], 0, "--size 10 --channels 1 --crop center"),
        ([(5, 100), (100, 9)], 0, "--size 16 --channels 1 --crop pad"),
        ([(500, 500)] * 200, 2, "--size 64 --channels 1 --crop center"),
    ],
)
def test_suggested_sizes_and_crops(sizes, colored, flags):
    """Small or common shapes are kept; mixed ones become squares."""
    suggested = suggest_flags(sizes, colored)
    assert suggested is not None
    assert suggested.flags() == flags


def test_arrays_are_audited_like_files():
    """Sizes, classes, splits and duplicates are reported."""
    splits = open_dataset("digits")
    audit = audit_dataset(splits)
    assert audit.images == 1797
    assert audit.resolutions == {"8 x 8": 1797}
    assert audit.splits == {"train": 1197, "valid": 300, "test": 300}
    assert sum(audit.class_counts.values()) == 1797
    assert len(audit.class_counts) == 10
    images = splits.train.read(np.array([0, 1, 0, 2]))
    twice = audit_dataset(Dataset("x", ArraySplit(images, white_level=16), None, None))
    assert twice.exact_duplicates == [["train/0", "train/2"]]
    assert twice.class_counts == {}


def test_the_command_prints_its_findings(folder, capsys):
    """Text and JSON have the same; a folder without images ends with status 1."""
    assert main(["data", "audit", str(folder)]) == 0
    text = capsys.readouterr().out
    for line in (
        "mess: 6 readable images",
        "  formats             PNG 3, JPEG 2, GIF 1",
        "  unsupported files   .txt 1",
        "    dog/bad.png is not an image in a format that can be read",
        "  exact duplicates: 1",
        "    cat/a.png = dog/copy.png",
        f"  advnets train {folder} --size 32 --channels 3 --crop center",
    ):
        assert line in text.splitlines()
    assert main(["data", "audit", str(folder), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["images"] == 6
    assert record["suggestion"]["size"] == 32
    for path in list(folder.rglob("*.*")):
        path.write_text("words")
    assert main(["data", "audit", str(folder)]) == 1
    text = capsys.readouterr().out
    assert "there are no images to train on" in text
    assert "unreadable files: 7" in text


def test_the_suggested_command_trains(folder, tmp_path, capsys):
    """What the audit suggests is a command that works."""
    assert main(["data", "audit", str(folder), "--json"]) == 0
    suggested = json.loads(capsys.readouterr().out)["suggestion"]
    flags = ["--size", str(suggested["size"]), "--channels", str(suggested["channels"])]
    run = ["--out", str(tmp_path / "run"), "--steps", "2", "--batch-size", "4"]
    assert main(["train", str(folder), *flags, *run]) == 0


def test_the_pack_command(folder, tmp_path, capsys):
    """Its pack is a source; it reports skipped files and its speed."""
    out = tmp_path / "pack"
    assert main(["data", "pack", str(folder), str(out), "--size", "16", "--width", "24"]) == 0
    text = capsys.readouterr().out
    assert "skipped: dog/bad.png is not an image" in text
    assert f"{out}: 3 x 16 x 24; 6 training" in text
    assert "images/s" in text
    assert open_dataset(str(out)).shape == (3, 16, 24)
    assert main(["data", "audit", str(out)]) == 0
    assert "16 x 24" not in capsys.readouterr().out.replace("24 x 16", "")
    assert main(["data", "pack", str(folder), str(out)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(["data", "pack", "digits", str(tmp_path / "x")]) == 2
    assert "digits needs no packing" in capsys.readouterr().err


def test_the_warning_of_few_images_has_their_number():
    assert few_images_warning(30, 30) is not None
    assert few_images_warning(50, 10_000) is None
    run_command = few_images_warning(30, 10_000)
    assert run_command is not None
    assert run_command.startswith(
        "warning: only 30 of 2,000 training images that were compared are"
    )
