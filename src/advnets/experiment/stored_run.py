"""Stored runs: config, dataset, identity and checkpoints, read from a run directory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeGuard

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from advnets._version import __version__
from advnets.config import Config, CustomGame, CustomModel
from advnets.config.serialize import from_json, to_json, without_defaults
from advnets.data.normalization import Normalizer
from advnets.data.prepared import DatasetInfo, run_normalizer
from advnets.errors import OutOfMemoryError, RunError, UsageError, warn_user
from advnets.experiment.players import build_players
from advnets.run_directory import RunDirectory
from advnets.run_records import versions
from advnets.training.checkpoint import (
    NewestCheckpoint,
    newest_usable_checkpoint,
    read_run_checkpoint,
)
from advnets.training.memory import available_bytes, explain_errors, format_bytes, is_out_of_memory
from advnets.training.selection import best_step

# Errors that building a network with invalid sizes may raise.
_BUILD_ERRORS = (ValueError, TypeError, ArithmeticError, LookupError, RuntimeError, MemoryError)

FLOAT_BYTES = 4
"""The size of a float32 number, in bytes."""


def players_of_run(run: Config, stage: int, info: DatasetInfo) -> dict[str, nn.Module]:
    """Build the players of a stage without the data; the mean image in G's output bias is zero."""
    mean_image = torch.zeros(info.shape, device="cpu")
    return build_players(run, stage, info.shape, mean_image, len(info.classes))


def meta_players(run: Config, stage: int, info: DatasetInfo) -> dict[str, nn.Module]:
    """Build the players of a stage on torch's device "meta", which allocates no memory.

    Raises:
        OutOfMemoryError: a tensor would have more elements than torch can count.
    """
    with explain_errors("make the networks smaller"), torch.device("meta"), _SkipInit():
        return players_of_run(run, stage, info)


class _SkipInit(TorchFunctionMode):
    """A mode without the initialization of weights with normal numbers, for the device "meta".

    That device has no values, and torch imports its compiler there to draw such numbers, and for
    operations that are not in place: a second of each start.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> object:
        """Call a function of torch, or return a tensor of the shape that it would return."""
        kwargs = kwargs or {}
        if func in (Tensor.normal_, nn.init.normal_, nn.functional.normalize):
            return args[0] if args else kwargs["tensor"]
        return (torch.empty_like if func is torch.randn_like else func)(*args, **kwargs)


def parameter_count(net: nn.Module) -> int:
    """Return the number of parameters of a network."""
    return sum(parameter.numel() for parameter in net.parameters())


def check_weights(run: Config, stage: int, info: DatasetInfo) -> None:
    """Check that the weights of a stage's players fit into free memory.

    Raises:
        OutOfMemoryError: the weights need more memory than is free.
    """
    needed = sum(map(parameter_count, meta_players(run, stage, info).values())) * FLOAT_BYTES
    available = available_bytes(torch.device("cpu"))
    if available is not None and needed > available:
        raise OutOfMemoryError(
            f"the networks need {format_bytes(needed)} of memory, and {format_bytes(available)} "
            "are free; use a machine with more memory, or networks of fewer units or channels"
        )


@dataclass(frozen=True)
class StoredRun:
    """The content of a run's config.json, parsed and checked."""

    directory: RunDirectory
    record: Mapping[str, Any]
    config: Config
    info: DatasetInfo

    @classmethod
    def read(cls, path: Path) -> StoredRun:
        """Read a run's config.json.

        Raises:
            RunError: there is no run, or its config.json is damaged or of another version.
        """
        directory = RunDirectory.existing(path)
        record, file = directory.read_config(), str(directory.config_file)
        config = from_json(record.get("config"), Config, file)
        info = from_json(record.get("data"), DatasetInfo, file)
        counts = info.class_counts
        counted = not counts or (
            len(counts) == len(info.classes) and min(counts) >= 0 < max(counts)
        )
        if min(info.shape) < 1 or not info.name or not counted:
            raise RunError(
                f"{file} does not fit this version of advnets (data of shape {info.shape}); "
                "restore the file or use the version that wrote it"
            )
        return cls(directory, record, config, info)

    @cached_property
    def identity(self) -> str:
        """The identity that is stored in the run's checkpoints."""
        return identity(self.config, self.info)

    @property
    def other_versions(self) -> dict[str, str]:
        """The versions in config.json, by library, that differ from the installed ones."""
        now = {"advnets": __version__, **versions()}
        then = {"advnets": self.record.get("advnets", ""), **self.record.get("versions", {})}
        return {name: then[name] for name in now if then.get(name) and then[name] != now[name]}

    def players(self, stage: int) -> dict[str, nn.Module]:
        """Build the players of a stage with their initial weights.

        Raises:
            OutOfMemoryError: they need more memory than is free.
            RunError: they cannot be built from config.json.
        """
        with self._building("networks"):
            check_weights(self.config, stage, self.info)
            return players_of_run(self.config, stage, self.info)

    def normalizer(self) -> Normalizer:
        """Build the normalizer of the data.

        Raises:
            RunError: it cannot be built from config.json.
        """
        with self._building("a normalization"):
            return run_normalizer(self.config.data, self.info)

    @contextmanager
    def _building(self, what: str) -> Generator[None]:
        try:
            yield
        except (UsageError, *_BUILD_ERRORS) as error:
            if is_out_of_memory(error):
                raise  # the file may be intact
            raise RunError(
                f"{self.directory.config_file} describes {what} that cannot be built "
                f"({str(error)[:200]}); restore the file"
            ) from None

    def newest_checkpoint(self) -> NewestCheckpoint:
        """Read the newest checkpoint that can be used; warn of newer ones that cannot.

        Raises:
            CheckpointError: there is none, or a newer one cannot be read but may be intact.
        """
        run, stages = self.directory, len(self.config.stages)
        run.newest_checkpoint()  # has a message of its own for a run without checkpoints
        newest = newest_usable_checkpoint(
            run.checkpoint_files(), self.identity, lambda metadata: metadata["stage"] < stages
        )
        for path, reason in newest.unusable.items():
            warn_user(f"{path} {reason}; using {newest.path.name}, the newest usable one")
        if others := self.other_versions:
            now = {"advnets": __version__, **versions()}
            differing = ", ".join(f"{n} {then}, now {now[n]}" for n, then in others.items())
            warn_user(
                f"{run.config_file} was written with other versions ({differing}); results may "
                "differ"
            )
        return newest

    def checkpoint_of(self, step: int | Literal["best"] | None = None) -> NewestCheckpoint:
        """Read the checkpoint of a step, of the best step, or the newest one that can be used.

        Raises:
            UsageError: the run keeps no checkpoint of that step, or none as the best.
            CheckpointError: the checkpoint cannot be used or read.
        """
        if step is None:
            return self.newest_checkpoint()
        saved = self.directory.checkpoints_by_step()
        found = best_step(self.directory.events(), saved) if step == "best" else step
        if found not in saved:
            self.directory.newest_checkpoint()  # has a message of its own for a run without any
            missing = (
                "none was kept as the best (keep_best)"
                if step == "best"
                else f"{self.directory.path} has no checkpoint of it"
            )
            raise UsageError(
                f"step is {step}, but {missing}; give one of the kept steps, "
                f"{', '.join(map(str, saved))}"
            )
        return NewestCheckpoint(saved[found], read_run_checkpoint(saved[found], self.identity))


