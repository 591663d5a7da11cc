from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from advnets.errors import CheckpointError
from advnets.training.checkpoint import (
    Checkpoint,
    load_module,
    load_optimizer,
    module_tensors,
    optimizer_tensors,
    read_checkpoint,
    write_checkpoint,
)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "step-00000001.safetensors"
    write_checkpoint(path, Checkpoint({"a": torch.arange(1000.0)}, {"stage": 0}))
    return path


def test_what_was_written_is_read(file):
    checkpoint = read_checkpoint(file)
    assert checkpoint.facts == {"stage": 0}
    assert torch.equal(checkpoint.tensors["a"], torch.arange(1000.0))


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_truncated_checkpoint_is_named_and_the_way_out_said(file, keep):
    whole = file.read_bytes()
    file.write_bytes(whole[:keep])
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(file)
    assert str(caught.value).startswith(f"{file} is truncated or no checkpoint (")
    assert str(caught.value).endswith("remove it, and --resume goes on from the one before")


def test_a_checkpoint_of_another_version_is_refused(tmp_path):
    path = tmp_path / "old.safetensors"
    save_file({"a": torch.zeros(1)}, path, {"advnets": '{"format": 0}'})
    with pytest.raises(CheckpointError, match="has format 0 and this advnets reads 1"):
        read_checkpoint(path)


def test_another_net_is_not_loaded():
    tensors = module_tensors("players/generator", nn.Linear(3, 4))
    with pytest.raises(CheckpointError, match="players/generator is another net"):
        load_module("players/generator", nn.Linear(3, 5), tensors)


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_an_optimizer_goes_on_as_if_it_had_not_been_stored(kind):
    """Moved once, stored, loaded into a fresh one: both move alike, to the bit."""
    options = {"momentum": 0.5} if kind is torch.optim.SGD else {}

    def fresh(weight):
        return kind([weight], lr=0.1, fused=True, **options)

    a = nn.Parameter(torch.randn(5))
    first = fresh(a)
    a.grad = torch.randn(5)
    first.step()
    b = nn.Parameter(a.detach().clone())
    second = fresh(b)
    stored = {k: v.clone() for k, v in optimizer_tensors("o", first).items()}
    load_optimizer("o", second, stored)
    a.grad = torch.randn(5)
    b.grad = a.grad.clone()
    first.step()
    second.step()
    assert torch.equal(a, b)


def test_an_optimizer_forgets_what_it_had_not_yet_known():
    """Rolled back to before its first step, it has no momentum."""
    weight = nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9, fused=True)
    before = optimizer_tensors("o", optimizer)
    weight.grad = torch.ones(2)
    optimizer.step()
    load_optimizer("o", optimizer, before)
    assert optimizer_tensors("o", optimizer) == {}


def test_equal_states_are_equal_files(tmp_path):
    files = [tmp_path / f"{name}.safetensors" for name in "ab"]
    for file in files:
        write_checkpoint(file, Checkpoint({"a": torch.ones(3), "b": torch.zeros(2)}, {"stage": 0}))
    assert files[0].read_bytes() == files[1].read_bytes()
