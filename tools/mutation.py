"""Apply single careless changes to source files and list those that no test detects.

    python tools/mutation.py src/advnets/losses.py -n 40 --seed 0 --out survivors.json
    python tools/mutation.py src/advnets/games/*.py --tests tests/games -n 100
    python tools/mutation.py --again survivors.json

A mutant is one change: another comparison, an arithmetic operator, a constant off by one, a sign,
two arguments exchanged, a dropped `.detach()`, `mean` for `sum`, another axis, `and` for `or`, a
statement or a keyword removed. Without --tests, a source file is tested by the test file of its
name (`tests/games/test_gan.py`), then by the other files of that folder. Each mutant is a copy of
`src/` in a temporary folder; the checkout itself is never changed. Tests run in a forked process
that has torch and pytest loaded already, on one thread, up to the first failure, within a time
limit of five times the duration on the unchanged source (and 20 s); a mutant that runs out of time
counts as detected. --out stores the outcome of every mutant, and --again reruns the survivors of
such a file.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
ORDERED = (ast.Sub, ast.Div, ast.MatMult)
"""Operators whose operands cannot be exchanged."""
PAIRS = (
    ("mean", "sum"),
    ("amax", "amin"),
    ("argmax", "argmin"),
    ("max", "min"),
    ("all", "any"),
    ("floor", "ceil"),
    ("cos", "sin"),
    ("zeros", "ones"),
    ("zeros_like", "ones_like"),
)
NAMES = {name: other for pair in PAIRS for name, other in (pair, pair[::-1])}
DROPPED_METHODS = {
    "detach",
    "float",
    "square",
    "sqrt",
    "abs",
    "log",
    "exp",
    "clone",
    "round",
    "eval",
}
"""Methods without arguments whose call is replaced by their object."""


@dataclass(frozen=True)
class Mutant:
    """One change of one file."""

    source: str
    """Path relative to the root of the checkout."""
    line: int
    kind: str
    before: str
    after: str
    start: int
    """Offset of the first replaced byte."""
    end: int
    """Offset after the last replaced byte."""
    verdict: str = ""
    """`detected`, `too slow`, or `survived`."""
    seconds: float = 0.0

    def apply(self, text: bytes) -> bytes:
        """Return the file's text with the change in it."""
        return text[: self.start] + self.after.encode() + text[self.end :]

    def __str__(self) -> str:
        """Return the location and the change, on one line."""
        change = (" ".join(part.split()) for part in (self.before, self.after))
        return f"{self.source}:{self.line}: {self.kind}: {' -> '.join(change)}"


def expression_changes(node: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    """Yield the careless variants of an expression, each with the kind of change."""
    new = copy.deepcopy(node)  # `match` reads the original, changes go into copies
    match node:
        case ast.Compare(ops=[op]):
            for other in COMPARISONS.get(type(op), ()):
                yield "comparison", ast.Compare(node.left, [other()], node.comparators)
        case ast.BinOp(left=left, op=op, right=right):
            if type(op) in OPERATORS:
                yield "operator", ast.BinOp(left, OPERATORS[type(op)](), right)
            if isinstance(op, ORDERED):
                yield "order", ast.BinOp(right, op, left)
        case ast.BoolOp(op=op, values=values):
            yield "and/or", ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), values)
        case ast.UnaryOp(operand=operand):
            yield "sign", operand
        case ast.IfExp(test=test, body=body, orelse=orelse):
            yield "branches", ast.IfExp(test, orelse, body)
        case ast.Constant(value=bool() as value):
            yield "constant", ast.Constant(not value)
        case ast.Constant(value=int() as value):
            yield "constant", ast.Constant(value + 1)
            if value:
                yield "constant", ast.Constant(value - 1)
        case ast.Constant(value=float() as value):
            yield "constant", ast.Constant(2 * value if value else 1.0)
        case ast.Call(func=func, args=args, keywords=keywords):
            assert isinstance(new, ast.Call)
            if isinstance(func, ast.Attribute) and func.attr in NAMES:
                yield "name", replace_call(new, func=ast.Attribute(func.value, NAMES[func.attr]))
            if isinstance(func, ast.Name) and func.id in NAMES:
                yield "name", replace_call(new, func=ast.Name(NAMES[func.id]))
            if (
                isinstance(func, ast.Attribute)
                and func.attr in DROPPED_METHODS
                and not args + keywords
            ):
                yield "dropped call", func.value
            if len(args) > 1 and ast.dump(args[0]) != ast.dump(args[1]):
                yield "arguments", replace_call(new, args=[args[1], args[0], *args[2:]])
            for n, keyword in enumerate(keywords):
                if keyword.arg is not None:
                    rest = keywords[:n] + keywords[n + 1 :]
                    yield "keyword", replace_call(new, keywords=rest)
        case _:
            return


