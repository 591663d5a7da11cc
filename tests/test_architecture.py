"""The structure of the package: import contracts, sizes of modules, public names, lazy imports."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import advnets
from advnets import extractors, metrics, theory

PACKAGE = Path(advnets.__file__).parent
ROOT = PACKAGE.parent.parent
MODULES = sorted(PACKAGE.rglob("*.py"))


def test_every_public_name_has_a_known_type():
    """Those of all modules, as a type checker of code that imports advnets sees them."""
    tools = Path(sys.executable).parent
    completed = subprocess.run(
        [tools / "pyright", "--verifytypes", "advnets", "--ignoreexternal"],
        env=os.environ | {"PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": PACKAGE.parent},
        capture_output=True,
        text=True,
    )
    assert completed.returncode == 0, completed.stdout
    assert "Type completeness score: 100%" in completed.stdout


def imports_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text("utf-8"))
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module}
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_the_import_contracts_hold():
    """The layers are in pyproject.toml, and import-linter checks them."""
    completed = subprocess.run(
        [Path(sys.executable).parent / "lint-imports"], cwd=ROOT, capture_output=True, text=True
    )
    assert completed.returncode == 0, completed.stdout


def test_no_module_imports_its_own_packages_init():
    """A module imports modules of its own package, never names of the package's `__init__`."""
    for path in MODULES:
        package = ".".join(("advnets", *path.relative_to(PACKAGE).parent.parts))
        names = {
            name.removeprefix(f"{package}.")
            for name in imports_of(path)
            if name.rpartition(".")[0] == package
        }
        modules = {child.stem for child in path.parent.iterdir()}
        assert names <= modules, f"{path} imports {names - modules} from its own package"


def test_no_module_is_over_600_lines():
    for path in MODULES:
        lines = len(path.read_text("utf-8").splitlines())
        assert lines <= 600, f"{path} has {lines} lines; split it"


def run_python(code: str) -> str:
    completed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return completed.stdout.strip()


HEAVY = "{'torch', 'matplotlib', 'sklearn', 'scipy', 'numpy', 'PIL'}"
LOADED = f"print(sorted({HEAVY} & set(sys.modules)))"


def test_neither_import_nor_help_loads_what_is_heavy():
    assert run_python(f"import sys, advnets; dir(advnets); {LOADED}") == "[]"
    for help_option in ("--help", "--help-all"):
        code = f"""
import sys
from advnets.cli.main import main
main(["train", {help_option!r}])
{LOADED}
"""
        assert run_python(code).splitlines()[-1] == "[]"


def test_import_takes_less_than_50_ms():
    """In processor time, the least of five processes, so that a busy machine changes nothing."""
    code = "import time; t = time.process_time(); import advnets; print(time.process_time() - t)"
    assert min(float(run_python(code)) for _ in range(5)) < 0.05


def test_drawing_a_sample_imports_few_modules(tmp_path, tiny):
    """At most 60 of ours, and no parser of a file format or a dataset."""
    advnets.train(tiny, out=tmp_path / "run")
    code = f"""
import sys, advnets
advnets.load({str(tmp_path / "run")!r}).sample(2)
print(*sorted(name for name in sys.modules if name.split(".")[0] == "advnets"))
"""
    loaded = run_python(code).split()
    assert len(loaded) <= 60, loaded
    parts = ("datasets", "image_folder", "huggingface", "synthetic", "metrics", "report", "plots")
    assert not [name for name in loaded if {*parts} & {*name.split(".")}]


def test_no_preset_imports_torchs_compiler_to_count_weights():
    """It takes a second, and torch imports it for many operations on its device "meta"."""
    code = """
import sys
from types import SimpleNamespace
from advnets import presets
from advnets.experiment.stored_run import meta_players
info = SimpleNamespace(shape=(1, 32, 32), classes=("a", "b"))
for preset in presets.PRESETS:
    config = presets.get_preset(preset)
    for stage in range(len(config.stages)):
        meta_players(config, stage, info)
    if "torch._dynamo" in sys.modules:
        sys.exit(preset)
"""
    assert run_python(code) == ""


def test_a_training_starts_without_what_is_slow_to_import(tmp_path):
    """Each takes 0.3 to 1 s: torch's compiler, what scikit-learn imports, and notebook widgets."""
    slow = "{'torch._dynamo', 'sympy', 'sklearn', 'scipy', 'pandas', 'ipywidgets'}"
    code = f"""
import sys, advnets
from advnets.cli.main import main
main(["train", "digits", "--steps", "1", "--sample-every", "0", "--out", {str(tmp_path / "run")!r}])
main(["sample", {str(tmp_path / "run")!r}, "--out", {str(tmp_path / "samples.npz")!r}])
import torch
from advnets.experiment.eval_interval import _extractor_cost
_extractor_cost(advnets.extractors.load_extractor("digits"), torch.rand(1, 1, 28, 28))
print(sorted({slow} & set(sys.modules)))
"""
    assert run_python(code).splitlines()[-1] == "[]"


SUBPACKAGES = [
    *("config", "data", "errors", "evaluation", "extractors", "games", "losses", "metrics"),
    *("models", "presets", "sampling", "theory", "visualize"),
]


def test_public_names():
    """A new public name has to be added here."""
    names = ["AdvnetsError", "Callback", "Comparison", "Config", "TrainedModel", "__version__"]
    names += ["compare", "evaluate", "load", "train"]
    assert sorted(advnets.__all__) == sorted([*names, *SUBPACKAGES])
    for name in advnets.__all__:
        assert getattr(advnets, name) is not None
    assert dir(advnets) == sorted(advnets.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nets'"):
        advnets.nets  # noqa: B018


@pytest.mark.parametrize("name", SUBPACKAGES)
def test_a_subpackage_is_reachable_after_import_advnets(name):
    """In a process of its own, in which nothing else has imported it."""
    assert run_python(f"import advnets; print(advnets.{name}.__name__)") == f"advnets.{name}"


@pytest.mark.parametrize("name", SUBPACKAGES)
def test_dir_of_a_subpackage_has_its_public_names_alone(name):
    """Not torch or math, which the module imports; each of the names can be imported."""
    package = getattr(advnets, name)
    assert dir(package) == sorted(package.__all__)
    for attribute in package.__all__:
        assert getattr(package, attribute) is not None


def test_a_mistyped_name_of_a_module_suggests_the_nearest():
    with pytest.raises(AttributeError, match=r"did you mean jensen_shannon\?"):
        theory.jensen_shanon  # noqa: B018


def test_public_metrics():
    """The same of `advnets.metrics` and `advnets.extractors`: each is what its module calls so."""
    assert metrics.__all__ == [
        "frechet_distance",
        "frechet_standard_error",
        "histogram_divergence",
        "inception_score",
        "memorization",
        "mixture_quality",
        "mode_coverage",
        "nearest_neighbor_test",
        "parzen_log_likelihood",
        "parzen_score",
        "polynomial_mmd",
        "prdc",
        "sliced_wasserstein",
    ]
    assert extractors.__all__ == ["ClassifierExtractor", "Extractor", "load_extractor"]
    for package in (metrics, extractors):
        for name in package.__all__:
            assert callable(getattr(package, name))
