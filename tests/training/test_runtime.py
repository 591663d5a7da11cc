from __future__ import annotations

import os
import signal

import pytest
import torch

from advnets import config
from advnets.errors import UsageError
from advnets.training.runtime import interruptible, prepare, resolve


def test_auto_is_resolved_to_what_this_machine_has():
    chosen = resolve(config.Runtime())
    assert chosen.device in ("cpu", "cuda", "mps")
    assert chosen.precision in ("float32", "bfloat16")
    assert chosen.threads == len(os.sched_getaffinity(0))
    assert resolve(chosen) == chosen


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_device_that_is_not_here_is_refused():
    with pytest.raises(UsageError, match="device 'cuda' was asked for and this machine has cpu"):
        resolve(config.Runtime(device="cuda"))


def test_threads_and_denormals_are_set():
    before = torch.get_num_threads()
    prepare(config.Runtime("cpu", "float32", 1))
    assert torch.get_num_threads() == 1
    assert (torch.tensor([1e-39]) * 1.0).item() == 0.0
    torch.set_num_threads(before)


def test_the_first_signal_asks_and_the_second_acts():
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), interruptible() as interruption:
        assert not interruption
        os.kill(os.getpid(), signal.SIGINT)
        assert interruption
        assert interruption.signal == signal.SIGINT
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) == handler
