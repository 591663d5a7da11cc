"""Checkpoints: tensors and JSON metadata in one safetensors file, without pickle.

The JSON also holds the identity of the run and a hash of the content. Both are checked when the
file is read, so that damaged files and those of another run are refused.
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
"""Version of the file format; files of another version are refused."""
_WEIGHTS = ("players/", "ema/")
"""Prefixes of the tensors that must be finite."""
WEIGHTS_ONLY = "weights_only"
"""The key of metadata that is true if a checkpoint cannot continue a training."""


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training run: named tensors, and metadata that JSON can hold."""

    tensors: dict[str, Tensor]
    metadata: dict[str, Any]
    identity: str = ""
    """Identity of the run, the same in all its checkpoints."""


@dataclass(frozen=True)
class NewestCheckpoint:
    """The newest usable checkpoint of a run."""

    path: Path
    checkpoint: Checkpoint
    unusable: dict[Path, str] = field(default_factory=dict[Path, str])
    """Newer checkpoints that are not usable, each with the reason."""


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically.

    Raises:
        WriteError: the disk is full or the folder is not writable; an older file stays intact.
    """
    tensors = {name: t.detach().cpu().contiguous() for name, t in checkpoint.tensors.items()}
    # Write one entry: the order of several is not fixed, and equal states must be equal files.
    record = {"format": FORMAT, "metadata": checkpoint.metadata, "identity": checkpoint.identity}
    record["digest"] = _digest(tensors, record)
    header = {"advnets": json.dumps(record, sort_keys=True)}

    def write(part: Path) -> None:
        try:
            save_file(tensors, part, header)
        except SafetensorError as error:  # raised in place of an OSError
            raise OSError(str(error)) from error

    write_atomically(path, write)


def read_checkpoint(path: Path, identity: str | None = None) -> Checkpoint:
    """Read a checkpoint and check its hash and, if one is given, the identity of its run.

    Raises:
        UnusableCheckpointError: it is truncated or damaged, has non-finite weights, or belongs to
            another run.
        CheckpointError: it is missing, cannot be read, or has another format version.
    """
    with _open_checkpoint(path) as file:
        record = _parse_header(path, file.metadata() or {})
        # Clone: memory-mapped tensors have another alignment than those that torch allocates.
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    if record.pop("digest") != _digest(tensors, record):
        raise UnusableCheckpointError(
            f"{path} is damaged: the hash of its content differs from the stored one"
        )
    if identity is not None and record["identity"] != identity:
        raise UnusableCheckpointError(
            f"{path} belongs to another run: its config, seed or data differ from config.json"
        )
    for name, tensor in tensors.items():
        if name.startswith(_WEIGHTS) and not torch.isfinite(tensor).all():
            raise UnusableCheckpointError(f"{path} has non-finite numbers in {name}")
    return Checkpoint(tensors, record["metadata"], record["identity"])


def weights_only(checkpoint: Checkpoint) -> Checkpoint:
    """Return the part of a checkpoint that sampling needs: all weights but the discriminator's."""
    tensors = {
        name: tensor
        for name, tensor in checkpoint.tensors.items()
        if name.startswith(_WEIGHTS) and name.split("/")[1] != "discriminator"
    }
    metadata = {**checkpoint.metadata, WEIGHTS_ONLY: True}
    return Checkpoint(tensors, metadata, checkpoint.identity)


def read_run_checkpoint(path: Path, identity: str) -> Checkpoint:
    """Read a checkpoint of a run, and check its metadata too.

    Raises:
        UnusableCheckpointError: it is damaged or belongs to another run.
        CheckpointError: it is missing, cannot be read, or has another format version.
    """
    checkpoint = read_checkpoint(path, identity)
    _check_metadata(path, checkpoint.metadata)
    return checkpoint


def newest_usable_checkpoint(
    files: Sequence[Path],
    identity: str,
    accepts: Callable[[Mapping[str, Any]], bool] = lambda _: True,
) -> NewestCheckpoint:
    """Read the newest usable checkpoint of files that are ordered from oldest to newest.

    `accepts` returns whether a checkpoint with this metadata may be used.

    Raises:
        CheckpointError: no checkpoint is usable; or a newer one, which may be intact, cannot be
            read or has another format version.
    """
    unusable: dict[Path, str] = {}
    for path in reversed(files):
        try:
            checkpoint = read_run_checkpoint(path, identity)
        except UnusableCheckpointError as error:
            unusable[path] = str(error).removeprefix(f"{path} ")
            continue
        if accepts(checkpoint.metadata):
            return NewestCheckpoint(path, checkpoint, unusable)
        unusable[path] = "belongs to another stage of the training"
    reasons = "; ".join(f"{path} {reason}" for path, reason in unusable.items())
    raise CheckpointError(
        f"the run has no usable checkpoint ({reasons or 'there is none'}); restore one from a "
        "backup, or start a new run"
    )


