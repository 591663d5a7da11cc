from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

MAIN = "import sys; from advnets.cli.main import main; sys.exit(main())"
STEPS = 600
DIGITS = (
    *("digits", "--steps", str(STEPS), "--batch-size", "20", "--threads", "1"),
    *(
        "--generator.hidden-sizes",
        "16",
        "--generator.activations",
        "relu",
        "--generator.batch-norm",
    ),
    *("--discriminator.hidden-sizes", "8", "--discriminator.pieces", "2", "--precision", "float32"),
)
INTERVALS = ("--log-every", "50", "--sample-every", "0", "--checkpoint-every", "5")
PATIENCE = 400.0
"""Seconds after which a process counts as hanging; a busy machine takes a minute for some."""


def default_signals() -> None:
    """Restore the signals that background jobs and nohup ignore."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


class Trained:
    """A run directory, and child processes that train it and can be killed."""

    def __init__(self, path: Path, arguments: Sequence[str] = DIGITS, steps: int = STEPS) -> None:
        self.path, self.arguments, self.steps = path, arguments, steps

    def begin(self, *more: str, code: str = MAIN, **options) -> subprocess.Popen[str]:
        """Train from the start."""
        return self.start([*self.arguments, *INTERVALS, *more], code, **options)

    def resume(self, *more: str, **options) -> subprocess.Popen[str]:
        """Resume the training."""
        return self.start(["--resume", *more], **options)

    def start(self, arguments: list[str], code: str = MAIN, **options) -> subprocess.Popen[str]:
        """Run `advnets train` with these arguments, and the run directory as --out."""
        options.setdefault("preexec_fn", default_signals)
        return subprocess.Popen(
            [sys.executable, "-c", code, "train", *arguments, "--out", str(self.path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"ADVNETS_DATA": ""},
            **options,
        )

    @staticmethod
    def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
        """Resume to the end; return exit status and output."""
        out, err = process.communicate(timeout=PATIENCE)
        return process.returncode, out, err

    def wait_for_checkpoint(self, process: subprocess.Popen[str], after: int = 0) -> None:
        """Wait until there is a checkpoint beyond step `after`."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and process.poll() is None:
            if self.newest > after:
                return
            time.sleep(0.005)

    @property
    def newest(self) -> int:
        """Return the step of the newest checkpoint, or -1."""
        files = (self.path / "checkpoints").glob("step-*.safetensors")
        return max((int(file.stem[5:]) for file in files), default=-1)

    @property
    def end(self) -> bytes:
        """Return the bytes of the last checkpoint."""
        return (self.path / "checkpoints" / f"step-{self.steps:08d}.safetensors").read_bytes()


@pytest.fixture
def run(tmp_path) -> Trained:
    """Return a run with batch norm, both optimizers, an EMA, sums of metrics and a position."""
    return Trained(tmp_path / "run")


@pytest.fixture
def run_of(tmp_path) -> Callable[..., Trained]:
    """Return a run of this many steps with these arguments, in a directory of that name."""
    return lambda name, arguments=DIGITS, steps=STEPS: Trained(tmp_path / name, arguments, steps)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> bytes:
    """Return the last checkpoint of an uninterrupted `run`."""
    reference = Trained(tmp_path_factory.mktemp("reference") / "run")
    code, _, err = reference.finish(reference.begin())
    assert code == 0, err
    return reference.end


@pytest.fixture
def begin_sweep(tmp_path) -> Callable[[int], subprocess.Popen[str]]:
    """Start a sweep of two seeds of `run` in the test's directory, with so many jobs."""

    def begin(jobs: int) -> subprocess.Popen[str]:
        options = ["digits", "--seeds", "2", "--jobs", str(jobs), "--metrics", "frechet"]
        options += ["--evaluate=--num-samples 100", "--", *DIGITS[1:], *INTERVALS]
        return subprocess.Popen(
            [sys.executable, "-c", MAIN, "sweep", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env=os.environ | {"ADVNETS_DATA": ""},
        )

    return begin
