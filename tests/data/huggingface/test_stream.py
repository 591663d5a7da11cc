"""Epochs of datasets that are read as a stream."""

import logging
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pytest

from advnets.config import Data
from advnets.data.dataset import Dataset, Split
from advnets.data.huggingface.open import (
    Hub,
    find_hub_name,
    find_hub_path,
    open_huggingface_dataset,
)
from advnets.data.image_folder.pack import to_dataset
from advnets.errors import DataError
from advnets.rng import RNG

DATA = Data(size=8, channels=1, stream=True)


def open_hub_path(path: Path, options: Hub, data: Data) -> Dataset:
    return to_dataset(find_hub_path(path, options, data), data)


def open_hub_name(name: str, options: Hub, data: Data) -> Dataset:
    return to_dataset(find_hub_name(name, options, data), data)


def stream(path, data=DATA, **options):
    return open_hub_path(path, Hub(**options), data).train


def one_pass(train, seed=0, epoch=0, skip=0, rank=0, world=1) -> list[int]:
    """Return the levels of the images of an epoch."""
    return [int(image[0, 0, 0]) for image, _ in train.read_epoch(seed, epoch, skip, rank, world)]


@pytest.fixture(params=["parquet", "one parquet", "tar", "table", "saved", "name", "unknown"])
def of_23(request, tmp_path, write_parquet, write_tar, table):
    """Return a stream of 23 rows in five shards or in one."""
    edges = [0, 3, 9, 13, 20, 23]
    shards = [range(*edge) for edge in pairwise(edges)]
    kind, place = request.param, tmp_path / "set"
    if kind == "saved":
        table(range(23)).save_to_disk(str(place), num_shards=2)
    elif kind == "one parquet":
        write_parquet(place / "x.parquet", range(23))
    elif kind == "tar":
        for i, levels in enumerate(shards):
            write_tar(place / f"train-{i:03d}.tar", levels)
    elif kind in ("parquet", "name"):
        for i, levels in enumerate(shards):
            write_parquet(place / f"train-{i:05d}-of-00005.parquet", levels)
    else:
        rows = table(range(23))
        if kind == "unknown":
            rows = rows.to_iterable_dataset(num_shards=5).filter(lambda _: True)
        return open_huggingface_dataset(rows, DATA).train
    if kind == "name":
        return open_hub_name(str(place), Hub(), DATA).train
    return stream(place)


def test_an_epoch_has_every_row_once_in_its_own_order(of_23):
    """The order depends on seed and epoch; labels belong to their images."""
    orders = {(seed, epoch): one_pass(of_23, seed, epoch) for seed in (0, -5) for epoch in (0, 1)}
    assert all(sorted(order) == list(range(23)) for order in orders.values())
    assert len(set(map(tuple, orders.values()))) == len(orders)
    assert orders[-5, 1] == one_pass(of_23, -5, 1)
    for image, label in of_23.read_epoch(0, 0, 0, 0, 1):
        assert image.shape == (1, 8, 8)
        assert label == int(image[0, 0, 0]) % 3


@pytest.mark.parametrize("world", [2, 3, 5, 25])
def test_ranks_share_the_rows(of_23, world):
    """Each row goes to one rank per epoch, also with more ranks than shards or rows."""
    for epoch in (0, 3) if world < 25 else (1,):
        shares = [one_pass(of_23, 0, epoch, 0, rank, world) for rank in range(world)]
        assert sorted(chain.from_iterable(shares)) == list(range(23))
        # The number of rows of a rank is the same in every epoch, as resuming requires.
        assert [len(share) for share in shares] == [
            of_23.count(rank, world) for rank in range(world)
        ]


