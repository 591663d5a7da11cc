import errno
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from advnets.config import Data
from advnets.data.huggingface.table import Hub
from advnets.data.normalization import fit_normalizer
from advnets.data.registry import find_source, open_dataset
from advnets.errors import DataError, UnknownNameError, UsageError


def test_digits_need_no_files():
    """The default dataset opens without files."""
    assert open_dataset(Data()).name == "digits"


def test_named_set_from_the_environment(real_data):
    """MNIST is found where ADVNETS_DATA says."""
    assert open_dataset(Data(source="mnist")).name == "mnist"


def test_missing_datasets_name_the_searched_folders(tmp_path):
    """The error names both folders and how to get the data."""
    advice_by_name = {
        "mnist": "download it with: advnets data fetch mnist",
        "cifar10": "extract cifar-10-binary.tar.gz in",
        "tfd": "put it in",
    }
    for name, advice in advice_by_name.items():
        with pytest.raises(DataError) as caught:
            open_dataset(Data(source=name, directory=str(tmp_path)))
        assert advice in str(caught.value)
        assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize("source", ["minst", "x" * 5000, "a\0b", "~nobody-has-this-home/x"])
def test_a_source_that_is_neither_name_nor_path_is_refused(source):
    """The error names the nearest datasets."""
    with pytest.raises(UnknownNameError, match="no dataset, folder or file is called") as caught:
        open_dataset(Data(source=source))
    if source == "minst":
        assert "did you mean mnist" in str(caught.value)


def test_an_empty_source_is_refused():
    with pytest.raises(UsageError, match="no data was set; set data to a path"):
        open_dataset(Data(source=""))


def test_paths_are_recognized_by_their_content(tmp_path, write_idx, monkeypatch):
    """A folder of IDX files, one of images and a .mat open by their paths; no other file does."""
    write_idx(tmp_path / "idx" / "train-images-idx3-ubyte", np.zeros((3, 2, 2)))
    assert open_dataset(Data(source=str(tmp_path / "idx"))).shape == (1, 2, 2)
    (tmp_path / "home" / "images").mkdir(parents=True)
    Image.new("L", (4, 4)).save(tmp_path / "home" / "images" / "a.png")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert open_dataset(Data(source="~/images", size=6)).shape == (3, 6, 6)
    cifar = tmp_path / "cifar"
    cifar.mkdir()
    (cifar / "data_batch_1.bin").touch()
    with pytest.raises(DataError, match="10,000 records"):
        open_dataset(Data(source=str(cifar)))
    (tmp_path / "x.MAT").touch()
    with pytest.raises(DataError, match="is not a MATLAB file"):
        open_dataset(Data(source=str(tmp_path / "x.MAT")))
    (tmp_path / "x.zip").touch()
    with pytest.raises(DataError, match="is not a zip file that can be read"):
        open_dataset(Data(source=str(tmp_path / "x.zip")))
    (tmp_path / "x.tgz").touch()
    with pytest.raises(DataError, match="has an unknown file format; use one of: an array"):
        open_dataset(Data(source=str(tmp_path / "x.tgz")))


def test_an_unreadable_folder_is_refused(tmp_path, monkeypatch):
    """A folder without read permission is reported as a DataError."""

    def refuse(folder: Path):
        raise PermissionError(errno.EACCES, "Permission denied", str(folder))

    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(DataError, match=r"cannot be read \(Permission denied\)"):
        open_dataset(Data(source=str(tmp_path)))


def test_options_reach_the_source(tmp_path):
    """Options after the colon apply to names and paths."""
    assert open_dataset("ring:modes=3,n=50").classes == ("mode 0", "mode 1", "mode 2")
    (tmp_path / "drawn.csv").write_text("0,0\n1,1\n")
    dataset = open_dataset(f"{tmp_path}/drawn.csv:sd=0.5,n=20")
    assert dataset.distribution is not None
    assert len(dataset.train) == 20
    for source, message in (
        ("ring:mode=3", "no option of ring is called 'mode'; did you mean modes"),
        ("digits:n=3", "digits takes no options, got 'n'; remove it"),
        (f"{tmp_path}:n=3", "takes no options, got 'n'; remove it"),
    ):
        (tmp_path / "a.png").touch()
        with pytest.raises(UsageError) as caught:
            open_dataset(source)
        assert message in str(caught.value)


def test_open_dataset_is_public_and_takes_config_fields(tmp_path):
    """`advnets.data.open_dataset` takes a source and further fields of the config."""
    from advnets import data

    Image.new("RGB", (9, 5), "red").save(tmp_path / "a.png")
    assert data.open_dataset is open_dataset
    splits = data.open_dataset(str(tmp_path), size=8, width=12, channels=1, crop="pad")
    assert splits.shape == (1, 8, 12)
    assert open_dataset(Data(source=str(tmp_path)), size=16).shape == (3, 16, 16)


def test_an_object_of_the_datasets_library_opens():
    """An object of that library opens; any other object is refused."""
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(image=datasets.Image())
    rows = {"image": [Image.new("L", (4, 4), i) for i in range(3)]}
    splits = open_dataset(datasets.Dataset.from_dict(rows, features), size=4, channels=1)
    assert sorted(splits.train.read(slice(None))[:, 0, 0, 0].tolist()) == [0, 1, 2]
    with pytest.raises(UsageError, match=r"data is of type int; give an array or tensor"):
        open_dataset(3)


def test_a_hub_name_is_passed_with_its_options(monkeypatch):
    """The name and options after hf: are passed on."""
    calls = []

    def find(*arguments: object):
        calls.append(arguments)
        return open_dataset("digits")

    monkeypatch.setattr("advnets.data.huggingface.open.find_hub_name", find)
    data = Data(source="hf:owner/set:split=test,image=img")
    find_source(data)
    assert calls == [("owner/set", Hub(split="test", image="img"), data)]


def test_points_and_images_have_different_normalizers():
    """Normalizers of images do not apply to points, nor the reverse."""
    for source, scaling, advice in (
        ("ring", "unit", "set normalize to none or standard, or use the preset points"),
        ("digits", "none", "set normalize to unit, symmetric or contrast"),
    ):
        with pytest.raises(UsageError, match=advice):
            fit_normalizer(scaling, open_dataset(source).train)
