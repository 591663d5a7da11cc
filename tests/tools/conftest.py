from __future__ import annotations

import importlib
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def script(request, monkeypatch):
    """The script that a file of tests is named after, its siblings at hand as when it is run."""
    monkeypatch.syspath_prepend(TOOLS)
    return importlib.import_module(request.path.stem.removeprefix("test_"))
