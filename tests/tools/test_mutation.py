"""The mutation runner: its changes, and that it reports survivors."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SOURCE = '''
from __future__ import annotations


def smallest(a: int, b: int = 2) -> int:
    """Return the smaller, "a - b" being text."""
    if a < b and a != 7:
        return a
    return b


def loss(x, keep: float = 0.5):
    x = x.detach()
    x.log(1)
    raise ValueError(f"{x - 1} is bad")
    return (x - keep).mean(dim=0) @ -x
'''


@pytest.fixture
def changes(script):
    result = script.mutants_of("src/advnets/a.py", SOURCE.encode())
    return {(mutant.kind, mutant.before, mutant.after) for mutant in result}


@pytest.mark.parametrize(
    "change",
    [
        ("comparison", "a < b", "(a <= b)"),
        ("comparison", "a < b", "(a >= b)"),
        ("comparison", "a != 7", "(a == 7)"),
        ("and/or", "a < b and a != 7", "(a < b or a != 7)"),
        ("constant", "2", "(3)"),
        ("constant", "2", "(1)"),
        ("constant", "0.5", "(1.0)"),
        ("constant", "0", "(1)"),
        ("operator", "x - keep", "(x + keep)"),
        ("order", "x - keep", "(keep - x)"),
        ("order", "(x - keep).mean(dim=0) @ -x", "(-x @ (x - keep).mean(dim=0))"),
        ("sign", "-x", "(x)"),
        ("name", "(x - keep).mean(dim=0)", "((x - keep).sum(dim=0))"),
        ("keyword", "(x - keep).mean(dim=0)", "((x - keep).mean())"),
        ("dropped call", "x.detach()", "(x)"),
        ("removed", "x = x.detach()", "pass"),
        ("removed", "x.log(1)", "pass"),
    ],
)
def test_every_kind_of_change_is_made(changes, change):
    assert change in changes


def test_strings_and_annotations_are_unchanged_and_every_mutant_parses(script, changes):
    assert not [before for _, before, _ in changes if "text" in before or "bad" in before]
    for mutant in script.mutants_of("src/advnets/a.py", SOURCE.encode()):
        changed = mutant.apply(SOURCE.encode()).decode()
        assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(SOURCE))
        assert SOURCE.splitlines()[mutant.line - 1].count(mutant.before.splitlines()[0])


def test_tests_of_a_file_are_those_of_its_name_then_its_folder(script):
    selected = script.tests_of("src/advnets/training/ema.py")
    assert selected[0] == "tests/training/test_ema.py"
    assert "tests/training/test_trainer.py" in selected
    assert script.tests_of("src/advnets/schedules.py") == ["tests/test_schedules.py"]


def test_draws_are_reproducible_and_cover_all_files(script):
    files = ["src/advnets/schedules.py", "src/advnets/training/ema.py"]
    mutants = script.draw_mutants(files, 12, 3)
    assert mutants == script.draw_mutants(files, 12, 3) != script.draw_mutants(files, 12, 4)
    assert {mutant.source for mutant in mutants} == set(files)
    assert len(script.draw_mutants(files, None, 0)) > 40


def test_survivors_and_detected_mutants_without_changing_the_source(tmp_path):
    """A whole run over a package and tests of its own, in a process of its own."""
    package = tmp_path / "src/advnets"
    package.mkdir(parents=True)
    source = "def clip(a, top=9):\n    while a > top:\n        a -= 1\n    return a\n"
    (package / "__init__.py").write_text("")
    (package / "a.py").write_text(source)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_a.py").write_text(
        "from advnets.a import clip\n\ndef test_clip():\n    assert clip(11, 5) == 5\n"
    )
    program = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(ROOT / "tools")!r})
import mutation
root = Path({str(tmp_path)!r})
mutants = mutation.draw_mutants(["src/advnets/a.py"], None, 0, root)
wanted = {{("a > top", "(a >= top)"), ("9", "(10)")}}
mutants = [m for m in mutants if (m.before, m.after) in wanted]
done = mutation.run(mutants, (), root, root / "out.json")
print(mutation.summary(done))
# An endless loop: the runner does not wait for it.
copied = mutation.SourceCopy(root, root / "again")
mutants = mutation.draw_mutants(["src/advnets/a.py"], None, 0, root)
(endless,) = [m for m in mutants if m.after == "pass"]
print(copied.run_mutant(endless, ["tests/test_a.py"], 3.0).verdict)
"""
    completed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    lines = completed.stdout.splitlines()
    stored = json.loads((tmp_path / "out.json").read_text())
    verdicts = {(row["before"], row["after"]): row["verdict"] for row in stored}
    assert verdicts == {
        ("a > top", "(a >= top)"): "detected",
        ("9", "(10)"): "survived",  # no test leaves the argument out
    }
    assert "src/advnets/a.py:1: constant: 9 -> (10)" in lines
    assert lines[-1] == "too slow"
    assert (package / "a.py").read_text() == source


def test_failing_tests_stop_the_run(tmp_path):
    package = tmp_path / "src/advnets"
    package.mkdir(parents=True)
    (package / "a.py").write_text("A = 1\n")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_a.py").write_text("def test_a():\n    assert not 'so'\n")
    program = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(ROOT / "tools")!r})
import mutation
root = Path({str(tmp_path)!r})
mutation.run(mutation.draw_mutants(["src/advnets/a.py"], None, 0, root), (), root)
"""
    completed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path
    )
    assert completed.returncode == 1
    assert "assert not 'so'" in completed.stderr
    assert completed.stderr.endswith("tests fail on the unchanged source; fix them\n")
