import gzip
import hashlib
import math
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from advnets.data.datasets.idx import (
    decompressed_md5,
    find_idx,
    open_idx_folder,
    read_idx,
    read_images,
)
from advnets.errors import DataError

RNG = np.random.default_rng(0)
VALUES = RNG.integers(0, 256, (5, 4, 3), dtype=np.uint8)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", ["x", "x.gz"])
def test_gzip_is_detected_by_content(tmp_path, write_idx, packed, name):
    """Compression is detected by content, not by name."""
    values = read_idx(write_idx(tmp_path / name, VALUES, packed), 3)
    np.testing.assert_array_equal(values, VALUES)
    assert values.flags.writeable


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda c: b"", "must start with the bytes '00 00 08 03', as an IDX file does, got ''"),
        (lambda c: c[:3], "as an IDX file does, got '00 00 08'"),
        (lambda c: b"\x89PNG" + c[4:], "as an IDX file does, got '89 50 4e 47'"),
        (lambda c: c[:9], "is truncated within its header"),
        (lambda c: c[:-1], "5 × 4 × 3 = 60 values, got 59"),
        (lambda c: c[:16], "values, got 0"),
        (lambda c: c + b"\0", "values, got more"),
        (lambda c: c[:2] + b"\x0d" + c[3:], "got 32-bit floats of rank 3"),
        (lambda c: c[:3] + b"\x01" + c[4:], "got unsigned bytes of rank 1"),
        (lambda c: c[:4] + bytes([0, 0, 1, 0] * 2) + c[12:], "values, got 60"),
        (lambda c: c[:4] + b"\xff" * 12 + c[16:], "declares the impossible shape"),
        (lambda c: c[:4] + b"\xff" * 8 + bytes(4), "declares the impossible shape"),
    ],
)
def test_invalid_files_are_refused(tmp_path, idx_bytes, change, problem, packed):
    """The error names the file and the problem."""
    content = change(idx_bytes(VALUES))
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(DataError) as caught:
        read_idx(path, 3)
    assert str(path) in str(caught.value)
    assert problem in str(caught.value)


def test_damaged_gzip_is_refused(tmp_path, idx_bytes):
    """A truncated or modified gzip file is refused."""
    packed = gzip.compress(idx_bytes(VALUES))
    path = tmp_path / "x.gz"
    for content in [
        packed[:-9],
        packed[:-4],
        packed[:12],
        packed[:-8] + b"\0" * 8,
        packed + b"tail",
    ]:
        path.write_bytes(content)
        with pytest.raises(DataError, match="damaged gzip"):
            read_idx(path, 3)


def test_bomb_is_refused_before_decompression(tmp_path):
    """A small gzip of a large declared size is refused; a well compressed file is not."""
    header = b"\0\0\x08\x03" + struct.pack(">3I", 1 << 20, 1 << 10, 1)
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(header + bytes(1 << 16)))
    with pytest.raises(DataError, match=r"bytes decompress to 1,073,741,824"):
        read_idx(path, 3)
    path.write_bytes(gzip.compress(header[:4] + struct.pack(">3I", 1 << 10, 1 << 10, 1)))
    with pytest.raises(DataError, match="values, got 0"):
        read_idx(path, 3)


def test_missing_file_and_folder(tmp_path):
    """A missing file, or a folder in its place, is a DataError."""
    with pytest.raises(DataError, match="No such file"):
        read_idx(tmp_path / "absent", 3)
    with pytest.raises(DataError, match="a folder, not a regular file"):
        read_idx(tmp_path, 3)


def test_md5_is_of_the_decompressed_content(tmp_path, write_idx, idx_bytes):
    """The MD5 is that of the decompressed content; other content is refused."""
    md5 = hashlib.md5(idx_bytes(VALUES)).hexdigest()
    for packed in (False, True):
        path = write_idx(tmp_path / "x", VALUES, packed)
        assert decompressed_md5(path) == md5
        read_idx(path, 3, md5)
    with pytest.raises(DataError, match=rf"not the original .* must be {'0' * 32}, got {md5}"):
        read_idx(path, 3, "0" * 32)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    start=st.sampled_from(
        [b"", b"\0\0", b"\0\0\x08", b"\0\0\x08\x03", b"\x1f\x8b", b"\x1f\x8b\x08\0"]
    ),
    rest=st.binary(max_size=40),
    packed=st.booleans(),
)
def test_any_bytes_are_read_or_refused(tmp_path, start, rest, packed):
    """Any bytes give the declared values or a DataError."""
    path = tmp_path / "x"
    content = start + rest
    path.write_bytes(gzip.compress(content) if packed else content)
    try:
        values = read_idx(path, 3)
    except DataError:
        return
    shape = struct.unpack(">3I", content[4:16])
    assert values.shape == shape
    assert len(content) == 16 + math.prod(shape)


