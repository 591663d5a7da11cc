"""One-file checkpoints: tensors and JSON in a safetensors file, never pickle.

Beside its facts the JSON has the identity of the run and a hash of all content, which are compared
when the file is read: damage and another run's state are refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from xxhash import xxh3_128

from advnets.errors import CheckpointError, UnusableCheckpointError
from advnets.files import require_regular_file, write_atomically
from advnets.run_records import parse_json
from advnets.training.memory import is_out_of_memory

FORMAT = 3
"""Version of checkpoints; another one is refused, not guessed at."""
_LEARNED = ("players/", "average/")
"""What the names of tensors begin with that training has left finite, always."""


@dataclass(frozen=True)
class Checkpoint:
    """Named tensors, and small facts as JSON."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]
    run: str = ""
    """Identity of the run, the same in all its checkpoints."""


@dataclass(frozen=True)
class NewestCheckpoint:
    """The newest checkpoint of a run that can be used."""

    path: Path
    checkpoint: Checkpoint
    unusable: dict[Path, str] = field(default_factory=dict[Path, str])
    """Newer ones that cannot, and why."""


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically.

    Raises:
        WriteError: the disk is full or the folder cannot be written; an older file stays whole.
    """
    tensors = {name: t.detach().cpu().contiguous() for name, t in checkpoint.tensors.items()}
    # One entry: the library writes several in any order, and equal states are to be equal files.
    record = {"format": FORMAT, "facts": checkpoint.facts, "run": checkpoint.run}
    record["digest"] = _digest(tensors, record)
    metadata = {"advnets": json.dumps(record, sort_keys=True)}

    def write(part: Path) -> None:
        try:
            save_file(tensors, part, metadata)
        except SafetensorError as error:  # how the library reports what the system refused
            raise OSError(str(error)) from error

    write_atomically(path, write)


def read_checkpoint(path: Path, run: str | None = None) -> Checkpoint:
    """Read a checkpoint whole and compare its hash, and its identity with that of the run.

    Raises:
        UnusableCheckpointError: it is truncated or damaged, its weights are not finite, or it is
            another run's than `run`, where one is given.
        CheckpointError: it is absent, cannot be read, or is of another version.
    """
    with _opened(path) as file:
        record = _record(path, file.metadata() or {})
        # Cloned: a memory-mapped tensor is aligned otherwise than one torch allocates.
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    if record.pop("digest") != _digest(tensors, record):
        raise UnusableCheckpointError(
            f"{path} is damaged: its content is not what was written (its hash is another)"
        )
    if run is not None and record["run"] != run:
        raise UnusableCheckpointError(
            f"{path} is another run's, which has another config, seed or data than config.json says"
        )
    for name, tensor in tensors.items():
        if name.startswith(_LEARNED) and not torch.isfinite(tensor).all():
            raise UnusableCheckpointError(f"{path} has numbers in {name} that are not finite")
    return Checkpoint(tensors, record["facts"], record["run"])


def newest_usable_checkpoint(
    files: Sequence[Path], run: str, fits: Callable[[Mapping[str, Any]], bool] = lambda _: True
) -> NewestCheckpoint:
    """Read the newest checkpoint that can be used, of files in their order.

    `fits` says of a checkpoint's facts whether it is one that is looked for.

    Raises:
        CheckpointError: there is none; or a newer one cannot be read at all, or is of another
            version, and may be whole.
    """
    unusable: dict[Path, str] = {}
    for path in reversed(files):
        try:
            checkpoint = read_checkpoint(path, run)
            _check_facts(path, checkpoint.facts)
        except UnusableCheckpointError as error:
            unusable[path] = str(error).removeprefix(f"{path} ")
            continue
        if fits(checkpoint.facts):
            return NewestCheckpoint(path, checkpoint, unusable)
        unusable[path] = "belongs to another stage of training"
    reasons = "; ".join(f"{path} {reason}" for path, reason in unusable.items())
    raise CheckpointError(
        f"no checkpoint of the run can be used ({reasons or 'there is none'}); put one back from a "
        "copy, or begin a new run"
    )


def _check_facts(path: Path, facts: Any) -> None:
    """Refuse facts that the training loop does not write.

    Raises:
        UnusableCheckpointError: one is missing or of another type; the file has another's name.
    """
    try:
        position = facts["position"]
        counts = [facts[name] for name in ("step", "stage", "attempt", "summed")]
        counts += [position["step"], position["batches_read"], *position["updates"].values()]
        numbers = facts["last_observed"].values()
        whole = len(position) == 3 and all(type(n) is int and 0 <= n < 2**63 for n in counts)
        whole = whole and all(type(n) in (int, float) for n in numbers)
    except (KeyError, TypeError, AttributeError, ValueError):
        whole = False
    if not whole:
        raise UnusableCheckpointError(f"{path} has facts that no training writes")
    if path.stem != f"step-{facts['step']:08d}":
        raise UnusableCheckpointError(f"{path} holds step {facts['step']:,}, unlike its name")


@contextmanager
def _opened(path: Path) -> Generator[Any]:
    """Open a safetensors file; errors in its content become UnusableCheckpointError.

    A disk or memory that fails says nothing of the content: the file may be whole.
    """
    try:
        require_regular_file(path)
        with path.open("rb"):  # the library's errors do not tell why
            pass
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except OSError as error:
        raise _unreadable(path, error) from None
    except (SafetensorError, ValueError, TypeError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise _unreadable(path, error) from None
        raise UnusableCheckpointError(f"{path} is truncated or no checkpoint ({error})") from None


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{path} cannot be read ({getattr(error, 'strerror', None) or error}); it may be "
        "whole: see that it is there and yours to read"
    )


def _record(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """The JSON of a checkpoint, its digest in it."""
    try:
        record = parse_json(metadata["advnets"])
        version = record["format"]
    except (KeyError, TypeError, ValueError) as error:
        raise UnusableCheckpointError(f"{path} is no checkpoint of advnets ({error!r})") from None
    if (type(version), version) != (int, FORMAT):
        raise CheckpointError(
            f"{path} has format {version!r} and this advnets reads {FORMAT}; "
            "use the advnets that wrote it"
        )
    whole = set(record) == {"format", "facts", "run", "digest"}
    if not whole or not isinstance(record["facts"], dict) or not isinstance(record["run"], str):
        raise UnusableCheckpointError(f"{path} is damaged: its header has not what was written")
    return record


def _digest(tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> str:
    """Return the XXH3 hash, in hex, of all names, types, shapes and bytes, and of the record."""
    found = xxh3_128(json.dumps(record, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        if tensor.numel():
            found.update(cast(Any, tensor.reshape(-1).view(torch.uint8).numpy()))
    return found.hexdigest()


def module_tensors(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers under a prefix."""
    return {f"{prefix}/{name}": tensor for name, tensor in module.state_dict().items()}


