"""Audits, packs, trainings and reports agree on the use of each file of a folder."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from advnets.cli.main import main
from advnets.config import Data
from advnets.data.image_folder import pack as opening
from advnets.data.image_folder import workers
from advnets.data.registry import open_dataset
from advnets.run_directory import RunDirectory

FEW_STEPS = ("--steps", "2", "--batch-size", "4", "--size", "8", "--channels", "1")


def image(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def messy(tmp_path) -> Path:
    """Return 80 training images of two classes, test images without labels, and other files."""
    folder = tmp_path / "messy"
    for i in range(80):
        image(folder / "Train" / ("cat", "dog")[i % 2] / f"{i}.png", i)
    for i in range(10):
        image(folder / "test" / f"{i}.png", 100 + i)
    for i in range(5):
        image(folder / "unlabeled" / f"{i}.png", 200 + i)
    image(folder / "stray.png", 300)
    (folder / "test" / "copy.png").write_bytes((folder / "Train" / "cat" / "0.png").read_bytes())
    (folder / "Train" / "dog" / "broken.png").write_text("no image")
    for name in ("a.HEIC", "b.heic", "c.NEF", "d.svg", "notes.txt"):
        (folder / "Train" / name).write_text("x")
    return folder


def test_audit_pack_and_training_report_the_same_counts(messy, tmp_path, capsys):
    """Numbers of images by split and class."""
    assert main(["data", "audit", str(messy), "--json"]) == 0
    audit = json.loads(capsys.readouterr().out)
    splits = open_dataset(Data(source=str(messy), size=8, channels=1))
    parts = (splits.train, splits.valid, splits.test, splits.unlabeled)
    counts = {
        name: len(part)
        for name, part in zip(("train", "valid", "test", "unlabeled"), parts, strict=True)
        if part is not None
    }
    assert audit["splits"] == counts
    assert sum(counts.values()) == 79 + 11 + 5
    assert (counts["test"], counts["unlabeled"]) == (11, 5)
    labels = np.concatenate([splits.train.labels, splits.valid.labels])
    assert audit["class_counts"] == dict(
        zip(("cat", "dog"), np.bincount(labels).tolist(), strict=True)
    )
    assert splits.test.labels is None
    assert main(["train", str(messy), "--out", str(tmp_path / "run"), *FEW_STEPS]) == 0
    err = capsys.readouterr().err
    cats, dogs = np.bincount(splits.train.labels).tolist()
    assert (
        f"data: messy, {counts['train']} training images of 1 x 8 x 8, {counts['valid']} "
        f"validation, 11 test, 5 unlabeled (not used by this game)\n"
        f"classes: cat {cats}, dog {dogs}\n"
        f"unsupported image formats: HEIC 2, camera RAW 1, SVG 1; convert them to PNG or JPEG\n"
        f"unsupported files: .txt 1\n"
    ) in err
    assert "stray.png (is outside the folders of the splits; move it into one" in err
    assert "Train/cat/0.png (is a copy of test/copy.png, which is held out)" in err


def test_unsupported_files_are_in_the_pack_and_the_report(messy, tmp_path, capsys):
    """Each type is counted by `data pack`, in the pack, in config.json and in the report."""
    pack, run = tmp_path / "pack", tmp_path / "run"
    assert main(["data", "pack", str(messy), str(pack), "--size", "8"]) == 0
    assert "unsupported image formats: HEIC 2, camera RAW 1, SVG 1;" in capsys.readouterr().out
    unused = {".heic": 2, ".nef": 1, ".svg": 1, ".txt": 1}
    assert open_dataset(str(pack)).unsupported_files == unused
    assert main(["train", "--data", str(pack), "--out", str(run), *FEW_STEPS[:4]]) == 0
    assert "unsupported image formats: HEIC 2, camera RAW 1, SVG 1;" in capsys.readouterr().err
    record = RunDirectory(run).read_config()
    assert record["data"]["unsupported_files"] == {"HEIC": 2, "camera RAW": 1, "SVG": 1, ".txt": 1}
    page = (run / "report.html").read_text()
    assert "Files not used" in page
    assert "camera RAW" in page
    assert "Train/dog/broken.png" in page
    assert main(["data", "audit", str(messy)]) == 0
    text = capsys.readouterr().out
    assert "  unsupported formats HEIC 2, camera RAW 1, SVG 1\n" in text
    assert "  duplicates across splits: 1; each is assigned to one split\n" in text
    assert "    stray.png is outside the folders of the splits" in text


def test_unlabeled_images_are_for_games_that_use_them(messy, tmp_path, capsys):
    """The semi-supervised game uses them in addition to the training images; no other game does."""
    run = ["--data", str(messy), "--size", "16", "--steps", "1", "--batch-size", "32"]
    nets = ["--game.labels", "4", "--channels", "1", "--out", str(tmp_path / "semi")]
    assert main(["train", "semi-supervised-mnist", *run, *nets]) == 0
    assert ", 5 unlabeled\n" in capsys.readouterr().err


def test_few_different_images_give_a_warning(tmp_path, capsys):
    """One image, or thirty equal ones, are memorized: audits and trainings warn."""
    one, thirty = tmp_path / "one", tmp_path / "thirty"
    content = image(one / "a.png", 0).read_bytes()
    thirty.mkdir()
    for i in range(30):
        (thirty / f"{i}.png").write_bytes(content)
    for folder, words in (
        (one, "warning: there is only 1 training image, which the generator can memorize"),
        (thirty, "warning: only 1 of 30 training images are different, which the generator can"),
    ):
        assert main(["data", "audit", str(folder)]) == 0
        assert words in capsys.readouterr().out
        assert main(["train", str(folder), "--dry-run", *FEW_STEPS]) == 0
        assert words in capsys.readouterr().out
        assert main(["train", str(folder), "--out", str(tmp_path / words[-9:]), *FEW_STEPS]) == 0
        assert words in capsys.readouterr().err


def test_held_out_images_alone_are_refused_for_training(tmp_path, capsys):
    """Test images are not used in place of training images."""
    for i in range(3):
        image(tmp_path / "set" / "test" / f"{i}.png", i)
    assert main(["train", str(tmp_path / "set"), "--out", str(tmp_path / "run"), *FEW_STEPS]) == 1
    assert "set has no training images (3 test)" in capsys.readouterr().err
    assert main(["data", "audit", str(tmp_path / "set")]) == 1
    assert "there are no images to train on" in capsys.readouterr().out


def test_a_cached_pack_of_another_assignment_version_is_replaced(tmp_path, monkeypatch):
    """A cached pack is used only with the assignment rules that made it."""
    image(tmp_path / "set" / "a.png", 0)
    open_dataset(str(tmp_path / "set"), size=8)
    monkeypatch.setattr(workers, "decode", lambda *_: pytest.fail("decoded again"))
    open_dataset(str(tmp_path / "set"), size=8)
    monkeypatch.setattr(opening, "ASSIGNMENT_VERSION", opening.ASSIGNMENT_VERSION + 1)
    with pytest.raises(pytest.fail.Exception, match="decoded again"):
        open_dataset(str(tmp_path / "set"), size=8)
