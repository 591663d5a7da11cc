"""Measurement of a case: contenders in processes of their own, round after round; goals.

`python -m advnets.bench.runner CASE CONTENDER DATA` is such a process, whose memory the system
measures. For each line of its input, a number of seconds, it works for about that time and prints
the units of work and the time as JSON; at the end of its input it prints its peak memory.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from PIL import Image

from advnets.bench.baselines import SHAPES
from advnets.bench.cases import BenchCase, Goal
from advnets.bench.contenders import (
    CONTENDERS,
    MATMUL_SIZE,
    NUM_SAMPLES,
    PEAKS,
    BenchData,
    uses_color_images,
)
from advnets.errors import AdvnetsError
from advnets.run_directory import RunDirectory
from advnets.training.devices import cpuinfo, has_bfloat16, num_cores
from advnets.training.memory import peak_bytes, wait_for_peak

MNIST_IMAGES, COLOR_IMAGES = 50_000, 2_000
"""MNIST's training images (the last 10,000 of the file are for validation), and JPEG files."""


class Worker:
    """A contender in a worker process that works on request."""

    def __init__(self, case: str, contender: str, data: BenchData) -> None:
        arguments = json.dumps({**asdict(data), "images": str(data.images)})
        self.process: subprocess.Popen[str] = subprocess.Popen(
            [sys.executable, "-m", "advnets.bench.runner", case, contender, arguments],
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
        self.case: BenchCase = case
        self.contender: str = contender
        self.data: BenchData = data
        self.folder: Path = folder
        self._runs, self._peak_bytes = 0, 0

    def work(self, _: float) -> float:
        """Run the command; return the units of work a second.

        Raises:
            AdvnetsError: the process failed.
        """
        self._runs += 1
        start, ready_text = time.perf_counter(), self.case.ready_text
        out = self.folder / f"run{self._runs}"
        process = subprocess.Popen(
            [sys.executable, "-m", *self._command(out)],
            env={**os.environ, "ADVNETS_CACHE": str(out.with_suffix(".cache"))},
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
        seconds = seconds or time.perf_counter() - start
        return (1 if ready_text else self._num_images(out)) / seconds

    def peak_bytes(self) -> int:
        """Return the largest peak memory of the runs in bytes, 0 if unknown."""
        return self._peak_bytes

    def _command(self, out: Path) -> tuple[str, ...]:
        preset, directory = self.case.command[1], self.data.data_dir
        in_color = preset in SHAPES and uses_color_images(preset)
        if self.contender != "advnets":
            folder = str(self.data.images) if in_color else directory or ""
            return ("advnets.bench.baselines", preset, folder)
        data = ("--data-dir", directory) if directory else ()
        data = ("--data", str(self.data.images)) if in_color else data
        return ("advnets", *self.case.command, *data, "--out", str(out))

    def _num_images(self, out: Path) -> int:
        """Return the number of images of an epoch; a run keeps some for validation and tests."""
        if self.contender == "advnets":
            return next(iter(RunDirectory(out).events()))["data"]["train"]
        return COLOR_IMAGES if uses_color_images(self.case.command[1]) else MNIST_IMAGES


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


_WARM_UP = 1.0
"""Seconds for which each contender works before it is measured."""


@dataclass(frozen=True)
class Summary:
    """The median, minimum and maximum of some measurements."""

    median: float
    min: float
    max: float

    @classmethod
    def from_values(cls, values: Sequence[float]) -> Summary:
        """Return the summary of some values."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Result:
    """The measurements of a case."""

    case: str
    description: str
    rates: dict[str, Summary]
    """Units of work per second of each contender: images, or processes for `start`."""
    ratios: dict[str, Summary]
    """The ratio of the rate of advnets to that of each baseline in the same round."""
    peak_bytes: dict[str, int]
    flops: float | None = None
    """Useful floating-point operations per second."""
    peaks: dict[str, float] = field(default_factory=dict[str, float])
    """Operations per second of a large matrix product, by precision that the CPU supports."""
    goals: dict[str, bool] = field(default_factory=dict[str, bool])
    """Whether each goal was reached, without goals for a precision that is not in `peaks`."""


def run_case(
    case: BenchCase,
    data: BenchData,
    rounds: int,
    seconds: float,
    report_progress: Callable[[str], None],
) -> Result:
    """Measure a case: in each round every contender works once, and so does each matrix product.

    Raises:
        AdvnetsError: a contender failed; the message has the last line that it printed.
    """
    with ExitStack() as stack:
        # Start the contenders, and a worker for each peak.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        contenders: dict[str, Worker | Process] = {
            name: Process(case, name, data, folder)
            if case.command
            else stack.enter_context(Worker(case.name, name, data))
            for name in ("advnets", *case.baselines)
        }
        peaks = {
            name: stack.enter_context(Worker("peak", name, data))
            for name in PEAKS
            if case.flops and _is_fast(name)
        }
        participants = [(name, contender, seconds) for name, contender in contenders.items()]
        participants += [(f"peak {name}", worker, _WARM_UP) for name, worker in peaks.items()]

        # Warm up, then measure all in turn, so that other load on the machine affects all alike.
        for _, contender, _ in participants:
            if isinstance(contender, Worker):
                contender.work(_WARM_UP)
        rates: dict[str, list[float]] = {name: [] for name, _, _ in participants}
        for number in range(rounds):
            for name, contender, duration in participants:
                report_progress(f"{case.name}: round {number + 1} of {rounds}, {name}")
                rates[name].append(contender.work(duration))
        peak_bytes = {name: contender.peak_bytes() for name, contender in contenders.items()}
    return _result(case, rates, peak_bytes)


def _is_fast(precision: str) -> bool:
    """Return whether the CPU has instructions for products; without them one takes minutes."""
    return precision != "bfloat16" or has_bfloat16(torch.device("cpu"))


def _result(
    case: BenchCase, rates_by_round: dict[str, list[float]], peak_bytes: dict[str, int]
) -> Result:
    peaks = {
        name.removeprefix("peak "): 2.0 * MATMUL_SIZE**3 * statistics.median(values)
        for name, values in rates_by_round.items()
        if name.startswith("peak ")
    }
    rates = {
        name: Summary.from_values(rates_by_round[name]) for name in ("advnets", *case.baselines)
    }
    ratios = {
        name: Summary.from_values(
            [a / b for a, b in zip(rates_by_round["advnets"], rates_by_round[name], strict=True)]
        )
        for name in case.baselines
    }
    flops = case.flops() * rates["advnets"].median if case.flops else None
    goals = {
        goal.text: _is_reached(goal, rates, ratios, flops, peaks)
        for goal in case.goals
        if goal.peak_fraction is None or goal.precision in peaks
    }
    return Result(case.name, case.description, rates, ratios, peak_bytes, flops, peaks, goals)


def _is_reached(
    goal: Goal,
    rates: dict[str, Summary],
    ratios: dict[str, Summary],
    flops: float | None,
    peaks: dict[str, float],
) -> bool:
    if goal.ratio is not None:
        return ratios[goal.baseline].median >= goal.ratio
    if goal.peak_fraction is not None:
        return (flops or 0.0) >= goal.peak_fraction * peaks[goal.precision]
    return goal.seconds is not None and 1 / rates["advnets"].median <= goal.seconds


def make_images(folder: Path) -> Path:
    """Write JPEG files of 96 x 80 pixels, smooth random colors of a fixed seed, for DCGAN."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for number in range(COLOR_IMAGES):
        file = folder / f"{number:05d}.jpg"
        if not file.exists():
            colors = Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8))
            colors.resize((96, 80), Image.Resampling.BICUBIC).save(file, quality=90)
    return folder


def machine_info() -> dict[str, object]:
    """Return what the results depend on: CPU, cores, and versions."""
    return {
        "processor": cpuinfo("model name") or platform.processor() or platform.machine(),
        "cores": num_cores(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "samples": NUM_SAMPLES,
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
