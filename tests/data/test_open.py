from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from advnets.config import Data
from advnets.data.open import open_source
from advnets.errors import DataError, UnknownNameError


def test_digits_need_no_files():
    """The offline default opens by its name."""
    assert open_source(Data()).name == "digits"


def test_named_set_from_the_environment(real_data):
    """MNIST is found where ADVNETS_DATA says."""
    assert open_source(Data(source="mnist")).name == "mnist"


def test_absent_sets_say_where_they_were_sought(tmp_path):
    """A named set that is not there names both folders and the cure."""
    cures = {
        "mnist": "type: advnets data fetch mnist",
        "cifar10": "unpack cifar-10-binary.tar.gz in",
        "tfd": "put it in",
    }
    for name, cure in cures.items():
        with pytest.raises(DataError) as caught:
            open_source(Data(source=name, directory=str(tmp_path)))
        assert cure in str(caught.value)
        assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize("source", ["minst", "", "x" * 5000, "a\0b", "~nobody-has-this-home/x"])
def test_neither_name_nor_path(source):
    """What is neither is told, with the nearest names."""
    with pytest.raises(UnknownNameError, match="no data set, folder or file is called") as caught:
        open_source(Data(source=source))
    if source == "minst":
        assert "did you mean mnist" in str(caught.value)


def test_paths_are_known_by_what_they_hold(tmp_path, write_idx, monkeypatch):
    """A folder of IDX files, one of pictures and a .mat open by their paths; no other file does."""
    write_idx(tmp_path / "idx" / "train-images-idx3-ubyte", np.zeros((3, 2, 2)))
    assert open_source(Data(source=str(tmp_path / "idx"))).shape == (1, 2, 2)
    (tmp_path / "home" / "pictures").mkdir(parents=True)
    Image.new("L", (4, 4)).save(tmp_path / "home" / "pictures" / "a.png")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert open_source(Data(source="~/pictures", size=6)).shape == (3, 6, 6)
    cifar = tmp_path / "cifar"
    cifar.mkdir()
    (cifar / "data_batch_1.bin").touch()
    with pytest.raises(DataError, match="10,000 records"):
        open_source(Data(source=str(cifar)))
    (tmp_path / "x.MAT").touch()
    with pytest.raises(DataError, match="no MATLAB file"):
        open_source(Data(source=str(tmp_path / "x.MAT")))
    (tmp_path / "x.zip").touch()
    with pytest.raises(DataError, match="no zip file that can be read"):
        open_source(Data(source=str(tmp_path / "x.zip")))
    (tmp_path / "x.tgz").touch()
    with pytest.raises(DataError, match="file of no known kind"):
        open_source(Data(source=str(tmp_path / "x.tgz")))


def test_folder_of_another_user(tmp_path, monkeypatch):
    """What may not be read is a sentence."""

    def refuse(folder: Path):
        raise PermissionError(errno.EACCES, "Permission denied", str(folder))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(DataError, match=r"cannot be read \(Permission denied\)"):
        open_source(Data(source=str(tmp_path)))
