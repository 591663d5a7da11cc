import copyreg
import operator
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from advnets.data.datasets import safe_pickle
from advnets.data.datasets.safe_pickle import parse_pickle, read_pickle
from advnets.errors import DataError

PATH = Path("data_batch_1")
ARRAYS = {
    "bytes": np.arange(12, dtype=np.uint8).reshape(3, 4),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big": np.arange(3, dtype=">i4"),
    "empty": np.zeros((0, 5), np.float32),
}
OTHERS = {"labels": [0, 300, -5, 2**70, 1.5, True, None], "texts": ("é", b"\xff", ""), 3: {}}

# As Python 2's cPickle wrote CIFAR-10: {'data': array([[1, 2, 3]], 'uint8'), 'labels': [7, 8]}.
PYTHON_2 = (
    b"\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq"
    b"\x04K\x00\x85q\x05U\x01b\x87q\x06Rq\x07(K\x01K\x01K\x03\x86q\x08cnumpy\ndtype\nq\x09U\x02u1"
    b"K\x00K\x01\x87q\x0aRq\x0b(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x03"
    b"\x01\x02\x03q\x0ctbU\x06labelsq\x0d]q\x0e(K\x07K\x08eu."
)


def parse(content: bytes) -> object:
    return parse_pickle(content, PATH)


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_and_containers(protocol):
    """Arrays and containers survive pickling."""
    parsed = parse(pickle.dumps(ARRAYS | OTHERS, protocol))
    assert isinstance(parsed, dict)
    for name, values in ARRAYS.items():
        assert parsed[name].dtype == values.dtype
        np.testing.assert_array_equal(parsed[name], values)
    assert {name: parsed[name] for name in OTHERS} == OTHERS


@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_python_2_and_both_names_of_numpy(module, tmp_path):
    """Strings of Python 2 are bytes; both module names of numpy are supported."""
    (tmp_path / "x").write_bytes(PYTHON_2.replace(b"numpy.core.multiarray", module))
    values = read_pickle(tmp_path / "x")
    assert isinstance(values, dict)
    assert values[b"labels"] == [7, 8]
    np.testing.assert_array_equal(values[b"data"], np.array([[1, 2, 3]], np.uint8), strict=True)


def test_one_array_in_two_places():
    """An array that occurs twice is the same object."""
    array = np.arange(3)
    first, second = parse(pickle.dumps([array, array], 2))
    assert first is second
    np.testing.assert_array_equal(first, array)


