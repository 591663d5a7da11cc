"""Start several processes as a launcher does."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence

import pytest


@pytest.fixture
def launch():
    """Return a function that starts a Python command line in n processes; all are ended at last."""
    started: list[subprocess.Popen[str]] = []

    def start(n: int, *arguments: object, **environment: str) -> list[subprocess.Popen[str]]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        processes: list[subprocess.Popen[str]] = []
        for rank in range(n):
            variables = {
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "OMP_NUM_THREADS": "1",
                "WORLD_SIZE": str(n),
                "LOCAL_WORLD_SIZE": str(n),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": port,
            }
            processes.append(
                subprocess.Popen(
                    [sys.executable, *map(str, arguments)],
                    env={**os.environ, **variables, **environment},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        started.extend(processes)
        return processes

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def run_all(launch):
    """Return a function that runs a command line in n processes, and returns what each printed."""

    def run(n: int, *arguments: object, timeout: float = 300, **environment: str) -> Sequence[str]:
        processes = launch(n, *arguments, **environment)
        outputs = [process.communicate(timeout=timeout) for process in processes]
        failed = [
            errors
            for process, (_, errors) in zip(processes, outputs, strict=True)
            if process.returncode
        ]
        assert not failed, failed[0]
        return [printed + errors for printed, errors in outputs]

    return run
