"""A table of points as a source."""

import io
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from advnets.data import distribution, spec
from advnets.data.synthetic import kde
from advnets.data.synthetic.kde import (
    KernelDensity,
    PointsOptions,
    is_point_file,
    open_point_file,
    read_point_file,
)
from advnets.errors import DataError, UsageError

SOME = np.random.default_rng(0).normal(size=(100, 2))


def test_a_file_of_points_is_a_source(tmp_path):
    """All splits are drawn from the kernel density estimate; there are no labels."""
    path = tmp_path / "hand.csv"
    path.write_text("x,y\n" + "\n".join(f"{x},{y}" for x, y in SOME))
    splits = open_point_file(path, spec.parse_options("n=300,sd=0.2", PointsOptions, str(path)))
    assert splits.name == "hand"
    assert splits.shape == (2, 1, 1)
    assert [len(part) for part in (splits.train, splits.valid, splits.test)] == [
        300,
        10_000,
        10_000,
    ]
    assert splits.train.labels is None
    assert splits.classes == ()
    assert splits.distribution.sd == 0.2
    np.testing.assert_allclose(splits.valid.images[..., 0, 0].mean(0), SOME.mean(0), atol=0.1)
    assert open_point_file(path, PointsOptions(n=300, sd=0.2)).digest() == splits.digest()
    assert open_point_file(path, PointsOptions(n=300, sd=0.2, seed=1)).digest() != splits.digest()


def test_both_formats_give_the_same_data(tmp_path):
    """The same points as text or as an array give the same data."""
    np.save(tmp_path / "a.npy", SOME[:, 0])
    (tmp_path / "a.csv").write_text("\n".join(map(repr, SOME[:, 0].tolist())))
    chosen = PointsOptions(n=50)
    first, second = (open_point_file(tmp_path / f"a.{kind}", chosen) for kind in ("npy", "csv"))
    assert first.digest() == second.digest()
    assert first.shape == (1, 1, 1)


def test_is_point_file(tmp_path):
    """Only files with the suffix .csv or .npy are files of points."""
    for name in ("a.csv", "a.NPY", "a.txt", "csv"):
        (tmp_path / name).touch()
    (tmp_path / "folder.csv").mkdir()
    results = [path.name for path in sorted(tmp_path.iterdir()) if is_point_file(path)]
    assert results == ["a.NPY", "a.csv"]
    assert not is_point_file(tmp_path / "absent.csv")


def test_invalid_files_are_refused(tmp_path):
    """An invalid file is a DataError, an invalid option a UsageError with the file's name."""
    path = tmp_path / "a.csv"
    path.write_text("1\nx\n")
    with pytest.raises(DataError, match=r"a\.csv, line 2 must have numbers, got 'x'"):
        open_point_file(path, PointsOptions())
    path.write_text("5\n5\n")
    with pytest.raises(
        UsageError,
        match=r"a\.csv: sd must be at least 1e-30, got 0, as the points .* example sd=0.1",
    ):
        open_point_file(path, PointsOptions())
    assert open_point_file(path, PointsOptions(sd=0.1, n=5)).distribution.sd == 0.1
    path.write_text("1000000\n1000001\n")
    with pytest.raises(
        UsageError, match=r"a\.csv: sd must be at least 0.95 .* coordinates of 1e\+06, got 0.025"
    ):
        open_point_file(path, PointsOptions())


def test_invalid_options_are_refused():
    """Negative widths and n = 0 are refused."""
    with pytest.raises(UsageError, match=r"sd is -1.0; it must be positive, or 0 for the default"):
        PointsOptions(sd=-1.0)
    with pytest.raises(UsageError, match="n is 0"):
        PointsOptions(n=0)
    options = spec.format_options(PointsOptions)
    assert spec.parse_options(options, PointsOptions, "a.csv") == PointsOptions()


@pytest.mark.parametrize(
    ("centers", "problem"),
    [
        (np.zeros((0, 2)), r"must have shape .* got \(0, 2\)"),
        (np.zeros((3, 3)), r"must have shape .* got \(3, 3\)"),
        (np.array([[0.0], [np.nan]]), "must be finite, got NaN"),
    ],
)
def test_invalid_centers_are_refused(centers, problem):
    """Centers must be finite points of one or two coordinates."""
    with pytest.raises(UsageError, match=problem):
        KernelDensity(centers=centers, sd=1.0)