def _check_metadata(path: Path, metadata: Any) -> None:
    """Reject metadata of another form than the training loop writes.

    Raises:
        UnusableCheckpointError: a field is missing or has another type, or the step is not that of
            the file name.
    """
    try:
        progress = metadata["progress"]
        counts = [metadata[name] for name in ("step", "stage", "attempt", "summed_steps")]
        counts += [progress["step"], progress["batches_read"], *progress["updates"].values()]
        numbers = metadata["last_metrics"].values()
        valid = len(progress) == 3 and all(type(n) is int and 0 <= n < 2**63 for n in counts)
        valid = valid and all(type(n) in (int, float) for n in numbers)
    except (KeyError, TypeError, AttributeError, ValueError):
        valid = False
    if not valid:
        raise UnusableCheckpointError(f"{path} has invalid metadata")
    if path.stem != f"step-{metadata['step']:08d}":
        raise UnusableCheckpointError(
            f"{path} contains step {metadata['step']:,}, which differs from its name"
        )


@contextmanager
def _open_checkpoint(path: Path) -> Generator[Any]:
    """Open a safetensors file.

    Raises:
        UnusableCheckpointError: its content is invalid.
        CheckpointError: it could not be read, though its content may be valid.
    """
    try:
        require_regular_file(path)
        with path.open("rb"):  # errors of safetensors do not state the reason
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
        raise UnusableCheckpointError(
            f"{path} is truncated or not a checkpoint ({error})"
        ) from None


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{path} cannot be read ({getattr(error, 'strerror', None) or error}), but may be intact; "
        "check that it exists and that you have permission to read it"
    )


def _parse_header(path: Path, header: Mapping[str, str]) -> dict[str, Any]:
    """Parse the JSON of a checkpoint, with its digest."""
    try:
        record = parse_json(header["advnets"])
        version = record["format"]
    except (KeyError, TypeError, ValueError) as error:
        raise UnusableCheckpointError(f"{path} is not an advnets checkpoint ({error!r})") from None
    if (type(version), version) != (int, FORMAT):
        raise CheckpointError(
            f"{path} has format {version!r}, but this version of advnets reads format "
            f"{FORMAT}; use the version that wrote it"
        )
    valid = set(record) == {"format", "metadata", "identity", "digest"}
    valid = valid and isinstance(record["metadata"], dict)
    if not valid or not isinstance(record["identity"], str):
        raise UnusableCheckpointError(f"{path} is damaged: fields of its header are missing")
    return record


def _digest(tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> str:
    """Return the XXH3 hash, in hex, of the record and of each tensor's name, type, shape, bytes."""
    digest = xxh3_128(json.dumps(record, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        if tensor.numel():
            digest.update(cast(Any, tensor.reshape(-1).view(torch.uint8).numpy()))
    return digest.hexdigest()


Owner = nn.Module | Mapping[str, Sequence[Tensor]]
"""A module, or the state of an optimizer: by name, one tensor for each parameter."""


def named_tensors(prefix: str, owner: Owner) -> dict[str, Tensor]:
    """Return the parameters and buffers of a module, or the tensors of an optimizer's state.

    Their names are prefix/name and prefix/index/name.
    """
    if isinstance(owner, nn.Module):
        return {f"{prefix}/{name}": tensor for name, tensor in owner.state_dict().items()}
    return {
        f"{prefix}/{i}/{name}": tensor
        for name, tensors in owner.items()
        for i, tensor in enumerate(tensors)
    }


def load_tensors(prefix: str, owner: Owner, tensors: Mapping[str, Tensor]) -> None:
    """Copy the tensors under a prefix into those of a module or an optimizer's state.

    Raises:
        CheckpointError: names, shapes or types are those of another model or optimizer.
    """
    current = named_tensors(prefix, owner)
    stored = {name: tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}/")}
    for name in {**current, **stored}:
        expected, got = (
            f"{named[name].dtype} {tuple(named[name].shape)}" if name in named else "absent"
            for named in (current, stored)
        )
        if expected != got:
            raise CheckpointError(
                f"{prefix} of the checkpoint differs from the model or optimizer in the config "
                f"({name} is {got}, not {expected}); restore the run's own config.json"
            )
    for name, tensor in current.items():
        tensor.copy_(stored[name])
