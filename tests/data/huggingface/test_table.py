import pickle
from pathlib import Path

import numpy as np
import pytest

from advnets.config import Data
from advnets.data import open_dataset
from advnets.data.dataset import Dataset
from advnets.data.huggingface.open import (
    Hub,
    find_hub_name,
    find_hub_path,
    is_hub_path,
    open_huggingface_dataset,
)
from advnets.data.huggingface.table import Columns, collect_rows
from advnets.data.image_folder import pack as opening
from advnets.data.image_folder.splits import DeclaredSplits, assign_splits
from advnets.data.spec import SkippedFile
from advnets.errors import DataError, UnknownNameError, UsageError

DATA = Data(size=8, channels=1)


def open_hub_path(path: Path, options: Hub, data: Data) -> Dataset:
    return opening.to_dataset(find_hub_path(path, options, data), data)


def open_hub_name(name: str, options: Hub, data: Data) -> Dataset:
    return opening.to_dataset(find_hub_name(name, options, data), data)


def opened(path, data=DATA, **options):
    return open_hub_path(path, Hub(**options), data)


def levels(split) -> list[int]:
    """Return the gray levels, which identify the images."""
    images = split.images
    assert (images == images[:, :1, :1, :1]).all()
    return sorted(images[:, 0, 0, 0].tolist())


def test_the_names_of_shards_give_the_splits(tmp_path, write_parquet, silent):
    """As on the hub: data/train-00000-of-00002.parquet, with classes by name."""
    write_parquet(tmp_path / "data/train-00000-of-00002.parquet", range(10))
    write_parquet(tmp_path / "data/train-00001-of-00002.parquet", range(10, 16))
    write_parquet(tmp_path / "data/validation-00000-of-00001.parquet", range(16, 20))
    write_parquet(tmp_path / "data/test-00000-of-00001.parquet", range(20, 23))
    (tmp_path / "README.md").write_text("# A set")
    (tmp_path / "LICENSE").write_text("yours")
    assert is_hub_path(tmp_path)
    splits = opened(tmp_path)
    assert splits.name == tmp_path.name
    assert splits.classes == ("a", "b", "c")
    assert levels(splits.train) == list(range(16))
    assert levels(splits.valid) == list(range(16, 20))
    assert levels(splits.test) == list(range(20, 23))
    np.testing.assert_array_equal(splits.train.labels, splits.train.images[:, 0, 0, 0] % 3)


def test_the_names_of_folders_give_the_splits(tmp_path, write_parquet):
    write_parquet(tmp_path / "train/part-0.parquet", range(4))
    write_parquet(tmp_path / "test/part-0.parquet", range(4, 6))
    splits = opened(tmp_path)
    assert levels(splits.train) == [0, 1, 2, 3]
    assert levels(splits.test) == [4, 5]


@pytest.mark.parametrize("kind", ["file", "folder", "saved", "object", "name"])
def test_a_single_split_is_divided_by_hash(tmp_path, write_parquet, table, kind):
    """A tenth each for validation and test, if there are enough images."""
    n = 60
    if kind == "object":
        splits = open_huggingface_dataset(table(range(n)), DATA)
    elif kind == "saved":
        table(range(n)).save_to_disk(str(tmp_path / "saved"))
        assert is_hub_path(tmp_path / "saved")
        splits = opened(tmp_path / "saved")
    else:
        path = write_parquet(tmp_path / "all.parquet", range(n))
        assert is_hub_path(path)
        if kind == "name":
            splits = open_hub_name(str(tmp_path), Hub(), DATA)
        else:
            splits = opened(path if kind == "file" else tmp_path)
    keys = [f"train/{i:06d}".encode() for i in range(n)]
    number = assign_splits(keys, DeclaredSplits(("",) * n, None, ())).splits
    sizes = [len(splits.train), len(splits.valid), len(splits.test)]
    assert sizes == np.bincount(number).tolist()
    assert len(splits.train.labels) == sizes[0]


def test_a_pack_is_reused(tmp_path, write_parquet, huggingface_caches, monkeypatch):
    """Other content is packed again."""
    path = write_parquet(tmp_path / "all.parquet", range(9))
    first = opened(path)
    monkeypatch.setattr("advnets.data.image_folder.pack.pack", None)
    assert opened(path).digest() == first.digest()
    monkeypatch.undo()
    monkeypatch.setenv("ADVNETS_CACHE", str(huggingface_caches))
    write_parquet(path, range(1, 10))
    assert levels(opened(path).train) == list(range(1, 10))


