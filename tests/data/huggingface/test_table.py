from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from advnets.config import Data
from advnets.data.dataset import Dataset
from advnets.data.huggingface.columns import Columns
from advnets.data.huggingface.open import (
    Hub,
    find_hub_name,
    find_hub_path,
    is_hub_path,
    open_huggingface_dataset,
)
from advnets.data.huggingface.table import collect_rows
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
    """By which the images are known again."""
    images = split.images
    assert (images == images[:, :1, :1, :1]).all()
    return sorted(images[:, 0, 0, 0].tolist())


def test_a_folder_of_shards_has_the_splits_that_their_names_tell(tmp_path, write_parquet, silent):
    """As on the hub: data/train-00000-of-00002.parquet and so on, with classes by name."""
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


def test_folders_tell_the_split_too(tmp_path, write_parquet):
    write_parquet(tmp_path / "train/part-0.parquet", range(4))
    write_parquet(tmp_path / "test/part-0.parquet", range(4, 6))
    splits = opened(tmp_path)
    assert levels(splits.train) == [0, 1, 2, 3]
    assert levels(splits.test) == [4, 5]


@pytest.mark.parametrize("kind", ["file", "folder", "saved", "object", "name"])
def test_one_split_is_dealt_by_hash(tmp_path, write_parquet, table, kind):
    """Like own images: a tenth each for validation and test, where they are enough."""
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


def test_what_is_opened_again_is_not_read_again(tmp_path, write_parquet, own_caches, monkeypatch):
    """The pack is found again, and another content is packed anew."""
    path = write_parquet(tmp_path / "all.parquet", range(9))
    first = opened(path)
    monkeypatch.setattr("advnets.data.image_folder.pack.pack", None)
    assert opened(path).digest() == first.digest()
    monkeypatch.undo()
    monkeypatch.setenv("ADVNETS_CACHE", str(own_caches))
    write_parquet(path, range(1, 10))
    assert levels(opened(path).train) == list(range(1, 10))


def test_nothing_is_written_but_in_the_cache(tmp_path, write_parquet, write_tar, own_caches):
    path = write_parquet(tmp_path / "a" / "all.parquet", range(9))
    other = write_tar(tmp_path / "b" / "all.tar", range(9))
    for stream in (False, True):
        for source in (path, other, path.parent, other.parent):
            opened(source, Data(size=8, channels=1, stream=stream))
    assert {file for file in tmp_path.rglob("*") if file.is_file()} == {path, other}
    assert {entry.name for entry in own_caches.iterdir()} == {"datasets", "packs"}
    assert not (tmp_path.parent / f"{tmp_path.name}-library").exists()


def test_a_file_with_an_odd_name(tmp_path, write_parquet):
    """What the library takes for a pattern is escaped in a file's name, refused in a folder's."""
    path = write_parquet(tmp_path / "a [b] *" / "c [1] * é.parquet", range(5))
    assert levels(opened(path).train) == [0, 1, 2, 3, 4]
    with pytest.raises(UsageError, match="rename the folder"):
        opened(path.parent)


def test_tars_in_the_layout_of_webdataset(tmp_path, write_tar, silent):
    write_tar(tmp_path / "train-000.tar", range(5))
    write_tar(tmp_path / "train-001.tar", range(5, 11))
    write_tar(tmp_path / "test-000.tar", range(11, 14))
    splits = opened(tmp_path)
    assert levels(splits.train) == list(range(11))
    assert levels(splits.test) == [11, 12, 13]
    np.testing.assert_array_equal(splits.train.labels, splits.train.images[:, 0, 0, 0] % 3)
    assert splits.classes == ("0", "1", "2")
    assert levels(opened(tmp_path / "train-001.tar").train) == list(range(5, 11))


def test_broken_rows_are_named(tmp_path, write_parquet, png):
    """Missing, empty, no image, cut short, or only the name of one: named and left out."""
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


def test_members_of_a_tar_that_lead_out_are_left_out(tmp_path, write_tar):
    names = {"../a.png": 1, "b.png": 2, "/c.png": 3, "d/../../e.png": 4, "f.png": b"broken"}
    path = write_tar(tmp_path / "x.tar", names)
    splits = opened(path)
    assert levels(splits.train) == [2]
    assert [file.name for file in splits.skipped_files] == [f"train/00000{i}" for i in (0, 2, 3, 4)]
    assert "leads out" in splits.skipped_files[0].reason


