import pytest

from advnets.paper.blocks import SectionContext, Sources


@pytest.fixture
def context(tmp_path, console) -> SectionContext:
    """Return a section context at quick scale, with its own folders."""
    return SectionContext(
        folder=tmp_path / "part",
        runs_dir=tmp_path / "runs",
        full=False,
        seeds=1,
        sources=Sources(),
        data_dir=None,
        callback=console,
        log=lambda message: None,
    )
