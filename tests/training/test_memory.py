"""Available memory: that of the machine, or a lower limit."""

import subprocess
import sys

import pytest

from advnets.training import memory


def test_the_limits_of_nested_control_groups_are_read(tmp_path):
    """The process's own group below a slice with a limit, in versions 2 and 1."""
    cgroup, root = tmp_path / "cgroup", tmp_path / "root"
    for folder, names, limit, used in (
        ("", ("memory.max", "memory.current"), "max", 9),
        ("a.slice", ("memory.max", "memory.current"), 500, 400),
        ("a.slice/b.scope", ("memory.max", "memory.current"), 700, 300),
        ("memory/job", ("memory.limit_in_bytes", "memory.usage_in_bytes"), 60, 50),
        ("memory/other", ("memory.limit_in_bytes", "memory.usage_in_bytes"), 1, 1),
    ):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for name, value in zip(names, (limit, used), strict=True):
            (root / folder / name).write_text(f"{value}\n")
    cgroup.write_text("3:cpu,memory:/job\n2:pids:/job\n0::/a.slice/b.scope\n")
    assert sorted(set(memory._control_groups(cgroup, root))) == [(60, 50), (500, 400), (700, 300)]
    assert memory._control_groups(tmp_path / "absent", root) == []
    (root / "memory.max").write_text("800\n")  # as a container sees its own group
    assert memory._control_groups(tmp_path / "absent", root) == [(800, 9)]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_limit_of_the_address_space_limits_available_memory():
    """`ulimit -v` at 256 MiB above what the process uses."""
    code = """
import resource
import torch
from advnets.training import memory
used = memory._kibibytes(memory.Path("/proc/self/status"))["VmSize"]
limit = used + (256 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
print(memory.available_bytes(torch.device("cpu")) >> 20)
"""
    completed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert 200 <= int(completed.stdout) <= 256