class Calls:
    """An object whose pickle contains a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class State:
    def __reduce__(self):
        return np.dtype, ("u1",), {"shape": (3,)}


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    ("hostile", "requested"),
    [
        (Calls(os.system, "touch harmed"), r"refers to \w+\.system, which is not allowed"),
        (Calls(eval, "1"), r"refers to \w+\.eval"),
        (Calls(getattr, "text", "upper"), r"refers to \w+\.getattr"),
        (Calls(operator.attrgetter, "a"), r"refers to operator\.attrgetter"),
        (Calls(copyreg._reconstructor, object, object, None), r"refers to copy_?reg\._recon"),
        ([Calls(list, [Calls(os.system, "touch harmed")])], "refers to "),
        (np.array([{}], dtype=object), "that is not numeric"),
        (np.array(["a"]), "that is not numeric"),
        (np.zeros(2, [("a", "u1")]), "that is not numeric|is not allowed"),
        (np.float64(1.5), r"refers to numpy\._?core\.multiarray\.scalar"),
        (State(), "damaged|with invalid arguments|invalid state"),
        ({(1, 2): 3}, "keys other than strings and numbers"),
        ({1, 2}, r"refers to .*set|opcode EMPTY_SET"),
    ],
)
def test_hostile_pickles_are_refused(hostile, requested, protocol, tmp_path, monkeypatch):
    """The error names the class or function, and nothing is called."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=rf"^data_batch_1 .*({requested})"):
        parse(pickle.dumps(hostile, protocol))
    assert list(tmp_path.iterdir()) == []


ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"cos\nsystem\n(S'id'\ntR.", "refers to os.system"),
        (b"(S'id'\nios\nsystem\n.", "refers to os.system"),
        (b"(inumpy\ndtype\n.", "refers to numpy.dtype"),
        (b"cnumpy.core.multiarray\nfrombuffer\n.", "multiarray.frombuffer, which is not allowed"),
        (b"cnumpy\nload\n.", "refers to numpy.load"),
        (b"cnumpy\x1b[2J\nload\n.", r"refers to numpy\?\[2J.load"),
        (b"c_codecs\ndecode\n.", "refers to _codecs.decode"),
        (
            b"c_codecs\nencode\n(X\1\0\0\0aX\5\0\0\0rot13tR.",
            "calls _codecs.encode with invalid arguments",
        ),
        (b"cnumpy\ndtype\n(X\1\0\0\0OtR.", "that is not numeric"),
        (b"cnumpy\ndtype\n.", "incomplete array"),
        (b"cnumpy\nndarray\n(K\x05tR.", "calls numpy.ndarray with invalid arguments"),
        (b"cnumpy\nndarray\n)\x81.", "opcode NEWOBJ"),
        (b"cnumpy\nndarray\n)}\x92.", "opcode NEWOBJ_EX"),
        (b"(cnumpy\nndarray\no.", "opcode OBJ"),
        (b"cnumpy\nndarray\n(U\x01aK\x01tb.", "invalid state of an object"),
        (b"cnumpy\nndarray\n}U\x0c__setstate__Nsb.", "damaged pickle"),
        (ARRAY + b"}U\x01aK\x01sb.", "damaged pickle"),
        (ARRAY + b".", "incomplete array"),
        (ARRAY + b"]q\0h\0a.", "damaged"),
        (b"Pname\n.", "opcode PERSID"),
        (b"NQ.", "opcode BINPERSID"),
        (b"\x82\x01.", "opcode EXT1"),
        (b"\x83\x01\x00.", "opcode EXT2"),
        (b"\x84\x01\x00\x00\x00.", "opcode EXT4"),
        (b"\x8f.", "opcode EMPTY_SET"),
        (b"\x97.", "opcode NEXT_BUFFER"),
        (b"h\x05.", "damaged"),
        (b"K\x01K\x02.", "damaged"),
        (b".", "damaged"),
        (b"", "damaged"),
        (b"(.", "incomplete array"),
        (b"]K\x01", "damaged"),
        (b"}(K\x01u.", "a key without a value"),
        (b"\x8e" + struct.pack("<Q", 1 << 62) + b"a.", "damaged"),
        (b"B\xff\xff\xff\x7fa.", "damaged"),
        (b"I" + b"9" * 5000 + b"\n.", "damaged"),
    ],
)
def test_other_opcodes_are_refused(content, problem):
    """Any other opcode is refused."""
    with pytest.raises(DataError, match=rf"^data_batch_1 .*{problem}"):
        parse(content)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (b"K\x01K\x03\x86q\x08", b"K\x02K\x03\x86q\x08", "3 bytes do not match its shape"),
        (b"K\x01K\x03\x86q\x08", b"J\xff\xff\xff\xffJ\xfd\xff\xff\xff\x86q\x08", "do not match"),
        (b"K\x01K\x03\x86q\x08", b"U\x01aK\x03\x86q\x08", "unknown memory layout"),
        (b"U\x02u1", b"U\x02O8", "that is not numeric"),
        (b"U\x02u1", b"U\x02f8", "do not match"),
        (b"U\x01|NNN", b"U\x01?NNN", "unknown byte order"),
        (b"U\x01|NNN", b"U\x01|NK\x01N", "invalid state"),
    ],
)
def test_inconsistent_arrays_are_refused(old, new, problem):
    """Type, shape and length of an array must agree before it is created."""
    assert PYTHON_2.count(old) == 1
    with pytest.raises(DataError, match=problem):
        parse(PYTHON_2.replace(old, new))


def test_memory_is_bounded(monkeypatch):
    """Huge memo indices and nested references do not use memory; opcodes are limited."""
    assert parse(b"]r\xff\xff\xff\x7f.") == []
    laugh = b"]q\0" + b"".join(
        b"](" + (b"h" + bytes([k])) * 50 + b"eq" + bytes([k + 1]) for k in range(200)
    )
    values = parse(b"(" + laugh + b"l" + b".")
    assert isinstance(values, list)
    assert len(values) == 201
    deep = parse(b"]" + b"]" * 30_000 + b"a" * 30_000 + b".")
    assert isinstance(deep, list)
    monkeypatch.setattr(safe_pickle, "_MAX_OPCODES", 1000)
    with pytest.raises(DataError, match="more than 1,000 opcodes"):
        parse(b"]" * 1001 + b".")


def test_missing_and_too_large_files(tmp_path):
    """A missing file is a DataError, and so is one above 1 GiB, which is not read."""
    (tmp_path / "y").touch()
    os.truncate(tmp_path / "y", (1 << 30) + 1)
    with pytest.raises(DataError, match="must have at most 1 GiB"):
        read_pickle(tmp_path / "y")
    with pytest.raises(DataError, match="No such file"):
        read_pickle(tmp_path / "x")
