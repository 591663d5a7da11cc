from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from advnets import config
from advnets.errors import CheckpointError
from advnets.training.checkpoint import (
    Checkpoint,
    load_memory,
    load_module,
    memory_tensors,
    module_tensors,
    read_checkpoint,
    write_checkpoint,
)
from advnets.training.movers import mover


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


@pytest.mark.parametrize("spec", [config.SGD(), config.Adam()], ids=["sgd", "adam"])
def test_a_mover_goes_on_as_if_it_had_not_been_stored(spec):
    """Moved once, stored, loaded into a fresh one: both move alike, to the bit."""
    fine, gradient = torch.tensor(True), torch.randn(2, 5)
    a = torch.randn(5)
    first = mover(spec, [a])
    first.move([gradient[0]], 0, 0, fine)
    b = a.clone()
    second = mover(spec, [b])
    load_memory("o", second.memory, memory_tensors("o", first.memory))
    for either in (first, second):
        either.move([gradient[1]], 1, 0, fine)
    assert torch.equal(a, b)


def test_what_another_optimizer_remembered_is_not_loaded():
    stored = memory_tensors("o", mover(config.SGD(), [torch.ones(3)]).memory)
    with pytest.raises(CheckpointError, match="o is of another optimizer or net"):
        load_memory("o", mover(config.Adam(), [torch.ones(3)]).memory, stored)
    with pytest.raises(CheckpointError, match="o is of another optimizer or net"):
        load_memory("o", mover(config.SGD(), [torch.ones(4)]).memory, stored)


def test_equal_states_are_equal_files(tmp_path):
    files = [tmp_path / f"{name}.safetensors" for name in "ab"]
    for file in files:
        write_checkpoint(file, Checkpoint({"a": torch.ones(3), "b": torch.zeros(2)}, {"stage": 0}))
    assert files[0].read_bytes() == files[1].read_bytes()
