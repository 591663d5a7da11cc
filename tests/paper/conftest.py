from __future__ import annotations

import pytest

from advnets.paper.blocks import Setting, Sources


@pytest.fixture
def setting(tmp_path, quiet) -> Setting:
    """What a part is given at quick scale, with folders of its own."""
    return Setting(
        folder=tmp_path / "part",
        runs=tmp_path / "runs",
        full=False,
        seeds=1,
        sources=Sources(),
        data_dir=None,
        watcher=quiet,
        tell=lambda what: None,
    )
