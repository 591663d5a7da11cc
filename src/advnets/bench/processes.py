"""Those who take part, each in a process of its own, whose memory the system counts."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from advnets.bench.cases import BenchCase
from advnets.bench.contenders import Setting
from advnets.errors import AdvnetsError
from advnets.training.memory import wait_for_peak

TRAINED = 50_000
"""MNIST's training images of one epoch; the last 10,000 are for validation."""


class Worker:
    """A contestant in a process of its own, working when told to."""

    def __init__(self, row: str, who: str, setting: Setting) -> None:
        told = json.dumps({**asdict(setting), "images": str(setting.images)})
        self.process = subprocess.Popen(
            [sys.executable, "-m", "advnets.bench.worker", row, who, told],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def work(self, seconds: float) -> float:
        """Units of work in a second.

        Raises:
            AdvnetsError: the process has ended.
        """
        said = self._ask(f"{seconds}\n")
        return said["done"] / said["seconds"]

    def peak_bytes(self) -> int:
        """Return the most memory held, 0 where the system does not tell; the process ends."""
        return int(self._ask("")["peak_bytes"] or 0)

    def _ask(self, line: str) -> dict[str, Any]:
        process = self.process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            if line:
                process.stdin.write(line)
                process.stdin.flush()
            else:
                process.stdin.close()
            return json.loads(process.stdout.readline())
        except (OSError, ValueError):
            process.kill()
            process.wait()
            errors = process.stderr.read() if process.stderr else ""
            raise AdvnetsError(
                f"a process of the bench ended: {(errors.strip().splitlines() or ['?'])[-1]}"
            ) from None

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, t: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()


class Process:
    """A whole process, again and again: from typing to its end, or to a text that is waited for."""

    def __init__(self, row: BenchCase, who: str, setting: Setting, folder: Path) -> None:
        self.row, self.who, self.setting, self.folder = row, who, setting, folder
        self._times, self._most = 0, 0

    def work(self, _: float) -> float:
        """Units of work in a second.

        Raises:
            AdvnetsError: the process failed.
        """
        self._times += 1
        began, until = time.perf_counter(), self.row.until
        process = subprocess.Popen(
            [sys.executable, "-m", *self._command()],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        passed, said = 0.0, "?"
        with process.stderr as errors:
            for said in errors:
                if until and until in said:
                    passed = passed or time.perf_counter() - began
        peak = wait_for_peak(process)
        if process.returncode:
            raise AdvnetsError(f"{self.row.name}, {self.who}: {said.strip()}")
        self._most = max(self._most, peak)
        return 1 / passed if until else TRAINED / (time.perf_counter() - began)

    def peak_bytes(self) -> int:
        """Return the most memory held by any of the processes, 0 where the system does not tell."""
        return self._most

    def _command(self) -> tuple[str, ...]:
        directory = self.setting.data_dir
        if self.who != "ours":
            return ("advnets.bench.epoch", directory or "")
        data = ("--data-dir", directory) if directory else ()
        out = self.folder / f"run{self._times}"
        return ("advnets", *self.row.command, *data, "--out", str(out))