def test_the_reader_goes_to_other_processes(tmp_path, table, write_parquet):
    """A table in memory goes by way of a file, so that it is not sent over and over."""
    rng = np.random.default_rng(0).integers(0, 256, (30, 256, 256), np.uint8)
    import datasets

    rows = {"image": [{"bytes": page.tobytes()} for page in rng]}
    memory = datasets.Dataset.from_dict(rows)
    columns = Columns("image")
    found = collect_rows([("train", "", memory)], columns, "x", "x", "")
    sent = pickle.dumps(found.reader)
    assert len(sent) < 100_000
    read = list(pickle.loads(sent).read([b"train/000029", b"train/000030", b"train/000000"]))
    assert read[0] == rng[29].tobytes()
    assert isinstance(read[1], DataError)
    assert read[2] == rng[0].tobytes()


@pytest.mark.slow
def test_many_are_decoded_by_several_processes(tmp_path, write_parquet):
    splits = opened(write_parquet(tmp_path / "x.parquet", [i % 256 for i in range(2500)]))
    sizes = [len(part) for part in (splits.train, splits.valid, splits.test)]
    assert sum(sizes) == 2500


def test_of_several_splits_one_may_be_named(tmp_path, table, caplog):
    import datasets

    splits = datasets.DatasetDict(
        {"train": table(range(4)), "extra": table(range(4, 7)), "val": table(range(7, 9))}
    )
    found = open_huggingface_dataset(splits, DATA)
    assert (levels(found.train), levels(found.valid), found.test) == ([0, 1, 2, 3], [7, 8], None)
    assert "extra are not for training" in caplog.text
    assert levels(open_huggingface_dataset(splits, DATA, Hub(split="extra")).train) == [4, 5, 6]
    with pytest.raises(
        UnknownNameError, match=r"no split of .* is called 'extr'; did you mean ext"
    ):
        open_huggingface_dataset(splits, DATA, Hub(split="extr"))
    del splits["train"]
    with pytest.raises(DataError, match="no training split, got extra, val; name one"):
        open_huggingface_dataset(splits, DATA)


def test_of_several_columns_one_may_be_named(table, png):
    """The first that is declared, else pairs, else bytes that decode; or the one that is named."""
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
        },
    ).cast_column("image", datasets.Image())
    assert levels(open_huggingface_dataset(rows, DATA).train) == [30, 31, 32, 33]
    assert levels(open_huggingface_dataset(rows, DATA, Hub(image="png")).train) == [10, 11, 12, 13]
    rows = rows.remove_columns("image")
    assert levels(open_huggingface_dataset(rows, DATA).train) == [20, 21, 22, 23]
    rows = rows.remove_columns("pair")
    found = open_huggingface_dataset(rows, DATA)
    assert levels(found.train) == [10, 11, 12, 13]
    assert found.classes == ("0", "1")
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


def test_ids_between_those_of_a_table_are_no_classes(png):
    import datasets

    ids = [1000, 0, 7, 1000]
    rows = datasets.Dataset.from_dict({"image": [png(i) for i in range(4)], "label": ids})
    found = open_huggingface_dataset(rows, DATA)
    assert found.classes == found.class_names() == ("0", "7", "1000")
    shown = found.train.read(slice(None))[:, 0, 0, 0].tolist()
    labels = dict(zip(shown, found.train.labels.tolist(), strict=True))
    assert [found.classes[labels[i]] for i in range(4)] == ["1000", "0", "7", "1000"]
    assert found.class_counts() == (1, 1, 2)


@pytest.mark.parametrize("bad", [-2, 3, 1 << 40])
def test_labels_out_of_range_are_refused(png, bad):
    """By the name of the row; without labels the set can be read all the same."""
    import datasets

    rows = datasets.Dataset.from_dict({"image": [png(1), png(2)], "label": [2, bad]})
    if bad == 3:  # which the library would not write
        names = datasets.ClassLabel(names=["a", "b", "c"])
        info = datasets.DatasetInfo(features=datasets.Features({**rows.features, "label": names}))
        rows = datasets.Dataset(rows.data, info=info)
    with pytest.raises(DataError, match=rf"train/000001 has {bad} in its column 'label'; .*=none"):
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
    """As -1 says in many sets: the others keep their labels, and no image is lost."""
    splits = open_huggingface_dataset(rows_of(png, labels), DATA)
    assert splits.classes == classes
    assert sorted(splits.train.labels.tolist()) == [0, 1, 1]
    assert levels(splits.train) == [0, 1, 3]
    assert levels(splits.unlabeled) == [2]
    assert splits.notes == ("1 rows have no label and are unlabeled images",)


