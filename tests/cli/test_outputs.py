"""Commands do not write into the current directory and do not replace other files."""

import json
import mimetypes
from pathlib import Path

import pytest
from PIL import Image

import advnets
from advnets.errors import UsageError, WriteError
from advnets.plots.sample_files import output_format, save_images


def holds(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("place", [".", "", "..", "./", "here/.."])
@pytest.mark.parametrize(
    ("command", "flag"),
    [
        (["train", "digits", "--steps", "1"], "--out"),
        (["train", "digits", "--dry-run"], "--out"),
        (["sample", "RUN"], "--out"),
        (["visualize", "RUN", "samples"], "--out"),
        (["visualize", "RUN", "interpolation"], "--movie"),
        (["compare", "RUN", "RUN"], "--out"),
        (["paper", "--sections", "equation1"], "--out"),
        (["data", "pack", "PHOTOS"], ""),
    ],
    ids=" ".join,
)
def test_an_empty_output_path_is_refused(
    run_command, trained, tmp_path, monkeypatch, command, flag, place
):
    """As an unset shell variable gives it; nothing is written."""
    photos, inside = tmp_path / "photos", tmp_path / "here" / "now"
    photos.mkdir()
    inside.mkdir(parents=True)
    (inside / "here").mkdir()
    Image.new("L", (8, 8)).save(photos / "a.png")
    monkeypatch.chdir(inside)
    arguments = [{"RUN": trained, "PHOTOS": photos}.get(word, word) for word in command]
    before, run = holds(tmp_path), holds(trained)
    code, out, err = run_command(*arguments, *([flag] if flag else []), place)
    assert (code, out) == (2, "")
    assert err.startswith(f"advnets: {flag or 'OUT'} is '")
    assert "the current directory or one above it; give the name of a new f" in err
    assert holds(tmp_path) == before
    assert holds(trained) == run


def test_a_run_is_resumed_from_inside_its_directory(run_command, tmp_path, monkeypatch, quick):
    """In a run, `.` is that run; elsewhere an empty --out resumes no default run."""
    monkeypatch.chdir(tmp_path)
    assert run_command("train", "digits", *quick)[0] == 0
    code, _, err = run_command("train", "digits", "--resume", "--out", "")
    assert (code, "holds no run (it has no config.json)" in err) == (1, True)
    monkeypatch.chdir("runs/digits")
    code, _, err = run_command("train", "--resume", "--out", ".", "--steps", "40")
    assert code == 0, err


def test_an_empty_output_path_is_refused_in_python(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"^out is '.', the current directory"):
        advnets.train("digits", out="", steps=1)
    assert holds(tmp_path) == []


def test_a_file_in_place_of_a_folder_is_refused_and_the_reverse(
    run_command, trained, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").touch()
    code, _, err = run_command("sample", trained, "--out", "folder.png")
    assert (code, err) == (
        2,
        "advnets: --out is folder.png, which is a folder; give the name of a file\n",
    )
    code, _, err = run_command("sample", trained, "--out", "file")
    assert (code, err) == (
        2,
        "advnets: --out is file, which is a file; give the name of a folder\n",
    )


def test_samples_are_not_mixed_with_other_files(run_command, trained, tmp_path):
    out = tmp_path / "samples.v1"
    command = ("sample", trained, "--out", out)
    assert run_command(*command, "--num-samples", 12)[0] == 0
    assert len(holds(out)) == 12
    code, _, err = run_command(*command, "--num-samples", 3)
    assert (code, err) == (
        2,
        f"advnets: {out} has 12 numbered PNG files (00000.png, …); give another folder, or "
        "--overwrite to replace them all\n",
    )
    assert run_command(*command, "--num-samples", 3, "--overwrite")[0] == 0
    assert holds(out) == ["00000.png", "00001.png", "00002.png"]
    (out / "mine.png").touch()
    for flags in ([], ["--overwrite"]):
        code, _, err = run_command(*command, *flags)
        assert code == 2
        assert err.startswith(f"advnets: {out} has mine.png; expected a new or empty folder")
    assert len(holds(out)) == 4


def test_a_failed_overwrite_keeps_the_old_files(trained, tmp_path, monkeypatch):
    run, out = advnets.load(trained), tmp_path / "samples"
    save_images(run.sample_blocks(4), 4, out)
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    rename, renamed = Path.rename, []

    def fail_late(self, target):
        renamed.append(self)
        if len(renamed) == 6:  # the second new file, after four old ones were moved
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_late)
    with pytest.raises(WriteError, match="is unchanged"):
        save_images(run.sample_blocks(4, seed=1), 4, out, overwrite=True)
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before


def test_a_folder_named_as_a_sample_is_not_replaced(run_command, trained, tmp_path):
    (tmp_path / "samples" / "00001.png").mkdir(parents=True)
    code, _, err = run_command("sample", trained, "--out", tmp_path / "samples", "--overwrite")
    assert (code, "has 00001.png" in err) == (2, True)
    assert holds(tmp_path / "samples") == ["00001.png"]


def test_a_view_replaces_only_records_of_views(run_command, trained, tmp_path):
    (tmp_path / "boxes.json").write_text("[1, 2]")
    command = ("visualize", trained, "samples", "--num-samples", 4, "--out")
    code, _, err = run_command(*command, tmp_path / "boxes.png")
    assert code == 2
    assert f"{tmp_path / 'boxes.json'}, where the record of this view is to be written, is" in err
    assert (tmp_path / "boxes.json").read_text() == "[1, 2]"
    assert not (tmp_path / "boxes.png").exists()
    for _ in range(2):
        assert run_command(*command, tmp_path / "view.png")[0] == 0
    assert json.loads((tmp_path / "view.json").read_text())["view"] == "samples"
    code, _, err = run_command(
        *command, tmp_path / "moving.png", "--movie", tmp_path / "moving.gif"
    )
    assert (code, holds(tmp_path)) == (2, ["boxes.json", "view.json", "view.png"]), err


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "digits", "--device", "abacus"),
        ("train", "digits", "--out", "deep/down/run", "--device", "abacus"),
        ("train", "digits", "--normalize", "none"),
        ("train", "digits", "--data", "ring:modes=0"),
        ("train", "paper-mnist", "--data-dir", "nowhere"),
        ("train", "semi-supervised-mnist", "--data", "ring"),
        ("train", "digits", "--compile", "--cuda-graph"),
        ("data", "pack", "empty", "deep/down/pack"),
        ("sample", "RUN", "--out", "deep/a.png", "--columns", "0"),
        ("sample", "RUN", "--out", "deep/folder", "--class", "3"),
        ("visualize", "RUN", "samples", "--out", "deep/a.png", "--columns", "0"),
        ("compare", "RUN", "RUN", "--out", "deep/a.md"),
        ("paper", "--sections", "nothing"),
        ("paper", "--full", "--quick"),
    ],
    ids=" ".join,
)
def test_a_usage_error_creates_no_folder_and_no_lock(
    run_command, trained, tmp_path, monkeypatch, arguments
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    before = holds(trained)
    code, _, err = run_command(*(trained if word == "RUN" else word for word in arguments))
    assert code in (1, 2), err
    assert holds(tmp_path) == ["empty"]
    assert holds(trained) == before


@pytest.mark.parametrize("name", ["samples.v1", "samples.1", "samples.final"])
def test_a_version_number_is_not_a_suffix(monkeypatch, name):
    """MIME tables of some systems list .1 (man pages) and dozens of rare formats."""
    monkeypatch.setattr(mimetypes, "guess_type", lambda *_, **__: ("application/x-known", None))
    assert output_format(Path(name)) == "folder"


def test_a_run_inside_its_data_is_refused_by_any_path(run_command, tmp_path, quick):
    images, link = tmp_path / "images", tmp_path / "link"
    images.mkdir()
    link.symlink_to(images)
    for i in range(30):
        Image.new("L", (8, 8), i).save(images / f"{i}.png")
    before = holds(images)
    for place in (link, images / ".." / "images", images):
        code, _, err = run_command("train", "digits", "--data", images, "--out", place, *quick)
        assert (code, "is the directory of the data; give another --out" in err) == (2, True)
        assert holds(images) == before


@pytest.mark.parametrize("name", ["many.png", "many.npz", "many"])
def test_more_samples_than_fit_on_the_disk_are_refused_first(run_command, trained, tmp_path, name):
    code, _, err = run_command("sample", trained, "--num-samples", 10**13, "--out", tmp_path / name)
    assert code == 2
    assert "MiB free; give a smaller --num-samples" in err
    assert holds(tmp_path) == []
