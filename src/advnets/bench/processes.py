"""Contenders in processes of their own, whose memory the system measures.

`python -m advnets.bench.processes CASE CONTENDER DATA` is a worker. For each line of its input, a
number of seconds, it works for about that time and prints the units of work and the time as JSON;
at the end of its input it prints its peak memory.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from advnets.bench.cases import BenchCase
from advnets.bench.contenders import CONTENDERS, PEAKS, BenchData
from advnets.errors import AdvnetsError
from advnets.training.memory import peak_bytes, wait_for_peak

MNIST_IMAGES = 50_000
"""MNIST's training images; the last 10,000 of the file are for validation."""


class Worker:
    """A contender in a worker process that works on request."""

    def __init__(self, case: str, contender: str, data: BenchData) -> None:
        arguments = json.dumps({**asdict(data), "images": str(data.images)})
        self.process = subprocess.Popen(
            [sys.executable, "-m", "advnets.bench.processes", case, contender, arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def work(self, seconds: float) -> float:
        """Work for about this time; return the units of work a second.

        Raises:
            AdvnetsError: the process has ended.
        """
        answer = self._request(f"{seconds}\n")
        return answer["done"] / answer["seconds"]

    def peak_bytes(self) -> int:
        """End the process; return its peak memory in bytes, 0 if unknown."""
        return int(self._request("")["peak_bytes"] or 0)

    def _request(self, line: str) -> dict[str, Any]:
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
                f"a process of the benchmark failed: {(errors.strip().splitlines() or ['?'])[-1]}"
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
    """A command that is run repeatedly, measured until its end or until it prints `ready_text`."""

    def __init__(self, case: BenchCase, contender: str, data: BenchData, folder: Path) -> None:
        self.case, self.contender, self.data, self.folder = case, contender, data, folder
        self._runs, self._peak_bytes = 0, 0

    def work(self, _: float) -> float:
        """Run the command; return the units of work a second.

        Raises:
            AdvnetsError: the process failed.
        """
        self._runs += 1
        start, ready_text = time.perf_counter(), self.case.ready_text
        process = subprocess.Popen(
            [sys.executable, "-m", *self._command()],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        seconds, line = 0.0, "?"
        with process.stderr as errors:
            for line in errors:
                if ready_text and ready_text in line:
                    seconds = seconds or time.perf_counter() - start
        peak = wait_for_peak(process)
        if process.returncode:
            raise AdvnetsError(f"{self.case.name}, {self.contender}: {line.strip()}")
        self._peak_bytes = max(self._peak_bytes, peak)
        return 1 / seconds if ready_text else MNIST_IMAGES / (time.perf_counter() - start)

    def peak_bytes(self) -> int:
        """Return the largest peak memory of the runs in bytes, 0 if unknown."""
        return self._peak_bytes

    def _command(self) -> tuple[str, ...]:
        directory = self.data.data_dir
        if self.contender != "ours":
            return ("advnets.bench.baselines", directory or "")
        data = ("--data-dir", directory) if directory else ()
        out = self.folder / f"run{self._runs}"
        return ("advnets", *self.case.command, *data, "--out", str(out))


def block(work: Iterator[int], seconds: float) -> dict[str, float]:
    """Work for about this time; return the units of work and the time."""
    start, done, elapsed = time.perf_counter(), 0, 0.0
    while not done or elapsed < seconds:
        done += next(work)
        elapsed = time.perf_counter() - start
    return {"done": done, "seconds": elapsed}


def main(case: str, contender: str, data: str) -> None:
    """Answer requests until the end of the input."""
    fields = json.loads(data)
    contenders = PEAKS if case == "peak" else CONTENDERS[case]
    work = contenders[contender](BenchData(Path(fields["images"]), fields["data_dir"]))
    for line in sys.stdin:
        print(json.dumps(block(work, float(line))), flush=True)
    print(json.dumps({"peak_bytes": peak_bytes(torch.device("cpu"))}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
