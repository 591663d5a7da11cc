"""What a run computes on: resolved once, stored, and prepared the same on resume."""

from __future__ import annotations

import ctypes
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType

import joblib
import torch
from torch import nn

from advnets import config
from advnets.errors import StoppedBySignal, UsageError

_BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16"})
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""The allocator's parameters, as malloc.h numbers them."""
_LARGEST_KEPT, _LEAST_RETURNED = 1 << 30, 1 << 20

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def resolve(runtime: config.Runtime) -> config.Runtime:
    """Replace every `auto` by what this machine has.

    Raises:
        UsageError: a device that torch does not know or this machine lacks.
    """
    device = _device(runtime.device)
    precision = runtime.precision
    if precision == "auto":
        precision = "bfloat16" if has_bfloat16(device) else "float32"
    threads = runtime.threads or cores()
    return replace(runtime, device=str(device), precision=precision, threads=threads)


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for products of bfloat16, which then take half the time.

    Without them the numbers would be converted to and fro, and take longer than float32.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and not _BFLOAT16.isdisjoint(processor_flags())


def processor_flags(path: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """What the processor can do, as Linux has it; nothing where that is not told."""
    return frozenset(cpuinfo("flags", path).split())


def cpuinfo(field: str, path: Path = Path("/proc/cpuinfo")) -> str:
    """What Linux says of the first processor under this name; "" where that is not told."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), "")


def setup_process(runtime: config.Runtime) -> torch.device:
    """Set up this process as the resolved runtime says; return the device."""
    keep_freed_memory()
    torch.set_num_threads(runtime.threads)
    # Numbers below 1e-38 are computed a hundred times slower and mean nothing here.
    torch.set_flush_denormal(True)
    return _device(runtime.device)


def to_device(net: nn.Module, device: torch.device) -> nn.Module:
    """The net on the device, its kernels with channels last, as convolutions take them fastest."""
    # pyright knows `to` by device, dtype or example only.
    return net.to(device=device, memory_format=torch.channels_last)  # pyright: ignore


def keep_freed_memory() -> None:
    """Have glibc's allocator keep large blocks that are freed; elsewhere do nothing.

    Every step asks for the same blocks again, and those that went back to the system come page by
    page, each filled with zeros first.
    """
    for threshold in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD):
        _mallopt(threshold, _LARGEST_KEPT)


def return_freed_memory() -> None:
    """Have glibc's allocator return large blocks to the system when freed; elsewhere do nothing.

    A long row of blocks otherwise fragments the heap, which grows although nothing is held.
    """
    _mallopt(_M_MMAP_THRESHOLD, _LEAST_RETURNED)


def _mallopt(parameter: int, value: int) -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(parameter, value)


def cores() -> int:
    """Return the number of CPU cores that this process may use.

    Its affinity, the CPU quota of its container (cgroup v1 or v2, rounded up) and the environment
    variable LOKY_MAX_CPU_COUNT bound those of the machine.
    """
    return joblib.cpu_count()


def _device(name: str) -> torch.device:
    present = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return torch.device(next(kind for kind, there in present.items() if there))
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(
            f"device {name!r} is none that torch knows; give auto, cpu, cuda, cuda:N or mps"
        ) from None
    if not present.get(device.type, False):
        has = ", ".join(kind for kind, there in present.items() if there)
        raise UsageError(
            f"device {name!r} was asked for and this machine has {has}; give one of these"
        )
    return device


class Interruption:
    """Whether a person or the system has asked the run to stop."""

    signal: signal.Signals | None = None
    deferred: bool = False
    """Whether a request waits for the end of the step; until the first step it acts at once."""

    def __bool__(self) -> bool:
        return self.signal is not None


@contextmanager
def interruptible() -> Generator[Interruption]:
    """Turn the first SIGINT, SIGTERM or SIGHUP into a request to stop.

    Until the request can be deferred it is raised as `StoppedBySignal`; a second SIGINT acts as
    usual. SIGHUP stays ignored where it is, as under nohup; signals that the system lacks are left
    out.
    """
    interruption = Interruption()

    def ask(number: int, _frame: FrameType | None) -> None:
        interruption.signal = signal.Signals(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if not interruption.deferred:
            raise StoppedBySignal(number, " before the first step; nothing was trained")

    try:
        before = {number: signal.signal(number, ask) for number in _stop_signals()}
    except ValueError:  # not the main thread: whoever owns it owns the signals
        yield interruption
        return
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop_signals() -> list[signal.Signals]:
    """Return the signals by which a run is asked to stop on this system."""
    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    found = [getattr(signal, name) for name in names if hasattr(signal, name)]
    # Under nohup the run is to outlive its terminal.
    return [s for s in found if s.name != "SIGHUP" or signal.getsignal(s) != signal.SIG_IGN]
