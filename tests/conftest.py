import math
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from advnets import config, presets
from advnets.cli.console import Console
from advnets.cli.main import main
from advnets.training.callback import Callback

# One thread is fast enough for the small nets, and makes sums the same on every machine.
torch.set_num_threads(1)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip the tests that need a CUDA device where there is none."""
    if item.get_closest_marker("cuda") and not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")


@pytest.fixture
def tiny() -> config.Config:
    """Return a small `digits` config with every kind of state: batch norm, momentum, EMA."""
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
def console() -> Console:
    """Return callbacks that print, to be captured by pytest."""
    return Console()


class Crash(BaseException):
    """An exception that nothing in the package handles."""


class Crashing(Callback):
    """A callback that raises at a step, as if the process had died: nothing is saved."""

    error = Crash

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step(self, step: int) -> None:
        if step == self.step:
            raise Crash


@pytest.fixture
def crashing() -> type[Crashing]:
    """Return the callback that raises its `error` after a step."""
    return Crashing


@pytest.fixture
def run_command(capsys):
    """Run a command; return its exit status, stdout and stderr."""

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
def with_curves() -> None:
    """Draw the training curves of reports, which other tests skip."""


@pytest.fixture(autouse=True)
def skip_training_curves(request, monkeypatch) -> None:
    """Replace the training curves by nothing, which saves a second per report."""
    if "with_curves" not in request.fixturenames:
        monkeypatch.setattr("advnets.report.run_report.training_curves", lambda *_, **__: b"")


@pytest.fixture(autouse=True)
def idle_cores(monkeypatch) -> None:
    """Report idle cores, as the tests run beside each other: no trial chooses the threads."""
    monkeypatch.setattr("advnets.training.devices.core_share", lambda _: 1.0)


@pytest.fixture(autouse=True)
def torch_as_started() -> None:
    """Reset what trainings change for the whole process: torch's denormal mode and generator."""
    torch.set_flush_denormal(False)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real datasets, or skip the test."""
    folder = os.environ.get("ADVNETS_DATA")
    if not folder:
        pytest.skip("ADVNETS_DATA is not set: no real data on this machine")
    return Path(folder)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set an empty cache folder, so that nothing is written to the user's."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("ADVNETS_CACHE", str(folder))
    return folder


@pytest.fixture
def events() -> list[dict[str, Any]]:
    """Return the events of 12,000 steps, in which D is ahead at first and G catches up."""
    events: list[dict[str, Any]] = [
        {"kind": "start", "time": 1.75e9, "step": 0, "steps": 12000, "device": "cpu"}
    ]
    for step in range(500, 12001, 500):
        lead = 0.45 * math.exp(-step / 4000) + 0.01 * math.sin(step)
        real, fake = 0.5 + lead, 0.5 - lead
        metrics = {"d_real": real, "d_fake": fake, "value": math.log(real) + math.log(1 - fake)}
        time = {"seconds": 12.3, "images_per_second": 4100.0}
        epoch = step * 100 / 1197
        events.append({"kind": "log", "step": step, "epoch": epoch} | time | metrics)
        if step % 2000 == 0:
            score = {"mean": 20 - 40 * math.exp(-step / 3000), "standard_error": 0.9, "sigma": 0.2}
            kind = {"kind": "evaluate", "metric": "parzen", "weights": "last"}
            events.append(kind | {"step": step, "epoch": epoch} | score)
    events.append({"kind": "end", "step": 12000, "reason": "done"})
    return events


class _WithoutMatplotlib:
    """An import finder that fails for matplotlib."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] == "matplotlib":
            raise ModuleNotFoundError(f"No module named {name!r}", name="matplotlib")


@pytest.fixture
def without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make imports of matplotlib fail."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [_WithoutMatplotlib(), *sys.meta_path])
