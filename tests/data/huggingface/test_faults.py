"""Broken, mixed or missing shards give one sentence with the file and the reason."""

import io
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from advnets.config import Data
from advnets.data.dataset import Dataset, Split
from advnets.data.huggingface.open import Hub, find_hub_path, is_hub_path, open_huggingface_dataset
from advnets.data.image_folder.pack import to_dataset
from advnets.errors import AdvnetsError, DataError

PACKED, STREAMED = Data(size=8, channels=1), Data(size=8, channels=1, stream=True)
BOTH = pytest.mark.parametrize("data", [PACKED, STREAMED], ids=["packed", "streamed"])


def open_hub_path(path: Path, options: Hub, data: Data) -> Dataset:
    return to_dataset(find_hub_path(path, options, data), data)


def read(path: Path, data: Data) -> int:
    """Open a dataset and return the number of training images; of a stream, read an epoch."""
    train = open_hub_path(path, Hub(), data).train
    return (
        len(train) if isinstance(train, Split) else sum(1 for _ in train.read_epoch(0, 0, 0, 0, 1))
    )


def sentence(path: Path, data: Data) -> str:
    with pytest.raises(DataError) as caught:
        read(path, data)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 600
    return text


@BOTH
@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda c: b"", "Parquet file size is 0 bytes"),
        (lambda c: b"no Parquet " * 9, "Parquet magic bytes not found"),
        (lambda c: c[: len(c) // 2], "Parquet magic bytes not found"),
        (lambda c: c[:-8] + b"\xff\xff\xff\x7f" + c[-4:], "footer"),
    ],
    ids=["empty", "text", "cut", "long footer"],
)
@pytest.mark.parametrize("intact", [True, False], ids=["alone", "references"])
def test_a_broken_parquet_file_is_refused(tmp_path, write_parquet, data, change, complaint, intact):
    """Also where it is one of several in a folder."""
    path = write_parquet(tmp_path / "train-1.parquet", range(30))
    path.write_bytes(change(path.read_bytes()))
    if not intact:
        write_parquet(tmp_path / "train-0.parquet", range(5))
        write_parquet(tmp_path / "train-2.parquet", range(5))
    text = sentence(path if intact else tmp_path, data)
    assert text.startswith(f"{path} is not a Parquet file that can be read (")
    assert complaint in text
    assert text.endswith("); copy or download it again")


@BOTH
def test_a_parquet_file_with_broken_pages_is_refused(tmp_path, write_parquet, data):
    """Its footer is intact; the error occurs in reading and names the file."""
    for i in range(3):
        path = write_parquet(tmp_path / f"train-{i}.parquet", range(10 * i, 10 * i + 10))
    content = bytearray(path.read_bytes())
    content[4:200] = b"\xee" * 196
    path.write_bytes(content)
    assert sentence(tmp_path, data).startswith(f"{path} is not a Parquet file that can be read (")


@BOTH
def test_a_parquet_file_without_images_is_refused(tmp_path, data):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"id": [1, 2], "text": ["a", "b"]}), path)
    assert sentence(path, data) == (
        f"{path} has no image column, got id (int64), text (string); expected a column of "
        f"datasets.Image or of the bytes of image files: name it with image=COLUMN"
    )


@BOTH
def test_a_table_without_rows_is_refused(tmp_path, write_parquet, write_tar, data):
    path = write_parquet(tmp_path / "a/x.parquet", [])
    assert sentence(path, data) == f"{path} has no rows; give a dataset with at least one image"
    path = write_tar(tmp_path / "b/x.tar", {})
    assert f"{path} is not a WebDataset tar that can be read (it holds no" in sentence(path, data)


@BOTH
def test_shards_of_two_kinds_are_refused(tmp_path, write_parquet, write_tar, data):
    write_parquet(tmp_path / "a.parquet", range(3))
    write_tar(tmp_path / "deep/b.tar", range(3))
    assert is_hub_path(tmp_path)
    assert "holds Parquet and tar files (a.parquet and deep/b.tar)" in sentence(tmp_path, data)


