from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from importlib.util import find_spec
from types import ModuleType
from unittest import mock

import pytest


@pytest.fixture
def peer() -> Callable[[str], ModuleType]:
    """A module of a package that computes the same, or a skip that says what is missing."""

    def find(name: str) -> ModuleType:
        reason = f"{name.partition('.')[0]} is not installed, or not whole: pip install -e '.[dev]'"
        return pytest.importorskip(name, reason=reason, exc_type=ImportError)

    return find


@pytest.fixture
def fidelity(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """A module of torch-fidelity, whose front door asks for torchvision, or a skip."""

    def find(name: str) -> ModuleType:
        spec = find_spec("torch_fidelity")
        if spec is None or spec.submodule_search_locations is None:
            pytest.skip("torch-fidelity is not installed; it needs torchvision, so dev has it not")
        try:
            return importlib.import_module(f"torch_fidelity.{name}")
        except ImportError:
            package = ModuleType("torch_fidelity")
        # Past the front door, and without what fetches features: formulas take them as they are.
        package.__path__ = list(spec.submodule_search_locations)
        monkeypatch.setitem(sys.modules, "torch_fidelity", package)
        monkeypatch.setitem(sys.modules, "torch_fidelity.utils", mock.MagicMock())
        module = importlib.import_module(f"torch_fidelity.{name}")
        for imported in [part for part in sys.modules if part.startswith("torch_fidelity.")]:
            monkeypatch.delitem(sys.modules, imported)
        return module

    return find
