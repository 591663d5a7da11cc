"""The run directory: the only channel between training and everything that looks at it.

config.json      what the run was told, and the facts it found (data, parameters, versions)
events.jsonl     one JSON object a line: start, log, evaluate, rollback, resume, end
samples/         grids of samples, step-00005000.png
checkpoints/     step-00005000.safetensors, the newest few
scores.json      records of the evaluator
curves.png       D(x), D(G(z)), V and scores over the training, written with the page
report.html      all of it on one page
"""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import Timeout

from advnets.errors import CheckpointError, RunBusyError, RunError, RunWarning, WriteError
from advnets.files import created_folder, file_lock, write_atomically, write_json
from advnets.run_records import FORMAT, config_record, event_records, score_records, unreadable

_STEP = re.compile(r"step-(\d{8,18})")


class RunDirectory:
    """The files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_file = path / "config.json"
        self.events_file = path / "events.jsonl"
        self.scores_file = path / "scores.json"
        self.samples = path / "samples"
        self.checkpoints = path / "checkpoints"

    @classmethod
    def existing(cls, path: Path) -> RunDirectory:
        """Open the directory of a run that was begun.

        Raises:
            RunError: there is no such run.
        """
        run = cls(path)
        if not run.exists:
            raise RunError(
                f"{path} holds no run (no config.json); give the directory that "
                "`advnets train --out` wrote"
            )
        return run

    @property
    def exists(self) -> bool:
        """Whether a run was begun here.

        Raises:
            RunError: the directory is not ours to look into.
        """
        try:
            return self.config_file.is_file()
        except PermissionError as error:
            raise unreadable(self.config_file, error) from None
        except (OSError, ValueError):  # no name that a file can have
            return False

    @contextmanager
    def lock(self) -> Generator[None]:
        """Hold the directory against other trainers; the system lets go when the process dies.

        An error before a run has begun in it leaves neither the lock nor a folder made for it.

        Raises:
            RunBusyError: another process holds it.
            RunError: it cannot be made.
        """
        lock = self.path / ".lock"
        with ExitStack() as stack:
            try:
                stack.enter_context(created_folder(self.path))
            except (OSError, ValueError) as error:
                raise RunError(
                    f"{self.path} cannot be made a run directory "
                    f"({getattr(error, 'strerror', error)}); give another --out"
                ) from None
            try:
                locked = stack.enter_context(file_lock(lock, timeout=0.0))
            except Timeout:
                raise RunBusyError(
                    f"{self.path} is in use by another process; wait for it, stop it, or give "
                    "another --out"
                ) from None
            except OSError as error:
                raise RunError(
                    f"{self.path} cannot be held against other trainers ({error.strerror}); make "
                    "it writable, or give another --out"
                ) from None
            if not locked:
                warnings.warn(
                    f"the file system of {self.path} cannot lock files; start no second process "
                    "on this run",
                    RunWarning,
                    stacklevel=4,
                )
            try:
                yield
            except BaseException:
                if not self.exists:
                    with suppress(OSError):  # some systems keep a file that is open
                        lock.unlink()
                raise

    def write_config(self, record: Mapping[str, Any]) -> None:
        """Write config.json."""
        write_json(self.config_file, {"format": FORMAT, **record})

    def read_config(self) -> dict[str, Any]:
        """Read config.json; at its top and a level below the types are as they should be.

        Raises:
            RunError: it is broken, or of another version.
        """
        return config_record(self.config_file)

    def remove_unstarted(self) -> None:
        """Remove what a start that failed before its first step has written."""
        for file in (self.config_file, self.events_file, *self.checkpoint_files()):
            file.unlink(missing_ok=True)
        for folder in (self.checkpoints, self.samples):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()

    def append_event(self, event: Mapping[str, Any]) -> None:
        """Add one line to events.jsonl.

        Raises:
            WriteError: the disk is full or the file cannot be written.
        """
        try:
            with self.events_file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(event) + "\n")
        except OSError as error:
            raise WriteError(self.events_file, error) from None

    def events(self) -> list[dict[str, Any]]:
        """All events of events.jsonl; a line cut by a kill, or odd otherwise, is passed over.

        Raises:
            RunError: the file cannot be read.
        """
        return event_records(self.events_file)

    def truncate_events(self, step: int) -> None:
        """Drop the events of steps that a resumed run is going to play again."""
        kept = [event for event in self.events() if event.get("step", 0) <= step]
        text = "".join(json.dumps(event) + "\n" for event in kept)
        write_atomically(self.events_file, lambda part: part.write_text(text, "utf-8"))

    def add_scores(
        self, records: Sequence[Mapping[str, Any]], identity: Callable[[Mapping[str, Any]], object]
    ) -> None:
        """Add the evaluator's records, in place of older ones of the same thing.

        A lock of their own: a run can be scored while it trains, by several at once.

        Raises:
            RunError: a record holds a value that no score is.
            WriteError: the run directory cannot be written.
        """
        for record in records:
            if wild := [name for name, value in record.items() if _is_wild(value)]:
                raise RunError(
                    f"the metric {record['metric']} found {wild[0]} {record[wild[0]]}, which no "
                    "score is; nothing was kept: score more samples"
                )
        try:
            with file_lock(self.path / ".scores.lock"):
                fresh = {identity(record) for record in records}
                kept = [old for old in self.scores() if identity(old) not in fresh]
                write_json(self.scores_file, [*kept, *records])
        except OSError as error:
            raise WriteError(self.scores_file, error) from None

    def scores(self) -> list[dict[str, Any]]:
        """The evaluator's records, oldest first.

        Raises:
            RunError: the file cannot be read, or does not hold records.
        """
        return score_records(self.scores_file)

    def checkpoint_file(self, step: int) -> Path:
        """Where the checkpoint of a step lies."""
        return self.checkpoints / f"step-{step:08d}.safetensors"

    def sample_file(self, step: int) -> Path:
        """Where the grid of samples of a step lies."""
        return self.samples / f"step-{step:08d}.png"

    def sample_files(self) -> dict[int, Path]:
        """The grids of samples by their steps, in order."""
        return self._by_step(self.samples, ".png")

    def checkpoint_files(self) -> list[Path]:
        """All checkpoints, oldest first."""
        return list(self.checkpoints_by_step().values())

    def checkpoints_by_step(self) -> dict[int, Path]:
        """Return all checkpoints by their steps, oldest first."""
        return self._by_step(self.checkpoints, ".safetensors")

    def _by_step(self, folder: Path, ending: str) -> dict[int, Path]:
        """Files that are named by a step, in the order of steps."""
        try:
            there = [file for file in folder.iterdir() if file.suffix == ending]
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError as error:
            raise unreadable(folder, error) from None
        named = {int(match[1]): f for f in there if (match := _STEP.fullmatch(f.stem))}
        return dict(sorted(named.items()))

    def newest_checkpoint(self) -> Path:
        """The last checkpoint.

        Raises:
            CheckpointError: there is none.
        """
        files = self.checkpoint_files()
        if not files:
            raise CheckpointError(
                f"{self.path} holds no checkpoint yet; train it, with --resume if it was begun"
            )
        return files[-1]

    def quarantine_checkpoint(self, checkpoint: Path) -> Path:
        """Rename a checkpoint that cannot be used, so that it counts as none; return where it is.

        Raises:
            WriteError: the folder cannot be written.
        """
        aside = checkpoint.with_name(f"{checkpoint.name}.unusable")
        try:
            return checkpoint.replace(aside)
        except OSError as error:
            raise WriteError(checkpoint, error) from None

    def prune_checkpoints(self, keep: int, also: Collection[Path] = ()) -> None:
        """Remove all checkpoints but the newest few and `also`, and what a killed save left."""
        old = [file for file in self.checkpoint_files()[:-keep] if file not in also]
        for file in (*old, *self.checkpoints.glob("*.part")):
            file.unlink(missing_ok=True)


def _is_wild(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
