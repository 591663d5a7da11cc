"""Contestants in turn, round after round; medians, ratios, goals."""

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
from advnets.bench.contenders import DRAWN, PEAKS, PRODUCT, Setting
from advnets.bench.processes import Process, Worker
from advnets.training.devices import cores, cpuinfo, has_bfloat16

_IMAGES = 2000
_WARM_UP = 1.0


@dataclass(frozen=True)
class Timing:
    """A median, with the least and the largest it was taken of."""

    median: float
    least: float
    largest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Timing:
        """Of some values."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Result:
    """What a row of the bench came to.

    Rates are units of work in a second (images; for `start`, 1 / seconds); `flops` are useful
    operations in a second; `peaks` those of a large matrix product, measured between the others, in
    the precisions that the processor has instructions for.
    """

    row: str
    about: str
    rates: dict[str, Timing]
    ratios: dict[str, Timing]
    """Of ours to each rival, round by round."""
    peak_bytes: dict[str, int]
    flops: float | None = None
    peaks: dict[str, float] = field(default_factory=dict[str, float])
    goals: dict[str, bool] = field(default_factory=dict[str, bool])
    """Each goal, and whether it was reached here; a share of a peak that is not here is no goal."""


def run(
    row: BenchCase, setting: Setting, rounds: int, seconds: float, told: Callable[[str], None]
) -> Result:
    """Measure a row: in each round every contestant works once, and so does each peak.

    Raises:
        AdvnetsError: a contestant cannot work; the message has its last words.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        taking_part: dict[str, Worker | Process] = {
            name: Process(row, name, setting, folder)
            if row.command
            else stack.enter_context(Worker(row.name, name, setting))
            for name in ("ours", *row.rivals)
        }
        peaks = {
            name: stack.enter_context(Worker("peak", name, setting))
            for name in PEAKS
            if row.flops and _has(name)
        }
        in_turn = [(name, who, seconds) for name, who in taking_part.items()]
        in_turn += [(f"peak {name}", worker, _WARM_UP) for name, worker in peaks.items()]
        for _, who, _ in in_turn:
            if isinstance(who, Worker):
                who.work(_WARM_UP)
        seen: dict[str, list[float]] = {name: [] for name, _, _ in in_turn}
        for number in range(rounds):
            for name, who, lasting in in_turn:
                told(f"{row.name}: round {number + 1} of {rounds}, {name}")
                seen[name].append(who.work(lasting))
        peak_bytes = {name: who.peak_bytes() for name, who in taking_part.items()}
    return _result(row, seen, peak_bytes)


def _has(precision: str) -> bool:
    """Whether products in it are worth a second: without instructions one takes minutes."""
    return precision != "bfloat16" or has_bfloat16(torch.device("cpu"))


def _result(row: BenchCase, seen: dict[str, list[float]], peak_bytes: dict[str, int]) -> Result:
    peaks = {
        name.removeprefix("peak "): 2.0 * PRODUCT**3 * statistics.median(values)
        for name, values in seen.items()
        if name.startswith("peak ")
    }
    rates = {name: Timing.of(seen[name]) for name in ("ours", *row.rivals)}
    ratios = {
        rival: Timing.of([a / b for a, b in zip(seen["ours"], seen[rival], strict=True)])
        for rival in row.rivals
    }
    flops = row.flops() * rates["ours"].median if row.flops else None
    goals = {
        goal.text: _reached(goal, rates, ratios, flops, peaks)
        for goal in row.goals
        if goal.share is None or goal.precision in peaks
    }
    return Result(row.name, row.about, rates, ratios, peak_bytes, flops, peaks, goals)


def _reached(
    goal: Goal,
    rates: dict[str, Timing],
    ratios: dict[str, Timing],
    flops: float | None,
    peaks: dict[str, float],
) -> bool:
    if goal.ratio is not None:
        return ratios[goal.rival].median >= goal.ratio
    if goal.share is not None:
        return (flops or 0.0) >= goal.share * peaks[goal.precision]
    return goal.seconds is not None and 1 / rates["ours"].median <= goal.seconds


def draw_images(folder: Path) -> Path:
    """Write JPEG files of 96 x 80, smooth colors from a fixed seed, for DCGAN to be fed with."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for number in range(_IMAGES):
        file = folder / f"{number:05d}.jpg"
        if not file.exists():
            colors = Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8))
            colors.resize((96, 80), Image.Resampling.BICUBIC).save(file, quality=90)
    return folder


def machine() -> dict[str, object]:
    """What the figures depend on."""
    return {
        "processor": cpuinfo("model name") or platform.processor() or platform.machine(),
        "cores": cores(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "samples": DRAWN,
    }