def test_many_points_are_summed_in_blocks(monkeypatch):
    """At most one block of terms is in memory at once."""
    sizes: list[int] = []
    summed = distribution.log_sum_exp
    monkeypatch.setattr(distribution, "log_sum_exp", lambda t: (sizes.append(t.size), summed(t))[1])
    for count in (10_000, 300_000):
        centers = np.linspace(-1, 1, count)[:, None]
        KernelDensity(centers=centers, sd=0.1).log_density(np.zeros((200, 1)))
    assert max(sizes[:-200]) <= distribution._BLOCK
    assert sizes[-200:] == [300_000] * 200


FEW = 200
MANY_CSV = 100_000
MANY_NPY = 50_000
HEALTH = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]


def npy(values: np.ndarray, version: tuple[int, int] | None = None) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, values, version, allow_pickle=True)
    return stream.getvalue()


def npy_of(header: str, body: bytes = b"", version: int = 1) -> bytes:
    """Return a .npy file with the given header."""
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + length + header.encode("latin-1") + body


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1\n2\n3", [[1], [2], [3]]),
        ("1,2\n3,4\n", [[1, 2], [3, 4]]),
        ("x,y\n1,2\n", [[1, 2]]),
        ("x;y\r\n1;2\r\n3;4\r\n", [[1, 2], [3, 4]]),
        ("1\t2\r3\t4", [[1, 2], [3, 4]]),
        ("  1   2\n-3e2 .5\n", [[1, 2], [-300, 0.5]]),
        ("x y\n1 2", [[1, 2]]),
        ("flow rate\n1.5\n2\n", [[1.5], [2]]),
        ("x y\n1,2", [[1, 2]]),
        ("\ufeffx,y\n1, 2", [[1, 2]]),
        ('"x","y"\n1,2', [[1, 2]]),
        ("# drawn by hand\n\n1,2\n\n# more\n  # and more\n+3.,4E0\n\n", [[1, 2], [3, 4]]),
        ("0\n1e-320\n-0", [[0], [1e-320], [0]]),
    ],
)
def test_csv_is_read(tmp_path, text, expected):
    """Separators are commas, semicolons, tabs or blanks; a header is optional."""
    path = tmp_path / "points.csv"
    path.write_bytes(text.encode())
    values = read_point_file(path)
    assert values.dtype == np.float64
    np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "must contain points, got none"),
        ("x,y\n", "must contain points, got none"),
        ("# 1,2\n", "must contain points, got none"),
        ("1,2\n3,nan\n", "line 2 must have finite numbers, got nan; remove or correct"),
        ("x\n\n1\n-Inf\n", "line 4 must have finite numbers, got -Inf"),
        ("NaN,1", "line 1 must have finite numbers, got NaN"),
        ("1,2\n3,NA", "line 2 must have finite numbers, got NA"),
        ("1,2\n3,\n", "line 2 must have finite numbers, got an empty column"),
        ("1,2\n3\n", "line 2 must have 2 columns as line 1, got 1"),
        ("x,y\n1,2,3\n", "line 2 must have 2 columns as line 1, got 3"),
        ("a,b,c\n1,2,3\n", "line 2 must have 1 or 2 columns, got 3"),
        ("1 2 3\n", "line 1 must have 1 or 2 columns, got 3"),
        (",x\n0,1.5\n", "line 1 must name all columns, got an empty name for column 1"),
        (",0\n0,1.5\n", "line 1 must have finite numbers, got an empty column"),
        ("name,\n0,1.5\n", "got an empty name for column 2"),
        ("x\n1\ny\n", "line 3 must have numbers, got 'y'"),
        ("x\ny\n1\n", "line 2 must have numbers, got 'y'"),
        ("1;2\n1,5;2\n", "line 2 must have numbers, got '1,5'; write numbers as -1.5"),
        ("1,5;2,5\n", "line 1 must have numbers, got '1,5'"),
        ("1..5\n2\n", "line 1 must have numbers, got '1..5'"),
        ("1_000\n", "line 1 must have numbers, got '1_000'"),
        ("1\n٣\n", "line 2 must have numbers, got '٣'"),
        ("0x10\n", "line 1 must have numbers, got '0x10'"),
        ("1\n1e31\n", "line 2 must have numbers up to 1e+30, got 1e31"),
        ("1e999\n", "line 1 must have numbers up to 1e+30, got 1e999"),
        ("1\n" + "9" * 6000, "line 2 must have numbers up to 1e+30, got 99999999999999999999;"),
        ("1\n" + "z" * 6000, "line 2 must have numbers, got '" + "z" * 20 + "…';"),
        ("1\n\x00\n", "line 2 must have"),
    ],
)
def test_invalid_csv_is_refused(tmp_path, text, problem):
    """The error names the file, the line and the problem."""
    path = tmp_path / "points.csv"
    path.write_bytes(text.encode())
    with pytest.raises(DataError) as caught:
        read_point_file(path)
    assert str(path) in str(caught.value)
    assert problem in str(caught.value)


