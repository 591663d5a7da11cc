"""Device, precision and threads of a run: their defaults, and the setup of the process."""

from __future__ import annotations

import ctypes
import signal
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType

import joblib
import torch
from torch import nn

from advnets import config, launcher
from advnets.errors import StoppedBySignal, UsageError

_BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})
"""CPU flags of bfloat16 matrix instructions."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt, as defined in malloc.h."""
_MAX_KEPT_BYTES, _MIN_RETURNED_BYTES = 1 << 30, 1 << 20

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def resolve(runtime: config.Runtime) -> config.Runtime:
    """Replace every "auto", and 0 threads, by the choice for this machine.

    Raises:
        UsageError: the device is unknown to torch or missing on this machine.
    """
    device = _device(runtime.device)
    precision = runtime.precision
    if precision == "auto":
        precision = "bfloat16" if has_bfloat16(device) else "float32"
    threads = runtime.threads or max(1, num_cores() // launcher.local_world_size())
    return replace(runtime, device=str(device), precision=precision, threads=threads)


def has_bfloat16(device: torch.device) -> bool:
    """Return whether the device has bfloat16 matrix instructions.

    They take half the time of float32. Without them bfloat16 is emulated and slower than float32.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and not _BFLOAT16_FLAGS.isdisjoint(cpu_flags())


def cpu_flags(path: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """Return the flags of the CPU on Linux, and an empty set elsewhere."""
    return frozenset(cpuinfo("flags", path).split())


def cpuinfo(field: str, path: Path = Path("/proc/cpuinfo")) -> str:
    """Return a field of the first CPU in /proc/cpuinfo, or "" if there is none."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), "")


def setup_process(runtime: config.Runtime) -> torch.device:
    """Apply a resolved runtime to this process; return its device."""
    keep_freed_memory()
    torch.set_num_threads(runtime.threads)
    # Flush denormals: they are a hundred times slower and make no difference here.
    torch.set_flush_denormal(True)
    device = _device(runtime.device)
    # Each process of a host has a GPU of its own.
    if device.type == "cuda" and launcher.local_world_size() > 1:
        device = torch.device("cuda", launcher.local_rank())
        torch.cuda.set_device(device)
    return device


def core_share(threads: int, seconds: float = 0.2) -> float:
    """Return the fraction of as many cores that this number of threads gets, about 1 at most.

    It is measured in a computation by all threads; those that wait for another one count as
    computing, and those that wait for a core do not.
    """
    torch.set_num_threads(threads)
    numbers = torch.zeros(threads << 18)
    wall, cpu = time.monotonic(), time.process_time()
    while time.monotonic() - wall < seconds:
        numbers.exp()
    return (time.process_time() - cpu) / max(time.monotonic() - wall, 1e-9) / threads


def to_device(net: nn.Module, device: torch.device) -> nn.Module:
    """Move a net to a device, in the channels-last layout, in which convolutions are fastest."""
    # pyright does not know this overload of `to`.
    return net.to(device=device, memory_format=torch.channels_last)  # pyright: ignore


def keep_freed_memory() -> None:
    """Make glibc's allocator keep freed blocks of up to 1 GiB; do nothing on other systems.

    Each step allocates the same blocks again; those that were returned to the system are mapped
    page by page and zeroed first.
    """
    for threshold in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD):
        _call_glibc("mallopt", threshold, _MAX_KEPT_BYTES)


def return_freed_memory() -> None:
    """Make glibc's allocator return freed blocks above 1 MiB; do nothing on other systems.

    A long sequence of large blocks otherwise fragments the heap, which then grows without bound.
    """
    _call_glibc("mallopt", _M_MMAP_THRESHOLD, _MIN_RETURNED_BYTES)


def release_freed_memory(device: torch.device) -> None:
    """Return all freed blocks of glibc's allocator, or of a GPU's, to the system."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    _call_glibc("malloc_trim", 0)


def _call_glibc(name: str, *arguments: int) -> None:
    """Call a function of glibc; do nothing on systems without it."""
    function = getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
    if function is not None:
        function(*arguments)


def num_cores() -> int:
    """Return the number of CPU cores that this process may use.

    It is limited by the CPU affinity, the CPU quota of the container (cgroup v1 or v2, rounded up)
    and the environment variable LOKY_MAX_CPU_COUNT.
    """
    return joblib.cpu_count()


def _device(name: str) -> torch.device:
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return torch.device(next(kind for kind, is_available in available.items() if is_available))
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(
            f"torch has no device {name!r}; give auto, cpu, cuda, cuda:N or mps"
        ) from None
    if not available.get(device.type, False):
        names = ", ".join(kind for kind, is_available in available.items() if is_available)
        raise UsageError(
            f"device {name!r} is not available; this machine has {names}; give one of these"
        )
    return device


class StopRequest:
    """A request by the user or the system to stop the run; true once it was made."""

    signal: signal.Signals | None = None
    deferred: bool = False
    """True once training has begun: the request then waits for the end of a step."""

    def __bool__(self) -> bool:
        return self.signal is not None


@contextmanager
def catch_stop_signals() -> Generator[StopRequest]:
    """Turn the first SIGINT, SIGTERM or SIGHUP into a request to stop.

    Before the first step the request is raised as `StoppedBySignal`. A second SIGINT has its usual
    effect. SIGHUP stays ignored if it is, as under nohup.
    """
    stop_request = StopRequest()

    def request(number: int, _frame: FrameType | None) -> None:
        stop_request.signal = signal.Signals(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if not stop_request.deferred:
            raise StoppedBySignal(number, " before the first step; nothing was trained")

    try:
        before = {number: signal.signal(number, request) for number in _stop_signals()}
    except ValueError:  # only the main thread can set signal handlers
        yield stop_request
        return
    try:
        yield stop_request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop_signals() -> list[signal.Signals]:
    """Return the signals that request a stop, of those that this system has."""
    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    signals = [getattr(signal, name) for name in names if hasattr(signal, name)]
    # Under nohup, leave SIGHUP ignored: the run outlives its terminal.
    return [s for s in signals if s.name != "SIGHUP" or signal.getsignal(s) != signal.SIG_IGN]