@BOTH
@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda c: b"", "ReadError"),
        (lambda c: b"no tar at all, but text" * 512, "ReadError"),
        (lambda c: c[:700], "its 700 bytes are not a whole number of blocks"),
        (lambda c: c[: 512 * 20 + 100], "are not a whole number of blocks"),
        (lambda c: c[: 512 * 5], "unexpected end of data"),
    ],
    ids=["empty", "text", "first", "header", "member"],
)
def test_a_broken_tar_is_refused(tmp_path, write_tar, data, change, complaint):
    """A tar that ends inside a header would otherwise be read as a complete one."""
    big = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8).tobytes()
    members = {f"{i:03d}.{end}": big for i in range(9) for end in ("png", "txt.bin")}
    write_tar(tmp_path / "train-0.tar", range(9))
    path = write_tar(tmp_path / "train-1.tar", members)
    path.write_bytes(change(path.read_bytes()))
    text = sentence(tmp_path, data)
    assert text.startswith(f"{path} is not a WebDataset tar that can be read (")
    assert complaint in text


@BOTH
def test_a_tar_with_samples_of_different_fields_is_refused(tmp_path, write_tar, data):
    """The library infers the fields from the first five samples."""
    path = write_tar(tmp_path / "x.tar", {"1.png": 1, "2.txt": b"two", "3.png": 3})
    text = sentence(path, data)
    assert text.startswith(f"{path} cannot be read (")
    assert "don't share the same prefix or the same types" in text


@BOTH
def test_a_tar_with_an_invalid_class_is_refused(tmp_path, write_tar, data):
    path = write_tar(tmp_path / "x.tar", {"1.png": 1, "1.cls": b"cat", "2.png": 2, "2.cls": b"0"})
    assert "invalid literal for int() with base 10: b'cat'" in sentence(path, data)


@BOTH
def test_links_and_folders_in_a_tar_are_ignored(tmp_path, write_tar, png, data):
    """Nothing is unpacked to disk."""
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as archive:
        for kind, name in ((tarfile.SYMTYPE, "0.png"), (tarfile.DIRTYPE, "a.png")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        for i in range(3):
            info = tarfile.TarInfo(f"{i}.png")
            content = png(i)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    assert read(path, data) == 3


@BOTH
def test_a_broken_saved_dataset_is_refused(tmp_path, table, data):
    place = tmp_path / "saved"
    table(range(9)).save_to_disk(str(place))
    arrow = next(place.glob("*.arrow"))
    arrow.write_bytes(arrow.read_bytes()[:100])
    assert sentence(place, data).startswith(f"{place} cannot be read (")
    (place / "state.json").write_text("{")
    assert sentence(place, data).endswith("save the dataset again with save_to_disk")


def test_hub_paths_are_recognized(tmp_path, write_parquet, write_tar, png):
    """A folder that also contains an image is a folder of images."""
    assert not is_hub_path(tmp_path)
    assert not is_hub_path(tmp_path / "absent.parquet")
    assert is_hub_path(write_parquet(tmp_path / "a/X.PARQUET", range(2)))
    assert is_hub_path(write_tar(tmp_path / "b/x.tar", range(2)))
    (tmp_path / "b/README.md").write_text("")
    assert is_hub_path(tmp_path / "b")
    (tmp_path / "b/deep").mkdir()
    (tmp_path / "b/deep/x.png").write_bytes(png(1))
    assert not is_hub_path(tmp_path / "b")
    (tmp_path / "x.zip").write_bytes(b"")
    assert not is_hub_path(tmp_path / "x.zip")


def test_an_exception_of_a_stream_is_a_data_error(png):
    """Also an exception that another library's generator raises."""
    import datasets

    def rows():
        yield {"png": png(1)}
        raise ConnectionResetError("by\npeer")

    train = open_huggingface_dataset(datasets.IterableDataset.from_generator(rows), STREAMED).train
    with pytest.raises(
        DataError, match=r"cannot be read further \(ConnectionResetError: by peer\)"
    ):
        list(train.read_epoch(0, 0, 0, 0, 1))


@st.composite
def changes(draw):
    """Generate changes of the bytes of a file: truncated, overwritten, or with a piece moved."""
    return {
        "keep": draw(st.floats(0.3, 1)) if draw(st.integers(0, 4)) == 0 else 1.0,
        "places": draw(
            st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=6)
        ),
        "near_end": draw(st.booleans()),
    }