def test_files_are_written_only_to_the_cache(
    tmp_path, write_parquet, write_tar, huggingface_caches
):
    path = write_parquet(tmp_path / "a" / "all.parquet", range(9))
    another = write_tar(tmp_path / "b" / "all.tar", range(9))
    for stream in (False, True):
        for source in (path, another, path.parent, another.parent):
            opened(source, Data(size=8, channels=1, stream=stream))
    assert {file for file in tmp_path.rglob("*") if file.is_file()} == {path, another}
    assert {entry.name for entry in huggingface_caches.iterdir()} == {"datasets", "packs"}
    assert not (tmp_path.parent / f"{tmp_path.name}-library").exists()


def test_glob_characters_in_names(tmp_path, write_parquet):
    """They are escaped in the name of a file, and refused in that of a folder."""
    path = write_parquet(tmp_path / "a [b] *" / "c [1] * é.parquet", range(5))
    assert levels(opened(path).train) == [0, 1, 2, 3, 4]
    with pytest.raises(UsageError, match="rename the folder"):
        opened(path.parent)


def test_webdataset_tars(tmp_path, write_tar, silent):
    write_tar(tmp_path / "train-000.tar", range(5))
    write_tar(tmp_path / "train-001.tar", range(5, 11))
    write_tar(tmp_path / "test-000.tar", range(11, 14))
    splits = opened(tmp_path)
    assert levels(splits.train) == list(range(11))
    assert levels(splits.test) == [11, 12, 13]
    np.testing.assert_array_equal(splits.train.labels, splits.train.images[:, 0, 0, 0] % 3)
    assert splits.classes == ("0", "1", "2")
    assert levels(opened(tmp_path / "train-001.tar").train) == list(range(5, 11))


def test_broken_rows_are_skipped_and_named(tmp_path, write_parquet, png):
    """Missing, empty, not an image, truncated, or only a file name."""
    rows = [1, None, b"", b"no image", png(5)[:40], 6]
    splits = opened(write_parquet(tmp_path / "x.parquet", rows))
    assert levels(splits.train) == [1, 6]
    assert splits.skipped_files[:3] == (
        SkippedFile("train/000001", "has no image"),
        SkippedFile("train/000002", "is empty"),
        SkippedFile("train/000003", "is not an image in a format that can be read"),
    )
    assert [file.name for file in splits.skipped_files[3:]] == ["train/000004"]


def test_a_row_may_name_a_file(tmp_path, png):
    import datasets

    (tmp_path / "a.png").write_bytes(png(3))
    paths = [str(tmp_path / "a.png"), str(tmp_path / "gone.png"), "b.png"]
    rows = {"image": [{"bytes": None, "path": path} for path in paths]}
    features = datasets.Features({"image": datasets.Image()})
    splits = open_huggingface_dataset(datasets.Dataset.from_dict(rows, features=features), DATA)
    assert levels(splits.train) == [3]
    assert [file.reason for file in splits.skipped_files] == [
        "cannot be read: No such file or directory",
        "has no image, only the relative path of one, b.png",
    ]


def test_members_outside_the_tar_are_skipped(tmp_path, write_tar):
    names = {"../a.png": 1, "b.png": 2, "/c.png": 3, "d/../../e.png": 4, "f.png": b"broken"}
    path = write_tar(tmp_path / "x.tar", names)
    splits = opened(path)
    assert levels(splits.train) == [2]
    assert [file.name for file in splits.skipped_files] == [f"train/00000{i}" for i in (0, 2, 3, 4)]
    assert "leads out" in splits.skipped_files[0].reason


def test_the_reader_can_be_sent_to_other_processes(tmp_path, table, write_parquet):
    """A table in memory is written to a file, so that it is not sent with each task."""
    rng = np.random.default_rng(0).integers(0, 256, (30, 256, 256), np.uint8)
    import datasets

    rows = {"image": [{"bytes": page.tobytes()} for page in rng]}
    memory = datasets.Dataset.from_dict(rows)
    columns = Columns("image")
    result = collect_rows([("train", "", memory)], columns, "x", "x", "")
    pickled = pickle.dumps(result.reader)
    assert len(pickled) < 100_000
    contents = list(pickle.loads(pickled).read([b"train/000029", b"train/000030", b"train/000000"]))
    assert contents[0] == rng[29].tobytes()
    assert isinstance(contents[1], DataError)
    assert contents[2] == rng[0].tobytes()


