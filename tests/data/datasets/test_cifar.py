import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from advnets.data.datasets import cifar
from advnets.data.datasets.cifar import (
    CIFAR100,
    is_cifar10_folder,
    is_cifar100_folder,
    open_cifar10,
    open_cifar10_folder,
    open_cifar100,
    open_cifar100_folder,
)
from advnets.errors import DataError

TEN = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BINARY = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]
PYTHON = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]


@pytest.fixture
def big(tmp_path) -> Path:
    """Write sparse batches of zeros, with a known first and last record."""
    folder = tmp_path / "cifar10" / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    for i, name in enumerate(BINARY):
        path = folder / name
        path.touch()
        os.truncate(path, 30_730_000)
        with path.open("r+b") as file:
            file.write(
                bytes([i]) + bytes([10 + i]) * 1024 + bytes([20]) * 1024 + bytes([30]) * 1024
            )
            file.seek(-3073, os.SEEK_END)
            file.write(bytes([9]) + np.arange(3072).astype(np.uint8).tobytes())
    return folder


def test_batches_are_split(big, tmp_path):
    """Four batches are for training, the fifth for validation; a record is label and planes."""
    splits = open_cifar10([tmp_path / "cifar10", tmp_path])
    assert (splits.name, splits.classes) == ("cifar10", TEN)
    assert splits.shape == (3, 32, 32)
    assert [len(splits.train), len(splits.valid), len(splits.test)] == [40_000, 10_000, 10_000]
    for i, part in enumerate([splits.train, splits.valid, splits.test]):
        assert part.labels[0] == [0, 4, 5][i]
        assert part.images[0, :, 31, 31].tolist() == [[10, 14, 15][i], 20, 30]
        # Value 32y + x of plane c is at 1024c + 32y + x.
        assert part.labels[-1] == 9
        assert part.images[-1, 2, 3, 7] == (2 * 1024 + 3 * 32 + 7) % 256


def test_damaged_batches_are_refused(big):
    """A shorter or longer batch, a label above 9 and a missing batch are refused by name."""
    path = big / BINARY[4]
    with path.open("r+b") as file:
        file.write(b"\x0a")
    with pytest.raises(DataError, match=r"data_batch_5.bin must have labels from 0 to 9, got 10"):
        open_cifar10_folder(big)
    os.truncate(path, 3073 * 9999)
    with pytest.raises(
        DataError, match=r"data_batch_5.bin must have 10,000 records .* got 30,726,927 bytes"
    ):
        open_cifar10_folder(big)
    os.truncate(path, 3073 * 10_001)
    with pytest.raises(
        DataError, match=r"data_batch_5.bin must have 10,000 records .* got more bytes"
    ):
        open_cifar10_folder(big)
    path.unlink()
    with pytest.raises(DataError, match=r"data_batch_5.bin cannot be read"):
        open_cifar10_folder(big)


@pytest.fixture
def few(monkeypatch) -> int:
    """Set the number of records per file to four."""
    monkeypatch.setattr(cifar, "_VALID", 4)
    monkeypatch.setattr(cifar, "_TEST_RECORDS", 4)
    for versions in ("VERSIONS_10", "VERSIONS_100"):
        smaller = [replace(version, records=4) for version in getattr(cifar, versions)]
        monkeypatch.setattr(cifar, versions, smaller)
    return 4


def pixels(name: str) -> np.ndarray:
    return np.random.default_rng(len(name)).integers(0, 256, (4, 3072), dtype=np.uint8)


def write_10(folder: Path, keys: type = bytes, protocol: int = 2) -> Path:
    """Write CIFAR-10 in its Python version."""
    folder.mkdir(parents=True)
    for name in PYTHON:
        write_batch(folder / name, {"data": pixels(name), "labels": [0, 1, 2, 9]}, keys, protocol)
    names = [keyed(name, keys) for name in TEN]
    write_batch(folder / "batches.meta", {"label_names": names, "num_vis": 3072}, keys, protocol)
    return folder


def write_batch(path: Path, batch: dict, keys: type = bytes, protocol: int = 2) -> None:
    texts = {keyed(key, keys): value for key, value in batch.items()}
    path.write_bytes(pickle.dumps(texts, protocol))


def keyed(text: str, keys: type) -> bytes | str:
    return text.encode() if keys is bytes else text


@pytest.mark.parametrize(("keys", "protocol"), [(bytes, 2), (str, 2), (str, 5)])
def test_python_and_binary_versions_are_equal(few, tmp_path, keys, protocol):
    """Both versions of the same batches give the same splits."""
    python = write_10(tmp_path / "a" / "cifar-10-batches-py", keys, protocol)
    binary = tmp_path / "b" / "cifar-10-batches-bin"
    binary.mkdir(parents=True)
    labels = np.array([[0], [1], [2], [9]], np.uint8)
    for name in PYTHON:
        (binary / f"{name}.bin").write_bytes(np.hstack([labels, pixels(name)]).tobytes())
    (binary / "batches.meta.txt").write_text("\n".join(TEN) + "\n\n")
    assert is_cifar10_folder(python)
    assert is_cifar10_folder(binary)
    actual, reference = open_cifar10([tmp_path / "a"]), open_cifar10([tmp_path / "b"])
    assert actual.digest() == reference.digest()
    assert actual.classes == reference.classes == TEN
    np.testing.assert_array_equal(actual.test.images, reference.test.images)
    np.testing.assert_array_equal(actual.valid.images.reshape(4, 3072), pixels("data_batch_5"))
    assert actual.train.labels.tolist() == [0, 1, 2, 9] * 4


