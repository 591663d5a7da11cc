import io
import struct
import zlib
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat
from scipy.sparse import csc_array

from advnets.data.datasets.mat import parse_mat, read_mat, to_integers, variable_names
from advnets.errors import DataError

RNG = np.random.default_rng(0)
DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]
SHAPES = [(1, 1), (3, 2), (4, 3, 2), (2, 3, 4, 5), (0, 0), (3, 0), (1, 7), (1, 4)]
HEADER = b"MATLAB 5.0 MAT-file, by hand".ljust(124)


def element(kind: int, content: bytes, order: str = "<", small: bool = True) -> bytes:
    if small and 0 < len(content) <= 4:
        return struct.pack(f"{order}I", len(content) << 16 | kind) + content.ljust(4, b"\0")
    padding = bytes(-len(content) % 8)
    return struct.pack(f"{order}II", kind, len(content)) + content + padding


def matrix(
    name: str = "x",
    klass: int = 6,
    shape: tuple[int, ...] = (2, 3),
    stored_as: int = 2,
    values: bytes = bytes(range(6)),
    order: str = "<",
    flags: int = 0,
    tail: bytes = b"",
) -> bytes:
    content = element(6, struct.pack(f"{order}II", klass | flags, 0), order)
    content += element(5, struct.pack(f"{order}{len(shape)}i", *shape), order)
    content += element(1, name.encode(), order) + element(stored_as, values, order) + tail
    return struct.pack(f"{order}II", 14, len(content)) + content


def mat_file(*variables: bytes, order: str = "<", packed: bool = False) -> bytes:
    header = HEADER + (b"\0\x01IM" if order == "<" else b"\x01\0MI")
    if packed:
        variables = tuple(
            struct.pack(f"{order}II", 15, len(p)) + p for p in map(zlib.compress, variables)
        )
    return header + b"".join(variables)


def parse(content: bytes, *names: str) -> dict[str, np.ndarray]:
    return parse_mat(io.BytesIO(content), Path("x.mat"), names or ("x",))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("dtype", "shape"), list(product(DTYPES, SHAPES)))
def test_files_written_by_scipy(tmp_path, dtype, shape, packed):
    """Every class and shape is read as by scipy, bit-identical and of the same type."""
    values = (RNG.standard_normal(shape) * 50).astype(dtype)
    path = tmp_path / "x.mat"
    savemat(path, {"before": np.zeros(3), "x": values, "y": "text"}, do_compression=packed)
    arrays = read_mat(path, ["x", "absent"])
    assert list(arrays) == ["x"]
    expected = loadmat(path, mat_dtype=True)["x"]
    assert arrays["x"].dtype == expected.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(arrays["x"], expected, strict=True)
    assert variable_names(path) == ("before", "x", "y")


def test_logical_arrays_are_bytes(tmp_path):
    """Logical arrays are read as uint8."""
    savemat(tmp_path / "x.mat", {"x": np.array([[True, False]])})
    values = read_mat(tmp_path / "x.mat", ["x"])["x"]
    np.testing.assert_array_equal(values, np.array([[1, 0]], np.uint8), strict=True)


def test_real_file(real_data):
    """The Olivetti faces in TFD's layout are read as by scipy."""
    path = real_data / "faces" / "olivetti-tfd-layout-48.mat"
    expected = loadmat(path, mat_dtype=True)
    names = variable_names(path)
    assert set(names) == {name for name in expected if not name.startswith("__")}
    for name, values in read_mat(path, names).items():
        np.testing.assert_array_equal(values, expected[name], strict=True)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("packed", [False, True])
def test_compact_storage_and_both_byte_orders(order, packed):
    """Doubles in compact storage are read as doubles, in column-major order."""
    for stored_as, code in {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 7: "f4", 9: "f8"}.items():
        values = np.arange(6).astype(order + code).tobytes()
        content = matrix(stored_as=stored_as, values=values, order=order)
        parsed = parse(mat_file(content, order=order, packed=packed))["x"]
        expected = np.array([[0.0, 2.0, 4.0], [1.0, 3.0, 5.0]])
        np.testing.assert_array_equal(parsed, expected, strict=True)


def test_small_elements(tmp_path):
    """Elements of at most four bytes may be stored in the tag or outside."""
    for small in (True, False):
        content = matrix(shape=(1, 3), values=b"")[:-8] + element(2, b"\1\2\3", small=small)
        content = content[:4] + struct.pack("<I", len(content) - 8) + content[8:]
        assert parse(mat_file(content))["x"].tolist() == [[1, 2, 3]]


