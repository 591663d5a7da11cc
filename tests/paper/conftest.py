from __future__ import annotations

import pytest

from advnets.paper.part import Setting, Sources


class Quiet:
    """A watcher that looks away."""

    def event(self, event):
        pass

    def progress(self, step):
        pass


@pytest.fixture
def setting(tmp_path) -> Setting:
    """What a part is given at quick scale, with folders of its own."""
    return Setting(
        folder=tmp_path / "part",
        runs=tmp_path / "runs",
        full=False,
        seeds=1,
        sources=Sources(),
        data_dir=None,
        watcher=Quiet(),
        tell=lambda what: None,
    )