def test_csv_that_is_not_utf8(tmp_path):
    """The error names the first line that is not UTF-8."""
    path = tmp_path / "points.csv"
    path.write_bytes(b"1,2\n3,4\xb0\n")
    with pytest.raises(DataError, match="line 2 must be UTF-8"):
        read_point_file(path)
    path.write_bytes("1\t2\n".encode("utf-16"))
    with pytest.raises(DataError, match="line 1 must be UTF-8"):
        read_point_file(path)


@pytest.mark.parametrize("dtype", ["<f8", ">f8", "<f4", "<f2", "<i8", ">i4", "i1", "u1", "<u8"])
@pytest.mark.parametrize("shape", [(6,), (6, 1), (3, 2)])
def test_npy_is_read(tmp_path, dtype, shape):
    """Integers and real numbers of any width and order are read."""
    values = np.arange(6).reshape(shape).astype(dtype)
    for content in (npy(values), npy(values, (2, 0)), npy(values, (3, 0)), npy(values.T.copy().T)):
        path = tmp_path / "points.NPY"
        path.write_bytes(content)
        parsed = read_point_file(path)
        assert parsed.dtype == np.float64
        np.testing.assert_array_equal(parsed, values.reshape(shape[0], -1))


def test_npy_not_written_by_numpy(tmp_path):
    """Headers with another order of keys, or without the last comma, are read."""
    header = "{'shape': (2,), 'descr': '<f8', 'fortran_order': False}\n"
    path = tmp_path / "points.npy"
    path.write_bytes(npy_of(header, struct.pack("<2d", 1.5, 2)))
    np.testing.assert_array_equal(read_point_file(path), [[1.5], [2]])