def run_and_step(checkpoint: Path) -> tuple[Path, int]:
    """Return the run directory and the step of a checkpoint file.

    Raises:
        RunError: the file is not a checkpoint in a run directory.
    """
    run = RunDirectory(checkpoint.absolute().parent.parent)
    steps = {file: step for step, file in run.checkpoints_by_step().items()}
    if not run.exists or checkpoint.absolute() not in steps:
        raise RunError(
            f"{checkpoint} is not a checkpoint in the folder checkpoints/ of a run; give a file "
            "there, or the run directory"
        )
    return checkpoint.parent.parent, steps[checkpoint.absolute()]


SCHEDULED_FIELDS = ("lr_final", "beta2_final", "r1_final", "r2_final", "augment_prob")
"""The config fields that are the final values of schedules."""


def identity(config: Config, info: DatasetInfo) -> str:
    """Return the identity of a run: a hexadecimal digest of its config, seed and data.

    It leaves out what may change when a run is resumed: length, intervals, runtime, and the
    locations of data, code files and other runs. It also leaves out fields that have their default
    value, so that options added in later versions do not change it.
    """
    # Convert to JSON and back, so that 1 and 1.0 are the same.
    record = without_defaults(from_json(to_json(config), Config, "the config"))
    for name in ("preset", "intervals", "runtime"):
        record.pop(name, None)
    for name in ("run", "differences"):
        record.get("branched_from", {}).pop(name, None)
    for name in ("source", "directory"):
        record["data"].pop(name, None)
    *_, last = record["stages"]
    for name in ("steps", "epochs"):
        last.pop(name, None)
    if not _has_schedules(last):
        last.pop("schedule_steps", None)
    for stage, written in zip(config.stages, record["stages"], strict=True):
        if isinstance(stage.game, CustomGame):
            written["game"].pop("source", None)
        written.pop("init_from", None)
        for role in ("generator", "discriminator"):
            if isinstance(getattr(stage, role), CustomModel):
                written[role].pop("source", None)
    text = json.dumps([record, info.digest], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _has_schedules(stage: Mapping[str, Any]) -> bool:
    """Return whether a field of a stage changes over the training by a schedule."""
    return any(
        key in SCHEDULED_FIELDS or (_is_section(value) and _has_schedules(value))
        for key, value in stage.items()
    )


def _is_section(value: object) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping)
