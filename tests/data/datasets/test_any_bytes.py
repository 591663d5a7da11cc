"""Any bytes are read or refused, without other exceptions, hangs or large memory."""

import gzip
import io
import pickle
import signal
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from advnets.data.datasets.cifar import LABELINGS, parse_batch, parse_records
from advnets.data.datasets.idx import parse_idx
from advnets.data.datasets.mat import parse_mat, parse_names
from advnets.data.datasets.safe_pickle import parse_pickle
from advnets.errors import DataError

PATH = Path("file")
NUMBERS = [0, 1, 2, 3, 7, 8, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1]


@pytest.fixture(autouse=True)
def bounds() -> Iterator[None]:
    """Limit the process to one GiB more, and to ten seconds per example."""
    if sys.platform != "linux":
        yield
        return
    import resource

    def late(*_: object) -> None:
        raise TimeoutError("an example took ten seconds")

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (1 << 30), hard))
    handler = signal.signal(signal.SIGALRM, late)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, handler)
    resource.setrlimit(resource.RLIMIT_AS, (before, hard))


def altered(content: bytes, changes: list[tuple[int, int, int]]) -> bytes:
    """Return the content after changes of (kind, place, number)."""
    data = bytearray(content)
    for kind, place, number in changes:
        at = place % (len(data) + 1)
        if kind == 0 and at < len(data):  # flip a bit
            data[at] ^= 1 << number % 8
        elif kind == 1:  # another byte
            data[at : at + 1] = bytes([number % 256])
        elif kind == 2:  # insert
            data[at:at] = bytes([number % 256]) * (1 + number % 5)
        elif kind == 3:  # delete
            del data[at : at + 1 + number % 9]
        elif kind == 4:  # duplicate
            data[at:at] = data[at : at + 1 + number % 40]
        elif kind == 5:  # truncate, mostly not by much
            del data[max(at, len(data) - number % 64) :]
        elif kind == 6:  # another number of 32 bits, in either byte order
            order = "<" if number % 2 else ">"
            data[at : at + 4] = struct.pack(f"{order}I", NUMBERS[number % len(NUMBERS)])
        elif kind == 7:  # a piece of it elsewhere
            data[at : at + 8] = data[number % (len(data) + 1) :][:8]
    return bytes(data)


CHANGES = st.lists(
    st.tuples(st.integers(0, 7), st.integers(0, 1 << 16), st.integers(0, 1 << 16)), max_size=5
)


def files_like(*valid: bytes) -> st.SearchStrategy[bytes]:
    """Generate valid files, more often modified ones, and sometimes random bytes."""
    mutated = st.builds(altered, st.sampled_from(valid), CHANGES)
    begun = st.builds(
        lambda whole, n, rest: whole[: n % (len(whole) + 1)] + rest,
        st.sampled_from(valid),
        st.integers(0, 1 << 10),
        st.binary(max_size=60),
    )
    return st.one_of(mutated, mutated, mutated, begun, st.binary(max_size=200))


def repacked(pack: Callable[[bytes], bytes], *valid: bytes) -> st.SearchStrategy[bytes]:
    """Return modified content in a valid compressed stream, so that the parser reaches it."""
    return files_like(*valid).map(pack)


def idx_files() -> st.SearchStrategy[bytes]:
    plain = [
        b"\0\0\x08\x03" + struct.pack(">3I", 3, 4, 2) + bytes(range(24)),
        b"\0\0\x08\x01" + struct.pack(">I", 5) + bytes(range(5)),
        b"\0\0\x08\x03" + struct.pack(">3I", 0, 28, 28),
    ]
    packed = [gzip.compress(content, mtime=0) for content in plain]
    return st.one_of(files_like(*plain), files_like(*packed), repacked(gzip.compress, *plain))


