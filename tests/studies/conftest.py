import importlib
from pathlib import Path

import pytest

STUDIES = Path(__file__).parents[2] / "studies"


@pytest.fixture
def script(request, monkeypatch):
    """Import the script that a test file is named after, with its siblings importable."""
    monkeypatch.syspath_prepend(STUDIES)
    monkeypatch.syspath_prepend(STUDIES.parent / "tools")
    return importlib.import_module(request.path.stem.removeprefix("test_"))
