"""Fixtures of a short training and its run."""

from pathlib import Path

import pytest

from advnets.cli.main import main


@pytest.fixture(scope="session")
def quick() -> list[str]:
    """Return options of a training that takes seconds."""
    return [
        *("--steps", "30", "--threads", "1", "--precision", "float32"),
        *("--generator.hidden-sizes", "16", "16", "--discriminator.hidden-sizes", "8", "8"),
        *("--log-every", "10", "--sample-every", "30", "--checkpoint-every", "10"),
    ]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, quick) -> Path:
    run = tmp_path_factory.mktemp("runs") / "digits"
    assert main(["train", "digits", "--out", str(run), *quick]) == 0
    return run
