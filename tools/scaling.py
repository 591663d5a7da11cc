"""Measure training on one and two processes, and estimate it on many GPUs.

    ADVNETS_DATA=... python tools/scaling.py --presets paper-mnist dcgan-mnist

The time of a step on N processes is modeled as

    t(N) = a + c B / N + 2 (N - 1) / N · 4 P u / w + l

with a fixed time a, the time c of an image, the batch size B, the parameters P that are updated u
times in a step, the bandwidth w of the all-reduce and its latency l. a and c are fitted to the
times of one process with the batches B and B / 2; w and l are measured by all-reduces of two
processes. The estimate for two processes is compared with their measured time.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, replace

import torch
import torch.distributed as dist

from advnets import distributed
from advnets.data.prepared import open_training_data
from advnets.experiment import setup
from advnets.presets import PRESETS
from advnets.training import devices
from advnets.training.step import train_step

SECONDS, WARMUP = 6.0, 3
ALL_REDUCE_SIZES = 1 << 10, 1 << 22
"""Numbers in the all-reduces whose times give latency and bandwidth."""
FLOAT_BYTES = 4


def time_steps(preset: str, batch_size: int, threads: int) -> dict[str, float]:
    """Return the median seconds of a step in this process group, and the parameters it updates."""
    config = PRESETS[preset].config
    config = replace(
        config,
        data=replace(config.data, batch_size=batch_size),
        runtime=replace(config.runtime, threads=threads, precision="float32"),
    )
    data = open_training_data(config.data)
    config = setup.resolve_config(config, data.info, devices.resolve(config.runtime))
    device = devices.setup_process(config.runtime)
    state = setup.make_train_state(config, data, len(config.stages) - 1, device)
    for _ in range(WARMUP):
        train_step(state)
    before, times = dict(state.progress.updates), list[float]()
    while distributed.broadcast_object(sum(times)) < SECONDS:
        start = time.perf_counter()
        train_step(state)
        times.append(time.perf_counter() - start)
    updated = sum(
        (state.progress.updates[name] - before[name])
        / len(times)
        * sum(parameter.numel() for parameter in player.parameters())
        for name, player in state.players.items()
        if name in state.progress.updates
    )
    return {"seconds": sorted(times)[len(times) // 2], "updated": updated}


def time_all_reduces() -> dict[str, float]:
    """Return the median seconds of all-reduces of the two sizes."""
    medians: list[float] = []
    for size in ALL_REDUCE_SIZES:
        numbers, times = torch.zeros(size), list[float]()
        for _ in range(25):
            distributed.barrier()
            start = time.perf_counter()
            dist.all_reduce(numbers)
            times.append(time.perf_counter() - start)
        medians.append(sorted(times)[len(times) // 2])
    return dict(zip(("small", "large"), medians, strict=True))


def run(n: int, *arguments: object) -> dict[str, float]:
    """Run this script in n processes with one measurement, and return what rank 0 prints."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, __file__, "--measure", *map(str, arguments)]
    processes: list[subprocess.Popen[str]] = []
    for rank in range(n):
        variables = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(n)}
        variables |= {"LOCAL_WORLD_SIZE": str(n), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        processes.append(
            subprocess.Popen(command, env={**os.environ, **variables}, stdout=-1, text=True)
        )
    printed = [process.communicate()[0] for process in processes]
    return json.loads(printed[0])


@dataclass(frozen=True)
class Costs:
    """The fitted costs of a preset, in seconds, images and numbers."""

    batch_size: int
    fixed: float
    image: float
    updated: float
    latency: float
    bandwidth: float
    """Bytes per second that an all-reduce of two processes moves in each direction."""

    def step(self, n: int) -> float:
        """Return the estimated seconds of a step on n processes."""
        traffic = 2 * (n - 1) / n * FLOAT_BYTES * self.updated
        latency = self.latency if n > 1 else 0.0
        return self.fixed + self.image * self.batch_size / n + traffic / self.bandwidth + latency


def measure(preset: str, links: dict[str, float]) -> None:
    """Print the row of a preset."""
    batch_size = PRESETS[preset].config.batch_size
    whole, half = (run(1, preset, size, 1) for size in (batch_size, batch_size // 2))
    image = (whole["seconds"] - half["seconds"]) / (batch_size - batch_size // 2)
    small, large = (FLOAT_BYTES * size for size in ALL_REDUCE_SIZES)
    costs = Costs(
        batch_size,
        fixed=whole["seconds"] - image * batch_size,
        image=image,
        updated=whole["updated"],
        latency=links["small"],
        # Two processes send and receive each byte once.
        bandwidth=(large - small) / (links["large"] - links["small"]),
    )
    two, threads = run(2, preset, batch_size, 1), run(1, preset, batch_size, 2)
    estimate = costs.step(2)
    print(
        f"| `{preset}` | {batch_size} | {1e3 * costs.fixed:.1f} ms | {1e3 * image:.3f} ms "
        f"| {FLOAT_BYTES * costs.updated / 1e6:.1f} MB | {1e3 * whole['seconds']:.1f} ms "
        f"| {1e3 * threads['seconds']:.1f} ms | {1e3 * two['seconds']:.1f} ms "
        f"| {threads['seconds'] / two['seconds']:.2f} | {1e3 * estimate:.1f} ms "
        f"| {100 * (estimate / two['seconds'] - 1):+.0f} % |",
        flush=True,
    )


def main() -> None:
    """Measure, or print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--presets", nargs="+", default=["paper-mnist", "dcgan-mnist"])
    parser.add_argument("--measure", nargs="*", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure is None:
        links = run(2)
        print(
            f"all-reduce of two processes: latency {1e3 * links['small']:.2f} ms, "
            f"{FLOAT_BYTES * ALL_REDUCE_SIZES[1] / links['large'] / 1e9:.2f} GB/s"
        )
        print(
            "| preset | batch | fixed | image | traffic | 1 thread | 2 threads | 2 processes "
            "| speed ratio | estimate | error |"
        )
        print("|---" * 11 + "|", flush=True)
        for preset in arguments.presets:
            measure(preset, links)
        return
    with distributed.process_group():
        if arguments.measure:
            preset, batch_size, threads = arguments.measure
            result = time_steps(preset, int(batch_size), int(threads))
        else:
            result = time_all_reduces()
        if distributed.is_main():
            print(json.dumps(result))


main()