def test_a_held_out_split_may_have_no_labels(png):
    """As the test split of many sets, where every label is -1: it keeps its images."""
    import datasets

    test = datasets.Dataset.from_dict({"image": [png(20), png(21)], "label": [-1, -1]})
    splits = open_huggingface_dataset(
        datasets.DatasetDict(train=rows_of(png, [0, 1, 1]), test=test), DATA
    )
    assert levels(splits.test) == [20, 21]
    assert splits.test.labels is None
    assert sorted(splits.train.labels.tolist()) == [0, 1, 1]


def test_names_are_classes(png):
    """In sorted order; a held-out row of a name that is not trained on is left out."""
    import datasets

    test = datasets.Dataset.from_dict(
        {"image": [png(20), png(21), png(22)], "label": ["c", "zebra", None]}
    )
    train = rows_of(png, ["b", "a", "c", "a"])
    splits = open_huggingface_dataset(datasets.DatasetDict(train=train, test=test), DATA)
    assert splits.classes == ("a", "b", "c")
    found = dict(
        zip(splits.train.images[:, 0, 0, 0].tolist(), splits.train.labels.tolist(), strict=True)
    )
    assert found == {0: 1, 1: 0, 2: 2, 3: 0}
    assert splits.test.labels.tolist() == [2]
    assert {file.name: file.reason for file in splits.skipped_files} == {
        "test/000001": "has the label 'zebra', which no training row has",
        "test/000002": "has no label, unlike other rows of its split",
    }


def test_captions_are_no_classes(png):
    """A text that nearly every row has for itself is a label only where that is asked for."""
    rows = rows_of(png, [f"image {i}" for i in range(60)])
    assert open_huggingface_dataset(rows, DATA).train.labels is None
    assert len(open_huggingface_dataset(rows, DATA, Hub(label="label")).classes) == 60


def test_no_row_has_a_label(png):
    assert open_huggingface_dataset(rows_of(png, [-1, -1, -1]), DATA).train.labels is None


def test_a_split_without_the_column_is_refused(table):
    import datasets

    splits = datasets.DatasetDict({"train": table(range(4)), "test": table(range(2), labels=False)})
    with pytest.raises(DataError, match="no column 'label' in one of its splits"):
        open_huggingface_dataset(splits, DATA)
    assert open_huggingface_dataset(splits, DATA, Hub(label="none")).test is not None


def test_what_is_no_set_is_refused(table):
    with pytest.raises(UsageError, match="got a list; convert it"):
        open_huggingface_dataset([1, 2], DATA)
    with pytest.raises(UsageError, match="stream=True"):
        open_huggingface_dataset(table(range(3)).to_iterable_dataset(), DATA)
    with pytest.raises(DataError, match="has no rows"):
        open_huggingface_dataset(table([]), DATA)
    with pytest.raises(DataError, match="no training split, got no splits"):
        open_huggingface_dataset({}, DATA)


def test_a_name_that_cannot_be_reached(silent):
    """What was asked, what failed, what to do."""
    with pytest.raises(DataError) as caught:
        open_hub_name("no/such-set", Hub(), DATA)
    text = str(caught.value)
    assert text.startswith("hf:no/such-set cannot be read (ConnectionError: ")
    assert "check the name, config, revision and the connection to the hub" in text
    assert "\n" not in text


def test_configs_of_a_folder(tmp_path, write_parquet):
    """As the hub's README has them; one of several must be chosen."""
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


def test_without_the_library(monkeypatch, table):
    from advnets.errors import MissingExtraError

    def gone(library):
        raise ModuleNotFoundError(name=library)

    monkeypatch.setattr("importlib.import_module", gone)
    with pytest.raises(MissingExtraError, match=r"pip install 'advnets\[hub\]'"):
        open_hub_name("a/b", Hub(), DATA)


def test_names_in_any_normal_form_are_one_class(png):
    """As folders are read: an accent within the letter, or after it."""
    rows = rows_of(png, ["cafe\u0301", "caf\xe9", "bar", "cafe\u0301"])
    splits = open_huggingface_dataset(rows, DATA)
    assert splits.classes == ("bar", "caf\xe9")
    assert sorted(splits.train.labels.tolist()) == [0, 1, 1, 1]


@pytest.mark.parametrize("value", [True, 1.0, b"1", [1]])
def test_a_label_column_of_another_type_is_named(png, caplog, value):
    assert open_huggingface_dataset(rows_of(png, [value] * 4), DATA).classes == ()
    assert "column 'label' holds" in caplog.text
    assert "is not read as labels" in caplog.text