def mat_files() -> st.SearchStrategy[bytes]:
    arrays = {"x": np.arange(6, dtype=np.uint8).reshape(1, 2, 3), "y": np.array([[1.5, 2, 3]])}
    files: list[bytes] = []
    for packed in (False, True):
        file = io.BytesIO()
        savemat(file, arrays | {"s": "text", "c": {"a": 1}}, do_compression=packed)
        files.append(file.getvalue())
    # Bytes stored for doubles, high byte first.
    shape = struct.pack(">II", 5, 8) + struct.pack(">2i", 2, 3)
    body = struct.pack(">IIII", 6, 8, 6, 0) + shape + b"\0\1\0\1x\0\0\0" + struct.pack(">II", 2, 6)
    body += bytes(8)
    matrix = struct.pack(">II", 14, len(body)) + body
    header = files[0][:124] + b"\1\0MI"

    def pack(content: bytes) -> bytes:
        stream = zlib.compress(content)
        return header + struct.pack(">II", 15, len(stream)) + stream

    mutated = files_like(*files, header + matrix)
    return st.one_of(mutated, repacked(header.__add__, matrix), repacked(pack, matrix))


def pickles() -> st.SearchStrategy[bytes]:
    batch = {
        "labels": [3],
        "small": np.arange(4, dtype=">i2").reshape(2, 2).T,
        "texts": ("a", b"\xff", None, True, -1.5, 2**40),
        "nested": [[{}], {"a": [()]}],
    }
    valid = [pickle.dumps(batch, protocol) for protocol in range(6)]
    valid.append(pickle.dumps({b"data": np.zeros((1, 3072), np.uint8), b"labels": [3]}, 2))
    opcodes = st.lists(st.sampled_from([bytes([op]) for op in _OPCODES]), max_size=40).map(b"".join)
    return st.one_of(files_like(*valid), files_like(*valid), opcodes)


_OPCODES = (
    b"(.0 12FIJKLMNPQRSTUVXabcdeghijlopqrstu}]\x80\x81\x82\x85\x86\x87\x88\x89\x8a\x8c\x93\x94"
)


def cifar_files() -> st.SearchStrategy[bytes]:
    record = bytes([1]) + bytes(3072)
    return files_like(record, record * 2, bytes([99]) + record, bytes([200]) * 3074)


def read_idx_bytes(content: bytes) -> None:
    for rank in (3, 1):
        with suppress(DataError):
            values = parse_idx(io.BytesIO(content), PATH, rank)
            assert values.ndim == rank


def read_mat_bytes(content: bytes) -> None:
    with suppress(DataError):
        parse_names(io.BytesIO(content), PATH)
    with suppress(DataError):
        for values in parse_mat(io.BytesIO(content), PATH, ("x", "y", "s")).values():
            assert values.dtype.kind in "iuf"
            values.sum(dtype=np.float64) if values.dtype.kind != "f" else values.copy()


def read_pickle_bytes(content: bytes) -> None:
    with suppress(DataError):
        parse_batch(parse_pickle(content, PATH), PATH, LABELINGS["ten"], 1)


def read_cifar_bytes(content: bytes) -> None:
    for name, per_record in (("ten", 1), ("fine", 2), ("coarse", 2)):
        for records in (1, 2):
            with suppress(DataError):
                labeling = LABELINGS[name]
                pixels, labels = parse_records(content, PATH, labeling, per_record, records)
                assert pixels.shape == (records, 3072)
                assert labels.max() < labeling.num_classes


FORMATS = {
    "idx": (idx_files, read_idx_bytes, 250_000),
    "mat": (mat_files, read_mat_bytes, 250_000),
    "pickle": (pickles, read_pickle_bytes, 200_000),
    "cifar": (cifar_files, read_cifar_bytes, 50_000),
}


def check(name: str, examples: int) -> None:
    strategy, parse, _ = FORMATS[name]
    alarm = signal.alarm if sys.platform == "linux" else lambda seconds: None

    @settings(
        max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(content=strategy())
    def any_bytes(content: bytes) -> None:
        alarm(10)
        parse(content)
        alarm(0)

    any_bytes()


@pytest.mark.parametrize("name", FORMATS)
def test_any_bytes_are_read_or_refused(name):
    """A few hundred files of each format."""
    check(name, 200)


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_very_many_files_are_read_or_refused(name):
    """750,000 files in all."""
    check(name, FORMATS[name][2])
