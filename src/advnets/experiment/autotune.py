"""The options that are chosen by short trials when a run starts.

They are the batch size "auto", and on a CPU whose cores are busy the precision and the threads. The
trials train networks of their own: the run is a function of its config, which stores the choice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from advnets import config
from advnets.data.prepared import DatasetInfo, PreparedData
from advnets.distributed import world_size
from advnets.errors import OutOfMemoryError, UsageError
from advnets.experiment import setup
from advnets.experiment.memory_estimate import (
    check_memory,
    estimate_memory,
    images_per_pack,
    memory_advice,
)
from advnets.training import devices
from advnets.training.memory import (
    available_bytes,
    explain_errors,
    format_bytes,
    memory_limit,
    peak_bytes,
    reset_peak,
)
from advnets.training.step import TrainState, train_step

LARGEST_AUTO_BATCH = 2048
"""The largest batch that is chosen, that of BigGAN (Brock et al. 2019)."""
USED_FRACTION, RESERVED_BYTES = 0.8, 256 << 20
"""The fraction of the free memory that steps may take at most, and the memory that they leave at
least, for evaluations, samples and the report."""
TRIAL_SECONDS = 0.5
"""The time of a step from which on the memory of larger batches is extrapolated."""
BUSY_SHARE = 0.8
"""The fraction of the cores below which other processes slow down threads that wait for others."""
SPEEDUP = 1.5
"""The speedup for which another precision or number of threads than the usual one is taken, since
the other processes may end before the training."""
SPEED_BATCH, SPEED_SECONDS = 16, 1.0
"""The number of images in a batch, and the time of a trial of the speed."""

Trial = Callable[[int], tuple[int, float]]
"""A function from a batch size to the memory in bytes and the time in seconds of a step."""


def resolve_runtime(run: config.Config, data: PreparedData) -> tuple[config.Config, str]:
    """Return a config with a resolved runtime, and a sentence if it is not the usual one.

    Where other processes use the cores, threads that compute together wait for the one that has no
    core, most of all in bfloat16 convolutions. Fewer threads or float32, if these are not given,
    are taken where they are 1.5 times as fast. The code of the game and models must be trusted.
    """
    given, usual = run.runtime, devices.resolve(run.runtime)
    run = replace(run, runtime=usual)
    runtimes = candidate_runtimes(given, usual)
    if world_size() > 1 or len(runtimes) == 1 or devices.core_share(usual.threads) > BUSY_SHARE:
        return run, ""
    measure = _make_speed_trial(run, data)
    speeds = {runtime: measure(runtime) for runtime in runtimes}
    fastest = max(runtimes, key=speeds.__getitem__)
    if speeds[fastest] < SPEEDUP * speeds[usual]:
        return run, ""
    reason = (
        f"{_describe(fastest)}: other processes use the cores, beside which it trains "
        f"{speeds[fastest]:,.1f} images/s, and {_describe(usual)} {speeds[usual]:,.1f}"
    )
    return replace(run, runtime=fastest), reason


def candidate_runtimes(given: config.Runtime, usual: config.Runtime) -> list[config.Runtime]:
    """Return the usual runtime, and those with fewer threads or float32 where these are not given.

    Only a CPU with bfloat16 and more than one thread has others.
    """
    runtimes = [usual]
    if usual.device != "cpu" or usual.precision != "bfloat16" or usual.threads == 1:
        return runtimes
    if not given.threads:
        halvings = range(1, usual.threads.bit_length())
        runtimes += [replace(usual, threads=usual.threads >> n) for n in halvings]
    if given.precision == "auto":
        runtimes.append(replace(usual, precision="float32"))
    return runtimes


def _describe(runtime: config.Runtime) -> str:
    threads = "1 thread" if runtime.threads == 1 else f"{runtime.threads} threads"
    return f"{runtime.precision} with {threads}"


def _make_speed_trial(run: config.Config, data: PreparedData) -> Callable[[config.Runtime], float]:
    """Return a trial that measures the images per second of the last stage in a runtime."""
    pac = images_per_pack(run.stage.game)
    run = _with_size(_eager(run), max(SPEED_BATCH // pac, 2) * pac)
    state = setup.make_train_state(
        run, data, len(run.stages) - 1, torch.device("cpu"), trust_code=True
    )

    def measure(runtime: config.Runtime) -> float:
        devices.setup_process(runtime)
        state.precision = devices.PRECISIONS[runtime.precision]
        train_step(state)  # the first step allocates memory
        start, batches = time.monotonic(), state.progress.batches_read
        while time.monotonic() - start < SPEED_SECONDS or state.progress.batches_read == batches:
            train_step(state)
        seconds = time.monotonic() - start
        return (state.progress.batches_read - batches) * run.batch_size / seconds

    return measure


def resolve_batch_size(
    run: config.Config, data: PreparedData, processes: int = 1
) -> tuple[config.Config, str]:
    """Return a config with a number in place of "auto", and a sentence with the reason for it.

    It is the largest power of two, times the images that D sees at once (`pac`), for which steps
    take four fifths of the free memory at most, shared by a number of processes. Batches are tried
    on untrained networks, from small to large and under a limit on the memory of this process. The
    code of the game and models must be trusted.

    Raises:
        OutOfMemoryError: the smallest batch does not fit.
        UsageError: the system does not report its free memory.
    """
    if run.data.batch_size != "auto":
        return run, ""
    if world_size() > 1:
        raise UsageError(
            f"batch_size is auto, which is chosen by trials in one process, and there are "
            f"{world_size()}; set batch_size to a number"
        )
    device = devices.setup_process(run.runtime)
    available = available_bytes(device)
    if available is None:
        raise UsageError(
            f"batch_size is auto, but this system does not report the free memory of {device}; "
            "set batch_size to a number"
        )

    # Leave out batches that do not fit by their shapes alone, and try the others.
    limit = min(int(USED_FRACTION * available), available - RESERVED_BYTES) // processes
    sizes = candidate_sizes(run, data.info)
    check_memory(_with_size(run, sizes[0]), data.info, device)
    fitting = [n for n in sizes if _least_bytes(_with_size(run, n), data.info) <= limit]
    with memory_limit(device, run.runtime.threads):
        trial = _make_trial(run, data, device)
        size, needed = largest_size(fitting or sizes[:1], limit, trial)
    del trial
    devices.release_freed_memory(device)

    # Say what limits it.
    if size == LARGEST_AUTO_BATCH:
        reason = "the largest that auto chooses"
    elif size == sizes[-1]:
        reason = f"there are {data.info.train or 0:,} training images"
    else:
        shared = f", shared by {processes} processes" if processes > 1 else ""
        reason = f"a step takes {format_bytes(needed)} of {format_bytes(available)} free{shared}"
    return _with_size(run, size), f"batch size {size:,}: {reason}"


def candidate_sizes(run: config.Config, info: DatasetInfo) -> list[int]:
    """Return the batch sizes to choose from, ascending; each has two or more packs of images."""
    pac = images_per_pack(run.stage.game)
    largest = min(LARGEST_AUTO_BATCH, info.train or LARGEST_AUTO_BATCH)
    sizes = [pac << power for power in range(1, LARGEST_AUTO_BATCH.bit_length())]
    return [n for n in sizes if n <= largest] or sizes[:1]


def largest_size(sizes: Sequence[int], limit: int, trial: Trial) -> tuple[int, int]:
    """Return the largest of ascending batch sizes that fits, and the memory that it needs.

    It fits if its trial needs at most `limit` bytes and does not run out of memory; the smallest
    one need only do the latter. From the first slow step on, the memory is extrapolated linearly.

    Raises:
        OutOfMemoryError: the smallest batch size does not fit.
    """
    size, (needed, _) = sizes[0], trial(sizes[0])
    per_image, seconds = 0.0, 0.0
    for larger in sizes[1:]:
        more = int(needed + per_image * (larger - size))
        if more <= limit and seconds < TRIAL_SECONDS:
            try:
                more, seconds = trial(larger)
            except OutOfMemoryError:
                break
            per_image = (more - needed) / (larger - size)
        if more > limit:
            break
        size, needed = larger, more
    return size, needed


def _make_trial(run: config.Config, data: PreparedData, device: torch.device) -> Trial:
    """Return a trial that trains untrained networks of each stage for two steps."""
    states: list[TrainState] = []
    reset_peak(device)
    before = peak_bytes(device) or 0
    run = _eager(run)

    def trial(size: int) -> tuple[int, float]:
        sized, seconds = _with_size(run, size), 0.0
        reset_peak(device)
        with explain_errors(memory_advice(sized)):
            for number in range(len(run.stages)):
                if number == len(states):
                    state = setup.make_train_state(sized, data, number, device, trust_code=True)
                    states.append(state)
                states[number].loader = setup.stage_loader(sized, data, number, device)
                # Buffers that the first step allocates are in use in the second.
                for _ in range(2):
                    start = time.monotonic()
                    bool(train_step(states[number]).finite)  # wait for the device
                    seconds = time.monotonic() - start
        return (peak_bytes(device) or 0) - before, seconds

    return trial


def _eager(run: config.Config) -> config.Config:
    """Return the config without compiled or captured steps, which would take long in each trial."""
    return replace(run, runtime=replace(run.runtime, compile=False, cuda_graph=False))


def _with_size(run: config.Config, size: int) -> config.Config:
    return replace(run, data=replace(run.data, batch_size=size))


def _least_bytes(run: config.Config, info: DatasetInfo) -> int:
    """Return the least memory of the stages that needs most, in bytes."""
    return max(estimate_memory(run, number, info).total for number in range(len(run.stages)))