def test_unsupported_variables_are_skipped_unless_requested(tmp_path):
    """Unsupported variables are refused only if they are requested."""
    others = {
        "cell": np.array([[1, "a"]], dtype=object),
        "struct": {"a": 1},
        "text": "abc",
        "sparse": csc_array(np.eye(3)),
        "complex": np.array([[1j]]),
    }
    for packed in (False, True):
        path = tmp_path / "x.mat"
        savemat(path, others | {"x": np.ones((2, 2))}, do_compression=packed)
        assert read_mat(path, ["x"])["x"].sum() == 4
        for name, what in zip(
            others, ["a cell", "a struct", "text", "a sparse", "an array of complex"], strict=True
        ):
            with pytest.raises(DataError, match=rf"x\.mat has {name}, which is {what}"):
                read_mat(path, [name])


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is not a MATLAB file"),
        (b"hello" * 40, "is not a MATLAB file: its header must end with .* got '65 6c'"),
        (HEADER + b"\0\x02IM" + bytes(512), r"of version 7\.3, .* save it with -v7"),
        (b"\x89HDF\r\n\x1a\n" + bytes(200), r"of version 7\.3"),
        (struct.pack("<5i", 0, 2, 3, 0, 2) + b"x\0" + bytes(48), "of level 4, .* with -v7"),
        (mat_file(matrix())[:-20], "has a variable of 56 bytes, but only"),
        (mat_file(matrix()) + b"\0\0\0", "is truncated"),
        (mat_file(matrix(shape=(2, 4))), "has 6 bytes in x, expected 8 values of 1"),
        (mat_file(matrix(shape=(-2, -3))), r"shape \(-2, -3\)"),
        (mat_file(matrix(shape=(0, *[2**31 - 1] * 3))), "of the impossible shape"),
        (
            mat_file(matrix(shape=(2**31 - 1, 2**15))),
            "has 6 bytes in x, expected 70,368,744,144,896 values of 1; the file is damaged",
        ),
        (mat_file(matrix(stored_as=99)), "unknown type 99 in x"),
        (mat_file(matrix(klass=9, stored_as=9, values=bytes(48))), "uint8 stored as float64"),
        (mat_file(matrix(klass=9, stored_as=1, values=b"\xff" * 6)), "that uint8 cannot represent"),
        (mat_file(matrix(tail=bytes(8))), "has data after the values of x"),
        (mat_file(matrix(), matrix()), "must have one variable x, got two"),
        (mat_file(element(9, bytes(8))), "an element of type 9, expected a variable"),
        (mat_file(matrix(klass=77)), "of the unknown class 77"),
        (mat_file(matrix(), packed=True)[:-9], "bytes, but only"),
    ],
)
def test_invalid_files_are_refused(tmp_path, content, problem):
    """The error names the file and the problem."""
    path = tmp_path / "x.mat"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"(?s)x\.mat .*{problem}"):
        read_mat(path, ["x"])


def test_compressed_variables_are_checked_completely():
    """A wrong checksum, trailing data or a truncated stream is damage."""
    packed = zlib.compress(matrix())
    for stream, problem in [
        (packed[:-1] + bytes([packed[-1] ^ 1]), "has damaged compressed data"),
        (packed[:-3], "has a compressed variable of a wrong length"),
        (packed + b"tail", "has a compressed variable of a wrong length"),
        (zlib.compress(matrix()[:-4]), "is truncated"),
        (zlib.compress(element(9, bytes(8))), "compressed element of type 9, expected a matrix"),
        (b"not zlib", "has damaged compressed data"),
    ]:
        content = mat_file(struct.pack("<II", 15, len(stream)) + stream)
        with pytest.raises(DataError, match=problem):
            parse(content)


def test_bomb_is_refused_before_decompression():
    """A few bytes with a declared size of 8 GiB, also after conversion to doubles, are refused."""
    n = 1 << 30
    head = matrix(shape=(n, 1), values=b"")[8:-8] + struct.pack("<II", 2, n)
    stream = zlib.compress(struct.pack("<II", 14, len(head) + n) + head + bytes(1 << 16))
    with pytest.raises(DataError, match=r"decompress to 8,589,934,592 in x"):
        parse(mat_file(struct.pack("<II", 15, len(stream)) + stream))


def test_to_integers():
    """Only integers are converted to int64."""
    assert to_integers(np.array([1.0, 2.0])).tolist() == [1, 2]
    for value in (0.5, np.nan, np.inf, 1e300):
        assert to_integers(np.array([value])) is None


def test_missing_file(tmp_path):
    """A missing file is a DataError."""
    for reader in (
        lambda: read_mat(tmp_path / "x.mat", []),
        lambda: variable_names(tmp_path / "x.mat"),
    ):
        with pytest.raises(DataError, match="No such file"):
            reader()