def replace_call(
    call: ast.Call,
    *,
    func: ast.expr | None = None,
    args: list[ast.expr] | None = None,
    keywords: list[ast.keyword] | None = None,
) -> ast.Call:
    """Return a call with another function, other arguments or other keywords."""
    return ast.Call(
        func or call.func,
        call.args if args is None else args,
        call.keywords if keywords is None else keywords,
    )


def is_removable(statement: ast.stmt) -> bool:
    """Return whether a function can run without a statement: names stay defined."""
    match statement:
        case ast.Expr(value=ast.Call()) | ast.AugAssign():
            return True
        case ast.If(body=[ast.Return() | ast.Raise() | ast.Continue()], orelse=[]):
            return True
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            return True
        case ast.Assign(targets=[target], value=value):
            stored = {name.id for name in ast.walk(target) if isinstance(name, ast.Name)}
            read = {name.id for name in ast.walk(value) if isinstance(name, ast.Name)}
            return bool(stored) and stored <= read
        case _:
            return False


class MutantFinder(ast.NodeVisitor):
    """A visitor that collects the mutants of a file.

    It skips annotations, decorators, strings and formats.
    """

    def __init__(self, source: str, text: bytes) -> None:
        self.source, self.text, self.found = source, text, list[Mutant]()
        self.starts = [0]
        for line in text.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))

    def add(self, node: ast.expr | ast.stmt, kind: str, after: str) -> None:
        """Add the change of a node into this text."""
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        start = self.starts[node.lineno - 1] + node.col_offset
        end = self.starts[node.end_lineno - 1] + node.end_col_offset
        before = self.text[start:end].decode()
        self.found.append(Mutant(self.source, node.lineno, kind, before, after, start, end))

    def visit(self, node: ast.AST) -> None:
        """Add all changes of a node, then of its children."""
        match node:
            case ast.JoinedStr():
                return  # positions inside it are not those of the file
            case ast.AnnAssign(value=value):
                if value is not None:
                    self.visit(value)
                return
            case ast.FunctionDef(args=arguments, body=body):
                for part in (*arguments.defaults, *arguments.kw_defaults, *body):
                    if part is not None:
                        self.visit(part)
                return
            case ast.ClassDef(body=body):
                for part in body:
                    self.visit(part)
                return
            case ast.Raise():
                return  # the message is text, and the condition is mutated elsewhere
            case ast.expr():
                for kind, other in expression_changes(node):
                    self.add(node, kind, f"({ast.unparse(other)})")
            case ast.stmt():
                self.statement(node)
            case _:
                pass
        self.generic_visit(node)

    def statement(self, node: ast.stmt) -> None:
        """Add the removal of a statement or a context, or the negation of a condition."""
        if is_removable(node):
            self.add(node, "removed", "pass")
        match node:
            case ast.With(items=items):
                for item in items:
                    if item.optional_vars is None:
                        nothing = "__import__('contextlib').nullcontext()"
                        self.add(item.context_expr, "removed", nothing)
            case ast.If(test=ast.Name() | ast.Attribute() | ast.Call() as test):
                self.add(test, "condition", f"(not {ast.unparse(test)})")
            case ast.AugAssign(target=target, op=op, value=value) if type(op) in OPERATORS:
                other = ast.AugAssign(target, OPERATORS[type(op)](), value)
                self.add(node, "operator", ast.unparse(other))
            case _:
                pass


