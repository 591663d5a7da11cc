"""A short training, and a run of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from advnets import cli


@pytest.fixture(scope="session")
def quick() -> list[str]:
    """A training of seconds."""
    return [
        *("--steps", "30", "--threads", "1", "--precision", "float32"),
        *("--generator.hidden", "16", "16", "--discriminator.units", "8", "8"),
        *("--ticks.log", "10", "--ticks.samples", "30", "--ticks.checkpoint", "10"),
    ]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, quick) -> Path:
    run = tmp_path_factory.mktemp("runs") / "digits"
    assert cli.main(["train", "digits", "--out", str(run), *quick]) == 0
    return run
