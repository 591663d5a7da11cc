"""The house stands as drawn: arrows only go down, and no room imports its own front door."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import advnets
from advnets import extractors, metrics

PACKAGE = Path(advnets.__file__).parent
ROOT = PACKAGE.parent.parent
MODULES = sorted(PACKAGE.rglob("*.py"))


def imports_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text("utf-8"))
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module}
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_the_contracts_hold():
    """The table of rooms and arrows stands in pyproject.toml; import-linter walks it."""
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_no_module_imports_its_own_packages_init():
    """What comes from a module's own package is a module, never a name of the package."""
    for path in MODULES:
        package = ".".join(("advnets", *path.relative_to(PACKAGE).parent.parts))
        names = {
            name.removeprefix(f"{package}.")
            for name in imports_of(path)
            if name.rpartition(".")[0] == package
        }
        modules = {child.stem for child in path.parent.iterdir()}
        assert names <= modules, f"{path} imports {names - modules} from its own package"


def test_rooms_are_small():
    for path in MODULES:
        lines = len(path.read_text("utf-8").splitlines())
        assert lines <= 600, f"{path} has {lines} lines: redraw it"


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.strip()


def test_neither_import_nor_help_loads_what_is_heavy():
    heavy = "{'torch', 'matplotlib', 'sklearn', 'scipy', 'numpy', 'PIL'}"
    loaded = f"print(sorted({heavy} & set(sys.modules)))"
    assert run_python(f"import sys, advnets; {loaded}") == "[]"
    asked = f"""
import sys, atexit
atexit.register(lambda: print(sorted({heavy} & set(sys.modules))))
from advnets.cli.main import main
main(["train", "--help"])
"""
    assert run_python(asked).splitlines()[-1] == "[]"


def test_public_names():
    """What `advnets` offers, whole: a new name is a decision."""
    assert advnets.__all__ == [
        "AdvnetsError",
        "Config",
        "Trained",
        "__version__",
        "load",
        "train",
    ]
    for name in advnets.__all__:
        assert getattr(advnets, name) is not None
    assert dir(advnets) == advnets.__all__


def test_public_metrics():
    """The same of `advnets.metrics` and `advnets.extractors`: each is what its module calls so."""
    assert metrics.__all__ == [
        "binned_divergence",
        "frechet_distance",
        "frechet_standard_error",
        "inception_score",
        "kernel_distance",
        "memorization",
        "mixture_quality",
        "mode_coverage",
        "nearest_neighbor_test",
        "parzen_log_likelihood",
        "parzen_score",
        "prdc",
        "sliced_wasserstein",
    ]
    assert extractors.__all__ == ["ClassifierExtractor", "Extractor", "extractor"]
    for package in (metrics, extractors):
        for name in package.__all__:
            assert callable(getattr(package, name))
