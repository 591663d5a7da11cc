"""Measurement of a case: contenders in turn, round after round; medians, ratios and goals."""

from __future__ import annotations

import platform
import statistics
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from advnets.bench.cases import BenchCase, Goal
from advnets.bench.contenders import MATMUL_SIZE, NUM_SAMPLES, PEAKS, BenchData
from advnets.bench.processes import Process, Worker
from advnets.training.devices import cpuinfo, has_bfloat16, num_cores

_NUM_IMAGES = 2000
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
    """By contender, units of work (images; for `start`, processes) a second."""
    ratios: dict[str, Summary]
    """By baseline, the ratio of our rate to its rate in the same round."""
    peak_bytes: dict[str, int]
    flops: float | None = None
    """Useful floating-point operations a second."""
    peaks: dict[str, float] = field(default_factory=dict[str, float])
    """Operations a second of a large matrix product, in the precisions that the CPU supports."""
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
            for name in ("ours", *case.baselines)
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
    rates = {name: Summary.from_values(rates_by_round[name]) for name in ("ours", *case.baselines)}
    ratios = {
        name: Summary.from_values(
            [a / b for a, b in zip(rates_by_round["ours"], rates_by_round[name], strict=True)]
        )
        for name in case.baselines
    }
    flops = case.flops() * rates["ours"].median if case.flops else None
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
    return goal.seconds is not None and 1 / rates["ours"].median <= goal.seconds


def make_images(folder: Path) -> Path:
    """Write JPEG files of 96 x 80 pixels, smooth random colors of a fixed seed, for DCGAN."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for number in range(_NUM_IMAGES):
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
