from __future__ import annotations

import json
import stat

import pytest

from advnets.errors import WriteError
from advnets.files import write_atomically, write_json


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file.json"
    write_json(path, {"old": True})

    def fail(part):
        part.write_text("half of")
        raise OSError(28, "No space left on device")

    with pytest.raises(WriteError, match=r"file.json could not be written \(No space left"):
        write_atomically(path, fail)
    assert json.loads(path.read_text()) == {"old": True}
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_made(tmp_path):
    write_json(tmp_path / "a" / "b.json", [1])
    assert json.loads((tmp_path / "a" / "b.json").read_text()) == [1]
    assert stat.S_IMODE((tmp_path / "a" / "b.json").stat().st_mode) == 0o644


def test_a_file_in_the_folders_place_is_named(tmp_path):
    (tmp_path / "a").touch()
    with pytest.raises(WriteError, match=r"b.json could not be written \("):
        write_json(tmp_path / "a" / "b.json", [1])
