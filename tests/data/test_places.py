from __future__ import annotations

from pathlib import Path

from advnets.data.places import data_directory, folders_of, listed


def test_directory_wins_then_environment_then_cache(monkeypatch, tmp_path):
    """Named sets lie in the directory given, else in ADVNETS_DATA, else in the user's cache."""
    monkeypatch.setenv("ADVNETS_DATA", str(tmp_path / "env"))
    assert data_directory(str(tmp_path / "given")) == tmp_path / "given"
    assert data_directory() == tmp_path / "env"
    monkeypatch.delenv("ADVNETS_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert data_directory() == tmp_path / "cache" / "advnets"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_directory() == tmp_path / ".cache" / "advnets"
    assert data_directory("~/x") == tmp_path / "x"


def test_own_folder_before_the_common_one():
    """A set is looked for in a folder of its name, then beside it."""
    assert folders_of("mnist", "d") == (Path("d/mnist"), Path("d"))


def test_listed():
    """Things are listed as a sentence has them."""
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b nor c"
    assert listed("ab", "and") == "a and b"