def test_images_have_a_channel_and_labels(tmp_path, write_idx):
    """Images are (N, 1, H, W) and labels int64."""
    images = write_idx(tmp_path / "images", VALUES)
    labels = write_idx(tmp_path / "labels", np.arange(5), packed=True)
    split = read_images(images, labels)
    np.testing.assert_array_equal(split.images[:, 0], VALUES)
    np.testing.assert_array_equal(split.labels, np.arange(5))
    assert split.images.flags.c_contiguous
    assert read_images(images, None).labels is None


def test_wrong_number_of_labels_is_refused(tmp_path, write_idx):
    """The error names both files."""
    images = write_idx(tmp_path / "images", VALUES)
    labels = write_idx(tmp_path / "labels", np.arange(4))
    with pytest.raises(
        DataError, match=r"labels must have one label per image, got 4 labels for the 5 images"
    ):
        read_images(images, labels)


@pytest.mark.parametrize("shape", [(0, 4, 3), (5, 0, 3)])
def test_no_images_are_refused(tmp_path, write_idx, shape):
    """A file of no images, or of images without pixels, is refused."""
    with pytest.raises(DataError, match="contains no images"):
        read_images(write_idx(tmp_path / "images", np.zeros(shape)), None)


def folder_of(folder: Path, write_idx, prefix: str = "", n: int = 12, test: bool = True) -> Path:
    rng = np.random.default_rng(1)
    for split, m in {"train": n, "t10k": 5}.items():
        if split == "train" or test:
            values = rng.integers(0, 256, (m, 4, 3))
            write_idx(folder / f"{prefix}{split}-images-idx3-ubyte.gz", values, packed=True)
            write_idx(folder / f"{prefix}{split}-labels-idx1-ubyte", np.arange(m))
    return folder


def test_folder_like_mnist(tmp_path, write_idx):
    """A folder with MNIST's file names opens; the last sixth is the validation split."""
    splits = open_idx_folder(folder_of(tmp_path / "fashion", write_idx))
    assert splits.name == "fashion"
    assert splits.valid is not None
    assert splits.test is not None
    assert [len(splits.train), len(splits.valid), len(splits.test)] == [10, 2, 5]
    np.testing.assert_array_equal(splits.valid.labels, [10, 11])


def test_folder_without_test_images(tmp_path, write_idx):
    """Training images suffice; if there are too few, there is no validation split."""
    splits = open_idx_folder(folder_of(tmp_path, write_idx, n=5, test=False))
    assert (len(splits.train), splits.valid, splits.test) == (5, None, None)


def test_folder_of_two_datasets_is_refused(tmp_path, write_idx):
    """Files of two datasets are not mixed."""
    folder_of(tmp_path, write_idx, "emnist-letters-")
    folder_of(tmp_path, write_idx, "emnist-digits-")
    with pytest.raises(DataError, match="2 sets"):
        open_idx_folder(tmp_path)


def test_folder_without_training_images(tmp_path, write_idx):
    """Test images alone are refused."""
    write_idx(tmp_path / "t10k-images-idx3-ubyte", VALUES)
    with pytest.raises(DataError, match="no training images"):
        open_idx_folder(tmp_path)


def test_folder_of_two_sizes_is_refused(tmp_path, write_idx):
    """Test images of another size than the training images are refused."""
    folder_of(tmp_path, write_idx, test=False)
    write_idx(tmp_path / "t10k-images-idx3-ubyte", np.zeros((2, 9, 9)))
    with pytest.raises(
        DataError, match=r"must have images of the size of .*, \(4, 3\), got \(9, 9\)"
    ):
        open_idx_folder(tmp_path)


def test_gzipped_file_is_preferred(tmp_path, write_idx):
    """The gzipped file is preferred, which is the one that a fetch replaces."""
    assert find_idx(tmp_path, "x") is None
    plain = write_idx(tmp_path / "x", VALUES)
    assert find_idx(tmp_path, "x") == plain
    packed = write_idx(tmp_path / "x.gz", VALUES, packed=True)
    assert find_idx(tmp_path, "x") == packed
    folder_of(tmp_path / "set", write_idx, test=False)
    write_idx(tmp_path / "set" / "train-images-idx3-ubyte", VALUES)
    assert len(open_idx_folder(tmp_path / "set").train) == 10