def load_module(prefix: str, module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Copy parameters and buffers from under a prefix.

    Raises:
        CheckpointError: names, shapes or types are those of another net.
    """
    stored = _under(prefix, tensors)
    mine = module.state_dict()
    odd = [name for name in stored if name in mine and stored[name].dtype != mine[name].dtype]
    why = f"{odd[0]} is {stored[odd[0]].dtype}, not {mine[odd[0]].dtype}" if odd else ""
    if not odd:
        try:
            module.load_state_dict(stored)
        except RuntimeError as error:
            why = str(error).splitlines()[-1].strip()
    if why:
        raise CheckpointError(
            f"the checkpoint's {prefix} is another net than the config describes "
            f"({why}); restore the run's own config.json"
        )


def state_tensors(prefix: str, state: Mapping[str, Sequence[Tensor]]) -> dict[str, Tensor]:
    """What a mover remembers of each parameter, under a prefix."""
    return {
        f"{prefix}/{i}/{name}": tensor
        for name, tensors in state.items()
        for i, tensor in enumerate(tensors)
    }


def load_state(
    prefix: str, state: Mapping[str, Sequence[Tensor]], tensors: dict[str, Tensor]
) -> None:
    """Give a mover back exactly what it remembered.

    Raises:
        CheckpointError: it remembered other things, or of other shapes or types.
    """
    mine = state_tensors(prefix, state)
    stored = {name: t for name, t in tensors.items() if name.startswith(f"{prefix}/")}
    kinds, expected = (
        {name: (t.shape, t.dtype) for name, t in some.items()} for some in (stored, mine)
    )
    if kinds != expected:
        raise CheckpointError(
            f"the checkpoint's {prefix} is of another optimizer or net than the config describes; "
            "restore the run's own config.json"
        )
    for name, tensor in mine.items():
        tensor.copy_(stored[name])


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    start = prefix + "/"
    return {name.removeprefix(start): t for name, t in tensors.items() if name.startswith(start)}
