import importlib
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def script(request, monkeypatch):
    """Import the script that a test file is named after, with its siblings importable."""
    monkeypatch.syspath_prepend(TOOLS)
    return importlib.import_module(request.path.stem.removeprefix("test_"))
