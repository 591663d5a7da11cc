"""Train with gradient penalties and print speed and memory every minute.

python studies/steady.py [MINUTES] [--float32] [--no-flush]

The networks of preset `mlp` on MNIST (ADVNETS_DATA), R1 and R2 of weight 1 at every step, one
thread. With --no-flush denormal numbers (below 1e-38) are not flushed to zero, the CPU's
default.
"""

from __future__ import annotations

import resource
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from advnets import config, presets
from advnets.data.prepared import open_data
from advnets.experiment import setup
from advnets.training import devices
from advnets.training.step import train_step


def resident_mib() -> int:
    """Return the resident memory in MiB, or its maximum where Linux's is unavailable."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS"))) >> 10


def main(minutes: int, *, precision: Literal["auto", "float32"], flush: bool) -> None:
    """Train and print."""
    start = presets.get_preset("mlp")
    game = replace(start.stage.game, r1=1.0, r2=1.0)
    start = start.with_stage(replace(start.stage, game=game))
    data = open_data(start.data)
    runtime = devices.resolve(config.Runtime("cpu", precision, threads=1))
    run = setup.resolve_config(start, data.info, runtime)
    device = devices.setup_process(run.runtime)
    torch.set_flush_denormal(flush)
    state = setup.make_train_state(run, data, 0, device)
    for _ in range(20):
        train_step(state)
    print(f"minute  ms/step  CPU ms/step  MiB   ({run.runtime.precision}, flush {flush})")
    cpu_times: list[float] = []
    for minute in range(1, minutes + 1):
        start, worked, steps = time.perf_counter(), time.process_time(), 0
        while time.perf_counter() - start < 60:
            train_step(state)
            steps += 1
        wall = (time.perf_counter() - start) / steps * 1e3
        cpu_times.append((time.process_time() - worked) / steps * 1e3)
        print(f"{minute:6} {wall:8.2f} {cpu_times[-1]:12.2f} {resident_mib():6}", flush=True)
    first, last = statistics.mean(cpu_times[:3]), statistics.mean(cpu_times[-3:])
    print(f"CPU time of a step, last three minutes to first three: {last / first:.3f}")


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if not word.startswith("-")]
    main(
        int(words[0]) if words else 30,
        precision="float32" if "--float32" in sys.argv else "auto",
        flush="--no-flush" not in sys.argv,
    )