def changed(content: bytes, change) -> bytes:
    new = bytearray(content[: max(1, int(len(content) * change["keep"]))])
    for place, value in change["places"]:
        span = min(len(new), 900) if change["near_end"] else len(new)
        new[len(new) - 1 - int(place * (span - 1))] = value
    return bytes(new)


def any_bytes(tmp_path: Path, content: bytes, kind: str, number: int) -> None:
    path = tmp_path / f"{number}.{kind}"
    path.write_bytes(content)
    for data in (PACKED, STREAMED):
        try:
            read(path, data)
        except AdvnetsError as error:
            assert "\n" not in str(error)


@pytest.fixture
def intact(tmp_path, write_parquet, write_tar) -> dict[str, bytes]:
    levels = range(12)
    return {
        "parquet": write_parquet(tmp_path / "whole.parquet", levels).read_bytes(),
        "tar": write_tar(tmp_path / "whole.tar", levels).read_bytes()[: 512 * 60],
    }


FIXTURE = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@pytest.mark.parametrize("kind", ["parquet", "tar"])
@settings(max_examples=15, deadline=None, suppress_health_check=FIXTURE, derandomize=True)
@given(change=changes())
def test_changed_bytes_are_read_or_refused(tmp_path, intact, kind, change):
    """Any bytes give images or an error of this package."""
    any_bytes(tmp_path, changed(intact[kind], change), kind, abs(hash(repr(change))))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["parquet", "tar"])
@settings(max_examples=1000, deadline=None, suppress_health_check=FIXTURE)
@given(change=changes())
def test_many_changed_bytes_are_read_or_refused(tmp_path, intact, kind, change):
    """As above."""
    any_bytes(tmp_path, changed(intact[kind], change), kind, abs(hash(repr(change))))


@BOTH
def test_rows_that_name_files_outside_the_dataset_are_skipped(tmp_path, png, data):
    """They are read only with --follow-links, so that a dataset cannot read private images."""
    import datasets
    import pyarrow.parquet as pq

    (tmp_path / "private.png").write_bytes(png(9))
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "own.png.data").write_bytes(png(3))
    (tmp_path / "set" / "link.data").symlink_to("../private.png")
    rows = [
        {"bytes": png(1), "path": None},
        *(
            {"bytes": None, "path": str(tmp_path / name)}
            for name in ("private.png", "set/own.png.data", "set/link.data", "set/../private.png")
        ),
    ]
    features = datasets.Features(
        {"image": {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}}
    )
    table = datasets.Dataset.from_dict({"image": rows}, features=features)
    pq.write_table(table.data.table, tmp_path / "set" / "train.parquet")
    result = levels_of(tmp_path / "set", data)
    assert result == {1, 3}
    assert levels_of(tmp_path / "set", replace(data, follow_links=True)) == {1, 3, 9}


def levels_of(path: Path, data: Data) -> set[int]:
    train = open_hub_path(path, Hub(), data).train
    if isinstance(train, Split):
        return set(train.read(slice(None))[:, 0, 0, 0].tolist())
    return {int(image[0, 0, 0]) for image, _ in train.read_epoch(0, 0, 0, 0, 1)}
