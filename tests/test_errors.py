from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import advnets
from advnets import errors
from advnets.experiment.train import train


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


def texts(file: Path) -> Iterator[tuple[int, str]]:
    """Yield the strings of a module that are no docstrings, with X in place of values."""
    tree = ast.parse(file.read_text("utf-8"))
    skipped = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            skipped.update(node.values)
            parts = [part.value if isinstance(part, ast.Constant) else "X" for part in node.values]
            yield node.lineno, "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and node not in skipped:
            yield node.lineno, str(node.value)


def test_messages_have_no_flags_in_python():
    """Except in commands that Python has no call for, or has as another text (`by_interface`)."""
    package = Path(advnets.__file__).parent
    flagged, left = 0, dict[str, str]()
    for file in sorted(package.rglob("*.py")):
        name = file.relative_to(package).as_posix()
        if name.startswith(("cli/", "paper/", "bench/")):
            continue
        for line, text in texts(file):
            flagged += "--" in text
            if re.search(r"(?<!\S)[(`]*--[a-z]", errors.in_python_words(text)):
                left[name] = f"{line}: {text}"
    assert flagged > 30
    assert left.keys() == {
        "api.py",  # `advnets train --dry-run`
        "config/overrides.py",  # `advnets train --help-all`
        "data/spec.py",  # by_interface
        "evaluation/registry.py",  # the help of a command
        "extractors/registry.py",  # a table of the README
        "report/run_report.py",  # the page of a run
    }, left


def test_a_run_given_as_data_is_resumed_in_the_words_of_each_interface(tiny, tmp_path, run_command):
    run = tmp_path / "run"
    train(tiny, run)
    with pytest.raises(errors.UsageError, match=f"set resume to True, and out to '{run}'$"):
        advnets.train(tiny, data=run)
    with pytest.raises(errors.UsageError, match=f"set resume to True, and out to '{run}'$"):
        advnets.data.open_dataset(str(run))
    with pytest.raises(errors.UsageError, match=r"; give another background$"):
        advnets.data.open_dataset(str(tmp_path), background="no color")
    assert f"use: advnets train --resume --out {run}\n" in run_command("train", run)[2]