HEADER = "{'descr': '<f8', 'fortran_order': False, 'shape': (%s), }"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is not a .npy file"),
        (b"1,2\n3,4\n", "is not a .npy file"),
        (b"\x93NUMPY", "is not a .npy file"),
        (b"\x93NUMPY\x09\x00\x02\x00{}", "is not a .npy file"),
        (b"PK\x03\x04 and more to be sure", "is not a .npy file"),
        (
            npy(np.array([None, "x"])),
            "real numbers, got Python objects; save a float64 array of sh",
        ),
        (npy(np.array(["a", "b"])), "real numbers, got values of type <U1; save"),
        (npy(np.array([True, False])), "must contain an array of integers or real numbers"),
        (npy(np.array([1j])), "must contain an array of integers or real numbers"),
        (npy(np.zeros(3, [("x", "<f8")])), "must contain an array of integers or real numbers"),
        (
            npy(np.zeros((3, 3))),
            "or (N, 2), got (3, 3); save one point per row, or images of shape (N",
        ),
        (npy(np.zeros((3, 2, 1))), "(N, 2), got (3, 2, 1)"),
        (npy(np.array(1.0)), "(N, 2), got ()"),
        (npy(np.zeros((0, 2))), "must contain points, got none"),
        (npy(np.zeros((3, 0))), "(N, 2), got (3, 0)"),
        (
            npy(np.array([1.0, np.nan])),
            "row 1 (counted from 0) must have finite numbers up to 1e+30, got nan",
        ),
        (
            npy(np.array([[1.0, 2.0], [-np.inf, 0.0]])),
            "row 1 (counted from 0) must have finite numbers up to 1e+30, got -inf",
        ),
        (
            npy(np.array([1e31])),
            "row 0 (counted from 0) must have finite numbers up to 1e+30, got 1e+31",
        ),
        (npy(np.zeros(5))[:-1], "must have 40 bytes of numbers, got 39"),
        (npy(np.zeros(5)) + b"0", "must have 40 bytes of numbers, got 41"),
        (npy_of(HEADER % "999999,"), "must have 7,999,992 bytes of numbers, got 0"),
        (npy_of(HEADER % "999999999999,"), "must have at most 1,000,000 points"),
        (npy_of(HEADER % ("9" * 5000)), "must contain an array of integers or real numbers"),
        (npy_of("{" * 5000), "must contain an array of integers or real numbers"),
        (npy_of(" " * 60_000), "real numbers, got an empty header"),
        (npy_of(HEADER % "3,")[:60], "must contain an array of integers or real numbers"),
        (
            npy_of("{'descr': '<f8', 'fortran_order': False}"),
            "must contain an array of integers or real numbers",
        ),
        (npy_of("__import__('os').getcwd()"), "must contain an array of integers or real numbers"),
    ],
)
def test_invalid_npy_is_refused(tmp_path, content, problem):
    """The error names the file and the problem; nothing is unpickled."""
    path = tmp_path / "points.npy"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_point_file(path)
    assert str(path) in str(caught.value)
    assert problem in str(caught.value)


def test_too_many_points_are_refused(tmp_path, monkeypatch):
    """A file that is too large is refused before it is parsed."""
    monkeypatch.setattr(kde, "_MAX_POINTS", 3)
    path = tmp_path / "points.csv"
    path.write_text("1\n2\n3\n")
    assert len(read_point_file(path)) == 3
    path.write_text("1\n2\n3\n4\n")
    with pytest.raises(
        DataError, match="must have at most 3 points, got more; use a random subset"
    ):
        read_point_file(path)
    np.save(tmp_path / "points.npy", np.zeros(4))
    with pytest.raises(DataError, match="must have at most 3 points"):
        read_point_file(tmp_path / "points.npy")
    monkeypatch.setattr(kde, "_MAX_BYTES", 1 << 20)
    path.write_bytes(b"1\n" * (1 << 20))
    with pytest.raises(DataError, match="must be at most 1 MiB"):
        read_point_file(path)


def test_missing_file_and_folder(tmp_path):
    """A missing file, or a folder in its place, is a DataError."""
    with pytest.raises(DataError, match="No such file"):
        read_point_file(tmp_path / "absent.csv")
    with pytest.raises(DataError, match="a folder, not a regular file"):
        read_point_file(tmp_path)


numbers = st.one_of(
    st.floats(width=32).map(repr),
    st.integers(-(10**6), 10**6).map(str),
    st.sampled_from(["nan", "-inf", "1e31", "1e999", "", " ", "NA", "1,5", "x", ".", "-", "1_0"]),
)
separators = st.sampled_from([",", ";", "\t", " ", "  ", ", ", ",,"])
ends = st.sampled_from(["\n", "\r\n", "\r", "\n\n", "\n# note\n"])


@st.composite
def csv_files(draw: st.DrawFn) -> bytes:
    """Generate mostly valid tables, with a few bytes changed, inserted or deleted."""
    separator, end, width = draw(separators), draw(ends), draw(st.integers(1, 3))
    sound = draw(st.booleans())
    cell = st.integers(-99, 99).map(str) if sound else numbers
    rows = draw(st.lists(st.lists(cell, min_size=width, max_size=width), max_size=5))
    header = draw(st.sampled_from(["", "x", "x,y", "x;y", "x y", "\ufeffx,y", "#", ",x", "1st"]))
    lines = ([header] if header else []) + [separator.join(row) for row in rows]
    return draw(mutated(end.join(lines).encode()))


