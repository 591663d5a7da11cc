"""Available memory, a limit on what this process allocates, and messages for its exhaustion."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from advnets.errors import AdvnetsError, OutOfMemoryError, UsageError

_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes in a unit of `ru_maxrss`: it is in bytes on macOS, in KiB on Linux."""
_STACK_BYTES = 8 << 20
"""Bytes of address space that the stack of a thread reserves."""
_OUT_OF_MEMORY = re.compile(
    r"can't allocate memory|out of memory|not enough memory|std::bad_alloc|memory object"
    r"|Storage size calculation overflowed|storage size.*overflow",
    re.IGNORECASE,
)
_SINGLE_VALUE = "Expected more than 1 value per channel when training"


def available_bytes(device: torch.device) -> int | None:
    """Return the bytes that can be allocated now, or None where the system does not report them.

    For the CPU these are available memory and free swap, at most what control groups and the limit
    on the address space (`ulimit -v`) leave.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    system = _kibibytes(Path("/proc/meminfo"))
    if device.type != "cpu" or "MemAvailable" not in system:
        return None
    free = [system["MemAvailable"] + system.get("SwapFree", 0)]
    free += [limit - used for limit, used in (*_control_groups(), *_address_space())]
    return max(0, min(free))


def peak_bytes(device: torch.device) -> int | None:
    """Return the peak memory in bytes of a CUDA device, else of this process; None if unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if (resource := _resource()) is None:
        return None
    # On Linux, the peak of getrusage includes that of the parent process before exec.
    if peak := _kibibytes(Path("/proc/self/status")).get("VmHWM"):
        return peak
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_UNIT


def reset_peak(device: torch.device) -> None:
    """Set the peak of `peak_bytes` to the present use, where the system can do that."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def wait_for_peak(process: subprocess.Popen[Any]) -> int:
    """Wait for a process to end; return its peak memory in bytes, 0 if unknown."""
    if not hasattr(os, "wait4"):
        process.wait()
        return 0
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_maxrss * _MAXRSS_UNIT


@contextmanager
def memory_limit(device: torch.device, threads: int) -> Generator[None]:
    """Limit the memory of this process to what is available now; exceeding it raises an error.

    Without a limit Linux grants more memory than exists and kills the process when it is used. On
    other systems, and for other devices than the CPU, there is no limit.
    """
    resource, available = _resource(), available_bytes(device)
    used = _kibibytes(Path("/proc/self/status")).get("VmData")
    if device.type != "cpu" or resource is None or available is None or used is None:
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_DATA)
    limit = used + available + threads * _STACK_BYTES
    limits = [n for n in (*before, limit) if n != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(limits), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


@contextmanager
def explain_errors(advice: str) -> Generator[None]:
    """Replace torch's errors for lack of memory and for batches of 1 by a clear message.

    Raises:
        OutOfMemoryError: memory ran out; the message ends with `advice`.
        UsageError: batch normalization got one value per channel.
    """
    try:
        yield
    except (MemoryError, RuntimeError, ValueError) as error:
        if (replacement := explained_error(error, advice)) is None:
            raise
        raise replacement from error


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error of Python or torch means that memory ran out."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and _OUT_OF_MEMORY.search(str(error)) is not None
    )


def explained_error(error: Exception, advice: str) -> AdvnetsError | None:
    """Return the error that `explain_errors` raises in place of this one, or None for others."""
    if is_out_of_memory(error):
        return OutOfMemoryError(f"memory ran out ({_describe_request(error)}); {advice}")
    if isinstance(error, ValueError) and _SINGLE_VALUE in str(error):
        return UsageError(
            "batch normalization needs more than one value per channel and got a batch of 1; set "
            "batch_size to 2 or more, or turn batch normalization off"
        )
    return None


def _describe_request(error: BaseException) -> str:
    """Describe the allocation that failed, with its size if the error states it."""
    if match := re.search(r"tried to allocate (\d+) bytes", str(error)):
        return f"an allocation of {format_bytes(int(match[1]))} failed"
    if match := re.search(r"allocate ([\d.]+ [KMGT]iB)", str(error)):
        return f"an allocation of {match[1]} failed"
    return "an allocation failed"


def format_bytes(n: int) -> str:
    """Format a number of bytes in GiB or MiB."""
    return f"{n / 2**30:,.1f} GiB" if n >= 2**30 else f"{n / 2**20:,.0f} MiB"


def _resource() -> ModuleType | None:
    """Return the module `resource`, which Windows lacks."""
    try:
        return importlib.import_module("resource")
    except ImportError:
        return None


def _kibibytes(path: Path) -> dict[str, int]:
    """Return the fields in kB of a file in /proc, in bytes; an empty dict on other systems."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    matches = (re.fullmatch(r"(\w+):\s+(\d+) kB", line) for line in lines)
    return {match[1]: int(match[2]) << 10 for match in matches if match}


def _address_space() -> list[tuple[int, int]]:
    """Return (limit, use) of the process's address space in bytes; empty without a limit."""
    resource, used = _resource(), _kibibytes(Path("/proc/self/status")).get("VmSize")
    if resource is None or used is None:
        return []
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return [] if limit == resource.RLIM_INFINITY else [(limit, used)]


def _control_groups(
    groups_file: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> list[tuple[int, int]]:
    """Return (limit, use) in bytes of the process's control groups and their parents.

    The use leaves out the part of the file cache that the system frees when it needs memory.
    `groups_file` lists the groups: a line `0::/path` for version 2, lines `n:memory:/path` for
    version 1. In a container, where the path is not below `root`, the group at the root is the
    one of the process.
    """
    limits: list[tuple[int, int]] = []
    try:
        lines = groups_file.read_text().splitlines()
    except OSError:
        lines = []
    for line in (*lines, "0::/", "0:memory:/"):
        _, kinds, path = line.split(":", 2)
        if not kinds:
            base, names, cache = root, ("memory.max", "memory.current"), "inactive_file"
        elif "memory" in kinds.split(","):
            base, names = root / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
            cache = "total_inactive_file"
        else:
            continue
        group = base / path.lstrip("/")
        for folder in (group, *group.parents):
            try:
                limit, used = (int((folder / name).read_text()) for name in names)
            except (OSError, ValueError):  # absent, or "max"
                continue
            with suppress(OSError):
                cached = re.search(rf"^{cache} (\d+)$", (folder / "memory.stat").read_text(), re.M)
                used -= int(cached[1]) if cached else 0
            limits.append((limit, used))
    return limits