@pytest.mark.parametrize(("rank", "world"), [(0, 1), (1, 2), (1, 5)])
def test_skipping_omits_exactly_the_rows_already_read(of_23, rank, world, monkeypatch):
    """To the row, without decoding them."""
    uninterrupted = one_pass(of_23, 3, 2, 0, rank, world)
    for skip in (1, len(uninterrupted) // 2, len(uninterrupted), len(uninterrupted) + 2):
        assert one_pass(of_23, 3, 2, skip, rank, world) == uninterrupted[skip:]
    monkeypatch.setattr("advnets.data.huggingface.stream.decode", None)
    assert one_pass(of_23, 3, 2, len(uninterrupted), rank, world) == []


def test_the_length_is_known_from_footers_or_tables(tmp_path, write_parquet, write_tar, table):
    """Parquet footers and tables state it; a tar does not."""
    write_parquet(tmp_path / "p/train-0.parquet", range(10))
    write_parquet(tmp_path / "p/train-1.parquet", range(7))
    write_parquet(tmp_path / "p/test-0.parquet", range(4))
    assert stream(tmp_path / "p").length == 17
    assert stream(write_tar(tmp_path / "x.tar", range(5))).length is None
    assert open_huggingface_dataset(table(range(6)), DATA).train.length == 6


def test_a_wrong_length_is_reported(tmp_path, table):
    """A wrong length would make resuming inexact."""
    train = open_huggingface_dataset(table(range(6)), DATA).train
    train.length = 7
    with pytest.raises(DataError, match="states 7 rows, 7 of them for this process, but has 6"):
        one_pass(train)


def test_validation_and_test_images_are_in_memory(tmp_path, write_parquet, monkeypatch):
    """Their first images, up to a maximum."""
    for split, levels in {"train": range(9), "validation": range(9, 15), "test": [20]}.items():
        write_parquet(tmp_path / f"{split}.parquet", levels)
    monkeypatch.setattr("advnets.data.huggingface.open.MAX_HELD_OUT", 4)
    splits = open_hub_path(tmp_path, Hub(), DATA)
    assert not isinstance(splits.train, Split)
    assert splits.valid.images[:, 0, 0, 0].tolist() == [9, 10, 11, 12]
    assert splits.valid.labels.tolist() == [0, 1, 2, 0]
    assert splits.test.images[:, 0, 0, 0].tolist() == [20]
    assert splits.classes == ("a", "b", "c")
    assert splits.shape == (1, 8, 8)


def test_the_head_has_the_first_images(of_23):
    assert of_23.head(4).images[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert of_23.head(2).images[:, 0, 0, 0].tolist() == [0, 1]
    assert len(of_23.head(1000)) == 23


def test_the_digest_depends_on_contents_frame_and_columns(tmp_path, write_parquet):
    """It does not depend on when or where the files were written."""
    a = write_parquet(tmp_path / "a/x.parquet", range(9))
    b = write_parquet(tmp_path / "b/x.parquet", range(9))
    c = write_parquet(tmp_path / "c/x.parquet", range(1, 10))
    first = stream(a).digest()
    assert stream(a).digest() == first == stream(b).digest()
    others = [
        stream(c).digest(),
        stream(a, Data(size=9, channels=1, stream=True)).digest(),
        stream(a, label="none").digest(),
    ]
    assert len({first, *others}) == 4


@pytest.mark.parametrize("world", [1, 2])
def test_a_broken_image_is_replaced_by_the_next_one(tmp_path, write_parquet, caplog, world):
    """Positions depend on the epoch alone, and each broken image is reported once."""
    broken = {3: None, 4: b"none", 11: b"", 12: b"no", 17: b"image"}
    rows = [broken.get(i, i) for i in range(20)]
    train = stream(write_parquet(tmp_path / "x.parquet", rows, labels=False))
    # The same rows in the same order, if all were intact.
    intact = stream(write_parquet(tmp_path / "whole.parquet", range(20), labels=False))
    for epoch in range(2):
        for rank in range(world):
            order = one_pass(intact, 0, epoch, 0, rank, world)
            expected = [
                next(level for level in order[i:] + order if level not in broken)
                for i in range(len(order))
            ]
            for skip in (0, 3, 8):
                assert one_pass(train, 0, epoch, skip, rank, world) == expected[skip:]
            assert train.count(rank, world) == len(order)
    run_command = [record.getMessage() for record in caplog.records]
    assert len(run_command) == 5
    assert any("has no image; skipped" in text for text in run_command)
    assert all(str(tmp_path / "x.parquet") in text for text in run_command)
    assert all(record.levelno == logging.WARNING for record in caplog.records)


def test_a_broken_member_is_named_by_its_key(tmp_path, write_tar, caplog):
    members = {"a/1.png": 1, "a/2.png": b"broken", "../3.png": 3, "a/4.png": 4}
    train = stream(write_tar(tmp_path / "x.tar", members))
    assert set(one_pass(train)) == {1, 4}
    assert "a/2 is not an image" in caplog.text
    assert "../3 has a name that leads out of the archive" in caplog.text


def test_a_stream_without_readable_images_is_refused(tmp_path, write_parquet):
    path = write_parquet(tmp_path / "x.parquet", [None, b"", b"x"])
    with pytest.raises(DataError, match=r"x\.parquet holds no image that can be read"):
        stream(path)


def test_crops_depend_on_position_and_epoch_alone(tmp_path, table):
    """Images of the head are cropped at the center."""
    import io

    import datasets
    from PIL import Image

    rng = np.random.default_rng(0)
    pages = [rng.integers(0, 256, (8, 30), np.uint8) for _ in range(6)]

    def png(page) -> bytes:
        content = io.BytesIO()
        Image.fromarray(page).save(content, "PNG")
        return content.getvalue()

    rows = datasets.Dataset.from_dict({"png": [png(page) for page in pages]})
    train = open_huggingface_dataset(
        rows, Data(size=8, channels=1, stream=True, crop="random")
    ).train
    np.testing.assert_array_equal(
        train.head(6).images[:, 0], np.stack([page[:, 11:19] for page in pages])
    )
    first = [image for image, _ in train.read_epoch(0, 1, 0, 0, 1)]
    for skip in range(6):
        repeated = [image for image, _ in train.read_epoch(0, 1, skip, 0, 1)]
        np.testing.assert_array_equal(np.stack(repeated), np.stack(first[skip:]))
    second_epoch = [image for image, _ in train.read_epoch(0, 2, 0, 0, 1)]
    assert not np.array_equal(np.stack(first), np.stack(second_epoch))
    lefts = [
        int(RNG(0, step=1, purpose="window/0", first_row=i).uniform("window", 1, 2)[0, 1] * 23)
        for i in range(6)
    ]
    for image, left in zip(first, lefts, strict=True):
        assert any(np.array_equal(image[0], page[:, left : left + 8]) for page in pages)


def test_labels_out_of_range_are_an_error(table, png):
    import datasets

    rows = datasets.Dataset.from_dict({"image": [png(1), png(2)], "label": [2, -1]})
    train = open_huggingface_dataset(rows, DATA).train
    with pytest.raises(DataError, match=r"row \d of epoch 1 has -1 in its column 'label'"):
        one_pass(train)
    assert sorted(one_pass(open_huggingface_dataset(rows, DATA, Hub(label="none")).train)) == [1, 2]


@pytest.mark.parametrize("declared", [True, False])
def test_images_decoded_by_a_map_or_filter(tmp_path, declared):
    """Their pixels and their orientation are kept."""
    import datasets
    from PIL import Image

    rng = np.random.default_rng(0)
    page = rng.integers(0, 256, (8, 8), np.uint8)
    rotated = Image.fromarray(np.rot90(page).copy())
    rotated.getexif()[0x0112] = 6  # viewers rotate it clockwise
    modes = ["L", "RGB", "RGBA", "CMYK", "LA"]

    def rows():
        yield {"image": rotated}
        for mode in modes:
            yield {"image": Image.fromarray(page).convert(mode)}

    features = datasets.Features({"image": datasets.Image()}) if declared else None
    result = datasets.IterableDataset.from_generator(rows, features=features)
    if declared:  # the library then drops the orientation
        result = result.filter(lambda _: True).skip(1)
    images = open_huggingface_dataset(result, DATA).train.head(9).images[:, 0]
    np.testing.assert_array_equal(images, np.stack([page] * (len(modes) + (not declared))))


def test_a_dataset_without_declared_columns_has_those_of_its_first_row(png):
    """As a generator's: they are what its first row holds."""
    import datasets

    def rows():
        for i in range(5):
            yield {"id": i, "text": "x", "jpg": png(i), "cls": i % 2}

    train = open_huggingface_dataset(datasets.IterableDataset.from_generator(rows), DATA).train
    assert sorted(one_pass(train)) == [0, 1, 2, 3, 4]
    assert train.head(5).labels.tolist() == [0, 1, 0, 1, 0]


def test_an_iterable_dataset_is_streamed_without_being_asked(png):
    """As one of torch is."""
    import datasets

    def rows():
        for i in range(5):
            yield {"jpg": png(i), "cls": i % 2}

    data = datasets.IterableDataset.from_generator(rows)
    train = open_huggingface_dataset(data, Data(size=8, channels=1)).train
    assert sorted(one_pass(train)) == [0, 1, 2, 3, 4]
