"""A run as its directory has it: config, facts of the data, identity, newest usable checkpoint."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import nn

from advnets._version import __version__
from advnets.config import Config, CustomGame
from advnets.config.serialize import from_json, to_json, without_defaults
from advnets.data.normalization import Normalizer
from advnets.data.prepared import DatasetInfo, run_normalizer
from advnets.errors import OutOfMemoryError, RunError, RunWarning, UsageError
from advnets.experiment.players import build_players
from advnets.run_directory import RunDirectory
from advnets.run_records import versions
from advnets.training.checkpoint import NewestCheckpoint, newest_usable_checkpoint
from advnets.training.memory import available_bytes, explained, gibibytes, is_out_of_memory

# What building a net raises on sizes that no preset has.
_FAULTS = (ValueError, TypeError, ArithmeticError, LookupError, RuntimeError, MemoryError)


FLOAT_BYTES = 4
"""The size of a float32 number, in bytes."""


def players_of_run(run: Config, stage: int, info: DatasetInfo) -> dict[str, nn.Module]:
    """Build the players of a stage without the data; the mean image in G's output bias is zero."""
    return build_players(run, stage, info.shape, torch.zeros(info.shape), len(info.classes))


def meta_players(run: Config, stage: int, info: DatasetInfo) -> dict[str, nn.Module]:
    """Build the players of a stage on torch's device "meta", which allocates no memory.

    Raises:
        OutOfMemoryError: a tensor would have more elements than torch can count.
    """
    with explained("make the networks smaller"), torch.device("meta"):
        return players_of_run(run, stage, info)


def parameter_count(net: nn.Module) -> int:
    """Return the number of parameters of a network."""
    return sum(parameter.numel() for parameter in net.parameters())


def check_weights(run: Config, stage: int, info: DatasetInfo) -> None:
    """Check that the weights of a stage's players fit into free memory.

    Raises:
        OutOfMemoryError: they do not.
    """
    needed = sum(map(parameter_count, meta_players(run, stage, info).values())) * FLOAT_BYTES
    available = available_bytes(torch.device("cpu"))
    if available is not None and needed > available:
        raise OutOfMemoryError(
            f"the networks need {gibibytes(needed)} of memory, and {gibibytes(available)} are "
            "free; use a machine with more memory, or networks of fewer units or channels"
        )


@dataclass(frozen=True)
class StoredRun:
    """What config.json of a run says, parsed and checked."""

    directory: RunDirectory
    record: Mapping[str, Any]
    config: Config
    info: DatasetInfo

    @classmethod
    def read(cls, path: Path) -> StoredRun:
        """Read a run's config.json.

        Raises:
            RunError: there is no run, or its config.json is broken or of another version.
        """
        directory = RunDirectory.existing(path)
        record, file = directory.read_config(), str(directory.config_file)
        config = from_json(record.get("config"), Config, file)
        facts = from_json(record.get("data"), DatasetInfo, file)
        counts = facts.class_counts
        counted = not counts or (
            len(counts) == len(facts.classes) and min(counts) >= 0 < max(counts)
        )
        if min(facts.shape) < 1 or not facts.name or not counted:
            raise RunError(
                f"{file} does not fit this advnets (data of shape {facts.shape}); restore the file "
                "or use the advnets that wrote it"
            )
        return cls(directory, record, config, facts)

    @cached_property
    def identity(self) -> str:
        """The identity that the run's checkpoints carry."""
        return identity(self.config, self.info)

    @property
    def other_versions(self) -> dict[str, str]:
        """Versions that config.json names and that are not those of today, by library."""
        now = {"advnets": __version__, **versions()}
        then = {"advnets": self.record.get("advnets", ""), **self.record.get("versions", {})}
        return {name: then[name] for name in now if then.get(name) and then[name] != now[name]}

    def players(self, stage: int) -> dict[str, nn.Module]:
        """Build the nets of a stage, untrained.

        Raises:
            OutOfMemoryError: they need more memory than is free.
            RunError: config.json describes none that can be built.
        """
        with self._building("nets"):
            check_weights(self.config, stage, self.info)
            return players_of_run(self.config, stage, self.info)

    def normalizer(self) -> Normalizer:
        """Build the way into the nets' range and back.

        Raises:
            RunError: config.json describes none.
        """
        with self._building("a scaling"):
            return run_normalizer(self.config.data, self.info)

    @contextmanager
    def _building(self, what: str) -> Generator[None]:
        try:
            yield
        except (UsageError, *_FAULTS) as error:
            if is_out_of_memory(error):
                raise  # the file may be whole
            raise RunError(
                f"{self.directory.config_file} describes {what} that cannot be built "
                f"({str(error)[:200]}); restore the file"
            ) from None

    def newest_checkpoint(self) -> NewestCheckpoint:
        """Read the newest checkpoint that can be used; warn of newer ones that cannot.

        Raises:
            CheckpointError: there is none, or a newer one cannot be read and may be whole.
        """
        run, stages = self.directory, len(self.config.stages)
        run.newest_checkpoint()  # where there is none, what to do is another thing
        found = newest_usable_checkpoint(
            run.checkpoint_files(), self.identity, lambda metadata: metadata["stage"] < stages
        )
        for path, reason in found.unusable.items():
            self.warn(f"{path} {reason}; {found.path.name} is used, the newest that can be")
        if others := self.other_versions:
            now = {"advnets": __version__, **versions()}
            said = ", ".join(f"{name} {then}, not {now[name]}" for name, then in others.items())
            self.warn(
                f"{run.config_file} names other versions than these ({said}): results may differ"
            )
        return found

    def warn(self, words: str) -> None:
        """Warn of something about the run."""
        warnings.warn(words, RunWarning, stacklevel=3)


SCHEDULED_FIELDS = ("lr_final", "beta2_final", "r1_final", "r2_final", "augment_prob")
"""Config fields whose values are reached gradually over a stage's schedule."""


def identity(config: Config, facts: DatasetInfo) -> str:
    """Return what tells a run from others, in hex: a digest of config, seed and data.

    What may change as a run goes on is left out: its length, its ticks, what it is computed on, and
    where its data and its game's file lie. So is what is as its class has it by default, so that
    options of later versions change nothing.
    """
    # As it is read back: what was 1 in Python and 1.0 in the file is the same.
    record = without_defaults(from_json(to_json(config), Config, "the config"))
    for name in ("preset", "intervals", "runtime"):
        record.pop(name, None)
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
    text = json.dumps([record, facts.digest], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _has_schedules(stage: Mapping[str, Any]) -> bool:
    """Whether anything in a stage changes over its length."""
    return any(
        key in SCHEDULED_FIELDS or (_is_section(value) and _has_schedules(value))
        for key, value in stage.items()
    )


def _is_section(value: object) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping)
