"""Arrays of images in files: the same as in memory, and never a pickle, whatever the file holds."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

import advnets
from advnets.data import open_dataset
from advnets.errors import DataError, UsageError

IMAGES = np.random.default_rng(0).integers(0, 256, (80, 6, 8, 3), np.uint8)
LABELS = np.arange(80) % 3


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "images",
    [
        IMAGES,
        IMAGES.transpose(0, 3, 1, 2),
        IMAGES[..., 0],
        IMAGES / 255,
        (IMAGES / 255).astype(np.float32),
        np.asarray(IMAGES / 255, ">f8"),
    ],
)
def test_a_file_is_the_same_dataset_as_its_array(images):
    images = np.ascontiguousarray(images)
    expected = open_dataset(images).digest()
    np.save("a.npy", images)
    np.savez("images.npz", images=images, other=np.zeros((2, 3, 4, 5)))
    np.savez_compressed("unnamed.npz", images, np.zeros(3))
    for name in "a.npy", "images.npz", "unnamed.npz":
        assert open_dataset(name).digest() == expected
    assert not open_dataset("images.npz").notes
    (note,) = open_dataset("unnamed.npz").notes
    assert note == (
        "unnamed.npz has no arrays named images and labels; its array arr_0 is read as the images, "
        "without labels"
    )
    np.savez("labeled.npz", images=images, labels=LABELS)
    labeled = open_dataset("labeled.npz")
    assert labeled.digest() == open_dataset(images, LABELS).digest()
    np.savez("names.npz", images=images, labels=np.array(["a", "b", "c"])[LABELS])
    assert open_dataset("names.npz").class_names() == ("a", "b", "c")


def test_many_blocks_are_read_as_one(monkeypatch):
    monkeypatch.setattr("advnets.data.array_file._BLOCK_BYTES", 1000)
    np.savez_compressed("a.npz", images=IMAGES)
    assert open_dataset("a.npz").digest() == open_dataset(IMAGES).digest()


def test_samples_of_advnets_are_data_for_advnets(tiny, run_command):
    model = advnets.train(tiny, out="runs/a", progress=False)
    assert run_command("sample", "runs/a", "--out", "s.npz", "--num-samples", "80")[0] == 0
    expected = np.rint(model.sample(80).numpy() * 255).astype(np.uint8)
    assert open_dataset("s.npz").digest() == open_dataset(expected).digest()
    status, _, _ = run_command("train", "s.npz", "--steps", "2", "--device", "cpu")
    assert status == 0
    trained = advnets.load("runs/s")
    assert (trained.config.preset, trained.info.shape) == ("digits", (1, 8, 8))
    assert trained.evaluate("frechet", num_samples=20)
    assert run_command("data", "audit", "s.npz")[0] == 0


def test_an_npy_file_of_points_stays_one_of_points():
    np.save("points.npy", np.random.default_rng(0).random((50, 2)))
    assert open_dataset("points.npy").shape == (2, 1, 1)
    model = advnets.train("points.npy", steps=2, progress=False, device="cpu")
    assert model.config.preset == "points"


class Evil:
    def __reduce__(self):
        return (Path("ran").touch, ())


def objects(name):
    np.savez(name, images=np.array([Evil()] * 3, dtype=object), allow_pickle=True)


def damaged(name, cut):
    np.savez(name, images=IMAGES)
    content = bytearray(Path(name).read_bytes())
    Path(name).write_bytes(content[:cut] if cut else content[:500] + b"\xff" * 9 + content[509:])


def member(name, header, content=b""):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, header)
    with zipfile.ZipFile(name, "w") as archive:
        archive.writestr("images.npy", file.getvalue() + content)


def header(shape, descr="|u1", fortran_order=False):
    return {"descr": descr, "fortran_order": fortran_order, "shape": shape}


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda: objects("a.npz"), "it contains Python objects, which are never unpickled"),
        (lambda: damaged("a.npz", 3000), "a.npz cannot be read"),
        (lambda: damaged("a.npz", 0), "a.npz cannot be read .Bad CRC-32"),
        (lambda: Path("a.npz").write_bytes(b""), "a.npz cannot be read"),
        (lambda: member("a.npz", header((10, 4, 4)), b"x" * 99), "ends before its last image"),
        (lambda: member("a.npz", header((10**9, 99, 99))), "it has more than"),
        (lambda: member("a.npz", header((10**7, 20, 20))), "ends before its last image"),
        (lambda: member("a.npz", header((9, 4, 4), fortran_order=True)), "it is in Fortran order"),
        (lambda: np.savez("a.npz", a=IMAGES, b=IMAGES), "a.npz: its arrays are a, b; save the im"),
        (lambda: np.savez("a.npz", points=np.zeros((9, 2))), "its arrays are points; save the im"),
        (lambda: np.savez("a.npz", images=IMAGES * 1.0), "a.npz: images has values from 0 to 255"),
        (lambda: np.savez("a.npz", images=LABELS), r"a.npz: images has shape \(80,\)"),
        (lambda: np.savez("a.npz", images=IMAGES[:0]), r"a.npz: images has shape \(0, 6, 8, 3\)"),
        (
            lambda: np.savez("a.npz", images=IMAGES, labels=LABELS[1:]),
            r"a\.npz: labels has 79 values for 80 images",
        ),
    ],
)
def test_broken_files_are_refused(write, message, run_command):
    write()
    with pytest.raises((DataError, UsageError), match=message):
        open_dataset("a.npz")
    status, _, err = run_command("train", "a.npz", "--steps", "2")
    assert status in (1, 2) and len(err.splitlines()) == 1
    assert not Path("ran").exists() and not Path("runs").exists()


def test_an_npy_file_of_objects_is_never_unpickled(tmp_path):
    np.save("a.npy", np.array([[[Evil()]]], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"a\.npy cannot be read \(it contains Python objects"):
        open_dataset("a.npy")
    assert not Path("ran").exists()


def test_options_of_image_files_are_refused(run_command):
    np.savez("a.npz", images=IMAGES)
    status, _, err = run_command("train", "a.npz", "--size", "8")
    assert status == 2 and "--size applies to image files, and a.npz is an array" in err
    with pytest.raises(UsageError, match=r"stream applies to shards, and a.npz is an array"):
        open_dataset("a.npz", stream=True)