@st.composite
def npy_files(draw: st.DrawFn) -> bytes:
    """Generate mostly valid arrays, with a few bytes changed, inserted or deleted."""
    dtype = draw(st.sampled_from(["<f8", ">f4", "<f2", "<i8", "u1", "|b1", "<c8", "|S3", "<f16"]))
    shape = draw(st.sampled_from([(), (0,), (1,), (5,), (3, 1), (2, 2), (2, 3), (1, 2, 1)]))
    values = np.frombuffer(draw(st.binary(min_size=512, max_size=512)), "u1").astype(dtype)
    content = npy(values[: int(np.prod(shape))].reshape(shape))
    if draw(st.booleans()):
        run_command = draw(
            st.sampled_from(["5,", "5", "2, 2", "9" * 15 + ",", "-1,", "", "(1,),", "2L,"])
        )
        order = draw(st.sampled_from(["True", "False", "1", "'x'"]))
        header = f"{{'descr': '{dtype}', 'fortran_order': {order}, 'shape': ({run_command}), }}"
        content = npy_of(header, draw(st.binary(max_size=48)), draw(st.integers(0, 4)))
    return draw(mutated(content))


@st.composite
def mutated(draw: st.DrawFn, content: bytes) -> bytes:
    """Return bytes with at most three changes."""
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(content)))
        insertion = draw(
            st.binary(max_size=3) | st.sampled_from([b"\n", b",", b"'", b"(", b"\0", b"9"])
        )
        content = content[:at] + insertion + content[at + draw(st.integers(0, 3)) :]
    return content


def read_or_refused(path, content: bytes) -> None:
    """Check that reading gives finite points, or raises a DataError."""
    path.write_bytes(content)
    try:
        values = read_point_file(path)
    except DataError as error:
        assert str(path) in str(error)
        return
    assert values.dtype == np.float64
    assert values.ndim == 2
    assert len(values) >= 1
    assert values.shape[1] in (1, 2)
    assert (np.abs(values) <= 1e30).all()


any_csv = given(content=csv_files() | st.binary(max_size=60))
any_npy = given(content=npy_files() | st.binary(max_size=60).map(lambda rest: b"\x93NUMPY" + rest))


@any_csv
@example(b"\xff\xfe1\x00")
@settings(max_examples=FEW, deadline=None, suppress_health_check=HEALTH)
def test_any_csv_is_read_or_refused(tmp_path, content):
    """Any bytes give points or a DataError."""
    read_or_refused(tmp_path / "points.csv", content)


@any_npy
@example(npy(np.zeros((2, 2))))
@settings(max_examples=FEW, deadline=None, suppress_health_check=HEALTH)
def test_any_npy_is_read_or_refused(tmp_path, content):
    """Any bytes give points or a DataError."""
    read_or_refused(tmp_path / "points.npy", content)


@pytest.mark.slow
@any_csv
@settings(max_examples=MANY_CSV, deadline=None, suppress_health_check=HEALTH)
def test_any_csv_with_many_examples(tmp_path, content):
    """As above, a hundred thousand times."""
    read_or_refused(tmp_path / "points.csv", content)


@pytest.mark.slow
@any_npy
@settings(max_examples=MANY_NPY, deadline=None, suppress_health_check=HEALTH)
def test_any_npy_with_many_examples(tmp_path, content):
    """As above, fifty thousand times."""
    read_or_refused(tmp_path / "points.npy", content)


@given(values=st.lists(st.tuples(*[st.floats(-1e30, 1e30)] * 2), min_size=1, max_size=20))
@settings(max_examples=FEW, deadline=None, suppress_health_check=HEALTH)
def test_written_points_are_read(tmp_path, values):
    """Numbers survive text and numpy's format bit by bit."""
    text = "\n".join(f"{x!r},{y!r}" for x, y in values)
    (tmp_path / "points.csv").write_text(text)
    np.save(tmp_path / "points.npy", np.array(values))
    np.testing.assert_array_equal(read_point_file(tmp_path / "points.csv"), values)
    np.testing.assert_array_equal(read_point_file(tmp_path / "points.npy"), values)