@pytest.mark.slow
def test_large_datasets_are_decoded_by_several_processes(tmp_path, write_parquet):
    splits = opened(write_parquet(tmp_path / "x.parquet", [i % 256 for i in range(2500)]))
    sizes = [len(part) for part in (splits.train, splits.valid, splits.test)]
    assert sum(sizes) == 2500


def test_one_of_several_splits_can_be_selected(tmp_path, table, caplog):
    import datasets

    splits = datasets.DatasetDict(
        {"train": table(range(4)), "extra": table(range(4, 7)), "val": table(range(7, 9))}
    )
    dataset = open_huggingface_dataset(splits, DATA)
    assert (levels(dataset.train), levels(dataset.valid), dataset.test) == (
        [0, 1, 2, 3],
        [7, 8],
        None,
    )
    assert "extra are not for training" in caplog.text
    assert levels(open_huggingface_dataset(splits, DATA, Hub(split="extra")).train) == [4, 5, 6]
    with pytest.raises(
        UnknownNameError, match=r"no split of .* is called 'extr'; did you mean ext"
    ):
        open_huggingface_dataset(splits, DATA, Hub(split="extr"))
    del splits["train"]
    with pytest.raises(DataError, match="no training split, got extra, val; give one split alone"):
        open_huggingface_dataset(splits, DATA)


def test_one_of_several_columns_can_be_selected(table, png):
    """By default the first declared image column, then structs, then bytes that decode."""
    import datasets

    n = 4
    rows = datasets.Dataset.from_dict(
        {
            "id": list(range(n)),
            "hash": [b"\0\1"] * n,
            "png": [png(10 + i) for i in range(n)],
            "pair": [{"bytes": png(20 + i), "path": "x"} for i in range(n)],
            "image": [{"bytes": png(30 + i)} for i in range(n)],
            "cls": [0, 1, 0, 1],
        }
    ).cast_column("image", datasets.Image())
    assert levels(open_huggingface_dataset(rows, DATA).train) == [30, 31, 32, 33]
    assert levels(open_huggingface_dataset(rows, DATA, Hub(image="png")).train) == [10, 11, 12, 13]
    rows = rows.remove_columns("image")
    assert levels(open_huggingface_dataset(rows, DATA).train) == [20, 21, 22, 23]
    rows = rows.remove_columns("pair")
    dataset = open_huggingface_dataset(rows, DATA)
    assert levels(dataset.train) == [10, 11, 12, 13]
    assert dataset.classes == ("0", "1")
    assert open_huggingface_dataset(rows, DATA, Hub(label="none")).train.labels is None
    assert open_huggingface_dataset(rows, DATA, Hub(label="id")).classes == ("0", "1", "2", "3")
    with pytest.raises(UnknownNameError, match=r"no column of the dataset .* is called 'pgn'"):
        open_huggingface_dataset(rows, DATA, Hub(image="pgn"))
    with pytest.raises(DataError, match=r"'id' holds int64; expected datasets.Image"):
        open_huggingface_dataset(rows, DATA, Hub(image="id"))
    with pytest.raises(DataError, match="'png' holds binary; expected classes"):
        open_huggingface_dataset(rows, DATA, Hub(label="png"))
    with pytest.raises(DataError, match=r"no image column, got id \(int64\), hash \(binary"):
        open_huggingface_dataset(rows.remove_columns("png"), DATA)


def test_unused_ids_are_not_classes(png):
    import datasets

    ids = [1000, 0, 7, 1000]
    rows = datasets.Dataset.from_dict({"image": [png(i) for i in range(4)], "label": ids})
    dataset = open_huggingface_dataset(rows, DATA)
    assert dataset.classes == dataset.class_names() == ("0", "7", "1000")
    gray_levels = dataset.train.read(slice(None))[:, 0, 0, 0].tolist()
    labels = dict(zip(gray_levels, dataset.train.labels.tolist(), strict=True))
    assert [dataset.classes[labels[i]] for i in range(4)] == ["1000", "0", "7", "1000"]
    assert dataset.class_counts() == (1, 1, 2)


