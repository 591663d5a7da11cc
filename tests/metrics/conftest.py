import importlib
import sys
from collections.abc import Callable
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from unittest import mock

import pytest

APART = str(Path(sys.prefix) / "apart")


@pytest.fixture
def peer() -> Callable[[str], ModuleType]:
    """Return a function that imports another implementation, or skips the test."""

    def find(name: str) -> ModuleType:
        reason = f"{name.partition('.')[0]} is not installed, or not whole: pip install -e '.[dev]'"
        return pytest.importorskip(name, reason=reason, exc_type=ImportError)

    return find


@pytest.fixture
def fidelity(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Return a function that imports a module of torch-fidelity, or skips the test."""

    def find(name: str) -> ModuleType:
        spec = PathFinder.find_spec("torch_fidelity", [APART])
        if spec is None or spec.submodule_search_locations is None:
            pytest.skip(f"torch-fidelity is not installed in {APART}: make lint")
        package = ModuleType("torch_fidelity")
        package.__path__ = list(spec.submodule_search_locations)
        monkeypatch.setitem(sys.modules, "torch_fidelity", package)
        monkeypatch.setitem(sys.modules, "torch_fidelity.utils", mock.MagicMock())
        module = importlib.import_module(f"torch_fidelity.{name}")
        for imported in [part for part in sys.modules if part.startswith("torch_fidelity.")]:
            del sys.modules[imported]
        return module

    return find
