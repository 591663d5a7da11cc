"""Contestants in turn, round after round, each in a process of its own; medians and ratios."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from PIL import Image

from advnets.bench.contestants import DRAWN, PEAKS, PRODUCT, Setting
from advnets.bench.rows import Goal, Row
from advnets.errors import AdvnetsError

_PICTURES = 2000
_WARM_UP = 1.0


@dataclass(frozen=True)
class Spread:
    """A median, with the least and the largest it was taken of."""

    median: float
    least: float
    largest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of some values."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Result:
    """What a row of the bench came to.

    Rates are units of work in a second (pictures; for `start`, 1 / seconds); `flops` are useful
    operations in a second; `peaks` those of a large matrix product, measured between the others.
    """

    row: str
    about: str
    rates: dict[str, Spread]
    ratios: dict[str, Spread]
    """Of ours to each rival, round by round."""
    peak_bytes: dict[str, int]
    flops: float | None = None
    peaks: dict[str, float] = field(default_factory=dict[str, float])
    goals: dict[str, bool] = field(default_factory=dict[str, bool])
    """Each goal, and whether it was reached here."""


class Worker:
    """A contestant in a process of its own, working when told to."""

    def __init__(self, row: str, who: str, setting: Setting) -> None:
        told = json.dumps({**asdict(setting), "pictures": str(setting.pictures)})
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
        """Most memory held; the process ends."""
        return int(self._ask("")["peak_bytes"])

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


def run(
    row: Row, setting: Setting, rounds: int, seconds: float, told: Callable[[str], None]
) -> Result:
    """Measure a row: in each round every contestant works once, and so does each peak.

    Raises:
        AdvnetsError: a contestant cannot work; the message has its last words.
    """
    with ExitStack() as stack:
        contestants: dict[str, Callable[[], float]] = {}
        workers: dict[str, Worker] = {}
        who = ("ours", *row.rivals)
        if row.command:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            contestants = {name: _process(row, name, setting, folder) for name in who}
        else:
            for name in who:
                workers[name] = stack.enter_context(Worker(row.name, name, setting))
                workers[name].work(_WARM_UP)
        peaks = {
            name: stack.enter_context(Worker("peak", name, setting)) for name in PEAKS if row.flops
        }
        for worker in peaks.values():
            worker.work(_WARM_UP)
        contestants |= {name: _working(worker, seconds) for name, worker in workers.items()}
        contestants |= {f"peak {name}": _working(w, _WARM_UP) for name, w in peaks.items()}
        seen: dict[str, list[float]] = {name: [] for name in contestants}
        for number in range(rounds):
            for name, work in contestants.items():
                told(f"{row.name}: round {number + 1} of {rounds}, {name}")
                seen[name].append(work())
        peak_bytes = {name: worker.peak_bytes() for name, worker in workers.items()}
    return _result(row, seen, peak_bytes)


def _working(worker: Worker, seconds: float) -> Callable[[], float]:
    return lambda: worker.work(seconds)


def _result(row: Row, seen: dict[str, list[float]], peak_bytes: dict[str, int]) -> Result:
    peaks = {
        name.removeprefix("peak "): 2.0 * PRODUCT**3 * statistics.median(values)
        for name, values in seen.items()
        if name.startswith("peak ")
    }
    rates = {name: Spread.of(seen[name]) for name in ("ours", *row.rivals)}
    ratios = {
        rival: Spread.of([a / b for a, b in zip(seen["ours"], seen[rival], strict=True)])
        for rival in row.rivals
    }
    flops = row.flops() * rates["ours"].median if row.flops else None
    goals = {goal.text: _reached(goal, rates, ratios, flops, peaks) for goal in row.goals}
    return Result(row.name, row.about, rates, ratios, peak_bytes, flops, peaks, goals)


def _reached(
    goal: Goal,
    rates: dict[str, Spread],
    ratios: dict[str, Spread],
    flops: float | None,
    peaks: dict[str, float],
) -> bool:
    if goal.ratio is not None:
        return ratios[goal.rival].median >= goal.ratio
    if goal.share is not None:
        return (flops or 0.0) >= goal.share * peaks[goal.precision]
    return goal.seconds is not None and 1 / rates["ours"].median <= goal.seconds


def _process(row: Row, who: str, setting: Setting, folder: Path) -> Callable[[], float]:
    """A whole process, from typing to its end or to the text that is waited for."""
    numbers = iter(range(1_000_000))

    def once() -> float:
        data = ("--data-dir", setting.data_dir) if setting.data_dir else ()
        ours = ("advnets", *row.command, *data, "--out", str(folder / f"run{next(numbers)}"))
        theirs = ("advnets.bench.epoch", setting.data_dir or "")
        began = time.perf_counter()
        with subprocess.Popen(
            [sys.executable, "-m", *(ours if who == "ours" else theirs)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stderr is not None
            said: list[str] = []
            for line in process.stderr:
                said.append(line)
                if row.until and row.until in line:
                    passed = time.perf_counter() - began
                    break
            else:
                process.wait()
                passed = time.perf_counter() - began
            process.communicate()
        if process.returncode:
            raise AdvnetsError(f"{row.name}, {who}: {(said or ['?'])[-1].strip()}")
        return (1 if row.until else TRAINED) / passed

    return once


TRAINED = 50_000
"""MNIST's training pictures of one epoch; the last 10,000 are for validation."""


def draw_pictures(folder: Path) -> Path:
    """Write JPEG files of 96 x 80, smooth colours from a fixed seed, for DCGAN to be fed with."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for number in range(_PICTURES):
        file = folder / f"{number:05d}.jpg"
        if not file.exists():
            colours = Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8))
            colours.resize((96, 80), Image.Resampling.BICUBIC).save(file, quality=90)
    return folder


def machine() -> dict[str, object]:
    """What the figures depend on."""
    import platform

    import torch

    names = [
        line.partition(":")[2].strip()
        for line in _lines(Path("/proc/cpuinfo"))
        if line.startswith("model name")
    ]
    return {
        "processor": (names or [platform.processor() or platform.machine()])[0],
        "cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "samples": DRAWN,
    }


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