@pytest.mark.parametrize("bad", [-2, 3, 1 << 40])
def test_labels_out_of_range_are_refused(png, bad):
    """The error names the row; without labels the dataset can be read."""
    import datasets

    rows = datasets.Dataset.from_dict({"image": [png(1), png(2)], "label": [2, bad]})
    if bad == 3:  # the library would not write it
        names = datasets.ClassLabel(names=["a", "b", "c"])
        info = datasets.DatasetInfo(features=datasets.Features({**rows.features, "label": names}))
        rows = datasets.Dataset(rows.data, info=info)
    with pytest.raises(
        DataError, match=rf"train/000001 has {bad} in its column 'label'; .*remove_columns"
    ):
        open_huggingface_dataset(rows, DATA)
    assert levels(open_huggingface_dataset(rows, DATA, Hub(label="none")).train) == [1, 2]


def rows_of(png, labels):
    import datasets

    levels = [png(level) for level in range(len(labels))]
    return datasets.Dataset.from_dict({"image": levels, "label": labels})


@pytest.mark.parametrize(
    ("labels", "classes"),
    [([1, 0, -1, 1], ("0", "1")), (["dog", "cat", "", "dog"], ("cat", "dog"))],
    ids=["-1", "no name"],
)
def test_rows_without_a_label_are_unlabeled_images(png, labels, classes):
    """As is -1 in many datasets; the other images keep their labels."""
    splits = open_huggingface_dataset(rows_of(png, labels), DATA)
    assert splits.classes == classes
    assert sorted(splits.train.labels.tolist()) == [0, 1, 1]
    assert levels(splits.train) == [0, 1, 3]
    assert levels(splits.unlabeled) == [2]
    assert splits.notes == ("1 rows have no label and are unlabeled images",)


def test_a_held_out_split_may_have_no_labels(png):
    """As the test split of many datasets, whose labels are all -1."""
    import datasets

    test = datasets.Dataset.from_dict({"image": [png(20), png(21)], "label": [-1, -1]})
    splits = open_huggingface_dataset(
        datasets.DatasetDict(train=rows_of(png, [0, 1, 1]), test=test), DATA
    )
    assert levels(splits.test) == [20, 21]
    assert splits.test.labels is None
    assert sorted(splits.train.labels.tolist()) == [0, 1, 1]


def test_names_are_classes(png):
    """In sorted order; held-out rows with a name that has no training row are skipped."""
    import datasets

    test = datasets.Dataset.from_dict(
        {"image": [png(20), png(21), png(22)], "label": ["c", "zebra", None]}
    )
    train = rows_of(png, ["b", "a", "c", "a"])
    splits = open_huggingface_dataset(datasets.DatasetDict(train=train, test=test), DATA)
    assert splits.classes == ("a", "b", "c")
    result = dict(
        zip(splits.train.images[:, 0, 0, 0].tolist(), splits.train.labels.tolist(), strict=True)
    )
    assert result == {0: 1, 1: 0, 2: 2, 3: 0}
    assert splits.test.labels.tolist() == [2]
    assert {file.name: file.reason for file in splits.skipped_files} == {
        "test/000001": "has the label 'zebra', which no training row has",
        "test/000002": "has no label, unlike other rows of its split",
    }


def test_captions_are_not_classes(png):
    """A text column with a different text in nearly every row is a label only on request."""
    rows = rows_of(png, [f"image {i}" for i in range(60)])
    assert open_huggingface_dataset(rows, DATA).train.labels is None
    assert len(open_huggingface_dataset(rows, DATA, Hub(label="label")).classes) == 60


def test_a_label_column_without_labels(png):
    assert open_huggingface_dataset(rows_of(png, [-1, -1, -1]), DATA).train.labels is None


def test_a_split_without_the_column_is_refused(table):
    import datasets

    splits = datasets.DatasetDict({"train": table(range(4)), "test": table(range(2), labels=False)})
    with pytest.raises(DataError, match="no column 'label' in one of its splits"):
        open_huggingface_dataset(splits, DATA)
    assert open_huggingface_dataset(splits, DATA, Hub(label="none")).test is not None