def mutants_of(source: str, text: bytes) -> list[Mutant]:
    """Return every mutant of a file, in the order of its lines."""
    finder = MutantFinder(source, text)
    finder.visit(ast.parse(text))
    return sorted(finder.found, key=lambda mutant: (mutant.start, mutant.end, mutant.after))


def tests_of(source: str, root: Path = ROOT) -> list[str]:
    """Return the test file of a source file's name, then the other test files of its folder."""
    path = Path(source).relative_to("src/advnets")
    folder = root / "tests" / path.parent
    own = folder / f"test_{path.stem}.py"
    siblings = sorted(folder.glob("test_*.py")) if path.parent != Path() else []
    files = [own] * own.exists() + [file for file in siblings if file != own]
    return [str(file.relative_to(root)) for file in files]


class SourceCopy:
    """A copy of `src/` in which one file at a time is changed, and the tests that run on it."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root, self.source = root, folder / "src"
        self.changes = 0
        leave = shutil.ignore_patterns("__pycache__")
        shutil.copytree(root / "src", self.source, ignore=leave)
        os.environ["PYTHONPATH"] = str(self.source)
        sys.path.insert(0, str(self.source))

    def run_mutant(self, mutant: Mutant | None, tests: Sequence[str], limit: float) -> Mutant | str:
        """Run tests on a mutant, or on the unchanged source; `limit` is in seconds."""
        began = time.monotonic()
        if mutant is None:
            return self.run_tests(tests, limit)
        file = self.source.parent / mutant.source
        whole = file.read_bytes()
        try:
            file.write_bytes(mutant.apply(whole))
            # Set a unique time, so that no compiled file of another mutant is reused.
            self.changes += 1
            os.utime(file, (self.changes, self.changes))
            outcome = self.run_tests(tests, limit)
        finally:
            file.write_bytes(whole)
        return replace(mutant, verdict=outcome, seconds=round(time.monotonic() - began, 1))

    def run_tests(self, tests: Sequence[str], limit: float) -> str:
        """Run tests in a forked process and return `detected`, `too slow` or `survived`.


        Tests that take longer than `limit` seconds are too slow.

        Raises:
            SystemExit: no test was run.
        """
        sys.stdout.flush()
        child = os.fork()
        if not child:
            self._test(tests)
        until = time.monotonic() + limit
        while time.monotonic() < until:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                code = os.waitstatus_to_exitcode(status)
                if code in (4, 5):  # pytest: wrong usage, no tests collected
                    raise SystemExit(f"pytest found no tests in {' '.join(tests)}")
                return "detected" if code else "survived"
            time.sleep(0.02)
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return "too slow"

    def _test(self, tests: Sequence[str]) -> None:
        """Run pytest in a new process group, with its output in a file next to the source."""
        import pytest

        code = 1
        try:
            os.setsid()
            os.chdir(self.root)
            output = os.open(self.source.parent / "output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            for stream in (1, 2):
                os.dup2(output, stream)
            options = ["-q", "-x", "-p", "no:cacheprovider", "--rootdir", str(self.root)]
            code = int(pytest.main([*options, *tests]))
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


def preload() -> None:
    """Import what most tests import, so that every forked process has it."""
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in ("pytest", "scipy.stats", "torch", "sklearn.datasets"):
        importlib.import_module(name)


def run(
    mutants: Sequence[Mutant], tests: Sequence[str], root: Path = ROOT, out: Path | None = None
) -> list[Mutant]:
    """Return the mutants with their outcomes; without tests, each is run on its file's tests.


    Raises:
        SystemExit: tests fail on the unchanged source.
    """
    done: list[Mutant] = []
    with tempfile.TemporaryDirectory() as folder:
        copied = SourceCopy(root, Path(folder))
        limits: dict[tuple[str, ...], float] = {}
        for n, mutant in enumerate(mutants, 1):
            selected = tuple(tests or tests_of(mutant.source, root))
            if selected not in limits:
                began = time.monotonic()
                if copied.run_mutant(None, selected, 1800.0) != "survived":
                    output = (Path(folder) / "output").read_text("utf-8")
                    raise SystemExit(rf"{output}\ntests fail on the unchanged source; fix them")
                limits[selected] = 5 * (time.monotonic() - began) + 20
            found = copied.run_mutant(mutant, selected, limits[selected])
            assert isinstance(found, Mutant)
            done.append(found)
            print(f"{n}/{len(mutants)} {found.verdict:9} {found.seconds:5.1f} s  {found}")
            sys.stdout.flush()
            if out is not None:
                out.write_text(json.dumps([asdict(one) for one in done], indent=1) + "\n", "utf-8")
    return done


def summary(done: Sequence[Mutant]) -> str:
    """Return a line of counts, then one for each survivor."""
    left = [mutant for mutant in done if mutant.verdict == "survived"]
    num_detected = len(done) - len(left)
    share = f" ({num_detected / len(done):.0%})" if done else ""
    return "\n".join(
        [f"{num_detected} of {len(done)} num_detected{share}; survivors:", *map(str, left)]
    )


def draw_mutants(
    files: Sequence[str], number: int | None, seed: int, root: Path = ROOT
) -> list[Mutant]:
    """Return a random draw of mutants of all files together, or all if `number` is None."""
    mutants = [
        mutant
        for file in files
        for mutant in mutants_of(
            str((root / file).resolve().relative_to(root)), (root / file).read_bytes()
        )
    ]
    if number is None or number >= len(mutants):
        return mutants
    places = sorted(random.Random(seed).sample(range(len(mutants)), number))
    return [mutants[place] for place in places]


def load_survivors(file: Path) -> list[Mutant]:
    """Return the survivors stored by an earlier run; their files must not have changed since.


    Raises:
        SystemExit: a file has other text where a mutant was.
    """
    stored = [Mutant(**one) for one in json.loads(file.read_text("utf-8"))]
    left = [mutant for mutant in stored if mutant.verdict == "survived"]
    for mutant in left:
        text = (ROOT / mutant.source).read_bytes()
        if text[mutant.start : mutant.end].decode() != mutant.before:
            raise SystemExit(
                f"{mutant.source} has changed since {file} was written; draw mutants again"
            )
    return left


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 1 if a mutant survived."""
    parser = argparse.ArgumentParser(
        description="Apply careless changes and list those that no test detects."
    )
    parser.add_argument("sources", nargs="*", help="Source files to change.")
    parser.add_argument(
        "--tests",
        nargs="+",
        default=[],
        help="Tests to run; default: those of the source file's name and folder.",
    )
    parser.add_argument("-n", "--number", type=int, help="Mutants to draw; default: all.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of the draw; default: 0.")
    parser.add_argument("--out", type=Path, help="JSON file for the outcome of every mutant.")
    parser.add_argument("--again", type=Path, help="Rerun the survivors stored in this file.")
    parser.add_argument("--list", action="store_true", help="Print the mutants and run nothing.")
    options = parser.parse_args(arguments)
    if options.again:
        mutants = load_survivors(options.again)
    else:
        mutants = draw_mutants(options.sources, options.number, options.seed)
    if options.list:
        print("\n".join(map(str, mutants)))
        return 0
    preload()
    done = run(mutants, options.tests, out=options.out)
    print(summary(done))
    return int(any(mutant.verdict == "survived" for mutant in done))


if __name__ == "__main__":
    raise SystemExit(main())
