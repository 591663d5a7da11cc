import os

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from advnets import config
from advnets.errors import CheckpointError, UnusableCheckpointError
from advnets.training.checkpoint import (
    Checkpoint,
    load_tensors,
    named_tensors,
    newest_usable_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from advnets.training.optimizers import make_optimizer


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "step-00000001.safetensors"
    write_checkpoint(path, Checkpoint({"a": torch.arange(1000.0)}, {"stage": 0}))
    return path


def test_a_written_checkpoint_is_read_back(file):
    checkpoint = read_checkpoint(file)
    assert checkpoint.metadata == {"stage": 0}
    assert torch.equal(checkpoint.tensors["a"], torch.arange(1000.0))


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_truncated_checkpoint_is_refused_by_name(file, keep):
    content = file.read_bytes()
    file.write_bytes(content[:keep])
    with pytest.raises(UnusableCheckpointError) as caught:
        read_checkpoint(file)
    assert str(caught.value).startswith(f"{file} is truncated or not a checkpoint (")
    assert "remove" not in str(caught.value)


def test_a_checkpoint_of_another_format_version_is_refused(tmp_path):
    path = tmp_path / "old.safetensors"
    save_file({"a": torch.zeros(1)}, path, {"advnets": '{"format": 0}'})
    with pytest.raises(
        CheckpointError, match="has format 0, but this version of advnets reads format 3"
    ):
        read_checkpoint(path)


def test_tensors_of_another_model_are_not_loaded():
    tensors = named_tensors("players/generator", nn.Linear(3, 4))
    with pytest.raises(CheckpointError, match="players/generator of the checkpoint differs"):
        load_tensors("players/generator", nn.Linear(3, 5), tensors)


@pytest.mark.parametrize("spec", [config.SGD(), config.Adam()], ids=["sgd", "adam"])
def test_a_restored_optimizer_continues_exactly(spec):
    """Stored after one update and loaded into another optimizer, the next updates are equal."""
    fine, gradient = torch.tensor(True), torch.randn(2, 5)
    a = torch.randn(5)
    first = make_optimizer(spec, [a])
    first.step([gradient[0]], 0, 0, fine)
    b = a.clone()
    second = make_optimizer(spec, [b])
    load_tensors("o", second.state, named_tensors("o", first.state))
    for either in (first, second):
        either.step([gradient[1]], 1, 0, fine)
    assert torch.equal(a, b)


def test_the_state_of_another_optimizer_is_not_loaded():
    stored = named_tensors("o", make_optimizer(config.SGD(), [torch.ones(3)]).state)
    with pytest.raises(
        CheckpointError, match="o of the checkpoint differs from the model or optimizer"
    ):
        load_tensors("o", make_optimizer(config.Adam(), [torch.ones(3)]).state, stored)
    with pytest.raises(
        CheckpointError, match="o of the checkpoint differs from the model or optimizer"
    ):
        load_tensors("o", make_optimizer(config.SGD(), [torch.ones(4)]).state, stored)


def test_equal_states_give_equal_files(tmp_path):
    files = [tmp_path / f"{name}.safetensors" for name in "ab"]
    for file in files:
        write_checkpoint(file, Checkpoint({"a": torch.ones(3), "b": torch.zeros(2)}, {"stage": 0}))
    assert files[0].read_bytes() == files[1].read_bytes()


def metadata(step: int) -> dict:
    position = {"step": step, "batches_read": step, "updates": {"generator": step}}
    counts = {"step": step, "stage": 0, "attempt": 0, "summed_steps": 0}
    return {**counts, "progress": position, "last_metrics": {"value": float("-inf")}}


def state(step: int, run: str = "ours", weight: float = 1.0) -> Checkpoint:
    tensors = {"players/generator/w": torch.full((40,), weight), "sums/value": torch.zeros(())}
    return Checkpoint(tensors, metadata(step), run)


@pytest.fixture
def files(tmp_path):
    """Write three checkpoints of a run; return their paths, oldest first."""
    paths = [tmp_path / f"step-{step:08d}.safetensors" for step in (10, 20, 30)]
    for step, path in zip((10, 20, 30), paths, strict=True):
        write_checkpoint(path, state(step))
    return paths


def flip(path, position: int, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    path.write_bytes(content)


def test_every_flipped_bit_is_detected(files):
    """In the header and in the tensors; the padding between them has no meaning."""
    path, content = files[-1], files[-1].read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + length]
    padding = range(8 + len(header.rstrip()), 8 + length)
    for position in range(len(content)):
        flip(path, position, position % 8)
        if position in padding:
            continue
        with pytest.raises(CheckpointError):
            read_checkpoint(path, "ours")
        path.write_bytes(content)
    assert read_checkpoint(path, "ours").metadata == metadata(30)


def halve(path) -> None:
    """Convert tensors to half precision, as another tool could, and keep the metadata."""
    with safe_open(path, framework="pt") as file:
        metadata, names = file.metadata(), file.keys()
        tensors = {name: file.get_tensor(name).half() for name in names}
    save_file(tensors, path, metadata)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda path: flip(path, -3, 6), "is damaged: the hash of its content differs"),
        (lambda path: write_checkpoint(path, state(30, "theirs")), "belongs to another run"),
        (lambda path: write_checkpoint(path, state(30, weight=float("nan"))), "non-finite"),
        (lambda path: write_checkpoint(path, state(30, weight=float("-inf"))), "non-finite"),
        (
            lambda path: write_checkpoint(path, state(20)),
            "contains step 20, which differs from its name",
        ),
        (lambda path: path.write_bytes(path.read_bytes()[:-5]), "is truncated or not a checkpoint"),
        (lambda path: save_file({"a": torch.zeros(1)}, path), "is not an advnets checkpoint"),
        (
            lambda path: write_checkpoint(
                path, Checkpoint({}, {**metadata(30), "stage": "0"}, "ours")
            ),
            "has invalid metadata",
        ),
        (
            lambda path: write_checkpoint(path, Checkpoint({}, {"step": 30}, "ours")),
            "has invalid metadata",
        ),
        (lambda path: halve(path), "is damaged"),
    ],
)
def test_the_newest_intact_checkpoint_of_the_run_is_used(files, change, why):
    change(files[-1])
    result = newest_usable_checkpoint(files, "ours")
    assert result.path == files[1]
    assert result.checkpoint.metadata["step"] == 20
    assert why in result.unusable[files[-1]]
    for path in files[:-1]:
        path.write_bytes(b"")
    with pytest.raises(CheckpointError) as caught:
        newest_usable_checkpoint(files, "ours")
    for word in (*map(str, files), why, "truncated", "restore one from a backup"):
        assert word in str(caught.value)
    assert "remove" not in str(caught.value)


