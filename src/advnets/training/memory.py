"""Available memory, limits on it, and errors in one sentence where it runs out."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from advnets.errors import AdvnetsError, OutOfMemoryError, UsageError

_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes in which the system counts a process's peak memory: macOS counts bytes, Linux KiB."""
_STACK_BYTES = 8 << 20
"""Bytes of address space that a thread claims for its stack."""
_EXHAUSTED = re.compile(
    r"can't allocate memory|out of memory|not enough memory|std::bad_alloc|memory object"
    r"|Storage size calculation overflowed|storage size.*overflow",
    re.IGNORECASE,
)
_SINGLE_VALUE = "Expected more than 1 value per channel when training"


def available_bytes(device: torch.device) -> int | None:
    """Return the memory that is free now, or can be freed; None: the system does not tell.

    Of a CPU this is memory and swap, or what its control group or the limit of the process's
    address space (`ulimit -v`) leaves where that is less.
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
    """Return the most memory held so far: of the device, or of this process; None: not known."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if (resource := _resource()) is None:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_UNIT


def wait_for_peak(process: subprocess.Popen[Any]) -> int:
    """Wait for a process to end; return the most memory it held, 0 where that is not told."""
    if not hasattr(os, "wait4"):
        process.wait()
        return 0
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_maxrss * _MAXRSS_UNIT


@contextmanager
def memory_limit(device: torch.device, threads: int) -> Generator[None]:
    """Let this process claim no more memory than is available now; more raises an error.

    Without a limit Linux grants memory that there is not, and kills the process when it is used.
    On other systems, and of other devices than a CPU, nothing changes.
    """
    resource, more = _resource(), available_bytes(device)
    held = _kibibytes(Path("/proc/self/status")).get("VmData")
    if device.type != "cpu" or resource is None or more is None or held is None:
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_DATA)
    bound = held + more + threads * _STACK_BYTES
    allowed = [some for some in (*before, bound) if some != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(allowed), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


@contextmanager
def explained(advice: str) -> Generator[None]:
    """Say in one sentence that memory ran out, or that a batch is too small for its normalization.

    Raises:
        OutOfMemoryError: memory ran out; the message ends with the advice.
        UsageError: batch normalization was given one value.
    """
    try:
        yield
    except (MemoryError, RuntimeError, ValueError) as error:
        if (found := explanation(error, advice)) is None:
            raise
        raise found from error


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error of Python or torch says that memory ran out."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and _EXHAUSTED.search(str(error)) is not None
    )


def explanation(error: Exception, advice: str) -> AdvnetsError | None:
    """Return what `explained` raises in place of an error; None: the error is another one."""
    if is_out_of_memory(error):
        return OutOfMemoryError(f"memory ran out ({_wanted(error)}); {advice}")
    if isinstance(error, ValueError) and _SINGLE_VALUE in str(error):
        return UsageError(
            "batch normalization was given a batch of 1, whose values have no variance; say "
            "--batch-size 2 or more, or leave batch normalization out"
        )
    return None


def _wanted(error: BaseException) -> str:
    """Return how much was asked for last, as far as the error says it."""
    if found := re.search(r"tried to allocate (\d+) bytes", str(error)):
        return f"{gibibytes(int(found[1]))} were asked for at once"
    if found := re.search(r"allocate ([\d.]+ [KMGT]iB)", str(error)):
        return f"{found[1]} were asked for at once"
    return "a block could not be had"


def gibibytes(n: int) -> str:
    """Return a number of bytes as a person says it."""
    return f"{n / 2**30:,.1f} GiB" if n >= 2**30 else f"{n / 2**20:,.0f} MiB"


def _resource() -> ModuleType | None:
    """Return the module `resource`, which Windows lacks."""
    try:
        return importlib.import_module("resource")
    except ImportError:
        return None


def _kibibytes(path: Path) -> dict[str, int]:
    """Return the fields of a file of Linux that are told in KiB, in bytes; none elsewhere."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    found = (re.fullmatch(r"(\w+):\s+(\d+) kB", line) for line in lines)
    return {match[1]: int(match[2]) << 10 for match in found if match}


def _address_space() -> list[tuple[int, int]]:
    """Return limit and use in bytes of the process's address space; empty without a limit."""
    resource, used = _resource(), _kibibytes(Path("/proc/self/status")).get("VmSize")
    if resource is None or used is None:
        return []
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return [] if limit == resource.RLIM_INFINITY else [(limit, used)]


def _control_groups(
    own: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> list[tuple[int, int]]:
    """Return limit and use in bytes of the process's control groups and of those above them.

    `own` names them, a line `0::/path` of version 2 and lines `n:memory:/path` of version 1. In a
    container, where the path is not below `root`, the group at the root is its own.
    """
    found: list[tuple[int, int]] = []
    try:
        lines = own.read_text().splitlines()
    except OSError:
        lines = []
    for line in (*lines, "0::/", "0:memory:/"):
        _, kinds, path = line.split(":", 2)
        if not kinds:
            base, names = root, ("memory.max", "memory.current")
        elif "memory" in kinds.split(","):
            base, names = root / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        group = base / path.lstrip("/")
        for folder in (group, *group.parents):
            try:
                limit, used = (int((folder / name).read_text()) for name in names)
            except (OSError, ValueError):  # absent, or "max"
                continue
            found.append((limit, used))
    return found
