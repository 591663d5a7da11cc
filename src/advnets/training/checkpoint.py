"""One-file checkpoints: tensors and JSON in a safetensors file, never pickle."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from advnets.errors import CheckpointError
from advnets.files import write_atomically
from advnets.runs import FORMAT


@dataclass(frozen=True)
class Checkpoint:
    """Named tensors, and small facts as JSON."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically.

    Raises:
        WriteError: the disk is full or the folder cannot be written; an older file stays whole.
    """
    tensors = {name: t.detach().cpu().contiguous() for name, t in checkpoint.tensors.items()}
    # One entry: the library writes several in any order, and equal states are to be equal files.
    record = {"format": FORMAT, "facts": checkpoint.facts}
    metadata = {"advnets": json.dumps(record, sort_keys=True)}

    def write(part: Path) -> None:
        try:
            save_file(tensors, part, metadata)
        except SafetensorError as error:  # how the library reports what the system refused
            raise OSError(str(error)) from error

    write_atomically(path, write)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint whole.

    Raises:
        CheckpointError: it is absent, truncated, or of another version.
    """
    with _opened(path) as (file, facts):
        # Cloned: a memory-mapped tensor is aligned otherwise than one torch allocates.
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    return Checkpoint(tensors, facts)


def read_facts(path: Path) -> dict[str, Any]:
    """Read a checkpoint's facts and leave its tensors where they are.

    Raises:
        CheckpointError: it is absent, truncated, or of another version.
    """
    with _opened(path) as (_, facts):
        return facts


@contextmanager
def _opened(path: Path) -> Generator[tuple[Any, dict[str, Any]]]:
    """A checkpoint file of this version, and its facts."""
    try:
        with safe_open(path, framework="pt") as file:
            record = json.loads((file.metadata() or {}).get("advnets", "{}"))
            if record.get("format") != FORMAT:
                raise CheckpointError(
                    f"{path} has format {record.get('format')!r} and this advnets reads {FORMAT}; "
                    "use the advnets that wrote it"
                )
            yield file, record["facts"]
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is truncated or no checkpoint ({error}); remove it, and --resume goes on "
            "from the one before"
        ) from None


def module_tensors(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers under a prefix."""
    return {f"{prefix}/{name}": tensor for name, tensor in module.state_dict().items()}


def load_module(prefix: str, module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Copy parameters and buffers from under a prefix.

    Raises:
        CheckpointError: names or shapes are those of another net.
    """
    try:
        module.load_state_dict(_under(prefix, tensors))
    except RuntimeError as error:
        raise CheckpointError(
            f"the checkpoint's {prefix} is another net than the config describes "
            f"({str(error).splitlines()[-1].strip()}); restore the run's own config.json"
        ) from None


def memory_tensors(prefix: str, memory: Mapping[str, Sequence[Tensor]]) -> dict[str, Tensor]:
    """What a mover remembers of each parameter, under a prefix."""
    return {
        f"{prefix}/{i}/{name}": tensor
        for name, tensors in memory.items()
        for i, tensor in enumerate(tensors)
    }


def load_memory(
    prefix: str, memory: Mapping[str, Sequence[Tensor]], tensors: dict[str, Tensor]
) -> None:
    """Give a mover back exactly what it remembered.

    Raises:
        CheckpointError: it remembered other things, or of other shapes.
    """
    mine = memory_tensors(prefix, memory)
    stored = {name: t for name, t in tensors.items() if name.startswith(f"{prefix}/")}
    shapes, expected = ({name: t.shape for name, t in some.items()} for some in (stored, mine))
    if shapes != expected:
        raise CheckpointError(
            f"the checkpoint's {prefix} is of another optimizer or net than the config describes; "
            "restore the run's own config.json"
        )
    for name, tensor in mine.items():
        tensor.copy_(stored[name])


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    start = prefix + "/"
    return {name.removeprefix(start): t for name, t in tensors.items() if name.startswith(start)}