def test_an_unreadable_checkpoint_is_not_skipped(files, monkeypatch):
    """It may be intact and the newest: resuming from an older one would lose it."""
    files[-1].unlink()
    files[-1].mkdir()
    with pytest.raises(CheckpointError, match=r"cannot be read .* may be intact") as caught:
        newest_usable_checkpoint(files, "ours")
    assert not isinstance(caught.value, UnusableCheckpointError)
    files[-1].rmdir()
    os.mkfifo(files[-1])
    with pytest.raises(CheckpointError, match=r"cannot be read .a named pipe, not a regular file"):
        newest_usable_checkpoint(files, "ours")


@pytest.mark.parametrize(
    "error",
    [
        OSError(5, "Input/output error"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_a_failure_of_disk_or_memory_does_not_make_a_checkpoint_unusable(files, monkeypatch, error):
    def fail(_):
        raise error

    monkeypatch.setattr(torch.Tensor, "clone", fail)
    with pytest.raises(CheckpointError, match=r"cannot be read .* may be intact") as caught:
        newest_usable_checkpoint(files, "ours")
    assert not isinstance(caught.value, UnusableCheckpointError)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read all")
def test_a_checkpoint_without_read_permission_is_not_skipped(files):
    files[-1].chmod(0)
    with pytest.raises(CheckpointError, match=r"Permission denied.*may be intact"):
        newest_usable_checkpoint(files, "ours")


def test_tensors_of_another_dtype_are_not_loaded():
    tensors = {n: t.half() for n, t in named_tensors("players/g", nn.Linear(3, 4)).items()}
    with pytest.raises(
        CheckpointError, match=r"is torch.float16 \(4, 3\), not torch.float32 \(4, 3\)"
    ):
        load_tensors("players/g", nn.Linear(3, 4), tensors)
    memory = make_optimizer(config.SGD(), [torch.ones(3)]).state
    stored = {name: t.double() for name, t in named_tensors("o", memory).items()}
    with pytest.raises(
        CheckpointError, match="o of the checkpoint differs from the model or optimizer"
    ):
        load_tensors("o", memory, stored)
