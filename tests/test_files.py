import json
import os
import socket
import stat
from pathlib import Path

import pytest

from advnets.errors import WriteError
from advnets.files import (
    open_regular_file,
    read_regular_file,
    require_regular_file,
    write_atomically,
    write_json,
)


def test_a_failed_write_keeps_the_old_file_and_leaves_no_other(tmp_path):
    path = tmp_path / "file.json"
    write_json(path, {"old": True})

    def fail(part):
        part.write_text("half of")
        raise OSError(28, "No space left on device")

    with pytest.raises(WriteError, match=r"file.json could not be written \(No .* and is unchange"):
        write_atomically(path, fail)
    with pytest.raises(WriteError, match=r"new.json could not be written \(No space .*\); free"):
        write_atomically(tmp_path / "new.json", fail)
    assert json.loads(path.read_text()) == {"old": True}
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_created(tmp_path):
    write_json(tmp_path / "a" / "b.json", [1])
    assert json.loads((tmp_path / "a" / "b.json").read_text()) == [1]
    assert stat.S_IMODE((tmp_path / "a" / "b.json").stat().st_mode) == 0o644


def test_a_file_in_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "a").touch()
    with pytest.raises(WriteError, match=r"b.json could not be written \("):
        write_json(tmp_path / "a" / "b.json", [1])


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("pipe", "a named pipe, not a regular file"),
        ("socket", "a socket, not a regular file"),
        ("folder", "a folder, not a regular file"),
        ("device", "a device, not a regular file"),
        ("absent", "No such file or directory"),
    ],
)
def test_only_regular_files_are_opened(tmp_path, monkeypatch, kind, reason):
    """Opening a named pipe would wait for a writer, and /dev/zero has no end."""
    monkeypatch.chdir(tmp_path)  # as the path of a socket may not be long
    path = Path("/dev/zero") if kind == "device" else Path("x")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    for refused in (open_regular_file, require_regular_file, lambda p: read_regular_file(p, 9)):
        with pytest.raises(OSError) as caught:
            refused(path)
        assert caught.value.strerror == reason


def test_a_regular_file_is_read_up_to_a_maximum(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"12345")
    assert read_regular_file(path, 5) == b"12345"
    assert require_regular_file(path).st_size == 5
    with pytest.raises(OSError, match="larger than 4 bytes"):
        read_regular_file(path, 4)
