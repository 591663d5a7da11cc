from __future__ import annotations

import inspect

import pytest

from advnets import errors


def test_the_drawn_tree_is_the_tree():
    """The docstring's drawing holds every class, at its depth."""
    drawn = {}
    for line in errors.__doc__.splitlines():
        name = line.lstrip("│├└─ ").partition(" ")[0]
        if name.endswith("Error"):
            drawn[name] = (len(line) - len(line.lstrip("│├└─ "))) // 4
    classes = {
        name: cls
        for name, cls in inspect.getmembers(errors, inspect.isclass)
        if issubclass(cls, errors.AdvnetsError)
    }
    depths = {
        name: len(cls.__mro__) - len(errors.AdvnetsError.__mro__) for name, cls in classes.items()
    }
    assert drawn == depths


def test_an_unknown_name_lists_what_is_known_when_nothing_is_near():
    error = errors.UnknownNameError("metric", "xyz", ["parzen"])
    assert str(error) == "no metric is called 'xyz'; known: parzen."


def test_a_missing_extra_prints_its_cure():
    with pytest.raises(errors.MissingExtraError) as caught:
        errors.require("no_such_library.part", "report")
    assert str(caught.value) == (
        "no_such_library is not installed; type: pip install 'advnets[report]'"
    )


def test_a_library_that_misses_a_part_of_its_own_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "half_there.py").write_text("import not_there_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="not_there_at_all"):
        errors.require("half_there", "report")


def test_a_message_cannot_command_a_terminal():
    """Names from a disk are in messages: control characters come out as escapes, letters do not."""
    error = errors.DataError("a\x1b[2Jb\nc\x9bd\u202ee\udcff é 한 is no file")
    assert str(error) == r"a\x1b[2Jb\nc\u009bd\u202ee\udcff é 한 is no file"
    assert errors.printable(str(error)) == str(error)
    assert errors.printable_lines("a\x1b\nb\x7f") == "a\\x1b\nb\\u007f"
