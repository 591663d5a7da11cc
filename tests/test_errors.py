from __future__ import annotations

import inspect

import pytest

from advnets import errors


def test_the_docstring_lists_every_exception_and_warning():
    """The tree of the module's docstring has every class of the module at its depth."""
    listed = {}
    for line in errors.__doc__.splitlines():
        name = line.lstrip("│├└─ ").partition(" ")[0]
        if name in vars(errors):
            listed[name] = (len(line) - len(line.lstrip("│├└─ "))) // 4
    roots = (errors.AdvnetsError, KeyboardInterrupt, UserWarning)
    depths = {
        name: next(len(cls.__mro__) - len(root.__mro__) for root in roots if issubclass(cls, root))
        for name, cls in inspect.getmembers(errors, inspect.isclass)
        if issubclass(cls, BaseException)
    }
    assert listed == depths


def test_an_unknown_name_lists_what_is_known_when_nothing_is_near():
    error = errors.UnknownNameError("metric", "xyz", ["parzen"])
    assert str(error) == "no metric is called 'xyz'; known: parzen"


def test_a_missing_extra_prints_the_command_that_installs_it():
    with pytest.raises(errors.MissingExtraError) as caught:
        errors.require("no_such_library.part", "report")
    assert str(caught.value) == (
        "no_such_library is not installed; install it with: pip install 'advnets[report]'"
    )


def test_a_library_with_a_broken_import_is_not_reported_as_missing(tmp_path, monkeypatch):
    (tmp_path / "half_there.py").write_text("import not_there_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="not_there_at_all"):
        errors.require("half_there", "report")


def test_control_characters_in_messages_are_escaped():
    """Names from a disk are in messages; letters of any script are kept."""
    error = errors.DataError("a\x1b[2Jb\nc\x9bd\u202ee\udcff é 한 is no file")
    assert str(error) == r"a\x1b[2Jb\nc\u009bd\u202ee\udcff é 한 is no file"
    assert errors.printable(str(error)) == str(error)
    assert errors.printable_lines("a\x1b\nb\x7f") == "a\\x1b\nb\\u007f"