@pytest.mark.parametrize("version", ["cifar-100-binary", "cifar-100-python"])
def test_cifar_100_fine_and_coarse(few, tmp_path, monkeypatch, version):
    """A record has a coarse and a fine label; the class names are in the folder."""
    monkeypatch.setattr(cifar, "_VALID", 1)
    folder = tmp_path / "cifar100" / version
    folder.mkdir(parents=True)
    names = {"fine": [f"f{i}" for i in range(100)], "coarse": [f"c{i}" for i in range(20)]}
    coarse, fine = [0, 19, 3, 4], [99, 0, 7, 8]
    for name in ("train", "test"):
        if version == "cifar-100-binary":
            records = np.hstack([np.array([coarse, fine], np.uint8).T, pixels(name)])
            (folder / f"{name}.bin").write_bytes(records.tobytes())
            for kind, texts in names.items():
                (folder / f"{kind}_label_names.txt").write_text("\n".join(texts))
        else:
            labels = {"fine_labels": fine, "coarse_labels": coarse, "filenames": ["a"] * 4}
            write_batch(folder / name, {"data": pixels(name), **labels})
            texts = {f"{kind}_label_names": list(texts) for kind, texts in names.items()}
            write_batch(folder / "meta", texts)
    assert is_cifar100_folder(folder)
    for kind, labels in [("fine", fine), ("coarse", coarse)]:
        splits = open_cifar100(CIFAR100(kind), [tmp_path / "cifar100"])
        assert splits.name == "cifar100"
        assert splits.train.labels.tolist() == labels[:3]
        assert splits.valid.labels.tolist() == labels[3:]
        assert splits.classes == tuple(names[kind])
        np.testing.assert_array_equal(splits.test.images.reshape(4, 3072), pixels("test"))
    for path in folder.glob("*names.txt"):
        path.unlink()
    if version == "cifar-100-binary":
        assert open_cifar100_folder(folder).classes == ()


@pytest.mark.parametrize(
    ("batch", "problem"),
    [
        ([], "must contain a pickled dict"),
        ({"labels": [0] * 4}, "has no array `data` and list `labels`"),
        ({"data": pixels("a"), "fine_labels": [0] * 4}, "has no array"),
        ({"data": pixels("a")[:3], "labels": [0] * 4}, r"got uint8 and \(3, 3072\)"),
        ({"data": pixels("a").astype(float), "labels": [0] * 4}, "got float64"),
        (
            {"data": pixels("a"), "labels": [0] * 5},
            "4 integers from 0 to 255 in `labels`, got 5 items",
        ),
        (
            {"data": pixels("a"), "labels": [0, 1, 2, "x"]},
            "4 integers from 0 to 255 in `labels`, got 4 items or other",
        ),
        (
            {"data": pixels("a"), "labels": [0, 1, 2, -1]},
            "4 integers from 0 to 255 in `labels`, got 4 items or other",
        ),
        ({"data": pixels("a"), "labels": [0, 1, 2, 10]}, "must have labels from 0 to 9, got 10"),
        ({"data": os.system, "labels": []}, "refers to .*system"),
    ],
)
def test_invalid_pickles_are_refused(few, tmp_path, batch, problem):
    """The error names the file and the problem."""
    folder = write_10(tmp_path / "x")
    (folder / "data_batch_3").write_bytes(pickle.dumps(batch, 2))
    with pytest.raises(DataError, match=rf"data_batch_3 .*{problem}"):
        open_cifar10_folder(folder)


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (None, "no list `label_names`"),
        (["a"] * 9, "must have 10 class names, got 9"),
        (["a"] * 11, "must have 10 class names, got 11"),
        ([1] * 10, "must have text in `label_names`, got int"),
    ],
)
def test_invalid_class_names_are_refused(few, tmp_path, names, problem):
    """Names that are not those of ten classes are refused."""
    folder = write_10(tmp_path / "x")
    write_batch(folder / "batches.meta", {"label_names": names})
    with pytest.raises(DataError, match=rf"batches.meta .*{problem}"):
        open_cifar10_folder(folder)
    (folder / "batches.meta").unlink()
    assert open_cifar10_folder(folder).classes == TEN


def test_missing_batches_are_refused_with_advice(tmp_path):
    """The error names the files, the folders and the command."""
    with pytest.raises(
        DataError, match=r"data_batch_1.bin .* fetch cifar10 --data-dir .*; or extract"
    ):
        open_cifar10([tmp_path / "cifar10", tmp_path])
    with pytest.raises(DataError, match=r"train.bin or train\) is missing .* data fetch cifar100;"):
        open_cifar100(CIFAR100(), [tmp_path])
    with pytest.raises(DataError, match=r"data_batch_1.bin is missing"):
        open_cifar10_folder(tmp_path)
    assert not is_cifar10_folder(tmp_path)
    for name in ("train", "test"):
        (tmp_path / name).mkdir()
    assert not is_cifar100_folder(tmp_path)


def test_jpegs_are_not_opened_as_the_original(real_data):
    """An archive of re-encoded images is named in the error."""
    with pytest.raises(DataError, match=r"cifar10-jpg.zip has other pixels than the original"):
        open_cifar10([real_data / "cifar10", real_data])
