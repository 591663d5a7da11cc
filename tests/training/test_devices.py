import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from advnets import config
from advnets.errors import UsageError
from advnets.training.devices import (
    catch_stop_signals,
    cpu_flags,
    has_bfloat16,
    resolve,
    setup_process,
)


def test_auto_is_resolved_for_this_machine():
    chosen = resolve(config.Runtime())
    assert chosen.device in ("cpu", "cuda", "mps")
    assert chosen.precision in ("float32", "bfloat16")
    assert 1 <= chosen.threads <= len(os.sched_getaffinity(0))
    assert resolve(chosen) == chosen


CORES = "from advnets.training.devices import num_cores; print(num_cores())"


def test_cores_are_limited_by_the_cpu_affinity():
    code = f"import os; os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}}); {CORES}"
    completed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert completed.stdout == "1\n"


@pytest.mark.parametrize(
    "quota",
    [
        "echo 60000 100000 > cpu.max",
        "mkdir cpu; echo 100000 > cpu/cpu.cfs_quota_us; echo 100000 > cpu/cpu.cfs_period_us",
    ],
)
def test_cores_are_limited_by_the_quota_of_a_container(quota):
    """cgroup v2 and v1: a mock file system with a quota of one core."""
    view = ["unshare", "--mount", "sh", "-ec"]
    mounted = "mount -t tmpfs none /sys/fs/cgroup; cd /sys/fs/cgroup"
    if shutil.which("unshare") is None or subprocess.run([*view, mounted]).returncode:
        pytest.skip("this user cannot mount a file system of its own")
    script = f'{mounted}; {quota}; cd "$1"; exec "$2" -c "{CORES}"'
    completed = subprocess.run(
        [*view, script, "sh", Path.cwd(), sys.executable],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (completed.stdout, completed.stderr) == ("1\n", "")


SHARE = """
import os
from advnets.training.devices import core_share
def scheduled():
    times = [open(f"/proc/self/task/{task}/schedstat").read().split() for task in threads]
    return [sum(int(time[n]) for time in times) for n in (0, 1)]
core_share(2)
threads = os.listdir("/proc/self/task")
before = scheduled()
share = core_share(2, seconds=0.5)
run, wait = (now - then for now, then in zip(scheduled(), before))
print(share, run / (run + wait))
"""


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="no times of the scheduler")
def test_the_share_of_the_cores_is_that_of_the_scheduler():
    """The time of the threads on a core, as a fraction of it and of that in which they wait."""
    completed = subprocess.run(
        [sys.executable, "-c", SHARE], capture_output=True, text=True, check=True
    )
    share, scheduled = map(float, completed.stdout.split())
    assert share == pytest.approx(scheduled, abs=0.1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_missing_device_is_refused():
    with pytest.raises(UsageError, match="device 'cuda' is not available; this machine has cpu"):
        resolve(config.Runtime(device="cuda"))


def test_threads_and_denormals_are_set():
    before = torch.get_num_threads()
    setup_process(config.Runtime("cpu", "float32", 1))
    assert torch.get_num_threads() == 1
    assert (torch.tensor([1e-39]) * 1.0).item() == 0.0
    torch.set_num_threads(before)


def test_the_first_signal_requests_a_stop_and_the_second_interrupts():
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), catch_stop_signals() as interruption:
        assert not interruption
        os.kill(os.getpid(), signal.SIGINT)
        assert interruption
        assert interruption.signal == signal.SIGINT
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) == handler


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("fpu sse2 avx512f avx512_bf16", "bfloat16"),
        ("fpu avx2 amx_bf16 amx_tile", "bfloat16"),
        ("fpu sse2 avx2 avx512f", "float32"),
    ],
)
def test_bfloat16_is_the_default_where_the_cpu_has_instructions_for_it(
    tmp_path, monkeypatch, flags, expected
):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nflags\t\t: {flags}\n\nprocessor\t: 1\n")
    result = cpu_flags(cpuinfo)
    assert result == set(flags.split())
    monkeypatch.setattr("advnets.training.devices.cpu_flags", lambda: result)
    assert resolve(config.Runtime(device="cpu")).precision == expected
    assert resolve(config.Runtime(device="cpu", precision="float32")).precision == "float32"


def test_float32_is_the_default_where_cpu_flags_are_unknown(tmp_path, monkeypatch):
    result = cpu_flags(tmp_path / "none")
    monkeypatch.setattr("advnets.training.devices.cpu_flags", lambda: result)
    assert not has_bfloat16(torch.device("cpu"))


@pytest.mark.skipif(sys.platform != "linux", reason="the allocator is glibc's")
def test_the_allocator_keeps_freed_memory():
    """Blocks of 64 MiB, freed and allocated again: sixteen need fewer new pages than four did."""
    program = """
import resource, torch
from advnets.training.devices import keep_freed_memory
def faults(times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        torch.zeros(1 << 24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
usual = faults(4)
keep_freed_memory()
print(usual, faults(16))
"""
    completed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    usual, flushed = map(int, completed.stdout.split())
    assert flushed < usual
