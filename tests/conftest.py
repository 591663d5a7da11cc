from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from advnets import config, presets
from advnets.cli.console import Console
from advnets.cli.main import main

# Two cores, and pytest's own work beside the nets': one thread is both fast and the same anywhere.
torch.set_num_threads(1)


@pytest.fixture
def tiny() -> config.Config:
    """The digits preset, small and quick, with everything that has state in it:
    batch norm, momentum, a weight average, dropout."""
    stage = config.Stage(
        generator=config.MLPGenerator(
            latent_dim=8, hidden_sizes=(16,), activations=("relu",), batch_norm=True
        ),
        discriminator=config.MaxoutDiscriminator(hidden_sizes=(8,), pieces=2, init_range=0.05),
        generator_optimizer=config.Adam(),
        discriminator_optimizer=config.SGD(lr=0.05),
        steps=60,
        ema_half_life=300,
    )
    return replace(
        presets.get_preset("digits"),
        data=config.Data(source="digits", batch_size=20),
        stages=(stage,),
        intervals=config.Intervals(log_every=10, sample_every=30, checkpoint_every=20),
        runtime=config.Runtime(device="cpu", precision="float32", threads=1),
    )


@pytest.fixture
def quiet() -> Console:
    """A watcher whose words pytest keeps."""
    return Console()


@pytest.fixture
def said(capsys):
    """Run a command; its exit status, and what it printed on either stream."""

    def run(*arguments):
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as exit_:
            code = exit_.code or 0
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture
def drawn() -> None:
    """Asked for by tests that look at the curves; the others are spared the drawing of them."""


@pytest.fixture(autouse=True)
def spared(request, monkeypatch) -> None:
    """Not of those that are made once for a file."""
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr("advnets.report.run_report.training_curves", lambda *_, **__: b"")


@pytest.fixture(autouse=True)
def torch_as_started() -> None:
    """A training flushes denormal numbers for the whole process, and every net drawn moves torch's
    generator: the next test finds both as they were, whichever ran before it."""
    torch.set_flush_denormal(False)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets, or a skip that says what is missing."""
    folder = os.environ.get("ADVNETS_DATA")
    if not folder:
        pytest.skip("ADVNETS_DATA is not set: no real data on this machine")
    return Path(folder)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own: nothing is written to the user's."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("ADVNETS_CACHE", str(folder))
    return folder