def test_other_objects_are_refused(table):
    with pytest.raises(UsageError, match=r"data is of type list; give a datasets\.Dataset"):
        open_huggingface_dataset([1, 2], DATA)
    with pytest.raises(UsageError, match=r"data\['a'\] is of type int; give a datasets.Dataset"):
        open_dataset({"a": 1})
    with pytest.raises(DataError, match="has no rows"):
        open_huggingface_dataset(table([]), DATA)
    with pytest.raises(DataError, match="no training split, got no splits"):
        open_huggingface_dataset({}, DATA)


@pytest.mark.parametrize("kind", ["torch", "numpy"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_format_changes_nothing(table, kind, stream):
    rows = table(range(60)).with_format(kind)
    if stream:
        rows = rows.to_iterable_dataset().with_format(kind)
        read = open_dataset(rows, size=8).train.head(60)  # `stream` need not be set
        assert np.array_equal(read.labels, np.arange(60) % 3)
    else:
        opened = open_dataset(rows, size=8)
        assert opened.digest() == open_dataset(table(range(60)), size=8).digest()


def test_pixels_in_a_column_are_refused_with_what_reads_them():
    import datasets

    pixels = np.random.default_rng(0).integers(0, 256, (60, 8, 8), np.uint8)
    array = datasets.Features({"image": datasets.Array2D((8, 8), "uint8")})
    for features in array, None:
        rows = datasets.Dataset.from_dict({"image": pixels.tolist()}, features=features)
        with pytest.raises(DataError, match=r"no image column, got image .* data=numpy.stack\("):
            open_dataset(rows)
    read = np.stack(rows.cast(array).with_format("numpy")["image"]).astype(np.uint8)
    assert open_dataset(read).digest() == open_dataset(pixels).digest()


def test_an_unreachable_name_is_reported(silent):
    """The error has the name, the reason and what to do."""
    with pytest.raises(DataError) as caught:
        open_hub_name("no/such-set", Hub(), DATA)
    text = str(caught.value)
    assert text.startswith("hf:no/such-set cannot be read (ConnectionError: ")
    assert "check the name, config, revision and the connection to the hub" in text
    assert "\n" not in text


def test_configs_of_a_folder(tmp_path, write_parquet):
    """As in READMEs of the hub; one of several has to be selected."""
    for config, first in (("gray", 0), ("dark", 10)):
        write_parquet(tmp_path / config / "train-0.parquet", range(first, first + 3))
    (tmp_path / "README.md").write_text(
        "---\nconfigs:\n- config_name: gray\n  data_files: gray/*.parquet\n"
        "- config_name: dark\n  data_files: dark/*.parquet\n---\n"
    )
    assert levels(opened(tmp_path, config="dark").train) == [10, 11, 12]
    assert levels(open_hub_name(str(tmp_path), Hub("gray"), DATA).train) == [0, 1, 2]
    with pytest.raises(DataError, match=r"Config name is missing.*'gray', 'dark'"):
        opened(tmp_path)
    with pytest.raises(UsageError, match="revision=x does not apply to"):
        opened(tmp_path, revision="x")
    with pytest.raises(UsageError, match="config=x does not apply to"):
        opened(tmp_path / "gray/train-0.parquet", config="x")


def test_without_the_library_the_error_names_the_extra(monkeypatch, table):
    from advnets.errors import MissingExtraError

    def gone(library):
        raise ModuleNotFoundError(name=library)

    monkeypatch.setattr("importlib.import_module", gone)
    with pytest.raises(MissingExtraError, match=r"pip install 'advnets\[hub\]'"):
        open_hub_name("a/b", Hub(), DATA)


def test_unicode_forms_of_a_name_are_one_class(png):
    """NFC and NFD, as for folders."""
    rows = rows_of(png, ["cafe\u0301", "caf\xe9", "bar", "cafe\u0301"])
    splits = open_huggingface_dataset(rows, DATA)
    assert splits.classes == ("bar", "caf\xe9")
    assert sorted(splits.train.labels.tolist()) == [0, 1, 1, 1]


@pytest.mark.parametrize("value", [True, 1.0, b"1", [1]])
def test_a_label_column_of_another_type_is_refused(png, caplog, value):
    assert open_huggingface_dataset(rows_of(png, [value] * 4), DATA).classes == ()
    assert "column 'label' holds" in caplog.text
    assert "is not read as labels" in caplog.text
